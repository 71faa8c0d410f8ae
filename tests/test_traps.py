"""Where a derivative is easily wrong: zeros, ties, tails, promotion, masks, in-place writes."""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import mpmath
import pytest
import torch
import torch.nn.functional as F

import taylortorch as tt
from tests.oracle import along

F64 = torch.float64
INF = math.inf


def double(*numbers: Any) -> torch.Tensor:
    return torch.tensor(numbers, dtype=F64)


def at(x0: float, order: int) -> tt.TaylorTensor:
    """``x_0 + t`` in float64."""
    return tt.TaylorTensor(torch.tensor(x0, dtype=F64), order=order)


def coefficients(y: torch.Tensor) -> list[float]:
    assert isinstance(y, tt.TaylorTensor)
    return [c.item() for c in y.coeffs]


def derivatives_along(f: Callable, *paths: Sequence[torch.Tensor], order: int) -> list[Any]:
    """Of the sum of ``f``, by reverse mode over reverse mode."""
    shape = f(*(p[0] for p in paths)).shape
    result = along(lambda xs: [f(*xs)], paths, order, [torch.ones(shape, dtype=F64)])
    return [r.item() for r in result]


def summed(y: tt.TaylorTensor) -> list[float]:
    return [d.sum().item() for d in y.derivatives]


# --- powers at zero -----------------------------------------------------------------------------


@pytest.mark.parametrize("n", range(7))
@pytest.mark.parametrize(
    "power",
    [
        lambda x, n: x**n,
        lambda x, n: x ** float(n),
        lambda x, n: torch.pow(x, n),
        lambda x, n: torch.pow(x, torch.tensor(float(n), dtype=F64)),
        lambda x, n: torch.pow(x, torch.tensor(n)),
        lambda x, n: x.pow(double(n))[0],
        lambda x, n: torch.float_power(x, n),
        lambda x, n: x.clone().pow_(n),
        lambda x, n: math.prod([x] * n, start=torch.ones((), dtype=F64) + 0 * x),
    ],
    ids=["**", "float", "pow", "0-dim tensor", "int tensor", "1-dim", "float_power", "pow_", "*"],
)
def test_powers_at_zero_are_monomials_at_every_order(power: Callable, n: int) -> None:
    for order in (0, 1, n, n + 2):
        expected = [float(k == n) for k in range(order + 1)]
        assert coefficients(power(at(0.0, order), n)) == expected


@pytest.mark.parametrize("n", range(2, 7))
def test_powers_at_zero_of_a_curve_that_stays_longer(n: int) -> None:
    # (2 t**2 - t**3)**n starts at degree 2 n
    x = tt.TaylorTensor.from_coeffs([torch.tensor(c, dtype=F64) for c in [0, 0, 2, -1] + [0] * 9])
    expected = reduce(torch.mul, [x] * n)
    assert coefficients(x**n) == coefficients(expected)
    assert coefficients(x ** torch.tensor(float(n), dtype=F64)) == coefficients(expected)


@pytest.mark.parametrize("exponent", [-1, -2.0, -3, -0.5])
def test_negative_powers_at_zero_are_infinite(exponent: float) -> None:
    expected = [INF, -INF, INF, -INF]
    assert coefficients(at(0.0, 3) ** exponent) == expected
    assert coefficients(at(0.0, 3) ** torch.tensor(exponent, dtype=F64)) == expected


def test_tensor_of_mixed_exponents_at_zero() -> None:
    x = tt.TaylorTensor(torch.zeros(6, dtype=F64), order=3)
    y = x ** double(0, 1, 2, 3, 2.5, -1)
    assert y.coeffs[0].tolist() == [1, 0, 0, 0, 0, INF]
    assert y.coeffs[1].tolist() == [0, 1, 0, 0, 0, -INF]
    assert y.coeffs[2].tolist() == [0, 0, 1, 0, 0, INF]
    assert y.coeffs[3].tolist() == [0, 0, 0, 1, INF, -INF]


def test_real_power_at_zero_has_as_many_derivatives_as_it_should() -> None:
    expected = [0, 0, 0, 0, INF, -INF, INF, -INF]
    assert coefficients(at(0.0, 7) ** 3.1) == expected
    assert coefficients(at(0.0, 7) ** torch.tensor(3.1, dtype=F64)) == expected


@pytest.mark.parametrize(
    ("p", "derivatives"), [(2.0, [4, -4, 2, 0]), (-2.0, [1 / 4, 1 / 4, 3 / 8])]
)
def test_float_exponents_of_a_negative_base(p: float, derivatives: list[float]) -> None:
    y = at(-2.0, len(derivatives) - 1) ** p
    assert [d.item() for d in y.derivatives] == derivatives


def test_powers_of_zero_and_of_one() -> None:
    assert coefficients(torch.pow(0.0, at(2.0, 3))) == [0, 0, 0, 0]
    assert coefficients(1.0 ** at(2.0, 3)) == [1, 0, 0, 0]
    assert coefficients(torch.zeros((), dtype=F64) ** at(2.0, 3)) == [0, 0, 0, 0]


