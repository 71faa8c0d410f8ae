"""The recurrences in exact rational arithmetic, without torch.

The second derivation is the composition formula over integer partitions, fed with derivatives of
the outer function that are written down in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction as Q
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taylortorch.algebra import series
from taylortorch.algebra.structures import Line
from tests.oracle import faa_di_bruno, partitions

LINE = Line()
exactly = settings(max_examples=60)
numbers = st.builds(Q, st.integers(-4, 4), st.integers(1, 3))
nonzero = numbers.filter(bool)
# zeros, structural zeros and repeated values are likely
higher = st.lists(
    st.one_of(st.none(), st.sampled_from([Q(0), Q(1), Q(1), Q(-1)]), numbers), max_size=7
)


def dense(blocks: Sequence[Any]) -> list[Any]:
    return [Q(0) if b is None else b for b in blocks]


def variable(x0: Any, order: int) -> list[Any]:
    """``x_0 + t``."""
    return [Q(x0), Q(1), *[None] * (order - 1)][: order + 1]


def times_by_hand(x: Sequence[Any], y: Sequence[Any]) -> list[Any]:
    """The truncated product of two polynomials, entry by entry."""
    result = [Q(0)] * len(x)
    for i, a in enumerate(dense(x)):
        for j, b in enumerate(dense(y)):
            if i + j < len(x):
                result[i + j] += a * b
    return result


def power_by_hand(x: Sequence[Any], n: int) -> list[Any]:
    result = [Q(1)] + [Q(0)] * (len(x) - 1)
    for _ in range(n):
        result = times_by_hand(result, x)
    return result


def reciprocal(x: Sequence[Any]) -> list[Any]:
    return series.divide(LINE, 1 / x[0], [Q(1), *[None] * (len(x) - 1)], x)


def exponential(y0: Any, x: Sequence[Any]) -> list[Any]:
    return series.ode(LINE, y0, x, 0, 1, 0)


def logarithm(y0: Any, x: Sequence[Any]) -> list[Any]:
    return series.integrate(LINE, y0, (x, reciprocal(x)))


def polynomial_derivatives(slope: Sequence[Any], y0: Any, order: int) -> list[Any]:
    """``f^(m)(x_0) / m!`` of ``f' = slope(f)``: each derivative is a polynomial in ``f``."""
    p, result = [Q(0), Q(1)], []
    for m in range(order + 1):
        result.append(sum(c * y0**i for i, c in enumerate(p)) / math.factorial(m))
        derivative = [i * c for i, c in enumerate(p)][1:]
        p = [Q(0)] * (len(derivative) + len(slope) - 1)
        for i, a in enumerate(derivative):
            for j, b in enumerate(slope):
                p[i + j] += a * b
    return result


def binomial(p: Any, m: int) -> Any:
    return math.prod((Q(p) - j) / (j + 1) for j in range(m))


@exactly
@given(numbers, higher, numbers, higher)
def test_cauchy_is_polynomial_multiplication(x0: Q, x: list, y0: Q, y: list) -> None:
    order = min(len(x), len(y))
    x, y = [x0, *x], [y0, *y]
    expected = times_by_hand(x[: order + 1], y[: order + 1])
    assert dense(series.cauchy(LINE, x, y)) == expected
    assert dense(series.cauchy(LINE, y, x)) == expected


@exactly
@given(numbers, higher)
def test_square_is_the_product_with_itself(x0: Q, x: list) -> None:
    x = [x0, *x]
    assert dense(series.square(LINE, x)) == times_by_hand(x, x)


@exactly
@given(numbers, higher, st.integers(1, 9))
def test_integer_power_is_the_repeated_product(x0: Q, x: list, n: int) -> None:
    x = [x0, *x]
    assert dense(series.integer_power(LINE, x, n)) == power_by_hand(x, n)


@pytest.mark.parametrize("n", range(1, 8))
@pytest.mark.parametrize("order", [0, 1, 3, 9])
def test_integer_power_at_zero_is_a_monomial(n: int, order: int) -> None:
    result = dense(series.integer_power(LINE, variable(0, order), n))
    assert result == [Q(k == n) for k in range(order + 1)]


@exactly
@given(numbers, higher, nonzero, higher)
def test_quotient_times_divisor_is_the_dividend(x0: Q, x: list, d0: Q, d: list) -> None:
    order = min(len(x), len(d))
    x, d = [x0, *x[:order]], [d0, *d[:order]]
    quotient = series.divide(LINE, x0 / d0, x, d)
    assert times_by_hand(quotient, d) == dense(x)


