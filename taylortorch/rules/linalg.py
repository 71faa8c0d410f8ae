"""Linear systems, determinants and factorisations, each solved degree by degree.

Every function here is defined by polynomial equations between matrices: ``A X = B``, ``L L^H = A``,
``A V = V diag(w)``. Read off at degree k, such an equation is linear in the coefficients of degree
k of its unknowns, and its matrix is that of degree 0: one factorisation, torch's own, serves all
degrees and directions. What remains are matrix products of lower degrees, which the structure
forms; so the recurrences hold along a line, for bundles, collapsed, and in several variables.

Cholesky factors and Hermitian eigenproblems read one triangle of the value. Their coefficients of
degree >= 1 are taken as ``(A_k + A_k^H) / 2``, the convention of torch's gradient of ``cholesky``.

Sources: Walter & Lehmann, *Algorithmic differentiation of linear algebra functions* (2012), for QR
and ``eigh``; Giles, *Collected matrix derivative results* (2008), for the degree-1 forms.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from .. import series
from ..kinds import aligned, as_series, is_constant, value
from ..registry import Evaluator, T, UnsupportedFunction, add_rule, call, name_of, t
from ..structures import Structure
from ..tensor import TaylorTensor, blocks_at, constant_like, innermost, join, run, wrap

Blocks = Sequence[Any]

# --- blocks of matrices ---------------------------------------------------------------------------


# the names that torch gives some first arguments, whatever the documentation calls them
_POSITIONS = {"input": 0, "input2": 1, "other": 1, "input3": 2}


def rule(body: Callable) -> Evaluator:
    """The evaluator of ``body(func, *args, **kwargs)``, torch code that may call its function."""
    names = list(inspect.signature(body).parameters)[1:]

    def evaluate(func: Callable, args: tuple, kwargs: dict) -> Any:
        given = {
            names[_POSITIONS[name]] if name in _POSITIONS and name not in names else name: argument
            for name, argument in kwargs.items()
        }
        return as_series(func, args, kwargs, run(body, func, *args, **given))

    return evaluate


def frame(func: Callable, *operands: Any) -> tuple[list[Blocks], Structure, int]:
    """The blocks of matrices in their common frame, full and of one rank; the frame."""
    found = [x for x in operands if isinstance(x, TaylorTensor)]
    if not found:
        raise UnsupportedFunction(
            f"{name_of(func)} was given a TaylorTensor where its rule expects none"
        )
    level, structure, order = join(func, found)
    inputs = [blocks_at(x, level, structure, order) for x in operands]
    rank = max(b[0].ndim for b in inputs)
    return [aligned(_whole(b), rank, structure) for b in inputs], structure, level


def _whole(blocks: Blocks) -> list[Any]:
    shape = tuple(blocks[0].shape[-2:])
    return [blocks[0]] + [
        b if b is None or tuple(b.shape[-2:]) == shape else b.expand(*b.shape[:-2], *shape)
        for b in blocks[1:]
    ]


def like(plain: Any, outputs: Iterable[Any]) -> Any:
    """The outputs in the named tuple that torch returned for the value."""
    return type(plain)(tuple(outputs))


def matrix_product(s: Structure, i: int, a: Any, j: int, b: Any) -> Any:
    """The product, of degree ``i + j``, of two blocks of matrices."""
    if a is None or b is None:
        return None
    if i == 0 or j == 0:
        return torch.matmul(a, b)
    return s.product(torch.matmul, (i, j), (a, b))


def convolve(s: Structure, k: int, a: Blocks, b: Blocks, degrees: range) -> Any:
    """``sum_i a_i b_{k-i}`` over the given degrees ``i`` of the first factor."""
    return series.total(matrix_product(s, i, a[i], k - i, b[k - i]) for i in degrees)


def scaled(s: Structure, k: int, a: Blocks, w: Blocks, degrees: range) -> Any:
    """As ``convolve``, for a diagonal second factor kept as one row: it scales columns."""
    return series.total(series.product(s, i, a[i], k - i, w[k - i]) for i in degrees)


def minus(a: Any, b: Any) -> Any:
    """``a - b`` of blocks that may be structurally zero."""
    if b is None:
        return a
    return -b if a is None else a - b


def times(a: Any, b: Any) -> Any:
    """The matrix product with a factor of degree 0."""
    return None if a is None or b is None else torch.matmul(a, b)


def adjoint(block: Any) -> Any:
    """The conjugate transpose."""
    return None if block is None else torch.adjoint(block)


def hermitian(blocks: Blocks) -> list[Any]:
    """The Hermitian part of every block of degree >= 1."""
    return [blocks[0]] + [None if b is None else (b + torch.adjoint(b)) / 2 for b in blocks[1:]]


def identity(like: Any) -> torch.Tensor:
    """The plain identity matrix for blocks such as this one."""
    return torch.eye(like.shape[-1], dtype=like.dtype, device=like.device)


def real_diagonal(block: Any) -> Any:
    """A matrix with this one's diagonal, its imaginary part left out, and zeros elsewhere."""
    if block is None:
        return None
    if block.is_complex():
        block = torch.complex(block.real, torch.zeros_like(block.real))
    return block * identity(block)


def as_row(block: Any) -> Any:
    """The diagonal as one row, ``(..., 1, n)``: what scales the columns of a matrix."""
    return None if block is None else torch.sum(block * identity(block), -2, keepdim=True)


def rows_to_vectors(blocks: Blocks) -> list[Any]:
    """Blocks ``(..., 1, n)`` as blocks ``(..., n)``."""
    return [None if b is None else torch.squeeze(b, -2) for b in blocks]


def is_traced(x: Any) -> bool:
    """Whether numbers cannot be asked for: in a compiled function, and inside of ``vmap``."""
    if torch.compiler.is_compiling():
        return True
    plain, functorch = innermost(x), torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(plain):
        if functorch.is_batchedtensor(plain):
            return True
        plain = functorch.get_unwrapped(plain)
    return False


def value_of(x: Any) -> Any:
    """``c_0`` of a TaylorTensor, anything else as it is."""
    return x.value if isinstance(x, TaylorTensor) else x


# --- linear systems -------------------------------------------------------------------------------


def solved(
    s: Structure, invert: Callable, A: Blocks, B: Blocks, X0: Any, left: bool = True
) -> list[Any]:
    """``A X = B`` (or ``X A = B``): ``X_k = A_0^{-1} (B_k - sum_{i>=1} A_i X_{k-i})``."""
    X = [X0]
    for k in range(1, len(A)):
        known = convolve(s, k, A, X, range(1, k + 1)) if left else convolve(s, k, X, A, range(k))
        rest = minus(B[k], known)
        X.append(None if rest is None else invert(rest))
    return X


def _inverse_blocks(s: Structure, A: Blocks, X0: Any) -> list[Any]:
    nothing = (None,) * len(A)
    return solved(s, lambda rest: torch.matmul(X0, rest), A, nothing, X0)


def inv(func: Callable, A: Any, *, check_errors: bool = False) -> Any:
    """``X_k = -X_0 sum_{i>=1} A_i X_{k-i}``."""
    plain = value(func, (A,), {"check_errors": True} if check_errors else {})
    many = isinstance(plain, tuple)
    (a,), s, level = frame(func, A)
    result: Any = wrap(_inverse_blocks(s, a, plain[0] if many else plain), s, level)
    return like(plain, (result, *plain[1:])) if many else result


def solve(func: Callable, A: Any, B: Any, *, left: bool = True, check_errors: bool = False) -> Any:
    """By the inverse of ``A_0``: after one factorisation, matrix products alone."""
    options = {"left": left} | ({"check_errors": True} if check_errors else {})
    plain = value(func, (A, B), options)
    many = isinstance(plain, tuple)
    y0 = plain[0] if many else plain
    vector = B.ndim == 1 or (B.ndim == A.ndim - 1 and tuple(B.shape) == tuple(A.shape[:-1]))
    if vector:
        B, y0 = torch.unsqueeze(B, -1), torch.unsqueeze(y0, -1)
    (a, b), s, level = frame(func, A, B)
    inverse = torch.linalg.inv(a[0])

    def invert(rest: Any) -> Any:
        return torch.matmul(inverse, rest) if left else torch.matmul(rest, inverse)

    result: Any = wrap(solved(s, invert, a, b, y0, left), s, level)
    if vector:
        result = torch.squeeze(result, -1)
    return like(plain, (result, *plain[1:])) if many else result


def solve_triangular(
    func: Callable,
    A: Any,
    B: Any,
    *,
    upper: bool,
    left: bool = True,
    unitriangular: bool = False,
) -> Any:
    """As ``solve``; only the triangle that the function reads is a series."""
    options = {"upper": upper, "left": left, "unitriangular": unitriangular}
    y0 = value(func, (A, B), options)
    (a, b), s, level = frame(func, A, B)
    read = torch.triu if upper else torch.tril
    inside = (1 if upper else -1) if unitriangular else 0
    a = [a[0]] + [None if block is None else read(block, inside) for block in a[1:]]

    def invert(rest: Any) -> Any:
        return torch.linalg.solve_triangular(a[0], rest, **options)

    return wrap(solved(s, invert, a, b, y0, left), s, level)


