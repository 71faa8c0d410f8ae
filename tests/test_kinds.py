"""The kinds' own contracts: how arguments are read, and what a kind makes of what a row says."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

import taylortorch as tt
from taylortorch.algebra.structures import LINE, Bundle
from taylortorch.engine.arguments import (
    aligned,
    bind,
    is_constant,
    operand_of,
    series_among,
    values_of,
)
from taylortorch.engine.kinds import as_series, composite, constant, ode, piecewise, slope, value
from taylortorch.engine.multilinear import Form, multilinear
from taylortorch.engine.registry import UnsupportedFunction

F64 = torch.float64


def line(*coefficients: float) -> tt.TaylorTensor:
    return tt.TaylorTensor.from_coeffs([torch.tensor(c, dtype=F64) for c in coefficients])


def numbers(x: Any) -> list[float]:
    return [c.item() for c in x.coeffs]


def near(x: Any, *expected: float) -> None:
    assert numbers(x) == pytest.approx(expected, rel=1e-14, abs=1e-15)


# --- arguments ------------------------------------------------------------------------------------

X, W = line(0.5, 1.0), line(2.0, 3.0)


@pytest.mark.parametrize(
    ("args", "kwargs", "operands", "others", "rest"),
    [
        ((X, W), {}, [X, W], (), {}),
        ((X, W, 3), {"flag": True}, [X, W], (3,), {"flag": True}),
        ((X,), {"other": W}, [X, W], (), {}),
        ((X,), {"other": W, "flag": True}, [X, W], (), {"flag": True}),
        ((), {"other": W, "input": X}, [X, W], (), {}),
        # a prefix: what is given beyond a gap keeps its name
        ((X,), {}, [X], (), {}),
        ((), {"other": 2.0, "flag": 1}, [], (), {"other": 2.0, "flag": 1}),
    ],
)
def test_bind(args: tuple, kwargs: dict, operands: list, others: tuple, rest: dict) -> None:
    given = dict(kwargs)
    found = bind(torch.add, ("input", "other"), args, kwargs)
    assert len(found[0]) == len(operands)
    assert all(a is b for a, b in zip(found[0], operands, strict=True))
    assert found[1:] == (others, rest)
    assert kwargs == given, "the caller's own"


def test_bind_wants_tensors_and_not_arrays() -> None:
    with pytest.raises(TypeError, match=r"torch\.add of a TaylorTensor and a numpy array"):
        bind(torch.add, ("input", "other"), (X, np.ones(2)), {})


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((X, 1.0, W), {}), ((X, 1.0), {"alpha": W}), ((X, 1.0, [1, (W,)]), {})],
)
def test_bind_loses_no_series(args: tuple, kwargs: dict) -> None:
    with pytest.raises(UnsupportedFunction, match=r"torch\.add takes .* only as input or other: "):
        bind(torch.add, ("input", "other"), args, kwargs)


def test_series_among() -> None:
    assert series_among(torch.add, (1.0, X, None, W)) == [X, W]
    with pytest.raises(UnsupportedFunction, match=r"torch\.add was given a TaylorTensor where"):
        series_among(torch.add, (1.0, torch.ones(2)))


@pytest.mark.parametrize(
    ("args", "kwargs", "others", "rest"),
    [((X,), {}, (), {}), ((X, 2), {"a": 1}, (2,), {"a": 1}), ((), {"input": X}, (), {})],
)
def test_operand_of(args: tuple, kwargs: dict, others: tuple, rest: dict) -> None:
    x, *left = operand_of(torch.sin, ("input",), args, kwargs)
    assert x is X
    assert left == [others, rest]


def test_operand_of_a_plain_tensor() -> None:
    with pytest.raises(UnsupportedFunction, match=r"torch\.sin was given a TaylorTensor where"):
        operand_of(torch.sin, ("input",), (torch.ones(2),), {})


def test_aligned() -> None:
    blocks = [torch.ones(4), torch.ones(3, 4), None]
    got = aligned(blocks, 3, Bundle(3))
    assert got[0] is blocks[0]
    assert got[1].shape == (3, 1, 1, 4)
    assert got[2] is None
    # as they are: where nothing is missing, and on a line, where broadcasting does it
    assert aligned(blocks, 1, Bundle(3)) is blocks
    assert aligned(blocks, 3, LINE) is blocks


def test_is_constant() -> None:
    one = torch.ones(2)
    assert is_constant([one])
    assert is_constant([one, None, None])
    assert not is_constant([one, None, one])
    # zero, and not structurally so
    assert not is_constant([one, torch.zeros(2)])


def test_values_of_one_level() -> None:
    inner = line(0.5, 1.0)
    outer = tt.TaylorTensor(inner, order=1)
    tree = values_of((outer, [inner, 3]), outer._level)
    assert tree[0] is outer._blocks[0]
    assert tree[1][0] is inner
    assert tree[1][1] == 3


# --- value, constant ------------------------------------------------------------------------------


def test_a_value_carries_no_series() -> None:
    got = value(torch.ge, (X, 0.25), {})
    assert type(got) is torch.Tensor
    assert got.item() is True


def test_a_constant_is_a_series_of_floats_and_a_tensor_of_integers() -> None:
    near(constant(torch.floor, (line(2.5, 1.0, 4.0),), {}), 2, 0, 0)
    got = constant(lambda x: x.long(), (line(2.5, 1.0),), {})
    assert type(got) is torch.Tensor
    assert got.item() == 2


# --- ode, slope, piecewise ------------------------------------------------------------------------


def solution(y0: Fraction, x: list[Fraction], a: int, b: int, c: int) -> list[Fraction]:
    """``y' = (a + b y + c y^2) x'`` in exact numbers."""
    y = [y0]
    for k in range(1, len(x)):
        square = [sum(y[i] * y[n - i] for i in range(n + 1)) for n in range(k)]
        p = [a * (n == 0) + b * y[n] + c * square[n] for n in range(k)]
        y.append(sum(Fraction(j) * x[j] * p[k - j] for j in range(1, k + 1)) / k)
    return y


@pytest.mark.parametrize("abc", list(itertools.product((-1, 0, 2), repeat=3)))
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_an_ode_against_exact_numbers(abc: tuple[int, int, int], order: int) -> None:
    x = [Fraction(n, 8) for n in (4, 8, -3, 5, 0, 1)][: order + 1]
    evaluate = ode(*abc)
    # any value will do: the function gives it, the equation all the rest
    got = evaluate(lambda x: x * 0 + 0.25, (line(*map(float, x)),), {})
    near(got, *map(float, solution(Fraction(1, 4), x, *abc)))


def test_a_slope_per_argument() -> None:
    product = slope(lambda x, y: y, lambda x, y: x)
    # (1 + 2t)(3 + t + t^2)
    near(product(torch.mul, (line(1, 2, 0), line(3, 1, 1)), {}), 3, 7, 3)
    near(product(torch.mul, (line(1, 2, 0), 3.0), {}), 3, 6, 0)
    near(product(torch.mul, (3.0,), {"other": line(1, 2, 0)}), 3, 6, 0)


@pytest.mark.parametrize("closed", [None, lambda n, x: [3 * x**2, 6 * x, 6 * x**0][:n]])
@pytest.mark.parametrize("order", [0, 1, 2, 3, 4])
def test_a_slope_with_and_without_its_closed_form(closed: Callable | None, order: int) -> None:
    cube = slope(lambda x: 3 * x**2, closed=closed)
    # (2 + t)^3
    got = cube(lambda x: x**3, (line(*[2, 1, 0, 0, 0][: order + 1]),), {})
    near(got, *[8, 12, 6, 1, 0][: order + 1])


def test_a_slope_takes_a_series_nowhere_else() -> None:
    with pytest.raises(UnsupportedFunction, match="only as input"):
        slope(lambda x, a: a)(torch.mul, (X, W), {})


def test_pieces() -> None:
    relu = piecewise(lambda x: x > 0)
    near(relu(torch.relu, (line(0.5, 2, 3),), {}), 0.5, 2, 3)
    near(relu(torch.relu, (line(-0.5, 2, math.inf),), {}), 0, 0, 0)
    larger = piecewise(lambda x, y: (x > y, y >= x), ("input", "other"))
    near(larger(torch.maximum, (line(1, 5, 6), line(2, 7, 8)), {}), 2, 7, 8)
    scaled = piecewise(lambda x: 3.0)
    near(scaled(lambda x: 3 * x, (line(1, 2, 3),), {}), 3, 6, 9)


# --- multilinear ----------------------------------------------------------------------------------


def test_a_form_is_read() -> None:
    form = Form("input, weight, bias? : input*weight + bias")
    assert form.names == ["input", "weight", "bias"]
    assert form.optional == {2}
    assert form.products == [(0, 1)]
    assert form.singles == [2]
    assert form.slots == [0, 1, 2]
    assert form.factors == {0, 1}


@pytest.mark.parametrize(
    ("text", "products", "singles", "slots"),
    [
        ("x : x", [], [0], [0]),
        ("x, y : x + y", [], [0, 1], [0, 1]),
        ("x,y:y*x", [(1, 0)], [], [0, 1]),
        ("x, mask, y, z : x*y*z", [(0, 2, 3)], [], [0, 2, 3]),
        ("x, y : y", [], [1], [1]),
    ],
)
def test_forms(text: str, products: list, singles: list, slots: list) -> None:
    form = Form(text)
    assert (form.products, form.singles, form.slots) == (products, singles, slots)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "x :",
        "x : y",
        "x : x*x",
        "x : x + x",
        "x, y : x*y + y",
        "x, y, z, w : x*y + z*w",
        "x, y : x + * y",
        "x, y : x - y",
        "x : 2*x",
    ],
)
def test_what_is_no_form(text: str) -> None:
    with pytest.raises(ValueError, match="is no form of a multilinear function"):
        Form(text)


def polynomial_product(*factors: list[float]) -> list[float]:
    order = len(factors[0]) - 1
    result = [1.0] + [0.0] * order
    for factor in factors:
        result = [sum(result[i] * factor[k - i] for i in range(k + 1)) for k in range(order + 1)]
    return result


def test_a_product_of_three_is_that_of_the_polynomials() -> None:
    evaluate = multilinear("x, y, z : x*y*z")
    factors = [[1.0, 2, 3, -1], [2.0, 0.5, -1, 4], [-1.0, 1, 0.25, 2]]
    for varying in itertools.product([True, False], repeat=3):
        if not any(varying):
            continue
        args = [
            line(*f) if v else torch.tensor(f[0], dtype=F64)
            for f, v in zip(factors, varying, strict=True)
        ]
        expected = polynomial_product(
            *(f if v else [f[0], 0, 0, 0] for f, v in zip(factors, varying, strict=True))
        )
        near(evaluate(lambda x, y, z: x * y * z, args, {}), *expected)


def test_each_term_of_a_form_has_its_own_degree() -> None:
    evaluate = multilinear("x, w, b? : x*w + b")

    def f(x: Any, w: Any, b: Any = None) -> Any:
        return x * w if b is None else x * w + b

    x, w, b = line(1, 2, 0), line(3, 1, 1), line(10, 20, 30)
    near(evaluate(f, (x, w, b), {}), 13, 27, 33)
    near(evaluate(f, (x, w), {}), 3, 7, 3)
    near(evaluate(f, (x, w), {"b": None}), 3, 7, 3)
    near(
        evaluate(f, (1.0 * torch.ones((), dtype=F64), torch.ones((), dtype=F64), b), {}), 11, 20, 30
    )
    near(evaluate(f, (x, torch.tensor(2.0, dtype=F64), torch.tensor(5.0, dtype=F64)), {}), 7, 4, 0)


def test_an_argument_outside_the_form_is_not_differentiated() -> None:
    evaluate = multilinear("x, y : x")
    with pytest.raises(UnsupportedFunction, match=r"does not differentiate y: pass x\.value there"):
        evaluate(lambda x, y: x * y, (X, W), {})


def test_several_results() -> None:
    evaluate = multilinear("x : x")
    whole = tt.TaylorTensor.from_coeffs([torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])])
    first, second = evaluate(torch.unbind, (whole,), {})
    assert (numbers(first), numbers(second)) == ([1, 3], [2, 4])


# --- composite ------------------------------------------------------------------------------------


def test_a_composite_is_its_body() -> None:
    evaluate = composite(lambda x, p=2: x**p)
    # (1 + 2t)^2
    near(evaluate(torch.pow, (line(1, 2, 0),), {}), 1, 4, 4)
    near(evaluate(torch.pow, (line(1, 2, 0), 1), {}), 1, 2, 0)


def test_a_body_that_uses_no_series_gives_a_constant_one() -> None:
    got = as_series(torch.ones_like, (line(1, 2, 3),), {}, torch.tensor(7.0, dtype=F64))
    near(got, 7, 0, 0)
    for other in (torch.tensor(7), 3, None):
        assert as_series(torch.ones_like, (X,), {}, other) is other
