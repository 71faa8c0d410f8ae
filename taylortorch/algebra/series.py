"""The algebra: recurrences on truncated power series graded by degree.

A series of order ``K`` is a tuple of ``K + 1`` blocks. Block ``k`` holds every Taylor coefficient
of degree ``k``: the number ``c_k`` of ``x(t) = c_0 + c_1 t + ... + c_K t**K``, or one such number
per direction, or one per multi-index (see ``structures.py``). ``None`` is a block known to be zero.

Blocks only have to support ``+``, ``-``, ``*`` and ``/``: tensors, floats and exact
``fractions.Fraction`` all do, so the algebra is tested in exact arithmetic. Nothing here evaluates
``exp`` or ``sin``: the caller passes the value ``y0`` of the result, and gets the series that
starts with it.

Every recurrence comes from one first-order differential equation, read off degree by degree. With
several variables the degree-k part of ``x`` obeys Euler's identity (the sum of
``t_i d/dt_i`` multiplies it by ``k``), so the same recurrences hold with ``k`` the total degree.

Names in all of them: ``x`` input series, ``y`` output series, ``k`` the degree being computed,
``j`` the summation index, ``s`` the structure whose product multiplies blocks of degree >= 1.

Sources: Griewank & Walther, *Evaluating Derivatives* (2nd ed., 2008), chapter 13, tables 13.1 and
13.2; Neidinger, *Efficient recurrence relations for univariate and multivariate Taylor series
coefficients* (2013), for the multivariate reading.

The recurrences say how the block of degree ``k`` follows from lower ones; ``by_degree`` runs them,
at once or as the input becomes known (``streams.py``).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .streams import Stream, Term
from .structures import Structure


def by_degree(first: Block, order: int, term: Term, *inputs: Any) -> Sequence[Block]:
    """The blocks ``[first, term(y, 1), ..., term(y, order)]``, ``y`` being those formed before.

    A list; a stream where one of the inputs, which are what ``term`` reads, is one.
    """
    for blocks in inputs:
        if type(blocks) is Stream:
            return Stream(blocks.tape, first, order + 1, term)
    y = [first]
    for k in range(1, order + 1):
        y.append(term(y, k))
    return y


def each(f: Callable[[Block], Block], blocks: Sequence[Block], first: Block) -> Sequence[Block]:
    """``first``, then ``f`` of every block of degree >= 1 that is not structurally zero."""

    def term(y: Sequence[Block], k: int) -> Block:
        block = blocks[k]
        return None if block is None else f(block)

    return by_degree(first, len(blocks) - 1, term, blocks)


Block = Any


Series = Sequence[Block]


def total(terms: Iterable[Block]) -> Block:
    """The sum of the blocks that are not structurally zero."""
    result = None
    for term in terms:
        if term is not None:
            result = term if result is None else result + term
    return result


def times(block: Block, factor: Any, divisor: int = 1) -> Block:
    """``block * factor / divisor`` in as few passes as exact arithmetic allows."""
    if block is None or (isinstance(factor, (int, float)) and factor == 0):
        return None
    if divisor != 1:
        if factor % divisor == 0:
            return times(block, factor // divisor)
        if divisor % factor == 0:
            return block / (divisor // factor)
        return block * factor / divisor
    if isinstance(factor, (int, float)) and abs(factor) == 1:
        return block if factor == 1 else -block
    return block * factor


def product(s: Structure, i: int, a: Block, j: int, b: Block) -> Block:
    """The product, of degree ``i + j``, of a degree-``i`` block and a degree-``j`` block."""
    if a is None or b is None:
        return None
    if i == 0 or j == 0:
        return a * b
    return s.product(operator.mul, (i, j), (a, b))


def add_product(
    s: Structure,
    total: Block,
    i: int,
    a: Block,
    j: int,
    b: Block,
    factor: Any = 1,
    divisor: int = 1,
) -> Block:
    """``total + a * b * factor / divisor``: one pass for blocks that can (``addcmul``)."""
    if a is None or b is None or factor == 0:
        return total
    if total is None:
        return product(s, i, times(a, factor, divisor), j, b)
    if hasattr(total, "addcmul"):
        if i == 0 or j == 0 or s.elementwise:
            return total.addcmul(a, b, value=factor / divisor)
        added = s.add_rows(total, (i, j), a, b, factor / divisor)
        if added is not None:
            return added
    return total + times(product(s, i, a, j, b), factor, divisor)


def convolve(s: Structure, k: int, x: Series, y: Series, last: int = 0) -> Block:
    """The degree-k part of ``x * y``, without its last ``last`` terms."""
    result = None
    for i in range(k + 1 - last):
        result = add_product(s, result, i, x[i], k - i, y[k - i])
    return result


def cauchy(s: Structure, x: Series, y: Series, y0: Block = None) -> Series:
    """``x * y``: ``z_k = sum_i x_i y_{k-i}``; ``y0`` is its value, where that is known."""
    first = x[0] * y[0] if y0 is None else y0
    order = min(len(x), len(y)) - 1
    return by_degree(first, order, lambda _, k: convolve(s, k, x, y), x, y)


def square_term(
    s: Structure, k: int, x: Series, first: int = 0, total: Block = None, factor: Any = 1
) -> Block:
    """``total + factor`` times the degree-k part of ``x * x`` from terms of degree >= ``first``.

    Each pair is formed once.
    """
    half = k // 2
    if k % 2 == 0 and half >= first:
        total = add_product(s, total, half, x[half], half, x[half], factor)
    for i in range(first, (k + 1) // 2):
        total = add_product(s, total, k - i, x[k - i], i, x[i], 2 * factor)
    return total


def square(s: Structure, x: Series, y0: Block = None) -> Series:
    """``x * x``, at half the products of ``cauchy(x, x)``."""
    first = x[0] * x[0] if y0 is None else y0
    return by_degree(first, len(x) - 1, lambda _, k: square_term(s, k, x), x)


def square_root(s: Structure, y0: Block, x: Series) -> Series:
    """``y y = x``: ``y_k = (x_k - sum_{0<i<k} y_i y_{k-i}) / (2 y_0)``; infinite at 0."""

    def term(y: Series, k: int) -> Block:
        rest = square_term(s, k, y, first=1, total=x[k], factor=-1)
        return None if rest is None else rest / (2 * y0)

    return by_degree(y0, len(x) - 1, term, x)


def logarithm(s: Structure, x: Series) -> Series:
    """The logarithm of a series with the value 1: ``k y_k = k x_k - sum_j j y_j x_{k-j}``."""

    def term(y: Series, k: int) -> Block:
        rest = x[k]
        for j in range(1, k):
            rest = add_product(s, rest, j, y[j], k - j, x[k - j], -j, k)
        return rest

    return by_degree(x[0] - x[0], len(x) - 1, term, x)


def divide(s: Structure, y0: Block, x: Series, d: Series) -> Series:
    """``x / d`` from ``y d = x``: ``y_k = (x_k - sum_{i<k} y_i d_{k-i}) / d_0``."""

    def term(y: Series, k: int) -> Block:
        rest = x[k]
        for i in range(k):
            rest = add_product(s, rest, k - i, d[k - i], i, y[i], -1)
        return None if rest is None else rest / d[0]

    return by_degree(y0, len(x) - 1, term, x, d)


def integrate(s: Structure, y0: Block, *factors: tuple[Series, Series]) -> Series:
    """``y' = sum of g x'`` over pairs ``(x, g)``: ``y_k = (1/k) sum_j j x_j g_{k-j}``.

    ``g`` needs one degree less than ``x``. This one line is every function whose derivative is
    known as a function of its arguments: log, atan, erf, and with two pairs atan2 and hypot.
    """
    order = len(factors[0][0]) - 1
    inputs = [blocks for pair in factors for blocks in pair]
    return by_degree(y0, order, lambda _, k: integrate_term(s, k, *factors), *inputs)


def integrate_term(s: Structure, k: int, *factors: tuple[Series, Series]) -> Block:
    """The degree-k part of ``integrate``."""
    result = None
    for x, g in factors:
        for j in range(k, 0, -1):
            result = add_product(s, result, j, x[j], k - j, g[k - j], j, k)
    return result


def ode(
    s: Structure,
    y0: Block,
    x: Series,
    a: float,
    b: float,
    c: float,
    slope0: Block = None,
    scaled: Callable[[Block], Block] | None = None,
) -> Series:
    """``y' = (a + b y + c y**2) x'``: exp, tanh, sigmoid, tan, reciprocal are three numbers each.

    ``slope0`` is the value of ``a + b y + c y**2`` at ``y0`` where a better formula than this one
    is known (in the tails of sigmoid it cancels). ``scaled(block)`` is a block times that value, in
    one pass where there is a function for it. Up to order 2 the series is written out:
    ``y_1 = s x_1`` and ``y_2 = s (x_2 + (b/2 + c y_0) x_1 x_1)``.
    """
    if slope0 is None and (scaled is None or len(x) > 3):
        slope0 = quadratic_value(y0, a, b, c)
    if len(x) > 3:
        slope: list[Block] = [slope0]
        higher = quadratic_terms(s, y0, b, c)

        def term(y: Series, k: int) -> Block:
            if k > 1:
                slope.append(higher(y, k - 1))
            return integrate_term(s, k, (x, slope))

    else:

        def term(y: Series, k: int) -> Block:
            block = x[k]
            if k == 2 and x[1] is not None:
                square = product(s, 1, x[1], 1, x[1])
                if not c:
                    block = total((block, times(square, b, 2)))
                elif not b:
                    block = add_product(s, block, 2, square, 0, y0, c)
                else:
                    block = add_product(s, block, 2, square, 0, b + y0 * (2 * c), 1, 2)
            if scaled is None or block is None:
                return times(block, slope0)
            return scaled(block)

    return by_degree(y0, len(x) - 1, term, x)


def quadratic_value(y0: Block, a: float, b: float, c: float) -> Block:
    """``a + b y_0 + c y_0**2``."""
    if not b and c == -1:
        return a - y0 * y0
    if not (a or b or c):
        return 0
    return total((a or None, times(y0, b), times(y0 * y0, c) if c else None))


def quadratic_terms(s: Structure, y0: Block, b: float, c: float) -> Callable[[Series, int], Block]:
    """The terms of degree ``k >= 1`` of ``a + b y + c y**2``, each from ``y`` up to degree k."""
    # (b + 2 c y_0) y_k, plus products of lower degrees
    linear = total((b or None, y0 * (2 * c))) if c else b

    def term(y: Series, k: int) -> Block:
        result = times(y[k], linear)
        return square_term(s, k, y, first=1, total=result, factor=c) if c else result

    return term


def rotate(
    s: Structure, s0: Block, c0: Block, x: Series, sign: int, sine_only: bool | None = None
) -> tuple[Series, Series]:
    """The pair ``s' = c x'``, ``c' = sign s x'``: (sin, cos) for -1, (sinh, cosh) for +1.

    With ``sine_only`` True the cosine, with False the sine, is left without its highest degree,
    which the other one does not need.
    """
    sine, cosine = [s0], [c0]

    def term(_: Series, k: int) -> Block:
        last = k == len(x) - 1
        next_sine = None if last and sine_only is False else integrate_term(s, k, (x, cosine))
        next_cosine = None if last and sine_only else integrate_term(s, k, (x, sine))
        sine.append(next_sine)
        cosine.append(times(next_cosine, sign))
        return sine[k], cosine[k]

    pairs = by_degree((s0, c0), len(x) - 1, term, x)
    return each(lambda pair: pair[0], pairs, s0), each(lambda pair: pair[1], pairs, c0)


def power(s: Structure, y0: Block, x: Series, p: Any) -> Series:
    """``x**p`` for a real ``p`` and ``x_0 != 0``, from ``x y' = p y x'``.

    ``y_k = (1/(k x_0)) sum_j (j p - (k - j)) x_j y_{k-j}``.
    """

    def term(y: Series, k: int) -> Block:
        rest = None
        for j in range(1, k + 1):
            rest = add_product(s, rest, j, x[j], k - j, y[k - j], j * (p + 1) - k)
        return None if rest is None else rest / (x[0] * k)

    return by_degree(y0, len(x) - 1, term, x)


def integer_power(s: Structure, x: Series, n: int, y0: Block = None) -> Series:
    """``x**n`` for ``n >= 1`` by repeated squaring: right at ``x_0 = 0`` at every order."""
    if n == 1:
        return each(lambda block: block, x, x[0] if y0 is None else y0)
    half = integer_power(s, x, n // 2)
    if n % 2 == 0:
        return square(s, half, y0)
    return cauchy(s, square(s, half), x, y0)


def along(s: Structure, f: Sequence[Block], x: Series) -> list[Block]:
    """The series of ``f_0`` along ``x``, to order ``len(f) - 1 <= 2``.

    ``f`` holds the values of a function, its first and its second derivative at ``x_0``.
    """
    result = [f[0]]
    if len(f) > 1:
        result.append(product(s, 1, x[1], 0, f[1]))
    if len(f) > 2:
        square = product(s, 1, x[1], 1, x[1])
        result.append(add_product(s, product(s, 2, x[2], 0, f[1]), 2, square, 0, f[2], 1, 2))
    return result


def compose(s: Structure, f: Series, x: Series) -> Series:
    """``f(x)`` from ``f_j = f^(j)(x_0) / j!``, by Horner's rule in ``h = x - x_0``.

    Needs only numbers, so it serves where no recurrence is known (lgamma) or where the recurrence
    divides by zero (a real power at zero).
    """
    order = len(x) - 1
    y: Series = [f[order]]
    for j in range(order - 1, -1, -1):
        # the factor h has no block of degree 0, so y is not asked for its block of degree k
        def term(_: Series, k: int, y: Series = y) -> Block:
            return convolve(s, k, y, x, last=1)

        y = by_degree(f[j], order - j, term, x)
    return y


def reverse(s: Structure, y: Series) -> list[Block]:
    """The series ``t`` with ``y(t(z)) = y_0 + z``, for ``y_1 != 0``, by Lagrange's formula.

    ``t_k`` is, over ``k``, the coefficient of degree ``k - 1`` of ``q**-k``, where ``q`` is
    ``(y - y_0) / t``; each power is one recurrence. ``t_0`` is structurally zero.
    """
    q = y[1:]
    t: list[Block] = [None]
    for k in range(1, len(y)):
        powers = power(s, 1 / q[0] ** k, q[:k], -k)
        t.append(times(powers[k - 1], 1, k))
    return t
