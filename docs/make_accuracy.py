"""Write docs/accuracy.md and docs/accuracy.png: errors of the coefficients, measured with mpmath.

A row of ``CASES`` is a function, the same function in exact series (``Exact``), and the domains in
which it is measured. Points are drawn with a fixed seed, so the page is reproducible;
``tests/test_accuracy.py`` measures again, and holds the page's claims against what it finds.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import mpmath as mp
import torch
import torch.nn.functional as F

import taylortorch as tt

ORDER, POINTS = 4, 48
HIGH = 20
DTYPES = {"float64": torch.float64, "float32": torch.float32}
PAGE = Path(__file__).parent / "accuracy.md"
PICTURE = Path(__file__).parent / "accuracy.png"

# --- exact series ---------------------------------------------------------------------------------


class Exact:
    """A truncated Taylor series of mpmath numbers: what the references are written in.

    Functions are composed by Horner's rule from their derivatives in closed form; none of the
    engine's recurrences is used. At every step the working precision decides, see ``settled``.
    """

    def __init__(self, coeffs: Sequence[Any]) -> None:
        self.coeffs = list(coeffs)

    @property
    def order(self) -> int:
        return len(self.coeffs) - 1

    def _lifted(self, other: Any) -> Exact:
        if isinstance(other, Exact):
            return other
        return Exact([mp.mpf(other)] + [mp.mpf(0)] * self.order)

    def __add__(self, other: Any) -> Exact:
        pairs = zip(self.coeffs, self._lifted(other).coeffs, strict=True)
        return Exact([a + b for a, b in pairs])

    def __neg__(self) -> Exact:
        return Exact([-c for c in self.coeffs])

    def __sub__(self, other: Any) -> Exact:
        return self + -self._lifted(other)

    def __rsub__(self, other: Any) -> Exact:
        return self._lifted(other) + -self

    def __mul__(self, other: Any) -> Exact:
        a, b = self.coeffs, self._lifted(other).coeffs
        return Exact([sum(a[i] * b[k - i] for i in range(k + 1)) for k in range(len(a))])

    def __truediv__(self, other: Any) -> Exact:
        return self * power(self._lifted(other), -1)

    def __rtruediv__(self, other: Any) -> Exact:
        return self._lifted(other) / self

    def __pow__(self, exponent: Any) -> Exact:
        return power(self, exponent)

    __radd__, __rmul__ = __add__, __mul__

    def derivative(self) -> Exact:
        """The series of the derivative, one degree shorter."""
        return Exact([k * c for k, c in enumerate(self.coeffs)][1:])


def composed(outer: Sequence[Any], x: Exact) -> Exact:
    """``f(x)`` from ``outer[j] = f^(j)(x_0) / j!``."""
    h = Exact([mp.mpf(0), *x.coeffs[1:]])
    result = h * 0 + outer[-1]
    for f in reversed(outer[:-1]):
        result = result * h + f
    return result


def integrated(value: Any, slope: Exact) -> Exact:
    """The series of this value whose derivative is ``slope``."""
    return Exact([value] + [c / (k + 1) for k, c in enumerate(slope.coeffs)])


def shortened(x: Exact) -> Exact:
    return Exact(x.coeffs[:-1])


def from_slope(value: Callable, slope: Callable) -> Callable:
    """A function from its value and its derivative."""
    return lambda x: integrated(value(x.coeffs[0]), slope(shortened(x)) * x.derivative())


def power(x: Exact, p: Any) -> Exact:
    p, base = mp.mpf(p), x.coeffs[0]
    if p == int(p) and p >= 0:
        result = x._lifted(1)
        for _ in range(int(p)):
            result = result * x
        return result
    return composed([mp.binomial(p, k) * mp.power(base, p - k) for k in range(x.order + 1)], x)


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


def by_piece(*pieces: tuple[float, Callable]) -> Callable:
    """``(bound, function)`` in ascending order: the function up to and including the bound."""

    def of(x: Exact) -> Exact:
        return next(f for bound, f in pieces if x.coeffs[0] <= bound)(x)

    return of


def settled(
    reference: Callable, at: Sequence[float], curve: Sequence[float], order: int
) -> list[Any]:
    """The coefficients of ``f(at + curve t)``, at a precision of which twice changes nothing."""
    previous = None
    for bits in (160, 320, 640, 1280, 2560, 5120, 10240):
        with mp.workprec(bits):
            lines = zip(at, curve, strict=True)
            rest = [mp.mpf(0)] * (order - 1)
            found = reference(*(Exact([mp.mpf(x), mp.mpf(v), *rest]) for x, v in lines)).coeffs
        # what cancels to nothing at low precision may be a small number
        if previous is not None and all(
            abs(a - b) <= mp.ldexp(abs(b), -72) if b else a == 0 and bits > 2000
            for a, b in zip(previous, found, strict=True)
        ):
            return found
        previous = found
    raise ArithmeticError("the reference does not settle")


# --- domains --------------------------------------------------------------------------------------

NUMBER = r"(-?[\d.]+(?:e-?\d+)?)"
EVEN = re.compile(rf"\[{NUMBER}, {NUMBER}\]")
DECADES = re.compile(rf"{NUMBER} \.\.\. {NUMBER}")
NEAR = re.compile(rf"{NUMBER} ([+-]) \({NUMBER} \.\.\. {NUMBER}\)")


def draw(span: str, count: int, generator: torch.Generator) -> torch.Tensor:
    """Points of ``[a, b]``, evenly; of ``a ... b``, evenly on a logarithmic scale; of
    ``p + (a ... b)`` or ``p - (a ... b)``, at such distances from ``p``."""
    u = torch.rand(count, generator=generator, dtype=torch.float64)
    if match := EVEN.fullmatch(span):
        low, high = map(float, match.groups())
        return low + (high - low) * u
    if match := DECADES.fullmatch(span):
        low, high = map(float, match.groups())
        first, last = math.log(abs(low)), math.log(abs(high))
        return math.copysign(1, low) * torch.exp(first + (last - first) * u)
    match = NEAR.fullmatch(span)
    assert match, span
    point, sign, *limits = match.groups()
    distance = draw(" ... ".join(limits), count, generator)
    return float(point) + (distance if sign == "+" else -distance)


@dataclasses.dataclass(frozen=True)
class Case:
    """A function, its reference and its domains.

    ``domains`` are separated by ``;``, the spans of two arguments by ``x``; after ``|`` stands the
    domain in float32, where it is another. ``length``: the distance over which the function changes
    where that is not ``|x|`` itself. ``curve``: the direction of each argument.
    """

    name: str
    call: Callable
    reference: Callable
    domains: str
    length: float = 1.0
    curve: tuple[float, ...] = (1.0,)

    def domains_in(self, dtype: torch.dtype) -> list[str]:
        pairs = [domain.split(" | ") for domain in self.domains.split("; ")]
        return [pair[-1] if dtype == torch.float32 else pair[0] for pair in pairs]


# --- the functions --------------------------------------------------------------------------------

BODY, POSITIVE = "[-2, 2]", "[0.5, 2]"
SMALL = "1e-300 ... 1e-3 | 1e-37 ... 1e-3"
ANY = "1e-300 ... 1e300 | 1e-37 ... 1e37"
LARGE = "2 ... 1e300 | 2 ... 1e37"
LEFT, RIGHT = "[-700, -2] | [-86, -2]", "[2, 700] | [2, 86]"
BELOW_1 = "1 - (1e-15 ... 0.1) | 1 - (1e-6 ... 0.1)"
ABOVE_MINUS_1 = "-1 + (1e-15 ... 0.1) | -1 + (1e-6 ... 0.1)"
SIN = f"[-4, 4]; [-1e4, 1e4]; 1e4 ... 1e15 | 1e4 ... 1e7; {SMALL}"
ARC = f"[-0.9, 0.9]; {BELOW_1}; {ABOVE_MINUS_1}; {SMALL}"
NORMAL = "[2, 37] | [2, 13]; [-37, -2] | [-13, -2]"
POWER = f"{POSITIVE}; 1e-40 ... 1e40 | 1e-5 ... 1e5"
SCALED = "[2, 25] | [2, 12]; [25, 700] | [12, 85]; 700 ... 1e6"
GAMMA_RANGE = "5 ... 1e15 | 5 ... 1e7; [-0.95, -0.05]; [-9.9, -1.1]"
CURVE = (1.0, -0.5)


def _identity(x: Exact) -> Exact:
    return x


def _zero(x: Exact) -> Exact:
    return 0 * x


def _expm1(x: Exact) -> Exact:
    return exp(x) - 1


def _softplus(x: Exact) -> Exact:
    return log(1 + exp(x))


def _mish(x: Exact) -> Exact:
    return x * (1 - 2 / (exp(2 * x) + 2 * exp(x) + 2))


def _softsign(x: Exact) -> Exact:
    return 1 - 1 / (1 + x) if x.coeffs[0] > 0 else 1 / (1 - x) - 1


def _selu(x: Exact) -> Exact:
    scale = mp.mpf("1.0507009873554804934193349852946")
    alpha = mp.mpf("1.6732632423543772848170429916717")
    return scale * (x if x.coeffs[0] > 0 else alpha * _expm1(x))


def _scaled(kind: str, nu: int) -> Callable:
    def of(x: Exact) -> Exact:
        side = 1 if (kind == "k") == (x.coeffs[0] > 0) else -1
        return bessel(kind, nu)(x) * exp(side * x)

    return of


def _like(x: Any, number: float) -> torch.Tensor:
    return torch.full(tuple(x.shape), number, dtype=x.dtype)


def _two(x: Any) -> Any:
    return x * mp.log(2)


EXPONENTIAL = [
    Case("exp", torch.exp, exp, f"{BODY}; [-700, 709] | [-86, 88]"),
    Case(
        "exp2",
        torch.exp2,
        lambda x: exp(_two(x)),
        f"{BODY}; [-1020, 1023] | [-124, 127]",
    ),
    Case(
        "2.5**x",
        lambda x: 2.5**x,
        lambda x: exp(x * mp.log(2.5)),
        f"{BODY}; [-760, 770] | [-94, 96]",
    ),
    Case("expm1", torch.expm1, _expm1, f"{BODY}; {LEFT}; {RIGHT}; {SMALL}"),
    Case("log", torch.log, log, f"{POSITIVE}; {ANY}", 0),
    Case("log2", torch.log2, lambda x: log(x) / mp.log(2), f"{POSITIVE}; {ANY}", 0),
    Case("log10", torch.log10, lambda x: log(x) / mp.log(10), f"{POSITIVE}; {ANY}", 0),
    Case(
        "log1p",
        torch.log1p,
        lambda x: log(1 + x),
        f"[-0.5, 2]; {SMALL}; {LARGE}; -1 + (1e-15 ... 0.5) | -1 + (1e-7 ... 0.5)",
    ),
    Case("sigmoid", torch.sigmoid, sigmoid, f"{BODY}; {LEFT}; {RIGHT}; {SMALL}"),
    Case("logsigmoid", F.logsigmoid, lambda x: -_softplus(-x), f"{BODY}; {LEFT}; {RIGHT}"),
    Case(
        "logit",
        torch.logit,
        lambda x: log(x) - log(1 - x),
        f"[0.1, 0.9]; 1e-70 ... 0.1 | 1e-8 ... 0.1; {BELOW_1}",
    ),
    *(
        Case(
            name,
            call,
            reference,
            f"{BODY} x {BODY}; [-300, 300] x [-300, 300] | [-40, 40] x [-40, 40]",
            curve=CURVE,
        )
        for name, call, reference in (
            ("logaddexp", torch.logaddexp, lambda x, y: log(exp(x) + exp(y))),
            (
                "logaddexp2",
                torch.logaddexp2,
                lambda x, y: log(exp(_two(x)) + exp(_two(y))) / _two(1),
            ),
        )
    ),
]
POWERS = [
    Case("reciprocal", torch.reciprocal, lambda x: 1 / x, f"{POSITIVE}; {ANY}; -1e-7 ... -1e7", 0),
    Case("1 / x", lambda x: 1 / x, lambda x: 1 / x, f"{POSITIVE}; {ANY}", 0),
    Case(
        "x / y",
        torch.div,
        lambda x, y: x / y,
        f"{BODY} x {POSITIVE}; 1e-5 ... 1e5 x 1e-5 ... 1e5",
        0,
        CURVE,
    ),
    Case(
        "x * y",
        torch.mul,
        lambda x, y: x * y,
        f"{BODY} x {BODY}; 1e-9 ... 1e9 x 1e-9 ... 1e9",
        0,
        CURVE,
    ),
    Case("square", torch.square, lambda x: x**2, f"{BODY}; 1e-150 ... 1e150 | 1e-18 ... 1e18", 0),
    Case("sqrt", torch.sqrt, lambda x: x**0.5, f"{POSITIVE}; {ANY}", 0),
    Case("rsqrt", torch.rsqrt, lambda x: x**-0.5, f"{POSITIVE}; {ANY}", 0),
    *(
        Case(f"x**{p}", lambda x, p=p: x**p, lambda x, p=p: power(x, p), POWER + more, 0)
        for p, more in (
            (3, f"; {BODY}"),
            (7, f"; {BODY}"),
            (-2, ""),
            (0.5, ""),
            (2.5, ""),
            (-1.5, ""),
            (0.3, ""),
        )
    ),
    Case(
        "x**y",
        torch.pow,
        lambda x, y: exp(log(x) * y),
        f"{POSITIVE} x {BODY}; 1e-4 ... 1e4 x [-8, 8]",
        0,
        CURVE,
    ),
    Case(
        "hypot",
        torch.hypot,
        lambda x, y: (x**2 + y**2) ** 0.5,
        f"{POSITIVE} x {POSITIVE}; 1e-10 ... 1e10 x 1e-10 ... 1e10; "
        "1e150 ... 1e200 x 1e150 ... 1e200 | 1e18 ... 1e30 x 1e18 ... 1e30",
        0,
        CURVE,
    ),
    Case(
        "xlogy",
        torch.xlogy,
        lambda x, y: x * log(y),
        f"{BODY} x {POSITIVE}; 1e-8 ... 1 x 1e-8 ... 1",
        0,
        CURVE,
    ),
    Case(
        "special.xlog1py",
        torch.special.xlog1py,
        lambda x, y: x * log(1 + y),
        f"{BODY} x [-0.5, 2]; 1e-8 ... 1 x 1e-8 ... 1",
        1,
        CURVE,
    ),
    Case("special.entr", torch.special.entr, lambda x: -x * log(x), f"[0.1, 3]; {ANY}", 0),
]
CIRCULAR = [
    Case("sin", torch.sin, sin, SIN),
    Case("cos", torch.cos, cos, SIN),
    Case(
        "tan",
        torch.tan,
        lambda x: sin(x) / cos(x),
        f"[-1.5, 1.5]; [-1e4, 1e4]; 1.5707963 + (1e-6 ... 0.01); {SMALL}",
    ),
    Case("asin", torch.asin, from_slope(mp.asin, lambda x: (1 - x**2) ** -0.5), ARC),
    Case("acos", torch.acos, from_slope(mp.acos, lambda x: -((1 - x**2) ** -0.5)), ARC),
    Case(
        "atan",
        torch.atan,
        from_slope(mp.atan, lambda x: 1 / (1 + x**2)),
        f"{BODY}; 2 ... 1e150 | 2 ... 1e18; -2 ... -1e10; {SMALL}",
    ),
    Case(
        "atan2",
        torch.atan2,
        angle,
        f"{BODY} x {POSITIVE}; 1e-10 ... 1e10 x 1e-10 ... 1e10; "
        "1e-75 ... 1e-65 x 1e-75 ... 1e-65 | 1e-9 ... 1e-7 x 1e-9 ... 1e-7; "
        "1e150 ... 1e200 x 1e150 ... 1e200 | 1e18 ... 1e30 x 1e18 ... 1e30",
        0,
        CURVE,
    ),
    Case(
        "sinc",
        torch.sinc,
        lambda x: sin(x * mp.pi) / (x * mp.pi),
        f"{BODY}; [2, 100]; 1e-30 ... 1e-2",
    ),
]
HYPERBOLIC = [
    Case("sinh", torch.sinh, sinh, f"{BODY}; [-700, 700] | [-86, 86]; {SMALL}"),
    Case("cosh", torch.cosh, cosh, f"{BODY}; [-700, 700] | [-86, 86]; {SMALL}"),
    Case("tanh", torch.tanh, tanh, f"{BODY}; [2, 18] | [2, 8]; [-350, -20] | [-43, -10]; {SMALL}"),
    Case(
        "asinh",
        torch.asinh,
        from_slope(mp.asinh, lambda x: (1 + x**2) ** -0.5),
        f"{BODY}; {LARGE}; -2 ... -1e10; {SMALL}",
    ),
    Case(
        "acosh",
        torch.acosh,
        from_slope(mp.acosh, lambda x: (x - 1) ** -0.5 * (x + 1) ** -0.5),
        f"[1.1, 3]; {LARGE}; 1 + (1e-15 ... 0.1) | 1 + (1e-6 ... 0.1)",
    ),
    Case("atanh", torch.atanh, from_slope(mp.atanh, lambda x: 1 / (1 - x**2)), ARC),
]
ERROR = [
    Case("erf", torch.erf, lambda x: 1 - erfc(x), f"{BODY}; [2, 26] | [2, 9]; 30 ... 1e5; {SMALL}"),
    Case("erfc", torch.erfc, erfc, f"{BODY}; [2, 26] | [2, 9]; [-26, -2] | [-9, -2]"),
    Case(
        "special.erfcx",
        torch.special.erfcx,
        lambda x: exp(x**2) * erfc(x),
        f"{BODY}; [2, 10]; 10 ... 1e60 | 10 ... 1e7; [-26, -2] | [-9, -2]",
    ),
    Case("erfinv", torch.erfinv, erfinv, ARC),
    Case("special.ndtr", torch.special.ndtr, normal, f"{BODY}; {NORMAL}"),
    Case(
        "special.log_ndtr",
        torch.special.log_ndtr,
        lambda x: log(normal(x)),
        f"{BODY}; {NORMAL}; -40 ... -1e10 | -40 ... -1e6",
    ),
    Case(
        "special.ndtri",
        torch.special.ndtri,
        ndtri,
        f"[0.1, 0.9]; 1e-60 ... 0.1 | 1e-7 ... 0.1; {BELOW_1}",
    ),
]
ACTIVATIONS = [
    Case(
        "softplus",
        F.softplus,
        by_piece((20, _softplus), (mp.inf, _identity)),
        f"{BODY}; [2, 25]; {LEFT}",
    ),
    Case(
        "softplus(x, beta=3, threshold=10)",
        lambda x: F.softplus(x, 3.0, 10.0),
        by_piece((10 / 3, lambda x: _softplus(3 * x) / 3), (mp.inf, _identity)),
        f"{BODY}; [2, 5]; [-230, -2] | [-27, -2]",
    ),
    Case(
        "gelu",
        F.gelu,
        lambda x: x * normal(x),
        f"{BODY}; {NORMAL}; 40 ... 1e100 | 40 ... 1e37; {SMALL}",
    ),
    Case(
        "gelu(x, approximate='tanh')",
        lambda x: F.gelu(x, approximate="tanh"),
        gelu_tanh,
        f"{BODY}; [2, 20] | [2, 9]; [-20, -2] | [-9, -2]; 40 ... 1e12; -40 ... -1e12; {SMALL}",
    ),
    Case(
        "silu", F.silu, lambda x: x * sigmoid(x), f"{BODY}; {LEFT}; {RIGHT}; 1e3 ... 1e12; {SMALL}"
    ),
    Case("mish", F.mish, _mish, f"{BODY}; [2, 350] | [2, 43]; {LEFT}; {SMALL}"),
    Case("elu", F.elu, by_piece((0, _expm1), (mp.inf, _identity)), f"{BODY}; {LEFT}"),
    Case(
        "celu(x, 0.7)",
        lambda x: F.celu(x, 0.7),
        by_piece((0, lambda x: mp.mpf(0.7) * _expm1(x / mp.mpf(0.7))), (mp.inf, _identity)),
        f"{BODY}; [-480, -2] | [-60, -2]",
    ),
    Case("selu", F.selu, _selu, f"{BODY}; {LEFT}"),
    Case("softsign", F.softsign, _softsign, f"{BODY}; {LARGE}; -2 ... -1e10; {SMALL}"),
    Case(
        "tanhshrink",
        F.tanhshrink,
        lambda x: x - tanh(x),
        f"{BODY}; [2, 18] | [2, 8]; 1e-60 ... 0.01 | 1e-12 ... 0.01",
    ),
    *(
        Case(name, getattr(F, name), by_piece(*pieces), "[-8, 8]")
        for name, pieces in {
            "hardswish": ((-3, _zero), (3, lambda x: x * (x + 3) / 6), (mp.inf, _identity)),
            "hardsigmoid": ((-3, _zero), (3, lambda x: (x + 3) / 6), (mp.inf, lambda x: 0 * x + 1)),
            "relu": ((0, _zero), (mp.inf, _identity)),
            "relu6": ((0, _zero), (6, _identity), (mp.inf, lambda x: 0 * x + 6)),
            "leaky_relu": ((0, lambda x: x * mp.mpf(0.01)), (mp.inf, _identity)),
            "hardtanh": ((-1, lambda x: 0 * x - 1), (1, _identity), (mp.inf, lambda x: 0 * x + 1)),
            "hardshrink": ((-0.5, _identity), (0.5, _zero), (mp.inf, _identity)),
            "softshrink": ((-0.5, lambda x: x + 0.5), (0.5, _zero), (mp.inf, lambda x: x - 0.5)),
        }.items()
    ),
    Case("abs", torch.abs, by_piece((0, lambda x: -x), (mp.inf, _identity)), f"{BODY}; {ANY}"),
]
GAMMA = [
    Case(
        "lgamma",
        torch.lgamma,
        lgamma,
        f"[0.5, 5]; 1e-70 ... 0.1 | 1e-8 ... 0.1; {GAMMA_RANGE}",
    ),
    Case(
        "digamma",
        torch.digamma,
        polygamma(0),
        f"[0.5, 5]; 1e-60 ... 0.1 | 1e-7 ... 0.1; {GAMMA_RANGE}",
    ),
    *(
        Case(f"polygamma({n}, x)", lambda x, n=n: torch.polygamma(n, x), polygamma(n), domains)
        for n, domains in (
            (1, "[0.5, 5]; 1e-50 ... 0.1 | 1e-6 ... 0.1; 5 ... 1e15 | 5 ... 1e5"),
            (3, "[0.5, 5]; 1e-30 ... 0.1 | 1e-4 ... 0.1; 5 ... 1e10 | 5 ... 1e4"),
        )
    ),
    Case(
        "mvlgamma(x, 3)",
        lambda x: torch.mvlgamma(x, 3),
        lambda x: sum((lgamma(x - mp.mpf(j) / 2) for j in range(3)), 1.5 * mp.log(mp.pi) + 0 * x),
        "[1.5, 10]; 10 ... 1e10 | 10 ... 1e5",
    ),
    Case(
        "special.zeta(2.5, x)",
        lambda x: torch.special.zeta(_like(x, 2.5), x),
        zeta(2.5),
        "[0.5, 5]; 1e-30 ... 0.1 | 1e-4 ... 0.1; 5 ... 1e10 | 5 ... 1e4",
    ),
    *(
        Case(
            f"special.gammainc({a}, x)",
            lambda x, a=a: torch.special.gammainc(_like(x, a), x),
            gammainc(a),
            f"[{a / 5:g}, {3 * a:g}]",
            a,
        )
        for a in (0.7, 2.5, 30.0)
    ),
]
BESSEL = [
    *(
        Case(f"special.{name}", getattr(torch.special, name), bessel(kind, nu), domains)
        for names, kind, domains in (
            (("bessel_j0", "bessel_j1"), "j", f"{BODY}; [2, 12]; [12, 300]"),
            (("bessel_y0", "bessel_y1"), "y", f"{POSITIVE}; [2, 12]; [12, 300]; 1e-5 ... 0.5"),
            (("i0", "i1"), "i", f"{BODY}; [2, 700] | [2, 85]"),
            (("modified_bessel_i0", "modified_bessel_i1"), "i", f"{BODY}; [2, 700] | [2, 85]"),
            (
                ("modified_bessel_k0", "modified_bessel_k1"),
                "k",
                f"{POSITIVE}; [2, 690] | [2, 80]; 1e-5 ... 0.5",
            ),
        )
        for nu, name in enumerate(names)
    ),
    *(
        Case(
            f"special.{name}", getattr(torch.special, name), _scaled(kind, nu), f"{body}; {SCALED}"
        )
        for names, kind, body in (
            (("i0e", "i1e"), "i", BODY),
            (("scaled_modified_bessel_k0", "scaled_modified_bessel_k1"), "k", POSITIVE),
        )
        for nu, name in enumerate(names)
    ),
    Case(
        "special.spherical_bessel_j0",
        torch.special.spherical_bessel_j0,
        lambda x: sin(x) / x,
        f"{BODY}; [2, 100]; 1e-30 ... 0.01",
    ),
]
POLYNOMIALS = [
    Case(
        f"special.{name}(x, 5)",
        lambda x, name=name: getattr(torch.special, name)(x, 5),
        reference,
        "[-0.9, 0.9]; [1.5, 5]",
    )
    for name, reference in {
        "chebyshev_polynomial_t": lambda x: 16 * x**5 - 20 * x**3 + 5 * x,
        "hermite_polynomial_h": lambda x: 32 * x**5 - 160 * x**3 + 120 * x,
        "laguerre_polynomial_l": lambda x: (
            (120 - 600 * x + 600 * x**2 - 200 * x**3 + 25 * x**4 - x**5) / 120
        ),
        "legendre_polynomial_p": lambda x: (63 * x**5 - 70 * x**3 + 15 * x) / 8,
    }.items()
]
GROUPS: dict[str, list[Case]] = {
    "Exponentials and logarithms": EXPONENTIAL,
    "Powers and quotients": POWERS,
    "Circular": CIRCULAR,
    "Hyperbolic": HYPERBOLIC,
    "Error functions": ERROR,
    "Activations": ACTIVATIONS,
    "Gamma functions": GAMMA,
    "Bessel functions": BESSEL,
    "Polynomials": POLYNOMIALS,
}
CASES = [case for group in GROUPS.values() for case in group]

# --- measuring ------------------------------------------------------------------------------------


def spacing(x: Any, dtype: torch.dtype) -> Any:
    """The distance of neighbouring numbers of this dtype at ``x``."""
    bits, lowest = (24, -149) if dtype == torch.float32 else (53, -1074)
    return mp.ldexp(1, max(int(mp.mag(x)) - bits if x else lowest, lowest))


def _number(x: Any) -> float:
    return float(x) if x < 1e300 else math.inf


@dataclasses.dataclass(frozen=True)
class Errors:
    """Of one function on one domain in one dtype: per order, the errors at each point."""

    plain: list[list[float]]
    conditioned: list[list[float]]
    own_value: bool


def measured(case: Case, domain: str, dtype: torch.dtype, points: int = POINTS) -> Errors:
    """The errors at the first ``points`` of the domain's points, in units in the last place.

    ``plain``: of the correctly rounded coefficient. ``conditioned``: of that, plus what one unit in
    the last place of the argument (of ``length``, where that is longer) makes of the coefficient.
    """
    generator = torch.Generator().manual_seed(zlib.crc32(f"{case.name} {domain}".encode()))
    # all points are drawn, so that fewer are the first of them
    spans = domain.split(" x ")
    arguments = [draw(span, POINTS, generator)[:points].to(dtype) for span in spans]
    series = [
        tt.TaylorTensor(x, torch.tensor(v, dtype=dtype), order=ORDER)
        for x, v in zip(arguments, case.curve, strict=True)
    ]
    result, own = case.call(*series), case.call(*arguments)
    same = (result.value == own) | (torch.isnan(result.value) & torch.isnan(own))
    coeffs = [c.detach().tolist() for c in result.coeffs]
    limit = float(torch.finfo(dtype).max)
    errors = Errors([[] for _ in coeffs], [[] for _ in coeffs], bool(same.all()))
    for n in range(points):
        at = [float(x[n]) for x in arguments]
        truth = settled(case.reference, at, case.curve, ORDER + 1)
        move = max(spacing(max(abs(a), case.length), dtype) for a in at)
        for k in range(ORDER + 1):
            got, want = coeffs[k][n], truth[k]
            # k c_k is formed first, so that the last factor 4 below overflow may be lost
            if math.isinf(got) and abs(want) > limit / 16 and (got > 0) == (want > 0):
                error = mp.mpf(0)
            else:
                error = abs(mp.mpf(got) - want)
            unit = spacing(want, dtype)
            inherent = (k + 1) * abs(truth[k + 1]) * move
            errors.plain[k].append(_number(error / unit))
            errors.conditioned[k].append(_number(error / (unit + inherent)))
    return errors


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the page."""

    name: str
    domain: str
    dtype: str
    largest: tuple[float, ...]
    median: tuple[float, ...]
    conditioned: float
    own_value: bool = True

    @property
    def key(self) -> tuple[str, str, str]:
        return self.name, self.domain, self.dtype


