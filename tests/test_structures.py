"""Every structure in exact rational arithmetic: blocks are numpy arrays of fractions.

A bundle is checked against lines, a collapsed series against the weighted sum of a bundle, a
multivariate series against polynomials multiplied and differentiated term by term.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from fractions import Fraction as Q
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taylortorch.algebra import series
from taylortorch.algebra.indices import IndexSet, MultiIndex, Sum, closure, pairings, total_degree
from taylortorch.algebra.structures import Bundle, Collapsed, Line, Multivariate, Structure
from tests.test_series import polynomial_derivatives

exactly = settings(max_examples=60)
Polynomial = dict[MultiIndex, Any]
SHAPE = (2,)


class Arrays:
    """What ``Multivariate`` needs of numpy arrays of fractions."""

    @staticmethod
    def concatenate(rows: Sequence[np.ndarray]) -> np.ndarray:
        shape = np.broadcast_shapes(*(row.shape for row in rows))
        return np.concatenate([np.broadcast_to(row, shape) for row in rows])

    @staticmethod
    def zeros_like(row: np.ndarray) -> np.ndarray:
        return np.full(row.shape, Q(0), dtype=object)

    @staticmethod
    def sum_rows(block: np.ndarray, targets: Sequence[int], count: int) -> np.ndarray:
        result = np.full((count, *block.shape[1:]), Q(0), dtype=object)
        for row, target in zip(block, targets, strict=True):
            result[target] = result[target] + row
        return result

    @staticmethod
    def take(block: np.ndarray, rows: Sequence[int], factors: Sequence[int]) -> np.ndarray:
        return np.array([block[row] * f for row, f in zip(rows, factors, strict=True)], object)

    @staticmethod
    def sum(block: np.ndarray, weights: Sequence[Q] | None) -> np.ndarray:
        terms = (
            block if weights is None else [w * row for w, row in zip(weights, block, strict=True)]
        )
        return np.array([sum(terms)], dtype=object)


def fractions(generator: random.Random, *shape: int) -> np.ndarray:
    """Entries that are often zero or equal."""
    size = int(np.prod(shape))
    entries = [Q(generator.choice((0, 0, 1, 1, -1, 2, 3, -5)), 3) for _ in range(size)]
    return np.array(entries, dtype=object).reshape(shape)


def nonzero_value(generator: random.Random) -> np.ndarray:
    return np.array([Q(generator.choice((1, 2, -3, 5)), 2) for _ in range(2)], dtype=object)


# each recurrence as a function of a structure and two series
PROGRAMS: dict[str, Callable] = {
    "cauchy": lambda s, x, y: series.cauchy(s, x, y),
    "square": lambda s, x, y: series.square(s, x),
    "divide": lambda s, x, y: series.divide(s, x[0] / y[0], x, y),
    "integrate": lambda s, x, y: series.integrate(s, x[0], (x, y), (y, x)),
    "ode": lambda s, x, y: series.ode(s, y[0], x, 1, 2, -3),
    "sine": lambda s, x, y: series.rotate(s, x[0], y[0], x, -1)[0],
    "cosh": lambda s, x, y: series.rotate(s, x[0], y[0], x, 1)[1],
    "power": lambda s, x, y: series.power(s, y[0], x, Q(-3, 2)),
    "integer_power": lambda s, x, y: series.integer_power(s, x, 5),
    "compose": lambda s, x, y: series.compose(s, [y[0] * k - k for k in range(9)], x),
    "all in a row": lambda s, x, y: series.ode(
        s, x[0], series.divide(s, y[0] / x[0], series.square(s, y), x), 1, 0, 1
    ),
}
every_program = pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)


def bundle_pair(order: int, count: int, seed: int = 0) -> list[list[Any]]:
    """Two series of ``count`` directions; the second one's directions are shared along the axis."""
    generator = random.Random(seed)
    x = [nonzero_value(generator), *(fractions(generator, count, 2) for _ in range(order))]
    y = [nonzero_value(generator), *(fractions(generator, count, 1) for _ in range(order))]
    if order > 2:
        x[2] = None
    if order > 1:
        y[order] = None
    return [x, y]


def direction(blocks: Sequence[Any], r: int) -> list[Any]:
    return [blocks[0], *(None if b is None else b[r] for b in blocks[1:])]


def same(a: Any, b: Any, shape: tuple[int, ...]) -> bool:
    """Exact equality, with ``None`` for zero and size 1 for a repeated axis."""
    a, b = (np.broadcast_to(np.array(Q(0)) if c is None else c, shape) for c in (a, b))
    return bool((a == b).all())


