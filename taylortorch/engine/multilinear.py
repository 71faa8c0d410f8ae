"""Functions of degree <= 1 in each tensor argument: sums of products, as their form says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from ..algebra import series
from ..algebra.series import by_degree, each
from ..algebra.structures import Structure
from .arguments import bind, is_constant, series_among
from .frames import Frame, frame_of, join, spread
from .lifts import Lift, by_vmap
from .registry import Evaluator, UnsupportedFunction, name_of
from .tensor import TaylorTensor, run, settle
from .writing import as_view

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
        unknown = set(used) - set(position) or "" in position
        if unknown or len(set(used)) < len(used) or len(products) > 1:
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


class _Way(NamedTuple):
    """What the row of a multilinear function says; see ``multilinear``."""

    form: Form
    lift: Lift
    shared: Callable | bool
    view: bool | str
    zero: Callable | None
    dense: bool


_Call = tuple[Callable, list[Any], tuple, dict]
"""A call of one: the function, its operands, the other arguments, those given by name."""


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
    way = _Way(Form(form), lift, shared, view, zero, dense)

    def evaluate(func: Callable, args: tuple, kwargs: dict) -> Any:
        operands, others, named = bind(func, way.form.names, args, kwargs)
        found = series_among(func, operands)
        call = func, operands, others, named
        if len(found) > 1:
            return _sum_of_products(way, call, found)
        x = found[0]
        settle(x)
        if x._structure.of_operator and through is not None and x is operands[0]:
            result = run(through, func, *operands, *others, **named)
            if result is not None:
                return result
        i = 0 if x is operands[0] else next(n for n, y in enumerate(operands) if y is x)
        if i in way.form.factors:
            return _linear_map(way, call, i)
        return _sum_of_products(way, call, found)

    return evaluate


def _linear_map(way: _Way, call: _Call, i: int) -> Any:
    """One factor, operand ``i``, varies: the function of each of its blocks."""
    func, operands, others, named = call
    x = operands[i]
    if x._structure.compact:
        spread(x)
    frame = frame_of(x)
    blocks, structure = x._blocks, frame.structure
    shape = blocks[0].shape
    filled = [*operands, *others]
    filled[i] = blocks[0]
    y0 = func(*filled, **named)
    for n in way.form.singles:
        if n < len(operands):
            filled[n] = _without(way.form, n, operands[n])

    def term(_: Any, k: int) -> Any:
        block = blocks[k]
        if block is None:
            return None
        lead = structure.leads(k)
        if way.dense or (block.shape[1:] if lead else block.shape) != shape:
            block = _full_enough(way, block, lead, shape, i)
        filled[i] = block
        return way.lift(func, filled, named, {i}) if lead else func(*filled, **named)

    return _finished(way, call, frame, y0, by_degree(y0, frame.order, term, blocks))


def _sum_of_products(way: _Way, call: _Call, found: Sequence[TaylorTensor]) -> Any:
    """Several operands vary, or one that stands alone: all the terms of the form."""
    func, operands, others, named = call
    frame = join(func, found)
    structure = frame.structure
    inputs = [frame.blocks(x) for x in operands]
    values = [b[0] for b in inputs]
    y0 = func(*values, *others, **named)

    def at(filled: list, degrees: dict[int, int]) -> Any:
        leads = {i for i, k in degrees.items() if structure.leads(k)}
        if not leads:
            return func(*filled, *others, **named)
        return way.lift(func, [*filled, *others], named, leads)

    varying = {
        i: _expanded(way, b, structure, i) for i, b in enumerate(inputs) if not is_constant(b)
    }
    for i in varying:
        if i not in way.form.slots:
            raise UnsupportedFunction(
                f"{name_of(func)} does not differentiate {way.form.names[i]}: pass x.value there"
            )

    def term(_: Any, k: int) -> Any:
        single = _single_term(way, at, values, varying, k)
        products = _product_terms(way.form, at, values, varying, k, structure)
        return series.total((single, *products))

    return _finished(way, call, frame, y0, by_degree(y0, frame.order, term, *inputs))


def _finished(way: _Way, call: _Call, frame: Frame, y0: Any, blocks: Sequence[Any]) -> Any:
    """The result, or the results, of these blocks; views of the first operand where it is one."""
    several = isinstance(y0, (tuple, list))
    if not way.view and not several:
        return frame.wrap(blocks)
    func, operands, others, named = call
    x = operands[0]
    if way.view and isinstance(x, TaylorTensor) and y0 is x._blocks[0]:
        return x
    parts = [blocks]
    if several:
        parts = [each(_entry(n), blocks, part) for n, part in enumerate(y0)]
    results = [frame.wrap(part) for part in parts]
    if way.view:
        as_view(func, x, (*operands[1:], *others), named, results, way.view, several)
    return type(y0)(results) if several else results[0]


def _entry(n: int) -> Callable:
    return lambda block: block[n]


def _expanded(way: _Way, blocks: Sequence[Any], structure: Structure, i: int) -> Sequence[Any]:
    if way.shared is True:
        return blocks
    shape = blocks[0].shape

    def term(_: Any, k: int) -> Any:
        block = blocks[k]
        if block is None:
            return None
        return _full_enough(way, block, structure.leads(k), shape, i)

    return by_degree(blocks[0], len(blocks) - 1, term, blocks)


def _full_enough(way: _Way, block: Any, lead: bool, shape: Sequence[int], i: int) -> Any:
    """The block expanded to the value's shape, along the axes that the function needs full."""
    shared = way.shared
    own = block.shape[1:] if lead else block.shape
    if own != shape and shared is not True:
        wanted = list(shape)
        if shared:
            needed = {axis % len(shape) for axis in shared(i, len(shape)) if shape}
            for axis, size in enumerate(own):
                if axis not in needed:
                    wanted[axis] = size
        block = block.expand(*block.shape[: len(block.shape) - len(own)], *wanted)
    return block.contiguous() if way.dense else block


def _single_term(way: _Way, at: Callable, values: list, varying: dict[int, Any], k: int) -> Any:
    """The function at the degree-k blocks of the arguments that stand alone in the form."""
    form, zero = way.form, way.zero
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
    return at(filled, dict.fromkeys(here, k))


def _product_terms(
    form: Form,
    at: Callable,
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
                return at(filled, {i: d for i, d, _ in chosen})

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