@exactly
@given(nonzero, higher)
def test_reciprocal_by_division_by_ode_and_by_partitions(x0: Q, x: list) -> None:
    x = [x0, *x]
    expected = faa_di_bruno([(-1) ** m / x0 ** (m + 1) for m in range(len(x))], dense(x))
    assert dense(reciprocal(x)) == expected
    assert dense(series.ode(LINE, 1 / x0, x, 0, 0, -1)) == expected
    assert dense(series.power(LINE, 1 / x0, x, -1)) == expected
    assert times_by_hand(expected, x) == [Q(1)] + [Q(0)] * (len(x) - 1)


@exactly
@given(nonzero, higher)
def test_logarithm_against_partitions_and_inverse_of_exp(x0: Q, x: list) -> None:
    x = [x0, *x]
    f = [Q(5)] + [Q((-1) ** (m - 1), m) / x0**m for m in range(1, len(x))]
    y = logarithm(Q(5), x)
    assert dense(y) == faa_di_bruno(f, dense(x))
    assert dense(exponential(x0, y)) == dense(x)


@exactly
@given(numbers, numbers, numbers, numbers, numbers, higher)
def test_ode_against_partitions(a: Q, b: Q, c: Q, y0: Q, x0: Q, x: list) -> None:
    x = [x0, *x]
    y = series.ode(LINE, y0, x, a, b, c)
    f = polynomial_derivatives([a, b, c], y0, len(x) - 1)
    assert dense(y) == faa_di_bruno(f, dense(x))
    assert y == series.ode(LINE, y0, x, a, b, c, slope0=a + b * y0 + c * y0 * y0)


@exactly
@given(numbers, higher)
def test_tanh_satisfies_its_equation_degree_by_degree(y0: Q, x: list) -> None:
    x = [Q(0), *x]
    y = dense(series.ode(LINE, y0, x, 1, 0, -1))
    slope = [-c for c in times_by_hand(y, y)]
    slope[0] += 1
    derivative = [k * c for k, c in enumerate(y)][1:]
    inner = [k * c for k, c in enumerate(dense(x))][1:]
    assert derivative == times_by_hand(inner, slope)


@exactly
@given(numbers, numbers, higher, st.sampled_from([-1, 1]))
def test_rotation_against_partitions_and_its_invariant(s0: Q, c0: Q, x: list, sign: int) -> None:
    x = [Q(0), *x]
    s, c = (dense(y) for y in series.rotate(LINE, s0, c0, x, sign))
    sine, cosine = [], []
    a, b = s0, c0
    for m in range(len(x)):
        sine.append(a / math.factorial(m))
        cosine.append(b / math.factorial(m))
        a, b = b, sign * a
    assert s == faa_di_bruno(sine, dense(x))
    assert c == faa_di_bruno(cosine, dense(x))
    squares = zip(times_by_hand(c, c), times_by_hand(s, s), strict=True)
    invariant = [p - sign * q for p, q in squares]
    assert invariant == [c0 * c0 - sign * s0 * s0] + [Q(0)] * (len(x) - 1)


@pytest.mark.parametrize("sine_only", [True, False])
def test_half_a_rotation_is_the_same_without_the_other_halfs_last_degree(sine_only: bool) -> None:
    x = [Q(0), Q(2), None, Q(1, 3), Q(-1)]
    sine, cosine = series.rotate(LINE, Q(3, 5), Q(4, 5), x, -1)
    s, c = series.rotate(LINE, Q(3, 5), Q(4, 5), x, -1, sine_only=sine_only)
    wanted, other = (s, c) if sine_only else (c, s)
    whole, rest = (sine, cosine) if sine_only else (cosine, sine)
    assert wanted == whole
    assert other[:4] == rest[:4]


@exactly
@given(nonzero, higher, st.integers(-5, 5), st.sampled_from([1, 2, 3]))
def test_power_against_partitions(root: Q, x: list, n: int, d: int) -> None:
    x, p = [root**d, *x], Q(n, d)
    y0 = root**n
    f = [binomial(p, m) * y0 / x[0] ** m for m in range(len(x))]
    y = series.power(LINE, y0, x, p)
    assert dense(y) == faa_di_bruno(f, dense(x))
    if n > 0:
        assert power_by_hand(y, d) == power_by_hand(x, n)


@exactly
@given(numbers, higher, st.lists(numbers, min_size=8, max_size=8))
def test_compose_against_partitions_and_horner(x0: Q, x: list, f: list) -> None:
    x = [x0, *x]
    y = dense(series.compose(LINE, f[: len(x)], x))
    assert y == faa_di_bruno(f, dense(x))
    h = [Q(0), *x[1:]]
    powers = [power_by_hand(h, m) for m in range(len(x))]
    assert y == [sum(c * p[k] for c, p in zip(f, powers, strict=False)) for k in range(len(x))]


