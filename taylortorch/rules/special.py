"""Special functions, orthogonal polynomials, and what is left of torch's numerical functions.

Where torch knows no derivative of a function (the Bessel family), the value goes through one made
here from the same formula, so gradients in parameters pass through a coefficient of any degree.

Source of the formulas: NIST Digital Library of Mathematical Functions (DLMF), by equation number.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from .. import series
from ..kinds import bind, composite, in_place, is_constant, multilinear, series_among, slope
from ..registry import Evaluator, Sample, UnsupportedFunction, add_rule, call, t
from ..tensor import TaylorTensor, blocks_at, innermost, join, run, wrap
from ..writing import store

ROOT_HALF, ROOT_2PI = math.sqrt(0.5), math.sqrt(2 * math.pi)
ROOT_PI = math.sqrt(math.pi)

# --- Bessel functions -----------------------------------------------------------------------------


class _Known(torch.autograd.Function):
    """An elementwise function with a derivative of ours, for one that torch has none of."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: torch.Tensor, function: Callable, derivative: Callable) -> torch.Tensor:
        return function(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        x, _, ctx.derivative = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, None, None]:
        (x,) = ctx.saved_tensors
        return grads[0] * ctx.derivative(x), None, None


def _known(function: Callable, derivative: Callable) -> Callable:
    def either(x: Any) -> Any:
        if isinstance(x, TaylorTensor) or not x.requires_grad:
            return function(x)
        return _Known.apply(x, function, derivative)

    return either


def _paired(values: Sequence[Callable], slopes: Sequence[Callable], which: int) -> Evaluator:
    """One of two functions whose derivatives are made of both: ``f' = g(x, f_0, f_1) x'``.

    Both series grow together, a degree at a time; each calling for the other's would take as many
    calls as there are Fibonacci numbers.
    """

    def evaluate(func: Callable, args: tuple, kwargs: dict) -> Any:
        (x,), _, _ = bind(func, ("input",), args, kwargs)
        series_among(func, (x,))
        level, structure, order = join(func, (x,), by_entry=True)
        blocks = x._blocks
        if order == 0 or is_constant(blocks):
            return wrap((values[which](blocks[0]),) + (None,) * order, structure, level)
        starts = [value(blocks[0]) for value in values]
        grown: list[Any] = [(start,) for start in starts]
        for k in range(1, order + 1):
            lower, here = structure.truncated(k - 1), structure.truncated(k)
            known = [b[0] if k == 1 else wrap(b, lower, level) for b in (blocks[:k], *grown)]
            for n in (0, 1) if k < order else (which,):
                slope = blocks_at(run(slopes[n], *known), level, lower, k - 1)
                grown[n] = tuple(series.integrate(here, starts[n], (blocks[: k + 1], slope)))
        return wrap(grown[which], structure, level)

    return evaluate


def _over_argument(x: Any, f: Any, sign: int, scaled: bool = False) -> Any:
    """``f(x) / x`` for J1 (sign -1) or I1 (sign 1), by the power series near 0.

    ``f(x) / x = 1/2 sum_k (sign x^2 / 4)^k / (k! (k + 1)!)`` (DLMF 10.2.2, 10.25.2).
    """
    near = torch.abs(x) < 4
    small = torch.where(near, x, 0.0)
    z = torch.square(small) * (sign / 4)
    total: Any = 0.0
    for k in range(24, -1, -1):
        total = total * z + 0.5 / (math.factorial(k) * math.factorial(k + 1))
    if scaled:
        total = total * torch.exp(-torch.abs(small))
    return torch.where(near, total, f / torch.where(near, 5.0, x))


FAR_I, FAR_K = (1 / ROOT_2PI, -1), (math.sqrt(math.pi / 2), 1)


def _is_far(x: Any) -> Any:
    """Where the asymptotic series of the scaled functions has all digits of the dtype."""
    return torch.abs(x) > (25 if x.dtype == torch.float64 else 12)


def _far_slope(x: Any, nu: int, first: float, sign: int) -> Any:
    """The slope of a scaled modified Bessel function at ``x > 0``, term by term.

    The function is ``first / sqrt(x) sum_k sign^k a_k / x^k`` (DLMF 10.40.1, 10.40.2). The
    difference of two functions that are almost equal, which the slope is as well, loses a factor
    ``2 x`` in accuracy with every order.
    """
    terms, a = [], first
    for k in range(30 if x.dtype == torch.float64 else 20):
        terms.append(-(k + 0.5) * a)
        a *= sign * (4 * nu * nu - (2 * k + 1) ** 2) / (8 * (k + 1))
    far = torch.where(_is_far(x), x, 25.0)
    u = 1 / far
    total: Any = 0.0
    for term in reversed(terms):
        total = total * u + term
    return total * u * torch.rsqrt(far)


