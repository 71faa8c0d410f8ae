"""Functions of matrices made of products and factors: pseudo-inverses, exponentials, powers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from ...algebra import series
from ...algebra.structures import Structure
from ...engine.frames import frame_of
from ...engine.kinds import value
from ...engine.registry import UnsupportedFunction, name_of
from ...engine.tensor import TaylorTensor, innermost
from .blocks import (
    Blocks,
    adjoint,
    convolve_matrices,
    framed,
    identity,
    is_traced,
    like,
    matmul,
    minus,
    value_of,
)
from .factors import with_value


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
        PA.append(convolve_matrices(s, k, P, slope, inside))
        rightA.append(convolve_matrices(s, k, right, slopeH, inside))
        Aleft.append(convolve_matrices(s, k, slopeH, left, through))
        rest = series.total(
            (convolve_matrices(s, k, rightA, E, through), convolve_matrices(s, k, F, Aleft, inside))
        )
        rest = minus(rest, convolve_matrices(s, k, PA, P, through))
        P.append(series.times(rest, 1, k))
        PH.append(adjoint(P[k]))
        every = range(k + 1)
        E.append(minus(None, convolve_matrices(s, k, A, P, every)))
        F.append(minus(None, convolve_matrices(s, k, P, A, every)))
        right.append(convolve_matrices(s, k, P, PH, every))
        left.append(convolve_matrices(s, k, PH, P, every))
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
        DB.append(convolve_matrices(s, k, A, B, range(1, k + 1)))
        B.append(minus(None, matmul(P0, DB[k])))
        inside = range(1, k)
        part = minus(A[k], convolve_matrices(s, k, DB, A, inside))
        scale = _size(s, k, A[k]) + sum(
            _size(s, i, DB[i]) * _size(s, k - i, A[k - i]) for i in inside
        )
        outside = matmul(matmul(E, part), F)
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
    (a,), frame = framed(func, A)
    s = frame.structure
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
    return frame.wrap(P)


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
        return with_value(_pinv_of_full_rank(A), P0)
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
    x = with_value(x, torch.unsqueeze(plain[0], -1) if vector else plain[0])
    residuals = plain[1]
    if residuals.numel():
        error = torch.abs(torch.matmul(input, x) - matrix)
        residuals = torch.sum(error * error, -2)
        residuals = torch.reshape(residuals, plain[1].shape)
    else:
        residuals = frame_of(x).constant(residuals)
    solution = torch.squeeze(x, -1) if vector else x
    return like(plain, (solution, residuals, plain[2], frame_of(x).constant(plain[3])))


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
    return with_value(w, E0), with_value(V * sign, X0)


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
    result = _exp_polynomial(x, _EXP_DEGREE + orders(x))
    for n in range(halvings):
        squared = torch.matmul(result, result)
        if is_traced(A):
            result = torch.where(n < wanted, squared, result)
        else:
            result = squared
    return result


def orders(x: Any) -> int:
    """The orders of all levels together."""
    return x.order + orders(x.value) if isinstance(x, TaylorTensor) else 0


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