def triangular_solve(
    func: Callable,
    input: Any,
    A: Any,
    upper: bool = True,
    transpose: bool = False,
    unitriangular: bool = False,
) -> Any:
    plain = value(func, (input, A, upper, transpose, unitriangular), {})
    matrix = torch.transpose(A, -2, -1) if transpose else A
    x = torch.linalg.solve_triangular(
        matrix, input, upper=upper != transpose, unitriangular=unitriangular
    )
    return like(plain, (x, torch.clone(A)))


def cholesky_solve(func: Callable, input: Any, L: Any, upper: bool = False) -> Any:
    first = torch.adjoint(L) if upper else L
    y = torch.linalg.solve_triangular(first, input, upper=False)
    return torch.linalg.solve_triangular(torch.adjoint(first), y, upper=True)


def cholesky_inverse(func: Callable, L: Any, upper: bool = False) -> Any:
    return torch.cholesky_solve(identity(L), L, upper)


def tensorsolve(func: Callable, A: Any, B: Any, dims: Any = None) -> Any:
    if dims is not None:
        A = torch.movedim(A, tuple(dims), tuple(range(A.ndim - len(dims), A.ndim)))
    shape = tuple(A.shape[B.ndim :])
    matrix = torch.reshape(A, (math.prod(B.shape), math.prod(shape)))
    return torch.reshape(torch.linalg.solve(matrix, torch.reshape(B, (-1,))), shape)


def tensorinv(func: Callable, A: Any, ind: int = 2) -> Any:
    rows, columns = tuple(A.shape[:ind]), tuple(A.shape[ind:])
    matrix = torch.reshape(A, (math.prod(rows), math.prod(columns)))
    return torch.reshape(torch.linalg.inv(matrix), (*columns, *rows))


# --- determinants ---------------------------------------------------------------------------------


def _trace_of_product(a: Any, b: Any) -> Any:
    return torch.sum(a * torch.transpose(b, -2, -1), (-2, -1))


def log_determinant(s: Structure, A: Blocks) -> list[Any]:
    """Degrees >= 1 of ``log det A``, from ``(log det A)' = tr(A^{-1} A')``.

    ``k y_k = sum_j j tr(A_j X_{k-j})`` with ``X = A^{-1}``, of which one degree less is needed.
    """
    y: list[Any] = [None]
    if is_constant(A):
        return [None] * len(A)
    X = _inverse_blocks(s, A[:-1], torch.linalg.inv(A[0]))
    for k in range(1, len(A)):
        terms = []
        for j in range(1, k + 1):
            a, x = A[j], X[k - j]
            if a is not None and x is not None:
                if j == k:
                    term = _trace_of_product(a, x)
                else:
                    term = s.product(_trace_of_product, (j, k - j), (a, x))
                terms.append(series.times(term, j, k))
        y.append(series.total(terms))
    return y


def det(func: Callable, A: Any) -> Any:
    """``y' = y (log det A)'``, and a polynomial in the entries where that divides by little.

    Up to 3 x 3 it is the expansion; above, what is left of a singular or nearly singular matrix
    once its large singular values are eliminated.
    """
    n = A.shape[-1]
    y0 = value(func, (A,), {})
    if 0 < n <= 3:
        y = _small_determinant([[A[..., i, j] for j in range(n)] for i in range(n)])
    elif is_constant(A._blocks) or _well_conditioned(A):
        return _regular_determinant(func, A, y0)
    else:
        y = _split_determinant(func, A)
    return wrap((y0, *y._blocks[1:]), y._structure, y._level)


def _regular_determinant(func: Callable, A: Any, y0: Any) -> Any:
    (a,), s, level = frame(func, A)
    if is_constant(a):
        return wrap((y0, *a[1:]), s, level)
    return wrap(series.ode(s, y0, log_determinant(s, a), 0, 1, 0), s, level)


_LARGE_SINGULAR_VALUE = 0.1


def _well_conditioned(A: Any) -> bool:
    """Whether ``y' = y (log det A)'`` keeps two thirds of the digits.

    At degree k it divides by the determinant k - 1 times more than it should. A trace cannot ask:
    up to degree 2 the condition only counts once, and torch's own error stops a singular matrix.
    """
    if is_traced(A):
        return _orders(A) <= 2
    plain = innermost(A).detach()
    if not bool(torch.isfinite(plain).all()):
        return True
    inverse, _ = torch.linalg.inv_ex(plain)
    norm = torch.linalg.matrix_norm
    condition = norm(plain) * norm(inverse)
    allowed = torch.finfo(A.dtype).eps ** (-1 / 3 / max(_orders(A) - 1, 1))
    return bool((condition <= allowed * plain.shape[-1]).all())


def _split_determinant(func: Callable, A: Any) -> Any:
    """``det A = det U det V^H det M det C``, where ``U`` and ``V`` are those of the value.

    ``U^H A V`` is divided in four at the last large singular value of the value: ``M`` is its
    first block, ``C`` the Schur complement, whose determinant is formed without division. A trace
    takes all singular values but three to be large.
    """
    U, S, VH = torch.linalg.svd(innermost(A).detach())
    if is_traced(A):
        r = A.shape[-1] - 3
    else:
        r = int(torch.amin(torch.sum(S / S[..., :1] > _LARGE_SINGULAR_VALUE, -1)))
    A = torch.matmul(torch.matmul(torch.adjoint(U), A), torch.adjoint(VH))
    M, C = A[..., :r, :r], A[..., r:, r:]
    y = torch.linalg.det(U) * torch.linalg.det(VH)
    if r:
        C = C - torch.matmul(A[..., r:, :r], torch.linalg.solve(M, A[..., :r, r:]))
        y = y * _regular_determinant(func, M, torch.linalg.det(M.value))
    return y * _polynomial_determinant(C) if r < A.shape[-1] else y


def _polynomial_determinant(A: Any) -> Any:
    """``X <- m(X) A``, n - 1 times from ``X = A``; then ``det A = (-1)^(n-1) X_11``.

    ``m`` keeps the strict upper triangle, and replaces an entry of the diagonal by minus the sum
    of those below it. Source: Bird, *A simple division-free algorithm for computing determinants*
    (2011).
    """
    eye = identity(A)
    below = torch.tril(torch.ones_like(eye), -1)
    X = A
    for _ in range(A.shape[-1] - 1):
        rest = torch.matmul(torch.sum(X * eye, -2, keepdim=True), below)
        X = torch.matmul(torch.triu(X, 1) - rest * eye, A)
    return X[..., 0, 0] if A.shape[-1] % 2 else -X[..., 0, 0]


def _small_determinant(rows: list[list[Any]]) -> Any:
    if len(rows) == 1:
        return rows[0][0]
    if len(rows) == 2:
        (a, b), (c, d) = rows
        return a * d - b * c
    total = None
    for j, factor in enumerate(rows[0]):
        minor = [[x for i, x in enumerate(row) if i != j] for row in rows[1:]]
        term = factor * _small_determinant(minor)
        total = term if total is None else (total - term if j % 2 else total + term)
    return total


def slogdet(func: Callable, A: Any) -> Any:
    """The phase turns by the imaginary part of ``log det A``; a real sign is constant."""
    plain = value(func, (A,), {})
    (a,), s, level = frame(func, A)
    log = log_determinant(s, a)
    sign: Any
    if not a[0].is_complex():
        sign = [plain[0]] + [None] * (len(a) - 1)
        return like(plain, (wrap(sign, s, level), wrap((plain[1], *log[1:]), s, level)))
    turn = [None if b is None else torch.complex(torch.zeros_like(b.real), b.imag) for b in log]
    size = [None if b is None else b.real for b in log]
    sign = series.ode(s, plain[0], turn, 0, 1, 0)
    return like(plain, (wrap(sign, s, level), wrap((plain[1], *size[1:]), s, level)))


def logdet(func: Callable, A: Any) -> Any:
    y0 = value(func, (A,), {})
    (a,), s, level = frame(func, A)
    return wrap((y0, *log_determinant(s, a)[1:]), s, level)


# --- factorisations -------------------------------------------------------------------------------


def cholesky(func: Callable, A: Any, upper: bool = False, *, check_errors: bool = False) -> Any:
    """``L L^H = A``: with ``M = L_0^{-1} (A_k - sum_{0<i<k} L_i L_{k-i}^H) L_0^{-H}``, Hermitian,
    ``L_k`` is ``L_0`` times the strict lower triangle and half the diagonal of ``M``."""
    options = {"upper": upper} | ({"check_errors": True} if check_errors else {})
    plain = value(func, (A,), options)
    many = isinstance(plain, tuple)
    y0 = plain[0] if many else plain
    (a,), s, level = frame(func, A)
    a = hermitian(a)
    L = [adjoint(y0) if upper else y0]
    LH = [adjoint(L[0])]
    eye = identity(a[0])
    inverse = torch.linalg.solve_triangular(L[0], eye, upper=False)
    half = torch.tril(torch.ones_like(eye)) - eye / 2
    for k in range(1, len(a)):
        rest = minus(a[k], convolve(s, k, L, LH, range(1, k)))
        middle = times(times(inverse, rest), adjoint(inverse))
        L.append(None if middle is None else torch.matmul(L[0], middle * half))
        LH.append(adjoint(L[k]))
    result = wrap([y0, *(LH if upper else L)[1:]], s, level)
    return like(plain, (result, *plain[1:])) if many else result