@pytest.mark.parametrize("p", [0.0, 1.0, 2.0, 2.5])
def test_the_gradient_in_an_exponent_that_is_whole(p: float) -> None:
    """Coefficients that vanish there have a gradient; torch's own autograd takes it for 0."""
    x, exponent = double(0.5, 2.0), torch.tensor(p, dtype=F64, requires_grad=True)
    for k, c in enumerate((tt.TaylorTensor(x, order=3) ** exponent).coeffs):
        (got,) = torch.autograd.grad(c.sum(), exponent, retain_graph=True)
        # the derivative of binomial(p, k) x^(p - k), the binomial's product rule written out
        factors = [p - j for j in range(k)]
        slope = sum(math.prod(factors[:j] + factors[j + 1 :]) for j in range(k))
        power = x ** (p - k) / math.factorial(k)
        expected = power * (slope + math.prod(factors) * x.log())
        torch.testing.assert_close(got, expected.sum(), rtol=1e-12, atol=1e-12)


def test_general_power_at_base_zero_follows_torch() -> None:
    x, p = at(0.0, 1), tt.TaylorTensor(torch.tensor(2.0, dtype=F64), order=1)
    assert coefficients(torch.pow(x, p)) == [0, 0]


# --- products and quotients ---------------------------------------------------------------------


@pytest.mark.parametrize("zeros", [(), (0,), (2,), (0, 2), (1, 2, 3), (0, 1, 2, 3)])
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_prod_and_cumprod_with_zeros(zeros: tuple[int, ...], order: int) -> None:
    generator = torch.Generator().manual_seed(0)
    path = [torch.randint(-3, 4, (4,), generator=generator).double() for _ in range(order + 1)]
    path[0] = double(*(0 if i in zeros else i + 2 for i in range(4)))
    x = tt.TaylorTensor.from_coeffs(path)
    running = [x[0]]
    for factor in x[1:]:
        running.append(running[-1] * factor)
    for k in range(order + 1):
        expected = torch.stack([r.coeffs[k] for r in running])
        assert torch.equal(x.cumprod(0).coeffs[k], expected)
        assert torch.equal(x.prod().coeffs[k], expected[-1])
        assert torch.equal(x.prod(0, keepdim=True).coeffs[k], expected[-1:])


def test_quotients_that_cancel() -> None:
    x = at(3.0, 4)
    assert coefficients(x / x) == [1, 0, 0, 0, 0]
    x = at(1.0, 3)
    for y in ((x + 1) / x, 1 + 1 / x, 1 + x.reciprocal(), 1 + x**-1):
        assert [d.item() for d in y.derivatives] == [2, -1, 2, -6]


def test_square_root_at_zero_is_infinitely_steep() -> None:
    for y in (at(0.0, 3).sqrt(), at(0.0, 3) ** 0.5):
        assert coefficients(y) == [0, INF, -INF, INF]


# --- norms --------------------------------------------------------------------------------------


NORMS: list[Callable] = [
    lambda x: x.norm(),
    lambda x: torch.linalg.vector_norm(x),
    lambda x: torch.linalg.norm(x),
    lambda x: x.norm(dim=-1),
    lambda x: x.norm(p=2, dim=0, keepdim=True),
]


@pytest.mark.parametrize("norm", NORMS)
def test_norm_at_zero_has_the_slope_that_torch_gives_it(norm: Callable) -> None:
    x0, v = torch.zeros(3, dtype=F64), double(1.0, 2.0, -2.0)
    y = norm(tt.TaylorTensor(x0, v, order=1))
    assert summed(y) == derivatives_along(norm, [x0, v], order=1)


@pytest.mark.parametrize("norm", NORMS)
def test_norm_on_an_axis(norm: Callable) -> None:
    y = norm(tt.TaylorTensor(double(3.0, 0.0, 0.0), double(0.0, 4.0, 0.0), order=4))
    # sqrt(9 + 16 t**2)
    assert summed(y) == pytest.approx([3, 0, 16 / 3, 0, -(16**2) * 24 / (8 * 27)], abs=1e-12)


@pytest.mark.parametrize("p", [1, 1.5, 3, 4, INF])
def test_norm_of_any_p_on_an_axis(p: float) -> None:
    x0, v = double(3.0, 0.0), double(1.0, 0.0)
    y = torch.linalg.vector_norm(tt.TaylorTensor(x0, v, order=3), p)
    assert coefficients(y) == pytest.approx([3, 1, 0, 0], abs=1e-12)


# --- ties ---------------------------------------------------------------------------------------


TIES: dict[str, Callable] = {
    "abs": lambda x: x.abs(),
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "selu": F.selu,
    "celu": F.celu,
    "prelu": lambda x: F.prelu(x, double(0.3)),
    "relu6": lambda x: F.relu6(6 * x),
    "hardtanh": F.hardtanh,
    "hardswish": lambda x: F.hardswish(3 * x),
    "hardshrink": lambda x: F.hardshrink(x, 1.0),
    "softshrink": lambda x: F.softshrink(x, 1.0),
    "threshold": lambda x: F.threshold(x, 0.0, 0.5),
    "softsign": F.softsign,
    "sign": lambda x: x.sign() * x,
    "clamp": lambda x: x.clamp(-1, 1),
    "clamp_min": lambda x: x.clamp_min(0),
    "clamp of a tensor": lambda x: torch.clamp(x, double(-1, 0, 0, 0, 0), double(0, 0, 0, 1, 1)),
    "maximum": lambda x: torch.maximum(x, x.flip(0) * x.flip(0)),
    "minimum": lambda x: torch.minimum(x * x, x * 1.0),
    "maximum with a constant": lambda x: torch.maximum(x, torch.zeros_like(x.detach())),
    "fmax": lambda x: torch.fmax(x, x * x),
    "fmin": lambda x: torch.fmin(x, x * x),
    "max": lambda x: x.max(),
    "min": lambda x: (x * x).min(),
    "amax": lambda x: x.amax(0),
    "amin": lambda x: (x * x).amin(0),
    "max along an axis": lambda x: x.max(0).values,
    "min along an axis": lambda x: (x * x).min(0)[0],
    "median": lambda x: x.median(),
    "sort": lambda x: x.sort().values * double(1, 2, 3, 4, 5),
    "topk": lambda x: x.topk(2).values * double(1, 2),
    "cummax": lambda x: torch.cummax(x, 0).values * double(1, 2, 3, 4, 5),
    "relu in place": lambda x: F.relu(x * 1.0, inplace=True),
}


