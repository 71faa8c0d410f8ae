"""Independent variables: the multivariate series that a model is evaluated on.

``derivatives.py`` differentiates the results with respect to them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, overload

import torch

from ..algebra.indices import Sum
from ..algebra.structures import Multivariate
from ..engine.tensor import TaylorTensor, check_value, wrap
from .plans import index_set, one_per_value


class Origin:
    """The identity of one expansion."""

    def __init__(self, names: Sequence[str] = (), requested: bool = False) -> None:
        self.names = names
        self.requested = requested


class Variable(NamedTuple):
    """What a root variable is: the place of its coordinates, and the axes that they fill."""

    first: int
    size: int
    event: tuple[int, ...]


class TorchArrays:
    """What ``Multivariate`` needs of tensors."""

    @staticmethod
    def concatenate(rows: Sequence[torch.Tensor]) -> torch.Tensor:
        shape = torch.broadcast_shapes(*(row.shape[1:] for row in rows))
        return torch.cat([row.expand(row.shape[0], *shape) for row in rows])

    @staticmethod
    def zeros_like(row: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(row)

    @staticmethod
    def sum_rows(block: torch.Tensor, targets: Sequence[int], count: int) -> torch.Tensor:
        index = torch.tensor(targets, device=block.device)
        return block.new_zeros((count, *block.shape[1:])).index_add(0, index, block)

    @staticmethod
    def take(block: torch.Tensor, rows: list[int], factors: list[int]) -> torch.Tensor:
        first = rows[0]
        if rows == list(range(first, first + len(rows))):
            block = block[first : first + len(rows)]
        else:
            block = block[rows]
        if all(factor == 1 for factor in factors):
            return block
        if len(set(factors)) == 1:
            return block * factors[0]
        return block * block.new_tensor(factors).reshape((-1,) + (1,) * (block.ndim - 1))

    @staticmethod
    def sum(block: torch.Tensor, weights: Sequence[Any] | None) -> torch.Tensor:
        if weights is not None:
            factors = block.new_tensor([float(w) for w in weights])
            block = block * factors.reshape((-1,) + (1,) * (block.ndim - 1))
        return block.sum(0, keepdim=True)


@overload
def variables(
    value: torch.Tensor,
    /,
    *,
    order: int | Sequence[int] | None = None,
    derivatives: str | Iterable[str | tuple[int, ...]] | None = None,
    event_dims: int | Sequence[int] | None = None,
) -> TaylorTensor: ...


@overload
def variables(
    first: torch.Tensor,
    second: torch.Tensor,
    /,
    *rest: torch.Tensor,
    order: int | Sequence[int] | Mapping[str, int] | None = None,
    derivatives: str | Iterable[str | tuple[int, ...]] | None = None,
    event_dims: int | Sequence[int] | Mapping[str, int] | None = None,
    **named: torch.Tensor,
) -> tuple[TaylorTensor, ...]: ...


@overload
def variables(
    *values: torch.Tensor,
    order: int | Sequence[int] | Mapping[str, int] | None = None,
    derivatives: str | Iterable[str | tuple[int, ...]] | None = None,
    event_dims: int | Sequence[int] | Mapping[str, int] | None = None,
    **named: torch.Tensor,
) -> Any: ...


def variables(
    *values: torch.Tensor,
    order: int | Sequence[int] | Mapping[str, int] | None = None,
    derivatives: str | Iterable[str | tuple[int, ...]] | None = None,
    event_dims: int | Sequence[int] | Mapping[str, int] | None = None,
    **named: torch.Tensor,
) -> Any:
    r"""Independent variables, to be passed through a model and differentiated with respect to.

    Every result ``u`` of them is a multivariate Taylor polynomial, ``u = sum_a c_a h^a`` over a set
    of multi-indices ``a``, sample by sample: all of total degree at most ``order``, or the ones
    that the ``derivatives`` asked for need.

    Args:
        values: tensors of any shapes that broadcast in the model: columns ``(N, 1)``, points
            ``(N, D)``, samples ``(N,)``, particles ``(B, n, 3)`` with ``event_dims=2``.
        named: more values, under the names that ``derivatives`` uses: ``variables(x=x0, t=t0)``.
        order: the highest total degree kept, default 2; or one order per variable, then the highest
            of them bounds the total degree.
        derivatives: only these, and what they need: ``["t", "xx", "xt"]`` over named variables, or
            ``[(1,), (0, 0), (0, 1)]`` over their positions. A variable of several coordinates
            stands for each of them: ``"xx"`` is a whole Hessian. ``"laplacian"`` is that of all
            variables, ``"laplacian(x, y)"`` of these: it keeps one coefficient for the sum instead
            of one for each second derivative.
        event_dims: how many trailing axes of a value are its coordinates, the leading ones being
            the batch: one int, or one per value. Default: 1 for two axes, 0 for one or none;
            required for three or more.

    Returns:
        One TaylorTensor, or a tuple of them for several values.

    Raises:
        TypeError: no values, a value that is not a floating-point or complex tensor, an order that
            is not an int.
        ValueError: a negative order, event_dims missing or out of range, or derivatives of unknown
            variables.

    >>> import torch, taylortorch as tt
    >>> x, t = tt.variables(torch.tensor([[2.0]]), torch.tensor([[3.0]]), order=3)
    >>> u = x**2 * t
    >>> tt.d(u, x, t).value, tt.d(u, x, x, t).value
    (tensor([[4.]]), tensor([[2.]]))

    Only what a heat equation in many dimensions needs:

    >>> x, t = tt.variables(
    ...     x=torch.ones(1, 50), t=torch.ones(1, 1), derivatives=["t", "laplacian(x)"]
    ... )
    >>> u = t * (x**2).sum(-1, keepdim=True)
    >>> tt.d(u, t).value, tt.laplacian(u, x).value
    (tensor([[50.]]), tensor([[100.]]))

    Source: Griewank & Walther, *Evaluating Derivatives*, 2nd ed. (2008), section 13.3; Neidinger
    (2013), multivariate recurrences.
    """
    values, names = (*values, *named.values()), [*([""] * len(values)), *named]
    if not values:
        raise TypeError("taylortorch.variables needs at least one tensor")
    for value in values:
        check_value(value, "taylortorch.variables: each argument")
    dims = one_per_value(event_dims, names, None, "event_dims")
    events = [
        event_shape(*pair, "taylortorch.variables") for pair in zip(values, dims, strict=True)
    ]
    counts = [math.prod(event) for event in events]
    indices = index_set(counts, names, order, derivatives)
    structure = Multivariate(Origin(names, derivatives is not None), indices, TorchArrays)
    level = max(v._level + 1 if isinstance(v, TaylorTensor) else 0 for v in values)
    result, first = [], 0
    for value, event, count in zip(values, events, counts, strict=True):
        result.append(seeded(value, structure, level, Variable(first, count, event)))
        first += count
    return result[0] if len(result) == 1 else tuple(result)


def seeded(
    value: torch.Tensor, structure: Multivariate, level: int, variable: Variable
) -> TaylorTensor:
    """The series of an independent variable: each coordinate moves along its own multi-index."""
    # contiguous, so that the coordinate of a slice can be read off its strides
    value = value.contiguous()
    order, event = len(structure.indices) - 1, variable.event
    blocks: list[Any] = [value] + [None] * order
    if order:
        rows = structure.indices[1]
        members = [row.terms if isinstance(row, Sum) else ((row, 1),) for row in rows]
        places = [
            (row, index.index(1) - variable.first, float(weight))
            for row, terms in enumerate(members)
            for index, weight in terms
        ]
        places = [(row, n, weight) for row, n, weight in places if 0 <= n < variable.size]
        if places:
            seed = value.new_zeros((len(rows), variable.size))
            row, column, weight = map(list, zip(*places, strict=True))
            seed[row, column] = seed.new_tensor(weight)
            blocks[1] = seed.reshape((len(rows),) + (1,) * (value.ndim - len(event)) + event)
    x = wrap(blocks, structure, level)
    x._variable = variable
    return x


def event_shape(value: torch.Tensor, given: int | None, who: str) -> tuple[int, ...]:
    """The trailing axes of ``value`` that are coordinates; ``given`` None: the default."""
    if given is None:
        if value.ndim > 2:
            raise ValueError(
                f"{who}: a value of shape {tuple(value.shape)} has {value.ndim} "
                "axes: pass event_dims=, the number of trailing axes that are its coordinates "
                "(2 for particles (batch, n, 3))"
            )
        given = 1 if value.ndim == 2 else 0
    if isinstance(given, bool) or not isinstance(given, int):
        raise TypeError(f"{who}: event_dims must be an int, got {type(given).__name__}")
    if not 0 <= given <= value.ndim:
        raise ValueError(f"{who}: event_dims={given} for a value of shape {tuple(value.shape)}")
    return tuple(value.shape[value.ndim - given :])
