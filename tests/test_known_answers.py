"""Answers that other Taylor systems publish with their tests: TaylorSeries.jl, audi, CppAD, ADOL-C,
TaylorDiff.jl, JAX and torch-jet."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

import taylortorch as tt
from tests.fields import F64, mlp, points, same


def t(at: float, order: int) -> tt.TaylorTensor:
    return tt.TaylorTensor(torch.tensor(at, dtype=F64), order=order)


def coefficient(y: Any, k: int) -> float:
    return float(y.coeffs[k])


# --- TaylorSeries.jl, test/onevariable.jl --------------------------------------------------------

EXACT: dict[str, tuple[Callable[[Any], Any], int, float]] = {
    "sqrt(1+t)": (lambda x: torch.sqrt(1 + x), 2, -1 / 8),
    "(1+t)^(1/3)": (lambda x: (1 + x) ** (1 / 3), 2, -1 / 9),
    "(1-t)^(1/4)": (lambda x: (1 - x) ** 0.25, 14, -4188908511 / 549755813888),
    "(1+t)^3.2": (lambda x: (1 + x) ** 3.2, 13, -5.4021062656e-5),
    "tan 7": (torch.tan, 7, 17 / 315),
    "tan 13": (torch.tan, 13, 21844 / 6081075),
    "cos": (torch.cos, 8, 1 / math.factorial(8)),
    "1/(1-t)": (lambda x: 1 / (1 - x), 15, 1.0),
}


@pytest.mark.parametrize("name", EXACT)
def test_exact_coefficients(name: str) -> None:
    f, k, value = EXACT[name]
    assert coefficient(f(t(0.0, k)), k) == pytest.approx(value, rel=1e-10)


IDENTITIES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], float]] = {
    "log1p": (lambda x: torch.log1p(0.25 + x), lambda x: torch.log(1.25 + x), 0.0),
    "log1p of a square": (lambda x: torch.log1p(-x * x), lambda x: torch.log(1 - x * x), 0.0),
    "negative integer power": (
        lambda x: (1 + x / 4) ** -2,
        lambda x: 1 / (1 + x / 4) / (1 + x / 4),
        1.5,
    ),
    "negative power": (lambda x: (1 + x / 5) ** -2.5, lambda x: (1 / (1 + x / 5)) ** 2.5, 1.5),
    "tan": (torch.tan, lambda x: torch.sin(x) / torch.cos(x), 1.3),
    "asin + acos": (lambda x: torch.asin(x) + torch.acos(x), lambda x: 0 * x + math.pi / 2, 0.3),
    "asinh": (torch.asinh, lambda x: torch.log(x + torch.sqrt(x * x + 1)), 0.7),
    "cosh(asinh)": (lambda x: torch.cosh(torch.asinh(x)), lambda x: torch.sqrt(x * x + 1), 0.4),
    "exp(log)": (lambda x: torch.exp(torch.log(1 - x * x)), lambda x: 1 - x * x, 0.2),
    "log of a square": (lambda x: torch.log((1 - x) ** 2), lambda x: 2 * torch.log(1 - x), 0.2),
    "sin 2x": (lambda x: torch.sin(2 * x), lambda x: 2 * torch.sin(x) * torch.cos(x), 2.3),
    "tanh": (torch.tanh, lambda x: torch.sinh(x) / torch.cosh(x), 1.5),
    "integer powers": (lambda x: (x - 3) ** 3, lambda x: (x - 3) ** 3.0, 1.1),
    "reciprocal": (lambda x: (x - 3) ** -1, lambda x: 1 / (x - 3), 1.1),
}


@pytest.mark.parametrize("name", IDENTITIES)
def test_identities(name: str) -> None:
    f, g, at = IDENTITIES[name]
    for a, b in zip(f(t(at, 8)).coeffs, g(t(at, 8)).coeffs, strict=True):
        same(a, b, 1e-10)


def test_expm1_keeps_its_value() -> None:
    y = torch.expm1(t(1e-16, 6))
    assert y.value == 1e-16
    for k in range(1, 7):
        assert coefficient(y, k) == pytest.approx(1 / math.factorial(k), rel=1e-12)


def test_the_reverse_of_t_exp_t() -> None:
    x = t(0.0, 15)
    reverse = tt.invert(x * torch.exp(x))
    for n in range(1, 16):
        assert coefficient(reverse, n) == pytest.approx(
            (-n) ** (n - 1) / math.factorial(n), rel=1e-9
        )


# --- audi ----------------------------------------------------------------------------------------


def test_audi() -> None:
    x, y = tt.variables(*torch.tensor([3.0, 7.0], dtype=F64), order=2)
    c = (x + 3 * x * y + y**2).coeffs
    assert (c[0].item(), c[1].tolist(), c[2].tolist()) == (115, [22, 23], [0, 3, 1])
    x, y = tt.variables(*torch.tensor([0.0, 1.0], dtype=F64), order=2)
    c = (1 / (x + 2 * x * y + y**2)).coeffs
    assert (c[0].item(), c[1].tolist(), c[2].tolist()) == (1, [-3, -2], [9, 10, 3])
    singular = (t(0.0, 7) ** 3.1).coeffs
    assert [float(c) for c in singular] == [0, 0, 0, 0, *[math.inf, -math.inf] * 2]


# --- CppAD, ADOL-C -------------------------------------------------------------------------------


def test_cppad_directions() -> None:
    point = torch.tensor([1.0, 2.0, 3.0], dtype=F64)
    y = tt.TaylorTensor(
        point, directions=torch.tensor([[1.0, 2.0, 3.0], [2.0, 3.0, 4.0]], dtype=F64)
    ).prod()
    assert y.coeffs[1].tolist() == [18, 29]
    assert y.coeffs[2].tolist() == [18, 46]


def test_cppad_powers() -> None:
    assert [float(d) for d in (t(-2.0, 2) ** 2.0).derivatives] == [4, -4, 2]
    assert [float(d) for d in (t(-2.0, 2) ** -2.0).derivatives] == [1 / 4, 1 / 4, 3 / 8]
    assert [float(d) for d in (t(0.0, 3) ** 2.5).derivatives] == [0, 0, 0, math.inf]
    assert [float(d) for d in (t(2.0, 2) ** 0).derivatives] == [1, 0, 0]
    assert [float(d) for d in (1 ** t(2.0, 2)).derivatives] == [1, 0, 0]


def test_adolc_tensor() -> None:
    x = torch.tensor([1.25, -0.7], dtype=F64)

    def f(x: Any) -> Any:
        a, b = x[..., 0], x[..., 1]
        return torch.stack([a**2 + 2 * a * b + 3 * b, torch.sin(a) + b**2], -1)

    hessian = tt.func.hessian(f)(x)
    expected = [[[2.0, 2.0], [2.0, 0.0]], [[-math.sin(1.25), 0.0], [0.0, 2.0]]]
    same(hessian, torch.tensor(expected, dtype=F64))
    same(
        tt.func.jacfwd(f)(x),
        torch.tensor([[1.1, 5.5], [math.cos(1.25), -1.4]], dtype=F64),
    )


# --- TaylorDiff.jl, JAX --------------------------------------------------------------------------


def test_taylordiff() -> None:
    for f, order, at, value in (
        (lambda x: x**7, 4, 1.9, 840 * 1.9**3),
        (lambda x: x**5.6, 4, 1.9, 5.6 * 4.6 * 3.6 * 2.6 * 1.9**1.6),
        (lambda x: x / x, 1, 1.0, 0.0),
        (lambda x: (x + 1) / x, 1, 1.0, -1.0),
        (lambda x: 1 + 1 / x, 1, 1.0, -1.0),
    ):
        assert float(f(t(at, order)).derivatives[order]) == pytest.approx(value, rel=1e-12)


def test_jax_has_no_nan_in_the_tails() -> None:
    for f, at in ((torch.tanh, 500.0), (torch.sigmoid, 100.0)):
        for sign in (1, -1):
            assert all(torch.isfinite(c) for c in f(t(sign * at, 5)).coeffs)
    assert [float(d) for d in (t(0.0, 10) ** 10).derivatives][-1] == math.factorial(10)


# --- torch-jet -----------------------------------------------------------------------------------

JET_CASES: dict[str, Callable[[Any], Any]] = {
    "sin": torch.sin,
    "cos": torch.cos,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "linear": torch.nn.Linear(4, 2).double(),
    "x^2": lambda x: x**2,
    "x^10": lambda x: x**10,
    "x^1.5": lambda x: torch.abs(x) ** 1.5,
    "sin(sin)": lambda x: torch.sin(torch.sin(x)),
    "tanh(tanh)": lambda x: torch.tanh(torch.tanh(x)),
    "sin cos of sin": lambda x: torch.sin(torch.sin(x)) * torch.cos(torch.sin(x)),
    "network": mlp(4, 2),
    "sigmoid(sigmoid)": lambda x: torch.sigmoid(torch.sigmoid(x)),
    "residual": lambda x: x + torch.tanh(x),
    "sum over two axes": lambda x: torch.sin(x).sum((0, 1)),
    "larger constant": lambda x: torch.sin(x[0] + torch.ones(5, 4, dtype=F64)).sum(0),
    "x^-2": lambda x: x**-2,
}


@pytest.mark.parametrize("name", JET_CASES)
def test_torch_jet(name: str) -> None:
    f = JET_CASES[name]
    x, v = points(10, 4).detach(), points(10, 4, seed=1).detach()
    w = points(10, 4, seed=2).detach()
    for order in range(6):
        series = [v, w, *(torch.zeros_like(v) for _ in range(order))][:order]
        value, terms = tt.func.jet(f, (x,), (series,))
        s = torch.zeros((), dtype=F64, requires_grad=True)
        y = f(x + s * v + s**2 * w / 2 if order > 1 else x + s * v)
        weights = torch.linspace(0.5, 1.5, y.numel(), dtype=F64).reshape(y.shape)
        same(value, f(x), 1e-12)
        derivative = (weights * y).sum()
        for term in terms:
            (derivative,) = torch.autograd.grad(
                derivative, s, create_graph=True, materialize_grads=True, allow_unused=True
            )
            same((weights * term).sum(), derivative, 1e-8)
            if not derivative.requires_grad:
                break