@pytest.mark.parametrize("name", TIES)
@pytest.mark.parametrize("order", [1, 2])
def test_ties_go_where_autograd_sends_them(name: str, order: int) -> None:
    path = [double(-1, 0, 0, 1, 1), double(1, 2, -4, 0.5, -0.25)]
    y = TIES[name](tt.TaylorTensor(*path, order=order))
    assert summed(y) == pytest.approx(derivatives_along(TIES[name], path, order=order), abs=1e-13)


def test_hardsigmoid_at_its_corners() -> None:
    y = F.hardsigmoid(tt.TaylorTensor(double(-3, 0, 1, 3), order=2))
    # torch's own slope is 1/6 rounded to single precision
    assert y.coeffs[1].tolist() == [0, 1 / 6, 1 / 6, 0]
    assert not y.coeffs[2].any()


# --- tails --------------------------------------------------------------------------------------


TAILS: list[tuple[str, Callable, float, float]] = [
    ("silu", F.silu, 40.41, -1.0829397459861354e-16),
    ("silu", F.silu, -40.41, -1.0829397459861354e-16),
    ("logsigmoid", F.logsigmoid, 40.0, -4.248354255291589e-18),
    ("logsigmoid", F.logsigmoid, -40.0, -4.248354255291589e-18),
    ("logsigmoid", F.logsigmoid, 37.42994775023705, -5.551115123125775e-17),
    ("exp2", torch.exp2, 1024.0, 8.637070847446594e307),
    ("softplus", lambda x: F.softplus(x, threshold=100), 40.0, 4.248354255291589e-18),
    ("softplus", F.softplus, -40.0, 4.248354255291589e-18),
    ("sigmoid", torch.sigmoid, 40.0, -4.248354255291589e-18),
    ("sigmoid", torch.sigmoid, -40.0, 4.248354255291589e-18),
]


@pytest.mark.parametrize(("name", "f", "x0", "expected"), TAILS)
def test_second_derivative_in_the_tails(name: str, f: Callable, x0: float, expected: float) -> None:
    assert f(at(x0, 2)).derivatives[2].item() == pytest.approx(expected, rel=1e-6, abs=0)


def phi(x: Any) -> Any:
    return mpmath.erfc(-x / mpmath.sqrt(2)) / 2


SPECIAL: dict[str, tuple[Callable, Callable]] = {
    "gelu": (F.gelu, lambda x: x * phi(x)),
    "gelu_tanh": (
        lambda x: F.gelu(x, approximate="tanh"),
        lambda x: x / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (x + 0.044715 * x**3))),
    ),
    "erf": (torch.erf, mpmath.erf),
    "erfc": (torch.erfc, mpmath.erfc),
    "tanh": (torch.tanh, mpmath.tanh),
    "sigmoid": (torch.sigmoid, lambda x: 1 / (1 + mpmath.exp(-x))),
    "silu": (F.silu, lambda x: x / (1 + mpmath.exp(-x))),
    "softplus": (lambda x: F.softplus(x, threshold=1e9), lambda x: mpmath.log1p(mpmath.exp(x))),
    "mish": (F.mish, lambda x: x * mpmath.tanh(mpmath.log1p(mpmath.exp(x)))),
    "atan": (torch.atan, mpmath.atan),
    "asinh": (torch.asinh, mpmath.asinh),
    "expm1": (torch.expm1, mpmath.expm1),
    "ndtr": (torch.special.ndtr, phi),
    "tanhshrink": (F.tanhshrink, lambda x: x - mpmath.tanh(x)),
}


@pytest.mark.parametrize("x0", [-9.0, -5.0, -1.0, 0.0, 0.25, 3.0, 7.0])
@pytest.mark.parametrize("name", SPECIAL)
def test_values_and_four_derivatives_against_many_digits(name: str, x0: float) -> None:
    f, exact = SPECIAL[name]
    with mpmath.workdps(60):
        expected = [float(c) for c in mpmath.taylor(exact, mpmath.mpf(x0), 4)]
    actual = coefficients(f(at(x0, 4)))
    # relative accuracy in the tails, or at least the rounding of one argument of size 1
    assert actual == pytest.approx(expected, rel=1e-9, abs=2e-16)


@pytest.mark.parametrize("x0", [-300.0, -40.0, 40.0, 300.0])
@pytest.mark.parametrize(
    "name", [name for name in SPECIAL if name not in ("asinh", "atan", "expm1")]
)
def test_saturated_functions_give_no_nan(name: str, x0: float) -> None:
    f, _ = SPECIAL[name]
    assert all(math.isfinite(c) for c in coefficients(f(at(x0, 5))))


@pytest.mark.parametrize(("f", "limit"), [(torch.tanh, 500.0), (torch.sigmoid, 100.0)])
def test_saturation_in_float32(f: Callable, limit: float) -> None:
    y = f(tt.TaylorTensor(torch.tensor([-limit, limit]), order=5))
    assert torch.equal(y.value, f(torch.tensor([-limit, limit])))
    assert all(c.isfinite().all() and c.abs().max() < 1e-6 for c in y.coeffs[1:])


