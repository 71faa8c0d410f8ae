"""Special functions, orthogonal polynomials, and what is left of torch's numerical functions.

Where torch knows no derivative of a function (the Bessel family), the value goes through one made
here from the same formula, so gradients in parameters pass through a coefficient of any degree.

Source of the formulas: NIST Digital Library of Mathematical Functions (DLMF), by equation number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from ..algebra import series
from ..algebra.structures import LINE
from ..engine.arguments import bind, series_among
from ..engine.frames import join
from ..engine.kinds import composite, in_place, slope
from ..engine.registry import Evaluator, UnsupportedFunction, add_rule
from ..engine.samples import Sample, call, t
from ..engine.tensor import TaylorTensor, run

SIGNED = t(2, 3, low=-3, high=3)


ROOT_HALF, ROOT_2PI = math.sqrt(0.5), math.sqrt(2 * math.pi)


ROOT_PI = math.sqrt(math.pi)


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
    shares_of_erfcx = _erfcx_shares(u, torch.special.erfcx(u), order)
    left = series.logarithm(
        LINE, [share * (-ROOT_HALF) ** k for k, share in enumerate(shares_of_erfcx)]
    )
    v = torch.clamp(torch.where(right, x, 0.0), max=50.0)
    density = torch.exp(-0.5 * torch.square(v)) / (ROOT_2PI * torch.special.ndtr(v))
    before, hermite, shares = torch.zeros_like(v), density, [torch.ones_like(v)]
    for k in range(1, order + 1):
        shares.append(hermite * ((-1) ** (k - 1) / math.factorial(k)))
        before, hermite = hermite, v * hermite - (k - 1) * before
    result = [y]
    for k, (a, b) in enumerate(zip(left, series.logarithm(LINE, shares), strict=True)):
        if k > 0:
            result.append(torch.where(right, b, a - x if k == 1 else a - 0.5 if k == 2 else a))
    return result


def _by_coefficients(coefficients: Callable) -> Evaluator:
    """``f(x)`` from ``coefficients(x_0, f(x_0), order)``, the coefficients of ``f`` at ``x_0``."""

    def evaluate(func: Callable, args: tuple, kwargs: dict) -> Any:
        (x,), _, _ = bind(func, ("input",), args, kwargs)
        series_among(func, (x,))
        frame = join(func, (x,), by_entry=True)
        value = x._blocks[0]
        f = run(coefficients, value, run(func, value), frame.order)
        return frame.wrap(series.compose(frame.structure, f, x._blocks))

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
