"""What the page, the extra and the constraints say is what the rows are; needs no package."""

from __future__ import annotations

import tomllib

from .page import PAGE, ROOT, TABLE, distribution, pinned, table
from .rows import ROWS


def test_the_page_lists_exactly_the_rows() -> None:
    found = TABLE.search(PAGE.read_text())
    assert found is not None
    assert found[0] == table(), "docs/third_party.md is stale: python -m tests.third_party.page"


def test_the_extra_is_exactly_the_packages_of_the_rows_and_they_are_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    packages = {distribution(row.package) for row in ROWS}
    assert set(project["optional-dependencies"]["third-party"]) == packages
    assert packages <= pinned().keys()


def test_no_model_is_listed_twice() -> None:
    names = [(row.package, row.model) for row in ROWS]
    assert len(names) == len(set(names))
