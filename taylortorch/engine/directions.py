r"""Second-order operators whose directions need not be written out.

A collapsed series of order 2 over directions ``v_r`` with weights ``w`` holds the first
derivatives ``b_r`` along each direction, and only the sum ``sum_r w_r v_r^T H v_r`` of the second
ones. Nothing but inner products ``sum_rs G_rs a_r b_s`` of degree-1 blocks is ever formed from
them, with ``G = diag(w)``. That leaves room for two structures, both exact:

``Owned``: every entry of the value along one axis, the owner axis, depends on its own directions
only, as the coordinates of the input do, and everything computed from them entry by entry. The
block of degree 1 then has one row for each direction *of an owner*, not of all. It is spread out
when a function mixes owners; where that function is a sum over them, a spread row costs no more
than the owned one.

``Compressed``: after a first linear layer ``z = W x`` of width H < D the D directions act through
the H columns of ``B = W^T`` alone: ``b = B b'``, so that inner products are taken with
``G' = B^T G B``. The new directions are those of ``z``, which are owned by its entries. Without
gradients to ``W``, ``B = Q R`` gives orthonormal directions ``Q`` and plain sums; with them, the
matrix ``G'`` is kept, which has derivatives of every order where a factor of it has not (QR is not
differentiable at a zero weight row). A series over the compressed directions meets one over the
original ones (a factor such as ``1 - |x|^2``) by ``b = B b'``.

Source for the forward Laplacian and its sparsity: Li et al. (2023), arXiv:2307.08214.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..algebra.structures import Bundle, Collapsed, Structure, meeting
from .tensor import run


class Operator(Collapsed):
    """The directions of an operator of order 2 of which only the collapsed block is ever read."""

    of_operator = True

    def __init__(self, count: int, weights: Any = 1) -> None:
        super().__init__(count, 2, weights, per_sample=True)

    def __eq__(self, other: object) -> bool:
        return self is other


class Compressed(Operator):
    """Directions that are combinations of those of ``parent``: ``b = basis b'``.

    ``basis`` has the shape ``(parent.count, count)``; ``weights`` is a number or a symmetric
    matrix.
    """

    def __init__(self, parent: Operator, basis: torch.Tensor, weights: Any) -> None:
        super().__init__(basis.shape[1], weights)
        self.parent = parent
        self.basis = basis

    def product(self, f: Callable, degrees: Sequence[int], blocks: Sequence[Any]) -> Any:
        if isinstance(self.weights, (int, float)):
            return super().product(f, degrees, blocks)
        first, second = blocks
        return f(first, mixed(self.weights, second)).sum(0)

    def meet(self, other: Structure, order: int) -> Structure | None:
        if self is other:
            return self.truncated(order)
        return None if order < 2 else meeting(self.parent, other, order)

    def project(self, blocks: Sequence[Any], target: Structure, order: int) -> Sequence:
        if target == self:
            return tuple(blocks[: order + 1])
        first = None if blocks[1] is None else mixed(self.basis, blocks[1])
        return self.parent.project((blocks[0], first, blocks[2]), target, order)

    def describe(self) -> str:
        return f"{self.parent.count} directions, compressed to {self.count}, collapsed at order 2"


class Owned(Structure):
    """Each entry along the owner axis depends on its own ``local`` directions only.

    Stands for ``base``, over ``count * local`` directions, owner by owner. The block of degree 1
    has the shape ``(local, *shape)``, or less on axes along which it is constant. ``axis`` is
    counted from the end. With ``factor``, of shape ``(base.count, count)`` and ``local`` 1, the
    owners' directions are its columns instead of unit directions.
    """

    compact = True
    per_sample = True
    of_operator = True
    order = 2

    def __init__(
        self, base: Operator, axis: int, count: int, local: int, factor: torch.Tensor | None = None
    ) -> None:
        self.base = base
        self.axis = axis
        self.count = count
        self.local = local
        self.factor = factor

    def __eq__(self, other: object) -> bool:
        return (
            type(other) is Owned
            and (other.axis, other.count, other.local) == (self.axis, self.count, self.local)
            and other.base == self.base
            and other.factor is self.factor
        )

    def moved(self, axis: int) -> Owned:
        """The same with the owner axis in another place."""
        return Owned(self.base, axis, self.count, self.local, self.factor)

    def reshaped(self, old: Sequence[int], new: Sequence[int]) -> Owned | None:
        """The structure of the same entries in another shape; None if owners are torn apart."""
        trailing = math.prod(old[len(old) + self.axis + 1 :])
        for axis in range(-1, -len(new) - 1, -1):
            if math.prod(new[len(new) + axis + 1 :]) == trailing and new[axis] == self.count:
                return self.moved(axis)
        return None

    def leads(self, degree: int) -> bool:
        return degree == 1

    def size(self, degree: int) -> int:
        return self.local

    def product(self, f: Callable, degrees: Sequence[int], blocks: Sequence[Any]) -> Any:
        terms = f(*blocks)
        weights = self.base.weights
        if self.factor is not None:
            weights = weights * (self.factor * self.factor).sum(0)
        elif isinstance(weights, torch.Tensor) and weights.ndim == 2:
            weights = weights.diagonal()
        if isinstance(weights, (int, float)):
            total = terms.sum(0)
            return total if weights == 1 else total * weights
        # one weight per direction, owner by owner
        per_owner = weights.reshape(self.count, self.local).T
        return (terms * self._along_owners(per_owner, terms.ndim)).sum(0)

    def truncated(self, order: int) -> Structure:
        return self if order >= 2 else Bundle(self.local)

    def meet(self, other: Structure, order: int) -> Structure | None:
        if self == other:
            return self.truncated(order)
        return None if order < 2 else meeting(self.base, other, order)

    def project(self, blocks: Sequence[Any], target: Structure, order: int) -> Sequence:
        if target == self:
            return tuple(blocks[: order + 1])
        structure, spread = self.whole(blocks)
        return structure.project(spread, target, order)

    def whole(self, blocks: Sequence[Any]) -> tuple[Structure, tuple]:
        """The same series over all directions, and its structure."""
        if len(blocks) < 3 or blocks[1] is None:
            return self.base, tuple(blocks)
        return self.base, (blocks[0], run(self._spread, blocks[1]), blocks[2])

    def _along_owners(self, matrix: torch.Tensor, ndim: int) -> torch.Tensor:
        """The matrix ``(rows, owners)`` with axes of size 1, as a block of ``ndim`` axes."""
        trailing = (1,) * (-self.axis - 1)
        leading = (1,) * (ndim - 2 - len(trailing))
        return matrix.reshape(-1, *leading, self.count, *trailing)

    def _filled(self, block: Any) -> Any:
        """The block with one entry per owner, where it was the same for all."""
        wanted = list(block.shape)
        wanted[self.axis] = self.count
        return block.expand(wanted)

    def _spread(self, block: Any) -> Any:
        block = self._filled(block)
        if self.factor is not None:
            return block * self._along_owners(self.factor, block.ndim)
        rows = torch.diag_embed(block.movedim(self.axis, -1)).movedim(-1, 0).movedim(-1, self.axis)
        return rows.reshape(self.count * self.local, *block.shape[1:])

    def summed(self, block: Any) -> Any:
        """The rows, over all directions, of the sum along the owner axis, which is kept."""
        rows = self._filled(block).movedim(self.axis, 0)
        if self.factor is not None:
            rows = mixed(self.factor, rows.squeeze(1))
        else:
            rows = rows.reshape(self.count * self.local, *rows.shape[2:])
        return rows.unsqueeze(self.axis)

    def multiplied(self, block: Any, weight: torch.Tensor) -> Any:
        """The rows, over all directions, of ``z = x weight^T`` along the owner axis, the last."""
        if self.factor is not None:
            return torch.matmul(self._spread(block), weight.mT)
        block = self._filled(block)
        # in memory as they are numbered, or all that follows would be a product per direction
        columns = weight.T.contiguous()
        columns = columns.reshape(self.count, 1, *(1,) * (block.ndim - 2), weight.shape[0])
        rows = block.movedim(-1, 0).unsqueeze(-1) * columns
        return rows.reshape(self.count * self.local, *rows.shape[2:])

    def describe(self) -> str:
        return self.base.describe()


def mixed(matrix: torch.Tensor, block: Any) -> Any:
    """``sum_s matrix_rs block_s`` along the axis of directions."""
    if block.shape[0] == 0:
        return block.new_zeros((matrix.shape[0], *block.shape[1:]))
    flat = torch.matmul(matrix.to(block.dtype), block.reshape(block.shape[0], -1))
    return flat.reshape(matrix.shape[0], *block.shape[1:])


def seed(
    event: tuple[int, ...], batch_dims: int, like: torch.Tensor
) -> tuple[torch.Tensor, Structure]:
    """The unit directions along every coordinate, owned by the first event axis, and weights 1."""
    count = event[0]
    local = math.prod(event[1:])
    base = Operator(count * local)
    unit = torch.eye(local, dtype=like.dtype, device=like.device)
    block = unit.reshape(local, *(1,) * batch_dims, 1, *event[1:])
    return block, Owned(base, -len(event), count, local)