def test_composition_is_associative() -> None:
    f, g = [Q(n * n - 3, n + 1) for n in range(7)], [Q(1), Q(2), Q(0), Q(-1), Q(2), Q(2), Q(0)]
    x = [Q(4), Q(0), Q(-3), Q(1, 2), Q(1, 2), Q(0), Q(1)]
    inner_first = series.compose(LINE, f, series.compose(LINE, g, x))
    outer_first = series.compose(LINE, series.compose(LINE, f, g), x)
    assert inner_first == outer_first


@exactly
@given(nonzero, nonzero, higher, higher)
def test_integration_of_two_pairs_is_atan_of_the_quotient(x0: Q, y0: Q, x: list, y: list) -> None:
    order = min(len(x), len(y))
    x, y = [x0, *x[:order]], [y0, *y[:order]]
    r2 = [a + b for a, b in zip(times_by_hand(x, x), times_by_hand(y, y), strict=True)]
    along_y = series.divide(LINE, x0 / r2[0], x, r2)
    along_x = [-c for c in dense(series.divide(LINE, y0 / r2[0], y, r2))]
    angle = series.integrate(LINE, Q(7), (y, along_y), (x, along_x))
    q = dense(series.divide(LINE, y0 / x0, y, x))
    one_plus = times_by_hand(q, q)
    one_plus[0] += 1
    assert dense(angle) == dense(series.integrate(LINE, Q(7), (q, reciprocal(one_plus))))


def test_integration_needs_one_degree_less_of_the_slope() -> None:
    x, g = [Q(1), Q(2), Q(3), Q(4)], [Q(5), Q(6), Q(7)]
    assert series.integrate(LINE, Q(0), (x, g)) == [0, 10, Q(12 + 30, 2), Q(14 + 36 + 60, 3)]


ORDER_ZERO: list[tuple[str, Callable[[], list]]] = [
    ("cauchy", lambda: series.cauchy(LINE, [Q(3)], [Q(3)])),
    ("square", lambda: series.square(LINE, [Q(3)])),
    ("divide", lambda: series.divide(LINE, Q(9), [Q(27)], [Q(3)])),
    ("integrate", lambda: series.integrate(LINE, Q(9), ([Q(3)], []))),
    ("ode", lambda: series.ode(LINE, Q(9), [Q(3)], 1, 2, 3)),
    ("rotate", lambda: series.rotate(LINE, Q(9), Q(1), [Q(3)], -1)[0]),
    ("power", lambda: series.power(LINE, Q(9), [Q(3)], 2)),
    ("integer_power", lambda: series.integer_power(LINE, [Q(3)], 2)),
    ("compose", lambda: series.compose(LINE, [Q(9)], [Q(3)])),
]


@pytest.mark.parametrize(("name", "result"), ORDER_ZERO)
def test_order_zero_is_the_value_alone(name: str, result: Callable) -> None:
    assert result() == [9]


def test_structural_zeros_stay_structural() -> None:
    x = [Q(2), None, None, None]
    constant = [None] * 3
    assert series.cauchy(LINE, x, x) == [4, *constant]
    assert series.square(LINE, x) == [4, *constant]
    assert series.divide(LINE, Q(1), x, x) == [1, *constant]
    assert series.integrate(LINE, Q(1), (x, x)) == [1, *constant]
    assert series.ode(LINE, Q(1), x, 1, 1, 1) == [1, *constant]
    assert series.rotate(LINE, Q(0), Q(1), x, -1) == ([0, *constant], [1, *constant])
    assert series.power(LINE, Q(4), x, 2) == [4, *constant]
    assert series.integer_power(LINE, x, 5) == [32, *constant]
    assert series.compose(LINE, [Q(1), Q(2), Q(3), Q(4)], x) == [1, *constant]
    assert series.square(LINE, [Q(0), None, Q(1), None, Q(1)])[1::2] == [None, None]


def tangent(order: int) -> list[Any]:
    return series.ode(LINE, Q(0), variable(0, order), 1, 0, 1)


def root(x: Sequence[Any], p: Any) -> list[Any]:
    return series.power(LINE, Q(1), x, p)


