"""One evaluation of a function on a series: what every transform does."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import torch

from ..algebra.structures import Multivariate, Structure
from ..engine.frames import level_above
from ..engine.private import tree_flatten, tree_unflatten
from ..engine.tensor import TaylorTensor, check_value, full, settle, wrap
from ..operators.variables import Origin, TorchArrays, Variable, event_shape, seeded

_P = ParamSpec("_P")


class Point:
    """A function and the point at which a transform of it is evaluated."""

    def __init__(
        self, who: str, f: Callable, argnums: int, event_dims: int | None, args: tuple, kwargs: dict
    ) -> None:
        self.who = f"taylortorch.func.{who}"
        if not -len(args) <= argnums < len(args):
            raise ValueError(
                f"{self.who}: argnums={argnums}, but the function was called with {len(args)} "
                "positional arguments"
            )
        self.f, self.args, self.kwargs = f, args, kwargs
        self.place = argnums % len(args)
        self.x = args[self.place]
        check_value(self.x, f"{self.who}: argument {self.place}")
        if event_dims is None and self.x.ndim < 2:
            event_dims = self.x.ndim
        self.event = event_shape(self.x, event_dims, self.who)
        self.batch = tuple(self.x.shape[: self.x.ndim - len(self.event)])
        self.count = math.prod(self.event)

    def along(
        self, directions: torch.Tensor, structure: Structure, order: int, top: Any = None
    ) -> Output:
        """``f`` on the series whose degree-1 block is ``directions``, ``(R, *batch, *event)``.

        ``top`` is the block of degree ``order``. The structure is one of samples, ``per_sample``.
        """
        blocks = (self.x, directions, *(None,) * (order - 1))
        if top is not None:
            blocks = (*blocks[:order], top)

        def series(level: int) -> TaylorTensor:
            return wrap(blocks[: order + 1], structure, level)

        return self.of(series)

    def expanded(self, indices: Any) -> Output:
        """``f`` on the multivariate series over these multi-indices."""
        structure = Multivariate(Origin(), indices, TorchArrays)
        variable = Variable(0, self.count, self.event)
        return self.of(lambda level: seeded(self.x, structure, level, variable))

    def of(self, series: Callable[[int], TaylorTensor]) -> Output:
        """``f`` on a series in place of ``x``."""
        with level_above(self.x) as level:
            args = list(self.args)
            args[self.place] = series(level)
            output = Output(self.f(*args, **self.kwargs), level)
            for y in output.leaves:
                self._check(y)
            return output

    def _check(self, y: Any) -> None:
        if not isinstance(y, torch.Tensor):
            raise TypeError(f"{self.who}: the function returned a {type(y).__name__}, not a tensor")
        if isinstance(y, TaylorTensor):
            settle(y)
        if tuple(y.shape[: len(self.batch)]) != self.batch:
            raise ValueError(
                f"{self.who}: the output, of shape {tuple(y.shape)}, does not begin with the batch "
                f"shape {self.batch} of argument {self.place}: pass event_dims= (all "
                f"{self.x.ndim} axes are one sample if it is {self.x.ndim}), or return one "
                "output per sample"
            )

    def units(self, numbers: Sequence[int]) -> torch.Tensor:
        """The unit directions along these coordinates, the same for all samples."""
        eye = self.x.new_zeros((len(numbers), self.count))
        eye[range(len(numbers)), list(numbers)] = 1
        return eye.reshape(len(numbers), *(1,) * len(self.batch), *self.event)


class Output:
    """What the function returned: tensors, some of them series of this transform's level."""

    def __init__(self, result: Any, level: int) -> None:
        self.leaves, self.tree = _flattened(result)
        self.level = level

    def map(self, series: Callable, constant: Callable) -> Any:
        """The output with each series, and each plain tensor, replaced."""
        return tree_unflatten(
            [series(y) if self.varies(y) else constant(y) for y in self.leaves], self.tree
        )

    def varies(self, y: Any) -> bool:
        """Whether ``y`` is a series of this level."""
        return isinstance(y, TaylorTensor) and y._level == self.level

    def value(self) -> Any:
        """What the function itself gives."""
        return self.map(lambda y: y._blocks[0], lambda y: y)

    def rows(self, degree: int, count: int) -> Any:
        """The ``count`` rows of one degree of a multivariate series."""
        return self.map(
            lambda y: full(y, degree) if count else y._blocks[0].new_zeros((0, *y.shape)),
            lambda y: y.new_zeros(()).expand(count, *y.shape),
        )

    def row(self, degree: int, row: int) -> Any:
        """One row of one degree of a multivariate series."""

        def of(y: TaylorTensor) -> Any:
            block = y._blocks[degree]
            value = y._blocks[0]
            return torch.zeros_like(value) if block is None else block[row].expand(value.shape)

        return self.map(of, torch.zeros_like)

    def block(self, degree: int) -> Any:
        """The coefficients of one degree, of a series that is no bundle there."""
        return self.map(lambda y: full(y, degree), torch.zeros_like)


