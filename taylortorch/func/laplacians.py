"""The Laplacian and its relatives: sums of derivatives of one degree, propagated as one block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec

import torch

from ..algebra.indices import MultiIndex, unit_index
from ..algebra.structures import Structure
from ..engine.directions import Operator, seed
from ..engine.private import is_transformed
from ..engine.tensor import TaylorTensor, check_value
from ..operators.plans import along_directions
from .linear import operator_at
from .point import Output, Point, added, in_chunks, transform, tree_map

_P = ParamSpec("_P")
_compiling = torch.compiler.is_compiling


def laplacian(
    f: Callable[_P, Any],
    argnums: int = 0,
    *,
    event_dims: int | None = None,
    chunk_size: int | None = None,
    return_value: bool = False,
) -> Callable[_P, Any]:
    """The Laplacian ``sum_i d^2 f / d x_i^2``, sample by sample, in the output's shape.

    Propagates ``2 + D`` blocks: the value, D first derivatives, and the sum of the second ones.
    Arguments and errors as ``jacfwd``.

    >>> import torch, taylortorch as tt
    >>> x = torch.arange(6.0).reshape(2, 3)
    >>> tt.func.laplacian(lambda x: (x**3).sum(-1))(x)
    tensor([18., 72.])

    Source: Li et al. (2023), *Forward Laplacian*, arXiv:2307.08214; Dangel et al. (2025),
    *Collapsing Taylor mode*, arXiv:2505.13644.
    """

    def evaluate(point: Point) -> tuple[Any, Any]:
        def part(numbers: range) -> tuple[Output, Any]:
            block: torch.Tensor
            structure: Structure
            if len(numbers) == point.count and point.event:
                block, structure = seed(point.event, len(point.batch), point.x)
            else:
                block, structure = point.units(numbers), Operator(len(numbers))
            output = point.along(block, structure, 2)
            return output, output.block(2)

        parts, value = in_chunks("laplacian", point.count, chunk_size, part)
        return tree_map(lambda c: 2 * c, added(parts)), value

    return transform("laplacian", evaluate, f, argnums, event_dims, return_value)


def weighted_laplacian(
    f: Callable[_P, Any],
    matrix: Any = None,
    argnums: int = 0,
    *,
    factor: Any = None,
    drift: Any = None,
    event_dims: int | None = None,
    chunk_size: int | None = None,
    return_value: bool = False,
) -> Callable[_P, Any]:
    """The operator ``sum_ij C_ij d^2 f / d x_i d x_j + sum_i b_i d f / d x_i``, sample by sample.

    Args:
        f: a function of tensors; see ``taylortorch.func`` for what it may return.
        matrix: ``C``, symmetric, definite or not: ``(D, D)``, one per sample ``(*batch, D, D)``, or
            a function of ``x`` that returns one of these.
        factor: instead of ``matrix``: ``S`` with ``C = S S^T``, ``(D, r)`` or ``(*batch, D, r)`` or
            a function of ``x``; costs ``r`` directions.
        drift: ``b``, ``event`` or one per sample ``(*batch, *event)``, or a function of ``x`` that
            returns one of these; seeded in the collapsed block, it costs nothing. Default none.
        argnums, event_dims, return_value: as for ``jacfwd``.
        chunk_size: how many directions to propagate at once; default all.

    Raises:
        TypeError: neither or both of ``matrix`` and ``factor``, or not tensors.
        ValueError: a matrix of another shape, or not symmetric; as for ``jacfwd``.

    A constant matrix takes as many directions as its rank, from its eigenvectors; one that depends
    on the sample, or requires grad, takes 2 D: ``C_ij u_i v_j`` polarised as
    ``x^T H y = ((x + y)^T H (x + y) - (x - y)^T H (x - y)) / 4``, exact in every derivative of C.

    >>> import torch, taylortorch as tt
    >>> c, b = torch.tensor([[1.0, 0.5], [0.5, 2.0]]), torch.tensor([1.0, 0.0])
    >>> operator = tt.func.weighted_laplacian(lambda x: x.prod(-1), c, drift=b)
    >>> operator(torch.tensor([[2.0, 3.0]]))  # 2 * 0.5 from the mixed derivative, 3 from the drift
    tensor([4.])
    """
    if (matrix is None) == (factor is None):
        raise TypeError("taylortorch.func.weighted_laplacian takes matrix= or factor=, one of them")

    def evaluate(point: Point) -> tuple[Any, Any]:
        c = _given_at(point, factor if matrix is None else matrix, matrix is not None)
        directions, weights = (c, c.new_ones(c.shape[-1])) if matrix is None else _directions_of(c)
        b = None if drift is None else _drift_at(point, drift)
        # columns to rows, in front of the batch
        rows = directions.movedim(-1, 0)
        batch = point.batch if c.ndim > 2 else (1,) * len(point.batch)
        rows = rows.reshape(rows.shape[0], *batch, *point.event)

        def part(chunk: range) -> tuple[Output, Any]:
            some = slice(chunk.start, chunk.stop)
            structure = Operator(len(chunk), weights[some])
            # of several chunks the first carries the drift
            output = point.along(rows[some], structure, 2, None if chunk.start else b)
            return output, output.block(2)

        parts, value = in_chunks("weighted_laplacian", len(rows), chunk_size, part)
        return tree_map(lambda c: 2 * c, added(parts)), value

    return transform("weighted_laplacian", evaluate, f, argnums, event_dims, return_value)


def _given_at(point: Point, given: Any, is_matrix: bool) -> torch.Tensor:
    """The matrix, or its factor, checked."""
    c = given(point.x) if callable(given) else given
    name = "matrix" if is_matrix else "factor"
    check_value(c, f"{point.who}: {name}")
    n, last = point.count, point.count if is_matrix else "r"
    batch = point.batch if c.ndim > 2 else ()
    if tuple(c.shape[:-1]) != (*batch, n) or (is_matrix and c.shape[-1] != n):
        raise ValueError(
            f"{point.who}: {name} must have shape {(n, last)} or {(*point.batch, n, last)}, "
            f"got {tuple(c.shape)}"
        )
    c = c.to(point.x.dtype)
    # what a trace cannot look at is taken at its word
    if is_matrix and not _compiling() and not torch.allclose(c, c.mT, rtol=1e-5, atol=1e-8):
        raise ValueError(
            f"{point.who}: matrix is not symmetric; pass (C + C.mT)/2, which gives the same "
            "operator"
        )
    return c


def _drift_at(point: Point, drift: Any) -> Any:
    """The coefficients of degree 2 whose derivative, twice that, is the drift."""
    b = drift(point.x) if callable(drift) else drift
    if b is None:
        return None
    check_value(b, f"{point.who}: drift")
    if tuple(b.shape) not in (point.event, (*point.batch, *point.event)):
        raise ValueError(
            f"{point.who}: drift must have shape {point.event} or "
            f"{(*point.batch, *point.event)}, got {tuple(b.shape)}"
        )
    return b.to(point.x.dtype).expand(point.x.shape) / 2


def _directions_of(c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Directions (columns) and weights with ``C = sum_r w_r v_r v_r^T``."""
    n = c.shape[-1]
    if c.ndim == 2 and not (c.requires_grad or _compiling() or _is_wrapped(c)):
        weights, vectors = torch.linalg.eigh(c.detach())
        size = weights.abs()
        kept = size > size.max() * n * torch.finfo(c.dtype).eps if n else size > 0
        return vectors[:, kept], weights[kept]
    unit = torch.eye(n, dtype=c.dtype, device=c.device)
    signs = torch.ones(2 * n, dtype=c.dtype, device=c.device)
    signs[n:] = -1
    return torch.cat([(c + unit) / 2, (c - unit) / 2], -1), signs


