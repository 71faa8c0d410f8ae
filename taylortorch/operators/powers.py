r"""Homogeneous forms as sums of powers of linear forms.

A differential operator of degree m with constant coefficients is a form ``p``, its derivatives
``d_i`` standing for the variables ``xi_i``. Where

    p(xi) = sum_r w_r (v_r . xi)^m,        sum_a C_a d^a = sum_r w_r (v_r . grad)^m,

the operator is a weighted sum of derivatives of order m along the directions ``v_r``, of which only
the sum has to be propagated at degree m. Finding the fewest directions is Waring's problem for
forms. What is done here is exact, in rational numbers, and finds the fewest

* for degrees 1 and 2 (the rank of the quadratic form, by Lagrange's reduction),
* for forms that are a sum of as many powers as they have essential variables, in particular for the
  power of one linear form; if there are several, up to ratios of integers to 100.

Other forms are spanned by directions with small integer entries, of which those that can be
spared are dropped.

Sources: Reznick, *Sums of even powers of real linear forms* (1992), for the known identities;
Carlini, *Reducing the number of variables of a polynomial* (2006), for the essential variables;
Bunch & Parlett, *Direct methods for solving symmetric indefinite systems of linear equations*
(1971), for the pivots; Leurgans, Ross & Abel, *A decomposition for three-way arrays* (1993), for as
many powers as variables.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

import numpy as np

from ..algebra.indices import MultiIndex, factorial
from ..algebra.memo import memoised

Direction = tuple[Fraction, ...]


Powers = list[tuple[Direction, Fraction]]


Form = dict[MultiIndex, Fraction]


# bounds of the search, chosen so that none takes more than some 50 ms
MOST_TERMS = 512


MOST_VARIABLES = 24


MOST_SIGNS = 6


MOST_BITS = 250_000


MOST_ENTRIES = 20_000


MOST_TRIES = 60


def powers_of(form: Mapping[MultiIndex, int | Fraction | float]) -> Powers | None:
    """Directions ``v_r`` and weights ``w_r`` with ``sum_a C_a xi^a = sum_r w_r (v_r . xi)^m``.

    Args:
        form: the coefficients ``C_a`` by multi-index, all of one degree ``m >= 1``. Floats are
            taken at their exact binary value.

    Returns:
        Pairs of a direction and a weight, or None where none were found: the form is too large to
        search, or is not spanned by the directions that are tried.

    Raises:
        ValueError: multi-indices of different lengths or degrees, or of degree 0; a coefficient
            that is not finite.

    >>> powers_of({(4, 0): 1, (3, 1): 8, (2, 2): 24, (1, 3): 32, (0, 4): 16})
    [((Fraction(1, 1), Fraction(2, 1)), Fraction(1, 1))]
    """
    terms = []
    for index, c in form.items():
        if isinstance(c, float) and not math.isfinite(c):
            raise ValueError(f"powers_of: the coefficient of {tuple(index)} is {c}")
        if c:
            terms.append((tuple(index), Fraction(c)))
    if len({(len(index), sum(index)) for index in form}) > 1 or any(not any(a) for a in form):
        raise ValueError("powers_of: the multi-indices must be of one length and one degree >= 1")
    found = _powers(tuple(sorted(terms)))
    return None if found is None else list(found)


@memoised
def _powers(terms: tuple[tuple[MultiIndex, Fraction], ...]) -> tuple | None:
    if not terms:
        return ()
    form = dict(terms)
    n, degree = len(terms[0][0]), sum(terms[0][0])
    if degree == 1:
        return ((tuple([form.get(_unit(n, i), Fraction(0)) for i in range(n)]), Fraction(1)),)
    result: Powers = []
    for variables in _components(form):
        if len(variables) > MOST_VARIABLES:
            return None
        part = {
            tuple([index[i] for i in variables]): c
            for index, c in terms
            if any(index[i] for i in variables)
        }
        powers = _quadratic(part) if degree == 2 else _connected(part)
        if powers is None:
            return None
        for v, w in powers:
            whole = [Fraction(0)] * n
            for i, entry in zip(variables, v, strict=True):
                whole[i] = entry
            result.append((tuple(whole), w))
    return tuple(result)


def _unit(n: int, i: int) -> MultiIndex:
    return tuple([int(j == i) for j in range(n)])


def _components(form: Iterable[MultiIndex]) -> list[list[int]]:
    """The variables, those that occur together in a monomial in one group."""
    groups: list[set[int]] = []
    for index in form:
        group = {i for i, count in enumerate(index) if count}
        apart = [other for other in groups if not other & group]
        groups = [*apart, group.union(*(other for other in groups if other & group))]
    return sorted(sorted(group) for group in groups)


# --- quadratic forms --------------------------------------------------------------------------


def _quadratic(form: Form) -> Powers | None:
    """Lagrange's reduction: as many squares as the rank."""
    n = len(next(iter(form)))
    matrix = [[Fraction(0)] * n for _ in range(n)]
    for index, c in form.items():
        i, *rest = [i for i, count in enumerate(index) if count]
        j = rest[0] if rest else i
        matrix[i][j] += c / 2
        matrix[j][i] += c / 2
    # the quadratic form is sum_kl matrix_kl L_k L_l over these linear forms
    linear = [[Fraction(int(i == j)) for j in range(n)] for i in range(n)]
    left = list(range(n))
    result: Powers = []
    spent = 0
    chosen: list[int] = []
    while left:
        if not chosen:
            i = max(left, key=lambda k: abs(matrix[k][k]))
            size, k, j = max(
                ((abs(matrix[k][j]), k, j) for k, j in itertools.combinations(left, 2)),
                default=(Fraction(0), i, i),
            )
            if not size and not matrix[i][i]:
                break
            chosen = [i]
            # a small pivot would make large weights of either sign, which cancel in floating point
            if abs(matrix[i][i]) * 3 < size * 2:
                _to_sum_and_difference(matrix, linear, left, k, j)
                chosen = sorted((j, k), key=lambda k: abs(matrix[k][k]))
        i = chosen.pop()
        pivot = matrix[i][i]
        ratios = [(k, matrix[i][k] / pivot) for k in left if matrix[i][k]]
        spent += len(ratios) ** 2 * (32 + pivot.denominator.bit_length())
        if spent > MOST_BITS:
            return None
        v = [Fraction(0)] * n
        for k, ratio in ratios:
            v = [a + ratio * b for a, b in zip(v, linear[k], strict=True)]
            for j, other in ratios:
                matrix[k][j] -= pivot * ratio * other
        result.append((tuple(v), pivot))
        left.remove(i)
    return [_primitive(v, w, 2) for v, w in result]