KNOWN: list[tuple[str, Callable[[], Any], Any]] = [
    ("tan(t)[7]", lambda: tangent(13)[7], Q(17, 315)),
    ("tan(t)[13]", lambda: tangent(13)[13], Q(21844, 6081075)),
    ("sqrt(1+t)[2]", lambda: root(variable(1, 2), Q(1, 2))[2], Q(-1, 8)),
    ("cbrt(1+t)[2]", lambda: root(variable(1, 2), Q(1, 3))[2], Q(-1, 9)),
    (
        "fourth root of 1-t, [14]",
        lambda: root([Q(1), Q(-1), *[None] * 13], Q(1, 4))[14],
        Q(-4188908511, 549755813888),
    ),
    # cbrt(t**3 + t**4) = t cbrt(1 + t)
    ("cbrt(t^3+t^4)[5]", lambda: root(variable(1, 4), Q(1, 3))[4], Q(-10, 243)),
    (
        "cos(t)[8]",
        lambda: series.rotate(LINE, Q(0), Q(1), variable(0, 8), -1)[1][8],
        Q(1, math.factorial(8)),
    ),
    ("1/(1-t)", lambda: reciprocal([Q(1), Q(-1), *[None] * 10]), [Q(1)] * 12),
    # t / (t + t**2) = 1 / (1 + t)
    ("1/(1+t)", lambda: reciprocal(variable(1, 6)), [Q((-1) ** k) for k in range(7)]),
    ("exp(t)", lambda: exponential(Q(1), variable(0, 9))[9], Q(1, math.factorial(9))),
    ("log(1+t)[6]", lambda: logarithm(Q(0), variable(1, 6))[6], Q(-1, 6)),
    (
        "asin(t)[9]",
        lambda: series.integrate(
            LINE, Q(0), (variable(0, 9), root([Q(1), None, Q(-1), *[None] * 7], Q(-1, 2)))
        )[9],
        Q(math.comb(8, 4), 4**4 * 9),
    ),
    (
        "sigmoid(t)[7]",
        lambda: series.ode(LINE, Q(1, 2), variable(0, 7), 0, 1, -1)[7],
        Q(-17, 80640),
    ),
    (
        "(1+t)(2+2t)(3+3t)",
        lambda: series.cauchy(
            LINE,
            series.cauchy(LINE, [Q(1), Q(1), None, None], [Q(2), Q(2), None, None]),
            [Q(3), Q(3), None, None],
        ),
        [6, 18, 18, 6],
    ),
]


@pytest.mark.parametrize(("name", "compute", "expected"), KNOWN, ids=[k[0] for k in KNOWN])
def test_known_coefficients(name: str, compute: Callable, expected: Any) -> None:
    assert compute() == expected


def test_non_integer_power_in_exact_and_in_floating_arithmetic() -> None:
    exact = series.power(LINE, Q(1), variable(1, 13), Q(16, 5))[13]
    assert exact == binomial(Q(16, 5), 13)
    assert float(exact) == pytest.approx(-5.4021062656e-5, rel=1e-10)
    floating = series.power(LINE, 1.0, [1.0, 1.0, *[None] * 12], 3.2)[13]
    assert floating == pytest.approx(float(exact), rel=1e-12)


def test_inverse_of_t_exp_t() -> None:
    y = [Q(0)] + [Q((-n) ** (n - 1), math.factorial(n)) for n in range(1, 16)]
    assert times_by_hand(y, exponential(Q(1), y)) == dense(variable(0, 15))


def test_negative_powers_are_powers_of_the_reciprocal() -> None:
    for denominator, p in [(4, 2), (5, Q(5, 2))]:
        # (1 + (1.5 + t) / d) scaled to start at 1
        x = [Q(1), Q(1, denominator) / (1 + Q(3, 2) / denominator), *[None] * 8]
        inverse = reciprocal(x)
        assert dense(root(x, -p)) == dense(root(inverse, p))


def test_logarithm_of_a_square_is_twice_the_logarithm() -> None:
    x = [Q(1), Q(-1), *[None] * 8]
    doubled = [2 * c for c in dense(logarithm(Q(0), x))]
    assert dense(logarithm(Q(0), series.square(LINE, x))) == doubled


@pytest.mark.parametrize(
    ("block", "factor", "expected"),
    [(Q(3), 0, None), (Q(3), 0.0, None), (Q(3), 1, Q(3)), (Q(3), -1, Q(-3)), (None, 2, None)],
)
def test_times_a_number_knows_zero_and_one(block: Any, factor: Any, expected: Any) -> None:
    assert series.times(block, factor) == expected


@pytest.mark.parametrize(("numerator", "denominator"), [(1, 1), (6, 3), (2, 6), (2, 3), (1, 7)])
def test_times_is_exact(numerator: int, denominator: int) -> None:
    assert series.times(Q(5, 11), numerator, denominator) == Q(5 * numerator, 11 * denominator)
    assert series.times(None, numerator, denominator) is None


def test_partitions_of_seven_are_all_there_once() -> None:
    found = [tuple(sorted(p.items())) for p in partitions(7)]
    assert len(found) == len(set(found)) == 15
    assert all(sum(part * m for part, m in p) == 7 for p in found)
