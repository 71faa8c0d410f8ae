"""What this torch says at a tie: no formula does, and torch has changed its mind (2.14).

A clamp at its bound, or a maximum of equal operands, has no derivative. There a model is to get the
same gradients from a series as from autograd, so autograd is asked, once, when a rule is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from operator import or_
from typing import Any

import torch


def slopes_at(function: Callable, *point: float) -> tuple[float, ...]:
    """The slopes of one operator of torch in each of its arguments, as its own backward has them.

    The node of the graph is called itself: a backward pass would start the engine's threads, and a
    process that has imported taylortorch could not fork any more.
    """
    with torch.inference_mode(False), torch.enable_grad():
        operands = [
            torch.tensor(x, dtype=torch.float64, device="cpu", requires_grad=True) for x in point
        ]
        result = function(*operands)
        found = result.grad_fn(torch.ones_like(result))
    return tuple(float(x) for x in (found if isinstance(found, tuple) else (found,)))


def by_piece(like: Any, *pieces: tuple[Any, Sequence[float]]) -> tuple[Any, ...]:
    """One slope per operand, from pieces that exclude each other: where it holds, its slopes.

    Slopes of 0 and 1 alone stay boolean, which selects instead of multiplying.
    """
    slopes: list[Any] = []
    for n in range(len(pieces[0][1])):
        slope = reduce(or_, (where for where, given in pieces if given[n] == 1), False)
        for where, given in pieces:
            if given[n] not in (0, 1):
                slope = slope + (where * given[n]).to(like.dtype)
        slopes.append(slope)
    return tuple(slopes)