@pytest.mark.parametrize("x0", [19.9, 20.0, 20.1, 30.0])
@pytest.mark.parametrize(("beta", "threshold"), [(1, 20), (2.0, 20), (0.5, 10.0)])
def test_softplus_is_exactly_linear_beyond_its_threshold(
    x0: float, beta: float, threshold: float
) -> None:
    y = F.softplus(at(x0, 3), beta, threshold)
    assert y.value.item() == F.softplus(double(x0), beta, threshold).item()
    expected = [x0, 1.0, 0.0, 0.0]
    if x0 * beta <= threshold:
        with mpmath.workdps(50):
            exact = mpmath.taylor(lambda x: mpmath.log1p(mpmath.exp(beta * x)) / beta, x0, 3)
            expected = [float(c) for c in exact]
    assert coefficients(y) == pytest.approx(expected, rel=1e-13, abs=0)


PRIMALS: dict[str, Callable] = {
    "expm1": torch.expm1,
    "log1p": torch.log1p,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "erf": torch.erf,
    "erfc": torch.erfc,
    "asinh": torch.asinh,
    "atan": torch.atan,
    "sinh": torch.sinh,
    "sin": torch.sin,
    "exp2": torch.exp2,
    "gelu": F.gelu,
    "silu": F.silu,
    "softplus": F.softplus,
    "logsigmoid": F.logsigmoid,
    "cube": lambda x: x**3,
    "real power": lambda x: x**2.5,
    "exponential": lambda x: 2.5**x,
    "reversed division": lambda x: 1 / x,
    "constant over series": lambda x: torch.full((7,), 0.7, dtype=x.dtype) / x,
    "constant minus series": lambda x: torch.full((7,), 0.7, dtype=x.dtype) - x,
    "constant to a series": lambda x: torch.full((7,), 0.7, dtype=x.dtype) ** x,
}


@pytest.mark.parametrize("name", PRIMALS)
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_values_are_exactly_torchs(name: str, dtype: torch.dtype) -> None:
    f = PRIMALS[name]
    x = torch.tensor([1e-16, 1e-8, 3e-5, 0.1, 0.9, 4.0, 11.0], dtype=dtype)
    assert torch.equal(f(tt.TaylorTensor(x, order=2)).value, f(x))


def test_expm1_and_log1p_near_zero() -> None:
    y = torch.expm1(at(1e-16, 4))
    assert coefficients(y) == pytest.approx([1e-16, 1, 1 / 2, 1 / 6, 1 / 24], rel=1e-15, abs=0)
    t = at(0.0, 6)
    assert coefficients(torch.log1p(-t * t)) == [0, 0, -1, 0, -1 / 2, 0, pytest.approx(-1 / 3)]
    y, z = torch.log1p(at(0.25, 5)), torch.log(at(1.25, 5))
    assert coefficients(y) == pytest.approx(coefficients(z), rel=1e-14)


# --- shapes -------------------------------------------------------------------------------------


LARGER: dict[str, Callable] = {
    "add": lambda x, c: x + c,
    "subtract": lambda x, c: c - x,
    "multiply": lambda x, c: c * x * x,
    "divide": lambda x, c: c / x,
    "power": lambda x, c: x**c,
    "exponential": lambda x, c: c**x,
    "atan2": torch.atan2,
    "hypot": lambda x, c: torch.hypot(c, x),
    "maximum": torch.maximum,
    "where": lambda x, c: torch.where(c > 0.5, x, c),
    "where of the series": lambda x, c: torch.where(x > 0.5, c, x),
    "lerp": lambda x, c: torch.lerp(x, x * x, c),
    "addcmul": lambda x, c: torch.addcmul(x, x, c),
    "addcdiv": lambda x, c: torch.addcdiv(c, x, x + 1),
    "clamp": lambda x, c: torch.clamp(x, c - 0.1, c + 0.1),
    "logaddexp": torch.logaddexp,
    "matmul": lambda x, c: c @ x,
    "linear": lambda x, c: F.linear(x, c[0], c[0, :, 0]),
    "mse_loss": lambda x, c: F.mse_loss(x.expand(4, 2, 3), c),
    "masked_fill": lambda x, c: x.expand(4, 2, 3).masked_fill(c > 0.5, 0.0),
    "xlogy": torch.xlogy,
    "fmod": lambda x, c: torch.fmod(x, c),
    "copysign": torch.copysign,
}


@pytest.mark.parametrize("name", LARGER)
@pytest.mark.parametrize("count", [2, 3, 4])
def test_constants_broadcast_larger_than_the_series(name: str, count: int) -> None:
    """Whatever the number of directions, also one that looks like a batch axis."""
    generator = torch.Generator().manual_seed(count)
    c = torch.rand(4, 2, 3, generator=generator, dtype=F64) + 0.1
    x0 = torch.rand(3, generator=generator, dtype=F64) + 0.1
    directions = torch.rand(count, 3, generator=generator, dtype=F64)
    bundle = LARGER[name](tt.TaylorTensor(x0, directions=directions, order=2), c)
    torch.testing.assert_close(bundle.value, LARGER[name](x0, c), rtol=1e-14, atol=1e-15)
    for r in range(count):
        expected = derivatives_along(lambda x: LARGER[name](x, c), [x0, directions[r]], order=2)
        actual = [d.sum().item() if k == 0 else d[r].sum().item()
                  for k, d in enumerate(bundle.derivatives)]  # fmt: skip
        assert actual == pytest.approx(expected, rel=1e-9, abs=1e-10)