SIGNED = t(2, 3, low=-3, high=3)
# torch 2.13's own J and Y are right to 1e-7 only between 3 and 10
NEAR = [call(t(2, 3, low=-2, high=2)), call(t(2, 3, low=-0.1, high=0.1))]
POSITIVE = [call(t(2, 3, low=0.5, high=2))]

# f_0, f_1; their derivatives from x, f_0(x), f_1(x); samples.
# J, Y: DLMF 10.6.3 and 10.6.2; I, K: 10.29.3 and 10.29.2; the scaled ones by the product rule
PAIRS: list[tuple[str, str, Callable, Callable, list[Sample]]] = [
    (
        "special.bessel_j0",
        "special.bessel_j1",
        lambda x, f, g: -g,
        lambda x, f, g: f - _over_argument(x, g, -1),
        NEAR,
    ),
    (
        "special.bessel_y0",
        "special.bessel_y1",
        lambda x, f, g: -g,
        lambda x, f, g: f - g / x,
        POSITIVE,
    ),
    (
        "i0 special.i0",
        "special.i1",
        lambda x, f, g: g,
        lambda x, f, g: f - _over_argument(x, g, 1),
        [call(SIGNED)],
    ),
    (
        "special.modified_bessel_i0",
        "special.modified_bessel_i1",
        lambda x, f, g: g,
        lambda x, f, g: f - _over_argument(x, g, 1),
        NEAR,
    ),
    (
        "special.i0e",
        "special.i1e",
        lambda x, f, g: torch.where(
            _is_far(x),
            torch.sgn(x) * _far_slope(torch.abs(x), 0, *FAR_I),
            g - torch.sgn(x) * f,
        ),
        lambda x, f, g: torch.where(
            _is_far(x),
            _far_slope(torch.abs(x), 1, *FAR_I),
            f - _over_argument(x, g, 1, True) - torch.sgn(x) * g,
        ),
        [call(SIGNED)],
    ),
    (
        "special.modified_bessel_k0",
        "special.modified_bessel_k1",
        lambda x, f, g: -g,
        lambda x, f, g: -f - g / x,
        POSITIVE,
    ),
    (
        "special.scaled_modified_bessel_k0",
        "special.scaled_modified_bessel_k1",
        lambda x, f, g: torch.where(_is_far(x), _far_slope(x, 0, *FAR_K), f - g),
        lambda x, f, g: torch.where(_is_far(x), _far_slope(x, 1, *FAR_K), g - f - g / x),
        POSITIVE,
    ),
]


def _with_gradients(names: Sequence[str], slopes: Sequence[Callable]) -> list[Callable]:
    """The two functions of a pair, in a form that torch can differentiate."""
    functions = [getattr(torch.special, name.split("special.")[-1]) for name in names]
    if names[1] in ("special.i1", "special.i1e"):
        return functions
    values: list[Callable] = []

    def derivative(n: int) -> Callable:
        return lambda x: slopes[n](x, values[0](x), values[1](x))

    values += [_known(function, derivative(n)) for n, function in enumerate(functions)]
    return values


for *both, first, second, samples in PAIRS:
    values = _with_gradients(both, (first, second))
    for which, names in enumerate(both):
        evaluate = _paired(values, (first, second), which)
        add_rule(
            names, "pair", "y' = g(x, y, z) x'", evaluate, samples, in_place=in_place(evaluate)
        )


def _spherical_bessel_j0(z: Any) -> Any:
    """``sin(z) / z`` (DLMF 10.49.3), by its power series near 0 where the quotient cancels; 0 at
    infinity."""
    near, beyond = torch.abs(z) < 3, torch.isinf(z)
    square = torch.square(torch.where(near, z, 0.0))
    total: Any = 0.0
    for n in range(24, -1, -1):
        total = total * square + (-1) ** n / math.factorial(2 * n + 1)
    away = torch.where(near | beyond, 4.0, z)
    return torch.where(near, total, torch.where(beyond, 0.0, torch.sin(away) / away))


add_rule(
    "special.spherical_bessel_j0",
    "composite",
    "sin(x) / x",
    composite(_spherical_bessel_j0),
    [call(SIGNED), call(t(2, 3, low=-0.2))],
)

