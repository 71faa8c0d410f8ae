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

from collections.abc import Callable, Sequence
from typing import Any

from .indices import (
    IndexSet,
    MultiIndex,
    Pair,
    Sum,
    Weighted,
    pairings,
    pairs,
    row_of,
    rows_of,
    shifted,
    trimmed,
)


class Structure:
    """How the blocks of degree >= 1 of a series are laid out.

    ``elementwise``: the product of two blocks is a plain ``a * b``. ``compact``: a block may leave
    out directions on which its entries do not depend; ``whole`` puts them in. ``per_sample``: the
    derivatives are asked for sample by sample, so samples must not mix. ``of_operator``: only a sum
    over directions is asked for, so they may be replaced by others.
    """

    elementwise = False
    compact = False
    per_sample = False
    of_operator = False

    def leads(self, degree: int) -> bool:
        """Whether a block of this degree has a leading axis before the value's."""
        return degree > 0

    def size(self, degree: int) -> int:
        """The length of that leading axis."""
        raise NotImplementedError

    def product(self, f: Callable, degrees: Sequence[int], blocks: Sequence[Any]) -> Any:
        """The product ``f(*blocks)``, of degree ``sum(degrees)``, of blocks of degree >= 1."""
        raise NotImplementedError

    def add_rows(
        self, total: Any, degrees: tuple[int, int], a: Any, b: Any, factor: float
    ) -> Any | None:
        """``total + factor a b``, row by row in one pass; None where that is no gain."""
        return None

    def pull(self, degrees: tuple[int, int], cotangent: Any, block: Any, total: Any = None) -> Any:
        """The transposed product: what reaches the first factor, of degree ``degrees[0]``.

        ``cotangent`` is that of the elementwise product, ``block`` the other factor; the degrees
        of both factors are >= 1. With ``total`` it is added to that, in place.
        """
        return cotangent * block if total is None else total.addcmul_(cotangent, block)

    def limit(self, order: int) -> int:
        """The order that a series of this structure has where ``order`` blocks are at hand."""
        return order

    def truncated(self, order: int) -> Structure:
        """The structure of the same series without its blocks of degree above ``order``."""
        return self

    def meet(self, other: Structure, order: int) -> Structure | None:
        """The structure of a series of this order combined from both, None if they do not mix."""
        return self.truncated(order) if self == other else None

    def project(self, blocks: Sequence[Any], target: Structure, order: int) -> Sequence:
        """The blocks of the same series in ``target``, which is ``self`` met with another."""
        return blocks[: order + 1]

    def evaluate(self, blocks: Sequence[Any], offsets: Sequence[Any]) -> Any:
        """The polynomial at these offsets from the point of expansion, one for each coordinate."""
        raise ValueError(f"a series of {self.describe()} is not a polynomial that has values")

    def reshaped(self, old: Sequence[int], new: Sequence[int]) -> Structure | None:
        """The structure of the same entries in another shape; None where ``whole`` is needed."""
        return self

    def whole(self, blocks: Sequence[Any]) -> tuple[Structure, Sequence[Any]]:
        """The structure and the blocks of the same series with no direction left out."""
        return self, blocks

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

    def evaluate(self, blocks: Sequence[Any], offsets: Sequence[Any]) -> Any:
        return horner(blocks, *_exactly(1, offsets))

    def describe(self) -> str:
        return "line"


class Bundle(Structure):
    """R directions that share one value."""

    elementwise = True

    def __init__(self, count: int, per_sample: bool = False) -> None:
        self.count = count
        self.per_sample = per_sample

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

    def evaluate(self, blocks: Sequence[Any], offsets: Sequence[Any]) -> Any:
        return horner(blocks, *_exactly(1, offsets))

    def describe(self) -> str:
        return f"{self.count} directions"


class Collapsed(Structure):
    """R directions whose coefficients of the highest degree ``order`` are summed with weights.

    ``weights`` has shape ``(R,)``, or is one number for all. They are constants per direction: then
    no recurrence multiplies the collapsed block with anything but a block of degree 0, and the sum
    can be taken as soon as the product is formed.
    """

    def __init__(self, count: int, order: int, weights: Any = 1, per_sample: bool = False) -> None:
        self.count = count
        self.order = order
        self.weights = weights
        self.per_sample = per_sample

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

    def pull(self, degrees: tuple[int, int], cotangent: Any, block: Any, total: Any = None) -> Any:
        if sum(degrees) == self.order:
            if isinstance(self.weights, (int, float)):
                cotangent = cotangent if self.weights == 1 else cotangent * self.weights
            else:
                block = block * self.weights.reshape((-1,) + (1,) * (block.ndim - 1))
        return super().pull(degrees, cotangent, block, total)

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


