"""Which coefficients a block holds, and how two blocks of degree >= 1 multiply.

| structure | block ``k >= 1`` | product of blocks ``i, j >= 1`` |
|---|---|---|
| ``Line`` | the value's shape | ``a * b`` |
| ``Bundle`` of R directions | ``(R, *shape)`` | ``a * b``, direction by direction |
| ``Collapsed`` at order K | below K a bundle; K: the value's shape | at K ``(w * a * b).sum(0)`` |
| ``Multivariate`` | ``(n_k, *shape)``, one row per multi-index | rows whose multi-indices add up |

Block 0 is the value, and has its shape in all of them. A block may have size 1 on axes of the value
along which it is constant (directions shared by a whole batch); its leading axis is always full.

A product is given as a function ``f`` of whole blocks, so one structure serves ``*``, ``matmul``
and every other multilinear function: ``f`` is told nothing but the blocks, and maps leading axis
to leading axis.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

MultiIndex = tuple[int, ...]
IndexSet = tuple[tuple[MultiIndex, ...], ...]
"""Multi-indices by total degree, each degree in descending lexicographic order."""


class Structure:
    """How the blocks of degree >= 1 of a series are laid out.

    ``elementwise``: the product of two blocks is a plain ``a * b``.
    """

    elementwise = False

    def leads(self, degree: int) -> bool:
        """Whether a block of this degree has a leading axis before the value's."""
        return degree > 0

    def size(self, degree: int) -> int:
        """The length of that leading axis."""
        raise NotImplementedError

    def product(self, f: Callable, degrees: Sequence[int], blocks: Sequence[Any]) -> Any:
        """The product ``f(*blocks)``, of degree ``sum(degrees)``, of blocks of degree >= 1."""
        raise NotImplementedError

    def limit(self, order: int) -> int:
        """The order that a series of this structure has where ``order`` blocks are at hand."""
        return order

    def truncated(self, order: int) -> Structure:
        """The structure of the same series without its blocks of degree above ``order``."""
        return self

    def meet(self, other: Structure, order: int) -> Structure | None:
        """The structure of a series of this order combined from both, None if they do not mix."""
        return self.truncated(order) if self == other else None

    def project(self, blocks: Sequence[Any], target: Structure, order: int) -> tuple:
        """The blocks of the same series in ``target``, which is ``self`` met with another."""
        return tuple(blocks[: order + 1])

    def describe(self) -> str:
        """A few words for ``repr``."""
        raise NotImplementedError


class Line(Structure):
    """One direction: ``x(t) = c_0 + c_1 t + ... + c_K t**K``."""

    elementwise = True

    def __eq__(self, other: object) -> bool:
        return type(other) is Line

    def leads(self, degree: int) -> bool:
        return False

    def product(self, f: Callable, degrees: Sequence[int], blocks: Sequence[Any]) -> Any:
        return f(*blocks)

    def describe(self) -> str:
        return "line"


class Bundle(Structure):
    """R directions that share one value."""

    elementwise = True

    def __init__(self, count: int) -> None:
        self.count = count

    def __eq__(self, other: object) -> bool:
        return type(other) is Bundle and other.count == self.count

    def size(self, degree: int) -> int:
        return self.count

    def product(self, f: Callable, degrees: Sequence[int], blocks: Sequence[Any]) -> Any:
        return f(*blocks)

    def meet(self, other: Structure, order: int) -> Structure | None:
        if type(other) is Collapsed and order < other.order and other.count == self.count:
            return self
        return super().meet(other, order)

    def describe(self) -> str:
        return f"{self.count} directions"


class Collapsed(Structure):
    """R directions whose coefficients of the highest degree ``order`` are summed with weights.

    ``weights`` has shape ``(R,)``, or is one number for all. They are constants per direction: then
    no recurrence multiplies the collapsed block with anything but a block of degree 0, and the sum
    can be taken as soon as the product is formed.
    """

    def __init__(self, count: int, order: int, weights: Any = 1) -> None:
        self.count = count
        self.order = order
        self.weights = weights

    def __eq__(self, other: object) -> bool:
        return (
            type(other) is Collapsed
            and (other.count, other.order) == (self.count, self.order)
            and _same(other.weights, self.weights)
        )

    def leads(self, degree: int) -> bool:
        return 0 < degree < self.order

    def size(self, degree: int) -> int:
        return self.count

    def product(self, f: Callable, degrees: Sequence[int], blocks: Sequence[Any]) -> Any:
        result = f(*blocks)
        return self.collapse(result) if sum(degrees) == self.order else result

    def collapse(self, block: Any) -> Any:
        """The weighted sum over directions of a bundle's block."""
        if isinstance(self.weights, (int, float)):
            total = block.sum(0)
            return total if self.weights == 1 else total * self.weights
        return (self.weights.reshape((-1,) + (1,) * (block.ndim - 1)) * block).sum(0)

    def truncated(self, order: int) -> Structure:
        return Bundle(self.count) if order < self.order else self

    def meet(self, other: Structure, order: int) -> Structure | None:
        if order < self.order and type(other) is Bundle:
            return other.meet(self, order)
        if isinstance(other, Collapsed) and order < min(self.order, other.order):
            return Bundle(self.count) if other.count == self.count else None
        return super().meet(other, order)

    def describe(self) -> str:
        return f"{self.count} directions, collapsed at order {self.order}"


def _same(a: Any, b: Any) -> bool:
    """Whether two sets of weights are known to be equal: one object, or equal numbers."""
    return a is b or (isinstance(a, (int, float)) and isinstance(b, (int, float)) and a == b)


