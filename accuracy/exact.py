"""Exact series: Taylor series of mpmath numbers, at a precision that is found to be enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mpmath as mp


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
