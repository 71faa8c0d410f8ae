"""How a function that knows nothing of directions acts on blocks that have a leading axis for them.

A lift calls ``func(*args, **kwargs)`` where the arguments at the positions ``leads`` have a leading
axis that the function does not know about, and returns a result with that axis in front.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Lift = Callable[[Callable, list, dict, set], Any]


def by_vmap(func: Callable, args: list, kwargs: dict, leads: set) -> Any:
    """For any function: map over the leading axis."""
    where = sorted(leads)

    def one(*blocks: Any) -> Any:
        filled = list(args)
        for position, block in zip(where, blocks, strict=True):
            filled[position] = block
        return func(*filled, **kwargs)

    return torch.vmap(one)(*(args[position] for position in where))


def one_by_one(func: Callable, args: list, kwargs: dict, leads: set) -> Any:
    """For functions that torch cannot map over: a call per place on the leading axis."""
    filled, results = list(args), []
    for n in range(args[min(leads)].shape[0]):
        for position in leads:
            filled[position] = args[position][n]
        results.append(func(*filled, **kwargs))
    if isinstance(results[0], (tuple, list)):
        return type(results[0])(map(torch.stack, zip(*results, strict=True)))
    return torch.stack(results)


def by_broadcasting(func: Callable, args: list, kwargs: dict, leads: set) -> Any:
    """For elementwise functions: the leading axis broadcasts once all ranks agree."""
    rank = max(a.ndim - (i in leads) for i, a in enumerate(args) if isinstance(a, torch.Tensor))
    filled = list(args)
    for i in leads:
        block = args[i]
        missing = rank + 1 - block.ndim
        if missing:
            filled[i] = block.reshape(block.shape[:1] + (1,) * missing + block.shape[1:])
    return func(*filled, **kwargs)


def by_axes(*axes: tuple[str, int, Any]) -> Lift:
    """For functions of one tensor that name axes: count them from the end.

    ``axes`` are the axis arguments: name, position, default (None: all axes).
    """

    def lift(func: Callable, args: list, kwargs: dict, leads: set) -> Any:
        rank = args[0].ndim - 1
        if leads != {0} or rank == 0:
            return by_vmap(func, args, kwargs, leads)
        args, kwargs = list(args), dict(kwargs)
        for name, position, default in axes:
            given = args[position] if position < len(args) else kwargs.pop(name, default)
            counted = tuple(range(-rank, 0)) if given is None else from_the_end(given, rank)
            if position < len(args):
                args[position] = counted
            else:
                kwargs[name] = counted
        return func(*args, **kwargs)

    return lift


def from_the_end(axes: Any, rank: int) -> Any:
    """Axis numbers as negative ones, which mean the same under a leading axis."""
    if isinstance(axes, (tuple, list)):
        return tuple(from_the_end(axis, rank) for axis in axes)
    return axes - rank if axes >= 0 else axes


def as_is(func: Callable, args: list, kwargs: dict, leads: set) -> Any:
    """For functions of one tensor that act on its last axes, whatever comes before."""
    return func(*args, **kwargs) if leads == {0} else by_vmap(func, args, kwargs, leads)