def _lu_blocks(s: Structure, A: Blocks, L0: Any, U0: Any) -> tuple[list[Any], list[Any]]:
    """``L U = A`` without pivoting: ``M = L_0^{-1} (A_k - sum_{0<i<k} L_i U_{k-i}) U_0^{-1}``
    splits into ``L_0^{-1} L_k``, strictly lower, and ``U_k U_0^{-1}``, upper triangular."""
    L, U = [L0], [U0]
    for k in range(1, len(A)):
        rest = minus(A[k], convolve(s, k, L, U, range(1, k)))
        if rest is None:
            L.append(None)
            U.append(None)
            continue
        middle = torch.linalg.solve_triangular(L0, rest, upper=False, unitriangular=True)
        middle = torch.linalg.solve_triangular(U0, middle, upper=True, left=False)
        L.append(torch.matmul(L0, torch.tril(middle, -1)))
        U.append(torch.matmul(torch.triu(middle), U0))
    return L, U


def _lu(func: Callable, A: Any, P: Any, L0: Any, U0: Any) -> tuple[Any, Any]:
    """The series of ``L`` and ``U`` in ``A = P L U``; the permutation is that of the value."""
    A = torch.matmul(torch.transpose(P, -2, -1), A)
    m, n = A.shape[-2:]
    k = min(m, n)
    (a,), s, level = frame(func, A[..., :k, :k])
    L: Any
    U: Any
    L, U = (wrap(x, s, level) for x in _lu_blocks(s, a, L0[..., :k, :], U0[..., :, :k]))
    if m > n:
        below = torch.linalg.solve_triangular(U, A[..., k:, :], upper=True, left=False)
        L = torch.cat([L, below], -2)
    elif n > m:
        right = torch.linalg.solve_triangular(L, A[..., :, k:], upper=False, unitriangular=True)
        U = torch.cat([U, right], -1)
    return L, U


def lu(func: Callable, A: Any, *, pivot: bool = True) -> Any:
    plain = value(func, (A,), {"pivot": pivot})
    L, U = _lu(func, A, *plain)
    return like(plain, (constant_like(plain[0], L), L, U))


def lu_factor(
    func: Callable, A: Any, pivot: bool = True, get_infos: bool = False, **options: Any
) -> Any:
    """``L`` and ``U`` in one matrix."""
    given = {"pivot": pivot} | options | ({"get_infos": True} if get_infos else {})
    plain = value(func, (A,), given)
    packed, pivots = plain[0], plain[1]
    k = min(A.shape[-2:])
    P = _permutation(packed, pivots)
    unit = torch.eye(A.shape[-2], k, dtype=A.dtype, device=A.device)
    L, U = _lu(
        func, A, P, torch.tril(packed[..., :, :k], -1) + unit, torch.triu(packed[..., :k, :])
    )
    lower = L - unit
    if A.shape[-1] > k:
        lower = torch.cat([lower, lower.new_zeros((*lower.shape[:-1], A.shape[-1] - k))], -1)
    if A.shape[-2] > k:
        U = torch.cat([U, U.new_zeros((*U.shape[:-2], A.shape[-2] - k, A.shape[-1]))], -2)
    return like(plain, (lower + U, *plain[1:]))


def linalg_lu_solve(
    func: Callable, LU: Any, pivots: Any, B: Any, *, left: bool = True, adjoint: bool = False
) -> Any:
    return _lu_solve(LU, pivots, B, left, adjoint)


def lu_solve(func: Callable, b: Any, LU_data: Any, LU_pivots: Any) -> Any:
    return _lu_solve(LU_data, LU_pivots, b)


def _lu_solve(LU: Any, pivots: Any, B: Any, left: bool = True, conjugate: bool = False) -> Any:
    """``P L U X = B`` by its two triangular systems; the other forms are adjoints of this one."""
    triangular = torch.linalg.solve_triangular
    if not left:
        return torch.adjoint(_lu_solve(LU, pivots, torch.adjoint(B), conjugate=not conjugate))
    P = _permutation(LU, pivots)
    if conjugate:
        y = triangular(torch.adjoint(LU), B, upper=False)
        y = triangular(torch.adjoint(LU), y, upper=True, unitriangular=True)
        return torch.matmul(P, y)
    y = torch.matmul(torch.transpose(P, -2, -1), B)
    y = triangular(LU, y, upper=False, unitriangular=True)
    return triangular(LU, y, upper=True)


def lu_unpack(
    func: Callable,
    LU_data: Any,
    LU_pivots: Any,
    unpack_data: bool = True,
    unpack_pivots: bool = True,
) -> Any:
    """``P`` depends on the pivots alone; ``L`` and ``U`` are the triangles of one matrix."""
    plain = value(func, (LU_data, LU_pivots, unpack_data, unpack_pivots), {})
    P = constant_like(plain[0], LU_data)
    if not unpack_data:
        return like(plain, (P, *(constant_like(x, LU_data) for x in plain[1:])))
    m, n = LU_data.shape[-2:]
    k = min(m, n)
    unit = torch.eye(m, k, dtype=LU_data.dtype, device=LU_data.device)
    L = torch.tril(LU_data[..., :, :k], -1) + unit
    return like(plain, (P, L, torch.triu(LU_data[..., :k, :])))


def _permutation(LU: Any, pivots: Any) -> Any:
    """``P`` as a plain matrix."""
    plain = innermost(LU).detach()
    return torch.lu_unpack(plain, pivots, unpack_data=False)[0]


def _qr_blocks(s: Structure, A: Blocks, Q0: Any, R0: Any) -> tuple[list[Any], list[Any]]:
    """``Q R = A``, ``Q^H Q = 1``, with at least as many rows as columns.

    With ``C = A_k - sum_{0<i<k} Q_i R_{k-i}`` and ``M = Q_0^H C R_0^{-1} = X + T``, where
    ``X = Q_0^H Q_k`` obeys ``X + X^H = -H = -sum_{0<i<k} Q_i^H Q_{k-i}`` and ``T = R_k R_0^{-1}``
    is upper triangular with a real diagonal: below the diagonal ``X = M``, above it
    ``X = -H - M^H``, on it the real part is ``-H / 2`` and the imaginary part that of ``M``.
    """
    Q, R, QH = [Q0], [R0], [adjoint(Q0)]
    for k in range(1, len(A)):
        C = minus(A[k], convolve(s, k, Q, R, range(1, k)))
        H = convolve(s, k, QH, Q, range(1, k))
        if C is None and H is None:
            for blocks in (Q, R, QH):
                blocks.append(None)
            continue
        if C is None:
            C = torch.zeros_like(torch.matmul(Q0, H))
        M = torch.linalg.solve_triangular(R0, torch.matmul(QH[0], C), upper=True, left=False)
        below = torch.tril(M, -1)
        X = below - torch.adjoint(below)
        if H is not None:
            X = X - torch.triu(H, 1) - real_diagonal(H) / 2
        if M.is_complex():
            X = X + (M * identity(M) - real_diagonal(M))
        R.append(torch.matmul(torch.triu(M - X), R0))
        Q.append(
            torch.linalg.solve_triangular(R0, C - torch.matmul(Q0, R[k]), upper=True, left=False)
        )
        QH.append(adjoint(Q[k]))
    return Q, R


def qr(func: Callable, input: Any, some: bool = True) -> Any:
    plain = value(func, (input, some), {})
    return like(plain, torch.linalg.qr(input, "reduced" if some else "complete"))


def linalg_qr(func: Callable, A: Any, mode: str = "reduced") -> Any:
    plain = value(func, (A, mode), {})
    m, n = A.shape[-2:]
    Q0, R0 = plain
    if mode == "r" or (mode == "complete" and m > n):
        Q0, R0 = torch.linalg.qr(value_of(A))
    Q, R = _qr(func, A, Q0, R0)
    if mode == "complete" and m > n:
        extra = _extra_columns(*_reflectors(func, A, Q))
        Q = torch.cat([Q, _with_value(extra, plain[0][..., n:])], -1)
        R = torch.cat([R, R.new_zeros((*R.shape[:-2], m - n, n))], -2)
    return like(plain, (plain[0] if mode == "r" else Q, R))


def _qr(func: Callable, A: Any, Q0: Any, R0: Any) -> tuple[Any, Any]:
    """A wide matrix is ``Q [R, Q^H A']``: its first square part decides."""
    m, n = A.shape[-2:]
    k = min(m, n)
    (a,), s, level = frame(func, A[..., :k])
    Q: Any
    R: Any
    Q, R = (wrap(x, s, level) for x in _qr_blocks(s, a, Q0, R0[..., :k]))
    if n > m:
        R = torch.cat([R, torch.matmul(torch.adjoint(Q), A[..., k:])], -1)
    return Q, R