# --- functions whose derivative is known ----------------------------------------------------------


def _erfcx_shares(x: Any, y: Any, order: int) -> list:
    """``c_k / c_0`` for ``c_k = (-2)^k e^(x^2) i^k erfc(x)`` (DLMF 7.18.4), ``c_0 = y``.

    By the recurrence ``k c_k = 2 x c_{k-1} + 2 c_{k-2}`` (7.18.7). Upwards it loses its digits to
    the right of 1. There the ratios of neighbours are found downwards, from a degree so high that
    the error of the first dies out (Miller's algorithm).
    """
    right = x > 1
    z, w = torch.where(right, x, 1.0), torch.where(right, 0.0, x)
    last = order + (160 if x.dtype == torch.float64 else 50)
    ratio = -2 / (z + torch.sqrt(torch.square(z) + 2 * last))
    ratios = []
    for k in range(last, 1, -1):
        ratio = 2 / (k * ratio - 2 * z)
        ratios.append(ratio)
    before, upward, result = -1 / (ROOT_PI * y), torch.ones_like(x), [torch.ones_like(x)]
    for k in range(1, order + 1):
        before, upward = upward, (2 * w * upward + 2 * before) / k
        result.append(torch.where(right, result[-1] * ratios[-k], upward))
    return result


def _erfcx_coefficients(x: Any, y: Any, order: int) -> list:
    return [y, *(y * share for share in _erfcx_shares(x, y, order)[1:])]


def _log_ndtr_coefficients(x: Any, y: Any, order: int) -> list:
    """From the logarithm of the series of ``Phi``, divided by its value.

    To the left of 0 ``log Phi(x) = log(erfcx(-x / sqrt 2) / 2) - x^2 / 2``; to the right its
    derivatives are Hermite polynomials (DLMF 7.10.1), which round to 0 beyond 50.
    """
    right = x > 0
    u = torch.where(right, 0.0, x * -ROOT_HALF)
    left = _erfcx_shares(u, torch.special.erfcx(u), order)
    left = _logarithm([share * (-ROOT_HALF) ** k for k, share in enumerate(left)])
    v = torch.clamp(torch.where(right, x, 0.0), max=50.0)
    density = torch.exp(-0.5 * torch.square(v)) / (ROOT_2PI * torch.special.ndtr(v))
    before, hermite, shares = torch.zeros_like(v), density, [torch.ones_like(v)]
    for k in range(1, order + 1):
        shares.append(hermite * ((-1) ** (k - 1) / math.factorial(k)))
        before, hermite = hermite, v * hermite - (k - 1) * before
    result = [y]
    for k, (a, b) in enumerate(zip(left, _logarithm(shares), strict=True)):
        if k > 0:
            result.append(torch.where(right, b, a - x if k == 1 else a - 0.5 if k == 2 else a))
    return result


def _logarithm(a: Sequence[Any]) -> list:
    """The logarithm of a series with the value 1: ``k y_k = k a_k - sum_j j y_j a_{k-j}``."""
    y = [torch.zeros_like(a[0])]
    for k in range(1, len(a)):
        known = sum((j * y[j] * a[k - j] for j in range(1, k)), 0.0)
        y.append(a[k] - known / k)
    return y


def _by_coefficients(coefficients: Callable) -> Evaluator:
    """``f(x)`` from ``coefficients(x_0, f(x_0), order)``, the coefficients of ``f`` at ``x_0``."""

    def evaluate(func: Callable, args: tuple, kwargs: dict) -> Any:
        (x,), _, _ = bind(func, ("input",), args, kwargs)
        series_among(func, (x,))
        level, structure, order = join(func, (x,), by_entry=True)
        value = x._blocks[0]
        f = run(coefficients, value, run(func, value), order)
        return wrap(series.compose(structure, f, x._blocks), structure, level)

    return evaluate


for name, coefficients, says, samples in (
    (
        "special.erfcx",
        _erfcx_coefficients,
        "k c_k = 2 x c_{k-1} + 2 c_{k-2}",
        [call(SIGNED), call(t(3, low=3, high=9))],
    ),
    (
        "special.log_ndtr",
        _log_ndtr_coefficients,
        "logarithm of the series of Phi",
        [call(SIGNED), call(t(3, low=-14, high=-6)), call(t(3, low=3, high=6))],
    ),
):
    rule = _by_coefficients(coefficients)
    add_rule(name, "by hand", says, rule, samples, in_place=in_place(rule))


