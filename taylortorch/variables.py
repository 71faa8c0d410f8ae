"""Independent variables and derivatives with respect to them, for those who hold ``u`` and ``x``.

``variables`` seeds a multivariate series; ``d`` differentiates a result by shifting its
multi-indices, so a derivative is a TaylorTensor again, of one order less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from .structures import Multivariate, total_degree
from .tensor import TaylorTensor, check_order, check_value, innermost, run, settle, wrap


class Origin:
    """The identity of one call of ``variables``."""


class TorchArrays:
    """What ``Multivariate`` needs of tensors."""

    @staticmethod
    def concatenate(rows: Sequence[torch.Tensor]) -> torch.Tensor:
        shape = torch.broadcast_shapes(*(row.shape for row in rows))
        return torch.cat([row.expand(shape) for row in rows])

    @staticmethod
    def zeros_like(row: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(row)

    @staticmethod
    def sum_rows(block: torch.Tensor, targets: Sequence[int], count: int) -> torch.Tensor:
        index = torch.tensor(targets, device=block.device)
        return block.new_zeros((count, *block.shape[1:])).index_add(0, index, block)


def variables(
    *values: torch.Tensor, order: int = 2, event_dims: int | Sequence[int] | None = None
) -> Any:
    r"""Independent variables, to be passed through a model and differentiated with respect to.

    Every result ``u`` of them is a multivariate Taylor polynomial, ``u = sum_a c_a h^a`` over all
    multi-indices ``a`` of total degree at most ``order``, sample by sample.

    Args:
        values: tensors of any shapes that broadcast in the model: columns ``(N, 1)``, points
            ``(N, D)``, samples ``(N,)``, particles ``(B, n, 3)`` with ``event_dims=2``.
        order: the highest total degree kept. Default 2.
        event_dims: how many trailing axes of a value are its coordinates, the leading ones being
            the batch: one int, or one per value. Default: 1 for two axes, 0 for one or none;
            required for three or more.

    Returns:
        One TaylorTensor, or a tuple of them for several values.

    Raises:
        TypeError: no values, a value that is not a floating-point or complex tensor, an order that
            is not an int.
        ValueError: a negative order, or event_dims missing or out of range.

    >>> import torch, taylortorch as tt
    >>> x, t = tt.variables(torch.tensor([[2.0]]), torch.tensor([[3.0]]), order=3)
    >>> u = x**2 * t
    >>> tt.d(u, x, t).value, tt.d(u, x, x, t).value
    (tensor([[4.]]), tensor([[2.]]))

    Source: Griewank & Walther, *Evaluating Derivatives*, 2nd ed. (2008), section 13.3; Neidinger
    (2013), multivariate recurrences.
    """
    if not values:
        raise TypeError("taylortorch.variables needs at least one tensor")
    check_order(order)
    for value in values:
        check_value(value, "taylortorch.variables: each argument")
    if event_dims is None or isinstance(event_dims, int):
        dims: list[int | None] = [event_dims] * len(values)
    else:
        dims = list(event_dims)
        if len(dims) != len(values):
            raise ValueError(
                f"taylortorch.variables: {len(dims)} event_dims for {len(values)} values"
            )
    events = [_event_shape(value, given) for value, given in zip(values, dims, strict=True)]
    counts = [math.prod(event) for event in events]
    structure = Multivariate(Origin(), total_degree(sum(counts), order), TorchArrays)
    level = max(v._level + 1 if isinstance(v, TaylorTensor) else 0 for v in values)
    result, first = [], 0
    for value, event, count in zip(values, events, counts, strict=True):
        # contiguous, so that the coordinate of a slice can be read off its strides
        value = value.contiguous()
        seed = value.new_zeros((sum(counts), count))
        seed[first : first + count] = torch.eye(count, dtype=value.dtype, device=value.device)
        seed = seed.reshape((sum(counts),) + (1,) * (value.ndim - len(event)) + event)
        blocks = (value, seed)[: order + 1] + (None,) * (order - 1)
        x = wrap(blocks, structure, level)
        x._variable = (first, count)
        result.append(x)
        first += count
    return result[0] if len(result) == 1 else tuple(result)


def _event_shape(value: torch.Tensor, given: int | None) -> tuple[int, ...]:
    if given is None:
        if value.ndim > 2:
            raise ValueError(
                f"taylortorch.variables: a value of shape {tuple(value.shape)} has {value.ndim} "
                "axes: pass event_dims=, the number of trailing axes that are its coordinates "
                "(2 for particles (batch, n, 3))"
            )
        given = 1 if value.ndim == 2 else 0
    if not 0 <= given <= value.ndim:
        raise ValueError(
            f"taylortorch.variables: event_dims={given} for a value of shape {tuple(value.shape)}"
        )
    return tuple(value.shape[value.ndim - given :])


def d(u: TaylorTensor, *wrt: TaylorTensor, order: int | None = None) -> TaylorTensor:
    """The partial derivative of ``u`` with respect to each of ``wrt`` in turn, sample by sample.

    ``d(u, x, x, t)`` is u_xxt; ``d(u, x, order=3)`` is u_xxx. The result is a TaylorTensor of
    accordingly lower order, so that ``d(r**2 * d(u, r), r)`` works; at order 0 it acts as its value
    in ``.backward()``, ``float()`` and ``.numpy()``.

    Args:
        u: a result of variables made by ``variables``.
        wrt: variables of one coordinate, or slices of one coordinate: ``X[:, 0:1]``.
        order: with a single ``wrt``: how many times.

    Raises:
        TypeError: ``u`` carries no series, or a ``wrt`` is not a variable.
        ValueError: nothing to differentiate by, a ``wrt`` of several coordinates, or more
            derivatives than the seeded order.
    """
    if not wrt:
        raise ValueError("taylortorch.d(u, x, ...) needs a variable to differentiate by")
    if order is not None:
        check_order(order)
        if len(wrt) != 1:
            raise ValueError("taylortorch.d: order= goes with one variable; write d(u, x, x, t)")
        wrt = wrt * order
    if not isinstance(u, TaylorTensor):
        raise TypeError(
            f"taylortorch.d: u is a {type(u).__name__} without a series: it does not depend on the "
            "variables, or was detached from them"
        )
    settle(u)
    asked = [_coordinate(x) for x in wrt]
    result = u
    for n, (root, coordinate) in enumerate(asked):
        derivative = _derivative(result, root, coordinate)
        if derivative is None:
            raise ValueError(
                f"taylortorch.d: asked for {len(asked)} derivative{'s' * (len(asked) > 1)}, but "
                f"only {n} can be taken of u, which has order {u.order}: pass order="
                f"{root.order + len(asked) - n} to taylortorch.variables"
            )
        result = derivative
    return result


def _derivative(u: Any, root: TaylorTensor, coordinate: int | torch.Tensor) -> Any:
    """The derivative along one coordinate; None where ``u`` has no order left.

    A tensor selects the coordinate by a 1 among zeros, in a trace that cannot tell which it is.
    """
    if isinstance(coordinate, torch.Tensor):
        parts = [_derivative(u, root, n) for n in range(len(coordinate))]
        if any(part is None for part in parts):
            return None
        return run(lambda: sum(part * coordinate[n] for n, part in enumerate(parts)))
    if not isinstance(u, TaylorTensor) or u._level < root._level:
        raise TypeError(
            "taylortorch.d: u carries no series of this variable: it does not depend on it, or was "
            "detached"
        )
    if u._level > root._level:
        blocks = [None if b is None else _inner_derivative(b, root, coordinate) for b in u._blocks]
        return wrap(blocks, u._structure, u._level)
    structure, own = u._structure, root._structure
    if not (isinstance(structure, Multivariate) and isinstance(own, Multivariate)) or (
        structure.origin is not own.origin
    ):
        raise TypeError(
            "taylortorch.d: u and the variable come from different expansions: make all variables "
            "by one call of taylortorch.variables"
        )
    if u.order == 0:
        return None
    if not any(index[coordinate] for degree in structure.indices for index in degree):
        return None
    value = u._blocks[0]
    blocks = run(structure.differentiate, u._blocks, coordinate)
    first = value.new_zeros(value.shape) if blocks[0] is None else blocks[0].to(value.dtype)
    blocks[0] = first.expand(value.shape)
    return wrap(blocks, structure.shifted(coordinate), u._level)


def _inner_derivative(block: Any, root: TaylorTensor, coordinate: int | torch.Tensor) -> Any:
    if not isinstance(block, TaylorTensor):
        return torch.zeros_like(block)
    return _derivative(block, root, coordinate)


def _coordinate(x: Any) -> tuple[TaylorTensor, int | torch.Tensor]:
    """The variable that ``x`` is or is a slice of, and its coordinate (see ``_derivative``)."""
    root = x
    while isinstance(root, TaylorTensor) and root._variable is None and root._view is not None:
        root = root._view[0]
    if not isinstance(root, TaylorTensor) or root._variable is None:
        raise TypeError(
            "taylortorch.d: the second argument is not a variable: differentiate with respect to "
            "what taylortorch.variables returned, or a slice of it such as X[:, 0:1]"
        )
    if root._writes:
        raise TypeError("taylortorch.d: the variable was written to; it is no longer independent")
    first, count = root._variable
    if count == 1:
        return root, first
    view, whole = innermost(x), innermost(root)
    # the root is contiguous with its coordinates last: an element's place in memory, modulo their
    # number, is its coordinate
    strides = [stride for size, stride in zip(view.shape, view.stride(), strict=True) if size > 1]
    if any(stride % count for stride in strides):
        raise ValueError(
            f"taylortorch.d: differentiate with respect to one coordinate at a time: this variable "
            f"of shape {tuple(x.shape)} has {count}; take a slice such as X[:, 0:1]"
        )
    if torch.compiler.is_compiling():
        # Dynamo does not trace storage offsets, but the slice's own seed is a unit vector
        seed = x._blocks[1]
        return root, seed.reshape(seed.shape[0], -1)[:, 0]
    return root, first + (view.storage_offset() - whole.storage_offset()) % count