def _reflectors(func: Callable, A: Any, Q: Any) -> tuple[Any, Any]:
    """``Y`` and ``W`` of the reflections ``H_1 H_2 ... = 1 - Y T Y^H`` that made ``Q``.

    The columns of ``Y`` are the vectors of the reflections, its upper part ``Y_1`` is unit lower
    triangular, and ``T`` is upper triangular with the scales on its diagonal. So ``1 - Q``, which
    is ``Y (T Y_1^H)``, is an LU factorisation, and ``W = T Y_1^H`` has that diagonal too.

    Source: Ballard et al., *Reconstructing Householder vectors from tall-skinny QR* (2014).
    """
    m, k = Q.shape[-2:]
    unit = torch.eye(m, k, dtype=Q.dtype, device=Q.device)
    rest = unit - Q
    # the last column of a square matrix has nothing left to reflect
    count = max(min(m - 1, k), 0)
    packed = torch.geqrf(value_of(A))[0]
    Y0 = torch.tril(packed[..., :, :count], -1) + unit[:, :count]
    triangular = torch.linalg.solve_triangular
    W0 = triangular(
        Y0[..., :count, :], rest.value[..., :count, :count], upper=False, unitriangular=True
    )
    eye = torch.eye(m, dtype=Q.dtype, device=Q.device)
    Y, _ = _lu(func, rest[..., :count], eye, Y0, torch.triu(W0))
    if count < k:
        last = torch.zeros_like(rest[..., count:]) + unit[:, count:]
        Y = torch.cat([Y, last], -1)
    W = triangular(Y[..., :k, :], rest[..., :k, :], upper=False, unitriangular=True)
    return Y, torch.triu(W)


def _extra_columns(Y: Any, W: Any) -> Any:
    """The columns of ``1 - Y T Y^H`` beyond those of ``Y``."""
    m, k = Y.shape[-2:]
    unit = torch.eye(m, dtype=Y.dtype, device=Y.device)[:, k:]
    upper = torch.adjoint(Y[..., :k, :])
    T = torch.linalg.solve_triangular(upper, W, upper=True, left=False, unitriangular=True)
    return unit - torch.matmul(Y, torch.matmul(T, torch.adjoint(Y[..., k:, :])))


def geqrf(func: Callable, input: Any) -> Any:
    """``R`` and, below it, the vectors of the reflections; and their scales."""
    plain = value(func, (input,), {})
    Q, R = _qr(func, input, *torch.linalg.qr(value_of(input)))
    Y, W = _reflectors(func, input, Q)
    m, n = input.shape[-2:]
    packed = torch.tril(Y, -1)
    if n > m:
        packed = torch.cat([packed, packed.new_zeros((*packed.shape[:-1], n - m))], -1)
    if m > n:
        R = torch.cat([R, R.new_zeros((*R.shape[:-2], m - n, n))], -2)
    scales = torch.diagonal(W, 0, -2, -1)
    results = zip(plain, (packed + R, scales), strict=True)
    return like(plain, (_with_value(y, y0) for y0, y in results))


def _with_value(y: Any, y0: Any) -> Any:
    """The series whose value is torch's own."""
    return wrap((y0, *y._blocks[1:]), y._structure, y._level)


@dataclasses.dataclass(frozen=True)
class _Ldl:
    """How LAPACK stores ``P^T A P = L D L^H``, with ``D`` of 1 x 1 and 2 x 2 blocks, in a matrix.

    ``P`` and ``blocks`` (1 inside the blocks of ``D``) are matrices; entry ``(i, j)`` of ``L`` is
    stored in row ``rows[i, j]``, because a column is not touched by later interchanges.
    """

    P: torch.Tensor
    blocks: torch.Tensor
    rows: torch.Tensor
    transpose: Callable

    @classmethod
    def of(cls, LD: Any, pivots: torch.Tensor, hermitian: bool) -> _Ldl:
        if not torch.compiler.is_compiling() and is_traced(pivots):
            raise UnsupportedFunction(
                "torch.linalg.ldl_factor and ldl_solve of a TaylorTensor read their pivots, which "
                "vmap does not let them: call them on the whole batch"
            )
        n = pivots.shape[-1]
        found = [
            _interchanges(row) for row in pivots.reshape(math.prod(pivots.shape[:-1]), n).tolist()
        ]
        shape = (*pivots.shape, n)
        order, blocks, rows = (
            (
                torch.tensor(table, dtype=torch.long, device=LD.device)
                for table in zip(*found, strict=True)
            )
            if found
            else (torch.zeros(0, n, n, dtype=torch.long, device=LD.device),) * 3
        )
        P = torch.nn.functional.one_hot(order.reshape(pivots.shape), max(n, 1))[..., :n]
        transpose = torch.adjoint if hermitian else _transpose
        return cls(
            _transpose(P).to(LD.dtype),
            blocks.reshape(shape).to(LD.dtype),
            rows.reshape(shape),
            transpose,
        )

    def lower(self) -> torch.Tensor:
        return torch.tril(1 - self.blocks, -1)

    def unpack(self, LD: Any) -> tuple[Any, Any]:
        L = torch.gather(LD, -2, self.rows) * self.lower() + identity(LD)
        below = torch.tril(LD, -1) * self.blocks
        return L, LD * identity(LD) + below + self.transpose(below)

    def pack(self, L: Any, D: Any) -> Any:
        return torch.gather(L * self.lower(), -2, torch.argsort(self.rows, -2)) + torch.tril(D)


def _transpose(x: Any) -> Any:
    return torch.transpose(x, -2, -1)


def _interchanges(pivots: list[int]) -> tuple[list[int], list[list[int]], list[list[int]]]:
    """The order of the rows, the blocks and the stored rows that LAPACK's pivots stand for.

    A positive pivot interchanges its own row; two equal negative ones are a block, and interchange
    the second of its rows.
    """
    n = len(pivots)
    order = list(range(n))
    blocks = [[int(i == j) for j in range(n)] for i in range(n)]
    rows = [[i] * n for i in range(n)]
    j = 0
    while j < n:
        width = 1 if pivots[j] > 0 else 2
        a, b = j + width - 1, abs(pivots[j]) - 1
        order[a], order[b] = order[b], order[a]
        for i in range(j):
            rows[a][i], rows[b][i] = rows[b][i], rows[a][i]
        if width == 2:
            blocks[j][j + 1] = blocks[j + 1][j] = 1
        j += width
    return order, blocks, rows


def ldl_factor(
    func: Callable, A: Any, *, hermitian: bool = False, check_errors: bool = False
) -> Any:
    """``L D L^H = A``: ``M = L_0^{-1} (A_k - the terms of lower degrees) L_0^{-H}`` splits into
    ``D_k``, its blocks, and ``L_0^{-1} L_k D_0``, which is strictly lower."""
    options = {"hermitian": hermitian} | ({"check_errors": True} if check_errors else {})
    plain = value(func, (A,), options)
    (a,), s, level = frame(func, A)
    layout = _Ldl.of(a[0], plain[1], hermitian)
    transpose, P, PT = layout.transpose, layout.P, _transpose(layout.P)
    L0, D0 = layout.unpack(plain[0])
    inverse = torch.linalg.solve_triangular(L0, identity(L0), upper=False, unitriangular=True)
    inverse_D = torch.linalg.inv(D0)
    L, D, LT, LD = [L0], [D0], [transpose(L0)], [torch.matmul(L0, D0)]
    for k in range(1, len(a)):
        inside = range(1, k)
        known = convolve(s, k, L, D, inside)
        rest = None if a[k] is None else times(times(PT, (a[k] + transpose(a[k])) / 2), P)
        rest = minus(rest, convolve(s, k, LD, LT, inside))
        M = times(times(inverse, minus(rest, times(known, LT[0]))), transpose(inverse))
        D.append(None if M is None else M * layout.blocks)
        L.append(None if M is None else times(times(L0, M * layout.lower()), inverse_D))
        LT.append(None if M is None else transpose(L[k]))
        LD.append(series.total((known, times(L[k], D0), times(L0, D[k]))))
    packed = layout.pack(wrap(L, s, level), wrap(D, s, level))
    return like(plain, (_with_value(packed, plain[0]), *plain[1:]))


def ldl_solve(func: Callable, LD: Any, pivots: Any, B: Any, *, hermitian: bool = False) -> Any:
    layout = _Ldl.of(innermost(LD), pivots, hermitian)
    L, D = layout.unpack(LD)
    triangular = torch.linalg.solve_triangular
    y = torch.matmul(_transpose(layout.P), B)
    y = torch.linalg.solve(D, triangular(L, y, upper=False, unitriangular=True))
    y = triangular(layout.transpose(L), y, upper=True, unitriangular=True)
    return torch.matmul(layout.P, y)


# --- eigenvalues, singular values -----------------------------------------------------------------