def _not_in(argument: str, function: str) -> Callable:
    def refused(*args: Any) -> Any:
        raise UnsupportedFunction(
            f"{function} has no known derivative in its {argument} argument: pass x.value there"
        )

    return refused


def _gamma_density(a: Any, x: Any) -> Any:
    """``x^(a-1) e^-x / Gamma(a)`` (DLMF 8.8.13)."""
    return torch.exp(torch.xlogy(a - 1, x) - x - torch.lgamma(a))


def _multigamma_slope(x: Any, p: int) -> Any:
    """``log Gamma_p(a) = p (p - 1) / 4 log pi + sum_j log Gamma(a - j / 2)`` (DLMF 35.3.4)."""
    total = torch.digamma(x)
    for j in range(1, p):
        total = total + torch.digamma(x - j / 2)
    return total


# DLMF 8.8.13 and 8.8.14; 25.11.17
SLOPE: dict[str, tuple[Any, list[Sample]]] = {
    "mvlgamma special.multigammaln": (_multigamma_slope, [call(t(2, 3, low=2, high=4), 3)]),
    "igamma special.gammainc": (
        (_not_in("first", "torch.special.gammainc"), _gamma_density),
        [call(torch.tensor([0.7, 1.0, 2.5], dtype=torch.float64), t(2, 3, high=3.0))],
    ),
    "igammac special.gammaincc": (
        (_not_in("first", "torch.special.gammaincc"), lambda a, x: -_gamma_density(a, x)),
        [call(torch.tensor([0.7, 1.0, 2.5], dtype=torch.float64), t(2, 3, high=3.0))],
    ),
    "special.zeta": (
        (
            _not_in("first", "torch.special.zeta"),
            lambda s, q: -s * torch.special.zeta(s + 1, q),
        ),
        [call(2.5, t(2, 3, low=0.5, high=3.0)), call(torch.tensor([2.0, 3.5, 4.0]).double(), t(3))],
    ),
}
for names, (derivatives, samples) in SLOPE.items():
    pair = isinstance(derivatives, tuple)
    evaluate = slope(*derivatives) if pair else slope(derivatives)
    says = "y' = g(x, other) other'" if pair else "y' = g(x) x'"
    add_rule(names, "slope", says, evaluate, samples, in_place=in_place(evaluate))

# --- orthogonal polynomials -----------------------------------------------------------------------

# by the three-term recurrences, DLMF table 18.9.1: p_0 = 1, p_1, and p_{k+1} from p_k, p_{k-1}
POLYNOMIALS: dict[str, tuple[Callable, Callable]] = {
    "chebyshev_polynomial_t": (lambda x: x, lambda x, k, p, q: 2 * x * p - q),
    "chebyshev_polynomial_u": (lambda x: 2 * x, lambda x, k, p, q: 2 * x * p - q),
    "chebyshev_polynomial_v": (lambda x: 2 * x - 1, lambda x, k, p, q: 2 * x * p - q),
    "chebyshev_polynomial_w": (lambda x: 2 * x + 1, lambda x, k, p, q: 2 * x * p - q),
    "hermite_polynomial_h": (lambda x: 2 * x, lambda x, k, p, q: 2 * (x * p - k * q)),
    "hermite_polynomial_he": (lambda x: x, lambda x, k, p, q: x * p - k * q),
    "laguerre_polynomial_l": (
        lambda x: 1 - x,
        lambda x, k, p, q: ((2 * k + 1 - x) * p - k * q) / (k + 1),
    ),
    "legendre_polynomial_p": (
        lambda x: x,
        lambda x, k, p, q: ((2 * k + 1) * x * p - k * q) / (k + 1),
    ),
}


def _polynomial(first: Callable, following: Callable, shift: bool = False) -> Callable:
    """``p_n(x)`` for a number ``n``, or for a tensor of them that broadcasts with ``x``.

    A shifted polynomial is one of ``2 x - 1``.
    """

    def body(x: Any, n: Any) -> Any:
        if isinstance(n, TaylorTensor):
            raise UnsupportedFunction(
                "an orthogonal polynomial has no derivative in its degree: pass n.value"
            )
        x = 2 * x - 1 if shift else x
        several = isinstance(n, torch.Tensor) and n.ndim > 0
        wanted: Any = torch.trunc(n) if several else None
        last = int(max(n.flatten().tolist(), default=0)) if several else int(n)
        before, now = torch.zeros_like(x), torch.ones_like(x)
        shape = torch.broadcast_shapes(x.shape, n.shape) if several else tuple(x.shape)
        result: Any = torch.broadcast_to(before, shape)
        for k in range(last + 1):
            if k == 1:
                before, now = now, first(x)
            elif k > 1:
                before, now = now, following(x, k - 1, now, before)
            if several:
                result = torch.where(wanted == k, now, result)
        return result if several else (now if last >= 0 else before)

    return body