def _is_wrapped(c: torch.Tensor) -> bool:
    return isinstance(c, TaylorTensor) or is_transformed(c)


def biharmonic(
    f: Callable[_P, Any],
    argnums: int = 0,
    *,
    event_dims: int | None = None,
    return_value: bool = False,
) -> Callable[_P, Any]:
    """The biharmonic operator ``sum_ij d^4 f / d x_i^2 d x_j^2``, in the output's shape.

    Up to D = 4 a weighted sum of fourth derivatives along 1, 4, 7, 12 directions ``v_r`` with
    ``|xi|^4 = sum_r w_r (v_r . xi)^4``: ``2 + 3 R`` blocks, of which only those of one direction
    are multiplied with each other. Above, two nested Laplacians: ``(2 + D)^2`` blocks. Arguments
    and errors as ``jacfwd``.

    Source: Reznick, *Sums of even powers of real linear forms* (1992), for the identities.

    >>> import torch, taylortorch as tt
    >>> tt.func.biharmonic(lambda x: (x**4).sum(-1))(torch.tensor([[2.0, 3.0]]))
    tensor([48.])
    """

    def evaluate(point: Point) -> tuple[Any, Any]:
        n = point.count
        if n <= 4:
            terms = _biharmonic_terms(n)
            return operator_at(point, terms, along_directions(terms))
        inner = laplacian(point.f, point.place, event_dims=len(point.event), return_value=True)
        outer = laplacian(inner, point.place, event_dims=len(point.event), return_value=True)
        (result, _), (_, value) = outer(*point.args, **point.kwargs)
        return result, value

    return transform("biharmonic", evaluate, f, argnums, event_dims, return_value)


def _biharmonic_terms(n: int) -> dict[MultiIndex, Any]:
    return {unit_index(n, i, i, j, j): 1 if i == j else 2 for i in range(n) for j in range(i, n)}