def _gaps(w: Any, keep: Any) -> Any:
    """``w_j - w_i`` off the diagonal, ``keep`` on it.

    What is equal to rounding counts as equal, and what is divided by it becomes infinite or NaN:
    the quotient would be noise, which sums over all vectors do not even show.
    """
    gaps = torch.unsqueeze(w, -2) - torch.unsqueeze(w, -1)
    return torch.where(torch.abs(gaps) <= _noise(w), 0.0, gaps) + keep


def _noise(w: Any) -> Any:
    """What rounding may do to eigenvalues or singular values, as one number per matrix."""
    size = torch.sum(torch.abs(w.detach()), -1, keepdim=True)
    return torch.unsqueeze(size, -1) * torch.finfo(w.dtype).eps


def _eigen_blocks(
    s: Structure, A: Blocks, w0: Any, V0: Any, inverse: Any, vectors: bool
) -> tuple[list[Any], list[Any]]:
    """``A V = V diag(w)`` with distinct eigenvalues and columns of norm 1.

    With ``W = V_0^{-1} V``, ``M = V_0^{-1} A V_0`` and ``R = sum_{i>=1} M_i W_{k-i} -
    sum_{0<i<k} W_i diag(w_{k-i})`` the degree k reads ``w_k = diag(R)`` and, off the diagonal,
    ``W_k = R / (w_j - w_i)``. The diagonal of ``W_k`` follows from the norms, ``V^H V = 1`` there.
    Without ``vectors`` the highest degree of ``V`` is left out.
    """
    order = len(A) - 1
    eye = identity(V0)
    gaps = _gaps(w0, eye)
    M = [None] + [times(times(inverse, b), V0) for b in A[1:]]
    w: list[Any] = [torch.unsqueeze(w0, -2)]
    W: list[Any] = [eye]
    V: list[Any] = [V0]
    VH: list[Any] = [adjoint(V0)]
    for k in range(1, order + 1):
        rest = convolve(s, k, M, W, range(1, k + 1))
        rest = minus(rest, scaled(s, k, W, w, range(1, k)))
        w.append(as_row(rest))
        if k == order and not vectors:
            break
        off = None if rest is None else rest * (1 - eye) / gaps
        # the norms: V_0^H V_k + V_k^H V_0 + sum_{0<i<k} V_i^H V_{k-i} vanishes on the diagonal
        part = times(V0, off)
        inner = convolve(s, k, VH, V, range(1, k))
        size = series.total((None if part is None else 2 * times(VH[0], part), inner))
        turn = None if size is None else real_diagonal(size) / -2
        W.append(series.total((off, turn)))
        V.append(series.total((part, times(V0, turn))))
        VH.append(adjoint(V[k]))
    return w, V


def eigh(func: Callable, A: Any, UPLO: str = "L") -> Any:
    plain = value(func, (A, UPLO), {})
    (a,), s, level = frame(func, A)
    both = isinstance(plain, tuple)
    w0, V0 = plain if both else torch.linalg.eigh(a[0], UPLO)
    w, V = _eigen_blocks(s, hermitian(a), w0.to(V0.dtype), V0, torch.adjoint(V0), both)
    values = [b if b is None or not b.is_complex() else b.real for b in rows_to_vectors(w)]
    values[0] = w0 if both else plain
    if not both:
        return wrap(values, s, level)
    return like(plain, (wrap(values, s, level), wrap(V, s, level)))


def eig(func: Callable, A: Any) -> Any:
    """The phase of each eigenvector is kept; only quantities free of it are determined."""
    plain = value(func, (A,), {})
    (a,), s, level = frame(func, A)
    both = isinstance(plain, tuple)
    w0, V0 = plain if both else torch.linalg.eig(a[0])
    a = [a[0]] + [None if b is None else b.to(V0.dtype) for b in a[1:]]
    w, V = _eigen_blocks(s, a, w0, V0, torch.linalg.inv(V0), both)
    values = rows_to_vectors(w)
    values[0] = w0 if both else plain
    if not both:
        return wrap(values, s, level)
    return like(plain, (wrap(values, s, level), wrap(V, s, level)))


def _svd_blocks(
    s: Structure, A: Blocks, U0: Any, S0: Any, V0: Any, vectors: bool
) -> tuple[list[Any], list[Any], list[Any]]:
    """``A V = U diag(S)``, ``A^H U = V diag(S)``; at least as many rows as columns.

    In the frame of the value: ``P = U_0^H A V_0``, ``X = U_0^H U``, ``Z = V_0^H V``, and outside of
    it ``Q = A V_0 - U_0 P``, ``N = U - U_0 X``. At degree k, with sums E and F of lower degrees,

        S_0 Z_k + E = X_k S_0 + S_k     E = (P Z - X S)_k without the terms in Z_k, X_k and S_k
        S_0 X_k + F = Z_k S_0 + S_k     F = (P^H X + Q^H N - Z S)_k, likewise

    two equations for each pair of entries off the diagonal, with determinant ``s_i^2 - s_j^2``; the
    diagonal gives ``S_k``, and the norms of the columns that of ``X_k`` and ``Z_k``. Last
    ``N_k = (Q Z - N S)_k S_0^{-1}``.
    """
    order = len(A) - 1
    eye = identity(V0)
    row, column = torch.unsqueeze(S0, -2), torch.unsqueeze(S0, -1)
    gaps = _gaps(S0, eye) * (row + column) * (1 - eye) + eye
    divisor = torch.where(torch.abs(row) <= _noise(S0), 0.0, row)
    UH0 = torch.adjoint(U0)
    AV = [None] + [times(b, V0) for b in A[1:]]
    P = [None] + [times(UH0, b) for b in AV[1:]]
    square = U0.shape[-2] == U0.shape[-1]
    Q = [None if square else minus(b, times(U0, p)) for b, p in zip(AV, P, strict=True)]
    PH, QH = [adjoint(b) for b in P], [adjoint(b) for b in Q]
    S: list[Any] = [row]
    X: list[Any] = [eye]
    Z: list[Any] = [eye]
    N: list[Any] = [None]
    XH, ZH, NH = [eye], [eye], [None]
    for k in range(1, order + 1):
        inside = range(1, k)
        E = minus(convolve(s, k, P, Z, range(1, k + 1)), scaled(s, k, X, S, inside))
        F = series.total((convolve(s, k, PH, X, range(1, k + 1)), convolve(s, k, QH, N, inside)))
        F = minus(F, scaled(s, k, Z, S, inside))
        both = series.total((E, F))
        S.append(None if both is None else as_row(real_diagonal(both)) / 2)
        if k == order and not vectors:
            break
        Xk = Zk = None
        if E is not None and F is not None:
            Zk = (column * E + row * F) * (1 - eye) / gaps
            Xk = (column * F + row * E) * (1 - eye) / gaps
            if E.is_complex():
                # half of the phase that the diagonal asks for to each side, as torch has it
                twist = (E - F) * eye
                phase = (twist - real_diagonal(twist)) / 4 / divisor
                Xk, Zk = Xk + phase, Zk - phase
        turned = convolve(s, k, ZH, Z, inside)
        Zk = minus(Zk, None if turned is None else real_diagonal(turned) / 2)
        turned = series.total((convolve(s, k, XH, X, inside), convolve(s, k, NH, N, inside)))
        Xk = minus(Xk, None if turned is None else real_diagonal(turned) / 2)
        X.append(Xk)
        Z.append(Zk)
        out = minus(convolve(s, k, Q, Z, range(1, k + 1)), scaled(s, k, N, S, inside))
        N.append(None if out is None else out / divisor)
        XH.append(adjoint(Xk))
        ZH.append(adjoint(Zk))
        NH.append(adjoint(N[k]))
    U = [series.total((times(U0, x), n)) for x, n in zip(X, N, strict=True)]
    V = [times(V0, z) for z in Z]
    return U, S, V


def _svd(func: Callable, A: Any, U0: Any, S0: Any, V0: Any, vectors: bool = True) -> tuple:
    """The series of ``U``, ``S`` and ``V``; a wide matrix by its adjoint."""
    (a,), s, level = frame(func, A)
    S0 = S0.to(V0.dtype)
    if A.shape[-2] >= A.shape[-1]:
        U, S, V = _svd_blocks(s, a, U0, S0, V0, vectors)
    else:
        V, S, U = _svd_blocks(s, [adjoint(b) for b in a], V0, S0, U0, vectors)
    values = [b if b is None or not b.is_complex() else b.real for b in rows_to_vectors(S)]
    if not vectors:
        return None, wrap(values, s, level), None
    return wrap((U0, *U[1:]), s, level), wrap(values, s, level), wrap((V0, *V[1:]), s, level)


def _completed(U: Any, U0: Any) -> Any:
    """``U`` with the columns that ``U0`` has more.

    They are some orthonormal basis of what is orthogonal to ``U``, and no function of the matrix:
    the one closest to that of the value, ``Z (Z^H Z)^{-1/2}`` with ``Z = (1 - U U^H) U_0``.
    """
    k = U.shape[-1]
    if U0.shape[-1] == k:
        return U
    extra = U0[..., k:]
    Z = extra - torch.matmul(U, torch.matmul(torch.adjoint(U), extra))
    G: Any = torch.matmul(torch.adjoint(extra), Z)
    # the root of G, whose value is 1: 2 R_k = G_k - sum_{0<i<k} R_i R_{k-i}
    g, s = G._blocks, G._structure
    root: list[Any] = [torch.zeros_like(g[0]) + identity(g[0])]
    for degree in range(1, len(g)):
        rest = minus(g[degree], convolve(s, degree, root, root, range(1, degree)))
        root.append(None if rest is None else rest / 2)
    closest = torch.linalg.solve(wrap(root, s, G._level), Z, left=False)
    return torch.cat([U, _with_value(closest, extra)], -1)


