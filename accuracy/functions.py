"""Functions of exact series: the references that torch's functions are compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath as mp

from .exact import Exact, composed, from_slope, integrated, power, shortened


def exp(x: Exact) -> Exact:
    value = mp.exp(x.coeffs[0])
    return composed([value / mp.factorial(k) for k in range(x.order + 1)], x)


def log(x: Exact) -> Exact:
    base = x.coeffs[0]
    higher = [-((-1 / base) ** k) / k for k in range(1, x.order + 1)]
    return composed([mp.log(base), *higher], x)


def sin(x: Exact, turns: int = 0) -> Exact:
    s, c = mp.sin(x.coeffs[0]), mp.cos(x.coeffs[0])
    cycle = (s, c, -s, -c)
    return composed([cycle[(k + turns) % 4] / mp.factorial(k) for k in range(x.order + 1)], x)


def cos(x: Exact) -> Exact:
    return sin(x, 1)


def sigmoid(x: Exact) -> Exact:
    return 1 / (1 + exp(-x))


def tanh(x: Exact) -> Exact:
    e = exp(-2 * x if x.coeffs[0] > 0 else 2 * x)
    return (1 - e) / (1 + e) if x.coeffs[0] > 0 else (e - 1) / (1 + e)


def sinh(x: Exact) -> Exact:
    return (exp(x) - exp(-x)) / 2


def cosh(x: Exact) -> Exact:
    return (exp(x) + exp(-x)) / 2


def erfc(x: Exact) -> Exact:
    """DLMF 7.10.1: the derivatives are Hermite polynomials."""
    z = x.coeffs[0]
    bell = -2 / mp.sqrt(mp.pi) * mp.exp(-z * z)
    before, now, outer = mp.mpf(0), mp.mpf(1), [mp.erfc(z)]
    for k in range(1, x.order + 1):
        outer.append(bell * (-1) ** (k - 1) * now / mp.factorial(k))
        before, now = now, 2 * z * now - 2 * (k - 1) * before
    return composed(outer, x)


def normal(x: Exact) -> Exact:
    """The distribution function of the normal distribution."""
    return erfc(x * (-1 / mp.sqrt(2))) / 2


def inverse_erfc(q: Any) -> Any:
    """The ``w`` with ``erfc(w) = q``, by Newton's method."""
    if q > 1:
        return -inverse_erfc(2 - q)
    w = mp.mpf(0) if q > 0.2 else mp.sqrt(-mp.log(q))
    for _ in range(12 + mp.mp.prec.bit_length()):
        w += (mp.erfc(w) - q) * mp.sqrt(mp.pi) / 2 * mp.exp(w * w)
    return w


def inverse_normal(x: Exact, w: Any, slope: Any, factor: Any) -> Exact:
    """Of ``factor * w`` with ``w' = slope * exp(w^2)``: ``P_n(w) w'^n`` (Carlitz 1963)."""
    rate = slope * mp.exp(w * w)
    outer, polynomial = [factor * w], [mp.mpf(1)]
    for n in range(1, x.order + 1):
        value = sum(c * w**i for i, c in enumerate(polynomial))
        outer.append(factor * value * rate**n / mp.factorial(n))
        grown = [mp.mpf(0), *(2 * n * c for c in polynomial)]
        for i, c in enumerate(polynomial[1:]):
            grown[i] += (i + 1) * c
        polynomial = grown
    return composed(outer, x)


def erfinv(x: Exact) -> Exact:
    small = abs(x.coeffs[0]) < 1e-3
    w = _small_erfinv(x.coeffs[0]) if small else inverse_erfc(1 - x.coeffs[0])
    return inverse_normal(x, w, mp.sqrt(mp.pi) / 2, mp.mpf(1))


def _small_erfinv(q: Any) -> Any:
    w = q
    for _ in range(4 + mp.mp.prec.bit_length()):
        w -= (mp.erf(w) - q) * mp.sqrt(mp.pi) / 2 * mp.exp(w * w)
    return w


def ndtri(x: Exact) -> Exact:
    w = -inverse_erfc(2 * x.coeffs[0])
    return inverse_normal(x, w, mp.sqrt(mp.pi), mp.sqrt(2))


