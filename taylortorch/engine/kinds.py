"""The kinds of rules that are not multilinear: how blocks meet a function, each said once.

A row of a table in ``rules/`` names a kind and says what the kind needs to know; the kind makes the
evaluator ``evaluate(func, args, kwargs)``. ``func`` is the function as it was called: it computes
the value of the result, which is torch's own (that of a composite agrees with it to rounding).
Forms, as in ``input*weight + bias``, are read by ``multilinear.py``; joining operands and binding
arguments is for ``frames.py`` and ``arguments.py``.

| kind | meaning | what the row says |
|---|---|---|
| ``value`` | depends on ``c_0`` only, gives a plain result | nothing |
| ``constant`` | piecewise constant: all its derivatives are zero | nothing |
| ``ode`` | ``y' = (a + b y + c y**2) x'`` | three numbers |
| ``slope`` | ``y' = sum_i g_i(x) x_i'`` | one lambda per argument, in plain torch |
| ``piecewise`` | linear on each piece, ``c_0`` picks the piece | the slopes on that piece |
| ``reshape`` | the same entries in another shape | nothing |
| ``composite`` | ordinary torch code on TaylorTensors | its body |
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..algebra import series
from ..algebra.series import by_degree, each
from ..algebra.streams import Stream
from . import adjoints
from .arguments import aligned, bind, is_constant, operand_of, series_among, values_of
from .frames import Frame, frame_of, join
from .registry import Evaluator
from .tensor import TaylorTensor, flatten, full, run, settle
from .writing import as_view, reshape_in_place, store, view_of


def value(func: Callable, args: tuple, kwargs: dict) -> Any:
    """A function of the value alone; its result carries no series."""
    found = flatten((args, kwargs), [])
    for x in found:
        settle(x)
    level = max(x._level for x in found)
    args = tuple(values_of(a, level) for a in args)
    kwargs = {k: values_of(v, level) for k, v in kwargs.items()}
    return run(func, *args, **kwargs)


def attribute(func: Callable, args: tuple, kwargs: dict) -> Any:
    """A property of the tensor that its value has as well: shape, dtype, device ..."""
    return run(func, args[0]._blocks[0], *args[1:], **kwargs)


def constant(func: Callable, args: tuple, kwargs: dict) -> Any:
    """A piecewise constant function: a constant series, or a plain tensor of integers."""
    frame = join(func, flatten((args, kwargs), []), by_entry=True)
    result = value(func, args, kwargs)
    if not (result.is_floating_point() or result.is_complex()):
        return result
    return frame.constant(result)


def value_of_first(func: Callable, args: tuple, kwargs: dict) -> Any:
    """As ``value``, for functions that would lose a series anywhere but in their first argument."""
    bind(func, ("input",), args, kwargs)
    return value(func, args, kwargs)


def constant_of_first(func: Callable, args: tuple, kwargs: dict) -> Any:
    """As ``constant``, for functions that would lose a series in any argument but the first."""
    bind(func, ("input",), args, kwargs)
    return constant(func, args, kwargs)


# --- ode, slope, piecewise ----------------------------------------------------------------------


def elementwise(
    forward: Callable,
    slope_blocks: Callable,
    needs: int | None = None,
    names: Sequence[str] = ("input",),
) -> Evaluator:
    """A function of one operand that acts entry by entry, with its reverse pass in closed form.

    ``forward(func, frame, x, others, kwargs)`` gives the blocks of the result from those of the
    operand; ``slope_blocks(frame, x, y, order, others, kwargs)``, from both, those of the
    derivative. It reads the first ``needs`` blocks of ``x`` (None: all).
    """

    def evaluate(func: Callable, args: tuple, kwargs: dict) -> Any:
        x, others, kwargs = operand_of(func, names, args, kwargs)
        frame = frame_of(x)
        if adjoints.applies(x._structure, x._blocks) and not _holds_tensor(others, kwargs):
            y = adjoints.record(
                lambda x: forward(func, frame, x, others, kwargs),
                lambda x, y, order: slope_blocks(frame, x, y, order, others, kwargs),
                frame.order + 1 if needs is None else needs,
                x._structure,
                x._blocks,
            )
        else:
            y = forward(func, frame, x._blocks, others, kwargs)
        return frame.wrap(y)

    return evaluate


def _holds_tensor(others: tuple, kwargs: dict) -> bool:
    if not others and not kwargs:
        return False
    return any(isinstance(a, torch.Tensor) for a in (*others, *kwargs.values()))


def ode(
    a: float,
    b: float,
    c: float,
    slope0: Callable | None = None,
    fused: Callable | None = None,
) -> Evaluator:
    """``y' = (a + b y + c y**2) x'``.

    ``slope0(x0, y0)`` is a better formula for the first slope, ``fused(block, y0)`` one pass that
    multiplies real tensors with it.
    """

    def slope_blocks(
        frame: Frame, x: Sequence[Any], y: Sequence[Any], order: int, *_: Any
    ) -> Sequence[Any]:
        first = series.quadratic_value(y[0], a, b, c) if slope0 is None else slope0(x[0], y[0])
        if order == 0:
            return [first]
        higher = series.quadratic_terms(frame.structure, y[0], b, c)
        return [first, *(higher(y, k) for k in range(1, order + 1))]

    def forward(
        func: Callable, frame: Frame, x: Sequence[Any], others: tuple, kwargs: dict
    ) -> Sequence[Any]:
        s, y0 = frame.structure, func(x[0], *others, **kwargs)
        order = frame.order
        if order == 0:
            return (y0,)
        if fused is not None and order < 3 and type(y0) is torch.Tensor and not y0.is_complex():
            return series.ode(s, y0, x, a, b, c, None, lambda block: fused(block, y0))
        first = None if slope0 is None else slope0(x[0], y0)
        return series.ode(s, y0, x, a, b, c, first)

    return elementwise(forward, slope_blocks, 0 if slope0 is None else 1)


def slope(
    *derivatives: Callable,
    names: Sequence[str] = ("input", "other"),
    closed: Callable | None = None,
) -> Evaluator:
    """``y' = sum_i g_i x_i'`` where ``g_i(*operands, ...)`` is torch code, same arguments.

    The code runs on the operands' series truncated by one degree, so the library is written in
    itself; at order 1 it runs on plain values. ``closed(n, *operands, ...)``, for a function of one
    operand, gives its first n <= 3 derivatives at a real value, which take fewer passes up to order
    2; or None for arguments that it does not serve.
    """
    names = names[: len(derivatives)]
    if len(derivatives) == 1:
        return _slope_of_one(derivatives[0], names, closed)

    def evaluate(func: Callable, args: tuple, kwargs: dict) -> Any:
        operands, others, kwargs = bind(func, names, args, kwargs)
        frame = join(func, series_among(func, operands), by_entry=True)
        inputs = [frame.blocks(x) for x in operands]
        y0 = func(*(b[0] for b in inputs), *others, **kwargs)
        if frame.order == 0:
            return frame.wrap((y0,))
        lower = frame.truncated(frame.order - 1)
        arguments = [b[0] for b in inputs]
        if frame.order > 1:
            arguments = [
                x if is_constant(b) else lower.wrap(b[:-1])
                for x, b in zip(operands, inputs, strict=True)
            ]
        factors = []
        for b, derivative in zip(inputs, derivatives, strict=False):
            if not is_constant(b):
                slopes = lower.blocks(run(derivative, *arguments, *others, **kwargs))
                s, rank = frame.structure, y0.ndim
                factors.append((aligned(b, rank, s), aligned(slopes, rank, s)))
        if not factors:
            return frame.constant(y0)
        return frame.wrap(series.integrate(frame.structure, y0, *factors))

    return evaluate


def _slope_of_one(derivative: Callable, names: Sequence[str], closed: Callable | None) -> Evaluator:
    def in_closed_form(x: Sequence[Any], count: int, others: tuple, kwargs: dict) -> list | None:
        if closed is None or count > 3 or type(x) is Stream or x[0].is_complex():
            return None
        return run(closed, count, x[0], *others, **kwargs)

    def slope_blocks(
        frame: Frame, x: Sequence[Any], _: Any, order: int, others: tuple, kwargs: dict
    ) -> Sequence[Any]:
        if order == 0 or is_constant(x):
            return [run(derivative, x[0], *others, **kwargs)] + [None] * order
        f = in_closed_form(x, order + 1, others, kwargs)
        if f is not None:
            return series.along(frame.structure, f, x)
        lower = frame.truncated(order)
        return lower.blocks(run(derivative, lower.wrap(x[: order + 1]), *others, **kwargs))

    def forward(
        func: Callable, frame: Frame, x: Sequence[Any], others: tuple, kwargs: dict
    ) -> Sequence[Any]:
        s, order, y0 = frame.structure, frame.order, func(x[0], *others, **kwargs)
        if is_constant(x):
            return [y0] + [None] * order
        f = in_closed_form(x, order, others, kwargs) if order < 3 else None
        if f is not None:
            return series.along(s, [y0, *f], x)
        g = aligned(slope_blocks(frame, x, None, order - 1, others, kwargs), y0.ndim, s)
        return series.integrate(s, y0, (aligned(x, y0.ndim, s), g))

    return elementwise(forward, slope_blocks, names=names)


def piecewise(slopes: Callable, names: Sequence[str] = ("input",)) -> Evaluator:
    """Linear on each piece: ``slopes(*values, ...)`` gives the slope in each operand.

    A slope is a tensor, a number, or a boolean tensor for 0 and 1.
    """

    def evaluate(func: Callable, args: tuple, kwargs: dict) -> Any:
        operands, others, kwargs = bind(func, names, args, kwargs)
        frame = join(func, series_among(func, operands), by_entry=True)
        inputs: list[Any] = [frame.blocks(x) for x in operands]
        values = [b[0] for b in inputs]
        y0 = func(*values, *others, **kwargs)
        factors = run(slopes, *values, *others, **kwargs)
        if not isinstance(factors, tuple):
            factors = (factors,)
        inputs = [aligned(b, y0.ndim, frame.structure) for b in inputs]

        def term(_: Any, k: int) -> Any:
            picked = (_picked(factor, b[k]) for factor, b in zip(factors, inputs, strict=False))
            return series.total(picked)

        return frame.wrap(by_degree(y0, frame.order, term, *inputs))

    return evaluate


def _picked(factor: Any, block: Any) -> Any:
    if block is None:
        return None
    if isinstance(factor, torch.Tensor) and factor.dtype == torch.bool:
        return torch.where(factor, block, block.new_zeros(()))
    return series.times(block, factor)


def _of_value(func: Callable, args: tuple, kwargs: dict) -> tuple[Any, ...]:
    """For a function of one series: it, its frame, the value of the result, the other arguments."""
    x = args[0] if args else kwargs["input"]
    series_among(func, (x,))
    frame = join(func, (x,), by_entry=True)
    args = tuple(values_of(a, frame.level) for a in args)
    kwargs = {name: values_of(a, frame.level) for name, a in kwargs.items()}
    y0 = func(*args, **kwargs)
    if frame.structure.compact:
        # its entries move together with the value's, or it has to be spread out before
        moved = frame.structure.reshaped(x._blocks[0].shape, y0.shape)
        frame = join(func, (x,)) if moved is None else Frame(frame.level, moved, frame.order)
    return x, frame, y0, args[1:], kwargs


def reshape(view: bool | str) -> Evaluator:
    """The same entries in the same order, in another shape."""

    def evaluate(func: Callable, args: tuple, kwargs: dict) -> Any:
        if args and not isinstance(args[0], TaylorTensor):
            # a plain tensor takes the shape of a series
            return value(func, args, kwargs)
        x, frame, y0, others, kwargs = _of_value(func, args, kwargs)
        if y0 is x._blocks[0]:
            return x

        def term(_: Any, k: int) -> Any:
            if blocks[k] is None:
                return None
            whole = full(x, k)
            return whole.reshape((*whole.shape[: frame.structure.leads(k)], *y0.shape))

        blocks = x._blocks
        result = frame.wrap(by_degree(y0, frame.order, term, blocks))
        as_view(func, x, others, kwargs, [result], view, False)
        return result

    return evaluate


def broadcast(func: Callable, args: tuple, kwargs: dict) -> Any:
    """A broadcast view: the blocks keep their size 1 along the new axes."""
    if args and not isinstance(args[0], TaylorTensor):
        # a plain tensor takes the shape of a series
        return value(func, args, kwargs)
    x, frame, y0, others, kwargs = _of_value(func, args, kwargs)
    if y0 is x._blocks[0]:
        return x
    blocks = aligned(x._blocks, y0.ndim, frame.structure)
    result = frame.wrap(each(lambda block: block, blocks, y0))
    return view_of(x, lambda base: func(base, *others, **kwargs), result)


# --- composite, in place ------------------------------------------------------------------------


def composite(body: Callable) -> Evaluator:
    """Ordinary torch code, run on TaylorTensors; it takes the same arguments as the function."""

    def evaluate(func: Callable, args: tuple, kwargs: dict) -> Any:
        return as_series(func, args, kwargs, run(body, *args, **kwargs))

    return evaluate


def as_series(func: Callable, args: tuple, kwargs: dict, result: Any) -> Any:
    """The result of torch code on TaylorTensors: a constant series where it used none of them."""
    if (
        isinstance(result, torch.Tensor)
        and not isinstance(result, TaylorTensor)
        and (result.is_floating_point() or result.is_complex())
    ):
        return join(func, flatten((args, kwargs), [])).constant(result)
    return result


def in_place(evaluate: Evaluator) -> Callable[[Callable], Evaluator]:
    """The in-place forms of a function: the out-of-place result, stored into the first argument."""

    def of(out_of_place: Callable) -> Evaluator:
        def write(func: Callable, args: tuple, kwargs: dict) -> Any:
            result = evaluate(out_of_place, args, kwargs)
            return store(func, args[0], result)

        return write

    return of


def in_place_shape(evaluate: Evaluator) -> Callable[[Callable], Evaluator]:
    """The in-place forms of a function that gives its argument another shape."""

    def of(out_of_place: Callable) -> Evaluator:
        def write(func: Callable, args: tuple, kwargs: dict) -> Any:
            target = args[0]
            viewed = target._viewed
            result = evaluate(out_of_place, args, kwargs)
            target._viewed = viewed
            return reshape_in_place(func, target, result)

        return write

    return of


def with_inplace_argument(evaluate: Evaluator) -> Evaluator:
    """For functions of ``torch.nn.functional`` with an ``inplace`` argument."""

    def checked(func: Callable, args: tuple, kwargs: dict) -> Any:
        inplace = kwargs.get("inplace", False)
        if "inplace" in kwargs:
            kwargs = {name: a for name, a in kwargs.items() if name != "inplace"}
        elif isinstance(func, types.FunctionType):
            # eager torch passes it by name, Dynamo as the user did
            position = _INPLACE_POSITION.get(func.__name__, len(args))
            if len(args) > position:
                inplace = args[position]
                args = (*args[:position], *args[position + 1 :])
        result = evaluate(func, args, kwargs)
        return store(func, args[0] if args else kwargs["input"], result) if inplace else result

    return checked


_INPLACE_POSITION = {
    name: list(inspect.signature(function).parameters).index("inplace")
    for name, function in vars(torch.nn.functional).items()
    if isinstance(function, types.FunctionType)
    and "inplace" in inspect.signature(function).parameters
}
