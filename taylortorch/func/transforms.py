"""The exact transforms."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, ParamSpec, TypeVar

import torch

from ..directions import Operator, seed
from ..structures import Bundle, Collapsed, MultiIndex, Structure, Sum, closure, pairings, rows_of
from ..tensor import LINE, TaylorTensor, check_order, check_value, constant_in_traces, wrap
from ..variables import unit_index
from .point import Output, Point, added, in_chunks, level_above, transform, tree_map
from .powers import powers_of

_compiling = torch.compiler.is_compiling

_P = ParamSpec("_P")
_T = TypeVar("_T")

MOST_CANCELLED = 64
"""How much larger than an operator its parts along directions may be."""

# --- along directions -------------------------------------------------------------------------


def derivatives(f: Callable[[torch.Tensor], _T], x: torch.Tensor, order: int = 2) -> tuple[_T, ...]:
    """``(f(x), f'(x), ..., f^(K)(x))`` for a function that acts on each entry by itself.

    Args:
        f: elementwise, or a model from ``(N, 1)`` to ``(N, m)``: every sample depends on its own
            scalar.
        x: the points, of any shape.
        order: K.

    Raises:
        TypeError: ``x`` is not a floating-point or complex tensor, or ``order`` not an int.
        ValueError: a negative order.

    >>> import torch, taylortorch as tt
    >>> tt.func.derivatives(torch.exp, torch.zeros(2), order=1)
    (tensor([1., 1.]), tensor([1., 1.]))
    """
    check_order(order)
    point = Point("derivatives", f, 0, 0, (x,), {})
    point.batch = ()
    output = point.of(lambda level: wrap(_line(x, order), LINE, level))
    scaled = [
        tree_map(lambda c, k=k: c * math.factorial(k) if k > 1 else c, output.block(k))
        for k in range(1, order + 1)
    ]
    return (output.value(), *scaled)


def _line(x: torch.Tensor, order: int) -> tuple[Any, ...]:
    return (x, x.new_ones((1,) * x.ndim), *(None,) * order)[: order + 1]


def jvp(
    f: Callable[..., _T],
    primals: Sequence[torch.Tensor],
    tangents: Sequence[torch.Tensor],
    order: int = 1,
) -> tuple[_T, ...]:
    """``f`` and its directional derivatives ``d^k/dt^k f(primals + t tangents)``, ``k = 1 ... K``.

    At order 1 this is ``torch.func.jvp``: ``(output, jvp_out)``.

    Args:
        f: any function of tensors.
        primals: its arguments.
        tangents: one tensor per primal, of its shape.
        order: K.

    Raises:
        TypeError: primals and tangents are not tuples, or not of floating-point tensors.
        ValueError: their numbers or shapes differ, or a negative order.

    >>> import torch, taylortorch as tt
    >>> tt.func.jvp(torch.exp, (torch.tensor(0.0),), (torch.tensor(2.0),), order=3)
    (tensor(1.), tensor(2.), tensor(4.), tensor(8.))
    """
    check_order(order)
    if not isinstance(primals, (tuple, list)) or not isinstance(tangents, (tuple, list)):
        raise TypeError("taylortorch.func.jvp: primals and tangents must be tuples of tensors")
    if len(primals) != len(tangents):
        raise ValueError(
            f"taylortorch.func.jvp: {len(primals)} primals, but {len(tangents)} tangents"
        )
    zeros = [[v, *(torch.zeros_like(v) for _ in range(order - 1))][:order] for v in tangents]
    value, terms = jet(f, primals, zeros)
    return (value, *terms)


def jet(
    f: Callable[..., _T],
    primals: Sequence[torch.Tensor],
    series: Sequence[Sequence[torch.Tensor]],
) -> tuple[_T, list[_T]]:
    """Derivatives of ``f`` along curves; signature and scaling of ``jax.experimental.jet``.

    Args:
        f: any function of tensors.
        primals: its arguments, the values of the curves.
        series: for each primal a list of the derivatives of its curve, ``x^(1) ... x^(K)`` (not
            divided by factorials), each of the primal's shape.

    Returns:
        The value of ``f``, and the list of the derivatives of ``f`` along the curves.

    Raises:
        TypeError: a primal or a derivative that is not a floating-point tensor.
        ValueError: lists of different lengths, or tensors of different shapes.

    >>> import torch, taylortorch as tt
    >>> h, h2 = torch.tensor(1.0), torch.tensor(0.0)
    >>> value, (d1, d2) = tt.func.jet(torch.exp, (torch.tensor(0.0),), ((h, h2),))
    >>> d1, d2
    (tensor(1.), tensor(1.))
    """
    who = "taylortorch.func.jet"
    if len(primals) != len(series):
        raise ValueError(f"{who}: {len(primals)} primals, but {len(series)} series")
    orders = {len(terms) for terms in series}
    if len(orders) != 1:
        raise ValueError(f"{who}: the series must have one length, got {sorted(orders)}")
    for n, (primal, terms) in enumerate(zip(primals, series, strict=True)):
        check_value(primal, f"{who}: primal {n}")
        for term in terms:
            check_value(term, f"{who}: a term of series {n}")
            if term.shape != primal.shape:
                raise ValueError(
                    f"{who}: primal {n} has shape {tuple(primal.shape)}, a term of its series "
                    f"{tuple(term.shape)}"
                )
    order = orders.pop()
    with level_above(*primals) as level:
        inputs = [
            wrap([p, *(c / math.factorial(k) for k, c in enumerate(terms, 1))], LINE, level)
            for p, terms in zip(primals, series, strict=True)
        ]
        output = Output(f(*inputs), level)
    scaled = [
        tree_map(lambda c, k=k: c * math.factorial(k), output.block(k)) for k in range(1, order + 1)
    ]
    return output.value(), scaled


# --- first and second derivatives ---------------------------------------------------------------


def jacfwd(
    f: Callable[_P, Any],
    argnums: int = 0,
    *,
    event_dims: int | None = None,
    chunk_size: int | None = None,
    return_value: bool = False,
) -> Callable[_P, Any]:
    """The Jacobian of ``f``, sample by sample: ``(*out_shape, *event)``.

    Args:
        f: a function of tensors; see ``taylortorch.func`` for what it may return.
        argnums: the positional argument to differentiate with respect to.
        event_dims: how many trailing axes of it are one sample's coordinates. Default: 1, for
            ``(D,)`` and ``(N, D)``; required for three or more axes.
        chunk_size: how many directions to propagate at once; default all.
        return_value: return ``(jacobian, f(x))``.

    Raises:
        TypeError: ``f`` is not callable, or an argument of the wrong type.
        ValueError: an output that does not begin with the batch shape; three or more axes with
            ``event_dims`` not given.

    >>> import torch, taylortorch as tt
    >>> x = torch.tensor([[2.0, 3.0]])
    >>> tt.func.jacfwd(lambda x: x.prod(-1), return_value=True)(x)
    (tensor([[3., 2.]]), tensor([6.]))
    """

    def evaluate(point: Point) -> tuple[Any, Any]:
        return _pure(point, "jacfwd", chunk_size, 1)

    return transform("jacfwd", evaluate, f, argnums, event_dims, return_value)


def _pure(point: Point, who: str, chunk_size: int | None, order: int) -> tuple[Any, Any]:
    """The pure derivatives of one order along each coordinate, ``(*out_shape, *event)``; value."""

    def part(numbers: range) -> tuple[Output, Any]:
        output = point.along(point.units(numbers), Bundle(len(numbers)), order)
        return output, output.rows(order, len(numbers))

    def shaped(*columns: Any) -> Any:
        together = _joined(columns).movedim(0, -1)
        together = together * math.factorial(order) if order > 1 else together
        return together.reshape(*together.shape[:-1], *point.event)

    parts, value = in_chunks(who, point.count, chunk_size, part)
    return tree_map(shaped, *parts), value


def _joined(blocks: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.cat(tuple(blocks)) if len(blocks) > 1 else blocks[0]


def hessian_diagonal(
    f: Callable[_P, Any],
    argnums: int = 0,
    *,
    event_dims: int | None = None,
    chunk_size: int | None = None,
    return_value: bool = False,
) -> Callable[_P, Any]:
    """The second derivatives ``d^2 f / d x_i^2``, sample by sample: ``(*out_shape, *event)``.

    Arguments and errors as ``jacfwd``.

    >>> import torch, taylortorch as tt
    >>> tt.func.hessian_diagonal(lambda x: (x**3).sum(-1))(torch.tensor([[2.0, 3.0]]))
    tensor([[12., 18.]])
    """

    def evaluate(point: Point) -> tuple[Any, Any]:
        return _pure(point, "hessian_diagonal", chunk_size, 2)

    return transform("hessian_diagonal", evaluate, f, argnums, event_dims, return_value)


def hessian(
    f: Callable[_P, Any],
    argnums: int = 0,
    *,
    event_dims: int | None = None,
    chunk_size: int | None = None,
    return_value: bool = False,
) -> Callable[_P, Any]:
    """The Hessian of ``f``, sample by sample: ``(*out_shape, *event, *event)``.

    Each of the ``D (D + 1)/2`` mixed derivatives is propagated once. ``chunk_size`` is the number
    of rows of the Hessian computed at once. Other arguments and errors as ``jacfwd``.

    >>> import torch, taylortorch as tt
    >>> tt.func.hessian(lambda x: x[..., 0] ** 2 * x[..., 1])(torch.tensor([[2.0, 3.0]]))
    tensor([[[6., 4.],
             [4., 0.]]])
    """

    def evaluate(point: Point) -> tuple[Any, Any]:
        n = point.count
        row: dict[tuple[int, ...], int] = {}

        def part(rows: range) -> tuple[Output, Any]:
            pairs = [(i, j) for i in rows for j in range(i, n)]
            output = point.expanded(closure(n, [unit_index(n, *pair) for pair in pairs]))
            for pair in pairs:
                row[pair] = len(row)
            return output, output.rows(2, len(pairs))

        blocks, value = in_chunks("hessian", n, chunk_size, part)
        places = [row[min(i, j), max(i, j)] for i in range(n) for j in range(n)]
        scale = torch.ones(n, n, dtype=point.x.dtype, device=point.x.device)
        scale = scale.fill_diagonal_(2).reshape(-1)

        def shaped(*blocks: Any) -> Any:
            pairs = _joined(blocks)[places].movedim(0, -1)
            return (pairs * scale).reshape(*pairs.shape[:-1], *point.event, *point.event)

        return tree_map(shaped, *blocks), value

    return transform("hessian", evaluate, f, argnums, event_dims, return_value)


# --- the Laplacian and its relatives ------------------------------------------------------------


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
        given = factor if matrix is None else matrix
        c = given(point.x) if callable(given) else given
        name = "factor" if matrix is None else "matrix"
        check_value(c, f"{point.who}: {name}")
        batch = point.batch if c.ndim > 2 else ()
        n = point.count
        if tuple(c.shape[:-1]) != (*batch, n) or (matrix is not None and c.shape[-1] != n):
            raise ValueError(
                f"{point.who}: {name} must have shape {(n, n if matrix is not None else 'r')} or "
                f"{(*point.batch, n, n if matrix is not None else 'r')}, got {tuple(c.shape)}"
            )
        c = c.to(point.x.dtype)
        if matrix is None:
            directions, weights = c, c.new_ones(c.shape[-1])
        else:
            # what a trace cannot look at is taken at its word
            if not _compiling() and not torch.allclose(c, c.mT, rtol=1e-5, atol=1e-8):
                raise ValueError(
                    f"{point.who}: matrix is not symmetric; pass (C + C.mT)/2, which gives the "
                    "same operator"
                )
            directions, weights = _directions_of(c)
        b = drift(point.x) if callable(drift) else drift
        if b is not None:
            check_value(b, f"{point.who}: drift")
            if tuple(b.shape) not in (point.event, (*point.batch, *point.event)):
                raise ValueError(
                    f"{point.who}: drift must have shape {point.event} or "
                    f"{(*point.batch, *point.event)}, got {tuple(b.shape)}"
                )
            b = b.to(point.x.dtype).expand(point.x.shape) / 2
        # columns to rows, in front of the batch
        rows = directions.movedim(-1, 0)
        rows = rows.reshape(rows.shape[0], *(batch or (1,) * len(point.batch)), *point.event)

        def part(chunk: range) -> tuple[Output, Any]:
            some = slice(chunk.start, chunk.stop)
            structure = Operator(len(chunk), weights[some])
            # of several chunks the first carries the drift
            output = point.along(rows[some], structure, 2, None if chunk.start else b)
            return output, output.block(2)

        parts, value = in_chunks("weighted_laplacian", len(rows), chunk_size, part)
        return tree_map(lambda c: 2 * c, added(parts)), value

    return transform("weighted_laplacian", evaluate, f, argnums, event_dims, return_value)


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
    return isinstance(c, TaylorTensor) or torch._C._functorch.is_functorch_wrapped_tensor(c)


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


# --- any linear operator ------------------------------------------------------------------------


def mixed_partial(
    f: Callable[_P, Any],
    multi_index: Sequence[int],
    argnums: int = 0,
    *,
    event_dims: int | None = None,
    return_value: bool = False,
) -> Callable[_P, Any]:
    """One partial derivative: ``multi_index`` says how often by each coordinate; output's shape.

    ``mixed_partial(f, (2, 0, 1))`` is d^3 f / dx_0^2 dx_2. Propagates the multi-indices below it,
    ``prod(a_i + 1)`` blocks. Other arguments and errors as ``jacfwd``; ValueError for a multi-index
    that has not one entry >= 0 per coordinate.

    >>> import torch, taylortorch as tt
    >>> tt.func.mixed_partial(lambda x: x[..., 0] ** 2 * x[..., 1], (2, 1))(torch.ones(1, 2))
    tensor([2.])
    """

    def evaluate(point: Point) -> tuple[Any, Any]:
        return operator_at(point, {tuple(multi_index): 1})

    return transform("mixed_partial", evaluate, f, argnums, event_dims, return_value)


def linear_operator(
    f: Callable[_P, Any],
    terms: Mapping[Sequence[int], Any],
    argnums: int = 0,
    *,
    event_dims: int | None = None,
    return_value: bool = False,
) -> Callable[_P, Any]:
    """A linear differential operator ``sum_a C_a d^a f``, terms of any degrees together.

    Args:
        f: a function of tensors; see ``taylortorch.func`` for what it may return.
        terms: the coefficient of each multi-index: a number (int, float, ``Fraction``), a tensor
            (a scalar, or one per sample, of the batch shape), or a function of ``x`` returning one.
            ``{(2, 0): 1, (0, 2): 1}`` is the Laplacian in two dimensions, ``(0, 0)`` stands for
            ``f`` itself.
        argnums, event_dims, return_value: as for ``jacfwd``.

    Raises:
        ValueError: a multi-index that has not one entry >= 0 per coordinate, a coefficient of
            another shape; as for ``jacfwd``.
        TypeError: ``terms`` is not a mapping; as for ``jacfwd``.

    Of two ways the one with fewer blocks and products of blocks is taken. A multivariate series
    propagates the multi-indices below those of the terms; terms of one degree with number
    coefficients that no other term needs are one sum. If all terms but those of degree 0 and 1 have
    one degree m, and number coefficients, as those of degree 1 have, they may instead be a sum
    ``sum_r w_r (v_r . grad)^m``, found in rational numbers: R directions, ``2 + R (m - 1)`` blocks,
    terms of degree 1 at no cost. So ``(d_x + 2 d_y)^4`` written out takes one direction, a
    quadratic form as many as its rank. A sum whose parts would nearly cancel is not taken; the
    Laplacian of all coordinates is propagated as by ``laplacian``.

    >>> import torch, taylortorch as tt
    >>> u = lambda x: x[..., 0] * x[..., 1] ** 2
    >>> heat = tt.func.linear_operator(u, {(1, 0): 1, (0, 2): -1})
    >>> heat(torch.tensor([[2.0, 3.0]]))  # u_t - u_xx of u = t x^2
    tensor([5.])
    """
    if not isinstance(terms, Mapping):
        raise TypeError(
            "taylortorch.func.linear_operator: terms must be a mapping of multi-indices to "
            f"coefficients, such as {{(2, 0): 1, (0, 2): 1}}; got {type(terms).__name__}"
        )

    given = {tuple(index): c for index, c in terms.items()}
    plan = along_directions(given)

    def evaluate(point: Point) -> tuple[Any, Any]:
        return operator_at(point, given, plan)

    return transform("linear_operator", evaluate, f, argnums, event_dims, return_value)


def operator_at(
    point: Point, terms: Mapping[MultiIndex, Any], plan: tuple[Any, ...] | None = None
) -> tuple[Any, Any]:
    """``sum_a C_a d^a f`` and ``f``; ``plan`` is what ``along_directions`` says of the terms."""
    n = point.count
    for index in terms:
        if len(index) != n or not all(isinstance(i, int) and i >= 0 for i in index):
            raise ValueError(
                f"{point.who}: the multi-index {index} must have one entry >= 0 for each of the "
                f"{n} coordinates of argument {point.place}"
            )
    if plan is not None:
        total, value = _along(point, *plan)
        parts = [total]
    else:
        parts, value = _expanded(point, {a: c for a, c in terms.items() if any(a)})
    for index, coefficient in terms.items():
        if not any(index):
            parts.append(_scaled(point, value, coefficient))
    if not parts:
        return tree_map(torch.zeros_like, value), value
    return added(parts), value


def _expanded(point: Point, terms: Mapping[MultiIndex, Any]) -> tuple[list[Any], Any]:
    """The terms from a multivariate series."""
    numbers = {a: c for a, c in terms.items() if _is_number(c)}
    others = {a: c for a, c in terms.items() if a not in numbers}
    sums = _sums(numbers)
    indices = closure(point.count, others, sums)
    output = point.expanded(indices)
    parts = []
    for total in sums:
        degree = sum(total.terms[0][0])
        row = rows_of(indices[degree])
        if total in row:
            parts.append(output.row(degree, row[total]))
        else:
            for index, weight in total.terms:
                parts.append(_scaled(point, output.row(degree, row[index]), weight))
    for index, coefficient in others.items():
        term = output.row(sum(index), rows_of(indices[sum(index)])[index])
        parts.append(_scaled(point, term, coefficient, _factorial(index)))
    return parts, output.value()


def _is_number(c: Any) -> bool:
    return isinstance(c, (int, float, Fraction))


def _sums(numbers: Mapping[MultiIndex, Any]) -> list[Sum]:
    """The terms with number coefficients, one sum for each degree."""
    sums = []
    for degree in sorted({sum(a) for a in numbers}):
        members = [a for a in sorted(numbers) if sum(a) == degree]
        sums.append(Sum(tuple([(a, numbers[a] * _factorial(a)) for a in members])))
    return sums


def _along(
    point: Point, degree: int, directions: Any, weights: Any, drift: Any, scale: float
) -> tuple[Any, Any]:
    """``sum_r w_r (v_r . grad)^m f + b . grad f``, and ``f``.

    ``b`` is seeded in the collapsed block, where nothing is multiplied with it but ``grad f``.
    """
    x = point.x
    structure: Structure
    if directions is None:
        block, structure = seed(point.event, len(point.batch), x)
    else:
        shape = (len(directions), *(1,) * len(point.batch), *point.event)
        block = torch.tensor(directions, dtype=x.dtype, device=x.device).reshape(shape)
        if weights != 1:
            weights = torch.tensor(weights, dtype=x.dtype, device=x.device)
        count = len(directions)
        structure = Operator(count, weights) if degree == 2 else Collapsed(count, degree, weights)
    top = None
    if drift is not None:
        top = torch.tensor(drift, dtype=x.dtype, device=x.device)
        top = top.reshape(point.event).expand(x.shape)
    output = point.along(block, structure, degree, top)
    return tree_map(lambda c: c * scale, output.block(degree)), output.value()


def along_directions(terms: Mapping[MultiIndex, Any]) -> tuple[Any, ...] | None:
    """How to get all terms but that of degree 0 from a collapsed series along directions.

    The degree m, the directions (None: those of all coordinates), their weights, the drift and the
    factor of ``_along``. None where a multivariate series is no dearer.
    """
    exact = []
    for index, c in terms.items():
        if any(index):
            if not _is_number(c):
                return None
            rational = isinstance(c, Fraction)
            exact.append((index, *((c.numerator, c.denominator) if rational else (c, 1))))
    return _planned(tuple(exact))


@constant_in_traces
def _planned(exact: tuple[tuple[MultiIndex, int | float, int], ...]) -> tuple[Any, ...] | None:
    """``along_directions`` of these multi-indices, numerators and denominators."""
    lengths = {len(index) for index, _, _ in exact}
    # what is not a multi-index is refused where the number of coordinates is known
    if len(lengths) != 1 or not all(isinstance(i, int) and i >= 0 for a, _, _ in exact for i in a):
        return None
    if not all(math.isfinite(c) for _, c, _ in exact):
        return None
    n = lengths.pop()
    numbers = {a: Fraction(c) / below for a, c, below in exact if c}
    degree = max([sum(a) for a in numbers], default=0)
    if degree < 2 or any(sum(a) not in (1, degree) for a in numbers):
        return None
    form = {a: c for a, c in numbers.items() if sum(a) == degree}
    slope = [numbers.get(unit_index(n, i), Fraction(0)) for i in range(n)]
    directions: Any = None
    weights: Any = 1
    same = len(set(form.values())) == 1
    if degree == 2 and n > 1 and same and set(form) == {unit_index(n, i, i) for i in range(n)}:
        scale = 2 * next(iter(form.values()))
    else:
        powers = powers_of(form)
        if powers is None:
            return None
        # rows, and products of two of degree 1 or more
        cost = len(powers) * (degree - 1) + 1 + len(powers) * math.comb(degree, 2)
        dearer = cost - _cost(n, numbers, cost)
        # of equal cost along the axes is faster; elsewhere large derivatives may cancel
        if dearer > 0 or (dearer == 0 and not all(v.count(0) == n - 1 for v, _ in powers)):
            return None
        sizes = [abs(w) * sum(map(abs, v)) ** degree for v, w in powers]
        if sum(sizes) > MOST_CANCELLED * sum(map(abs, form.values())):
            return None
        largest = max([w for _, w in powers], key=abs)
        scale = largest * math.factorial(degree)
        directions = tuple([tuple(map(float, v)) for v, _ in powers])
        if any(w != largest for _, w in powers):
            weights = tuple([float(w / largest) for _, w in powers])
    drift = tuple([float(b / scale) for b in slope]) if any(slope) else None
    return degree, directions, weights, drift, float(scale)


def _cost(n: int, numbers: Mapping[MultiIndex, Any], enough: int) -> int:
    """Rows and products of rows of the multivariate series; counted up to ``enough`` or more."""
    indices = closure(n, [], _sums(numbers))
    cost = sum(map(len, indices[1:]))
    for i in range(1, len(indices)):
        for j in range(1, len(indices) - i):
            if cost > enough:
                return cost
            table = pairings(indices, (i, j))
            cost += sum([len(row) for row in table])
    return cost


def _factorial(index: MultiIndex) -> int:
    return math.prod([math.factorial(i) for i in index])


def _scaled(point: Point, tree: Any, factor: Any, number: int = 1) -> Any:
    """The output times a coefficient: a number, one number per sample, or a function of ``x``."""
    if callable(factor):
        factor = factor(point.x)
    if not isinstance(factor, torch.Tensor):
        return tree_map(lambda y: y * (float(factor) * number), tree)
    if factor.ndim and tuple(factor.shape) != point.batch:
        raise ValueError(
            f"{point.who}: a coefficient must be a number or have the batch shape {point.batch}, "
            f"got a tensor of shape {tuple(factor.shape)}"
        )

    def scaled(y: Any) -> Any:
        missing = y.ndim - factor.ndim if factor.ndim else 0
        return y * (factor.reshape(factor.shape + (1,) * missing) * number)

    return tree_map(scaled, tree)
