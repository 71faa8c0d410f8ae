"""Linear systems and inverses."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from ...algebra.structures import Structure
from ...engine.kinds import value
from .blocks import Blocks, convolve_matrices, framed, identity, like, minus


def solved(
    s: Structure, invert: Callable, A: Blocks, B: Blocks, X0: Any, left: bool = True
) -> list[Any]:
    """``A X = B`` (or ``X A = B``): ``X_k = A_0^{-1} (B_k - sum_{i>=1} A_i X_{k-i})``."""
    X = [X0]
    for k in range(1, len(A)):
        known = (
            convolve_matrices(s, k, A, X, range(1, k + 1))
            if left
            else convolve_matrices(s, k, X, A, range(k))
        )
        rest = minus(B[k], known)
        X.append(None if rest is None else invert(rest))
    return X


def inverse_blocks(s: Structure, A: Blocks, X0: Any) -> list[Any]:
    nothing = (None,) * len(A)
    return solved(s, lambda rest: torch.matmul(X0, rest), A, nothing, X0)


def inv(func: Callable, A: Any, *, check_errors: bool = False) -> Any:
    """``X_k = -X_0 sum_{i>=1} A_i X_{k-i}``."""
    plain = value(func, (A,), {"check_errors": True} if check_errors else {})
    many = isinstance(plain, tuple)
    (a,), frame = framed(func, A)
    s = frame.structure
    result: Any = frame.wrap(inverse_blocks(s, a, plain[0] if many else plain))
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
    (a, b), frame = framed(func, A, B)
    s = frame.structure
    inverse = torch.linalg.inv(a[0])

    def invert(rest: Any) -> Any:
        return torch.matmul(inverse, rest) if left else torch.matmul(rest, inverse)

    result: Any = frame.wrap(solved(s, invert, a, b, y0, left))
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
    (a, b), frame = framed(func, A, B)
    s = frame.structure
    read = torch.triu if upper else torch.tril
    inside = (1 if upper else -1) if unitriangular else 0
    a = [a[0]] + [None if block is None else read(block, inside) for block in a[1:]]

    def invert(rest: Any) -> Any:
        return torch.linalg.solve_triangular(a[0], rest, **options)

    return frame.wrap(solved(s, invert, a, b, y0, left))


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