@pytest.mark.parametrize("keepdim", [True, False])
@pytest.mark.parametrize("dims", [(0, 2), (-1, 0), (1,), 2, (0, 1, 2), (), None])
@pytest.mark.parametrize("name", ["sum", "mean", "var", "std", "amax", "logsumexp", "norm"])
def test_reductions_over_several_axes(name: str, dims: Any, keepdim: bool) -> None:
    def reduced(x: torch.Tensor) -> torch.Tensor:
        if name == "norm":
            return torch.linalg.vector_norm(x, dim=dims or None, keepdim=keepdim)
        axes = tuple(range(3)) if dims is None or dims == () else dims
        return getattr(x, name)(dim=axes, keepdim=keepdim)

    generator = torch.Generator().manual_seed(0)
    x0 = torch.rand(2, 3, 4, generator=generator, dtype=F64)
    # the direction is shared along one axis
    directions = torch.rand(2, 2, 1, 4, generator=generator, dtype=F64)
    y = reduced(tt.TaylorTensor(x0, directions=directions, order=2))
    torch.testing.assert_close(y.value, reduced(x0), rtol=1e-14, atol=1e-15)
    for r in range(2):
        path = [x0, directions[r].expand(2, 3, 4)]
        line = reduced(tt.TaylorTensor(*path, order=2))
        assert summed(line) == pytest.approx(derivatives_along(reduced, path, order=2), abs=1e-10)
        for k in (1, 2):
            torch.testing.assert_close(y.coeffs[k][r], line.coeffs[k], rtol=1e-12, atol=1e-12)


LISTS: dict[str, Callable] = {
    "cat": lambda x, c: torch.cat([x, c, x * x], -1),
    "stack": lambda x, c: torch.stack((c, x)),
    "hstack": lambda x, c: torch.hstack([x, c]),
    "vstack": lambda x, c: torch.vstack([c, x]),
    "column_stack": lambda x, c: torch.column_stack((x, c)),
    "einsum": lambda x, c: torch.einsum("ij,kj->ik", x, c),
    "einsum of a list": lambda x, c: torch.einsum("ij,kj->ik", [x, c]),
    "meshgrid": lambda x, c: torch.stack(torch.meshgrid(x[0], c[0], x[1], indexing="ij")),
    "block_diag": lambda x, c: torch.block_diag(x, c),
    "broadcast_tensors": lambda x, c: sum(torch.broadcast_tensors(x[:1], c)),
    "multi_dot": lambda x, c: torch.linalg.multi_dot([x, c.T, x]),
    "cartesian_prod": lambda x, c: torch.cartesian_prod(x[0], c[0]),
    "atleast_3d": lambda x, c: torch.cat(torch.atleast_3d(x, c)),
    "index with a list": lambda x, c: x[[0, 1, 1], [2, 0, 1]] * c[0],
    "tensor_split": lambda x, c: sum(part.sum() for part in torch.tensor_split(x, (1, 2), 1)),
}