def _full_svd(func: Callable, A: Any, U0: Any, S0: Any, V0: Any) -> tuple[Any, Any, Any]:
    k = S0.shape[-1]
    U, S, V = _svd(func, A, U0[..., :k], S0, V0[..., :k])
    return _completed(U, U0), S, _completed(V, V0)


def linalg_svd(func: Callable, A: Any, full_matrices: bool = True, **options: Any) -> Any:
    plain = value(func, (A, full_matrices), options)
    U, S, V = _full_svd(func, A, plain[0], plain[1], torch.adjoint(plain[2]))
    return like(plain, (U, S, torch.adjoint(V)))


def svd(func: Callable, input: Any, some: bool = True, compute_uv: bool = True) -> Any:
    plain = value(func, (input, some, compute_uv), {})
    if compute_uv:
        return like(plain, _full_svd(func, input, *plain))
    S = _with_value(torch.linalg.svdvals(input), plain[1])
    return like(plain, (constant_like(plain[0], S), S, constant_like(plain[2], S)))


def svdvals(func: Callable, A: Any, **options: Any) -> Any:
    y0 = value(func, (A,), options)
    U0, S0, VH0 = torch.linalg.svd(value_of(A), full_matrices=False)
    _, S, _ = _svd(func, A, U0, S0, torch.adjoint(VH0), vectors=False)
    return wrap((y0, *S._blocks[1:]), S._structure, S._level)


# --- built from them ------------------------------------------------------------------------------


def _has_full_rank(A: Any, rtol: Any = None, atol: Any = None) -> bool:
    plain = innermost(A).detach()
    rank = torch.linalg.matrix_rank(plain, atol=atol, rtol=rtol)
    return bool((rank == min(plain.shape[-2:])).all())


def _pinv_of_full_rank(A: Any) -> Any:
    """``A = Q R``: ``A^+ = R^{-1} Q^H``; a wide matrix by its adjoint."""
    if A.shape[-2] < A.shape[-1]:
        return torch.adjoint(_pinv_of_full_rank(torch.adjoint(A)))
    Q, R = torch.linalg.qr(A)
    return torch.linalg.solve_triangular(R, torch.adjoint(Q), upper=True)


def _pinv_blocks(s: Structure, A: Blocks, P0: Any) -> list[Any]:
    """``P = A^+`` from its value, where the rank is constant.

    ``P' = -P A' P + P P^H A'^H E + F A'^H P^H P`` with ``E = 1 - A P``, ``F = 1 - P A``.

    Source: Golub & Pereyra, *The differentiation of pseudo-inverses and nonlinear least squares
    problems whose variables separate* (1973).
    """
    AH = [adjoint(b) for b in A]
    P, PH = [P0], [adjoint(P0)]
    E = [_eye(A[0], -2) - torch.matmul(A[0], P0)]
    F = [_eye(A[0], -1) - torch.matmul(P0, A[0])]
    right, left = [torch.matmul(P0, PH[0])], [torch.matmul(PH[0], P0)]
    # the products with A', which have degree >= 1 where A' stands for the sum of i A_i
    slope = [series.times(b, i) for i, b in enumerate(A)]
    slopeH = [series.times(b, i) for i, b in enumerate(AH)]
    PA: list[Any] = [None]
    rightA: list[Any] = [None]
    Aleft: list[Any] = [None]
    for k in range(1, len(A)):
        inside, through = range(k), range(1, k + 1)
        PA.append(convolve(s, k, P, slope, inside))
        rightA.append(convolve(s, k, right, slopeH, inside))
        Aleft.append(convolve(s, k, slopeH, left, through))
        rest = series.total((convolve(s, k, rightA, E, through), convolve(s, k, F, Aleft, inside)))
        rest = minus(rest, convolve(s, k, PA, P, through))
        P.append(series.times(rest, 1, k))
        PH.append(adjoint(P[k]))
        every = range(k + 1)
        E.append(minus(None, convolve(s, k, A, P, every)))
        F.append(minus(None, convolve(s, k, P, A, every)))
        right.append(convolve(s, k, P, PH, every))
        left.append(convolve(s, k, PH, P, every))
    return P


def _eye(like: Any, axis: int) -> torch.Tensor:
    return torch.eye(like.shape[axis], dtype=like.dtype, device=like.device)


def _rank_lasts(s: Structure, A: Blocks, P0: Any) -> list[torch.Tensor]:
    """For each degree, which matrices have kept the rank of ``A_0 = P_0^+``.

    So they do while ``A`` has no part outside of what it is on the row space of ``A_0``, seen from
    outside of its column space: ``E (D - D B D) F = 0`` with ``E = 1 - A_0 P_0``,
    ``F = 1 - P_0 A_0``, ``D = A - A_0`` and ``B = P_0 - P_0 D B``.
    """
    E = _eye(A[0], -2) - torch.matmul(A[0], P0)
    F = _eye(A[0], -1) - torch.matmul(P0, A[0])
    B: list[Any] = [P0]
    DB: list[Any] = [None]
    tolerance = torch.finfo(A[0].dtype).eps ** 0.5
    size = _size(s, 0, A[0])
    result = [_size(s, 0, torch.matmul(E, A[0])) <= tolerance * size]
    for k in range(1, len(A)):
        DB.append(convolve(s, k, A, B, range(1, k + 1)))
        B.append(minus(None, times(P0, DB[k])))
        inside = range(1, k)
        part = minus(A[k], convolve(s, k, DB, A, inside))
        scale = _size(s, k, A[k]) + sum(
            _size(s, i, DB[i]) * _size(s, k - i, A[k - i]) for i in inside
        )
        outside = times(times(E, part), F)
        result.append(_size(s, k, outside) <= tolerance * scale + 0 * size)
    return result


def _size(s: Structure, k: int, block: Any) -> Any:
    """The norm of each matrix of the batch, all directions and inner levels together."""
    if block is None:
        return 0.0
    if isinstance(block, TaylorTensor):
        parts = enumerate(block.coeffs)
        norm = sum(_size(block._structure, j, c) for j, c in parts)
    else:
        norm = torch.linalg.matrix_norm(block.detach())
    return torch.sum(norm, 0) if s.leads(k) else norm


def _pinv_of_constant_rank(func: Callable, A: Any, P0: Any) -> Any:
    """A change of rank is a jump of the pseudo-inverse, and no series."""
    (a,), s, level = frame(func, A)
    P = _pinv_blocks(s, a, P0)
    for k, lasts in enumerate(_rank_lasts(s, a, P0)):
        if is_traced(lasts):
            # a trace cannot raise
            lasts = torch.reshape(lasts, (*lasts.shape, 1, 1))
            P[k] = None if P[k] is None else torch.where(lasts, P[k], math.nan)
        elif not bool(lasts.all()):
            raise UnsupportedFunction(
                f"{name_of(func)} of a TaylorTensor: "
                + (
                    "the tolerance drops singular values that are not zero"
                    if k == 0
                    else f"the matrix does not keep the rank of its value (at degree {k})"
                )
                + ", and the pseudo-inverse jumps where the rank changes. Use a matrix of full or "
                "constant rank, or torch.linalg.solve of A^H A + eps"
            )
    return wrap(P, s, level)


def pinv(
    func: Callable,
    A: Any,
    rcond: Any = None,
    hermitian: bool = False,
    *,
    atol: Any = None,
    rtol: Any = None,
) -> Any:
    given = {"rcond": rcond, "atol": atol, "rtol": rtol}
    given = {name: x for name, x in given.items() if x is not None}
    P0 = value(func, (A,), given | ({"hermitian": True} if hermitian else {}))
    if hermitian:
        A = torch.tril(A) + torch.adjoint(torch.tril(A, -1))
    if not is_traced(A) and _has_full_rank(A, rcond if rtol is None else rtol, atol):
        return _with_value(_pinv_of_full_rank(A), P0)
    return _pinv_of_constant_rank(func, A, P0)


