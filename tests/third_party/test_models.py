"""Models of packages from PyPI, unmodified, against reverse mode over reverse mode.

Run by ``make third-party``: the packages are the extra ``third-party``; a missing one is a failure.
"""

from __future__ import annotations

import pytest

from .harness import Row, check_coefficients, check_directions
from .rows import ROWS

pytestmark = pytest.mark.third_party


def named(rows: list[Row]) -> list:
    return [pytest.param(row, id=f"{row.package}: {row.model}") for row in rows]


@pytest.mark.parametrize("row", named(ROWS))
def test_coefficients_and_gradients(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    if row.rules is not None:
        row.rules(monkeypatch)
    for mode in row.modes():
        check_coefficients(row, mode)


@pytest.mark.parametrize("row", named(ROWS))
def test_two_directions_are_two_lines(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    if row.rules is not None:
        row.rules(monkeypatch)
    check_directions(row)