def horner(blocks: Sequence[Any], t: Any) -> Any:
    """``c_0 + c_1 t + ... + c_K t**K``, where ``None`` stands for zero."""
    result = None
    for block in reversed(blocks):
        if result is not None:
            result = result * t
        if block is not None:
            result = block if result is None else result + block
    return result


def _exactly(count: int, offsets: Sequence[Any]) -> Sequence[Any]:
    if len(offsets) != count:
        many = f"{count} coordinate" + "s" * (count != 1)
        raise TypeError(
            f"the value of a series of {many} takes as many offsets, got {len(offsets)}"
        )
    return offsets


def meeting(a: Structure, b: Structure, order: int) -> Structure | None:
    """Where two structures meet, whichever of them knows how to."""
    common = a.meet(b, order)
    return b.meet(a, order) if common is None else common


def _same(a: Any, b: Any) -> bool:
    """Whether two sets of weights are known to be equal: one object, or equal numbers."""
    return a is b or (isinstance(a, (int, float)) and isinstance(b, (int, float)) and a == b)


class Multivariate(Structure):
    """A downward-closed set of multi-indices over the coordinates of one set of variables.

    ``origin`` is the expansion the series belongs to; two origins never mix. ``arrays`` supplies
    ``concatenate(rows)``, ``zeros_like(row)``, ``sum_rows(block, targets, count)``,
    ``take(block, rows, factors)`` and ``sum(block, weights)`` for the kind of block in use. A row
    may also be a ``Sum`` of coefficients that nothing else is computed from: then they need no rows
    of their own.
    """

    per_sample = True
    few_rows = 48

    def __init__(self, origin: Any, indices: IndexSet, arrays: Any) -> None:
        self.origin = origin
        self.indices = indices
        self.arrays = arrays
        # looking up a large set of multi-indices takes longer than the product
        self.tables: dict[tuple[int, ...], tuple[Any, ...]] = {}
        self.paired: dict[tuple[int, int], tuple[Sequence[Pair], bool]] = {}

    def __eq__(self, other: object) -> bool:
        return (
            type(other) is Multivariate
            and other.origin is self.origin
            and other.indices == self.indices
        )

    def size(self, degree: int) -> int:
        return len(self.indices[degree])

    def product(self, f: Callable, degrees: Sequence[int], blocks: Sequence[Any]) -> Any:
        table = self.pairings(tuple(degrees))
        if not any(table):
            return None
        plain = [terms for terms in table if not isinstance(terms, Weighted)]
        rows: list[Any] = []
        if sum(len(terms) for terms in plain) <= self.few_rows:
            for terms in plain:
                row = None
                for source in terms:
                    term = f(*(row_of(b, i) for b, i in zip(blocks, source, strict=True)))
                    row = term if row is None else row + term
                rows.append(row)
        else:
            gathered = [
                b[[source[n] for terms in plain for source in terms]] for n, b in enumerate(blocks)
            ]
            targets = [row for row, terms in enumerate(plain) for _ in terms]
            together = self.arrays.sum_rows(f(*gathered), targets, len(plain))
            if len(plain) == len(table):
                return together
            rows = [together[n : n + 1] for n in range(len(plain))]
        for row, terms in enumerate(table):
            if isinstance(terms, Weighted):
                rows.insert(row, terms.sum(f, blocks, self.arrays))
        return self._joined(rows)

    def add_rows(
        self, total: Any, degrees: tuple[int, int], a: Any, b: Any, factor: float
    ) -> Any | None:
        pairs, plain = self.pairs(degrees)
        if not plain or len(pairs) > self.few_rows:
            return None
        rows = [row_of(total, n) for n in range(len(total))]
        for n, i, j, _ in pairs:
            rows[n] = rows[n].addcmul(row_of(a, i), row_of(b, j), value=factor)
        return self._joined(rows)

    def pull(self, degrees: tuple[int, int], cotangent: Any, block: Any, total: Any = None) -> Any:
        pairs, _ = self.pairs(degrees)
        if total is not None:
            for n, i, j, weight in pairs:
                row_of(total, i).addcmul_(row_of(cotangent, n), row_of(block, j), value=weight)
            return total
        rows: list[Any] = [None] * self.size(degrees[0])
        for n, i, j, weight in pairs:
            term = row_of(cotangent, n) * row_of(block, j)
            term = term if weight == 1 else term * weight
            rows[i] = term if rows[i] is None else rows[i] + term
        return self._joined(rows)

    def _joined(self, rows: Sequence[Any]) -> Any:
        """The block of these rows, each a block of one row; None for zeros."""
        if len(rows) == 1:
            return rows[0]
        template = next((row for row in rows if row is not None), None)
        if template is None:
            return None
        zero = self.arrays.zeros_like(template)
        return self.arrays.concatenate([zero if row is None else row for row in rows])

    def pairs(self, degrees: tuple[int, int]) -> tuple[Sequence[Pair], bool]:
        """``pairs`` of this set."""
        found = self.paired.get(degrees)
        if found is None:
            found = self.paired[degrees] = pairs(self.indices, degrees)
        return found

    def pairings(self, degrees: tuple[int, ...]) -> tuple[Any, ...]:
        """``pairings`` of this set."""
        table = self.tables.get(degrees)
        if table is None:
            table = self.tables[degrees] = pairings(self.indices, degrees)
        return table

    def limit(self, order: int) -> int:
        return min(order, len(self.indices) - 1)

    def truncated(self, order: int) -> Structure:
        if order + 1 >= len(self.indices):
            return self
        return Multivariate(self.origin, trimmed(self.indices[: order + 1]), self.arrays)

    def meet(self, other: Structure, order: int) -> Structure | None:
        if type(other) is not Multivariate or other.origin is not self.origin:
            return None
        if other.indices == self.indices:
            return self.truncated(order)
        shared = zip(self.indices[: order + 1], other.indices[: order + 1], strict=False)
        common = tuple(tuple(index for index in a if index in b) for a, b in shared)
        return Multivariate(self.origin, trimmed(common), self.arrays)

    def project(self, blocks: Sequence[Any], target: Structure, order: int) -> tuple:
        assert isinstance(target, Multivariate)
        result = [blocks[0]]
        for k in range(1, order + 1):
            mine, wanted = self.indices[k], target.indices[k]
            if blocks[k] is None or mine == wanted:
                result.append(blocks[k])
            else:
                row = rows_of(mine)
                result.append(blocks[k][[row[index] for index in wanted]])
        return tuple(result)

    def differentiate(
        self, blocks: Sequence[Any], shifts: Sequence[Sequence[int]]
    ) -> tuple[list[Any], Multivariate] | None:
        """The derivatives along each of ``shifts``, and the structure that all of them have.

        A shift lists the coordinates to differentiate by, as many in each. The coefficient at ``a``
        of the derivative along ``s`` is ``(a + s)!/a! c_{a + s}``. A block has one leading axis for
        the shifts, then, from degree 1 on, one for the multi-indices. None: some derivative is not
        in the set.
        """
        found = shifted(self.indices, tuple(map(tuple, shifts)))
        if found is None:
            return None
        indices, taken = found
        result: list[Any] = []
        for degree, (rows, scales) in enumerate(taken):
            block = blocks[degree + len(shifts[0])]
            if block is not None:
                block = self.arrays.take(block, rows, scales)
                if degree:
                    block = block.reshape(len(shifts), len(indices[degree]), *block.shape[1:])
            result.append(block)
        return result, Multivariate(self.origin, indices, self.arrays)

    def sum_row(self, members: Sequence[MultiIndex]) -> tuple[int, int] | None:
        """Degree and row of the plain sum of these coefficients, where the set keeps it."""
        degree = sum(members[0])
        wanted = Sum(tuple(sorted((index, 1) for index in members)))
        row = rows_of(self.indices[degree]).get(wanted) if degree < len(self.indices) else None
        return None if row is None else (degree, row)

    def evaluate(self, blocks: Sequence[Any], offsets: Sequence[Any]) -> Any:
        zero = self.indices[0][0]
        offsets = _exactly(len(zero), offsets)
        powers: dict[MultiIndex, Any] = {zero: 1}
        result = blocks[0]
        for degree, block in zip(self.indices[1:], blocks[1:], strict=True):
            for row, index in enumerate(degree):
                if isinstance(index, Sum):
                    raise ValueError(
                        "a series that keeps only sums of its coefficients is not a polynomial "
                        "that has values"
                    )
                i = next(i for i, count in enumerate(index) if count)
                lower = (*index[:i], index[i] - 1, *index[i + 1 :])
                powers[index] = powers[lower] * offsets[i]
                if block is not None:
                    result = result + block[row] * powers[index]
        return result

    def describe(self) -> str:
        return f"{len(self.indices[0][0])} coordinates"


LINE = Line()