def lstsq(func: Callable, input: Any, b: Any, rcond: Any = None, *, driver: Any = None) -> Any:
    """Without full rank the solution of least norm, ``A^+ b``; a trace takes full rank for granted,
    as the driver "gels" does."""
    plain = value(func, (input, b, rcond), {"driver": driver})
    vector = b.ndim == 1 or (b.ndim == input.ndim - 1 and tuple(b.shape) == tuple(input.shape[:-1]))
    matrix = torch.unsqueeze(b, -1) if vector else b
    if not is_traced(input) and not _has_full_rank(input, rcond):
        inverse = torch.linalg.pinv(value_of(input), rtol=rcond)
        if isinstance(input, TaylorTensor):
            inverse = _pinv_of_constant_rank(func, input, inverse)
        x = torch.matmul(inverse, matrix)
    elif input.shape[-2] < input.shape[-1]:
        Q, R = torch.linalg.qr(torch.adjoint(input))
        y = torch.linalg.solve_triangular(torch.adjoint(R), matrix, upper=False)
        x = torch.matmul(Q, y)
    else:
        Q, R = torch.linalg.qr(input)
        y = torch.matmul(torch.adjoint(Q), matrix)
        x = torch.linalg.solve_triangular(R, y, upper=True)
    x = _with_value(x, torch.unsqueeze(plain[0], -1) if vector else plain[0])
    residuals = plain[1]
    if residuals.numel():
        error = torch.abs(torch.matmul(input, x) - matrix)
        residuals = torch.sum(error * error, -2)
        residuals = torch.reshape(residuals, plain[1].shape)
    else:
        residuals = constant_like(residuals, x)
    solution = torch.squeeze(x, -1) if vector else x
    return like(plain, (solution, residuals, plain[2], constant_like(plain[3], x)))


def lobpcg(
    func: Callable,
    A: Any,
    k: int | None = None,
    B: Any = None,
    X: Any = None,
    n: int | None = None,
    iK: Any = None,
    niter: int | None = None,
    tol: float | None = None,
    largest: bool | None = None,
    method: str | None = None,
    tracker: Any = None,
    ortho_iparams: Any = None,
    ortho_fparams: Any = None,
    ortho_bparams: Any = None,
) -> Any:
    """The value by the iteration; its pairs belong to ``eigh``, of ``L^{-1} A L^{-H}`` if there is
    a ``B = L L^H``. Where the iteration started does not matter."""
    if is_traced(A):
        raise UnsupportedFunction(
            f"{name_of(func)} of a TaylorTensor stops at a time that depends on the data, which "
            "torch.compile and vmap do not trace: call it outside of them"
        )
    if isinstance(X, TaylorTensor) or isinstance(iK, TaylorTensor):
        raise UnsupportedFunction(
            f"{name_of(func)} does not differentiate the start X or the preconditioner iK, on "
            "which the eigenvectors do not depend: pass x.value there"
        )
    options = (ortho_iparams, ortho_fparams, ortho_bparams)
    given = (A, k, B, X, n, iK, niter, tol, largest, method, tracker, *options)
    E0, X0 = value(func, given, {})
    A, B = (x.to_dense() if _is_sparse(x) else x for x in (A, B))
    if B is None:
        w, V = torch.linalg.eigh(A)
    else:
        L = torch.linalg.cholesky(B)
        solve_triangular = torch.linalg.solve_triangular
        A = torch.adjoint(solve_triangular(L, torch.adjoint(A), upper=False))
        w, V = torch.linalg.eigh(solve_triangular(L, A, upper=False))
        V = solve_triangular(torch.adjoint(L), V, upper=True)
    count = E0.shape[-1]
    if largest is None or largest:
        w, V = torch.flip(w, (-1,)), torch.flip(V, (-1,))
    w, V = w[..., :count], V[..., :count]
    sign = torch.sgn(torch.sum(innermost(V) * innermost(X0), -2, keepdim=True)).detach()
    return _with_value(w, E0), _with_value(V * sign, X0)