for shift in (False, True):
    for name, (first, following) in POLYNOMIALS.items():
        if shift and not name.startswith("chebyshev"):
            continue
        X = t(2, 3) if shift else t(2, 3, low=-0.8)
        degrees = torch.tensor([0.0, 1.0, 4.0], dtype=torch.float64)
        add_rule(
            f"special.shifted_{name}" if shift else f"special.{name}",
            "composite",
            "three-term recurrence",
            composite(_polynomial(first, following, shift)),
            [call(X, 5), call(X, 0), call(X, 1), call(X, degrees)],
        )

# --- sums, integrals and statistics ---------------------------------------------------------------


def _logcumsumexp(input: Any, dim: int) -> Any:
    """Doubling: log2(n) steps of ``log(e^a + e^b)``, which never leaves the range of its terms."""
    x = input
    count, step = (x.shape[dim] if x.ndim else 1), 1
    while step < count:
        head = torch.narrow(x, dim, 0, step)
        tail = torch.narrow(x, dim, step, count - step)
        shifted = torch.narrow(x, dim, 0, count - step)
        # two terms -inf have no slope, but must not spoil the sums they are part of
        nothing = (tail == -torch.inf) & (shifted == -torch.inf)
        total = torch.logaddexp(torch.where(nothing, 0.0, tail), torch.where(nothing, 0.0, shifted))
        x = torch.cat([head, torch.where(nothing, -torch.inf, total)], dim)
        step *= 2
    if x.is_complex() and x is not input:
        # a logarithm is one of many; torch, adding one term after the other, finds its own
        own = torch.logcumsumexp(innermost(input).detach(), dim)
        turns = torch.round((own.imag - innermost(x).detach().imag) / math.tau).nan_to_num()
        x = x + torch.complex(torch.zeros_like(turns), math.tau * turns)
    return torch.clone(x) if x is input else x


def _panels(y: Any, x: Any, dx: Any, dim: int) -> Any:
    """The area of each trapezoid."""
    count = y.shape[dim]
    sums = torch.narrow(y, dim, 1, count - 1) + torch.narrow(y, dim, 0, count - 1)
    if x is None:
        return sums * (dx / 2)
    axis = dim
    if x.ndim == 1:
        shape = [1] * y.ndim
        shape[dim] = x.shape[0]
        x = torch.reshape(x, tuple(shape))
    elif x.ndim < y.ndim:
        x = torch.reshape(x, (1,) * (y.ndim - x.ndim) + tuple(x.shape))
    widths = x.shape[axis] - 1
    return sums * (torch.narrow(x, axis, 1, widths) - torch.narrow(x, axis, 0, widths)) / 2


def _trapezoid(y: Any, x: Any = None, *, dx: Any = 1.0, dim: int = -1) -> Any:
    if y.shape[dim] == 0:
        return torch.sum(y, dim)
    return torch.sum(_panels(y, x, dx, dim), dim)


def _cumulative_trapezoid(y: Any, x: Any = None, *, dx: Any = 1.0, dim: int = -1) -> Any:
    return torch.cumsum(_panels(y, x, dx, dim), dim)


def _cov(input: Any, *, correction: int = 1, fweights: Any = None, aweights: Any = None) -> Any:
    x = input.reshape((1, -1)) if input.ndim < 2 else input
    weights = fweights
    if aweights is not None:
        weights = aweights if fweights is None else fweights * aweights
    total: Any = x.shape[1] if weights is None else torch.sum(weights)
    if correction != 0 and aweights is not None:
        squares = weights * aweights
        freedom = total - correction * torch.sum(squares) / total
    else:
        freedom = total - correction
    # not below zero, as in torch
    freedom = torch.clamp(freedom, min=0) if isinstance(freedom, torch.Tensor) else max(freedom, 0)
    weighted = x if weights is None else x * weights
    centred = x - torch.sum(weighted, 1, keepdim=True) / total
    left = centred if weights is None else centred * weights
    right = torch.conj(centred) if x.is_complex() else centred
    result = torch.matmul(left, torch.transpose(right, 0, 1)) / freedom
    return torch.reshape(result, ()) if x.shape[0] == 1 else result


