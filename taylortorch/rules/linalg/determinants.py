"""Determinants and their logarithms, at singular matrices too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ...algebra import series
from ...algebra.structures import Structure
from ...engine.arguments import is_constant
from ...engine.frames import frame_of
from ...engine.kinds import value
from ...engine.tensor import innermost
from .blocks import Blocks, framed, identity, is_traced, like
from .built import orders
from .systems import inverse_blocks


def _trace_of_product(a: Any, b: Any) -> Any:
    return torch.sum(a * torch.transpose(b, -2, -1), (-2, -1))


def log_determinant(s: Structure, A: Blocks) -> list[Any]:
    """Degrees >= 1 of ``log det A``, from ``(log det A)' = tr(A^{-1} A')``.

    ``k y_k = sum_j j tr(A_j X_{k-j})`` with ``X = A^{-1}``, of which one degree less is needed.
    """
    y: list[Any] = [None]
    if is_constant(A):
        return [None] * len(A)
    X = inverse_blocks(s, A[:-1], torch.linalg.inv(A[0]))
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
    return frame_of(y).wrap((y0, *y._blocks[1:]))


def _regular_determinant(func: Callable, A: Any, y0: Any) -> Any:
    (a,), frame = framed(func, A)
    s = frame.structure
    if is_constant(a):
        return frame.wrap((y0, *a[1:]))
    return frame.wrap(series.ode(s, y0, log_determinant(s, a), 0, 1, 0))


_LARGE_SINGULAR_VALUE = 0.1


def _well_conditioned(A: Any) -> bool:
    """Whether ``y' = y (log det A)'`` keeps two thirds of the digits.

    At degree k it divides by the determinant k - 1 times more than it should. A trace cannot ask:
    up to degree 2 the condition only counts once, and torch's own error stops a singular matrix.
    """
    if is_traced(A):
        return orders(A) <= 2
    plain = innermost(A).detach()
    if not bool(torch.isfinite(plain).all()):
        return True
    inverse, _ = torch.linalg.inv_ex(plain)
    norm = torch.linalg.matrix_norm
    condition = norm(plain) * norm(inverse)
    allowed = torch.finfo(A.dtype).eps ** (-1 / 3 / max(orders(A) - 1, 1))
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
    (a,), frame = framed(func, A)
    s = frame.structure
    log = log_determinant(s, a)
    sign: Any
    if not a[0].is_complex():
        sign = [plain[0]] + [None] * (len(a) - 1)
        return like(plain, (frame.wrap(sign), frame.wrap((plain[1], *log[1:]))))
    turn = [None if b is None else torch.complex(torch.zeros_like(b.real), b.imag) for b in log]
    size = [None if b is None else b.real for b in log]
    sign = series.ode(s, plain[0], turn, 0, 1, 0)
    return like(plain, (frame.wrap(sign), frame.wrap((plain[1], *size[1:]))))


def logdet(func: Callable, A: Any) -> Any:
    y0 = value(func, (A,), {})
    (a,), frame = framed(func, A)
    s = frame.structure
    return frame.wrap((y0, *log_determinant(s, a)[1:]))
