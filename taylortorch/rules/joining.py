"""Joining tensors: every block is joined, with zeros where a part has none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..algebra.series import by_degree
from ..engine.frames import join
from ..engine.kinds import composite
from ..engine.registry import add_rule
from ..engine.samples import call, t
from ..engine.tensor import flatten

X = t(2, 3, 4, low=-1, high=1)

# --- joining --------------------------------------------------------------------------------------


def _cat(func: Callable, args: tuple, kwargs: dict) -> Any:
    """Blocks that all have size 1 along an axis other than ``dim`` keep it."""
    (tensors,), others, kwargs = _list_first(args, kwargs)
    axis = others[0] if others else kwargs.get("dim", kwargs.get("axis", 0))
    frame = join(func, flatten(tensors, []))
    inputs = [frame.blocks(x) for x in tensors]
    structure = frame.structure
    y0 = torch.cat([b[0] for b in inputs], axis)
    axis = axis % y0.ndim

    def term(_: Any, k: int) -> Any:
        if all(b[k] is None for b in inputs):
            return None
        lead = (structure.size(k),) if structure.leads(k) else ()
        skip = len(lead)
        sizes = list(y0.shape)
        for other in range(y0.ndim):
            if other != axis and all(b[k] is None or b[k].shape[other + skip] == 1 for b in inputs):
                sizes[other] = 1
        parts = []
        for b in inputs:
            if b[0].ndim == 1 and b[0].shape[0] == 0 and y0.ndim != 1:
                continue
            sizes[axis] = b[0].shape[axis]
            shape = (*lead, *sizes)
            parts.append(y0.new_zeros(shape) if b[k] is None else b[k].to(y0.dtype).expand(shape))
        return torch.cat(parts, axis + skip)

    return frame.wrap(by_degree(y0, frame.order, term, *inputs))


def _list_first(args: tuple, kwargs: dict) -> tuple[list[Any], tuple, dict]:
    if args:
        return [args[0]], args[1:], kwargs
    kwargs = dict(kwargs)
    return [kwargs.pop("tensors")], (), kwargs


def _stack(tensors: Sequence[Any], dim: int = 0) -> Any:
    return torch.cat([torch.unsqueeze(x, dim) for x in tensors], dim)


def _listed(tensors: tuple) -> Sequence[Any]:
    return tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else tensors


def _each(f: Callable) -> Callable:
    def body(*tensors: Any) -> Any:
        listed = _listed(tensors)
        many = len(tensors) > 1 or isinstance(tensors[0], (list, tuple))
        return tuple(f(x) for x in listed) if many else f(listed[0])

    return body


def _atleast_1d(x: Any) -> Any:
    return torch.reshape(x, (1,)) if x.ndim == 0 else x


def _atleast_2d(x: Any) -> Any:
    return x if x.ndim >= 2 else torch.unsqueeze(_atleast_1d(x), 0)


def _atleast_3d(x: Any) -> Any:
    return x if x.ndim >= 3 else torch.unsqueeze(_atleast_2d(x), -1)


def _hstack(tensors: Sequence[Any]) -> Any:
    parts = [_atleast_1d(x) for x in tensors]
    return torch.cat(parts, 0 if parts[0].ndim == 1 else 1)


def _vstack(tensors: Sequence[Any]) -> Any:
    return torch.cat([_atleast_2d(x) for x in tensors], 0)


def _dstack(tensors: Sequence[Any]) -> Any:
    return torch.cat([_atleast_3d(x) for x in tensors], 2)


def _column_stack(tensors: Sequence[Any]) -> Any:
    return torch.cat([x if x.ndim > 1 else torch.reshape(x, (x.numel(), 1)) for x in tensors], 1)


def _meshgrid(*tensors: Any, indexing: str | None = None) -> Any:
    parts = [_atleast_1d(x) for x in _listed(tensors)]
    if indexing == "xy" and len(parts) >= 2:
        first, second, *rest = _meshgrid(parts[1], parts[0], *parts[2:])
        return second, first, *rest
    sizes = tuple(x.shape[0] for x in parts)
    return tuple(
        torch.broadcast_to(torch.reshape(x, (1,) * n + (-1,) + (1,) * (len(parts) - n - 1)), sizes)
        for n, x in enumerate(parts)
    )


def _broadcast_tensors(*tensors: Any) -> Any:
    listed = _listed(tensors)
    shape = torch.broadcast_shapes(*(x.shape for x in listed))
    return tuple(torch.broadcast_to(x, shape) for x in listed)


def _block_diag(*tensors: Any) -> Any:
    parts = [_atleast_2d(x) for x in tensors]
    width = sum(x.shape[1] for x in parts)
    rows, start = [], 0
    for x in parts:
        rows.append(torch.constant_pad_nd(x, (start, width - start - x.shape[1])))
        start += x.shape[1]
    return torch.cat(rows, 0)


def _cartesian_prod(*tensors: Any) -> Any:
    if len(tensors) == 1:
        return tensors[0]
    return torch.stack([torch.reshape(g, (-1,)) for g in _meshgrid(*tensors)], 1)


def _diff(input: Any, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None) -> Any:
    if n == 0:
        return input
    parts = [x for x in (prepend, input, append) if x is not None]
    x = torch.cat(parts, dim) if len(parts) > 1 else input
    for _ in range(min(n, x.shape[dim])):
        count = x.shape[dim] - 1
        x = torch.narrow(x, dim, 1, count) - torch.narrow(x, dim, 0, count)
    return x


add_rule(
    "cat concat concatenate",
    "linear",
    "tensors",
    _cat,
    [call([t(2, 3), t(1, 3)]), call([t(2, 3), t(2, 1), t(2, 2)], 1)],
)
TWO = [t(2, 3), t(2, 3)]
JOINS: tuple[tuple[str, Callable, list], ...] = (
    ("stack", _stack, [call(TWO), call(TWO, -1)]),
    ("hstack", _hstack, [call(TWO), call([t(2), t(3)])]),
    ("vstack row_stack", _vstack, [call(TWO), call([t(3), t(3)])]),
    ("dstack", _dstack, [call(TWO)]),
    ("column_stack", _column_stack, [call([t(3), t(3, 2)])]),
    ("atleast_1d", _each(_atleast_1d), [call(t()), call(t(2, 3))]),
    ("atleast_2d", _each(_atleast_2d), [call(t(3))]),
    ("atleast_3d", _each(_atleast_3d), [call(t(2, 3))]),
    ("meshgrid", _meshgrid, [call(t(2), t(3), indexing="ij"), call(t(2), t(3), indexing="xy")]),
    ("broadcast_tensors", _broadcast_tensors, [call(t(2, 1), t(3))]),
    ("block_diag", _block_diag, [call(t(2, 3), t(1, 2))]),
    ("cartesian_prod", _cartesian_prod, [call(t(2), t(3))]),
    ("diff", _diff, [call(X), call(X, 2, 1)]),
)
for names, joining, samples in JOINS:
    add_rule(names, "composite", "torch code", composite(joining), samples)