@every_program
@pytest.mark.parametrize("order", [0, 1, 2, 5])
def test_a_bundle_is_as_many_lines(program: Callable, order: int) -> None:
    x, y = bundle_pair(order, 3)
    bundle = program(Bundle(3), x, y)
    assert len(bundle) == order + 1
    for r in range(3):
        line = program(Line(), direction(x, r), direction(y, r))
        for k in range(order + 1):
            assert same(direction(bundle, r)[k], line[k], SHAPE), (r, k)


WEIGHTS = [1, [Q(1), Q(-1), Q(2, 7)], [Q(0), Q(-3), Q(-3)]]


@every_program
@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_collapsed_is_the_weighted_sum_of_the_bundle(
    program: Callable, order: int, weights: list | int
) -> None:
    s = Collapsed(3, order, weights if weights == 1 else np.array(weights, dtype=object))
    pair = bundle_pair(order, 3, seed=order)
    collapsed_pair = [
        [*x[:order], None if x[order] is None else s.collapse(x[order])] for x in pair
    ]
    bundle = program(Bundle(3), *pair)
    collapsed = program(s, *collapsed_pair)
    for k in range(order):
        assert same(collapsed[k], bundle[k], (3, *SHAPE) if k else SHAPE), k
    top = bundle[order]
    expected = sum((1 if weights == 1 else weights[r]) * top[r] for r in range(3))
    assert same(collapsed[order], expected, SHAPE)


def test_collapsed_lays_out_its_top_as_the_value() -> None:
    s = Collapsed(3, 4)
    assert [s.leads(k) for k in range(5)] == [False, True, True, True, False]
    assert [Bundle(3).leads(k) for k in range(3)] == [False, True, True]
    assert not any(Line().leads(k) for k in range(3))


def test_which_structures_meet_in_which() -> None:
    w = np.array([Q(1), Q(2), Q(3)], dtype=object)
    collapsed, other = Collapsed(3, 4, w), Collapsed(3, 2, w)
    assert Line().meet(Line(), 3) == Line()
    assert Line().meet(Bundle(1), 3) is None
    assert Bundle(3).meet(Bundle(2), 3) is None
    assert collapsed.meet(Collapsed(3, 4, w), 4) == collapsed
    assert collapsed.meet(Collapsed(3, 4, w.copy()), 4) is None
    assert collapsed.meet(Collapsed(3, 4, w.copy()), 3) == Bundle(3)
    assert collapsed.meet(Bundle(3), 4) is None
    for a, b in [(collapsed, Bundle(3)), (Bundle(3), collapsed), (collapsed, collapsed)]:
        assert a.meet(b, 3) == Bundle(3)
    assert collapsed.meet(other, 2) is other.meet(collapsed, 2) is None
    assert collapsed.meet(other, 1) == other.meet(collapsed, 1) == Bundle(3)
    assert collapsed.meet(Collapsed(2, 4), 3) is None
    assert collapsed.truncated(3) == Bundle(3)
    assert collapsed.truncated(4) == collapsed


def test_projection_keeps_the_lowest_blocks() -> None:
    blocks = [Q(1), Q(2), None, Q(4)]
    assert Line().project(blocks, Line(), 2) == [1, 2, None]
    assert Bundle(1).project(blocks, Bundle(1), 3) == blocks


# --- several variables --------------------------------------------------------------------------


def downward(maximal: Sequence[MultiIndex]) -> IndexSet:
    """The smallest downward-closed set with these multi-indices."""
    inside = set()
    for index in maximal:
        inside |= set(itertools.product(*(range(a + 1) for a in index)))
    order = max(map(sum, inside))
    return tuple(
        tuple(sorted((a for a in inside if sum(a) == k), reverse=True)) for k in range(order + 1)
    )


def sets_over(coordinates: int) -> st.SearchStrategy[IndexSet]:
    index = st.tuples(*[st.integers(0, 3)] * coordinates).filter(lambda a: 0 < sum(a) < 7)
    return st.lists(index, min_size=1, max_size=3).map(downward)


index_sets = st.integers(1, 3).flatmap(sets_over)
index_set_pairs = st.integers(1, 3).flatmap(lambda n: st.tuples(sets_over(n), sets_over(n)))
FIXED_SETS = [
    *(total_degree(n, order) for n, order in [(1, 1), (1, 6), (2, 5), (3, 4)]),
    downward([(1, 1)]),
    downward([(2, 0, 1), (0, 3, 0)]),
    downward([(4, 1), (0, 2)]),
    downward([(0, 3, 2)]),
]
every_set = pytest.mark.parametrize("indices", FIXED_SETS, ids=range(len(FIXED_SETS)))