def polygamma(n: int) -> Callable:
    def of(x: Exact) -> Exact:
        z = x.coeffs[0]
        return composed([mp.psi(n + k, z) / mp.factorial(k) for k in range(x.order + 1)], x)

    return of


def lgamma(x: Exact) -> Exact:
    z = x.coeffs[0]
    if z > 0:
        value = mp.loggamma(z)
    else:
        value = mp.log(mp.pi / abs(mp.sin(mp.pi * z))) - mp.loggamma(1 - z)
    return integrated(value, polygamma(0)(shortened(x)) * x.derivative())


def zeta(s: Any) -> Callable:
    def of(x: Exact) -> Exact:
        q, orders = x.coeffs[0], range(x.order + 1)
        return composed([mp.binomial(-s, k) * mp.zeta(s + k, q) for k in orders], x)

    return of


def _besselk(nu: int, z: Any) -> Any:
    """By the trapezoidal rule, which converges exponentially, on ``exp(-z cosh t) cosh(nu t)``."""
    if z < 0.5:
        return mp.besselk(nu, z)
    step = min(13 / mp.mpf(mp.mp.prec), 5 / mp.sqrt(mp.mp.prec * z))
    total, t = mp.exp(-z) / 2, step
    while z * (mp.cosh(t) - 1) < mp.mp.prec:
        total += mp.exp(-z * mp.cosh(t)) * mp.cosh(nu * t)
        t += step
    return step * total


def bessel(kind: str, nu: int) -> Callable:
    """Derivatives as sums of neighbouring orders (DLMF 10.6.7, 10.29.5)."""
    start = {"j": mp.besselj, "y": mp.bessely, "i": mp.besseli, "k": _besselk}[kind]
    mirror = -1 if kind in "jy" else 1
    inner = {"j": -1, "y": -1, "i": 1, "k": 1}[kind]

    def of(x: Exact) -> Exact:
        z, K = x.coeffs[0], x.order
        values = [start(0, z), start(1, z)]
        for m in range(1, K + nu + 1):
            step = 2 * m / z * values[m]
            values.append(
                step - values[m - 1]
                if kind in "jy"
                else values[m - 1] + (step if kind == "k" else -step)
            )

        def at(m: int) -> Any:
            return values[m] if m >= 0 else values[-m] * mirror ** (-m)

        outer = []
        for k in range(K + 1):
            terms = (inner**n * mp.binomial(k, n) * at(nu - k + 2 * n) for n in range(k + 1))
            sign = (-1) ** k if kind == "k" else 1
            outer.append(sign * sum(terms) / mp.mpf(2) ** k / mp.factorial(k))
        return composed(outer, x)

    return of


def gammainc(a: Any) -> Callable:
    a = mp.mpf(a)
    return from_slope(
        lambda z: mp.gammainc(a, 0, z, regularized=True),
        lambda x: power(x, a - 1) * exp(-x) / mp.gamma(a),
    )


def angle(y: Exact, x: Exact) -> Exact:
    turned = shortened(x) * y.derivative() - shortened(y) * x.derivative()
    slope = turned / (shortened(x) ** 2 + shortened(y) ** 2)
    return integrated(mp.atan2(y.coeffs[0], x.coeffs[0]), slope)


def gelu_tanh(x: Exact) -> Exact:
    inner = mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x**3)
    return x * sigmoid(2 * inner)


def identity(x: Exact) -> Exact:
    return x


def zero(x: Exact) -> Exact:
    return 0 * x


def expm1(x: Exact) -> Exact:
    return exp(x) - 1


def softplus(x: Exact) -> Exact:
    return log(1 + exp(x))


def mish(x: Exact) -> Exact:
    return x * (1 - 2 / (exp(2 * x) + 2 * exp(x) + 2))


def softsign(x: Exact) -> Exact:
    return 1 - 1 / (1 + x) if x.coeffs[0] > 0 else 1 / (1 - x) - 1


def selu(x: Exact) -> Exact:
    scale = mp.mpf("1.0507009873554804934193349852946")
    alpha = mp.mpf("1.6732632423543772848170429916717")
    return scale * (x if x.coeffs[0] > 0 else alpha * expm1(x))


def scaled(kind: str, nu: int) -> Callable:
    def of(x: Exact) -> Exact:
        side = 1 if (kind == "k") == (x.coeffs[0] > 0) else -1
        return bessel(kind, nu)(x) * exp(side * x)

    return of
