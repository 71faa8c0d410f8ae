"""Taylor polynomials evaluated, composed and reversed, exactly and on tensors; their radius."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction as Q
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import taylortorch as tt
from taylortorch.algebra import series
from taylortorch.algebra.indices import total_degree
from taylortorch.algebra.structures import Bundle, Line, Multivariate, horner

LINE = Line()
exactly = settings(max_examples=60)
numbers = st.builds(Q, st.integers(-4, 4), st.integers(1, 3))
higher = st.lists(st.one_of(st.none(), numbers), max_size=7)


def t64(*numbers: Any) -> torch.Tensor:
    return torch.tensor(numbers[0] if len(numbers) == 1 else numbers, dtype=torch.float64)


def at(x: Any, order: int) -> tt.TaylorTensor:
    return tt.TaylorTensor(t64(x), order=order)


def assert_within(actual: torch.Tensor, expected: Any, tolerance: float = 1e-12) -> None:
    expected = torch.as_tensor(expected, dtype=actual.dtype).expand(actual.shape)
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def dense(blocks: Sequence[Any]) -> list[Any]:
    return [Q(0) if b is None else b for b in blocks]


def exp_series(order: int) -> list[Q]:
    return [Q(1, math.factorial(k)) for k in range(order + 1)]


def sin_series(order: int) -> list[Q]:
    return [Q((0, 1, 0, -1)[k % 4], math.factorial(k)) for k in range(order + 1)]


# --- reversed and composed, exactly ---------------------------------------------------------------


def test_inverse_of_t_exp_t_is_lambert_w() -> None:
    inverse = series.reverse(LINE, [Q(0), *exp_series(14)])
    assert dense(inverse)[1:] == [Q((-n) ** (n - 1), math.factorial(n)) for n in range(1, 16)]


def test_inverse_of_sine_is_arcsine() -> None:
    inverse = dense(series.reverse(LINE, sin_series(13)))
    for n in range(7):
        assert inverse[2 * n + 1] == Q(math.comb(2 * n, n), 4**n * (2 * n + 1))
    assert not any(inverse[::2])


def test_inverse_of_exponential_minus_one_is_logarithm() -> None:
    inverse = dense(series.reverse(LINE, exp_series(12)))
    assert inverse[1:] == [Q((-1) ** (n + 1), n) for n in range(1, 13)]


def test_inverse_of_a_parabola_has_catalan_numbers() -> None:
    # t - t^2
    inverse = dense(series.reverse(LINE, [Q(7), Q(1), Q(-1), *[None] * 9]))
    assert inverse[1:] == [Q(math.comb(2 * n, n), n + 1) for n in range(11)]


@exactly
@given(numbers, numbers.filter(bool), higher)
def test_a_series_of_its_inverse_is_the_variable(y0: Q, y1: Q, y: list) -> None:
    whole = [y0, y1, *y]
    inverse = series.reverse(LINE, whole)
    assert inverse[0] is None
    identity = [y0, Q(1), *[Q(0)] * len(y)]
    assert dense(series.compose(LINE, whole, [Q(0), *inverse[1:]])) == identity
    assert dense(series.compose(LINE, [Q(0), *inverse[1:]], whole)) == [Q(0), *identity[1:]]


@exactly
@given(numbers, higher, numbers)
def test_horner_is_the_sum_of_powers(x0: Q, x: list, t: Q) -> None:
    blocks = [x0, *x]
    assert horner(blocks, t) == sum(c * t**k for k, c in enumerate(dense(blocks)))
    assert horner([x0], t) == x0


@exactly
@given(st.data())
def test_polynomials_of_several_variables_have_their_values(data: Any) -> None:
    structure = Multivariate(None, total_degree(2, 3), None)
    blocks: list[Any] = [data.draw(numbers)]
    for degree in structure.indices[1:]:
        row = st.lists(numbers, min_size=len(degree), max_size=len(degree))
        blocks.append(data.draw(st.one_of(st.none(), row)))
    h = (data.draw(numbers), data.draw(numbers))
    expected = blocks[0] + sum(
        c * h[0] ** i * h[1] ** j
        for degree, block in zip(structure.indices[1:], blocks[1:], strict=True)
        if block is not None
        for (i, j), c in zip(degree, block, strict=True)
    )
    assert structure.evaluate(blocks, h) == expected


# --- evaluated, on tensors ------------------------------------------------------------------------


def test_values_along_a_line() -> None:
    y = torch.exp(at([[0.0, 0.3, -1.0]], 20))
    expected = torch.exp(t64([[0.0, 0.3, -1.0]]) + 0.5)
    assert_within(y.at(0.5), expected)
    assert_within(y.at(t64(0.5)), expected)
    assert y.at(torch.zeros(7, 1, 1, dtype=torch.float64)).shape == (7, 1, 3)
    assert_within(
        y.at(t64([[0.1], [0.2]])), torch.exp(t64([[0.0, 0.3, -1.0]]) + t64([[0.1], [0.2]]))
    )
    assert y.at(1).dtype == torch.float64
    assert y.at(0.0).tolist() == y.value.tolist()


def test_values_of_constants_have_all_places() -> None:
    y = 0 * at([1.0, 2.0], 3) + 5
    constant = tt.TaylorTensor(torch.ones(2), order=2).round()
    assert y.at(t64([[1.0], [2.0], [3.0]])).tolist() == [[5, 5]] * 3
    assert constant.at(torch.ones(3, 1)).tolist() == [[1, 1]] * 3
    assert tt.TaylorTensor(t64([3.0]), order=0).at(9.0).tolist() == [3]


def test_values_in_several_directions() -> None:
    x, v = t64([0.2, 0.5]), t64([[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]])
    y = torch.sin(tt.TaylorTensor(x, directions=v, order=18)).prod(-1)
    assert y.at(0.4).shape == (3,)
    assert_within(y.at(0.4), torch.sin(x + 0.4 * v).prod(-1))
    times = t64([0.1, 0.2, 0.3])
    assert_within(y.at(times), torch.sin(x + times[:, None] * v).prod(-1))
    many = t64([[0.1], [0.3]])
    assert_within(y.at(many), torch.sin(x + many[..., None] * v).prod(-1))
    constant = tt.TaylorTensor(x, directions=v, order=2).round()
    assert constant.at(0.4).shape == (3, 2)


def test_values_in_several_variables() -> None:
    x, y = tt.variables(t64([[0.3], [0.6]]), t64([[0.2], [0.1]]), order=12)
    u = torch.exp(x) * torch.sin(y)
    h, g = t64([[0.1], [-0.2]]), 0.3
    assert_within(u.at(h, g), torch.exp(x.value + h) * torch.sin(y.value + g))
    point = tt.variables(t64([[0.3, 0.2]]), order=3)
    offsets = t64([[0.5, -1.0]])
    value = (point[:, 0] ** 2 * point[:, 1]).at(*offsets.unbind(-1))
    assert_within(value, [0.8**2 * -0.8])


def test_values_of_a_nested_series_are_series() -> None:
    x = at(0.3, 3)
    y = torch.exp(tt.TaylorTensor(x, order=20)).at(0.5)
    for a, b in zip(y.coeffs, torch.exp(x + 0.5).coeffs, strict=True):
        assert_within(a, b)
    # an offset that is a series
    z = torch.exp(at(0.0, 20)).at(tt.TaylorTensor(x, order=3))
    assert_within(z.coeffs[2].value, math.exp(0.3) / 2)


def test_values_have_gradients() -> None:
    x, t = t64(0.3).requires_grad_(), t64(0.5).requires_grad_()
    y = torch.sin(tt.TaylorTensor(x, order=20)).at(t)
    for gradient in torch.autograd.grad(y, (x, t)):
        assert_within(gradient, math.cos(0.8))


def test_values_in_compiled_code() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return torch.exp(tt.TaylorTensor(x, order=15)).at(0.5)

    compiled = torch.compile(f, fullgraph=True, backend="eager")
    assert_within(compiled(t64([0.1, 0.2])), torch.exp(t64([0.6, 0.7])))


def test_values_that_are_not_there() -> None:
    y = tt.TaylorTensor(t64([1.0, 2.0]), directions=torch.eye(2).double(), order=2, weights=1)
    with pytest.raises(ValueError, match="collapsed"):
        y.at(0.1)
    with pytest.raises(TypeError, match="1 coordinate takes as many offsets, got 2"):
        at(0.0, 2).at(0.1, 0.2)
    with pytest.raises(TypeError, match="2 coordinates takes"):
        tt.variables(t64([[0.3, 0.2]])).at(t64([0.5, -1.0]))


# --- composed, on tensors -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "inner",
    [
        lambda: at([0.3, -0.5], 6) ** 2,
        lambda: tt.TaylorTensor(
            t64([0.3, 0.5]), directions=t64([[1.0, 2.0], [3.0, -1.0]]), order=4
        ),
        lambda: tt.TaylorTensor(
            t64([0.3, 0.5]), directions=t64([[1.0, 2.0], [3.0, -1.0]]), order=3, weights=1
        ),
        lambda: tt.variables(t64([[0.3, 0.5]]), order=3).prod(-1),
    ],
    ids=["line", "directions", "collapsed", "variables"],
)
def test_a_composition_is_the_function_of_the_series(inner: Callable) -> None:
    x = inner()
    y = tt.compose(torch.atan(tt.TaylorTensor(x.value, order=8)), x)
    expected = torch.atan(x)
    assert y.order == x.order
    for a, b in zip(y.coeffs, expected.coeffs, strict=True):
        assert_within(a, b)


def test_a_composition_broadcasts_and_has_the_lower_order() -> None:
    outer = torch.exp(at([[0.0], [0.0]], 2)) * t64([[1.0], [2.0]])
    for inner in (
        torch.sin(at([0.0, 0.0, 0.0], 5)),
        tt.TaylorTensor(t64(0.0), directions=t64([1.0, 2.0]), order=5),
    ):
        y = tt.compose(outer, inner)
        expected = t64([[1.0], [2.0]]) * torch.exp(inner)
        assert y.order == 2
        assert y.shape == expected.shape
        for a, b in zip(y.coeffs, expected.coeffs, strict=False):
            assert_within(a, b)


def test_what_compose_refuses() -> None:
    line, pair = at([0.0], 2), tt.TaylorTensor(t64([0.0]), directions=t64([[1.0], [2.0]]))
    with pytest.raises(TypeError, match="compose: outer must be a TaylorTensor, got Tensor"):
        tt.compose(t64([1.0]), line)
    with pytest.raises(TypeError, match="inner must be a TaylorTensor, got float"):
        tt.compose(line, 1.0)
    with pytest.raises(ValueError, match="outer must be a series along one line"):
        tt.compose(pair, line)
    with pytest.raises(ValueError, match="outer is nested 1 deep, inner 0"):
        tt.compose(tt.TaylorTensor(line), line)


# --- reversed, on tensors -------------------------------------------------------------------------


def test_the_inverse_of_a_function() -> None:
    x = t64([[0.3, 1.0], [-0.5, 2.0]])
    y = torch.sinh(tt.TaylorTensor(x, order=9))
    inverse = tt.invert(y, x)
    expected = torch.asinh(tt.TaylorTensor(torch.sinh(x), order=9))
    for a, b in zip(inverse.coeffs, expected.coeffs, strict=True):
        assert_within(a, b, 1e-10)
    assert not tt.invert(y).value.any()


def test_inverses_in_several_directions_are_one_for_each() -> None:
    v = t64([[1.0, 2.0], [-0.5, 3.0]])
    y = torch.exp(tt.TaylorTensor(t64([0.3, 0.5]), directions=v, order=5))
    inverse = tt.invert(y)
    for n in range(2):
        alone = tt.invert(torch.exp(tt.TaylorTensor(t64([0.3, 0.5]), v[n], order=5)))
        for k in range(1, 6):
            assert_within(inverse.coeffs[k][n], alone.coeffs[k])


def test_gradients_and_nested_series_pass_through_an_inverse() -> None:
    a = t64(2.0).requires_grad_()
    t = at(0.0, 3)
    # t - a t^2: the coefficient of degree 3 is 2 a^2
    tt.invert(t - a * t * t).coeffs[3].backward()
    assert_within(a.grad, 8.0)
    b = at(2.0, 2)
    t = tt.TaylorTensor(torch.zeros_like(b.value) + 0 * b, order=3)
    c = tt.invert(t - b * t * t).coeffs[3]
    for got, expected in zip(c.coeffs, (8, 8, 2), strict=True):
        assert_within(got, expected)


def test_what_invert_refuses() -> None:
    with pytest.raises(ValueError, match="first coefficient of y is 0"):
        tt.invert(torch.cos(at([0.0, 1.0], 3)))
    with pytest.raises(ValueError, match="first coefficient of y is 0"):
        tt.invert(at([0.5], 3).round())
    with pytest.raises(ValueError, match="order 0"):
        tt.invert(at([1.0], 0))
    with pytest.raises(TypeError, match="y must be a TaylorTensor, got Tensor"):
        tt.invert(t64([1.0]))
    with pytest.raises(ValueError, match="2 coordinates"):
        tt.invert(tt.variables(t64([[1.0, 2.0]]))[:, 0])
    with pytest.raises(ValueError, match=r"value has shape \[2\], y \[1\]"):
        tt.invert(at([1.0], 2), t64([1.0, 2.0]))
    with pytest.raises(TypeError, match="value must be a tensor"):
        tt.invert(at([1.0], 2), 1.0)


# --- radius of convergence ------------------------------------------------------------------------

PI = math.pi
RADII: dict[str, tuple[Callable, float, float, float]] = {
    "1 / (1 - x)": (lambda x: 1 / (1 - x), 0.0, 1.0, 1e-12),
    "1e6 / (3 - x)^2": (lambda x: 1e6 / (3 - x) ** 2, 0.0, 3.0, 1e-12),
    "1 / (1 - 1e8 x)": (lambda x: 1 / (1 - 1e8 * x), 0.0, 1e-8, 1e-12),
    "log(1 + x)": (lambda x: torch.log(1 + x), 0.5, 1.5, 1e-12),
    "sqrt": (torch.sqrt, 2.0, 2.0, 1e-12),
    "1 / (1 + x^2)": (lambda x: 1 / (1 + x * x), 0.5, math.sqrt(1.25), 1e-12),
    "tan at 0": (torch.tan, 0.0, PI / 2, 1e-6),
    "tan at 1/2": (torch.tan, 0.5, PI / 2 - 0.5, 1e-6),
    "tanh": (torch.tanh, 0.3, math.hypot(0.3, PI / 2), 1e-4),
    "sigmoid": (torch.sigmoid, 1.0, math.hypot(1, PI), 1e-6),
    "atan": (torch.atan, 0.7, math.hypot(1, 0.7), 1e-9),
    "exp(x) / (2 - x)": (lambda x: torch.exp(x) / (2 - x), 0.0, 2.0, 1e-9),
    "sqrt(x) sin(x)": (lambda x: torch.sqrt(x) * torch.sin(x), 2.0, 2.0, 1e-2),
    "1 / (1 - x^3)": (lambda x: 1 / (1 - x**3), 0.0, 1.0, 1e-9),
    "1 / (1 + x^4)": (lambda x: 1 / (1 + x**4), 0.0, 1.0, 1e-9),
    "cubic": (lambda x: x**3 + x, 0.3, math.inf, 0),
    "constant": (lambda x: 0 * x + 3, 0.3, math.inf, 0),
}


@pytest.mark.parametrize(("f", "x", "radius", "tolerance"), RADII.values(), ids=RADII)
def test_radius(f: Callable, x: float, radius: float, tolerance: float) -> None:
    y = f(at([x, x], 20))
    found = tt.radius_of_convergence(y)
    torch.testing.assert_close(found, t64([radius, radius]), rtol=tolerance, atol=0)


@pytest.mark.parametrize("f", [torch.exp, torch.sin, torch.erf, lambda x: torch.exp(-x * x)])
@pytest.mark.parametrize("x", [0.1, 0.7])
def test_the_radius_of_functions_without_singularities_is_large(f: Callable, x: float) -> None:
    assert tt.radius_of_convergence(f(at(x, 30))) > 10


def test_the_radius_of_each_entry_and_direction() -> None:
    x = t64([[0.0, 0.5, -2.0]])
    found = tt.radius_of_convergence(1 / (1 - tt.TaylorTensor(x.requires_grad_(), order=9)))
    assert not found.requires_grad
    assert_within(found, [[1.0, 0.5, 3.0]])
    v = t64([[1.0], [2.0], [-4.0]])
    found = tt.radius_of_convergence(torch.log(tt.TaylorTensor(t64([2.0]), directions=v, order=9)))
    assert_within(found, [[2.0], [1.0], [0.5]])
    single = tt.radius_of_convergence(1 / (1 - tt.TaylorTensor(torch.tensor([0.5]), order=9)))
    assert single.dtype == torch.float32
    assert_within(single, [0.5], 1e-4)
    wave = torch.tensor([1.0 + 0j, 0.3 + 0.4j], dtype=torch.complex128)
    found = tt.radius_of_convergence(1 / tt.TaylorTensor(wave, order=9))
    assert_within(found, [1.0, 0.5])
    nowhere = tt.radius_of_convergence(at([math.nan, 1.0], 6).sqrt())
    assert nowhere.isnan().tolist() == [True, False]
    assert tt.radius_of_convergence(at([[]], 9)).shape == (1, 0)


def test_the_radius_of_a_solution_is_the_way_to_its_pole() -> None:
    # y' = y^2, y = 1 / (1 - t)
    _, solution = tt.odeint_taylor(
        lambda t, y: y * y, t64([1.0]), t64(0, 0.9), order=15, dense_output=True
    )
    for node, piece in zip(solution.nodes, solution.pieces, strict=False):
        assert_within(tt.radius_of_convergence(piece), 1 - node, 1e-6)


def test_what_the_radius_refuses() -> None:
    with pytest.raises(ValueError, match="order 4 at least"):
        tt.radius_of_convergence(at([1.0], 3))
    with pytest.raises(TypeError, match="TaylorTensor"):
        tt.radius_of_convergence(t64([1.0]))
    with pytest.raises(ValueError, match="2 coordinates"):
        tt.radius_of_convergence(tt.variables(t64([[1.0, 2.0]]), order=5)[:, 0])


def test_series_of_directions_are_evaluated_as_one_line_each() -> None:
    assert Bundle(2).evaluate([1, None, 3], [2]) == 13