def _corrcoef(input: Any) -> Any:
    covariance = _cov(input)
    if covariance.ndim == 0:
        return covariance / covariance
    deviation = torch.sqrt(torch.diagonal(covariance).real)
    result = covariance / torch.unsqueeze(deviation, 1) / deviation
    return result if result.is_complex() else torch.clamp(result, -1, 1)


def _combinations(input: Any, r: int = 2, with_replacement: bool = False) -> Any:
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    chosen = list(choose(range(input.shape[0]), r))
    places = torch.tensor(chosen, dtype=torch.long, device=input.device).reshape(-1)
    return torch.reshape(torch.index_select(input, 0, places), (len(chosen), r) if r else (0,))


def _renorm(input: Any, p: float, dim: int, maxnorm: float) -> Any:
    """Slices along ``dim`` of a larger norm are scaled to ``maxnorm``; torch adds 1e-7 to it."""
    axes = tuple(axis for axis in range(input.ndim) if axis != dim % input.ndim)
    norm = torch.linalg.vector_norm(input, p, axes, True)
    over = norm > maxnorm
    return input * torch.where(over, maxnorm / (torch.where(over, norm, 1.0) + 1e-7), 1.0)


def _polar(abs: Any, angle: Any) -> Any:
    return torch.complex(abs * torch.cos(angle), abs * torch.sin(angle))


def _quantile(skip_nan: bool) -> Callable:
    """Sorted entries, interpolated at rank ``q (n - 1)``."""

    def body(
        input: Any,
        q: Any,
        dim: int | None = None,
        keepdim: bool = False,
        *,
        interpolation: str = "linear",
    ) -> Any:
        many = isinstance(q, torch.Tensor) and q.ndim > 0
        rank = input.ndim
        x = torch.reshape(input, (-1,)) if dim is None else torch.movedim(input, dim, -1)
        x = torch.sort(torch.reshape(x, (1,)) if x.ndim == 0 else x, -1).values
        if not isinstance(q, torch.Tensor):
            q = torch.tensor(q, dtype=x.dtype, device=x.device)
        missing = torch.isnan(x)
        counts = x.shape[-1] - torch.sum(missing, -1, keepdim=True)
        ranks = torch.reshape(q, (-1,)) * (torch.clamp(counts, min=1) - 1)
        if not skip_nan:
            # one NaN makes a NaN of the result, and they are sorted last
            whole = torch.reshape(q, (-1,)) * float(x.shape[-1] - 1)
            ranks = torch.where(counts < x.shape[-1], float(x.shape[-1] - 1), whole)
        at = ranks.detach()
        below, above = torch.floor(at), torch.ceil(at)
        if interpolation == "nearest":
            below = above = torch.round(at)
        elif interpolation == "lower":
            above = below
        elif interpolation == "higher":
            below = above
        low = torch.gather(x, -1, below.long())
        if below is above:
            result = low
        else:
            high = torch.gather(x, -1, above.long())
            # two equal entries, or two infinite ones, need no interpolation
            weight = 0.5 if interpolation == "midpoint" else ranks - below
            result = torch.where(below == above, low, low + weight * (high - low))
            if isinstance(ranks, TaylorTensor):
                result = low + weight * (high - low)
        if keepdim:
            if dim is None:
                result = torch.reshape(result, (1,) * rank + tuple(result.shape))
            elif rank > 0:
                result = torch.unsqueeze(result, dim % rank)
        return torch.movedim(result, -1, 0) if many else torch.squeeze(result, -1)

    return body


# --- reductions into places -----------------------------------------------------------------------


