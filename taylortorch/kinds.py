"""How each kind of function acts on a series: the only place where blocks meet torch functions.

A row of a table in ``rules/`` names a kind and says what the kind needs to know; the kind makes the
evaluator ``evaluate(func, args, kwargs)``. ``func`` is the function as it was called: it computes
the value of the result, which is torch's own (that of a composite agrees with it to rounding).

| kind | meaning | what the row says |
|---|---|---|
| ``value`` | depends on ``c_0`` only, gives a plain result | nothing |
| ``constant`` | piecewise constant: all its derivatives are zero | nothing |
| ``ode`` | ``y' = (a + b y + c y**2) x'`` | three numbers |
| ``slope`` | ``y' = sum_i g_i(x) x_i'`` | one lambda per argument, in plain torch |
| ``piecewise`` | linear on each piece, ``c_0`` picks the piece | the slopes on that piece |
| ``multilinear`` | of degree <= 1 in each tensor argument | its form: ``input*weight + bias`` |
| ``reshape`` | the same entries in another shape | nothing |
| ``composite`` | ordinary torch code on TaylorTensors | its body |
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from . import adjoints, series
from .lifts import Lift, by_vmap
from .registry import Evaluator, UnsupportedFunction, name_of
from .streams import Stream, by_degree, each
from .structures import Structure
from .tensor import (
    LINE,
    TaylorTensor,
    blocks_at,
    flatten,
    full,
    innermost,
    join,
    run,
    settle,
    spread,
    wrap,
)
from .writing import reshape_in_place, store, view_of

# --- arguments ----------------------------------------------------------------------------------


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
    level, structure, order = join(func, flatten((args, kwargs), []), by_entry=True)
    result = value(func, args, kwargs)
    if not (result.is_floating_point() or result.is_complex()):
        return result
    return wrap((result,) + (None,) * order, structure, level)


def value_of_first(func: Callable, args: tuple, kwargs: dict) -> Any:
    """As ``value``, for functions that would lose a series anywhere but in their first argument."""
    bind(func, ("input",), args, kwargs)
    return value(func, args, kwargs)


def constant_of_first(func: Callable, args: tuple, kwargs: dict) -> Any:
    """As ``constant``, for functions that would lose a series in any argument but the first."""
    bind(func, ("input",), args, kwargs)
    return constant(func, args, kwargs)


# --- ode, slope, piecewise ----------------------------------------------------------------------


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
    needs = 0 if slope0 is None else 1

    def slope(s: Structure, x: Sequence[Any], y: Sequence[Any], order: int) -> Sequence[Any]:
        first = series.quadratic_value(y[0], a, b, c) if slope0 is None else slope0(x[0], y[0])
        if order == 0:
            return [first]
        higher = series.quadratic_terms(s, y[0], b, c)
        return [first, *(higher(y, k) for k in range(1, order + 1))]

    def evaluate(func: Callable, args: tuple, kwargs: dict) -> Any:
        x, others, kwargs = operand_of(func, ("input",), args, kwargs)
        order = len(x._blocks) - 1

        def forward(s: Structure, x: Sequence[Any]) -> Sequence[Any]:
            y0 = func(x[0], *others, **kwargs)
            if order == 0:
                return (y0,)
            if fused is not None and order < 3 and type(y0) is torch.Tensor and not y0.is_complex():
                return series.ode(s, y0, x, a, b, c, None, lambda block: fused(block, y0))
            first = None if slope0 is None else slope0(x[0], y0)
            return series.ode(s, y0, x, a, b, c, first)

        y = adjoints.apply(forward, slope, needs, x._structure, x._blocks)
        return wrap(y, x._structure, x._level)

    return evaluate


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
        level, structure, order = join(func, series_among(func, operands), by_entry=True)
        inputs = [blocks_at(x, level, structure, order) for x in operands]
        y0 = func(*(b[0] for b in inputs), *others, **kwargs)
        if order == 0:
            return wrap((y0,), structure, level)
        lower = structure.truncated(order - 1)
        if order == 1:
            arguments = [b[0] for b in inputs]
        else:
            arguments = [
                x if is_constant(b) else wrap(b[:-1], lower, level)
                for x, b in zip(operands, inputs, strict=True)
            ]
        factors = []
        for b, derivative in zip(inputs, derivatives, strict=False):
            if not is_constant(b):
                g = run(derivative, *arguments, *others, **kwargs)
                slopes = blocks_at(g, level, lower, order - 1)
                factors.append(
                    (aligned(b, y0.ndim, structure), aligned(slopes, y0.ndim, structure))
                )
        if not factors:
            return wrap((y0,) + (None,) * order, structure, level)
        return wrap(series.integrate(structure, y0, *factors), structure, level)

    return evaluate


def _slope_of_one(derivative: Callable, names: Sequence[str], closed: Callable | None) -> Evaluator:
    def evaluate(func: Callable, args: tuple, kwargs: dict) -> Any:
        x, others, kwargs = operand_of(func, names, args, kwargs)
        level, structure, order = x._level, x._structure, len(x._blocks) - 1

        def in_closed_form(x: Sequence[Any], count: int) -> list | None:
            if closed is None or count > 3 or type(x) is Stream or x[0].is_complex():
                return None
            return run(closed, count, x[0], *others, **kwargs)

        def slope(s: Structure, x: Sequence[Any], _: Any, order: int) -> Sequence[Any]:
            if order == 0 or is_constant(x):
                return [run(derivative, x[0], *others, **kwargs)] + [None] * order
            f = in_closed_form(x, order + 1)
            if f is not None:
                return series.along(s, f, x)
            lower = s.truncated(order)
            g = run(derivative, wrap(x[: order + 1], lower, level), *others, **kwargs)
            return blocks_at(g, level, lower, order)

        def forward(s: Structure, x: Sequence[Any]) -> Sequence[Any]:
            y0 = func(x[0], *others, **kwargs)
            if is_constant(x):
                return [y0] + [None] * order
            f = in_closed_form(x, order) if order < 3 else None
            if f is not None:
                return series.along(s, [y0, *f], x)
            g = aligned(slope(s, x, None, order - 1), y0.ndim, s)
            return series.integrate(s, y0, (aligned(x, y0.ndim, s), g))

        if any(isinstance(a, torch.Tensor) for a in (*others, *kwargs.values())):
            y = forward(structure, x._blocks)
        else:
            y = adjoints.apply(forward, slope, order + 1, structure, x._blocks)
        return wrap(y, structure, level)

    return evaluate


def piecewise(slopes: Callable, names: Sequence[str] = ("input",)) -> Evaluator:
    """Linear on each piece: ``slopes(*values, ...)`` gives the slope in each operand.

    A slope is a tensor, a number, or a boolean tensor for 0 and 1.
    """

    def evaluate(func: Callable, args: tuple, kwargs: dict) -> Any:
        operands, others, kwargs = bind(func, names, args, kwargs)
        level, structure, order = join(func, series_among(func, operands), by_entry=True)
        inputs: list[Any] = [blocks_at(x, level, structure, order) for x in operands]
        values = [b[0] for b in inputs]
        y0 = func(*values, *others, **kwargs)
        factors = run(slopes, *values, *others, **kwargs)
        if not isinstance(factors, tuple):
            factors = (factors,)
        inputs = [aligned(b, y0.ndim, structure) for b in inputs]

        def term(_: Any, k: int) -> Any:
            picked = (_picked(factor, b[k]) for factor, b in zip(factors, inputs, strict=False))
            return series.total(picked)

        return wrap(by_degree(y0, order, term, *inputs), structure, level)

    return evaluate


def _picked(factor: Any, block: Any) -> Any:
    if block is None:
        return None
    if isinstance(factor, torch.Tensor) and factor.dtype == torch.bool:
        return torch.where(factor, block, block.new_zeros(()))
    return series.times(block, factor)


# --- multilinear --------------------------------------------------------------------------------


class Form:
    """A multilinear function's algebra: ``"input, weight, bias? : input*weight + bias"``.

    Its tensor arguments, in the order of the signature (``?``: may be absent), then those that
    stand alone and at most one product of others, added up.

    Raises:
        ValueError: anything else.
    """

    def __init__(self, text: str) -> None:
        left, _, right = text.partition(":")
        given = [name.strip() for name in left.split(",")]
        self.names = [name.rstrip("?") for name in given]
        self.optional = {i for i, name in enumerate(given) if name.endswith("?")}
        position = {name: i for i, name in enumerate(self.names)}
        terms = [[name.strip() for name in term.split("*")] for term in right.split("+")]
        used = [name for term in terms for name in term]
        products = [term for term in terms if len(term) > 1]
        if set(used) - set(position) or len(set(used)) < len(used) or len(products) > 1:
            raise ValueError(
                f"{text!r} is no form of a multilinear function: it takes the arguments, a colon, "
                "and a sum of arguments and at most one product of others, each named once, as in "
                "'x, weight, bias : x*weight + bias'"
            )
        monomials = [tuple(position[name] for name in term) for term in terms]
        self.products = [m for m in monomials if len(m) > 1]
        self.singles = [m[0] for m in monomials if len(m) == 1]
        self.slots = sorted({i for m in monomials for i in m})
        self.factors = {i for m in self.products for i in m}


def multilinear(
    form: str,
    lift: Lift = by_vmap,
    shared: Callable | bool = False,
    view: bool | str = False,
    zero: Callable | None = None,
    dense: bool = False,
    through: Callable | None = None,
) -> Evaluator:
    """Of degree <= 1 in each tensor argument, as ``form`` says.

    The block of degree k is the sum, over the form's products and the degrees that add up to k, of
    the function itself with those blocks in the product's places.

    Args:
        form: see ``Form``.
        lift: how to call the function on blocks with a leading axis.
        shared: whether blocks of size 1 along an axis may be passed as they are: True, or a
            function of an argument's position and rank that names the axes it needs full.
        view: the result shares memory with the first argument ("maybe": where torch's does).
        zero: makes, from the value of an argument that stands alone, what stands for zero in its
            place; default: zeros of its shape.
        dense: the function writes into a copy of its arguments; Inductor (torch 2.13) writes
            through axes of stride 0, so none may be left.
        through: for the directions of a second-order operator (``directions.py``): what the
            function makes of ``(x, *arguments)``, or None where it has no better way.
    """
    parsed = Form(form)

    def evaluate(func: Callable, args: tuple, kwargs: dict) -> Any:
        operands, others, rest = bind(func, parsed.names, args, kwargs)
        found = series_among(func, operands)
        if len(found) == 1:
            x = found[0]
            settle(x)
            if x._structure.of_operator and through is not None and x is operands[0]:
                result = run(through, func, *operands, *others, **rest)
                if result is not None:
                    return result
            i = 0 if x is operands[0] else next(n for n, y in enumerate(operands) if y is x)
            if i in parsed.factors:
                return linear_map(func, i, operands, others, rest)
        level, structure, order = join(func, found)
        inputs = [blocks_at(x, level, structure, order) for x in operands]
        values = [b[0] for b in inputs]
        y0 = func(*values, *others, **rest)

        def call(filled: list, degrees: dict[int, int]) -> Any:
            leads = {i for i, k in degrees.items() if structure.leads(k)}
            if not leads:
                return func(*filled, *others, **rest)
            return lift(func, [*filled, *others], rest, leads)

        varying = {
            i: _expanded(b, structure, i, shared, dense)
            for i, b in enumerate(inputs)
            if not is_constant(b)
        }
        for i in varying:
            if i not in parsed.slots:
                raise UnsupportedFunction(
                    f"{name_of(func)} does not differentiate {parsed.names[i]}: pass x.value there"
                )

        def term(_: Any, k: int) -> Any:
            single = _single_term(parsed, call, values, varying, k, zero)
            products = _product_terms(parsed, call, values, varying, k, structure)
            return series.total((single, *products))

        blocks = by_degree(y0, order, term, *inputs)
        return finished(func, operands, others, rest, blocks, y0, structure, level)

    def linear_map(func: Callable, i: int, operands: list, others: tuple, rest: dict) -> Any:
        """One factor varies: the function of each of its blocks."""
        x = operands[i]
        if x._structure.compact:
            spread(x)
        blocks, structure = x._blocks, x._structure
        shape = blocks[0].shape
        filled = [*operands, *others]
        filled[i] = blocks[0]
        y0 = func(*filled, **rest)
        for n in parsed.singles:
            if n < len(operands):
                filled[n] = _without(parsed, n, operands[n])

        def term(_: Any, k: int) -> Any:
            block = blocks[k]
            if block is None:
                return None
            lead = structure.leads(k)
            if dense or (block.shape[1:] if lead else block.shape) != shape:
                block = _full_enough(block, lead, shape, i, shared, dense)
            filled[i] = block
            return lift(func, filled, rest, {i}) if lead else func(*filled, **rest)

        result = by_degree(y0, len(blocks) - 1, term, blocks)
        return finished(func, operands, others, rest, result, y0, structure, x._level)

    def finished(
        func: Callable,
        operands: list,
        others: tuple,
        rest: dict,
        blocks: Sequence[Any],
        y0: Any,
        structure: Structure,
        level: int,
    ) -> Any:
        several = isinstance(y0, (tuple, list))
        if not view and not several:
            return wrap(blocks, structure, level)
        x = operands[0]
        if view and isinstance(x, TaylorTensor) and y0 is x._blocks[0]:
            return x
        parts = [blocks]
        if several:
            parts = [each(_entry(n), blocks, part) for n, part in enumerate(y0)]
        results = [wrap(part, structure, level) for part in parts]
        if view:
            _as_view(func, x, (*operands[1:], *others), rest, results, view, several)
        return type(y0)(results) if several else results[0]

    return evaluate


def _entry(n: int) -> Callable:
    return lambda block: block[n]


def _expanded(
    blocks: Sequence[Any], structure: Structure, i: int, shared: Any, dense: bool
) -> Sequence[Any]:
    if shared is True:
        return blocks
    shape = blocks[0].shape

    def term(_: Any, k: int) -> Any:
        block = blocks[k]
        if block is None:
            return None
        return _full_enough(block, structure.leads(k), shape, i, shared, dense)

    return by_degree(blocks[0], len(blocks) - 1, term, blocks)


def _full_enough(
    block: Any, lead: bool, shape: Sequence[int], i: int, shared: Any, dense: bool
) -> Any:
    """The block expanded to the value's shape, along the axes that the function needs full."""
    own = block.shape[1:] if lead else block.shape
    if own != shape and shared is not True:
        wanted = list(shape)
        if shared:
            needed = {axis % len(shape) for axis in shared(i, len(shape)) if shape}
            for axis, size in enumerate(own):
                if axis not in needed:
                    wanted[axis] = size
        block = block.expand(*block.shape[: len(block.shape) - len(own)], *wanted)
    return block.contiguous() if dense else block


def _single_term(
    form: Form, call: Callable, values: list, varying: dict[int, Any], k: int, zero: Callable | None
) -> Any:
    """The function at the degree-k blocks of the arguments that stand alone in the form."""
    here = [i for i in form.singles if i in varying and varying[i][k] is not None]
    if not here:
        return None
    filled = list(values)
    for i in form.singles:
        if i in here:
            filled[i] = varying[i][k]
        elif i < len(values) and isinstance(values[i], torch.Tensor):
            filled[i] = torch.zeros_like(values[i]) if zero is None else zero(values[i])
        elif i < len(values) and values[i] is not None:
            filled[i] = 0
    for first, *_ in form.products:
        filled[first] = torch.zeros_like(values[first])
    return call(filled, dict.fromkeys(here, k))


def _product_terms(
    form: Form,
    call: Callable,
    values: list,
    varying: dict[int, Any],
    k: int,
    structure: Structure,
) -> list[Any]:
    """The degree-k terms of the form's products: one per way to write k as a sum of degrees."""
    terms = []
    for monomial in form.products:
        factors = [i for i in monomial if i in varying]
        for degrees in _compositions(k, len(factors)):
            chosen = [(i, d, varying[i][d]) for i, d in zip(factors, degrees, strict=True) if d]
            if any(block is None for _, _, block in chosen):
                continue
            base = [_without(form, i, value) for i, value in enumerate(values)]

            def f(*blocks: Any, chosen: Any = chosen, base: Any = base) -> Any:
                filled = list(base)
                for (i, _, _), block in zip(chosen, blocks, strict=True):
                    filled[i] = block
                return call(filled, {i: d for i, d, _ in chosen})

            blocks = [block for _, _, block in chosen]
            if len(chosen) == 1:
                terms.append(f(*blocks))
            else:
                terms.append(structure.product(f, [d for _, d, _ in chosen], blocks))
    return terms


def _without(form: Form, i: int, value: Any) -> Any:
    """What stands in the place of argument ``i`` where its own term of the form is left out."""
    if i not in form.singles or value is None:
        return value
    return None if i in form.optional else torch.zeros_like(value)


def _compositions(total: int, parts: int) -> list[tuple[int, ...]]:
    """All ways to write ``total`` as an ordered sum of ``parts`` numbers >= 0."""
    if parts < 2:
        return [(total,)] * parts
    return [(i, *rest) for i in range(total + 1) for rest in _compositions(total - i, parts - 1)]


# --- views --------------------------------------------------------------------------------------


def laid_out_as(x: Any, like: torch.Tensor) -> Any:
    """``x`` in the channels-last layout that images or volumes ``like`` have, if they have one."""
    for rank, layout in ((4, torch.channels_last), (5, torch.channels_last_3d)):
        if like.ndim == rank and like.is_contiguous(memory_format=layout):
            return x.contiguous(memory_format=layout)
    return x


def shares_memory(a: Any, b: Any) -> bool:
    """Whether two values share memory."""
    a, b = innermost(a), innermost(b)
    if torch.compiler.is_compiling():
        return bool(b.is_contiguous())
    return bool(torch._C._is_alias_of(a, b))  # type: ignore[attr-defined]


def _as_view(
    func: Callable,
    base: Any,
    others: tuple,
    kwargs: dict,
    results: list[TaylorTensor],
    view: bool | str,
    many: bool,
) -> None:
    """Shrink the blocks of views to what they hold, and let them follow writes to their base."""
    for n, result in enumerate(results):
        result._blocks = _shrunk_blocks(result)
        if isinstance(base, TaylorTensor) and (
            view is True or shares_memory(result._blocks[0], base._blocks[0])
        ):

            def replay(x: Any, n: int = n) -> Any:
                again = func(x, *others, **kwargs)
                return again[n] if many else again

            view_of(base, replay, result)


def _shrunk_blocks(result: TaylorTensor) -> Sequence[Any]:
    blocks = result._blocks

    def term(_: Any, k: int) -> Any:
        return None if blocks[k] is None else shrunk(blocks[k], result, k)

    shrunken = by_degree(blocks[0], len(blocks) - 1, term, blocks)
    return shrunken if isinstance(shrunken, Stream) else tuple(shrunken)


def shrunk(block: torch.Tensor, result: TaylorTensor, k: int) -> torch.Tensor:
    """The block with size 1 along the axes on which it repeats itself (stride 0)."""
    first = 1 if result._structure.leads(k) else 0
    if isinstance(block, TaylorTensor):
        return block
    for axis in range(first, block.ndim):
        if block.stride(axis) == 0 and block.shape[axis] > 1:
            block = block.narrow(axis, 0, 1)
    return block


def _of_value(func: Callable, args: tuple, kwargs: dict) -> tuple[Any, ...]:
    """For a function of one series: it, its frame, the value of the result, the other arguments."""
    x = args[0] if args else kwargs["input"]
    series_among(func, (x,))
    level, structure, order = join(func, (x,), by_entry=True)
    args = tuple(values_of(a, level) for a in args)
    kwargs = {name: values_of(a, level) for name, a in kwargs.items()}
    y0 = func(*args, **kwargs)
    if structure.compact:
        # its entries move together with the value's, or it has to be spread out before
        moved = structure.reshaped(x._blocks[0].shape, y0.shape)
        level, structure, order = join(func, (x,)) if moved is None else (level, moved, order)
    return x, level, structure, order, y0, args[1:], kwargs


def reshape(view: bool | str) -> Evaluator:
    """The same entries in the same order, in another shape."""

    def evaluate(func: Callable, args: tuple, kwargs: dict) -> Any:
        if args and not isinstance(args[0], TaylorTensor):
            # a plain tensor takes the shape of a series
            return value(func, args, kwargs)
        x, level, structure, order, y0, others, kwargs = _of_value(func, args, kwargs)
        if y0 is x._blocks[0]:
            return x

        def term(_: Any, k: int) -> Any:
            if blocks[k] is None:
                return None
            whole = full(x, k)
            return whole.reshape((*whole.shape[: structure.leads(k)], *y0.shape))

        blocks = x._blocks
        result = wrap(by_degree(y0, order, term, blocks), structure, level)
        _as_view(func, x, others, kwargs, [result], view, False)
        return result

    return evaluate


def broadcast(func: Callable, args: tuple, kwargs: dict) -> Any:
    """A broadcast view: the blocks keep their size 1 along the new axes."""
    if args and not isinstance(args[0], TaylorTensor):
        # a plain tensor takes the shape of a series
        return value(func, args, kwargs)
    x, level, structure, _, y0, others, kwargs = _of_value(func, args, kwargs)
    if y0 is x._blocks[0]:
        return x
    blocks = aligned(x._blocks, y0.ndim, structure)
    result = wrap(each(lambda block: block, blocks, y0), structure, level)
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
        level, structure, order = join(func, flatten((args, kwargs), []))
        return wrap((result,) + (None,) * order, structure, level)
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
