"""The square root of a positive definite matrix, and the polar decomposition, by their equations.

Both lead to ``H_0 X + X H_0 = R`` at every degree, with the positive definite factor of the value:
in its eigenvectors that is one division. Like torch's own second derivatives, gradients of the
coefficients are NaN at repeated eigenvalues; the coefficients themselves are not.

Source: Higham, *Functions of Matrices* (2008), chapters 6 and 8.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ...algebra import series
from ...engine.kinds import value
from .blocks import adjoint, convolve_matrices, framed, hermitian, like, matmul, minus


def _sylvester(H0: Any) -> Callable:
    """What solves ``H_0 X + X H_0 = R`` for ``X``."""
    w, V = torch.linalg.eigh(H0)
    sums = torch.unsqueeze(w, -1) + torch.unsqueeze(w, -2)
    VH = torch.adjoint(V)

    def solve(R: Any) -> Any:
        if R is None:
            return None
        inner = torch.matmul(torch.matmul(VH, R), V) / sums
        return torch.matmul(torch.matmul(V, inner), VH)

    return solve


def matrix_root(func: Callable, A: Any) -> Any:
    """``X X = A``: ``X_0 X_k + X_k X_0 = A_k - sum_{0<i<k} X_i X_{k-i}``."""
    y0 = value(func, (A,), {})
    (a,), frame = framed(func, A)
    X: list[Any] = [y0]
    solve = _sylvester(y0)
    # torch reads one triangle, and differentiates as if it read both
    for k, block in enumerate(hermitian(a)[1:], 1):
        known = convolve_matrices(frame.structure, k, X, X, range(1, k))
        X.append(solve(minus(block, known)))
    return frame.wrap(X)


def polar(func: Callable, A: Any) -> Any:
    """``U H = A`` with ``U^H U = 1`` and ``H`` Hermitian.

    With ``R = A_k - sum_{0<i<k} U_i H_{k-i}`` and ``S = sum_{0<i<k} U_i^H U_{k-i}``, write
    ``U_0^H U_k = W - S/2``, ``W`` skew. From ``M = U_0^H R + S H_0 / 2 = H_k + W H_0`` follow
    ``H_0 W + W H_0 = M - M^H``, then ``H_k = M - W H_0`` and ``U_k = (R - U_0 H_k) H_0^{-1}``.
    """
    plain = value(func, (A,), {})
    U0, H0 = plain
    (a,), frame = framed(func, A)
    s = frame.structure
    U, H, UH = [U0], [H0], [torch.adjoint(U0)]
    solve, inverse = _sylvester(H0), torch.linalg.inv(H0)
    for k, block in enumerate(a[1:], 1):
        R = minus(block, convolve_matrices(s, k, U, H, range(1, k)))
        S = convolve_matrices(s, k, UH, U, range(1, k))
        M = series.total((matmul(UH[0], R), matmul(S, H0 / 2)))
        W = solve(minus(M, adjoint(M)))
        H.append(minus(M, matmul(W, H0)))
        U.append(matmul(minus(R, matmul(U0, H[k])), inverse))
        UH.append(adjoint(U[k]))
    return like(plain, (frame.wrap(U), frame.wrap(H)))
