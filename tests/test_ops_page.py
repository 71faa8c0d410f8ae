"""docs/ops.md is what the rules and the verdicts of the operator database say."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch

from taylortorch.engine.registry import REFUSED, ROWS, name_of

DOCS = Path(__file__).parent.parent / "docs"
TESTED = torch.__version__.startswith("2.13.")


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    # not above: the operator database is internal to torch, and takes seconds to import
    import make_ops

    return make_ops


@pytest.mark.skipif(not TESTED, reason="the operator database is internal to torch")
def test_the_table_of_functions_is_up_to_date(maker: ModuleType) -> None:
    assert (DOCS / "ops.md").read_text() == maker.page(), "docs/ops.md is stale: run make ops"


def test_every_rule_and_every_refusal_is_on_the_page() -> None:
    page = (DOCS / "ops.md").read_text()
    functions = {f for rule in ROWS for f in rule.functions} | set(REFUSED)
    for name in map(name_of, functions):
        short = name.replace("torch._C._VariableFunctions.", "torch.").replace("_VF.", "")
        assert f"`{short.replace('torch.Tensor.', 'Tensor.')}`" in page, name


def test_an_entry_counts_for_the_forms_that_a_row_serves(maker: ModuleType) -> None:
    verdicts = {"abs": ["right", "right", "refused"], "abs_other": ["right", "-", "-"]}
    of_database = maker.of_database
    assert of_database([("abs", 0), ("abs", 1), ("abs_other", 0)], verdicts) == "right"
    assert of_database([("abs", 0), ("abs", 2)], verdicts) == "right; refused: abs in place"
    assert of_database([("abs_other", 1)], verdicts) == "-"


def test_a_row_finds_its_entries(maker: ModuleType) -> None:
    found = maker.entries_by_function(maker.recorded())
    assert ("abs", 0) in found[torch.abs]
    assert ("abs", 0) in found[torch.absolute]
    assert ("abs", 1) in found[torch.Tensor.abs]
    assert ("abs", 2) in found[torch.Tensor.abs_]
    assert ("nn_functional_softplus", 0) in found[torch.nn.functional.softplus]
    assert ("linalg_inv", 0) in found[torch.linalg.inv]
    assert ("sum_to_size", 1) in found[torch.Tensor.sum_to_size]
    assert all(entry != "sum_to_size" for entry, _ in found[torch.sum])
