"""The closed reverse pass of elementwise functions against what autograd records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import taylortorch as tt
from taylortorch.engine import adjoints

FUNCTIONS: dict[str, Callable] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "exp": torch.exp,
    "expm1": torch.expm1,
    "tan": torch.tan,
    "reciprocal": torch.reciprocal,
    "sin": torch.sin,
    "cos": torch.cos,
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu, tanh": lambda x: F.gelu(x, approximate="tanh"),
    "softplus": F.softplus,
    "softplus, beta": lambda x: F.softplus(x, beta=2.0, threshold=1.0),
    "mish": F.mish,
    "elu": lambda x: F.elu(x, 0.7),
    "erf": torch.erf,
    "atan": torch.atan,
    "log": lambda x: torch.log(torch.abs(x) + 0.1),
    "logsigmoid": F.logsigmoid,
}


def _line(order: int) -> Callable:
    return lambda x: tt.TaylorTensor(x, order=order)


def _bundle(x: torch.Tensor, **more: Any) -> Any:
    directions = torch.eye(3, dtype=x.dtype).reshape(3, 1, 3)
    return tt.TaylorTensor(x, directions=directions, **more)


def _variables(x: torch.Tensor) -> Any:
    columns = x.split(1, -1)
    return torch.cat(tt.variables(*columns, order=3), -1)


def _laplacian(x: torch.Tensor) -> Any:
    x, y, z = x.split(1, -1)
    return torch.cat(tt.variables(x=x, y=y, z=z, derivatives=["z", "laplacian(x, y)"]), -1)


WEIGHTS = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
SEEDS: dict[str, Callable] = {
    "line 1": _line(1),
    "line 2": _line(2),
    "line 5": _line(5),
    "bundle": lambda x: _bundle(x, order=3),
    "collapsed 2": lambda x: _bundle(x, weights=1),
    "collapsed 2, a number": lambda x: _bundle(x, weights=0.5),
    "collapsed 2, weights": lambda x: _bundle(x, weights=WEIGHTS),
    "collapsed 4": lambda x: _bundle(x, order=4, weights=WEIGHTS),
    "variables": _variables,
    "a sum row": _laplacian,
}


def gradients(f: Callable, seed: Callable, twice: bool = False) -> list[torch.Tensor]:
    """The gradients of a loss on all coefficients to the parameters and the input."""
    generator = torch.Generator().manual_seed(0)
    draw = {"generator": generator, "dtype": torch.float64}
    x = (0.3 * torch.randn(5, 3, **draw)).requires_grad_()
    w = [torch.randn(4, 3, **draw), torch.randn(2, 4, **draw)]
    w = [each.mul_(0.4).requires_grad_() for each in w]
    hidden = f(F.linear(seed(x), w[0]))
    y = f(F.linear(hidden, w[1]))
    loss = sum((torch.randn(c.shape, **draw) * c * c).sum() for c in (*hidden.coeffs, *y.coeffs))
    found = torch.autograd.grad(loss, [x, *w], create_graph=twice)
    if twice:
        found = torch.autograd.grad(sum((g * g).sum() for g in found), [x, *w])
    return list(found)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_are_those_that_autograd_records(
    name: str, seed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adjoints, "SMALL", 10**9)
    expected = gradients(FUNCTIONS[name], SEEDS[seed])
    used = _count_uses(monkeypatch)
    found = gradients(FUNCTIONS[name], SEEDS[seed])
    assert used
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("seed", ["line 2", "line 5", "collapsed 2, weights", "a sum row"])
@pytest.mark.parametrize("name", ["tanh", "sigmoid", "sin", "gelu", "mish"])
def test_gradients_of_gradients(name: str, seed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adjoints, "SMALL", 10**9)
    expected = gradients(FUNCTIONS[name], SEEDS[seed], twice=True)
    assert _count_uses(monkeypatch) == []
    found = gradients(FUNCTIONS[name], SEEDS[seed], twice=True)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


def _count_uses(monkeypatch: pytest.MonkeyPatch) -> list:
    used: list = []
    record = adjoints._record

    def counting(*args: Any) -> Any:
        used.append(args)
        return record(*args)

    monkeypatch.setattr(adjoints, "SMALL", 0)
    monkeypatch.setattr(adjoints, "_record", counting)
    return used


def test_a_loss_on_some_of_the_coefficients(monkeypatch: pytest.MonkeyPatch) -> None:
    w = torch.randn(4, 4, dtype=torch.float64, requires_grad=True)
    x = torch.randn(3, 4, dtype=torch.float64)
    for k in range(4):
        monkeypatch.setattr(adjoints, "SMALL", 10**9)
        expected = torch.autograd.grad(torch.tanh(_line(3)(x) @ w).coeffs[k].sum(), w)
        monkeypatch.setattr(adjoints, "SMALL", 0)
        found = torch.autograd.grad(torch.tanh(_line(3)(x) @ w).coeffs[k].sum(), w)
        torch.testing.assert_close(found, expected)


def test_a_parameter_in_the_arguments_keeps_its_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adjoints, "SMALL", 0)
    w = torch.randn(4, dtype=torch.float64, requires_grad=True)
    weights = torch.ones(3, dtype=torch.float64, requires_grad=True)
    x = torch.randn(5, 3, dtype=torch.float64)
    y = torch.tanh(_bundle(x, weights=weights) * w[0])
    (found,) = torch.autograd.grad(y.coeffs[2].sum(), weights)
    each = torch.tanh(_bundle(x) * w[0]).coeffs[2].sum((1, 2))
    torch.testing.assert_close(found, each.detach())


def test_transforms_record_as_they_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside torch.func and forward mode, where the closed reverse pass steps aside."""
    monkeypatch.setattr(adjoints, "SMALL", 0)
    x = torch.randn(8, 8, dtype=torch.float64)

    def loss(scale: torch.Tensor) -> torch.Tensor:
        return torch.tanh(tt.TaylorTensor(x) * scale).coeffs[2].square().sum()

    one = torch.ones((), dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(loss(one), one)
    torch.testing.assert_close(torch.func.grad(loss)(one.detach()), expected)
    _, forward = torch.func.jvp(loss, (one.detach(),), (torch.ones_like(one),))
    torch.testing.assert_close(forward, expected)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(one.detach(), torch.ones_like(one))
        tangent = torch.autograd.forward_ad.unpack_dual(loss(dual)).tangent
    torch.testing.assert_close(tangent, expected)


def test_a_layer_keeps_one_tensor_for_each_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """What autograd would keep of tanh at order 2 besides its result is gone."""
    monkeypatch.setattr(adjoints, "SMALL", 0)
    kept: dict[int, int] = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        kept[x.untyped_storage().data_ptr()] = x.numel()
        return x

    w = torch.randn(64, 64, requires_grad=True)
    x = tt.TaylorTensor.from_coeffs([torch.randn(100, 64) for _ in range(3)])
    h = F.linear(x, w)
    kept.clear()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        y = torch.tanh(h)
    assert sum(kept.values()) == 3 * 6400
    assert {c.untyped_storage().data_ptr() for c in y.coeffs} == set(kept)
