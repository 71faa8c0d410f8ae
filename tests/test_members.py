"""The members of ``torch.Tensor`` that the guarded class has in Python, for Dynamo to read."""

from __future__ import annotations

import types
from collections.abc import Hashable
from typing import Any

import pytest
import torch

import taylortorch as tt
from taylortorch.engine.registry import RULES
from taylortorch.engine.tensor import Guarded, TaylorTensor
from taylortorch.patches.members import give_members


def made_here(member: Any) -> bool:
    function = member.fget if isinstance(member, property) else member
    return getattr(function, "__module__", "") == give_members.__module__


WRITTEN = {name: member for name, member in vars(Guarded).items() if made_here(member)}


def series() -> tt.TaylorTensor:
    return tt.TaylorTensor(torch.tensor([[0.3, 1.2], [0.7, 0.4]], dtype=torch.float64))


def same(a: Any, b: Any) -> None:
    for c, d in zip(a.coeffs, b.coeffs, strict=True):
        torch.testing.assert_close(c, d, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["sin", "add", "__add__", "__rsub__", "reshape", "__getitem__"])
def test_methods_with_a_rule_are_written_out(name: str) -> None:
    assert isinstance(WRITTEN[name], types.FunctionType)
    assert name not in vars(TaylorTensor)


@pytest.mark.parametrize("name", ["real", "T", "mT"])
def test_properties_with_a_rule_are_written_out(name: str) -> None:
    assert isinstance(WRITTEN[name], property)


def test_all_that_has_a_rule_and_nothing_else_is_written_out() -> None:
    with_rule = set()
    for base in (torch.Tensor, torch._C.TensorBase):
        for name, member in vars(base).items():
            key = member.__get__ if hasattr(member, "__set__") else member
            if isinstance(key, Hashable) and key in RULES:
                with_rule.add(name)
    assert set(WRITTEN) <= with_rule
    # the others are written by hand
    by_hand = set(vars(TaylorTensor)) | set(vars(Guarded)) - set(WRITTEN)
    assert with_rule - set(WRITTEN) <= by_hand


def test_they_compute_what_torch_functions_compute() -> None:
    x = series()
    same(Guarded.sin(x), torch.sin(x))  # type: ignore[attr-defined]
    same(WRITTEN["__rsub__"](x, 2.0), 2.0 - x)
    same(WRITTEN["reshape"](x, -1), torch.reshape(x, (-1,)))
    same(WRITTEN["sum"](x, dim=0), torch.sum(x, 0))
    same(WRITTEN["T"].fget(x), torch.transpose(x, 0, 1))


def test_a_written_method_is_a_function_with_a_rule_itself() -> None:
    # C++ code that looks a function up in the class of its argument finds the method
    method = WRITTEN["sin"]
    same(RULES[method](method, (series(),), {}), torch.sin(series()))


def test_a_method_that_torch_wrote_in_python_is_bound() -> None:
    member = torch.Tensor.__rsub__
    assert isinstance(member, types.FunctionType)
    bound = RULES[member.__get__](member.__get__, (series(),), {})
    same(bound(2.0), 2.0 - series())


def test_members_are_given_once() -> None:
    before = dict(vars(Guarded))
    rules = dict(RULES)
    give_members(rules)
    assert dict(vars(Guarded)) == before
    assert rules == RULES