class Multivariate(Structure):
    """A downward-closed set of multi-indices over the coordinates of one set of variables.

    ``origin`` is the expansion the series belongs to; two origins never mix. ``arrays`` supplies
    ``concatenate(rows)``, ``zeros_like(row)`` and ``sum_rows(block, targets, count)`` for the kind
    of block in use.
    """

    few_rows = 48

    def __init__(self, origin: Any, indices: IndexSet, arrays: Any) -> None:
        self.origin = origin
        self.indices = indices
        self.arrays = arrays

    def __eq__(self, other: object) -> bool:
        return (
            type(other) is Multivariate
            and other.origin is self.origin
            and other.indices == self.indices
        )

    def size(self, degree: int) -> int:
        return len(self.indices[degree])

    def product(self, f: Callable, degrees: Sequence[int], blocks: Sequence[Any]) -> Any:
        table = pairings(self.indices, tuple(degrees))
        count = sum(len(sources) for sources in table)
        if not count:
            return None
        if count <= self.few_rows:
            rows = []
            for sources in table:
                row = None
                for source in sources:
                    term = f(*(b[i : i + 1] for b, i in zip(blocks, source, strict=True)))
                    row = term if row is None else row + term
                rows.append(row)
            if len(rows) == 1:
                return rows[0]
            template = next(row for row in rows if row is not None)
            zero = self.arrays.zeros_like(template)
            return self.arrays.concatenate([zero if row is None else row for row in rows])
        gathered = [
            b[[source[n] for sources in table for source in sources]] for n, b in enumerate(blocks)
        ]
        targets = [row for row, sources in enumerate(table) for _ in sources]
        return self.arrays.sum_rows(f(*gathered), targets, len(table))

    def limit(self, order: int) -> int:
        return min(order, len(self.indices) - 1)

    def truncated(self, order: int) -> Structure:
        if order + 1 >= len(self.indices):
            return self
        return Multivariate(self.origin, _trimmed(self.indices[: order + 1]), self.arrays)

    def meet(self, other: Structure, order: int) -> Structure | None:
        if type(other) is not Multivariate or other.origin is not self.origin:
            return None
        if other.indices == self.indices:
            return self.truncated(order)
        shared = zip(self.indices[: order + 1], other.indices[: order + 1], strict=False)
        common = tuple(tuple(index for index in a if index in b) for a, b in shared)
        return Multivariate(self.origin, _trimmed(common), self.arrays)

    def project(self, blocks: Sequence[Any], target: Structure, order: int) -> tuple:
        assert isinstance(target, Multivariate)
        result = [blocks[0]]
        for k in range(1, order + 1):
            mine, wanted = self.indices[k], target.indices[k]
            if blocks[k] is None or mine == wanted:
                result.append(blocks[k])
            else:
                result.append(blocks[k][[mine.index(index) for index in wanted]])
        return tuple(result)

    def shifted(self, coordinate: int) -> Multivariate:
        """The structure of the derivative along a coordinate: all ``a`` with ``a + e`` in it."""
        lowered = tuple(
            tuple(_move(index, coordinate, -1) for index in degree if index[coordinate])
            for degree in self.indices[1:]
        )
        return Multivariate(self.origin, _trimmed(lowered), self.arrays)

    def differentiate(self, blocks: Sequence[Any], coordinate: int) -> list[Any]:
        """The blocks of the derivative: ``(a_i + 1) c_{a + e_i}`` at every multi-index ``a``.

        Laid out as ``shifted(coordinate)`` says; the first one is the derivative's value.
        """
        result: list[Any] = []
        for k in range(1, len(self.shifted(coordinate).indices) + 1):
            block, degree = blocks[k], self.indices[k]
            rows = [n for n, index in enumerate(degree) if index[coordinate]]
            if block is None or not rows:
                result.append(None)
            elif k == 1:
                result.append(block[rows[0]])
            else:
                parts = [block[n : n + 1] * degree[n][coordinate] for n in rows]
                result.append(parts[0] if len(parts) == 1 else self.arrays.concatenate(parts))
        return result

    def describe(self) -> str:
        return f"{len(self.indices[0][0])} coordinates"


def _trimmed(indices: IndexSet) -> IndexSet:
    """The set without its empty highest degrees."""
    while len(indices) > 1 and not indices[-1]:
        indices = indices[:-1]
    return indices


def _move(index: MultiIndex, coordinate: int, step: int) -> MultiIndex:
    return tuple(a + step if i == coordinate else a for i, a in enumerate(index))


def total_degree(coordinates: int, order: int) -> IndexSet:
    """All multi-indices over ``coordinates`` variables of total degree at most ``order``."""
    return tuple(_of_degree(coordinates, k) for k in range(order + 1))


def _of_degree(coordinates: int, degree: int) -> tuple[MultiIndex, ...]:
    if coordinates == 1:
        return ((degree,),)
    return tuple(
        (first, *rest)
        for first in range(degree, -1, -1)
        for rest in _of_degree(coordinates - 1, degree - first)
    )


@functools.cache
def pairings(
    indices: IndexSet, degrees: tuple[int, ...]
) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """For each multi-index of degree ``sum(degrees)``, the row numbers that multiply into it."""
    target = indices[sum(degrees)]
    table: dict[MultiIndex, list[tuple[int, ...]]] = {index: [] for index in target}
    for source in itertools.product(*(range(len(indices[k])) for k in degrees)):
        parts = [indices[k][row] for k, row in zip(degrees, source, strict=True)]
        index = tuple(map(sum, zip(*parts, strict=True)))
        if index in table:
            table[index].append(source)
    return tuple(tuple(table[index]) for index in target)
