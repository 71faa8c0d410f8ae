"""A rule that a test registers is gone after it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from taylortorch.engine import registry


@pytest.fixture(autouse=True)
def restored_registry() -> Iterator[None]:
    tables = (registry.RULES, registry.TRACED, registry.REFUSED, registry.NAMES)
    before = [dict(table) for table in tables]
    rows = list(registry.ROWS)
    yield
    registry.ROWS[:] = rows
    for table, kept in zip(tables, before, strict=True):
        if table != kept:
            table.clear()
            table.update(kept)