def _to_sum_and_difference(
    matrix: list[list[Fraction]], linear: list[list[Fraction]], left: list[int], i: int, j: int
) -> None:
    """Replace the linear forms ``L_i, L_j`` by ``L_i + L_j, L_i - L_j``."""
    half = Fraction(1, 2)
    for k in left:
        a, b = matrix[i][k], matrix[j][k]
        matrix[i][k], matrix[j][k] = (a + b) * half, (a - b) * half
    for k in left:
        a, b = matrix[k][i], matrix[k][j]
        matrix[k][i], matrix[k][j] = (a + b) * half, (a - b) * half
    pairs = list(zip(linear[i], linear[j], strict=True))
    linear[i] = [a + b for a, b in pairs]
    linear[j] = [a - b for a, b in pairs]


def _primitive(v: Sequence[Fraction], w: Fraction, degree: int) -> tuple[Direction, Fraction]:
    """The same power with the least integers in its direction, the first of them positive.

    Long integers, which come from floats, are left as fractions of the largest entry.
    """
    common = math.lcm(*[entry.denominator for entry in v])
    whole = [int(entry * common) for entry in v]
    divisor = math.gcd(*whole)
    sign = 1 if next(entry for entry in whole if entry) > 0 else -1
    scale = Fraction(common * sign, divisor)
    if max(abs(entry) for entry in whole) // divisor > 1000:
        scale = sign / max(abs(entry) for entry in v)
    return tuple([entry * scale for entry in v]), w / scale**degree