def _flattened(result: Any) -> tuple[list[Any], Any]:
    """The tensors of an output, series among them, and how they were nested."""
    return tree_flatten(result, is_leaf=lambda y: isinstance(y, torch.Tensor))


def transform(
    who: str,
    evaluate: Callable[[Point], tuple[Any, Any]],
    f: Callable[_P, Any],
    argnums: int,
    event_dims: int | None,
    return_value: bool,
) -> Callable[_P, Any]:
    """The transformed function: ``evaluate`` gives the result and the value."""
    if not callable(f):
        raise TypeError(
            f"taylortorch.func.{who} takes a function and returns one: {who}(f)(x); got "
            f"{type(f).__name__}"
        )
    if isinstance(argnums, bool) or not isinstance(argnums, int):
        raise TypeError(
            f"taylortorch.func.{who}: argnums must be an int, got {type(argnums).__name__}; the "
            f"arguments go to the function that is returned: {who}(f)(x)"
        )

    def transformed(*args: _P.args, **kwargs: _P.kwargs) -> Any:
        result, value = evaluate(Point(who, f, argnums, event_dims, args, kwargs))
        return (result, value) if return_value else result

    name = getattr(f, "__name__", type(f).__name__)
    transformed.__name__ = transformed.__qualname__ = f"{who}({name})"
    return transformed


def in_chunks(
    who: str, count: int, chunk_size: int | None, part: Callable[[range], tuple[Output, Any]]
) -> tuple[list[Any], Any]:
    """What ``part`` reads off its output for each chunk of ``range(count)``, and the value."""
    parts, value = [], None
    for numbers in _chunks_of(who, count, chunk_size):
        output, read = part(numbers)
        parts.append(read)
        value = output.value() if value is None else value
    return parts, value


def _chunks_of(who: str, count: int, chunk_size: int | None) -> list[range]:
    if chunk_size is None:
        return [range(count)]
    if isinstance(chunk_size, bool) or not isinstance(chunk_size, int):
        raise TypeError(f"taylortorch.func.{who}: chunk_size must be an int or None")
    if chunk_size < 1:
        raise ValueError(f"taylortorch.func.{who}: chunk_size must be at least 1, got {chunk_size}")
    return [range(n, min(n + chunk_size, count)) for n in range(0, count, chunk_size)] or [range(0)]


def tree_map(combine: Callable, *trees: Any) -> Any:
    """``combine`` on corresponding tensors of several outputs."""
    flat = [_flattened(t) for t in trees]
    return tree_unflatten(
        [combine(*ys) for ys in zip(*(f[0] for f in flat), strict=True)], flat[0][1]
    )


def added(trees: Sequence[Any]) -> Any:
    return functools.reduce(functools.partial(tree_map, lambda a, b: a + b), trees)