def rows(cases: Sequence[Case], points: int = POINTS) -> Iterator[Row]:
    for case in cases:
        for name, dtype in DTYPES.items():
            for domain in case.domains_in(dtype):
                errors = measured(case, domain, dtype, points)
                yield Row(
                    case.name,
                    domain,
                    name,
                    tuple(max(e) for e in errors.plain),
                    tuple(sorted(e)[len(e) // 2] for e in errors.plain),
                    max(max(e) for e in errors.conditioned[1:]),
                    errors.own_value,
                )


def rounded(x: float) -> str:
    """Two digits, rounded up."""
    if not math.isfinite(x):
        return "inf"
    if x == 0:
        return "0"
    exponent = max(math.floor(math.log10(x)), -2)
    digits = math.ceil(x / 10.0 ** (exponent - 1) - 1e-9)
    value = digits * 10.0 ** (exponent - 1)
    return f"{value:.1e}".replace("e+0", "e").replace("e+", "e") if value >= 1e3 else f"{value:.3g}"


def line(row: Row) -> str:
    cells = [f"{rounded(m)} / {rounded(e)}" for m, e in zip(row.median, row.largest, strict=True)]
    cells = [f"`{row.name}`", row.domain, row.dtype, *cells, rounded(row.conditioned)]
    return f"| {' | '.join(cells)} |"


# --- high orders ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Long:
    """A function expanded to order ``HIGH`` at points of an interval."""

    name: str
    call: Callable
    reference: Callable
    low: float
    high: float
    points: int = 16


def _network() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = (1, 8, 8, 8, 1)
    return [
        torch.randn(wide, deep, generator=generator, dtype=torch.float64) / math.sqrt(deep)
        for deep, wide in itertools.pairwise(sizes)
    ]


def network(x: torch.Tensor) -> torch.Tensor:
    """A tanh network with three hidden layers of eight."""
    first, *rest = _network()
    y = F.linear(x.unsqueeze(-1), first)
    for weight in rest:
        y = F.linear(torch.tanh(y), weight)
    return y.squeeze(-1)


def exact_network(x: Exact) -> Exact:
    first, *rest = _network()
    layer = [x * mp.mpf(w) for w in first[:, 0].tolist()]
    for weight in rest:
        hidden = [tanh(unit) for unit in layer]
        layer = [
            sum((unit * mp.mpf(w) for w, unit in zip(row, hidden, strict=True)), 0 * x)
            for row in weight.tolist()
        ]
    return layer[0]


def chain(x: Any) -> Any:
    """A continued fraction of six divisions."""
    y = 1 + x
    for _ in range(6):
        y = 1 + x / y
    return y


def softmax(x: torch.Tensor) -> torch.Tensor:
    return torch.softmax(torch.stack([x, torch.sin(x), 0 * x], -1), -1)[..., 0]


def exact_softmax(x: Exact) -> Exact:
    return exp(x) / (exp(x) + exp(sin(x)) + 1)


LONG = [
    Long("exp", torch.exp, exp, -2, 2),
    Long("sin", torch.sin, sin, -2, 2),
    Long("tan", torch.tan, lambda x: sin(x) / cos(x), -1.2, 1.2),
    Long("tanh", torch.tanh, tanh, -2, 2),
    Long("sigmoid", torch.sigmoid, sigmoid, -2, 2),
    Long("log", torch.log, log, 0.5, 2),
    Long("sqrt", torch.sqrt, lambda x: x**0.5, 0.5, 2),
    Long("1 / x", lambda x: 1 / x, lambda x: 1 / x, 0.5, 2),
    Long("x**2.5", lambda x: x**2.5, lambda x: x**2.5, 0.5, 2),
    Long("atan", torch.atan, from_slope(mp.atan, lambda x: 1 / (1 + x**2)), -2, 2),
    Long("asinh", torch.asinh, from_slope(mp.asinh, lambda x: (1 + x**2) ** -0.5), -2, 2),
    Long("erf", torch.erf, lambda x: 1 - erfc(x), -2, 2),
    Long("erfcx", torch.special.erfcx, lambda x: exp(x**2) * erfc(x), -2, 4),
    Long("log_ndtr", torch.special.log_ndtr, lambda x: log(normal(x)), -6, 2),
    Long("gelu", F.gelu, lambda x: x * normal(x), -2, 2),
    Long("silu", F.silu, lambda x: x * sigmoid(x), -2, 2),
    Long("softplus", F.softplus, _softplus, -2, 2),
    Long("mish", F.mish, lambda x: x * (1 - 2 / (exp(2 * x) + 2 * exp(x) + 2)), -2, 2),
    Long("lgamma", torch.lgamma, lgamma, 0.5, 5),
    Long("bessel_j0", torch.special.bessel_j0, bessel("j", 0), -2, 2),
    Long("sinc", torch.sinc, lambda x: sin(x * mp.pi) / (x * mp.pi), 0.1, 3),
    Long("softmax", softmax, exact_softmax, -2, 2, 8),
    Long("six divisions", chain, chain, 0.5, 2),
    Long("tanh network", network, exact_network, -1, 1, 3),
]


def envelope(coeffs: Sequence[Any]) -> list[Any]:
    """``min over r of max_j |c_j| r^(j - k)``: the scale that Cauchy's estimate gives ``c_k``.

    The least concave sequence above ``log |c_j|``.
    """
    logs = [(j, mp.log(abs(c))) for j, c in enumerate(coeffs) if c]
    result = []
    for k in range(len(coeffs)):
        best = max((b for j, b in logs if j == k), default=mp.mpf("-inf"))
        for i, a in logs:
            for j, b in logs:
                if i < k < j:
                    best = max(best, a + (b - a) * (k - i) / (j - i))
        result.append(mp.exp(best))
    return result


def long_errors(case: Long, points: int | None = None) -> tuple[list[float], list[float]]:
    """Per degree the largest error, in multiples of 2^-52, of ``c_k`` and of its scale."""
    generator = torch.Generator().manual_seed(zlib.crc32(case.name.encode()))
    count = min(points or case.points, case.points)
    x = draw(f"[{case.low:g}, {case.high:g}]", 64, generator)[:count].clone()
    coeffs = [c.tolist() for c in case.call(tt.TaylorTensor(x, order=HIGH)).coeffs]
    relative, scaled = [0.0] * (HIGH + 1), [0.0] * (HIGH + 1)
    unit = mp.ldexp(1, -52)
    for n in range(count):
        truth = settled(case.reference, [float(x[n])], [1.0], HIGH + 2)
        scales = envelope(truth)
        for k in range(HIGH + 1):
            error = abs(mp.mpf(coeffs[k][n]) - truth[k]) / unit
            relative[k] = max(relative[k], float(error / abs(truth[k])))
            scaled[k] = max(scaled[k], float(error / scales[k]))
    return relative, scaled


# --- at infinity ----------------------------------------------------------------------------------


def by_torch(f: Callable, x: float, order: int) -> list[float]:
    """The derivatives by reverse mode over reverse mode; NaN where torch has none."""
    t = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    y, result = f(t), []
    for _ in range(order):
        try:
            (y,) = torch.autograd.grad(y, t, create_graph=True)
        except RuntimeError:
            # a constant; or a function whose derivative has none
            unknown = 0.0 if result else math.nan
            return result + [unknown] * (order - len(result))
        result.append(y.item())
    return result


def by_series(f: Callable, x: float, order: int) -> list[float]:
    value = torch.tensor(x, dtype=torch.float64)
    return [d.item() for d in f(tt.TaylorTensor(value, order=order)).derivatives[1:]]


def at_infinity() -> Iterator[tuple[str, float, list[float], list[float]]]:
    """Functions that have a value there: name, point, three derivatives here, and by torch."""
    for case in CASES:
        if len(case.curve) > 1:
            continue
        for x in (math.inf, -math.inf):
            value = case.call(torch.tensor(x, dtype=torch.float64))
            if not torch.isnan(value):
                yield case.name, x, by_series(case.call, x, 3), by_torch(case.call, x, 3)


# --- the page -------------------------------------------------------------------------------------

HEAD = """# Accuracy

Made by `make accuracy` (`docs/make_accuracy.py`); `tests/test_accuracy.py` measures again and fails
where a function has become worse than this page says.

Every coefficient `c_k` of `f(x + t)` (for two arguments of `f(x + t, y - t/2)`) is compared with
many digits of mpmath, at {points} points of each domain, drawn with a fixed seed: evenly from
`[a, b]`, evenly on a logarithmic scale from `a ... b`. Errors are in units in the last place of the
correctly rounded coefficient (of the smallest subnormal number, where it is one); a cell is
*median / maximum*. 0.5 is the best possible.

Near a zero of `c_k`, and where the argument is large, the rounding of `x` itself would change many
digits: the maximum there says something about the function, not about the code. So the last column
is the largest error, over orders 1 to 4, in units of: one unit in the last place of `c_k` **plus**
what one unit in the last place of the argument makes of it. Where it is `E`, the result is within
`E` units of the exact coefficient of an argument within `E` units. (The argument's unit is that of
the function's own length where this is larger, 1 for `tanh` or `sin`: their derivatives at `1e-300`
are those at 0. For `log`, powers and quotients there is no such length.)

Column 0 is torch's own value, bit for bit, except for composites (orthogonal polynomials and
`spherical_bessel_j0`), whose value agrees to rounding. Domains end where results leave the range of
normal numbers: below, torch's `sigmoid` and `exp` flush to 0, and so do their derivatives.
"""

NOTES = """## What stands out

* `tanh` far from 0: its slope is formed as `1 - y^2`, as in torch. The error is below `eps` itself,
  but the slope tends to 0. An accurate slope costs a second transcendental function, 30 to 50 % of
  the time of `tanh` on large arrays. `tanhshrink` takes its higher derivatives from it.
* `x**0.3` and other exponents that `p - k` rounds: half a unit of `p` times `|log x|`.
* `log_ndtr` between -1.4 and 2: derivatives of order 3 and 4 are a hundred times smaller than the
  terms that make them up. Beyond, none of them cancels.
* `i0e`, `i1e` and the scaled `k0`, `k1` below 25 (float32: 12), where no asymptotic series holds:
  the slope is the difference of two functions that are almost equal, a factor `2 x` per order.
* `gammainc`: the density is formed as `exp((a - 1) log x - x - lgamma(a))`, as in torch.
* `bessel_j0`, `bessel_j1`, `bessel_y0` and `bessel_y1` in float64: torch's own values, from which
  the derivatives are made, are right to 7 digits between 3 and 10.
* `polygamma(1, x)`: torch's value has ten digits, in float64. The derivatives of `digamma` and
  `lgamma` are not made from it.
* `erf`, `erfc`, `ndtr`, `gelu` in their tails have a conditioned error below 1: `exp(-x^2)` suffers
  from the rounding of `x^2` no more than from that of `x`.
"""


def table(rows_of: Callable[[Sequence[Case]], Iterator[Row]]) -> Iterator[str]:
    for title, cases in GROUPS.items():
        yield f"## {title}"
        yield ""
        orders = " | ".join(map(str, range(ORDER + 1)))
        yield f"| function | domain | dtype | {orders} | conditioned |"
        yield "|---" * (ORDER + 5) + "|"
        for row in rows_of(cases):
            yield line(row)
        yield ""


LONG_HEAD = """## Order 20

The largest error of `c_k`, in multiples of `2^-52`, over points of an interval, in float64.
*Relative* to `|c_k|`, which may pass near 0. To its *scale*: `min over r of max_j |c_j| r^(j - k)`,
what Cauchy's estimate says `c_k` can be, so that a `c_k` that happens to be small counts as its
neighbours do. A recurrence that does not amplify errors grows like `k`.

![error by degree](accuracy.png)

| function | interval | {relative} | {scaled} |
|---|---|{rule}
"""
LONG_NOTES = """
What grows faster: `erfcx` and `log_ndtr` near 1, where their recurrence turns (from there on it is
run downwards); `sinc` away from 0, a quotient whose coefficients fall like `1 / k!` while the error
falls like `|pi x|^-k`. `bessel_j0` starts with the error of torch's value.
"""
SHOWN = (4, 8, 12, 16, 20)


def long_line(case: Long, relative: Sequence[float], scaled: Sequence[float]) -> str:
    cells = [rounded(e[k]) for e in (relative, scaled) for k in SHOWN]
    return f"| `{case.name}` | [{case.low:g}, {case.high:g}] | {' | '.join(cells)} |"


INFINITY_HEAD = """## At infinity

Where the value is a number, and any of the first three derivatives, here or by torch's reverse mode
over reverse mode, is not; all others are what the mathematics says. NaN here is NaN in torch too.

| function | x | derivatives | by torch |
|---|---|---|---|
"""


def _three(derivatives: Sequence[float]) -> str:
    return ", ".join("NaN" if math.isnan(d) else f"{d + 0.0:g}" for d in derivatives)


def infinity_table() -> Iterator[str]:
    for name, x, ours, torchs in at_infinity():
        if any(map(math.isnan, ours + torchs)):
            yield f"| `{name}` | {x:g} | {_three(ours)} | {_three(torchs)} |"


def claims(text: str) -> dict[tuple[str, str, str], Row]:
    """The rows of the page, by function, domain and dtype."""
    found = {}
    for part in text.splitlines():
        cells = [cell.strip() for cell in part.strip("|").split("|")]
        if len(cells) != ORDER + 5 or cells[2] not in DTYPES:
            continue
        pairs = [re.split(" / ", cell) for cell in cells[3:-1]]
        row = Row(
            cells[0].strip("`"),
            cells[1],
            cells[2],
            tuple(float(largest) for _, largest in pairs),
            tuple(float(median) for median, _ in pairs),
            float(cells[-1]),
        )
        found[row.key] = row
    return found


def long_claims(text: str) -> dict[str, tuple[float, ...]]:
    """The errors at the shown degrees, relative and scaled, by function."""
    names = {case.name for case in LONG}
    found = {}
    for part in text[text.index(LONG_HEAD[:10]) :].splitlines():
        cells = [cell.strip() for cell in part.strip("|").split("|")]
        if len(cells) == 2 + 2 * len(SHOWN) and cells[0].strip("`") in names:
            found[cells[0].strip("`")] = tuple(map(float, cells[2:]))
    return found


# --- the picture ----------------------------------------------------------------------------------

LABELLED = ("exp", "tanh", "tanh network", "gelu", "bessel_j0", "erfcx", "log_ndtr", "sinc")


def picture(errors: dict[str, tuple[Sequence[float], Sequence[float]]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    style = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
    colours = dict(zip(LABELLED, pyplot.colormaps["tab10"].colors, strict=False))
    with pyplot.rc_context(style):
        figure, panels = pyplot.subplots(1, 2, figsize=(11, 4.6), sharey=True, layout="constrained")
        titles = ("relative to its scale (Cauchy's estimate)", "relative to $|c_k|$")
        degrees = range(HIGH + 1)
        for panel, which, title in zip(panels, (1, 0), titles, strict=True):
            for name, both in errors.items():
                heights = [max(e, 0.1) for e in both[which]]
                marked = name in colours
                panel.plot(
                    degrees,
                    heights,
                    color=colours.get(name, "0.78"),
                    linewidth=1.8 if marked else 1.0,
                    zorder=2 if marked else 1,
                    label=name if marked else None,
                )
            panel.set_yscale("log")
            panel.set_xticks(range(0, HIGH + 1, 4))
            panel.set_xlabel("degree k")
            panel.set_title(title, fontsize=11, loc="left")
            panel.grid(axis="y", color="0.9", linewidth=0.6)
        others = f"{len(errors) - len(colours)} others"
        panels[0].plot([], [], color="0.78", linewidth=1.0, label=others)
        panels[0].set_ylabel(r"largest error of $c_k$, in multiples of $2^{-52}$")
        # in the order in which the lines end
        handles, names = panels[0].get_legend_handles_labels()
        ends = [errors[name][1][HIGH] if name in errors else 0 for name in names]
        order = sorted(range(len(names)), key=lambda n: -ends[n])
        panels[0].legend(
            [handles[n] for n in order],
            [names[n] for n in order],
            frameon=False,
            fontsize=9,
            loc="upper left",
        )
        figure.savefig(PICTURE, dpi=130, facecolor="white")


def main() -> None:
    text = [HEAD.format(points=POINTS)]
    for part in table(rows):
        print(part, flush=True)
        text.append(part)
    text.append(NOTES)
    headings = [
        " | ".join(f"{what} k = {k}" if k == SHOWN[0] else str(k) for k in SHOWN)
        for what in ("relative,", "to scale,")
    ]
    text.append(
        LONG_HEAD.format(
            relative=headings[0], scaled=headings[1], rule="---|" * 2 * len(SHOWN)
        ).rstrip("\n")
    )
    errors = {}
    for case in LONG:
        errors[case.name] = long_errors(case)
        text.append(long_line(case, *errors[case.name]))
        print(text[-1], flush=True)
    picture(errors)
    text += [LONG_NOTES, INFINITY_HEAD.rstrip("\n"), *infinity_table()]
    PAGE.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