def _scatter_reduce(
    input: Any, dim: int, index: Any, src: Any, reduce: str, *, include_self: bool = True
) -> Any:
    """Ties of ``amax`` and ``amin`` share the slope equally, as autograd's."""
    if input.ndim == 0:
        x, places, source = (torch.reshape(a, (1,)) for a in (input, index, src))
        result = _scatter_reduce(x, 0, places, source, reduce, include_self=include_self)
        return torch.reshape(result, ())
    for axis, size in enumerate(index.shape):
        src = torch.narrow(src, axis, 0, size)
    like = {"dtype": innermost(input).real.dtype, "device": input.device}
    ones = torch.ones(tuple(index.shape), **like)
    hits = torch.scatter_add(torch.zeros(tuple(input.shape), **like), dim, index, ones)
    kept = torch.ones_like(hits) if include_self else (hits == 0).to(hits.dtype)
    if reduce in ("sum", "mean"):
        start = input if include_self else torch.where(kept > 0, input, 0.0)
        total = torch.scatter_add(start, dim, index, src)
        return total if reduce == "sum" else total / torch.clamp(hits + kept, min=1)
    if reduce == "prod":
        result = input if include_self else torch.where(kept > 0, input, 1.0)
        for n in range(index.shape[dim]):
            # no two entries of a slice meet in one place
            places = torch.narrow(index, dim, n, 1)
            factor = torch.gather(result, dim, places) * torch.narrow(src, dim, n, 1)
            result = torch.scatter(result, dim, places, factor)
        return result
    best = torch.scatter_reduce(
        innermost(input), dim, index, innermost(src), reduce, include_self=include_self
    )
    winning = innermost(src) == torch.gather(best, dim, index)
    staying = (innermost(input) == best) & (kept > 0)
    winners = torch.scatter_add(staying.to(input.dtype), dim, index, winning.to(input.dtype))
    total = torch.scatter_add(
        torch.where(staying, input, 0.0), dim, index, torch.where(winning, src, 0.0)
    )
    return total / winners


def _index_reduce(
    input: Any, dim: int, index: Any, source: Any, reduce: str, *, include_self: bool = True
) -> Any:
    if input.ndim == 0:
        return _scatter_reduce(
            input, 0, index.reshape(()), source.reshape(()), reduce, include_self=include_self
        )
    shape = [1] * source.ndim
    shape[dim] = -1
    places = index.long().reshape(shape).expand(tuple(source.shape))
    return _scatter_reduce(input, dim, places, source, reduce, include_self=include_self)


def _put(input: Any, index: Any, source: Any, accumulate: bool = False) -> Any:
    flat = torch.reshape(input, (-1,))
    places = index.reshape(-1)
    places = torch.where(places < 0, places + flat.shape[0], places)
    values = torch.reshape(source, (-1,))
    write = torch.index_add if accumulate else torch.index_copy
    return torch.reshape(write(flat, 0, places, values), tuple(input.shape))


def _unsafe_split_with_sizes(input: Any, split_sizes: Sequence[int], dim: int = 0) -> list[Any]:
    return [torch.clone(part) for part in torch.split(input, list(split_sizes), dim)]


M = t(3, 4, low=-1, high=1)
DEEP = t(2, 3, 4, low=-1, high=1)
INDEX = torch.tensor([[0, 1, 1, 2], [1, 1, 0, 0], [0, 0, 2, 1]])
ROWS = torch.tensor([2, 0, 2, 2])
POINTS = torch.tensor([0, 5, -1])
COUNTS = torch.tensor([1, 2, 1, 3])
AWEIGHTS = torch.tensor([0.5, 1.0, 0.7, 0.2], dtype=torch.float64)
Q = torch.tensor([0.1, 0.6, 1.0], dtype=torch.float64)
REDUCTIONS = ("sum", "mean", "amax", "amin", "prod")

QUANTILES = [
    call(M, 0.3),
    call(M, Q, 1),
    call(M, 0.4, 0, True),
    call(DEEP, Q, 1, True, interpolation="midpoint"),
    call(M, 0.4, 1, interpolation="nearest"),
    call(M, 0.4, 1, interpolation="lower"),
    call(M, 0.4, 1, interpolation="higher"),
]
TABLE: dict[str, tuple[Callable, list[Sample]]] = {
    "logcumsumexp": (_logcumsumexp, [call(DEEP, 1), call(t(5, low=-3, high=3), 0)]),
    "torch.trapezoid torch.trapz": (
        _trapezoid,
        [
            call(DEEP),
            call(M, dx=0.3, dim=0),
            call(DEEP, t(4)),
            call(DEEP, t(3), dim=1),
            call(DEEP, t(3, 4), dim=1),
        ],
    ),
    "torch.cumulative_trapezoid": (
        _cumulative_trapezoid,
        [call(DEEP), call(M, dx=0.3, dim=0), call(DEEP, t(3), dim=1)],
    ),
    "cov": (
        _cov,
        [
            call(M),
            call(t(5)),
            call(M, correction=0),
            call(M, fweights=COUNTS),
            call(M, fweights=COUNTS, aweights=AWEIGHTS),
        ],
    ),
    "corrcoef": (_corrcoef, [call(M)]),
    "torch.combinations": (_combinations, [call(t(4)), call(t(3), 2, True), call(t(4), 3)]),
    "renorm": (_renorm, [call(M, 2, 0, 0.9), call(M, 1, 1, 0.5), call(DEEP, 3, -1, 0.7)]),
    "torch.polar": (_polar, [call(t(2, 3), t(2, 3, low=-2, high=2))]),
    "quantile": (_quantile(False), QUANTILES),
    "nanquantile": (_quantile(True), QUANTILES),
    "scatter_reduce": (
        _scatter_reduce,
        [
            call(M, 0, INDEX, t(3, 4, low=0.3, high=1.5), how, include_self=included)
            for how in REDUCTIONS
            for included in (True, False)
        ],
    ),
    "index_reduce": (
        _index_reduce,
        [
            call(M, 0, ROWS, t(4, 4, low=0.3, high=1.5), how, include_self=included)
            for how in REDUCTIONS[1:]
            for included in (True, False)
        ],
    ),
    "put": (_put, [call(M, POINTS, t(3)), call(M, torch.tensor([[1, 1]]), t(1, 2), True)]),
}
for names, (body, samples) in TABLE.items():
    evaluate = composite(body)
    add_rule(names, "composite", "torch code", evaluate, samples, in_place=in_place(evaluate))
