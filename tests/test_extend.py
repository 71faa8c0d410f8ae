"""Users' own rules: every way to give one, every kind of function that can get one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import taylortorch as tt
from taylortorch.registry import ROWS

F64 = torch.float64


def opaque(f: Callable[[float], float]) -> Callable:
    """A function of tensors that torch cannot see into."""

    def entries(x: torch.Tensor) -> torch.Tensor:
        assert type(x) is torch.Tensor
        return torch.tensor([f(entry) for entry in x.tolist()], dtype=x.dtype)

    return entries


def path() -> tt.TaylorTensor:
    coefficients = [[0.5, -0.7], [1.0, 0.3], [0.2, -0.4], [-0.1, 0.6]]
    return tt.TaylorTensor.from_coeffs([torch.tensor(c, dtype=F64) for c in coefficients])


def same(result: Any, expected: Any) -> None:
    for got, want in zip(result.coeffs, expected.coeffs, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


WAYS = {
    "derivative": ({"derivative": lambda x: 3 * x**2}, lambda e: e**3, lambda x: x**3),
    "ode": ({"ode": (0, 0, -1)}, lambda e: 1 / e, lambda x: 1 / x),
    "form": ({"form": "x : x"}, lambda e: 2 * e, lambda x: 2 * x),
    "composite": ({"composite": lambda x: x * x}, lambda e: e * e, lambda x: x * x),
    "evaluate": (
        {"evaluate": lambda func, args, kwargs: args[0] + 1},
        lambda e: e + 1,
        lambda x: x + 1,
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_give_a_rule(way: str) -> None:
    keywords, entry, closed_form = WAYS[way]
    plain = opaque(entry)
    served = tt.register_rule(plain, **keywords)
    same(served(path()), closed_form(path()))
    value = path().value
    assert torch.equal(served(value), plain(value)), "plain tensors go to the function itself"
    same(served(tt.TaylorTensor(path())).coeffs[1], closed_form(tt.TaylorTensor(path())).coeffs[1])


def test_two_arguments() -> None:
    def atan2(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(__import__("numpy").arctan2(y.numpy(), x.numpy()))

    served = tt.register_rule(
        atan2,
        derivative=(lambda y, x: x / (x * x + y * y), lambda y, x: -y / (x * x + y * y)),
    )
    other = path() + 2
    same(served(path(), other), torch.atan2(path(), other))
    same(served(path(), other.value), torch.atan2(path(), other.value))


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return 2 * grad


def test_an_autograd_function_is_refused_until_it_has_a_rule() -> None:
    x, w = path(), torch.tensor(0.3, dtype=F64, requires_grad=True)
    with pytest.raises(tt.UnsupportedFunction, match="Doubled"):
        Doubled.apply(w * x) + 1
    tt.register_rule(Doubled, form="x : x")
    y = Doubled.apply(w * x)
    same(y, 2 * w * x)
    (gradient,) = torch.autograd.grad(y.coeffs[2].sum(), w)
    torch.testing.assert_close(gradient, 2 * x.coeffs[2].sum())
    with pytest.raises(ValueError, match="Doubled has a rule already"):
        tt.register_rule(Doubled, form="x : x")


@torch.library.custom_op("taylortorch_tests::product", mutates_args=())
def custom_product(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return x * y


def test_a_library_operator_by_all_its_names() -> None:
    with pytest.raises(tt.UnsupportedFunction, match="product"):
        custom_product(path(), path())
    tt.register_rule(custom_product, form="x, y : x*y")
    packet = torch.ops.taylortorch_tests.product
    for call in (custom_product, packet, packet.default):
        same(call(path(), path()), path() * path())


def test_a_torch_function_without_a_rule() -> None:
    x = path().reshape(1, 2)
    with pytest.raises(tt.UnsupportedFunction, match=r"torch\.t_copy has no Taylor rule"):
        torch.t_copy(x)
    rows = len(ROWS)
    assert tt.register_rule(torch.t_copy, form="x : x") is torch.t_copy
    assert len(ROWS) == rows + 1
    same(torch.t_copy(x), x.t())


def test_exactly_one_way() -> None:
    with pytest.raises(TypeError, match="exactly one of"):
        tt.register_rule(opaque(abs))
    with pytest.raises(TypeError, match="got 2"):
        tt.register_rule(opaque(abs), ode=(0, 1, 0), form="x : x")
    with pytest.raises(ValueError, match=r"torch\.sin has a rule already"):
        tt.register_rule(torch.sin, ode=(0, 1, 0))
