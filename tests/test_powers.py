"""Forms as sums of powers: exact over the rationals, few directions, and what operators do."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import taylortorch as tt
from taylortorch.algebra.structures import Collapsed, Multivariate
from taylortorch.engine.directions import Operator, Owned
from taylortorch.operators.plans import along_directions
from taylortorch.operators.powers import powers_of
from tests.fields import F64, mlp, partial, points, same, same_gradients

F = tt.func
Form = dict[tuple[int, ...], Any]


def total(powers: Any, degree: int) -> Form:
    """``sum_r w_r (v_r . xi)^m``, multiplied out one factor at a time."""
    form: dict[tuple[int, ...], Fraction] = {}
    for v, w in powers:
        product = {(0,) * len(v): Fraction(w)}
        for _ in range(degree):
            longer: dict[tuple[int, ...], Fraction] = {}
            for index, c in product.items():
                for i, entry in [(i, entry) for i, entry in enumerate(v) if entry]:
                    raised = (*index[:i], index[i] + 1, *index[i + 1 :])
                    longer[raised] = longer.get(raised, Fraction(0)) + c * entry
            product = longer
        for index, c in product.items():
            form[index] = form.get(index, Fraction(0)) + c
    return {index: c for index, c in form.items() if c}


def norm_to_the_fourth(n: int) -> Form:
    form: Form = {}
    for i, j in itertools.product(range(n), repeat=2):
        index = tuple(2 * (k == i) + 2 * (k == j) for k in range(n))
        form[index] = form.get(index, 0) + 1
    return form


def checked(form: Mapping[tuple[int, ...], Any]) -> int:
    """The number of directions, whose powers are the form."""
    powers = powers_of(form)
    assert powers is not None
    degree = sum(next(iter(form)))
    assert total(powers, degree) == {a: Fraction(c) for a, c in form.items() if c}
    assert all(isinstance(entry, Fraction) for v, w in powers for entry in (*v, w))
    assert all(w for _, w in powers)
    return len(powers)


# --- decompositions ---------------------------------------------------------------------------

COEFFICIENTS = st.one_of(
    st.integers(-5, 5),
    st.fractions(-3, 3, max_denominator=7),
    st.floats(-4, 4, allow_subnormal=False),
)


@st.composite
def forms(draw: Any, most: int = 4) -> Form:
    n, degree = draw(st.integers(1, 4)), draw(st.integers(1, most))
    indices = [a for a in itertools.product(range(degree + 1), repeat=n) if sum(a) == degree]
    chosen = draw(st.lists(st.sampled_from(indices), min_size=1, max_size=8, unique=True))
    return {index: draw(COEFFICIENTS) for index in chosen}


@given(forms())
@settings(max_examples=80)
def test_powers_add_up_to_the_form(form: Form) -> None:
    powers = powers_of(form)
    if sum(next(iter(form))) <= 2:
        assert powers is not None
    if powers is not None:
        expected = {a: Fraction(c) for a, c in form.items() if c}
        assert total(powers, sum(next(iter(form)))) == expected


@given(st.data())
@settings(max_examples=60)
def test_a_few_powers_are_found_again(data: Any) -> None:
    n, degree = data.draw(st.integers(1, 4)), data.draw(st.integers(2, 5))
    vector = st.tuples(*[st.integers(-3, 3)] * n)
    one = data.draw(vector.filter(any))
    weight = data.draw(st.fractions(-3, 3, max_denominator=5).filter(bool))
    assert checked(total([(one, weight)], degree)) == 1
    other = data.draw(
        vector.filter(lambda v: any(a * d != b * c for a, b, c, d in _minors(one, v)))
    )
    assert checked(total([(one, weight), (other, 1)], degree)) == 2 if n > 1 else True


def _minors(u: Any, v: Any) -> Any:
    if len(u) == 1:
        return [(1, 0, 0, 1)]
    pairs = itertools.combinations(range(len(u)), 2)
    return [(u[i], u[j], v[i], v[j]) for i, j in pairs]


@given(st.integers(1, 5), st.integers(1, 5), st.data())
@settings(max_examples=60)
def test_a_quadratic_form_takes_as_many_squares_as_its_rank(n: int, r: int, data: Any) -> None:
    vector = st.tuples(*[st.integers(-3, 3)] * n)
    squares = [(data.draw(vector), data.draw(st.sampled_from([-1, 1, 2]))) for _ in range(r)]
    form = total(squares, 2)
    matrix = torch.zeros(n, n, dtype=F64)
    for index, c in form.items():
        i, j = (index.index(2),) * 2 if 2 in index else [i for i in range(n) if index[i]]
        matrix[i, j] += float(c) / 2
        matrix[j, i] += float(c) / 2
    if form:
        assert checked(form) == int(torch.linalg.matrix_rank(matrix, tol=1e-9))
    else:
        assert powers_of({(2, *(0,) * (n - 1)): 0}) == []


def test_known_counts() -> None:
    assert [checked(norm_to_the_fourth(n)) for n in (1, 2, 3, 4, 5, 6)] == [1, 4, 7, 12, 21, 22]
    # products of n variables take 2^(n - 1) powers
    assert [checked({(1,) * n: 1}) for n in (2, 3, 4, 5)] == [2, 4, 8, 16]
    # a monomial x^a y^b takes a + b real ones
    assert [checked({a: 1}) for a in ((2, 1), (2, 2), (3, 1), (4, 1))] == [3, 4, 4, 5]
    assert powers_of({(1, 0, 0): 2, (0, 0, 1): -1}) == [((2, 0, -1), 1)]
    assert powers_of({(1, 1): 1}) == [
        ((1, 1), Fraction(1, 4)),
        ((1, -1), Fraction(-1, 4)),
    ]
    # no squares to begin with
    for n in (3, 4, 5, 6):
        pairs = itertools.combinations(range(n), 2)
        assert checked({tuple(int(k in pair) for k in range(n)): 1 for pair in pairs}) == n
    # every variable by itself
    apart = {tuple(5 * (i == j) for j in range(40)): i + 1 for i in range(40)}
    assert checked(apart) == 40
    three = [((1, 2, 1), 1), ((3, -1, 0), Fraction(-2, 3)), ((1, 1, -2), 5)]
    assert checked(total(three, 4)) == 3
    assert powers_of({}) == []


def test_sums_of_lucas_and_reznick() -> None:
    # 6 |x|^4 = sum over i < j of (x_i + x_j)^4 + (x_i - x_j)^4 in four dimensions
    powers = powers_of(norm_to_the_fourth(4))
    assert powers is not None
    assert {w for _, w in powers} == {Fraction(1, 6)}
    assert all(sorted(map(abs, v)) == [0, 0, 1, 1] for v, _ in powers)
    # 3 |x|^4 = 2 sum x_i^4 + 1/4 sum (+-x_1 +-x_2 +-x_3)^4 over the four lines, in three
    powers = powers_of(norm_to_the_fourth(3))
    assert powers is not None
    assert {(sum(map(abs, v)), w) for v, w in powers} == {(1, Fraction(2, 3)), (3, Fraction(1, 12))}


def test_small_pivots_are_avoided() -> None:
    powers = powers_of({(2, 0): 1e-12, (1, 1): 1.0})
    assert powers is not None
    assert all(abs(entry) < 2 and abs(w) < 2 for v, w in powers for entry in v)


def test_what_is_too_large_is_left_alone() -> None:
    assert powers_of(norm_to_the_fourth(7)) is None
    assert powers_of({(1,) * 6: 1}) is None
    dense = {
        tuple((k == i) + (k == j) for k in range(40)): math.sin(i * j + 1)
        for i in range(40)
        for j in range(i, 40)
    }
    assert powers_of(dense) is None


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({(1, 0): 1, (2, 0): 1}, "one degree"),
        ({(1, 0): 1, (1,): 1}, "one length"),
        ({(0, 0): 1}, "one degree >= 1"),
        ({(1, 0): math.inf}, "inf"),
    ],
)
def test_bad_forms(form: Form, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        powers_of(form)


# --- operators --------------------------------------------------------------------------------


def power(v: tuple[int, ...], degree: int, w: Any = 1) -> Form:
    return total([(v, w)], degree)


# name: the terms, and the rows of each degree or the directions (-1: those of all coordinates)
OPERATORS: dict[str, tuple[Form, Any]] = {
    "fourth power": (power((1, 2), 4), 1),
    "with drift and value": ({**power((1, 2), 3), (0, 1): -3, (1, 0): 0.5, (0, 0): 2}, 1),
    "value by a function": ({**power((1, -1, 2), 3), (0, 0, 0): lambda x: x[:, 0]}, 1),
    "rank 1 in four": (power((1, 2, 0, -1), 2, Fraction(1, 3)), 1),
    "rank 2, either sign": (total([((1, 2, 0), 1), ((0, 1, 1), -2)], 2), 2),
    "two fourth powers": (total([((1, 2), 1), ((3, -1), Fraction(1, 2))], 4), 2),
    "pure third derivatives": ({(3, 0): 1, (0, 3): -2}, 2),
    "Korteweg and de Vries": ({(3, 0): 1, (0, 1): 1}, 1),
    "heat": ({(2, 0, 0): -1, (0, 2, 0): -1, (0, 0, 1): 1}, 2),
    "Laplacian": ({(2, 0, 0): 3, (0, 2, 0): 3, (0, 0, 2): 3}, -1),
    "Laplacian and drift": ({(2, 0): 0.5, (0, 2): 0.5, (1, 0): 1, (0, 1): -2}, -1),
    "a zero among them": ({**power((1, 2), 4), (2, 0): 0}, 1),
    "one mixed derivative": ({(1, 1): 1}, [2, 1]),
    "degrees between": ({(4, 0): 1, (2, 0): 1}, [1, 1, 1, 1]),
    "a tensor": ({**power((1, 2), 3), (1, 0): torch.tensor(2.0)}, [2, 3, 1]),
    "first order": ({(1, 0): 1, (0, 1): 2}, [1]),
}


def in_reverse(f: Any, x: torch.Tensor, terms: Form) -> torch.Tensor:
    result = torch.zeros(x.shape[0], dtype=F64)
    for index, c in terms.items():
        along = [i for i, count in enumerate(index) for _ in range(count)]
        coefficient = c(x) if callable(c) else c if isinstance(c, torch.Tensor) else float(c)
        result = result + coefficient * partial(f(x), x, along)
    return result


@pytest.mark.parametrize("name", OPERATORS)
def test_operators(name: str) -> None:
    terms, expected = OPERATORS[name]
    n = len(next(iter(terms)))
    net, x, seen = mlp(n), points(3, n), []

    def f(x: Any) -> Any:
        if isinstance(x, tt.TaylorTensor):
            seen.append(x._structure)
        return net(x)[..., 0] * (1 + x[..., 0])

    got, value = F.linear_operator(f, terms, return_value=True)(x)
    (structure,) = seen
    if isinstance(expected, list):
        assert isinstance(structure, Multivariate)
        assert [len(rows) for rows in structure.indices[1:]] == expected
    elif expected < 0:
        assert isinstance(structure, Owned)
    else:
        degree = max(sum(a) for a, c in terms.items() if not isinstance(c, (int, float)) or c)
        assert type(structure) is (Operator if degree == 2 else Collapsed)
        assert (structure.count, structure.order) == (expected, degree)
    exact = in_reverse(f, x, terms)
    same(got, exact)
    same(value, f(x), 0)
    same_gradients(got, exact, [x, *net.parameters()], twice=False)


def test_biharmonic_goes_along_directions_where_they_are_cheaper() -> None:
    seen = []

    def f(x: Any) -> Any:
        seen.append((type(x._structure), x._structure.order if x.ndim else None))
        return torch.sin(x).prod(-1)

    for n in (1, 2, 3, 4, 5):
        x = points(2, n).detach()
        # the n-fold product of sines is an eigenfunction
        same(F.biharmonic(f)(x), n**2 * torch.sin(x).prod(-1))
    assert seen == [(Collapsed, 4)] * 4 + [(Owned, 2)]


def test_directions_that_nearly_cancel_are_not_taken() -> None:
    form = total([((100, 99), 99**4), ((99, 98), -(100**4))], 4)
    assert checked(form) == 2
    assert along_directions(form) is None
    x, k = points(4, 2).detach(), torch.tensor([1.0, -0.5], dtype=F64)
    factor = math.fsum(float(c) * (-0.5) ** a[1] for a, c in form.items())
    same(F.linear_operator(lambda x: torch.sin(x @ k), form)(x), factor * torch.sin(x @ k))


def test_later_changes_of_the_terms_change_nothing() -> None:
    terms = power((1, 2), 3)
    operator = F.linear_operator(lambda x: torch.exp(x).prod(-1), terms)
    terms.clear()
    x = points(3, 2).detach()
    same(operator(x), 27 * torch.exp(x.sum(-1)))


def test_events_of_several_axes_complex_fields_and_transforms_around() -> None:
    terms = {**power((1, 2, 0, -1), 4), (0, 1, 0, 0): 3}
    k = torch.tensor([[1.0, -2.0], [0.5, 1.5]], dtype=F64)
    wave = lambda x: torch.exp(1j * (x * k).sum((-1, -2)))  # noqa: E731
    x = points(3, 2, 2).detach()
    factor = (1.0 - 4.0 - 1.5) ** 4 + 3 * -2.0j
    operator = F.linear_operator(wave, terms, event_dims=2)
    same(operator(x), factor * wave(x))
    same(torch.vmap(operator)(x.unsqueeze(1))[:, 0], factor * wave(x))
    # a gradient of the operator, and the operator of a gradient
    real = lambda x: torch.sin((x * k).sum((-1, -2)))  # noqa: E731
    inner = F.linear_operator(real, power((1, 2, 0, -1), 4), event_dims=2)
    slope = 4.5**4 * torch.cos((x * k).sum((-1, -2)))[:, None, None] * k
    same(F.jacfwd(inner, event_dims=2)(x), slope)
    outer = lambda x: F.jacfwd(real, event_dims=2)(x).sum((-1, -2))  # noqa: E731
    turned = F.linear_operator(outer, power((1, 2, 0, -1), 4), event_dims=2)(x)
    same(turned, slope.sum((-1, -2)))


def test_mixing_samples_is_noticed_along_directions_too() -> None:
    norm = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Tanh()).double()
    for terms in (power((1, 2), 2), power((1, 2), 4)):
        with pytest.warns(UserWarning, match="mixes the samples of a batch"):
            F.linear_operator(norm, terms)(points(5, 2).detach())


@pytest.mark.parametrize(("made", "backend"), [("outside", "aot_eager"), ("inside", "eager")])
def test_compiled(made: str, backend: str) -> None:
    net = mlp(2)
    terms = {**power((1, 2), 3, Fraction(1, 3)), (0, 1): Fraction(-3, 7), (0, 0): 2}
    outside = F.linear_operator(net, terms)

    def loss(x: torch.Tensor) -> torch.Tensor:
        if made == "outside":
            return outside(x).square().mean()
        return F.linear_operator(net, terms)(x).square().mean()

    x = points(5, 2)
    torch._dynamo.reset()
    got = torch.compile(loss, fullgraph=True, backend=backend)(x)
    same(got, loss(x))
    parameters = [x, *net.parameters()]
    exact = torch.autograd.grad(loss(x), parameters, allow_unused=True)
    for a, b in zip(torch.autograd.grad(got, parameters, allow_unused=True), exact, strict=True):
        if b is None:
            assert a is None
        else:
            same(a, b)
