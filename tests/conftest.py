"""A rule that a test registers is gone after it; and no verdict hangs on the clock or on chance."""

from __future__ import annotations

from collections.abc import Iterator

import hypothesis
import pytest

from taylortorch.engine import registry

# the same examples everywhere, however long they take; another hundred of them with
# pytest --hypothesis-profile=explore
hypothesis.settings.register_profile(
    "suite",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile(
    "explore", hypothesis.settings.get_profile("suite"), derandomize=False
)
hypothesis.settings.load_profile("suite")


@pytest.fixture(autouse=True)
def restored_registry() -> Iterator[None]:
    tables = (
        registry.RULES,
        registry.TRACED,
        registry.OPERATORS,
        registry.REFUSED,
        registry.NAMES,
    )
    before = [dict(table) for table in tables]
    rows = list(registry.ROWS)
    yield
    registry.ROWS[:] = rows
    for table, kept in zip(tables, before, strict=True):
        if table != kept:
            table.clear()
            table.update(kept)