add_rule(
    "unsafe_split_with_sizes",
    "composite",
    "split, copied",
    composite(_unsafe_split_with_sizes),
    [call(DEEP, (1, 3), 2)],
)


def _frexp(func: Callable, args: tuple, kwargs: dict) -> Any:
    """The mantissa is ``x 2**-e`` with a constant exponent ``e``."""
    (x,), _, _ = bind(func, ("input",), args, kwargs)
    series_among(func, (x,))
    exponent = innermost(func(x.value).exponent)
    # in two steps: 2^-e itself may be too large a number
    half = torch.div(exponent, 2, rounding_mode="floor")
    for part in (half, exponent - half):
        x = run(torch.mul, x, torch.exp2(-part.to(x.dtype)))
    return torch.return_types.frexp((x, exponent))  # type: ignore[attr-defined]


add_rule("frexp", "by hand", "x 2^-e", _frexp, [call(t(2, 3, low=-5, high=5))])


def _fill_diagonal(func: Callable, args: tuple, kwargs: dict) -> Any:
    def filled(input: Any, fill_value: Any, wrap: bool = False) -> Any:
        mask = torch.zeros(tuple(input.shape), dtype=torch.bool, device=input.device)
        return torch.where(mask.fill_diagonal_(True, wrap), fill_value, input)

    return store(func, args[0], run(filled, *args, **kwargs))


add_rule("Tensor.fill_diagonal_", "linear", "input, number on the diagonal", _fill_diagonal)


def _unique(*names: str) -> Callable:
    """Each distinct entry (or slice along ``dim``); equal ones share its slope equally."""

    def evaluate(func: Callable, args: tuple, kwargs: dict) -> Any:
        given = dict(zip(names, args, strict=False), **kwargs)
        x = given.pop("input")
        series_among(func, (x,))
        everything = given | {"return_inverse": True, "return_counts": True}
        _, inverse, counts = func(innermost(x), **everything)
        result = [run(_averaged, x, inverse, counts, given.get("dim"))]
        result += [inverse] if given.get("return_inverse") else []
        result += [counts] if given.get("return_counts") else []
        return tuple(result) if len(result) > 1 else result[0]

    return evaluate


def _averaged(x: Any, places: Any, counts: Any, dim: int | None) -> Any:
    if dim is None:
        x, places, dim = torch.reshape(x, (-1,)), places.reshape(-1), 0
    shape, lengths = list(x.shape), [1] * x.ndim
    shape[dim] = lengths[dim] = counts.shape[0]
    empty = torch.zeros(shape, dtype=x.dtype, device=x.device)
    return torch.index_add(empty, dim, places, x) / counts.reshape(lengths)


OPTIONS = ("return_inverse", "return_counts", "dim")
for name, evaluate in (
    ("unique", _unique("input", "sorted", *OPTIONS)),
    ("unique_consecutive", _unique("input", *OPTIONS)),
):
    add_rule(
        f"torch.{name} Tensor.{name}",
        "selection",
        "equal entries share",
        evaluate,
        [call(t(2, 3)), call(t(2, 3), return_counts=True, dim=1)],
    )

add_rule(
    "gradient",
    "linear",
    "input",
    multilinear("input : input"),
    [call(DEEP), call(t(5), spacing=0.3, edge_order=2), call(DEEP, dim=1)],
)