@pytest.mark.parametrize("name", LISTS)
def test_series_and_constants_inside_lists(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    c, *path = (torch.rand(2, 3, generator=generator, dtype=F64) for _ in range(4))
    y = LISTS[name](tt.TaylorTensor.from_coeffs(path), c)
    assert torch.equal(y.value, LISTS[name](path[0], c))
    expected = derivatives_along(lambda x: LISTS[name](x, c), path, order=2)
    assert summed(y) == pytest.approx(expected, rel=1e-10)


def test_scalars_and_empty_tensors() -> None:
    x = at(0.5, 3)
    assert x.shape == torch.sin(x).shape == (x * 2).shape == ()
    assert coefficients(x.sum()) == coefficients(x.mean()) == [0.5, 1, 0, 0]
    for shape in [(0,), (0, 3), (2, 0)]:
        empty = tt.TaylorTensor(torch.ones(shape, dtype=F64), order=2)
        y = torch.tanh(empty) * empty + empty.exp() @ torch.ones(
            shape[-1:], dtype=F64
        ).sum().expand(shape[-1])[:, None].expand(shape[-1], shape[-1])
        assert isinstance(y, tt.TaylorTensor)
        assert [tuple(c.shape) for c in y.coeffs] == [shape] * 3
        assert coefficients(empty.sum()) == [0, 0, 0]
        assert coefficients(empty.prod()) == [1, 0, 0]
        bundle = tt.TaylorTensor(torch.ones(shape), directions=torch.ones(4, *shape), order=2)
        assert [tuple(c.shape) for c in torch.sin(bundle).coeffs] == [
            shape,
            (4, *shape),
            (4, *shape),
        ]
        assert bundle.sum().coeffs[2].tolist() == [0] * 4
    joined = torch.cat([tt.TaylorTensor(torch.ones(0), order=2), torch.ones(2)])
    assert [tuple(c.shape) for c in joined.coeffs] == [(2,)] * 3


def test_a_bundle_without_directions() -> None:
    x = tt.TaylorTensor(torch.ones(3), directions=torch.ones(0, 3), order=2)
    assert [tuple(c.shape) for c in (x.sin() @ torch.ones(3, 2)).coeffs] == [(2,), (0, 2), (0, 2)]


# --- in place -----------------------------------------------------------------------------------


def rescale(x: torch.Tensor) -> torch.Tensor:
    x = x * 1.0
    x *= 2
    x += x
    x -= 1
    x /= 4
    x **= 2
    return x


def assign(x: torch.Tensor) -> torch.Tensor:
    u = x * x
    u[:, 0] = 0
    u[0, 1:] = x[1, :2]
    u[u > 0.5] = 0.25
    u[[1], [2]] = x.sum()
    u[..., -1:] += x[:, :1]
    return u


def through_a_view(x: torch.Tensor) -> torch.Tensor:
    u = x * x
    row, column = u[0], u.t()[1]
    row.mul_(x[1])
    column.sin_()
    u.view(-1)[::2].exp_()
    return u + row + column.sum()


def into_a_plain_tensor(x: torch.Tensor) -> torch.Tensor:
    u = torch.zeros(2, 3, dtype=F64)
    u[:, 1] = x[:, 0] ** 2
    u += x
    u.index_add_(0, torch.tensor([1]), x[:1])
    return u


def activation_in_place(x: torch.Tensor) -> torch.Tensor:
    y = x - 0.5
    z = F.relu(y, inplace=True)
    return y * z + torch.nn.LeakyReLU(inplace=True)(x - 0.4) + F.elu_(x - 0.6)


def masks(x: torch.Tensor) -> torch.Tensor:
    y = (x * 3).masked_fill_(x > 0.6, 0.1)
    y.clamp_(0.2, 1.5).scatter_(1, torch.tensor([[0], [1]]), x[:, :1])
    y.index_copy_(0, torch.tensor([1]), x[:1] * y[1:])
    return torch.where(y > 1, y * x, y)


@pytest.mark.parametrize(
    "program", [rescale, assign, through_a_view, into_a_plain_tensor, activation_in_place, masks]
)
def test_in_place_programs(program: Callable) -> None:
    generator = torch.Generator().manual_seed(1)
    path = [torch.rand(2, 3, generator=generator, dtype=F64) for _ in range(3)]
    y = program(tt.TaylorTensor.from_coeffs(path))
    assert torch.equal(y.value, program(path[0]))

    # reverse mode forbids most of these programs: differences of higher order in t
    def at_time(t: float) -> torch.Tensor:
        return program(path[0] + t * path[1] + t * t * path[2])

    h = 1e-3
    fm2, fm, f0, fp, fp2 = (at_time(n * h) for n in (-2, -1, 0, 1, 2))
    first = (8 * (fp - fm) - (fp2 - fm2)) / (12 * h)
    second = (16 * (fp + fm) - (fp2 + fm2) - 30 * f0) / (12 * h * h)
    torch.testing.assert_close(y.derivatives[1], first, rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(y.derivatives[2], second, rtol=1e-6, atol=1e-7)


OVERWRITES: dict[str, Callable] = {
    "copy_": lambda x, v: x.copy_(v.expand(2, 3)),
    "copy_ of a constant": lambda x, v: x.copy_(torch.ones((), dtype=F64).expand(2, 3)),
    "fill_": lambda x, v: x.fill_(v),
    "[...] =": lambda x, v: x.__setitem__(..., v),
    "[:] = a row": lambda x, v: x.__setitem__(slice(None), v * double(1, 2, 3)),
    "[0] = a row": lambda x, v: x.__setitem__(0, (v * double(1)).expand(3)),
}


@pytest.mark.parametrize("name", OVERWRITES)
def test_an_overwritten_tensor_has_memory_of_its_own(name: str) -> None:
    """Its views can be written to, whatever was broadcast into it."""
    x, v = tt.TaylorTensor(torch.rand(2, 3, dtype=F64), order=1) * 1.0, at(0.5, 1)
    plain = x.value.clone()
    OVERWRITES[name](x, v)
    x[0].mul_(2)
    OVERWRITES[name](plain, v.value)
    plain[0].mul_(2)
    assert torch.equal(x.value, plain)


def test_in_place_operators_keep_the_object() -> None:
    x = at(2.0, 2) * 1
    for update in (operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ipow):
        assert update(x, 2) is x


# --- masks and modes ----------------------------------------------------------------------------


def test_where_ignores_nan_and_infinity_in_the_branch_not_taken() -> None:
    x = tt.TaylorTensor(double(-1.0, 0.0, 4.0), order=3)
    for y in (torch.where(x > 0, x.sqrt(), x), torch.where(x <= 0, x, x.sqrt())):
        assert [c.tolist() for c in y.coeffs] == [
            [-1, 0, 2],
            [1, 1, 1 / 4],
            [0, 0, -1 / 64],
            [0, 0, 1 / 512],
        ]
    z = torch.where(x > 0, x.log(), 0.0)
    assert z.coeffs[1].tolist() == [0, 0, 1 / 4]


@pytest.mark.parametrize(
    "dropout",
    [
        F.dropout,
        F.dropout1d,
        lambda x: F.dropout2d(x[None])[0],
        lambda x: F.alpha_dropout(x, training=True),
        torch.nn.Dropout(0.5),
    ],
)
def test_dropout_uses_one_mask_for_all_coefficients(dropout: Callable) -> None:
    x0 = torch.rand(3, 4, 5, dtype=F64) + 1
    torch.manual_seed(3)
    plain = dropout(x0)
    torch.manual_seed(3)
    y = dropout(tt.TaylorTensor.from_coeffs([x0, 2 * x0, 3 * x0]))
    torch.testing.assert_close(y.value, plain, rtol=1e-14, atol=1e-14)
    # alpha dropout puts a constant where it drops
    factor = y.coeffs[1] / (2 * x0)
    kept = factor != 0
    assert 0 < kept.sum() < kept.numel()
    assert len(factor[kept].round(decimals=12).unique()) == 1
    assert len(plain[~kept].round(decimals=12).unique()) == 1
    torch.testing.assert_close(y.coeffs[2], 3 * x0 * factor)


NORMALISATIONS: dict[str, Callable] = {
    "softmax": lambda x: F.softmax(x, -1),
    "log_softmax": lambda x: F.log_softmax(x, -1),
    "layer_norm": lambda x: F.layer_norm(x, (3,)),
    "rms_norm": lambda x: F.rms_norm(x, (3,)),
    "batch_norm": lambda x: F.batch_norm(x, None, None, training=True),
}


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_a_normalised_transpose_is_laid_out_as_torch_does(name: str) -> None:
    """``view`` depends on it, and the mask that dropout draws."""
    f, x = NORMALISATIONS[name], torch.linspace(-1, 1, 24, dtype=F64).reshape(2, 3, 4).mT
    torch.manual_seed(0)
    expected = F.dropout(f(x).view(-1), 0.5)
    torch.manual_seed(0)
    y = F.dropout(f(tt.TaylorTensor(x)).view(-1), 0.5)
    torch.testing.assert_close(y.value, expected)


def test_dropout_in_evaluation_is_the_identity() -> None:
    x = at(0.5, 2)
    assert coefficients(torch.nn.Dropout(0.9).eval()(x)) == coefficients(x)


def test_batch_norm_in_training_updates_its_statistics_once() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)).double()
    other = copy.deepcopy(module)
    x0, v = torch.rand(2, 6, 3, dtype=F64)
    y = module(tt.TaylorTensor(x0, v, order=2))
    plain = other(x0)
    torch.testing.assert_close(y.value, plain, rtol=1e-12, atol=1e-12)
    for mine, theirs in zip(module.buffers(), other.buffers(), strict=True):
        assert type(mine) is torch.Tensor
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
    assert module[1].num_batches_tracked == 1
    weights = torch.rand(6, 4, dtype=F64)
    expected = along(lambda xs: [other(xs[0])], [[x0, v]], 2, [weights])
    for k in (1, 2):
        actual = (y.derivatives[k] * weights).sum()
        torch.testing.assert_close(actual, expected[k].detach(), rtol=1e-9, atol=1e-10)


