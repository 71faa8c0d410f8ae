"""Eigenvalues and singular values, with their vectors where these are unique."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ...algebra import series
from ...algebra.structures import Structure
from ...engine.frames import frame_of
from ...engine.kinds import value
from ...engine.tensor import wrap
from .blocks import (
    Blocks,
    adjoint,
    as_row,
    convolve_matrices,
    framed,
    hermitian,
    identity,
    like,
    matmul,
    minus,
    real_diagonal,
    rows_to_vectors,
    scaled,
    value_of,
)
from .factors import with_value


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
    M = [None] + [matmul(matmul(inverse, b), V0) for b in A[1:]]
    w: list[Any] = [torch.unsqueeze(w0, -2)]
    W: list[Any] = [eye]
    V: list[Any] = [V0]
    VH: list[Any] = [adjoint(V0)]
    for k in range(1, order + 1):
        rest = convolve_matrices(s, k, M, W, range(1, k + 1))
        rest = minus(rest, scaled(s, k, W, w, range(1, k)))
        w.append(as_row(rest))
        if k == order and not vectors:
            break
        off = None if rest is None else rest * (1 - eye) / gaps
        # the norms: V_0^H V_k + V_k^H V_0 + sum_{0<i<k} V_i^H V_{k-i} vanishes on the diagonal
        part = matmul(V0, off)
        inner = convolve_matrices(s, k, VH, V, range(1, k))
        size = series.total((None if part is None else 2 * matmul(VH[0], part), inner))
        turn = None if size is None else real_diagonal(size) / -2
        W.append(series.total((off, turn)))
        V.append(series.total((part, matmul(V0, turn))))
        VH.append(adjoint(V[k]))
    return w, V


def eigh(func: Callable, A: Any, UPLO: str = "L") -> Any:
    plain = value(func, (A, UPLO), {})
    (a,), frame = framed(func, A)
    s = frame.structure
    both = isinstance(plain, tuple)
    w0, V0 = plain if both else torch.linalg.eigh(a[0], UPLO)
    w, V = _eigen_blocks(s, hermitian(a), w0.to(V0.dtype), V0, torch.adjoint(V0), both)
    values = [b if b is None or not b.is_complex() else b.real for b in rows_to_vectors(w)]
    values[0] = w0 if both else plain
    if not both:
        return frame.wrap(values)
    return like(plain, (frame.wrap(values), frame.wrap(V)))


def eig(func: Callable, A: Any) -> Any:
    """The phase of each eigenvector is kept; only quantities free of it are determined."""
    plain = value(func, (A,), {})
    (a,), frame = framed(func, A)
    s = frame.structure
    both = isinstance(plain, tuple)
    w0, V0 = plain if both else torch.linalg.eig(a[0])
    a = [a[0]] + [None if b is None else b.to(V0.dtype) for b in a[1:]]
    w, V = _eigen_blocks(s, a, w0, V0, torch.linalg.inv(V0), both)
    values = rows_to_vectors(w)
    values[0] = w0 if both else plain
    if not both:
        return frame.wrap(values)
    return like(plain, (frame.wrap(values), frame.wrap(V)))


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
    AV = [None] + [matmul(b, V0) for b in A[1:]]
    P = [None] + [matmul(UH0, b) for b in AV[1:]]
    square = U0.shape[-2] == U0.shape[-1]
    Q = [None if square else minus(b, matmul(U0, p)) for b, p in zip(AV, P, strict=True)]
    PH, QH = [adjoint(b) for b in P], [adjoint(b) for b in Q]
    S: list[Any] = [row]
    X: list[Any] = [eye]
    Z: list[Any] = [eye]
    N: list[Any] = [None]
    XH, ZH, NH = [eye], [eye], [None]
    for k in range(1, order + 1):
        inside = range(1, k)
        E = minus(convolve_matrices(s, k, P, Z, range(1, k + 1)), scaled(s, k, X, S, inside))
        F = series.total(
            (
                convolve_matrices(s, k, PH, X, range(1, k + 1)),
                convolve_matrices(s, k, QH, N, inside),
            )
        )
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
        turned = convolve_matrices(s, k, ZH, Z, inside)
        Zk = minus(Zk, None if turned is None else real_diagonal(turned) / 2)
        turned = series.total(
            (convolve_matrices(s, k, XH, X, inside), convolve_matrices(s, k, NH, N, inside))
        )
        Xk = minus(Xk, None if turned is None else real_diagonal(turned) / 2)
        X.append(Xk)
        Z.append(Zk)
        out = minus(convolve_matrices(s, k, Q, Z, range(1, k + 1)), scaled(s, k, N, S, inside))
        N.append(None if out is None else out / divisor)
        XH.append(adjoint(Xk))
        ZH.append(adjoint(Zk))
        NH.append(adjoint(N[k]))
    U = [series.total((matmul(U0, x), n)) for x, n in zip(X, N, strict=True)]
    V = [matmul(V0, z) for z in Z]
    return U, S, V


def _svd(func: Callable, A: Any, U0: Any, S0: Any, V0: Any, vectors: bool = True) -> tuple:
    """The series of ``U``, ``S`` and ``V``; a wide matrix by its adjoint."""
    (a,), frame = framed(func, A)
    s = frame.structure
    S0 = S0.to(V0.dtype)
    if A.shape[-2] >= A.shape[-1]:
        U, S, V = _svd_blocks(s, a, U0, S0, V0, vectors)
    else:
        V, S, U = _svd_blocks(s, [adjoint(b) for b in a], V0, S0, U0, vectors)
    values = [b if b is None or not b.is_complex() else b.real for b in rows_to_vectors(S)]
    if not vectors:
        return None, frame.wrap(values), None
    return frame.wrap((U0, *U[1:])), frame.wrap(values), frame.wrap((V0, *V[1:]))


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
        rest = minus(g[degree], convolve_matrices(s, degree, root, root, range(1, degree)))
        root.append(None if rest is None else rest / 2)
    closest = torch.linalg.solve(wrap(root, s, G._level), Z, left=False)
    return torch.cat([U, with_value(closest, extra)], -1)


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
    S = with_value(torch.linalg.svdvals(input), plain[1])
    return like(plain, (frame_of(S).constant(plain[0]), S, frame_of(S).constant(plain[2])))


def svdvals(func: Callable, A: Any, **options: Any) -> Any:
    y0 = value(func, (A,), options)
    U0, S0, VH0 = torch.linalg.svd(value_of(A), full_matrices=False)
    _, S, _ = _svd(func, A, U0, S0, torch.adjoint(VH0), vectors=False)
    return frame_of(S).wrap((y0, *S._blocks[1:]))