# --- higher degrees ---------------------------------------------------------------------------


def _connected(form: Form) -> Powers | None:
    degree = sum(next(iter(form)))
    essential = _essential(form)
    if essential is None:
        return None
    places, rows = essential
    # p(xi) = q(rows xi), and rows is the identity at these places
    inner = {
        tuple([index[i] for i in places]): c
        for index, c in form.items()
        if sum([index[i] for i in places]) == degree
    }
    powers = _as_many_as_variables(inner) or _spanned(inner, 1) or _spanned(inner, 2)
    if powers is None:
        return None
    n = len(rows[0])
    result = []
    for u, w in powers:
        v = [
            sum((a * row[j] for a, row in zip(u, rows, strict=True)), Fraction(0)) for j in range(n)
        ]
        result.append(_primitive(v, w, degree))
    return result


def _essential(form: Form) -> tuple[list[int], list[list[Fraction]]] | None:
    """The linear forms that ``form`` is a polynomial of, in reduced echelon form, their pivots.

    They span its derivatives of order ``m - 1``.
    """
    n = len(next(iter(form)))
    if len(form) > MOST_TERMS:
        return None
    slopes: dict[MultiIndex, list[Fraction]] = {}
    for index, c in form.items():
        derivative = c * factorial(index)
        for i, count in enumerate(index):
            if count:
                lower = (*index[:i], count - 1, *index[i + 1 :])
                slopes.setdefault(lower, [Fraction(0)] * n)[i] += derivative
    pivots: list[int] = []
    rows: list[list[Fraction]] = []
    for row in slopes.values():
        for place, other in zip(pivots, rows, strict=True):
            row = _without(row, place, other)
        lead = next((i for i, entry in enumerate(row) if entry), None)
        if lead is None:
            continue
        row = [entry / row[lead] for entry in row]
        rows = [*[_without(other, lead, row) for other in rows], row]
        pivots.append(lead)
        if len(rows) == n:
            break
    order = sorted(range(len(pivots)), key=pivots.__getitem__)
    return [pivots[r] for r in order], [rows[r] for r in order]


def _without(row: list[Fraction], place: int, other: list[Fraction]) -> list[Fraction]:
    """The row less that multiple of another, which is 1 there, that leaves 0 at this place."""
    factor = row[place]
    return [a - factor * b for a, b in zip(row, other, strict=True)] if factor else row


def _as_many_as_variables(form: Form) -> Powers | None:
    """The powers of as many independent linear forms as there are variables.

    The matrix of second derivatives is then ``V^T D V`` everywhere, with a diagonal ``D``: that at
    one point, inverted, times that at another has the columns of ``V^-1`` for eigenvectors. They
    are found in floating point, and rounded to rational numbers; whether these are right is decided
    exactly.
    """
    n, degree = len(next(iter(form))), sum(next(iter(form)))
    if all(max(index) == degree for index in form):
        return _solved(form, [_unit(n, i) for i in range(n)])
    if n == 1 or n > 8:
        return None
    # the second derivatives at t are a multiple of sum_r w_r (v_r . t)^(m - 2) v_r v_r^T
    first, second = (_hessian_at(form, t) for t in _two_points(n))
    try:
        _, vectors = np.linalg.eig(np.linalg.solve(first, second))
    except np.linalg.LinAlgError:
        return None
    if not np.isfinite(vectors).all() or np.abs(vectors.imag).max() > 1e-6:
        return None
    try:
        dual = np.linalg.inv(vectors.real)
    except np.linalg.LinAlgError:
        return None
    directions = []
    for row in dual:
        row = row / row[np.abs(row).argmax()]
        rational = [Fraction(float(entry)).limit_denominator(100) for entry in row]
        if max(abs(float(a) - b) for a, b in zip(rational, row, strict=True)) > 1e-6:
            return None
        common = math.lcm(*[entry.denominator for entry in rational])
        directions.append(tuple([int(entry * common) for entry in rational]))
    if len(set(directions)) < n:
        return None
    return _solved(form, directions)


