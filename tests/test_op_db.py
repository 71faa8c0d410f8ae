"""Every entry of torch's operator database gets the verdicts that op_db.txt gives it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import taylortorch as tt
from taylortorch.engine.registry import RULES
from tests.op_db import ENTRIES, recorded, verdicts
from tests.oracle import differences

EXPECTED = recorded()
TESTED = torch.__version__.startswith("2.13.")
internal = pytest.mark.skipif(not TESTED, reason="the database is internal to torch")


def test_nothing_in_the_list_is_wrong_or_crashes() -> None:
    bad = {"wrong", "crashed", "plain"}
    assert not {name for name, forms in EXPECTED.items() if bad & set(forms.split())}


@internal
def test_the_list_is_complete() -> None:
    assert set(EXPECTED) == set(ENTRIES)


@internal
@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_operator_database(name: str) -> None:
    assert verdicts(name) == EXPECTED[name]


# --- the walk itself ------------------------------------------------------------------------------


def _without_last(result: Any, args: Any) -> Any:
    return tt.TaylorTensor.from_coeffs([*result.coeffs[:-1], 2 * result.coeffs[-1]])


def _plain(result: Any, args: Any) -> Any:
    return result.value


def _shaped(result: Any, args: Any) -> Any:
    return result.unsqueeze(0)


def _written(result: Any, args: Any) -> Any:
    args[0].value.add_(0)
    return result


@internal
@pytest.mark.parametrize(
    ("spoil", "verdict"),
    [(_without_last, "wrong"), (_plain, "plain"), (_shaped, "wrong"), (_written, "wrong")],
)
def test_a_spoilt_rule_is_seen(spoil: Callable, verdict: str) -> None:
    for n, function in enumerate((torch.sinh, torch.Tensor.sinh)):
        rule = RULES[function]
        RULES[function] = lambda func, args, kwargs, rule=rule: spoil(
            rule(func, args, kwargs), args
        )
        assert verdicts("sinh").split()[n] == verdict
        RULES[function] = rule


@internal
def test_an_in_place_form_that_leaves_its_argument_is_seen() -> None:
    assert verdicts("sinh").split()[2] == "right"
    RULES[torch.Tensor.sinh_] = RULES[torch.sinh]
    assert verdicts("sinh").split()[2] == "crashed"


def test_differences_are_derivatives() -> None:
    x = torch.tensor([0.3, 1.1], dtype=torch.float64)
    found, error = differences(lambda xs: torch.sin(xs[0]), [[x, torch.ones_like(x)]], 3)
    exact = torch.stack([torch.sin(x), torch.cos(x), -torch.sin(x), -torch.cos(x)])
    torch.testing.assert_close(found, exact, rtol=1e-7, atol=1e-7)
    assert (error < 1e-5).all()


@pytest.mark.parametrize(
    "function",
    [
        torch.abs,
        torch.relu,
        torch.sign,
        lambda x: torch.relu(x) ** 2,
        lambda x: torch.relu(x) ** 3 / 3,
        lambda x: torch.where(x == 0, x + 1, x),
        torch.sqrt,
    ],
)
def test_differences_do_not_take_a_kink_for_smooth(function: Callable) -> None:
    x = torch.zeros(1, dtype=torch.float64)
    _, error = differences(lambda xs: function(xs[0]), [[x, torch.ones_like(x)]], 3)
    assert (error > 1e-4).any()
