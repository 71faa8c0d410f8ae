"""No entry of torch's operator database gets a worse verdict than it had."""

from __future__ import annotations

import pytest
import torch

from tests.op_db import ENTRIES, VERDICTS, verdict

EXPECTED = dict(line.split() for line in VERDICTS.read_text().splitlines())
TESTED = torch.__version__.startswith("2.13.")


def test_nothing_in_the_list_is_wrong_or_crashes() -> None:
    bad = {name for name, was in EXPECTED.items() if was in ("wrong", "crashed", "plain")}
    assert not bad


@pytest.mark.skipif(not TESTED, reason="the database is internal to torch")
@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_operator_database(name: str) -> None:
    assert verdict(name) == EXPECTED[name]
