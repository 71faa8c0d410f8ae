"""How a rule reads its call: which arguments are series, which are not, and their values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from ..algebra.streams import Stream
from ..algebra.structures import LINE, Structure
from .registry import UnsupportedFunction, name_of
from .tensor import TaylorTensor, flatten, settle


def bind(
    func: Callable, names: Sequence[str], args: tuple, kwargs: dict
) -> tuple[list[Any], tuple, dict]:
    """The arguments called ``names`` (a prefix of the signature), the other ones, the other kwargs.

    Raises:
        UnsupportedFunction: a TaylorTensor among the others.
        TypeError: a numpy array among the operands.
    """
    operands, others = list(args[: len(names)]), args[len(names) :]
    if kwargs and len(operands) < len(names):
        kwargs = dict(kwargs)
        for name in names[len(operands) :]:
            if name not in kwargs:
                break
            operands.append(kwargs.pop(name))
    for operand in operands:
        if isinstance(operand, np.ndarray):
            raise TypeError(
                f"{name_of(func)} of a TaylorTensor and a numpy array: use torch.as_tensor(array)"
            )
    if (others or kwargs) and flatten((others, kwargs), []):
        raise UnsupportedFunction(
            f"{name_of(func)} takes a TaylorTensor only as {' or '.join(names)}: pass x.value for "
            "the other arguments where no derivative through them is needed"
        )
    return operands, others, kwargs


def series_among(func: Callable, operands: Sequence[Any]) -> list[TaylorTensor]:
    """The TaylorTensors among the operands.

    Raises:
        UnsupportedFunction: there is none; the series is in a place that the rule does not know.
    """
    found = [x for x in operands if isinstance(x, TaylorTensor)]
    if not found:
        raise UnsupportedFunction(
            f"{name_of(func)} was given a TaylorTensor where its rule expects none"
        )
    return found


def operand_of(func: Callable, names: Sequence[str], args: tuple, kwargs: dict) -> tuple:
    """The series, for functions of one, with the other arguments and the other kwargs."""
    if len(args) == 1 and not kwargs:
        x, others = args[0], ()
    else:
        (x,), others, kwargs = bind(func, names, args, kwargs)
    if not isinstance(x, TaylorTensor):
        series_among(func, (x,))
    settle(x)
    return x, others, kwargs


def aligned(blocks: Sequence[Any], ndim: int, structure: Structure) -> Sequence[Any]:
    """The blocks with axes of size 1 inserted, to broadcast as a value of ``ndim`` axes."""
    value = blocks[0]
    missing = ndim - value.ndim if isinstance(value, torch.Tensor) else 0
    if missing <= 0 or structure is LINE:
        return blocks
    return [value] + [
        block.reshape(block.shape[:1] + (1,) * missing + block.shape[1:])
        if block is not None and structure.leads(k)
        else block
        for k, block in enumerate(blocks[1:], 1)
    ]


def is_constant(blocks: Sequence[Any]) -> bool:
    """Whether every block of degree >= 1 is known to be structurally zero."""
    if type(blocks) is Stream or (len(blocks) > 1 and blocks[1] is not None):
        return False
    return all(block is None for block in blocks[1:])


# --- value, constant ----------------------------------------------------------------------------


def values_of(tree: Any, level: int) -> Any:
    """The arguments with the value in place of each TaylorTensor of this level."""
    if isinstance(tree, TaylorTensor):
        return tree._blocks[0] if tree._level == level else tree
    if type(tree) in (list, tuple):
        return type(tree)(values_of(item, level) for item in tree)
    return tree
