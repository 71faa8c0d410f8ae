"""Blocks whose last two axes are a matrix: products, transposes, and the frame of a function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from ...algebra import series
from ...algebra.structures import Structure
from ...engine.arguments import aligned
from ...engine.frames import Frame, join
from ...engine.kinds import as_series
from ...engine.private import is_batched, is_transformed, unwrapped
from ...engine.registry import Evaluator, UnsupportedFunction, name_of
from ...engine.tensor import TaylorTensor, innermost, run

Blocks = Sequence[Any]


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


def framed(func: Callable, *operands: Any) -> tuple[list[Blocks], Frame]:
    """The blocks of matrices in their common frame, full and of one rank; the frame."""
    found = [x for x in operands if isinstance(x, TaylorTensor)]
    if not found:
        raise UnsupportedFunction(
            f"{name_of(func)} was given a TaylorTensor where its rule expects none"
        )
    frame = join(func, found)
    inputs = [frame.blocks(x) for x in operands]
    rank = max(b[0].ndim for b in inputs)
    return [aligned(_whole(b), rank, frame.structure) for b in inputs], frame


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


def convolve_matrices(s: Structure, k: int, a: Blocks, b: Blocks, degrees: range) -> Any:
    """``sum_i a_i b_{k-i}`` over the given degrees ``i`` of the first factor."""
    return series.total(matrix_product(s, i, a[i], k - i, b[k - i]) for i in degrees)


def scaled(s: Structure, k: int, a: Blocks, w: Blocks, degrees: range) -> Any:
    """As ``convolve_matrices``, for a diagonal second factor kept as one row: it scales columns."""
    return series.total(series.product(s, i, a[i], k - i, w[k - i]) for i in degrees)


def minus(a: Any, b: Any) -> Any:
    """``a - b`` of blocks that may be structurally zero."""
    if b is None:
        return a
    return -b if a is None else a - b


def matmul(a: Any, b: Any) -> Any:
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
    plain = innermost(x)
    while is_transformed(plain):
        if is_batched(plain):
            return True
        plain = unwrapped(plain)
    return False


def value_of(x: Any) -> Any:
    """``c_0`` of a TaylorTensor, anything else as it is."""
    return x.value if isinstance(x, TaylorTensor) else x
