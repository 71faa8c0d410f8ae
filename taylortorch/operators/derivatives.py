"""Derivatives and differential operators, for those who hold ``u`` and its variables.

All rest on one shift of multi-indices (``_partials``); the rest is ordinary torch code on its
result. Every operator returns a TaylorTensor, of the order that is left, so that operators nest; at
order 0 it acts as its value in ``.backward()``, ``float()`` and ``.numpy()``.

Shapes: ``u`` has any shape that begins with the batch axes of the variables. A gradient has the
shape ``(*u.shape, *event)``, a Hessian ``(*u.shape, *event, *event)``, where ``event`` is the shape
of one sample of the variable: ``(D,)`` for points ``(N, D)``, ``(n, 3)`` for particles
``(B, n, 3)``, ``()`` for samples ``(N,)``. With several variables their coordinates are counted
through along one axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from ..algebra.indices import unit_index
from ..algebra.structures import Multivariate
from ..engine.frames import frame_of
from ..engine.tensor import TaylorTensor, check_order, innermost, run, settle, wrap
from .variables import Variable


class Coordinates:
    """The coordinates that the given variables, or slices of variables, stand for."""

    def __init__(self, who: str, wrt: Sequence[Any]) -> None:
        if not wrt:
            raise ValueError(f"{who} needs a variable to differentiate with respect to")
        parts = [_slice_of(who, x) for x in wrt]
        self.root: TaylorTensor = parts[0][0]
        own = self.root._structure
        for root, _, _ in parts[1:]:
            if root._level != self.root._level or not _same_origin(root._structure, own):
                raise _origins(who)
        self.event = parts[0][2] if len(wrt) == 1 else (sum(math.prod(e) for _, _, e in parts),)
        self.batch_dims = max(root.ndim - len(_variable(root).event) for root, _, _ in parts)
        self.batches = [
            tuple(root.shape[: root.ndim - len(_variable(root).event)]) for root, _, _ in parts
        ]
        self.numbers: list[int] = []
        # which of the numbers make up each coordinate, where a trace cannot tell
        self.mix: torch.Tensor | None = None
        if any(isinstance(where, torch.Tensor) for _, where, _ in parts):
            assert isinstance(own, Multivariate)
            self.numbers = [index.index(1) for index in own.indices[1]]
            columns = []
            for root, where, _ in parts:
                if not isinstance(where, torch.Tensor):
                    rows = [[float(n == i) for i in where] for n in self.numbers]
                    where = innermost(root).new_tensor(rows)
                columns.append(where)
            self.mix = torch.cat(columns, 1)
        else:
            for _, where, _ in parts:
                self.numbers += where

    @property
    def count(self) -> int:
        """How many coordinates there are."""
        return math.prod(self.event)


# type checkers take what torch returns for a plain tensor, a series or not: so do the annotations


def d(u: torch.Tensor, *wrt: torch.Tensor, order: int | None = None) -> TaylorTensor:
    """The partial derivative of ``u`` with respect to each of ``wrt`` in turn, sample by sample.

    ``d(u, x, x, t)`` is u_xxt; ``d(u, x, order=3)`` is u_xxx. The result has the shape of ``u``.

    Args:
        u: a result of variables made by ``variables``.
        wrt: variables of one coordinate, or slices of one coordinate: ``X[:, 0:1]``.
        order: with a single ``wrt``: how many times.

    Raises:
        TypeError: ``u`` carries no series, or a ``wrt`` is not a variable.
        ValueError: nothing to differentiate by, a ``wrt`` of several coordinates, or a derivative
            that was not seeded.

    >>> import torch, taylortorch as tt
    >>> x, t = tt.variables(torch.tensor([[2.0]]), torch.tensor([[3.0]]), order=3)
    >>> u = x**2 * t
    >>> tt.d(u, t).value, tt.d(u, x, order=2).value, tt.d(u, x, x, t).value
    (tensor([[4.]]), tensor([[6.]]), tensor([[2.]]))
    """
    who = "taylortorch.d"
    if order is not None:
        check_order(order)
        if len(wrt) != 1:
            raise ValueError(f"{who}: order= goes with one variable; write d(u, x, x, t)")
    parts = [Coordinates(who, [x]) for x in wrt]
    if not parts:
        raise ValueError(f"{who}(u, x, ...) needs a variable to differentiate by")
    for x, part in zip(wrt, parts, strict=True):
        if part.count != 1:
            raise ValueError(
                f"{who}: differentiate with respect to one coordinate at a time: this variable of "
                f"shape {tuple(x.shape)} has {part.count}; take a slice such as X[:, 0:1], or "
                "use taylortorch.grad"
            )
    if order is not None:
        parts = parts * order
    _check(who, u, *parts)
    result: Any = u
    if order == 0:
        return result
    if any(part.mix is not None for part in parts) or len({part.root._level for part in parts}) > 1:
        for part in parts:
            result = _gradient(who, result, part).select(-1, 0)
        return result
    numbers = [part.numbers[0] for part in parts]
    return _partials(who, u, parts[0].root, [numbers]).select(-1, 0)


def grad(u: torch.Tensor, *wrt: torch.Tensor) -> TaylorTensor:
    """The gradient of ``u``, sample by sample: ``(*u.shape, *event)`` (see the module).

    Args:
        u: a result of variables made by ``variables``.
        wrt: a variable or a slice of one (``X[:, :2]``), or several of them.

    Raises:
        TypeError: ``u`` carries no series, or a ``wrt`` is not a variable.
        ValueError: a derivative that was not seeded, or ``u`` not per sample.

    >>> import torch, taylortorch as tt
    >>> x = tt.variables(torch.tensor([[1.0, 2.0]]), order=1)
    >>> tt.grad((x**3).sum(-1), x).value
    tensor([[ 3., 12.]])
    """
    who = "taylortorch.grad"
    where = Coordinates(who, wrt)
    _check(who, u, where)
    return _shaped(_gradient(who, u, where), where.event)


def jacobian(u: torch.Tensor, *wrt: torch.Tensor) -> TaylorTensor:
    """The Jacobian of a vector field: entry ``[..., i, j]`` is the derivative of ``u_i`` along
    coordinate ``j``. Shapes, arguments and errors as ``grad``.

    >>> import torch, taylortorch as tt
    >>> x = tt.variables(torch.tensor([[2.0, 3.0]]), order=1)
    >>> tt.jacobian(torch.stack([x[:, 0] * x[:, 1], x[:, 1]], -1), x).value
    tensor([[[3., 2.],
             [0., 1.]]])
    """
    who = "taylortorch.jacobian"
    where = Coordinates(who, wrt)
    _check(who, u, where)
    return _shaped(_gradient(who, u, where), where.event)


def div(field: torch.Tensor, *wrt: torch.Tensor) -> TaylorTensor:
    """The divergence ``sum_i d F_i / d x_i``, without the trailing axes that ``field`` shares with
    the variables.

    Args:
        field: its trailing axes are the event axes of the variable: ``(N, D)`` for points
            ``(N, D)``.
        wrt: as for ``grad``.

    Raises:
        ValueError: ``field`` does not have one component per coordinate; as for ``grad``.
        TypeError: as for ``grad``.

    >>> import torch, taylortorch as tt
    >>> x = tt.variables(torch.tensor([[2.0, 3.0]]), order=1)
    >>> tt.div(x**2, x).value
    tensor([10.])
    """
    who = "taylortorch.div"
    where = Coordinates(who, wrt)
    _check(who, field, where)
    field = _components(who, field, where)
    slopes = _gradient(who, field, where)
    return run(torch.diagonal, slopes, 0, -2, -1).sum(-1)


def curl(field: torch.Tensor, *wrt: torch.Tensor) -> TaylorTensor:
    """The curl: a vector ``(..., 3)`` in three dimensions, the scalar ``d F_1/d x_0 - d F_0/d x_1``
    in two. Arguments and errors as ``div``.

    >>> import torch, taylortorch as tt
    >>> x = tt.variables(torch.tensor([[2.0, 3.0]]), order=1)
    >>> tt.curl(torch.stack([-x[:, 1], x[:, 0]], -1), x).value
    tensor([2.])
    """
    who = "taylortorch.curl"
    where = Coordinates(who, wrt)
    _check(who, field, where)
    if where.count not in (2, 3):
        raise ValueError(f"{who} is defined in 2 and 3 dimensions, not in {where.count}")
    field = _components(who, field, where)
    slopes = _gradient(who, field, where)

    def turn(i: int, j: int) -> Any:
        return slopes[..., j, i] - slopes[..., i, j]

    if where.count == 2:
        return run(turn, 0, 1)
    return run(lambda: torch.stack([turn(1, 2), turn(2, 0), turn(0, 1)], -1))


def laplacian(u: torch.Tensor, *wrt: torch.Tensor) -> TaylorTensor:
    """The Laplacian ``sum_i d^2 u / d x_i^2``, in the shape of ``u``.

    Arguments and errors as ``grad``. Variables made with ``derivatives="laplacian"`` carry the sum
    as one coefficient.

    >>> import torch, taylortorch as tt
    >>> x = tt.variables(torch.tensor([[2.0, 3.0]]), derivatives="laplacian")
    >>> tt.laplacian((x**3).sum(-1), x).value
    tensor([30.])
    """
    who = "taylortorch.laplacian"
    where = Coordinates(who, wrt)
    _check(who, u, where)
    if where.mix is None:
        return _pure_second(who, u, where)
    second = _shaped_pairs(who, u, where)
    return run(torch.diagonal, second, 0, -2, -1).sum(-1)


def hessian(u: torch.Tensor, *wrt: torch.Tensor) -> TaylorTensor:
    """The Hessian, sample by sample: ``(*u.shape, *event, *event)``.

    Arguments and errors as ``grad``.

    >>> import torch, taylortorch as tt
    >>> x = tt.variables(torch.tensor([[2.0, 3.0]]))
    >>> tt.hessian(x[:, 0] ** 2 * x[:, 1], x).value
    tensor([[[6., 4.],
             [4., 0.]]])
    """
    who = "taylortorch.hessian"
    where = Coordinates(who, wrt)
    _check(who, u, where)
    second = _shaped_pairs(who, u, where)
    return second.reshape((*u.shape, *where.event, *where.event))


def hvp(u: torch.Tensor, x: torch.Tensor, v: torch.Tensor) -> TaylorTensor:
    """The Hessian-vector product ``H v``: ``(*u.shape, *event)``.

    Args:
        u: a result of variables made by ``variables``.
        x: a variable or a slice of one.
        v: one vector per sample, in the shape of ``x``, or one for all, ``event``.

    Raises:
        TypeError, ValueError: as for ``grad``; ``v`` of another shape.

    >>> import torch, taylortorch as tt
    >>> x = tt.variables(torch.tensor([[2.0, 3.0]]))
    >>> tt.hvp(x[:, 0] ** 2 * x[:, 1], x, torch.tensor([1.0, 0.0])).value
    tensor([[6., 4.]])
    """
    who = "taylortorch.hvp"
    where = Coordinates(who, [x])
    _check(who, u, where)
    second = _shaped_pairs(who, u, where)
    vector = _per_sample(who, "v", v, u, where).unsqueeze(-2)
    return _shaped(run(lambda: (second * vector).sum(-1)), where.event)


def normal_derivative(u: torch.Tensor, x: torch.Tensor, normal: torch.Tensor) -> TaylorTensor:
    """The derivative along ``normal``: ``sum_i n_i d u / d x_i``, in the shape of ``u``.

    Args:
        u: a result of variables made by ``variables``.
        x: a variable or a slice of one.
        normal: one vector per sample, in the shape of ``x``, or one for all, ``event``; used as
            it is, not scaled to length 1.

    Raises:
        TypeError, ValueError: as for ``grad``; ``normal`` of another shape.

    >>> import torch, taylortorch as tt
    >>> x = tt.variables(torch.tensor([[2.0, 3.0]]), order=1)
    >>> tt.normal_derivative((x**2).sum(-1), x, torch.tensor([0.6, 0.8])).value
    tensor([7.2000])
    """
    who = "taylortorch.normal_derivative"
    where = Coordinates(who, [x])
    _check(who, u, where)
    slopes = _gradient(who, u, where)
    vector = _per_sample(who, "normal", normal, u, where)
    return run(lambda: (slopes * vector).sum(-1))


# --- the shift ----------------------------------------------------------------------------------


def _partials(who: str, u: Any, root: TaylorTensor, shifts: Sequence[Sequence[int]]) -> Any:
    """The derivatives along each of ``shifts`` (lists of coordinates), along a last axis."""
    if u._level > root._level:
        blocks = [
            _of_constant(b, len(shifts))
            if b is not None and not isinstance(b, TaylorTensor)
            else None
            if b is None
            else _partials(who, b, root, shifts)
            for b in u._blocks
        ]
        return frame_of(u).wrap(blocks)
    structure = _expansion(who, u, root)
    if not shifts:
        nothing = u._blocks[0].new_zeros((*u.shape, 0))
        return wrap((nothing,), structure.truncated(0), u._level)
    found = run(structure.differentiate, u._blocks, shifts)
    if found is None:
        raise _not_seeded(who, u, root, shifts)
    blocks, target = found
    value = u._blocks[0]
    first = value.new_zeros((len(shifts),) + (1,) * value.ndim) if blocks[0] is None else blocks[0]
    first = first.to(value.dtype).expand(len(shifts), *value.shape)
    moved = [None if b is None else run(b.movedim, 0, -1) for b in (first, *blocks[1:])]
    return wrap(moved, target, u._level)


def _of_constant(block: torch.Tensor, count: int) -> torch.Tensor:
    return torch.zeros_like(block).unsqueeze(-1).expand(*block.shape, count)


def _pure_second(who: str, u: Any, where: Coordinates) -> Any:
    """The sum over the coordinates of the second derivatives along each."""
    if u._level > where.root._level:
        blocks = [
            None
            if b is None
            else _pure_second(who, b, where)
            if isinstance(b, TaylorTensor)
            else torch.zeros_like(b)
            for b in u._blocks
        ]
        return frame_of(u).wrap(blocks)
    structure = _expansion(who, u, where.root)
    count = len(structure.indices[0][0])
    members = [unit_index(count, i, i) for i in where.numbers]
    kept = structure.sum_row(members) if members else None
    if kept is None:
        return _partials(who, u, where.root, [[i, i] for i in where.numbers]).sum(-1)
    degree, row = kept
    block, value = u._blocks[degree], u._blocks[0]
    result = torch.zeros_like(value) if block is None else (block[row] * 2).expand(value.shape)
    return wrap((result,), structure.truncated(0), u._level)


def _gradient(who: str, u: Any, where: Coordinates) -> Any:
    """The derivatives along each coordinate, along one last axis."""
    slopes = _partials(who, u, where.root, [[i] for i in where.numbers])
    return slopes if where.mix is None else run(torch.matmul, slopes, where.mix)


def _shaped_pairs(who: str, u: Any, where: Coordinates) -> Any:
    """The second derivatives along each pair of coordinates, along two last axes."""
    numbers = where.numbers
    pairs = _partials(who, u, where.root, [[i, j] for i in numbers for j in numbers])
    second = _shaped(pairs, (len(numbers), len(numbers)))
    if where.mix is None:
        return second
    mix = where.mix
    return run(lambda: torch.matmul(mix.mT, torch.matmul(second, mix)))


def _shaped(result: TaylorTensor, event: tuple[int, ...]) -> Any:
    if len(event) == 1:
        return result
    return result.reshape((*result.shape[:-1], *event))


# --- what is asked for, and what there is --------------------------------------------------------


def _variable(root: TaylorTensor) -> Variable:
    assert isinstance(root._variable, Variable)
    return root._variable


def _slice_of(who: str, x: Any) -> tuple[TaylorTensor, list[int] | torch.Tensor, tuple[int, ...]]:
    """The variable that ``x`` is or is a slice of, its coordinates, and the shape they fill.

    In a trace the coordinates of a slice come as unit columns over the seeded ones.
    """
    root = x
    while isinstance(root, TaylorTensor) and root._variable is None and root._view is not None:
        root = root._view[0]
    if not isinstance(root, TaylorTensor) or root._variable is None:
        what = f"a {type(x).__name__} is not a variable"
        if isinstance(x, TaylorTensor):
            what = "a TaylorTensor made otherwise, or computed from one, is not a variable"
        raise TypeError(
            f"{who}: differentiate with respect to what taylortorch.variables returned, or a slice "
            f"of it such as X[:, 0:1]; {what}"
        )
    if root._writes:
        raise TypeError(f"{who}: the variable was written to; it is no longer independent")
    first, count, event = _variable(root)
    if x is root:
        return root, list(range(first, first + count)), event
    batch_dims = root.ndim - len(event)
    shape = tuple(x.shape[batch_dims:])
    view, whole = innermost(x), innermost(root)
    # the root is contiguous with its coordinates last: an element's place in memory, modulo their
    # number, is its coordinate
    axes = list(zip(view.shape, view.stride(), strict=True))
    if x.ndim < batch_dims or any(
        size > 1 and step % max(count, 1) for size, step in axes[:batch_dims]
    ):
        raise ValueError(
            f"{who}: this slice, of shape {tuple(x.shape)}, of a variable of shape "
            f"{tuple(root.shape)} does not begin with its batch axes: slice along the coordinates, "
            "as in X[:, 0:1]"
        )
    if torch.compiler.is_compiling():
        # Dynamo does not trace storage offsets, but the slice's own seed is made of unit vectors
        seed = x._blocks[1]
        return root, seed.reshape(seed.shape[0], -1), shape
    places = [(view.storage_offset() - whole.storage_offset()) % max(count, 1)]
    for size, step in axes[batch_dims:]:
        places = [place + step * n for place in places for n in range(size)]
    return root, [first + place % max(count, 1) for place in places], shape


def _same_origin(a: Any, b: Any) -> bool:
    return isinstance(a, Multivariate) and isinstance(b, Multivariate) and a.origin is b.origin


def _origins(who: str) -> TypeError:
    return TypeError(
        f"{who}: u and the variable come from different expansions: make all variables by one call "
        "of taylortorch.variables"
    )


def _expansion(who: str, u: Any, root: TaylorTensor) -> Multivariate:
    if not isinstance(u, TaylorTensor) or u._level < root._level:
        raise TypeError(
            f"{who}: u carries no series of this variable: it does not depend on it, or was "
            "detached"
        )
    structure = u._structure
    if not isinstance(structure, Multivariate) or not _same_origin(structure, root._structure):
        raise _origins(who)
    return structure


def _check(who: str, u: Any, *wheres: Coordinates) -> None:
    if not isinstance(u, TaylorTensor):
        raise TypeError(
            f"{who}: u is a {type(u).__name__} without a series: it does not depend on the "
            "variables, or was detached from them"
        )
    settle(u)
    for where in wheres:
        for batch in where.batches:
            rest = iter(u.shape)
            # in the order of its axes, but other variables may add axes between them
            if not all(size == 1 or size in rest for size in batch):
                raise ValueError(
                    f"{who}: u of shape {tuple(u.shape)} is not per sample: it does not have the "
                    f"batch axes {batch} of the variable. Differentiate before reducing over the "
                    "batch; if these axes are coordinates, pass event_dims= to "
                    "taylortorch.variables"
                )


def _not_seeded(
    who: str, u: TaylorTensor, root: TaylorTensor, shifts: Sequence[Sequence[int]]
) -> ValueError:
    own = root._structure
    assert isinstance(own, Multivariate)
    length, left = len(shifts[0]), u.order
    many = f"{length} derivative{'s' * (length > 1)}"
    if own.origin.requested:
        return ValueError(
            f"{who}: asked for {many} that the variables were not made for, or that earlier "
            "derivatives have used up: add them to derivatives= of taylortorch.variables"
        )
    if left >= length:
        return ValueError(
            f"{who}: asked for {many}, beyond the order of one of the variables: raise its order "
            "in taylortorch.variables"
        )
    return ValueError(
        f"{who}: asked for {many}, but only {left} can be taken of u, which has order {left}: pass "
        f"order={root.order + length - left} to taylortorch.variables"
    )


def _components(who: str, field: torch.Tensor, where: Coordinates) -> Any:
    """The field with one last axis for its components."""
    event = where.event
    if tuple(field.shape[field.ndim - len(event) :]) != event or field.ndim < len(event):
        raise ValueError(
            f"{who}: the field of shape {tuple(field.shape)} must end with one component per "
            f"coordinate, {event}"
        )
    if len(event) == 1:
        return field
    return field.reshape((*field.shape[: field.ndim - len(event)], where.count))


def _per_sample(who: str, name: str, v: Any, u: torch.Tensor, where: Coordinates) -> Any:
    """A vector per sample, with axes of size 1 for those of ``u`` beyond the batch."""
    batch, event = where.batches[0], where.event
    shape = tuple(v.shape) if isinstance(v, torch.Tensor) else None
    if shape == event:
        return v.reshape(-1) if len(event) != 1 else v
    if shape != (*batch, *event):
        raise ValueError(
            f"{who}: {name} must be a tensor of shape {(*batch, *event)} or {event}, got "
            f"{type(v).__name__ if shape is None else shape}"
        )
    return v.reshape((*batch, *(1,) * (u.ndim - len(batch)), where.count))