def _two_points(n: int) -> tuple[list[float], list[float]]:
    """Two points in no special position."""
    return [math.cos(1.0 + i) for i in range(n)], [math.sin(2.0 + 3 * i * i) for i in range(n)]


def _hessian_at(form: Form, t: Sequence[float]) -> np.ndarray:
    """The matrix of second derivatives of the form."""
    n = len(t)
    result = np.zeros((n, n))
    for index, c in form.items():
        for i in range(n):
            for j in range(n):
                rest = list(index)
                factor = float(c) * rest[i]
                rest[i] -= 1
                factor *= rest[j]
                rest[j] -= 1
                if factor:
                    result[i, j] += factor * math.prod([t[k] ** rest[k] for k in range(n)])
    return result


def _spanned(form: Form, largest: int) -> Powers | None:
    """Powers along directions of integers up to ``largest``, an irreducible set of them."""
    groups = _candidates(form, largest)
    if groups is None:
        return None
    directions = [v for group in groups for v in group]
    monomials = sorted({*form, *_monomials(form, directions)}, reverse=True)
    if len(monomials) * len(directions) > MOST_ENTRIES:
        return None
    columns = _columns(monomials, directions)
    # scaled, so that the weights of all directions compare
    columns = columns / np.linalg.norm(columns, axis=0)
    target = np.array([float(form.get(a, 0)) for a in monomials])
    target = target / np.linalg.norm(target)
    starts = list(itertools.accumulate([len(group) for group in groups], initial=0))
    members = [list(range(a, b)) for a, b in itertools.pairwise(starts)]
    unions = [
        [i for group in some for i in group]
        for count in range(1, len(groups) + 1)
        for some in itertools.combinations(members, count)
    ]
    best: list[int] | None = None
    tries = 0
    for union in sorted(unions, key=len):
        # the smallest symmetric set, and one more chance for larger ones to shrink below it
        if best is not None and len(union) > 2 * len(best):
            break
        tries += 1
        if tries > MOST_TRIES:
            break
        weights = _weights(columns[:, union], target)
        if weights is None:
            continue
        kept = _pruned(columns, target, [i for i, w in zip(union, weights, strict=True) if w])
        if best is None or len(kept) < len(best):
            best = kept
    return None if best is None else _solved(form, [directions[i] for i in best])


def _candidates(form: Form, largest: int) -> list[list[tuple[int, ...]]] | None:
    """Integer directions, those that symmetries of the cube map to each other in one group.

    Their supports are those of the monomials; vectors of signs alone have no zeros.
    """
    n = len(next(iter(form)))
    supports = {tuple([i for i, count in enumerate(index) if count]) for index in form}
    if n > MOST_SIGNS or len(supports) > MOST_ENTRIES // 100:
        return None
    found: set[tuple[int, ...]] = {
        (1, *signs) for signs in itertools.product((1, -1), repeat=n - 1)
    }
    for support in supports:
        steps = range(-largest, largest + 1) if len(support) < 3 else (-1, 0, 1)
        for entries in itertools.product(steps, repeat=len(support)):
            if next((entry for entry in entries if entry), 0) > 0 and math.gcd(*entries) == 1:
                v = [0] * n
                for i, entry in zip(support, entries, strict=True):
                    v[i] = entry
                found.add(tuple(v))
    groups: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for direction in sorted(found, reverse=True):
        kind = sorted(map(abs, direction))
        if n % 2 == 0 and all(direction):
            # half of the vectors of signs are often enough
            kind.append(1 if math.prod(direction) > 0 else -1)
        groups.setdefault(tuple(kind), []).append(direction)
    return [groups[kind] for kind in sorted(groups)]