def _is_sparse(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.layout is not torch.strided


def svd_lowrank(
    func: Callable, A: Any, q: int | None = 6, niter: int | None = 2, M: Any = None
) -> tuple[Any, Any, Any]:
    """The singular vectors of ``Q^H A``, where ``Q`` spans what ``A`` makes of random vectors.

    They are drawn once, as torch draws them, for all coefficients. Source: Halko, Martinsson &
    Tropp, *Finding structure with randomness* (2011), algorithms 4.4 and 5.1.
    """
    A, M = (x.to_dense() if _is_sparse(x) else x for x in (A, M))
    if M is not None:
        A = A - M
    if A.shape[-2] < A.shape[-1]:
        U, S, V = svd_lowrank(func, torch.adjoint(A), q, niter)
        return V, S, U
    count = 6 if q is None else q
    start = torch.randn(A.shape[-1], count, dtype=A.dtype, device=A.device)
    Q = torch.linalg.qr(torch.matmul(A, start))[0]
    for _ in range(2 if niter is None else niter):
        Q = torch.linalg.qr(torch.matmul(torch.adjoint(A), Q))[0]
        Q = torch.linalg.qr(torch.matmul(A, Q))[0]
    B = torch.matmul(torch.adjoint(Q), A)
    U, S, VH = torch.linalg.svd(B, full_matrices=False)
    return torch.matmul(Q, U), S, torch.adjoint(VH)


def pca_lowrank(
    func: Callable, A: Any, q: int | None = None, center: bool = True, niter: int = 2
) -> tuple[Any, Any, Any]:
    most = min(A.shape[-2:])
    count = min(6, most) if q is None else q
    if not 0 <= count <= most:
        raise ValueError(f"{name_of(func)}: q must be between 0 and {most}, got {count}")
    return svd_lowrank(func, A - torch.mean(A, -2, keepdim=True) if center else A, count, niter)


def cond(func: Callable, A: Any, p: Any = None) -> Any:
    if p in (None, 2, -2):
        S = torch.linalg.svdvals(A)
        largest, smallest = S[..., 0], S[..., -1]
        return smallest / largest if p == -2 else largest / smallest
    if p == "nuc":
        S = torch.linalg.svdvals(A)
        return torch.sum(S, -1) * torch.sum(1 / S, -1)
    norm = torch.linalg.matrix_norm
    return norm(A, p) * norm(torch.linalg.inv(A), p)


def vander(func: Callable, x: Any, *, N: int | None = None) -> Any:
    """Column after column, so that zeros among the entries are right."""
    x = torch.reshape(x, (1,)) if x.ndim == 0 else x
    count = x.shape[-1] if N is None else N
    columns = [torch.ones_like(x)]
    while len(columns) < count:
        columns.append(columns[-1] * x)
    return torch.stack(columns[:count], -1)


def householder_product(func: Callable, input: Any, tau: Any) -> Any:
    """The first columns of ``H_1 H_2 ...``, applied to the identity from the last to the first."""
    unit = torch.eye(*input.shape[-2:], dtype=input.dtype, device=input.device)
    return _reflected(input, tau, torch.zeros_like(input) + unit)


def ormqr(
    func: Callable, input: Any, tau: Any, other: Any, left: bool = True, transpose: bool = False
) -> Any:
    if left:
        return _reflected(input, tau, other, transpose)
    return torch.adjoint(_reflected(input, tau, torch.adjoint(other), not transpose))


def _reflected(input: Any, tau: Any, result: Any, conjugate: bool = False) -> Any:
    """``H_1 H_2 ... X`` with ``H_i = 1 - tau_i v_i v_i^H``, or the product's adjoint times X."""
    m, n = input.shape[-2:]
    v = torch.tril(input, -1) + torch.eye(m, n, dtype=input.dtype, device=input.device)
    count = tau.shape[-1]
    for i in range(count) if conjugate else range(count - 1, -1, -1):
        column = v[..., :, i : i + 1]
        size = torch.unsqueeze(tau[..., i : i + 1], -1)
        if conjugate and size.is_complex():
            size = torch.conj(size)
        row = torch.matmul(torch.adjoint(column), result)
        result = result - size * torch.matmul(column, row)
    return result


_EXP_DEGREE = 14
_EXP_RADIUS = 0.5
_EXP_HALVINGS = 11


def matrix_exp(func: Callable, A: Any) -> Any:
    """Scaling and squaring of the Taylor polynomial, in powers of the fourth power.

    Of each coefficient the polynomial keeps 14 terms after the first: at norm 1/2 the next one is
    ``2**-15 / 15!``, below rounding.
    A trace cannot ask for the norm: there every matrix is squared as often as its own norm asks,
    at the cost of the most that is provided for.
    """
    x, halvings = A, 0
    size = torch.sum(torch.abs(innermost(A).detach()), -1)
    if size.numel():
        size = torch.amax(size, -1, keepdim=True).unsqueeze(-1)
        wanted = torch.ceil(torch.log2(size / _EXP_RADIUS)).clamp(min=0)
        if is_traced(A):
            # beyond, NaN rather than a polynomial outside of its radius
            scale = torch.where(wanted <= _EXP_HALVINGS, torch.exp2(-wanted), math.nan)
            x, halvings = A * scale, _EXP_HALVINGS
        else:
            most = float(wanted.max())
            halvings = int(most) if math.isfinite(most) else 0
            x = A / 2**halvings if halvings else A
    result = _exp_polynomial(x, _EXP_DEGREE + _orders(x))
    for n in range(halvings):
        squared = torch.matmul(result, result)
        if is_traced(A):
            result = torch.where(n < wanted, squared, result)
        else:
            result = squared
    return result


def _orders(x: Any) -> int:
    """The orders of all levels together."""
    return x.order + _orders(x.value) if isinstance(x, TaylorTensor) else 0


def _exp_polynomial(x: Any, degree: int) -> Any:
    eye = identity(x)
    second = torch.matmul(x, x)
    fourth = torch.matmul(second, second)
    powers = [x, second, torch.matmul(second, x)]
    result: Any = None
    for start in range(degree // 4 * 4, -1, -4):
        part = eye / float(math.factorial(start))
        for j, power in enumerate(powers, 1):
            part = part + power / float(math.factorial(start + j))
        result = part if result is None else torch.matmul(fourth, result) + part
    return result


# --- the tables -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Regular(T):
    """A matrix with well separated singular values and eigenvalues."""

    def draw(self, generator: torch.Generator) -> torch.Tensor:
        return super().draw(generator) + _rising(self.shape)


@dataclasses.dataclass(frozen=True)
class Definite(T):
    """A symmetric positive definite matrix with well separated eigenvalues."""

    def draw(self, generator: torch.Generator) -> torch.Tensor:
        x = super().draw(generator)
        return (x + x.mT) / 2 + _rising(self.shape)


def _rising(shape: tuple[int, ...]) -> torch.Tensor:
    """1, 2, 3 ... on the diagonal."""
    *_, m, n = shape
    return torch.eye(m, n, dtype=torch.float64) * torch.arange(1, n + 1, dtype=torch.float64)


R3, R23, R4 = Regular((3, 3)), Regular((2, 3, 3)), Regular((4, 4))
D3, D23 = Definite((3, 3)), Definite((2, 3, 3))
TALL, WIDE, TALLS = Regular((4, 2)), Regular((2, 4)), Regular((2, 4, 3))

# near 2 / |v|^2, which makes reflections; torch divides by 1 - tau |v|^2
SCALES = t(3, low=1.0, high=1.4)
PIVOTS = torch.tensor([2, 3, 3], dtype=torch.int32)
PIVOTS_OF_TWO = torch.tensor([2, 2], dtype=torch.int32)

SYSTEMS: dict[str, tuple[Callable, str, list]] = {
    "inverse linalg.inv": (inv, "A X = 1", [call(R3), call(R23)]),
    "linalg.inv_ex": (inv, "A X = 1", [call(R23)]),
    "linalg.solve": (
        solve,
        "A X = B",
        [
            call(R3, t(3)),
            call(R23, t(2, 3, 2)),
            call(R3, t(2, 3, 2)),
            call(R23, t(3, 2)),
            call(R23, t(2, 3)),
            call(R3, t(2, 3), left=False),
        ],
    ),
    "linalg.solve_ex": (solve, "A X = B", [call(R23, t(2, 3, 2))]),
    "linalg.solve_triangular": (
        solve_triangular,
        "A X = B",
        [
            call(R3, t(3, 2), upper=True),
            call(R23, t(3, 2), upper=False),
            call(R3, t(2, 2, 3), upper=False, left=False),
            call(R3, t(3, 2), upper=True, unitriangular=True),
        ],
    ),
    "triangular_solve": (
        triangular_solve,
        "A X = input",
        [
            call(t(3, 2), R3),
            call(t(2, 3, 2), R23, False, True),
            call(t(3, 2), R3, unitriangular=True),
        ],
    ),
    "cholesky_solve": (
        cholesky_solve,
        "L L^H X = input",
        [call(t(3, 2), R3), call(t(2, 3, 2), R23, True)],
    ),
    "cholesky_inverse": (cholesky_inverse, "L L^H X = 1", [call(R3), call(R23, True)]),
    "linalg.tensorsolve": (
        tensorsolve,
        "A X = B",
        [call(Regular((6, 6)), t(6)), call(t(2, 3, 6, low=-1, high=1), t(2, 3))],
    ),
    "linalg.tensorinv": (tensorinv, "A X = 1", [call(t(2, 2, 4, low=-1, high=1))]),
}
DETERMINANTS: dict[str, tuple[Callable, str, list]] = {
    "det linalg.det": (det, "y' = y tr(A^-1 A')", [call(R3), call(R23), call(R4), call(t(2, 2))]),
    "slogdet": (slogdet, "y' = tr(A^-1 A')", [call(R3), call(R23)]),
    "linalg.slogdet": (slogdet, "y' = tr(A^-1 A')", [call(R23)]),
    "logdet": (logdet, "y' = tr(A^-1 A')", [call(R3), call(R23)]),
}
FACTORS: dict[str, tuple[Callable, str, list]] = {
    "cholesky": (cholesky, "L L^H = A", [call(D3), call(D23, True)]),
    "linalg.cholesky": (cholesky, "L L^H = A", [call(D3), call(D23), call(D3, upper=True)]),
    "linalg.cholesky_ex": (cholesky, "L L^H = A", [call(D23)]),
    "linalg.lu": (lu, "P L U = A", [call(R3), call(R23), call(TALL), call(WIDE)]),
    "linalg.lu_factor": (lu_factor, "P L U = A", [call(R3), call(R23), call(TALL), call(WIDE)]),
    "functional.lu Tensor.lu": (lu_factor, "P L U = A", [call(R3), call(R23, get_infos=True)]),
    "linalg.lu_factor_ex": (lu_factor, "P L U = A", [call(R23)]),
    "linalg.qr": (
        linalg_qr,
        "Q R = A",
        [call(R3), call(TALLS), call(WIDE), call(R23, mode="complete")],
    ),
    "qr": (qr, "Q R = A", [call(TALL), call(WIDE)]),
    "geqrf": (geqrf, "Q R = A", [call(TALL), call(WIDE), call(R23)]),
    "linalg.ldl_factor": (ldl_factor, "L D L^H = A", [call(D3), call(D23)]),
    "linalg.ldl_factor_ex": (ldl_factor, "L D L^H = A", [call(D23, hermitian=True)]),
    "linalg.eigh": (eigh, "A V = V w", [call(D3), call(D23), call(D3, "U")]),
    "linalg.eigvalsh": (eigh, "A V = V w", [call(D3), call(D23)]),
    # real eigenvalues: where they are complex, the tests' weights see the phases of the vectors,
    # which torch's gradient refuses
    "linalg.eig": (eig, "A V = V w", [call(R3), call(R23)]),
    "linalg.eigvals": (eig, "A V = V w", [call(R3), call(R23)]),
    "linalg.svd": (
        linalg_svd,
        "A V = U S",
        [call(R3), call(TALLS, full_matrices=False), call(WIDE, False)],
    ),
    "svd": (svd, "A V = U S", [call(TALLS), call(WIDE)]),
    "lobpcg": (lobpcg, "A X = B X E", []),
    "linalg.svdvals": (svdvals, "A V = U S", [call(R23), call(TALLS), call(WIDE)]),
}
BUILT: dict[str, tuple[Callable, str, list]] = {
    "linalg.lu_solve": (
        linalg_lu_solve,
        "torch code",
        [
            call(R3, PIVOTS, t(3, 2)),
            call(R3, PIVOTS, t(3, 2), adjoint=True),
            call(R3, PIVOTS, t(2, 3), left=False),
        ],
    ),
    "linalg.ldl_solve": (
        ldl_solve,
        "torch code",
        [call(R23, torch.tensor([[1, 2, 3]] * 2, dtype=torch.int32), t(2, 3, 2))],
    ),
    "lu_solve": (lu_solve, "torch code", [call(t(3, 2), R3, PIVOTS)]),
    "lu_unpack": (
        lu_unpack,
        "torch code",
        [call(R3, PIVOTS), call(TALL, PIVOTS_OF_TWO), call(WIDE, PIVOTS_OF_TWO)],
    ),
    "ormqr": (
        ormqr,
        "torch code",
        [call(t(4, 3), SCALES, t(4, 2)), call(t(4, 3), SCALES, t(2, 4), False, True)],
    ),
    "linalg.pinv": (pinv, "torch code", [call(R3), call(TALLS), call(WIDE)]),
    "pinverse": (pinv, "torch code", [call(TALL)]),
    "linalg.lstsq": (
        lstsq,
        "torch code",
        [call(TALLS, t(2, 4, 2)), call(WIDE, t(2, 3))],
    ),
    "functional.svd_lowrank": (svd_lowrank, "torch code", []),
    "functional.pca_lowrank": (pca_lowrank, "torch code", []),
    "linalg.cond": (
        cond,
        "torch code",
        [call(R23), call(R3, -2), call(R3, "fro"), call(R3, "nuc"), call(R3, 1)],
    ),
    "linalg.vander": (vander, "torch code", [call(t(2, 3)), call(t(3), N=5)]),
    "linalg.householder_product orgqr": (
        householder_product,
        "torch code",
        [call(t(4, 3), SCALES), call(t(2, 4, 3), t(2, 2, low=1.0, high=1.4))],
    ),
    "matrix_exp linalg.matrix_exp": (matrix_exp, "torch code", [call(R3), call(t(2, 3, 3))]),
}
for kind, table in (
    ("equation", SYSTEMS),
    ("equation", DETERMINANTS),
    ("equation", FACTORS),
    ("composite", BUILT),
):
    for names, (body, says, samples) in table.items():
        add_rule(names, kind, says, rule(body), samples)