def test_detach_drops_the_series_and_no_grad_does_not() -> None:
    x = at(2.0, 2)
    detached = x.detach()
    assert type(detached) is torch.Tensor
    assert detached.item() == 2
    assert coefficients(x * detached) == [4, 2, 0]
    with torch.no_grad():
        assert coefficients(x * x) == [4, 4, 1]
    with torch.inference_mode():
        assert coefficients(x * x) == [4, 4, 1]


def test_no_grad_drops_gradients_in_parameters_as_for_plain_tensors() -> None:
    w = torch.tensor(3.0, requires_grad=True)
    x = tt.TaylorTensor(torch.tensor(2.0), order=1)
    with torch.no_grad():
        y = x * w
    assert not any(c.requires_grad for c in y.coeffs)
    assert all(c.requires_grad for c in (x * w).coeffs)


# --- dtypes -------------------------------------------------------------------------------------


def single(order: int = 2) -> tt.TaylorTensor:
    return tt.TaylorTensor(torch.tensor([0.5, 2.0]), order=order)


PROMOTIONS: list[tuple[Callable, torch.dtype]] = [
    (lambda x: x * 2, torch.float32),
    (lambda x: x + 0.1, torch.float32),
    (lambda x: x * double(1.0, 2.0), F64),
    (lambda x: x + torch.tensor(1.0, dtype=F64), torch.float32),
    (lambda x: double(1.0, 2.0) / x, F64),
    (lambda x: x ** double(2.0, 3.0), F64),
    (lambda x: torch.atan2(x, double(1.0, 2.0)), F64),
    (lambda x: torch.where(x > 1, x, double(1.0, 2.0)), F64),
    (lambda x: torch.cat([x, double(1.0)]), F64),
    (lambda x: torch.stack([double(1.0, 2.0), x]), F64),
    (lambda x: x * torch.tensor([1, 2]), torch.float32),
    (lambda x: x * torch.tensor([True, False]), torch.float32),
    (lambda x: x**2 + x.half(), torch.float32),
    (lambda x: x * 1j, torch.complex64),
    (lambda x: x + torch.ones(2, dtype=torch.complex128), torch.complex128),
    (lambda x: x.sum(dtype=F64), F64),
    (lambda x: x.to(F64).sin(), F64),
    (lambda x: x.double().float(), torch.float32),
    (lambda x: x.to(torch.bfloat16), torch.bfloat16),
    (lambda x: torch.softmax(x, 0, dtype=F64), F64),
    (lambda x: torch.maximum(x, double(1.0, 1.0)), F64),
    (lambda x: torch.addcmul(x, x, x), torch.float32),
]


@pytest.mark.parametrize(("f", "dtype"), PROMOTIONS)
def test_every_coefficient_has_the_dtype_that_torch_promotes_to(
    f: Callable, dtype: torch.dtype
) -> None:
    y = f(single())
    assert f(single().value).dtype == dtype
    assert y.dtype == dtype
    assert {c.dtype for c in y.coeffs} == {dtype}
    assert torch.equal(y.value, f(single().value))


def test_a_double_constant_is_not_rounded_to_the_dtype_of_the_series() -> None:
    y = single() * double(1 / 3, 1 / 3)
    assert y.coeffs[1].tolist() == [1 / 3, 1 / 3]


