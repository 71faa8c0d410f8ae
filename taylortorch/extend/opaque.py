"""The value of a function that autograd may not see through, and the gradient it has all the same.

A rule given by derivatives knows the gradient of the value too; where a gradient is neither
recorded nor known, the call raises instead of losing it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.autograd import forward_ad
from torch.autograd.function import Function

from ..engine.frames import frame_of
from ..engine.private import in_forward_mode, without_any_torch_function
from ..engine.registry import UnsupportedFunction
from ..engine.tensor import TaylorTensor, flatten, run
from .target import Target


def on_series(derivative: Callable) -> Callable:
    """The derivative, given what autograd follows as series: so rules act on all that it calls."""

    def slope(*args: Any, **kwargs: Any) -> Any:
        frame = None
        for x in flatten((args, kwargs), []):
            frame = x if frame is None or x._level > frame._level else frame

        def lifted(x: Any) -> Any:
            if isinstance(x, TaylorTensor) or not _followed(x):
                return x
            return TaylorTensor(x, order=0) if frame is None else frame_of(frame).constant(x)

        named = {name: lifted(x) for name, x in kwargs.items()}
        y = run(derivative, *map(lifted, args), **named)
        return y.value if frame is None and isinstance(y, TaylorTensor) else y

    return slope


class Value:
    """The function on values. Where autograd sees no gradient, it is formed from ``slopes``.

    These are the derivatives in the leading arguments, functions of all arguments, or of the
    result. A gradient that is not known from them either raises.
    """

    def __init__(
        self, target: Target, slopes: Sequence[Callable] = (), of_result: bool = False
    ) -> None:
        self.target = target
        self.slopes = slopes
        self.of_result = of_result
        self.__qualname__ = target.name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        target, count = self.target, len(self.slopes)
        if flatten((args, kwargs), []):
            # series of a lower level
            return target.call(*args, **kwargs)
        if target.records() or not _followed((args, kwargs)):
            return self.checked(_on_plain(target.plain, *args, **kwargs), args)
        y = self.checked(
            self.opaque(args, kwargs) if count else target.plain(*args, **kwargs), args
        )
        if _followed(y) and not target.operators:
            return y
        if _followed((args[count:], kwargs)):
            raise UnsupportedFunction(self.lost())
        return self.attached(_detached(y), args, kwargs)

    def opaque(self, args: tuple, kwargs: dict) -> Any:
        """The result of a function that may not take what requires grad."""
        try:
            return _on_plain(self.target.plain, *args, **kwargs)
        except RuntimeError:
            # as numpy() does: without the leading arguments, whose slopes are known
            count = len(self.slopes)
            bare = (*map(_detached, args[:count]), *args[count:])
            y = _on_plain(self.target.plain, *bare, **kwargs)
            if _followed(y):
                raise
            return y

    def checked(self, y: Any, args: tuple) -> Any:
        """The result, if it is one that the rule is for."""
        results = y if isinstance(y, (tuple, list)) and not self.slopes else (y,)
        for result in results:
            if not isinstance(result, torch.Tensor):
                raise TypeError(
                    f"{self.target.name} returned a {type(result).__name__}; its rule is for a "
                    "function that returns a tensor"
                )
        if self.slopes:
            operands = [x for x in args[: len(self.slopes)] if isinstance(x, torch.Tensor)]
            if not _broadcast(y.shape, *(x.shape for x in operands)):
                raise ValueError(
                    f"{self.target.name} was registered as elementwise, but makes {tuple(y.shape)} "
                    f"of {', '.join(str(tuple(x.shape)) for x in operands)}: give it a rule by "
                    "form=, composite= or evaluate="
                )
        return y

    def lost(self) -> str:
        """Why a gradient is lost, and what to do."""
        if self.slopes:
            known = " and ".join(self.target.names(len(self.slopes)))
            return (
                f"autograd does not see through {self.target.name}, which was registered with its "
                f"derivative in {known}, but another argument requires grad: register a derivative "
                "for each"
            )
        return (
            f"autograd does not see through {self.target.name}, so the gradient of what requires "
            "grad would be lost: give it a backward (torch.autograd.Function, "
            "torch.library.register_autograd), or a rule by derivative= or composite="
        )

    def attached(self, y: torch.Tensor, args: tuple, kwargs: dict) -> torch.Tensor:
        """``y`` with the gradient that the slopes give it."""
        count = len(self.slopes)
        places = [n for n in range(count) if isinstance(args[n], torch.Tensor)]

        def slopes_at(y: Any, operands: Sequence[Any], wanted: Sequence[bool]) -> list[Any]:
            filled = list(args)
            for n, operand in zip(places, operands, strict=True):
                filled[n] = operand
            result: list[Any] = []
            for n, want in zip(places, wanted, strict=True):
                if not want:
                    result.append(None)
                elif self.of_result:
                    result.append(self.slopes[n](y))
                elif torch.compiler.is_compiling():
                    # there is no second backward in compiled code
                    result.append(_on_plain(self.slopes[n], *filled, **kwargs))
                else:
                    result.append(on_series(self.slopes[n])(*filled, **kwargs))
            return result

        operands = [args[n] for n in places]
        kind = _Pushed if any(map(_has_tangent, operands)) else _Attached
        return kind.apply(slopes_at, y, *operands)


class _Attached(Function):
    """A result and its gradient, ``sum of g_i(x) dx_i``, as an elementwise function has it."""

    @staticmethod
    def forward(slopes_at: Callable, y: torch.Tensor, *operands: torch.Tensor) -> torch.Tensor:
        return y.view_as(y)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        ctx.slopes_at = inputs[0]
        ctx.save_for_backward(output, *inputs[2:])

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple:
        y, *operands = ctx.saved_tensors
        slopes = ctx.slopes_at(y, operands, ctx.needs_input_grad[2:])
        return None, None, *map(functools.partial(_pulled_back, grad), slopes, operands)


class _Pushed(_Attached):
    """The same in forward mode. Dynamo does not take a Function that knows it."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        _Attached.setup_context(ctx, inputs, output)
        ctx.save_for_forward(output, *inputs[2:])

    @staticmethod
    def jvp(ctx: Any, _: Any, __: Any, *tangents: Any) -> torch.Tensor:
        y, *operands = ctx.saved_tensors
        slopes = ctx.slopes_at(y, operands, [v is not None for v in tangents])
        parts = [g * v for g, v in zip(slopes, tangents, strict=True) if v is not None]
        return functools.reduce(torch.add, parts).expand_as(y)


