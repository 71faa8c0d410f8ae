"""Frames: where series meet, and the levels of expansions inside one another."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from ..algebra.structures import Collapsed, Structure, meeting
from .registry import UnsupportedFunction, name_of
from .tensor import TaylorTensor, level_over, settle, wrap


class _Open(threading.local):
    """The level of the innermost expansion that is under way: a transform, an integration."""

    def __init__(self) -> None:
        # of the instance, in every thread from the start: Dynamo guards on its being there
        self.level = 0


_open = _Open()


@contextlib.contextmanager
def level_above(*inputs: Any) -> Iterator[int]:
    """A level for an expansion of the library's own, above those of the inputs and of others.

    It leaves room below for series that a function closes over, and above for those it makes.
    """
    outer = _open.level
    _open.level = max([outer + 1000, *(level_over(x) for x in inputs)])
    try:
        yield _open.level
    finally:
        _open.level = outer


def spread(x: TaylorTensor) -> None:
    """Give ``x`` blocks over all directions in place of compact ones."""
    settle(x)
    if x._structure.compact:
        x._structure, blocks = x._structure.whole(x._blocks)
        x._blocks = tuple(blocks)


class Frame:
    """Where series meet: the level of their expansion, its structure, and the order they keep."""

    # made once in every call of a function: half the time of a NamedTuple
    __slots__ = ("level", "order", "structure")

    def __init__(self, level: int, structure: Structure, order: int) -> None:
        self.level = level
        self.structure = structure
        self.order = order

    def blocks(self, x: Any) -> Sequence[Any]:
        """The blocks of ``x`` in this frame; what is no series of its level is a constant there."""
        level, structure, order = self.level, self.structure, self.order
        if not isinstance(x, TaylorTensor) or x._level != level:
            return (x,) + (None,) * order
        if x._structure is structure and len(x._blocks) == order + 1:
            return x._blocks
        blocks = x._structure.project(x._blocks, structure, order)
        if type(structure) is not Collapsed and type(x._structure) is Collapsed:
            assert order < x._structure.order
        return blocks

    def truncated(self, order: int) -> Frame:
        """The frame of the same series without their blocks of degree above ``order``."""
        return Frame(self.level, self.structure.truncated(order), order)

    def wrap(self, blocks: Any) -> TaylorTensor:
        """The series of these blocks, an iterable or a stream."""
        return wrap(blocks, self.structure, self.level)

    def constant(self, value: torch.Tensor) -> TaylorTensor:
        """The constant series of this value."""
        return wrap((value,) + (None,) * self.order, self.structure, self.level)


def frame_of(x: TaylorTensor) -> Frame:
    """The frame of one series."""
    return Frame(x._level, x._structure, len(x._blocks) - 1)


def join(function: Any, tensors: Sequence[Any], by_entry: bool = False) -> Frame:
    """The frame in which ``function`` acts on these TaylorTensors.

    The highest level among them; series of lower levels are constants there. ``by_entry``: each
    entry of the result depends on one entry of each argument, so that compact blocks will do.
    """
    if not by_entry:
        for x in tensors:
            if x._structure.compact:
                spread(x)
    first = tensors[0]
    settle(first)
    level, structure, order = first._level, first._structure, len(first._blocks) - 1
    if len(tensors) == 1:
        return Frame(level, structure, order)
    for x in tensors[1:]:
        settle(x)
        if x._level > level:
            level, structure, order = x._level, x._structure, len(x._blocks) - 1
    for x in tensors:
        if x._level != level:
            continue
        if len(x._blocks) - 1 < order:
            order = len(x._blocks) - 1
        if x._structure is not structure:
            common = meeting(structure, x._structure, order)
            if common is None:
                raise UnsupportedFunction(
                    f"{name_of(function)} mixes two different expansions at one level: "
                    f"{structure.describe()} and {x._structure.describe()}. Make all inputs by one "
                    "call of taylortorch.variables, or all with the same number of directions; or "
                    "nest one expansion inside the other: TaylorTensor(TaylorTensor(x))"
                )
            structure = common
            order = structure.limit(order)
    return Frame(level, structure.truncated(order), order)