@pytest.fixture(params=[0, Multivariate.few_rows, 10**9], ids=["gathered", "default", "rows"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products row by row, by one gather and one sum, and as the number of rows decides."""
    monkeypatch.setattr(Multivariate, "few_rows", request.param)


def structure_of(indices: IndexSet) -> Multivariate:
    return Multivariate("origin", indices, Arrays)


def random_series(indices: IndexSet, seed: int) -> list[Any]:
    generator = random.Random(seed)
    blocks = [fractions(generator, len(degree), 2) for degree in indices[1:]]
    if len(blocks) > 2 and seed % 2:
        blocks[1] = None
    return [nonzero_value(generator), *blocks]


def polynomial(blocks: Sequence[Any], indices: IndexSet) -> Polynomial:
    """The coefficients by multi-index; those that are not there are zero."""
    zero = np.array([Q(0), Q(0)], dtype=object)
    result: Polynomial = {indices[0][0]: blocks[0]}
    for k, degree in enumerate(indices[1:], 1):
        for row, index in enumerate(degree):
            block = blocks[k]
            result[index] = zero if block is None else np.broadcast_to(block, (len(degree), 2))[row]
    return result


def multiplied(x: Polynomial, y: Polynomial) -> Polynomial:
    """The product, at the multi-indices of ``x``."""
    result = {index: np.array([Q(0), Q(0)], dtype=object) for index in x}
    for (a, p), (b, q) in itertools.product(x.items(), y.items()):
        index = tuple(i + j for i, j in zip(a, b, strict=True))
        if index in result:
            result[index] = result[index] + p * q
    return result


def differentiated(x: Polynomial, i: int) -> Polynomial:
    return {(*a[:i], a[i] - 1, *a[i + 1 :]): a[i] * c for a, c in x.items() if a[i]}


def restricted(x: Polynomial, to: Polynomial) -> Polynomial:
    return {a: x[a] for a in to}


def linear(a: Any, x: Polynomial, b: Any, y: Polynomial) -> Polynomial:
    return {index: a * x[index] + b * y[index] for index in x}


def equal(x: Polynomial, y: Polynomial) -> bool:
    return x.keys() == y.keys() and all((x[a] == y[a]).all() for a in x)


@every_set
@pytest.mark.usefixtures("path")
def test_multivariate_product_is_polynomial_multiplication(indices: IndexSet) -> None:
    s, x, y = structure_of(indices), random_series(indices, 1), random_series(indices, 2)
    px, py = polynomial(x, indices), polynomial(y, indices)
    assert equal(polynomial(series.cauchy(s, x, y), indices), multiplied(px, py))
    assert equal(polynomial(series.square(s, x), indices), multiplied(px, px))
    cube = multiplied(px, multiplied(px, px))
    assert equal(polynomial(series.integer_power(s, x, 3), indices), cube)


@every_set
@pytest.mark.usefixtures("path")
def test_multivariate_product_of_three_blocks(indices: IndexSet) -> None:
    s, order = structure_of(indices), len(indices) - 1
    for degrees in itertools.product(range(1, order), repeat=3):
        if sum(degrees) > order:
            continue
        blocks = [fractions(random.Random(k), len(indices[d]), 2) for k, d in enumerate(degrees)]
        result = s.product(lambda a, b, c: a * b * c, degrees, blocks)
        parts = [
            {a: Q(0) * blocks[0][0] for degree in indices for a in degree}
            | dict(zip(indices[d], b, strict=True))
            for d, b in zip(degrees, blocks, strict=True)
        ]
        expected = multiplied(parts[0], multiplied(parts[1], parts[2]))
        for row, index in zip(result, indices[sum(degrees)], strict=True):
            assert (row == expected[index]).all()


@every_set
@pytest.mark.usefixtures("path")
def test_multivariate_recurrences_satisfy_their_equations(indices: IndexSet) -> None:
    s, x, d = structure_of(indices), random_series(indices, 3), random_series(indices, 4)
    px, pd = polynomial(x, indices), polynomial(d, indices)
    quotient = series.divide(s, x[0] / d[0], x, d)
    assert equal(multiplied(polynomial(quotient, indices), pd), px)
    y = polynomial(series.ode(s, d[0], x, 2, -1, 3), indices)
    z = polynomial(series.integrate(s, d[0], (x, d), (d, x)), indices)
    sine, cosine = (polynomial(b, indices) for b in series.rotate(s, x[0] - x[0], d[0], x, -1))
    root = polynomial(series.power(s, d[0], x, Q(1, 3)), indices)
    slope = linear(-1, y, 3, multiplied(y, y))
    slope[indices[0][0]] = slope[indices[0][0]] + 2
    for i in range(len(indices[0][0])):
        dx, dd = differentiated(px, i), differentiated(pd, i)
        assert equal(differentiated(y, i), multiplied(dx, slope))
        assert equal(differentiated(z, i), linear(1, multiplied(dx, pd), 1, multiplied(dd, px)))
        assert equal(differentiated(sine, i), multiplied(dx, cosine))
        assert equal(differentiated(cosine, i), linear(-1, multiplied(dx, sine), 0, dx))
        # x y' = y x' / 3
        left = multiplied(differentiated(root, i), px)
        assert equal(left, linear(Q(1, 3), multiplied(dx, root), 0, dx))


@exactly
@given(index_sets, st.integers(0, 99))
def test_multivariate_composition_against_powers_of_the_increment(
    indices: IndexSet, seed: int
) -> None:
    s, x = structure_of(indices), random_series(indices, seed)
    order = len(indices) - 1
    f = [Q(m * m - 3, m + 1) * x[0] for m in range(order + 1)]
    increment = polynomial([x[0] * 0, *x[1:]], indices)
    power = {a: c * 0 for a, c in increment.items()}
    power[indices[0][0]] = power[indices[0][0]] + 1
    expected = {a: c * 0 for a, c in increment.items()}
    slope = {a: c * 0 for a, c in increment.items()}
    values = [polynomial_derivatives([1, 0, -1], v, order) for v in x[0]]
    for m in range(order + 1):
        expected = linear(1, expected, f[m], power)
        slope = linear(1, slope, np.array([v[m] for v in values], dtype=object), power)
        power = multiplied(power, increment)
    assert equal(polynomial(series.compose(s, f, x), indices), expected)
    assert equal(polynomial(series.ode(s, x[0], x, 1, 0, -1), indices), slope)


@exactly
@given(index_sets, st.integers(0, 99))
def test_differentiation_is_a_shift_of_the_multi_indices(indices: IndexSet, seed: int) -> None:
    s, x = structure_of(indices), random_series(indices, seed)
    p = polynomial(x, indices)
    for i in range(len(indices[0][0])):
        expected = differentiated(p, i)
        if not expected:
            continue
        blocks, target = s.differentiate(x, [[i]])
        assert equal(polynomial(one_shift(blocks, x[0]), target.indices), expected)


def one_shift(blocks: list[Any], value: Any, n: int = 0) -> list[Any]:
    """The blocks of one of the derivatives that ``differentiate`` gave."""
    first = value * 0 if blocks[0] is None else blocks[0][n]
    return [first, *(None if b is None else b[n] for b in blocks[1:])]


def test_mixed_derivatives_commute() -> None:
    indices = total_degree(3, 4)
    s, x = structure_of(indices), random_series(indices, 2)
    results = []
    for i, j in [(0, 2), (2, 0)]:
        blocks, first = s.differentiate(x, [[i]])
        blocks, second = first.differentiate(one_shift(blocks, x[0]), [[j]])
        results.append(polynomial(one_shift(blocks, x[0]), second.indices))
    blocks, both = s.differentiate(x, [[1, 1], [0, 2]])
    results.append(polynomial(one_shift(blocks, x[0], 1), both.indices))
    assert equal(results[0], results[1])
    assert equal(results[0], results[2])


def test_a_sum_of_coefficients_takes_the_place_of_its_members() -> None:
    squares = [(2, 0, 0), (0, 2, 0)]
    total = Sum((((0, 2, 0), Q(1)), ((2, 0, 0), Q(-3))))
    indices = closure(3, [(0, 0, 1)], [total])
    assert indices == (((0, 0, 0),), ((1, 0, 0), (0, 1, 0), (0, 0, 1)), (total,))
    # members that are wanted by themselves leave nothing to sum
    assert closure(3, [*squares, (1, 0, 2)], [total]) == closure(3, [*squares, (1, 0, 2)])
    whole = closure(3, [*squares, (0, 0, 1)])
    s, t = structure_of(indices), structure_of(whole)
    x, y = random_series(whole, 2), random_series(whole, 4)

    def summed(blocks: Sequence[Any]) -> list[Any]:
        last = None if blocks[2] is None else (blocks[2][1] - 3 * blocks[2][0])[None]
        return [*blocks[:2], last]

    for program in PROGRAMS.values():
        got, expected = program(s, summed(x), summed(y)), summed(program(t, x, y))
        for a, b in zip(got, expected, strict=True):
            assert (a is None and b is None) or (np.asarray(a) == np.asarray(b)).all()
    assert s.sum_row(squares) is None
    plain = closure(2, [], [Sum((((0, 2), 1), ((2, 0), 1)))])
    assert structure_of(plain).sum_row([(2, 0), (0, 2)]) == (2, 0)


@exactly
@given(index_set_pairs, st.integers(0, 99))
def test_two_index_sets_meet_in_their_intersection(
    pair: tuple[IndexSet, IndexSet], seed: int
) -> None:
    a, b = pair
    x, y = random_series(a, seed), random_series(b, seed + 1)
    s, t = structure_of(a), structure_of(b)
    common = s.meet(t, min(len(a), len(b)) - 1)
    assert isinstance(common, Multivariate)
    flat = [{index for degree in indices for index in degree} for indices in (a, b)]
    inside = {index for degree in common.indices for index in degree}
    assert inside == flat[0] & flat[1]
    order = common.limit(min(len(a), len(b)) - 1)
    product = series.cauchy(common, s.project(x, common, order), t.project(y, common, order))
    px = {i: c for i, c in polynomial(x, a).items() if i in inside}
    py = {i: c for i, c in polynomial(y, b).items() if i in inside}
    assert equal(polynomial(product, common.indices), multiplied(px, py))


def test_multivariate_structures_of_two_origins_do_not_meet() -> None:
    indices = total_degree(2, 2)
    assert Multivariate("a", indices, Arrays).meet(Multivariate("b", indices, Arrays), 2) is None
    assert structure_of(indices).meet(Line(), 2) is None
    assert structure_of(indices).truncated(1).indices == total_degree(2, 1)
    assert structure_of(indices).truncated(5) == structure_of(indices)
    assert structure_of(indices).limit(5) == 2


def test_one_coordinate_is_a_line() -> None:
    indices = total_degree(1, 6)
    x, y = random_series(indices, 2), random_series(indices, 4)
    for name, program in PROGRAMS.items():
        rows = program(structure_of(indices), x, y)
        line = program(Line(), direction(x, 0), direction(y, 0))
        assert all(same(direction(rows, 0)[k], line[k], SHAPE) for k in range(7)), name


@every_program
def test_a_line_through_a_multivariate_series(program: Callable) -> None:
    indices, v = total_degree(3, 4), (Q(2), Q(-1), Q(1, 3))

    def along(blocks: Sequence[Any]) -> list[Any]:
        p = polynomial(blocks, indices)
        return [
            sum(p[a] * np.prod([c**n for c, n in zip(v, a, strict=True)]) for a in degree)
            for degree in indices
        ]

    x, y = random_series(indices, 2), random_series(indices, 4)
    result = along(program(structure_of(indices), x, y))
    line = program(Line(), along(x), along(y))
    assert all(same(result[k], line[k], SHAPE) for k in range(5))


def test_total_degree_lists_every_multi_index_in_descending_order() -> None:
    indices = total_degree(3, 4)
    assert [len(degree) for degree in indices] == [1, 3, 6, 10, 15]
    for k, degree in enumerate(indices):
        assert list(degree) == sorted(
            (a for a in itertools.product(range(5), repeat=3) if sum(a) == k), reverse=True
        )


def test_pairings_list_each_split_of_a_multi_index_once() -> None:
    indices = total_degree(2, 3)
    table = pairings(indices, (1, 2))
    splits = {
        index: {(indices[1][i], indices[2][j]) for i, j in sources}
        for index, sources in zip(indices[3], table, strict=True)
    }
    assert splits[(2, 1)] == {((1, 0), (1, 1)), ((0, 1), (2, 0))}
    assert sum(map(len, table)) == len(indices[1]) * len(indices[2])


@pytest.mark.parametrize(
    "s", [Line(), Bundle(3), Collapsed(3, 4), structure_of(total_degree(2, 2))]
)
def test_a_structure_describes_itself(s: Structure) -> None:
    assert str(getattr(s, "count", 2 if isinstance(s, Multivariate) else "line")) in s.describe()