def _pulled_back(grad: torch.Tensor, slope: Any, operand: torch.Tensor) -> torch.Tensor | None:
    if slope is None:
        return None
    slope = slope.conj() if isinstance(slope, torch.Tensor) and slope.is_complex() else slope
    result = (grad * slope).sum_to_size(operand.shape)
    return result if operand.is_complex() or not result.is_complex() else result.real


def _followed(tree: Any) -> bool:
    """Whether autograd follows a plain tensor in nested arguments, backward or forward."""
    if isinstance(tree, torch.Tensor):
        return (torch.is_grad_enabled() and tree.requires_grad) or _has_tangent(tree)
    if isinstance(tree, dict):
        return any(map(_followed, tree.values()))
    return isinstance(tree, (list, tuple)) and any(map(_followed, tree))


def _has_tangent(x: torch.Tensor) -> bool:
    return in_forward_mode() and forward_ad.unpack_dual(x).tangent is not None


def _detached(x: Any) -> Any:
    if not isinstance(x, torch.Tensor):
        return x
    return forward_ad.unpack_dual(x).primal.detach() if _has_tangent(x) else x.detach()


def _broadcast(shape: Sequence[int], *shapes: Sequence[int]) -> bool:
    """Whether tensors of these shapes broadcast to ``shape``."""
    return all(
        len(other) <= len(shape)
        and all(a in (1, b) for a, b in zip(reversed(other), reversed(shape), strict=False))
        for other in shapes
    )


def _on_plain(function: Callable, *args: Any, **kwargs: Any) -> Any:
    """Call a function on plain tensors."""
    if torch.compiler.is_compiling():
        # numpy code cannot be traced under a mode, which ``run`` may have entered
        with without_any_torch_function():
            return function(*args, **kwargs)
    return function(*args, **kwargs)
