"""docs/ops.md is what the rules say."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def test_the_table_of_functions_is_up_to_date() -> None:
    table = runpy.run_path(str(DOCS / "make_ops.py"))["table"]()
    assert (DOCS / "ops.md").read_text() == table, "docs/ops.md is stale: run make ops"
