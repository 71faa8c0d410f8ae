"""Any linear differential operator, from its terms: one evaluation for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec

import torch

from ..algebra.indices import MultiIndex, closure, factorial, rows_of
from ..algebra.structures import Collapsed, Structure
from ..engine.directions import Operator, seed
from ..operators.plans import along_directions, is_number, sums_of
from .point import Point, added, transform, tree_map

_P = ParamSpec("_P")


def mixed_partial(
    f: Callable[_P, Any],
    multi_index: Sequence[int],
    argnums: int = 0,
    *,
    event_dims: int | None = None,
    return_value: bool = False,
) -> Callable[_P, Any]:
    """One partial derivative: ``multi_index`` says how often by each coordinate; output's shape.

    ``mixed_partial(f, (2, 0, 1))`` is d^3 f / dx_0^2 dx_2. Propagates the multi-indices below it,
    ``prod(a_i + 1)`` blocks. Other arguments and errors as ``jacfwd``; ValueError for a multi-index
    that has not one entry >= 0 per coordinate.

    >>> import torch, taylortorch as tt
    >>> tt.func.mixed_partial(lambda x: x[..., 0] ** 2 * x[..., 1], (2, 1))(torch.ones(1, 2))
    tensor([2.])
    """

    def evaluate(point: Point) -> tuple[Any, Any]:
        return operator_at(point, {tuple(multi_index): 1})

    return transform("mixed_partial", evaluate, f, argnums, event_dims, return_value)


def linear_operator(
    f: Callable[_P, Any],
    terms: Mapping[Sequence[int], Any],
    argnums: int = 0,
    *,
    event_dims: int | None = None,
    return_value: bool = False,
) -> Callable[_P, Any]:
    """A linear differential operator ``sum_a C_a d^a f``, terms of any degrees together.

    Args:
        f: a function of tensors; see ``taylortorch.func`` for what it may return.
        terms: the coefficient of each multi-index: a number (int, float, ``Fraction``), a tensor
            (a scalar, or one per sample, of the batch shape), or a function of ``x`` returning one.
            ``{(2, 0): 1, (0, 2): 1}`` is the Laplacian in two dimensions, ``(0, 0)`` stands for
            ``f`` itself.
        argnums, event_dims, return_value: as for ``jacfwd``.

    Raises:
        ValueError: a multi-index that has not one entry >= 0 per coordinate, a coefficient of
            another shape; as for ``jacfwd``.
        TypeError: ``terms`` is not a mapping; as for ``jacfwd``.

    Of two ways the one with fewer blocks and products of blocks is taken. A multivariate series
    propagates the multi-indices below those of the terms; terms of one degree with number
    coefficients that no other term needs are one sum. If all terms but those of degree 0 and 1 have
    one degree m, and number coefficients, as those of degree 1 have, they may instead be a sum
    ``sum_r w_r (v_r . grad)^m``, found in rational numbers: R directions, ``2 + R (m - 1)`` blocks,
    terms of degree 1 at no cost. So ``(d_x + 2 d_y)^4`` written out takes one direction, a
    quadratic form as many as its rank. A sum whose parts would nearly cancel is not taken; the
    Laplacian of all coordinates is propagated as by ``laplacian``.

    >>> import torch, taylortorch as tt
    >>> u = lambda x: x[..., 0] * x[..., 1] ** 2
    >>> heat = tt.func.linear_operator(u, {(1, 0): 1, (0, 2): -1})
    >>> heat(torch.tensor([[2.0, 3.0]]))  # u_t - u_xx of u = t x^2
    tensor([5.])
    """
    if not isinstance(terms, Mapping):
        raise TypeError(
            "taylortorch.func.linear_operator: terms must be a mapping of multi-indices to "
            f"coefficients, such as {{(2, 0): 1, (0, 2): 1}}; got {type(terms).__name__}"
        )

    given = {tuple(index): c for index, c in terms.items()}
    plan = along_directions(given)

    def evaluate(point: Point) -> tuple[Any, Any]:
        return operator_at(point, given, plan)

    return transform("linear_operator", evaluate, f, argnums, event_dims, return_value)


def operator_at(
    point: Point, terms: Mapping[MultiIndex, Any], plan: tuple[Any, ...] | None = None
) -> tuple[Any, Any]:
    """``sum_a C_a d^a f`` and ``f``; ``plan`` is what ``along_directions`` says of the terms."""
    n = point.count
    for index in terms:
        if len(index) != n or not all(isinstance(i, int) and i >= 0 for i in index):
            raise ValueError(
                f"{point.who}: the multi-index {index} must have one entry >= 0 for each of the "
                f"{n} coordinates of argument {point.place}"
            )
    if plan is not None:
        total, value = _along(point, *plan)
        parts = [total]
    else:
        parts, value = _expanded(point, {a: c for a, c in terms.items() if any(a)})
    for index, coefficient in terms.items():
        if not any(index):
            parts.append(_scaled(point, value, coefficient))
    if not parts:
        return tree_map(torch.zeros_like, value), value
    return added(parts), value


def _expanded(point: Point, terms: Mapping[MultiIndex, Any]) -> tuple[list[Any], Any]:
    """The terms from a multivariate series."""
    numbers = {a: c for a, c in terms.items() if is_number(c)}
    others = {a: c for a, c in terms.items() if a not in numbers}
    sums = sums_of(numbers)
    indices = closure(point.count, others, sums)
    output = point.expanded(indices)
    parts = []
    for total in sums:
        degree = sum(total.terms[0][0])
        row = rows_of(indices[degree])
        if total in row:
            parts.append(output.row(degree, row[total]))
        else:
            for index, weight in total.terms:
                parts.append(_scaled(point, output.row(degree, row[index]), weight))
    for index, coefficient in others.items():
        term = output.row(sum(index), rows_of(indices[sum(index)])[index])
        parts.append(_scaled(point, term, coefficient, factorial(index)))
    return parts, output.value()


def _along(
    point: Point, degree: int, directions: Any, weights: Any, drift: Any, scale: float
) -> tuple[Any, Any]:
    """``sum_r w_r (v_r . grad)^m f + b . grad f``, and ``f``.

    ``b`` is seeded in the collapsed block, where nothing is multiplied with it but ``grad f``.
    """
    x = point.x
    structure: Structure
    if directions is None:
        block, structure = seed(point.event, len(point.batch), x)
    else:
        shape = (len(directions), *(1,) * len(point.batch), *point.event)
        block = torch.tensor(directions, dtype=x.dtype, device=x.device).reshape(shape)
        if weights != 1:
            weights = torch.tensor(weights, dtype=x.dtype, device=x.device)
        count = len(directions)
        if degree == 2:
            structure = Operator(count, weights)
        else:
            structure = Collapsed(count, degree, weights, per_sample=True)
    top = None
    if drift is not None:
        top = torch.tensor(drift, dtype=x.dtype, device=x.device)
        top = top.reshape(point.event).expand(x.shape)
    output = point.along(block, structure, degree, top)
    return tree_map(lambda c: c * scale, output.block(degree)), output.value()


def _scaled(point: Point, tree: Any, factor: Any, number: int = 1) -> Any:
    """The output times a coefficient: a number, one number per sample, or a function of ``x``."""
    if callable(factor):
        factor = factor(point.x)
    if not isinstance(factor, torch.Tensor):
        return tree_map(lambda y: y * (float(factor) * number), tree)
    if factor.ndim and tuple(factor.shape) != point.batch:
        raise ValueError(
            f"{point.who}: a coefficient must be a number or have the batch shape {point.batch}, "
            f"got a tensor of shape {tuple(factor.shape)}"
        )

    def scaled(y: Any) -> Any:
        missing = y.ndim - factor.ndim if factor.ndim else 0
        return y * (factor.reshape(factor.shape + (1,) * missing) * number)

    return tree_map(scaled, tree)
