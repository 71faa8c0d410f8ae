"""The integers behind a series in several variables: multi-indices, and what multiplies into what.

Which multi-indices a set holds, which rows of two blocks make up a row of their product, where a
row goes under a derivative, and by which factorials: all of it is known before any tensor is.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .memo import memoised

MultiIndex = tuple[int, ...]

# multi-indices by total degree, each degree in descending lexicographic order, sums last
IndexSet = tuple[tuple[Any, ...], ...]

# a row of a product, a row of each of its two factors, and a weight
Pair = tuple[int, int, int, Any]


@dataclasses.dataclass(frozen=True, order=True)
class Sum:
    """A row that holds ``sum of weight * c_a`` over several multi-indices of one degree."""

    terms: tuple[tuple[MultiIndex, Any], ...]


class Weighted:
    """The products that make up a ``Sum``: row numbers of each factor, and their weights."""

    def __init__(self, sources: list[tuple[int, ...]], weights: list[Any]) -> None:
        self.count = len(sources)
        self.sources = sources
        self.places = [_run(list(rows)) for rows in zip(*sources, strict=True)]
        self.weights = None if all(w == 1 for w in weights) else weights

    def __len__(self) -> int:
        return self.count

    def sum(self, f: Callable, blocks: Sequence[Any], arrays: Any) -> Any:
        """The weighted sum of ``f`` over the products, as a block of one row."""
        terms = f(*(b[place] for b, place in zip(blocks, self.places, strict=True)))
        return arrays.sum(terms, self.weights)


def row_of(block: Any, i: int) -> Any:
    """Row ``i`` of a block, as a block of one row."""
    return block if len(block) == 1 else block[i : i + 1]


def _run(rows: list[int]) -> Any:
    """The rows as a slice, which takes no copy, where they follow each other."""
    if rows == list(range(rows[0], rows[0] + len(rows))):
        return slice(rows[0], rows[0] + len(rows))
    return rows


def _plus(a: MultiIndex, b: MultiIndex) -> MultiIndex:
    return tuple([i + j for i, j in zip(a, b, strict=True)])


def _minus(a: MultiIndex, b: MultiIndex) -> MultiIndex:
    return tuple([i - j for i, j in zip(a, b, strict=True)])


@memoised
def rows_of(degree: tuple) -> dict[Any, int]:
    """The row number of each multi-index of a degree."""
    return {index: row for row, index in enumerate(degree)}


def trimmed(indices: IndexSet) -> IndexSet:
    """The set without its empty highest degrees."""
    while len(indices) > 1 and not indices[-1]:
        indices = indices[:-1]
    return indices


@memoised
def shifted(
    indices: IndexSet, shifts: tuple[tuple[int, ...], ...]
) -> tuple[IndexSet, list[tuple[list[int], list[int]]]] | None:
    """The multi-indices ``a`` with ``a + s`` in the set for every shift; the rows and factors."""
    zero, length = indices[0][0], len(shifts[0])
    moves = [tuple([shift.count(i) for i in range(len(zero))]) for shift in shifts]
    degrees: list[tuple] = []
    taken: list[tuple[list[int], list[int]]] = []
    for degree in indices[length:]:
        row = rows_of(degree)
        lowered = [_minus(a, moves[0]) for a in degree if not isinstance(a, Sum)]
        wanted = [
            a for a in lowered if min(a) >= 0 and all(_plus(a, move) in row for move in moves[1:])
        ]
        if not degrees and wanted != [zero]:
            return None
        raised = [(_plus(a, move), move) for move in moves for a in wanted]
        rows = [row[high] for high, _ in raised]
        scales = [
            math.prod([math.perm(high[i], move[i]) for i in sorted(set(shift))])
            for shift, (high, move) in zip(
                [shift for shift in shifts for _ in wanted], raised, strict=True
            )
        ]
        degrees.append(tuple(wanted))
        taken.append((rows, scales))
    if not degrees:
        return None
    kept = trimmed(tuple(degrees))
    return kept, taken[: len(kept)]


def total_degree(coordinates: int, order: int) -> IndexSet:
    """All multi-indices over ``coordinates`` variables of total degree at most ``order``."""
    return trimmed(tuple(_of_degree(coordinates, k) for k in range(order + 1)))


def _of_degree(coordinates: int, degree: int) -> tuple[MultiIndex, ...]:
    if coordinates == 0:
        return ((),) if degree == 0 else ()
    if coordinates == 1:
        return ((degree,),)
    return tuple(
        (first, *rest)
        for first in range(degree, -1, -1)
        for rest in _of_degree(coordinates - 1, degree - first)
    )


def closure(coordinates: int, wanted: Iterable[MultiIndex], sums: Iterable[Sum] = ()) -> IndexSet:
    """The smallest downward-closed set with the multi-indices ``wanted`` and rows for ``sums``.

    A sum takes the place of its members, unless they are wanted, or needed, by themselves.
    """
    needed: set[MultiIndex] = {(0,) * coordinates}
    queue = list(wanted)
    for total in sums:
        queue += [lower for index, _ in total.terms for lower in _below(index)]
    while queue:
        index = queue.pop()
        if index not in needed:
            needed.add(index)
            queue += _below(index)
    rows: dict[int, list[Any]] = {}
    for index in sorted(needed, reverse=True):
        rows.setdefault(sum(index), []).append(index)
    for total in sums:
        if not all(index in needed for index, _ in total.terms):
            rows.setdefault(sum(total.terms[0][0]), []).append(total)
    return tuple(tuple(rows[degree]) for degree in range(max(rows) + 1))


def _below(index: MultiIndex) -> list[MultiIndex]:
    return [(*index[:i], count - 1, *index[i + 1 :]) for i, count in enumerate(index) if count]


@memoised
def pairings(indices: IndexSet, degrees: tuple[int, ...]) -> tuple[Any, ...]:
    """For each row of degree ``sum(degrees)``, the row numbers that multiply into it.

    A tuple of sources for a multi-index, a ``Weighted`` for a ``Sum``.
    """
    target = indices[sum(degrees)]
    sources: dict[MultiIndex, list[tuple[int, ...]]] = {}
    for index in target:
        members = [a for a, _ in index.terms] if isinstance(index, Sum) else [index]
        sources.update({a: [] for a in members})
    rows = [rows_of(indices[degree]) for degree in degrees]
    for index, found in sources.items():
        _splits(rows, degrees, index, (), found)
    table: list[Any] = []
    for index in target:
        if isinstance(index, Sum):
            pairs = [(source, weight) for a, weight in index.terms for source in sources[a]]
            table.append(Weighted(*map(list, zip(*pairs, strict=True))) if pairs else ())
        else:
            table.append(tuple(sources[index]))
    return tuple(table)


@memoised
def pairs(indices: IndexSet, degrees: tuple[int, int]) -> tuple[Sequence[Pair], bool]:
    """All that the product of two blocks adds up, one pair of rows after the other.

    And whether every row stands for a multi-index, none for a ``Sum``.
    """
    found: list[Pair] = []
    plain = True
    for n, terms in enumerate(pairings(indices, degrees)):
        weighted = isinstance(terms, Weighted)
        plain = plain and not weighted
        sources = terms.sources if weighted else terms
        weights = (terms.weights if weighted else None) or [1] * len(sources)
        found += [(n, *source, w) for source, w in zip(sources, weights, strict=True)]
    return found, plain


def _splits(
    rows: list[dict[Any, int]],
    degrees: tuple[int, ...],
    rest: MultiIndex,
    chosen: tuple[int, ...],
    found: list[tuple[int, ...]],
) -> None:
    """Append to ``found`` the rows of ``degrees`` whose multi-indices add up to ``rest``."""
    if len(degrees) == 1:
        if rest in rows[0]:
            found.append((*chosen, rows[0][rest]))
        return
    for part in _parts(rest, degrees[0]):
        if part in rows[0]:
            _splits(rows[1:], degrees[1:], _minus(rest, part), (*chosen, rows[0][part]), found)


def _parts(index: MultiIndex, degree: int) -> list[MultiIndex]:
    """All multi-indices of this degree that are nowhere above ``index``, in descending order."""
    support = [i for i, count in enumerate(index) if count]
    result = []
    for counts in itertools.product(*(range(index[i], -1, -1) for i in support)):
        if sum(counts) == degree:
            part = [0] * len(index)
            for i, count in zip(support, counts, strict=True):
                part[i] = count
            result.append(tuple(part))
    return result


def unit_index(count: int, *coordinates: int) -> MultiIndex:
    """The multi-index of the derivative along each of these coordinates in turn."""
    index = [0] * count
    for i in coordinates:
        index[i] += 1
    return tuple(index)


def factorial(index: MultiIndex) -> int:
    """``a!``, the product of the factorials: the derivative at ``a`` is ``a! c_a``."""
    return math.prod([math.factorial(i) for i in index])
