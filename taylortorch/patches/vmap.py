"""What ``torch.vmap`` makes of a series: it maps over the blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from ..engine.frames import spread
from ..engine.private import register_pytree_node, tree_unflatten
from ..engine.tensor import TaylorTensor, full, run, wrap
from .changes import Change


class _TaylorTensorParts:
    """A series that ``vmap`` takes apart; to everyone else's pytrees it is one leaf, a tensor."""

    def __init__(self, series: TaylorTensor) -> None:
        self.series = series


def _take_apart(parts: _TaylorTensorParts) -> tuple[list[Any], Any]:
    # every leaf has the value's shape: an axis that vmap maps over is one of samples, never the
    # axis of directions
    x = parts.series
    spread(x)
    leaves: list[Any] = []
    for k, block in enumerate(x._blocks):
        if block is not None:
            leaves += run(full(x, k).unbind, 0) if x._structure.leads(k) else [full(x, k)]
    present = tuple(block is not None for block in x._blocks)
    return [_parts_of(leaf) for leaf in leaves], (present, x._structure, x._level)


def _put_together(leaves: Iterable[Any], context: Any) -> Any:
    present, structure, level = context
    leaves = list(leaves)
    if not all(isinstance(leaf, torch.Tensor) for leaf in leaves):
        # leaves of another kind (in_dims, specs): a tree of them, not a series
        return tuple(leaves)
    rest = iter(leaves)
    blocks: list[Any] = []
    for k, there in enumerate(present):
        if there and structure.leads(k):
            blocks.append(run(torch.stack, [next(rest) for _ in range(structure.size(k))]))
        else:
            blocks.append(next(rest) if there else None)
    return wrap(blocks, structure, level)


def _parts_of(leaf: Any) -> Any:
    return _TaylorTensorParts(leaf) if isinstance(leaf, TaylorTensor) else leaf


def _seeing_series(flatten: Callable) -> Callable:
    def tree_flatten(tree: Any, is_leaf: Any = None) -> tuple[list[Any], Any]:
        leaves, spec = flatten(tree, is_leaf)
        if any(isinstance(leaf, TaylorTensor) for leaf in leaves):
            leaves, spec = flatten(tree_unflatten(map(_parts_of, leaves), spec), is_leaf)
        return leaves, spec

    return tree_flatten


register_pytree_node(
    _TaylorTensorParts,
    _take_apart,
    _put_together,
    serialized_type_name="taylortorch._TaylorTensorParts",
)

CHANGES = (
    Change(
        "torch._functorch.vmap.tree_flatten",
        _seeing_series,
        "vmap maps over the blocks of a series; in all other pytrees a series is one leaf",
    ),
)