def _monomials(form: Form, directions: Sequence[tuple[int, ...]]) -> list[MultiIndex]:
    """All that occur in the powers."""
    n, degree = len(next(iter(form))), sum(next(iter(form)))
    supports = {frozenset(i for i in range(n) if v[i]) for v in directions}
    found: set[MultiIndex] = set()
    for support in supports:
        if any(support < other for other in supports):
            continue
        for chosen in itertools.combinations_with_replacement(sorted(support), degree):
            found.add(tuple([chosen.count(i) for i in range(n)]))
    return list(found)


def _columns(monomials: list[MultiIndex], directions: Sequence[tuple[int, ...]]) -> np.ndarray:
    """The coefficients of ``(v . xi)^m``, one column for each direction."""
    degree = sum(monomials[0])
    powers = np.array(monomials)
    scale = np.array([_multinomial(degree, a) for a in monomials], dtype=float)
    v = np.array(directions, dtype=float)
    return scale[:, None] * np.prod(v[None] ** powers[:, None, :], axis=-1)


def _multinomial(degree: int, index: MultiIndex) -> int:
    return math.factorial(degree) // factorial(index)


def _weights(columns: np.ndarray, target: np.ndarray) -> list[float] | None:
    """The least weights with which the columns add up to the target; zero where they are not."""
    weights = np.linalg.lstsq(columns, target, rcond=1e-10)[0]
    if np.abs(columns @ weights - target).max() > 1e-9:
        return None
    return [w if abs(w) > 1e-9 else 0.0 for w in weights.tolist()]


def _pruned(columns: np.ndarray, target: np.ndarray, kept: list[int]) -> list[int]:
    """What is left after those that can be spared are dropped, the least weights first."""
    needed: set[int] = set()
    while True:
        weights = _weights(columns[:, kept], target)
        assert weights is not None
        sizes = {i: abs(w) for i, w in zip(kept, weights, strict=True) if w}
        kept = list(sizes)
        open_ = [i for i in kept if i not in needed]
        if not open_ or np.linalg.matrix_rank(columns[:, kept], tol=1e-9) == len(kept):
            return kept
        spared = min(open_, key=lambda i: (round(sizes[i], 9), i))
        rest = [i for i in kept if i != spared]
        if _weights(columns[:, rest], target) is None:
            needed.add(spared)
        else:
            kept = rest


def _solved(form: Form, directions: Sequence[tuple[int, ...]]) -> Powers | None:
    """The exact weights of linearly independent powers; None if they do not add up to the form."""
    count, degree = len(directions), sum(next(iter(form)))
    common = math.lcm(*[c.denominator for c in form.values()])
    equations = []
    for index in sorted({*form, *_monomials(form, directions)}, reverse=True):
        scale = _multinomial(degree, index)
        used = [(i, power) for i, power in enumerate(index) if power]
        row = [scale * math.prod([v[i] ** power for i, power in used]) for v in directions]
        equations.append([*row, int(form.get(index, 0) * common)])
    # elimination in integers is several times faster than in fractions
    pivots: list[tuple[int, list[int]]] = []
    for row in equations:
        for place, other in pivots:
            if row[place]:
                a, b = other[place], row[place]
                row = [a * x - b * y for x, y in zip(row, other, strict=True)]
        lead = next((i for i, entry in enumerate(row) if entry), None)
        if lead == count:
            return None
        if lead is not None:
            divisor = math.gcd(*row)
            pivots.append((lead, [entry // divisor for entry in row]))
            if len(pivots) == count:
                break
    if len(pivots) < count:
        return None
    weights = [Fraction(0)] * count
    for place, row in reversed(pivots):
        rest = sum((a * w for a, w in zip(row, weights, strict=False) if a and w), Fraction(0))
        weights[place] = (row[count] - rest) / row[place]
    # the equations that the elimination did not reach
    divisor = math.lcm(*[w.denominator for w in weights])
    whole = [int(w * divisor) for w in weights]
    for row in equations:
        if sum([a * w for a, w in zip(row, whole, strict=False)]) != row[count] * divisor:
            return None
    return [
        (tuple(map(Fraction, v)), w / common) for v, w in zip(directions, weights, strict=True) if w
    ]
