"""The switchboard itself: names, claims, refusals. What the rules say is tested elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

import taylortorch as tt
from taylortorch.engine.registry import (
    NAMES,
    OPERATORS,
    REFUSED,
    ROWS,
    RULES,
    UnsupportedFunction,
    add_rule,
    claim,
    name_of,
    refusal,
    refuse,
    resolve,
    rule_for,
    supported,
)
from taylortorch.engine.samples import call, t


def evaluate(func: Any, args: tuple, kwargs: dict) -> Any:
    return func


# --- names ----------------------------------------------------------------------------------------


def test_a_bare_name_is_every_built_in_of_that_name() -> None:
    found = resolve("sin")
    assert torch.sin in found
    assert torch.Tensor.sin in found
    assert len({id(f) for f in found}) == len(found)
    assert {f.__name__ for f in found} == {"sin"}


def test_python_functions_of_torch_nn_functional_go_by_their_path() -> None:
    # torch.softmax and Tensor.softmax take other arguments than F.softmax
    assert F.softmax not in resolve("softmax")
    assert resolve("nn.functional.softmax") == [F.softmax]


def test_a_dunder_is_a_method_only() -> None:
    assert resolve("__add__") == [torch.Tensor.__add__]


@pytest.mark.parametrize("name", ["linalg.inv", "torch.linalg.inv"])
def test_a_path_is_one_function(name: str) -> None:
    assert resolve(name) == [torch.linalg.inv]


def test_a_path_finds_no_method() -> None:
    assert resolve("torch.where") == [torch.where]


def test_a_leading_dot_is_a_property() -> None:
    (getter,) = resolve(".real")
    assert getter(torch.tensor(1 + 2j)) == 1
    assert name_of(getter) == "torch.Tensor.real"


@pytest.mark.parametrize("name", ["no_such_function", "linalg.no_such_function", "no.such.path"])
def test_what_torch_does_not_have(name: str) -> None:
    with pytest.raises(
        LookupError, match=rf"torch {torch.__version__}.*'{name}'".replace("+", ".")
    ):
        resolve(name)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (torch.sin, "torch.sin"),
        (torch.Tensor.sin, "torch.Tensor.sin"),
        (torch.linalg.inv, "torch.linalg.inv"),
        (F.gelu, "torch.nn.functional.gelu"),
        (torch.Tensor.__add__, "torch.Tensor.__add__"),
        (torch.ops.aten.sin, "torch.ops.aten.sin"),
        (torch.ops.aten.sin.default, "torch.ops.aten.sin.default"),
        (torch.Tensor.T.__get__, "torch.Tensor.T"),  # type: ignore[attr-defined]
        (evaluate, "evaluate"),
    ],
)
def test_name_of(function: Any, name: str) -> None:
    assert name_of(function) == name


def test_name_of_what_has_no_name() -> None:
    class Callable:
        def __call__(self) -> None: ...

        def __str__(self) -> str:
            return "a thing"

    assert name_of(Callable()) == "a thing"


# --- rules ----------------------------------------------------------------------------------------


def test_a_function_is_claimed_once() -> None:
    def f(x: Any) -> Any:
        return x

    claim(f, evaluate)
    assert rule_for(f) is evaluate
    with pytest.raises(ValueError, match=r"f has a rule already"):
        claim(f, evaluate)


def test_a_row_that_claims_a_served_function_is_an_error_and_adds_no_row() -> None:
    rows = len(ROWS)
    with pytest.raises(ValueError, match=r"torch\.sin has a rule already"):
        add_rule("sin", "ode", "", evaluate)
    assert len(ROWS) == rows


def test_a_row_serves_functions_methods_and_in_place_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    for function in (*resolve("tanh"), *resolve("tanh_")):
        monkeypatch.delitem(RULES, function)
    given: list[Any] = []

    def in_place(out_of_place: Any) -> Any:
        given.append(out_of_place)
        return out_of_place

    add_rule("tanh", "mine", "says", evaluate, [call(t(2))], in_place)
    row = ROWS[-1]
    assert (row.name, row.kind, row.says) == ("tanh", "mine", "says")
    assert set(row.functions) == set(resolve("tanh"))
    assert set(row.in_place) == set(resolve("tanh_"))
    assert all(RULES[f] is evaluate for f in row.functions)
    # the evaluator of an in-place form is told what it is the in-place form of
    assert set(given) == {torch.Tensor.tanh}
    assert RULES[torch.Tensor.tanh_] is torch.Tensor.tanh


def test_an_operators_in_place_form_is_its_augmented_assignment() -> None:
    row = next(row for row in ROWS if torch.Tensor.__add__ in row.functions)
    assert torch.Tensor.__iadd__ in row.in_place
    assert torch.Tensor.add_ in {f for row in ROWS for f in row.in_place}


def test_no_function_stands_in_two_rows() -> None:
    every = [f for row in ROWS for f in (*row.functions, *row.in_place)]
    assert len(set(every)) == len(every)
    assert not set(REFUSED) & set(RULES)
    # a name that stands for nothing leaves none behind
    assert all(f is None or callable(f) for f in NAMES)


def test_an_operator_has_the_rule_of_the_function_in_front_of_it() -> None:
    assert OPERATORS["sin"] in (torch.sin, torch.Tensor.sin)
    for operator in (torch.ops.aten.sin, torch.ops.aten.sin.default):
        rule = rule_for(operator)
        assert rule is not None
        got = rule(operator, (), {"self": tt.TaylorTensor(torch.zeros(()))})
        assert [c.item() for c in got.coeffs] == [0, 1, 0]
    assert rule_for(torch.ops.prims.sin) is None
    assert rule_for(object()) is None


# --- refusals -------------------------------------------------------------------------------------


def test_the_text_without_a_rule_names_three_ways_out() -> None:
    error = refusal(evaluate)
    assert isinstance(error, UnsupportedFunction)
    assert isinstance(error, NotImplementedError)
    assert str(error).startswith("evaluate has no Taylor rule yet. ")
    for way in ("x.value", "taylortorch.supported()", "taylortorch.register_rule"):
        assert way in str(error)


def test_a_reason_given_is_the_reason_said() -> None:
    refuse("torch.linalg.inv", "because of this")
    assert str(refusal(torch.linalg.inv)) == (
        "torch.linalg.inv does not take a TaylorTensor: because of this"
    )


def test_an_operator_is_refused_for_its_functions_reason() -> None:
    function = next(
        f
        for f in REFUSED
        if f is getattr(torch, getattr(f, "__name__", ""), None)
        and OPERATORS.get(f.__name__) in REFUSED
        and hasattr(torch.ops.aten, f.__name__)
    )
    operator = getattr(torch.ops.aten, function.__name__)
    reason = REFUSED[OPERATORS[function.__name__]]
    assert str(refusal(operator)) == (
        f"torch.ops.aten.{function.__name__} does not take a TaylorTensor: {reason}"
    )


# --- samples and lists ----------------------------------------------------------------------------


def test_a_drawn_tensor_lies_in_its_range() -> None:
    x = t(1000, low=-3, high=-2).draw(torch.Generator().manual_seed(0))
    assert x.shape == (1000,)
    assert x.dtype == torch.float64
    assert -3 <= x.min() < -2.9 < -2.1 < x.max() <= -2


def test_supported_lists_every_row_by_kind() -> None:
    kinds = supported()
    assert sum(map(len, kinds.values())) == len(ROWS)
    assert list(kinds) == sorted(kinds)
    assert all(names == sorted(names) for names in kinds.values())
    assert "tanh" in kinds["ode"]
