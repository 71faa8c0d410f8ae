"""Derivatives of functions along directions, and their first and second derivatives whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import torch

from ..algebra.indices import closure, unit_index
from ..algebra.structures import LINE, Bundle
from ..engine.tensor import check_order, check_value, wrap
from .point import Output, Point, in_chunks, level_above, transform, tree_map

_P = ParamSpec("_P")


_T = TypeVar("_T")


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
        output = point.along(point.units(numbers), Bundle(len(numbers), per_sample=True), order)
        return output, output.rows(order, len(numbers))

    def shaped(*columns: Any) -> Any:
        together = _concatenated(columns).movedim(0, -1)
        together = together * math.factorial(order) if order > 1 else together
        return together.reshape(*together.shape[:-1], *point.event)

    parts, value = in_chunks(who, point.count, chunk_size, part)
    return tree_map(shaped, *parts), value


def _concatenated(blocks: Sequence[torch.Tensor]) -> torch.Tensor:
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
        # not fill_diagonal_, whose exported form ONNX cannot express
        scale = (1 + torch.eye(n, dtype=point.x.dtype, device=point.x.device)).reshape(-1)

        def shaped(*blocks: Any) -> Any:
            pairs = _concatenated(blocks)[places].movedim(0, -1)
            return (pairs * scale).reshape(*pairs.shape[:-1], *point.event, *point.event)

        return tree_map(shaped, *blocks), value

    return transform("hessian", evaluate, f, argnums, event_dims, return_value)
