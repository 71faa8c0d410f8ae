"""Every function torch lets a tensor subclass override is accounted for, in exactly one way."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.overrides import get_overridable_functions, resolve_name

import taylortorch  # noqa: F401
from taylortorch.engine.registry import REFUSED, ROWS, RULES

NOT_YET = Path(__file__).parent / "not_yet.txt"


def overridable() -> dict[str, object]:
    """The functions torch declares overridable, by name."""
    found = {}
    for functions in get_overridable_functions().values():
        for function in functions:
            found[str(resolve_name(function))] = function
    return found


def test_every_overridable_function_is_in_exactly_one_set() -> None:
    functions = overridable()
    registered = {name for name, f in functions.items() if f in RULES}
    refused = {name for name, f in functions.items() if f in REFUSED}
    not_yet = set(NOT_YET.read_text().split())
    assert not registered & refused, "has a rule and is refused"
    assert not (registered | refused) & not_yet, "remove these from tests/not_yet.txt"
    assert registered | refused | not_yet == set(functions), (
        "torch declares functions that are in none of: rules, rules/refused.py, tests/not_yet.txt"
    )


def test_every_refusal_gives_a_reason() -> None:
    assert REFUSED
    assert all(len(reason.split()) > 3 for reason in REFUSED.values())


def test_every_row_with_derivatives_has_a_sample() -> None:
    # assignments and casts are tested in test_tensor; the others need inputs that a float64 sample
    # cannot give (complex, random, several modules)
    without = {
        rule.name for rule in ROWS if rule.kind not in ("value", "constant") and not rule.samples
    }
    assert without <= {
        "__setitem__",
        "functional.svd_lowrank",
        "functional.pca_lowrank",
        "lobpcg",
        "istft",
        "Tensor.fill_diagonal_",
        "Tensor.copy_",
        "foreach.copy_",
        "foreach.zero_",
        "_fft_c2c",
        "_fft_c2r",
        "view_as_complex_copy",
        "view_as_real_copy",
        "zero_",
        ".real",
        ".imag",
        "imag",
        "view_as_real",
        "float",
        "cpu",
        "type",
        "type_as",
        "_autocast_to_full_precision",
        "_autocast_to_reduced_precision",
        "nn.functional.gumbel_softmax",
        "nn.functional.dropout2d",
        "nn.functional.dropout3d",
        "nn.functional.multi_head_attention_forward",
        "nn.functional.triplet_margin_with_distance_loss",
    }


def test_rules_are_found_by_the_objects_torch_dispatches() -> None:
    assert torch.Tensor.shape.__get__ in RULES
    assert torch.nn.functional.linear in RULES
    assert torch.Tensor.__rsub__ in RULES