@pytest.mark.parametrize(
    "f",
    [
        torch.exp,
        torch.sin,
        torch.tanh,
        torch.log,
        torch.sqrt,
        torch.reciprocal,
        torch.square,
        torch.abs,
        lambda z: z**3,
        lambda z: z**-2,
        lambda z: z**1.5,
        lambda z: z * z.conj(),
        lambda z: z.real * z.imag,
        lambda z: torch.view_as_real(z).sin(),
        lambda z: z @ z,
        lambda z: z / (1 + 2j - z),
        lambda z: torch.angle(z),
        lambda z: torch.complex(z.imag, z.real),
        lambda z: z.mean().mH if z.ndim > 1 else z.mean().conj(),
    ],
)
def test_complex_functions_along_a_complex_path(f: Callable) -> None:
    path = [
        torch.tensor([0.5 + 0.3j, 1.2 - 0.7j], dtype=torch.complex128),
        torch.tensor([0.2 - 1.0j, 0.4 + 0.1j], dtype=torch.complex128),
        torch.tensor([-0.3j, 0.6], dtype=torch.complex128),
    ]
    y = f(tt.TaylorTensor.from_coeffs(path))
    torch.testing.assert_close(y.value, f(path[0]), rtol=1e-14, atol=1e-14)
    weights = torch.tensor(0.3 - 1.1j, dtype=torch.complex128)
    if not y.is_complex():
        weights = weights.real
    expected = along(lambda xs: [f(xs[0])], [path], 2, [weights])
    for k in (1, 2):
        d = y.derivatives[k]
        actual = (
            d.real * weights.real + d.imag * weights.imag if d.is_complex() else d * weights
        ).sum()
        torch.testing.assert_close(actual, expected[k].detach(), rtol=1e-10, atol=1e-11)


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(3, 16), torch.nn.Tanh(), torch.nn.Linear(16, 16), torch.nn.SiLU(),
        torch.nn.Linear(16, 1),
    )  # fmt: skip


def test_autocast_stays_close_to_single_precision() -> None:
    model, x0 = network(), torch.rand(8, 3)
    directions = torch.eye(3).reshape(3, 1, 3)
    single_precision = model(tt.TaylorTensor(x0, directions=directions, order=2))
    with torch.autocast("cpu", torch.bfloat16):
        y = model(tt.TaylorTensor(x0, directions=directions, order=2))
        plain = model(x0)
    assert y.dtype == plain.dtype == torch.bfloat16
    torch.testing.assert_close(y.value, plain, rtol=1e-2, atol=1e-2)
    for k in (1, 2):
        a, b = y.coeffs[k].float(), single_precision.coeffs[k]
        assert y.coeffs[k].dtype == torch.bfloat16
        assert ((a - b).norm() / b.norm()).item() < 0.05


# --- parameters ---------------------------------------------------------------------------------


def test_coefficients_are_twice_differentiable_in_the_parameters() -> None:
    x0, v = torch.rand(2, 3, 2, dtype=F64)

    def coefficients_of(w: torch.Tensor, b: torch.Tensor, base: torch.Tensor) -> tuple:
        y = torch.tanh(tt.TaylorTensor(base, v, order=3) @ w + b)
        y = F.silu(y) / (1 + y.square()) + F.softplus(y).sqrt() * torch.softmax(y, -1)
        return y.sum(0).coeffs

    generator = torch.Generator().manual_seed(0)
    w, b = (torch.rand(s, generator=generator, dtype=F64).requires_grad_() for s in [(2, 2), (2,)])
    arguments = (w, b, x0.clone().requires_grad_())
    assert torch.autograd.gradcheck(coefficients_of, arguments)
    assert torch.autograd.gradgradcheck(coefficients_of, arguments)


def test_gradients_of_every_parameter_equal_nested_autograd() -> None:
    model, x0 = network().double(), torch.rand(4, 3, dtype=F64)
    v = torch.rand(4, 3, dtype=F64)
    weights = torch.rand(4, 1, dtype=F64)
    y = model(tt.TaylorTensor(x0, v, order=2))
    expected = along(lambda xs: [model(xs[0])], [[x0, v]], 2, [weights])
    for k in (0, 1, 2):
        mine = torch.autograd.grad(
            (y.derivatives[k] * weights).sum(),
            list(model.parameters()),
            retain_graph=True,
            materialize_grads=True,
        )
        theirs = torch.autograd.grad(
            expected[k], list(model.parameters()), retain_graph=True, materialize_grads=True
        )
        for a, b in zip(mine, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("f", [torch.logaddexp, torch.logaddexp2])
def test_logaddexp_at_equal_terms_and_at_infinity(f: Any) -> None:
    """At a tie the slope is 1/2 but still moves; two terms -inf must not give NaN."""
    base = {torch.logaddexp: 1.0, torch.logaddexp2: math.log(2.0)}[f]
    a = tt.TaylorTensor(torch.tensor([1.5], dtype=torch.float64))
    y = f(a, torch.tensor([1.5], dtype=torch.float64))
    torch.testing.assert_close(y.derivatives[1], torch.tensor([0.5], dtype=torch.float64))
    torch.testing.assert_close(y.derivatives[2], torch.tensor([base / 4], dtype=torch.float64))
    lost = torch.tensor([-math.inf], dtype=torch.float64)
    assert f(tt.TaylorTensor(lost), lost).coeffs[1].item() == 0.5
