"""Factorisations: Cholesky, LU, QR and LDL, solved degree by degree from what defines them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch

from ...algebra import series
from ...algebra.structures import Structure
from ...engine.frames import frame_of
from ...engine.kinds import value
from ...engine.registry import UnsupportedFunction
from ...engine.tensor import innermost
from .blocks import (
    Blocks,
    adjoint,
    convolve_matrices,
    framed,
    hermitian,
    identity,
    is_traced,
    like,
    matmul,
    minus,
    real_diagonal,
    value_of,
)


def cholesky(func: Callable, A: Any, upper: bool = False, *, check_errors: bool = False) -> Any:
    """``L L^H = A``: with ``M = L_0^{-1} (A_k - sum_{0<i<k} L_i L_{k-i}^H) L_0^{-H}``, Hermitian,
    ``L_k`` is ``L_0`` times the strict lower triangle and half the diagonal of ``M``."""
    options = {"upper": upper} | ({"check_errors": True} if check_errors else {})
    plain = value(func, (A,), options)
    many = isinstance(plain, tuple)
    y0 = plain[0] if many else plain
    (a,), frame = framed(func, A)
    s = frame.structure
    a = hermitian(a)
    L = [adjoint(y0) if upper else y0]
    LH = [adjoint(L[0])]
    eye = identity(a[0])
    inverse = torch.linalg.solve_triangular(L[0], eye, upper=False)
    half = torch.tril(torch.ones_like(eye)) - eye / 2
    for k in range(1, len(a)):
        rest = minus(a[k], convolve_matrices(s, k, L, LH, range(1, k)))
        middle = matmul(matmul(inverse, rest), adjoint(inverse))
        L.append(None if middle is None else torch.matmul(L[0], middle * half))
        LH.append(adjoint(L[k]))
    result = frame.wrap([y0, *(LH if upper else L)[1:]])
    return like(plain, (result, *plain[1:])) if many else result


def _lu_blocks(s: Structure, A: Blocks, L0: Any, U0: Any) -> tuple[list[Any], list[Any]]:
    """``L U = A`` without pivoting: ``M = L_0^{-1} (A_k - sum_{0<i<k} L_i U_{k-i}) U_0^{-1}``
    splits into ``L_0^{-1} L_k``, strictly lower, and ``U_k U_0^{-1}``, upper triangular."""
    L, U = [L0], [U0]
    for k in range(1, len(A)):
        rest = minus(A[k], convolve_matrices(s, k, L, U, range(1, k)))
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
    (a,), frame = framed(func, A[..., :k, :k])
    s = frame.structure
    L: Any
    U: Any
    L, U = (frame.wrap(x) for x in _lu_blocks(s, a, L0[..., :k, :], U0[..., :, :k]))
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
    return like(plain, (frame_of(L).constant(plain[0]), L, U))


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
    P = frame_of(LU_data).constant(plain[0])
    if not unpack_data:
        return like(plain, (P, *(frame_of(LU_data).constant(x) for x in plain[1:])))
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
        C = minus(A[k], convolve_matrices(s, k, Q, R, range(1, k)))
        H = convolve_matrices(s, k, QH, Q, range(1, k))
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
        Q = torch.cat([Q, with_value(extra, plain[0][..., n:])], -1)
        R = torch.cat([R, R.new_zeros((*R.shape[:-2], m - n, n))], -2)
    return like(plain, (plain[0] if mode == "r" else Q, R))


def _qr(func: Callable, A: Any, Q0: Any, R0: Any) -> tuple[Any, Any]:
    """A wide matrix is ``Q [R, Q^H A']``: its first square part decides."""
    m, n = A.shape[-2:]
    k = min(m, n)
    (a,), frame = framed(func, A[..., :k])
    s = frame.structure
    Q: Any
    R: Any
    Q, R = (frame.wrap(x) for x in _qr_blocks(s, a, Q0, R0[..., :k]))
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
    return like(plain, (with_value(y, y0) for y0, y in results))


def with_value(y: Any, y0: Any) -> Any:
    """The series whose value is torch's own."""
    return frame_of(y).wrap((y0, *y._blocks[1:]))


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
    (a,), frame = framed(func, A)
    s = frame.structure
    layout = _Ldl.of(a[0], plain[1], hermitian)
    transpose, P, PT = layout.transpose, layout.P, _transpose(layout.P)
    L0, D0 = layout.unpack(plain[0])
    inverse = torch.linalg.solve_triangular(L0, identity(L0), upper=False, unitriangular=True)
    inverse_D = torch.linalg.inv(D0)
    L, D, LT, LD = [L0], [D0], [transpose(L0)], [torch.matmul(L0, D0)]
    for k in range(1, len(a)):
        inside = range(1, k)
        known = convolve_matrices(s, k, L, D, inside)
        rest = None if a[k] is None else matmul(matmul(PT, (a[k] + transpose(a[k])) / 2), P)
        rest = minus(rest, convolve_matrices(s, k, LD, LT, inside))
        M = matmul(matmul(inverse, minus(rest, matmul(known, LT[0]))), transpose(inverse))
        D.append(None if M is None else M * layout.blocks)
        L.append(None if M is None else matmul(matmul(L0, M * layout.lower()), inverse_D))
        LT.append(None if M is None else transpose(L[k]))
        LD.append(series.total((known, matmul(L[k], D0), matmul(L0, D[k]))))
    packed = layout.pack(frame.wrap(L), frame.wrap(D))
    return like(plain, (with_value(packed, plain[0]), *plain[1:]))


def ldl_solve(func: Callable, LD: Any, pivots: Any, B: Any, *, hermitian: bool = False) -> Any:
    layout = _Ldl.of(innermost(LD), pivots, hermitian)
    L, D = layout.unpack(LD)
    triangular = torch.linalg.solve_triangular
    y = torch.matmul(_transpose(layout.P), B)
    y = torch.linalg.solve(D, triangular(L, y, upper=False, unitriangular=True))
    y = triangular(layout.transpose(L), y, upper=True, unitriangular=True)
    return torch.matmul(layout.P, y)
