"""What is asked for, as a plan: names to index sets, terms to directions or sums.

``variables`` is asked by orders or by names, ``func.linear_operator`` by multi-indices and their
coefficients. Which blocks are propagated for it is decided here, in integers and rational numbers,
before any tensor is met.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from ..algebra.indices import (
    IndexSet,
    MultiIndex,
    Sum,
    closure,
    factorial,
    pairings,
    total_degree,
    unit_index,
)
from ..engine.private import constant_in_traces
from ..engine.tensor import check_order
from .powers import powers_of

# --- names to index sets --------------------------------------------------------------------------


def one_per_value(given: Any, names: list[str], default: Any, what: str) -> list[Any]:
    """What is given for all variables, for each in turn, or by name, as a list of one for each."""
    if given is None:
        return [default] * len(names)
    if isinstance(given, Mapping):
        unknown = [name for name in given if name not in names]
        if unknown:
            raise ValueError(f"taylortorch.variables: {what} for unknown variables {unknown}")
        return [given.get(name, default) for name in names]
    if isinstance(given, Sequence):
        if len(given) != len(names):
            raise ValueError(f"taylortorch.variables: {len(given)} {what} for {len(names)} values")
        return list(given)
    return [given] * len(names)


def index_set(counts: list[int], names: list[str], order: Any, derivatives: Any) -> IndexSet:
    """The multi-indices over variables of so many coordinates that ``order=``, or the derivatives
    asked for, need."""
    if derivatives is None:
        return of_order(counts, one_per_value(order, names, 2, "order"))
    if order is not None:
        raise ValueError(
            "taylortorch.variables takes order= or derivatives=, not both: the derivatives say "
            "how far each variable is expanded"
        )
    return of_derivatives(counts, names, derivatives)


def of_order(counts: list[int], orders: list[int]) -> IndexSet:
    """All multi-indices up to the order of each variable, and in total up to the highest."""
    for order in orders:
        check_order(order)
    highest = max(orders)
    everything = total_degree(sum(counts), highest)
    if all(order == highest for order in orders):
        return everything
    ends = list(itertools.accumulate(counts))
    slices = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
    return tuple(
        tuple(
            index
            for index in degree
            if all(sum(index[s]) <= order for s, order in zip(slices, orders, strict=True))
        )
        for degree in everything
    )


def of_derivatives(counts: list[int], names: list[str], asked: Any) -> IndexSet:
    """The multi-indices that the derivatives asked for need, a Laplacian being one sum."""
    ends = list(itertools.accumulate(counts))
    coordinates = [range(end - count, end) for end, count in zip(ends, counts, strict=True)]
    wanted: list[MultiIndex] = []
    sums: list[Sum] = []
    for one in [asked] if isinstance(asked, str) else asked:
        laplacian = re.fullmatch(r"\s*laplacian\s*(?:\((.*)\))?\s*", one) if _is_text(one) else None
        if laplacian:
            within = _variables_in(laplacian[1], names) if laplacian[1] else range(len(names))
            terms = sorted(
                (unit_index(ends[-1], i, i), 1) for v in sorted(set(within)) for i in coordinates[v]
            )
            sums.append(Sum(tuple(terms)))
            continue
        along = _variables_in(one, names) if _is_text(one) else _positions(one, names)
        for combination in itertools.product(*(coordinates[v] for v in along)):
            wanted.append(unit_index(ends[-1], *combination))
    return closure(ends[-1], wanted, [s for s in sums if s.terms])


def _is_text(one: Any) -> bool:
    return isinstance(one, str)


def _variables_in(text: str, names: list[str]) -> list[int]:
    """The variables named in ``"xxt"``, ``"x, x, t"`` or ``"r theta"``."""
    words = [word for word in re.split(r"[\s,_]+", text.strip()) if word]
    if len(words) == 1 and words[0] not in names:
        known = sorted((name for name in names if name), key=len, reverse=True)
        found = re.findall("|".join(map(re.escape, known)), words[0]) if known else []
        words = found if "".join(found) == words[0] else words
    unknown = [word for word in words if word not in names]
    if unknown or not words:
        have = ", ".join(name for name in names if name)
        raise ValueError(
            f"taylortorch.variables: derivatives={text!r} names no known variable"
            + (f"; the names are {have}" if have else "")
            + ": name them as in variables(x=x0, t=t0, derivatives=['t', 'xx'])"
        )
    return [names.index(word) for word in words]


def _positions(one: Any, names: list[str]) -> list[int]:
    good = isinstance(one, Sequence) and all(
        isinstance(v, int) and 0 <= v < len(names) for v in one
    )
    if not good:
        raise ValueError(
            f"taylortorch.variables: derivatives contains {one!r}; give names as in 'xxt', or "
            f"positions of the {len(names)} variables as in (0, 0, 1)"
        )
    return list(one)


# --- terms to directions or sums ------------------------------------------------------------------

# how much larger than an operator its parts along directions may be
MOST_CANCELLED = 64


def is_number(c: Any) -> bool:
    return isinstance(c, (int, float, Fraction))


def sums_of(numbers: Mapping[MultiIndex, Any]) -> list[Sum]:
    """The terms with number coefficients, one sum for each degree."""
    sums = []
    for degree in sorted({sum(a) for a in numbers}):
        members = [a for a in sorted(numbers) if sum(a) == degree]
        sums.append(Sum(tuple([(a, numbers[a] * factorial(a)) for a in members])))
    return sums


def along_directions(terms: Mapping[MultiIndex, Any]) -> tuple[Any, ...] | None:
    """How to get all terms but that of degree 0 from a collapsed series along directions.

    The degree m, the directions (None: those of all coordinates), their weights, the drift and the
    factor of ``_along``. None where a multivariate series is no dearer.
    """
    exact = []
    for index, c in terms.items():
        if any(index):
            if not is_number(c):
                return None
            rational = isinstance(c, Fraction)
            exact.append((index, *((c.numerator, c.denominator) if rational else (c, 1))))
    return _planned(tuple(exact))


@constant_in_traces
def _planned(exact: tuple[tuple[MultiIndex, int | float, int], ...]) -> tuple[Any, ...] | None:
    """``along_directions`` of these multi-indices, numerators and denominators."""
    lengths = {len(index) for index, _, _ in exact}
    # what is not a multi-index is refused where the number of coordinates is known
    if len(lengths) != 1 or not all(isinstance(i, int) and i >= 0 for a, _, _ in exact for i in a):
        return None
    if not all(math.isfinite(c) for _, c, _ in exact):
        return None
    n = lengths.pop()
    numbers = {a: Fraction(c) / below for a, c, below in exact if c}
    degree = max([sum(a) for a in numbers], default=0)
    if degree < 2 or any(sum(a) not in (1, degree) for a in numbers):
        return None
    form = {a: c for a, c in numbers.items() if sum(a) == degree}
    slope = [numbers.get(unit_index(n, i), Fraction(0)) for i in range(n)]
    directions: Any = None
    weights: Any = 1
    same = len(set(form.values())) == 1
    if degree == 2 and n > 1 and same and set(form) == {unit_index(n, i, i) for i in range(n)}:
        scale = 2 * next(iter(form.values()))
    else:
        powers = powers_of(form)
        if powers is None:
            return None
        # rows, and products of two of degree 1 or more
        cost = len(powers) * (degree - 1) + 1 + len(powers) * math.comb(degree, 2)
        dearer = cost - _cost(n, numbers, cost)
        # of equal cost along the axes is faster; elsewhere large derivatives may cancel
        if dearer > 0 or (dearer == 0 and not all(v.count(0) == n - 1 for v, _ in powers)):
            return None
        sizes = [abs(w) * sum(map(abs, v)) ** degree for v, w in powers]
        if sum(sizes) > MOST_CANCELLED * sum(map(abs, form.values())):
            return None
        largest = max([w for _, w in powers], key=abs)
        scale = largest * math.factorial(degree)
        directions = tuple([tuple(map(float, v)) for v, _ in powers])
        if any(w != largest for _, w in powers):
            weights = tuple([float(w / largest) for _, w in powers])
    drift = tuple([float(b / scale) for b in slope]) if any(slope) else None
    return degree, directions, weights, drift, float(scale)


def _cost(n: int, numbers: Mapping[MultiIndex, Any], enough: int) -> int:
    """Rows and products of rows of the multivariate series; counted up to ``enough`` or more."""
    indices = closure(n, [], sums_of(numbers))
    cost = sum(map(len, indices[1:]))
    for i in range(1, len(indices)):
        for j in range(1, len(indices) - i):
            if cost > enough:
                return cost
            table = pairings(indices, (i, j))
            cost += sum([len(row) for row in table])
    return cost
