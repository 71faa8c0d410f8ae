"""Choosing, scattering and writing entries: where, gather's opposites, indexing, assignment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..algebra.series import by_degree
from ..engine.arguments import series_among
from ..engine.frames import frame_of, join
from ..engine.kinds import composite, in_place
from ..engine.lifts import Lift, by_broadcasting, by_vmap
from ..engine.multilinear import multilinear
from ..engine.registry import Evaluator, UnsupportedFunction, add_rule, name_of
from ..engine.samples import call, t
from ..engine.tensor import TaylorTensor, flatten, run
from ..engine.writing import store

MASK = torch.tensor([[True, False, True], [False, False, True]])
X = t(2, 3, 4, low=-1, high=1)

# --- linear in two arguments ----------------------------------------------------------------------


def _index_copy_lift(func: Callable, args: list, kwargs: dict, leads: set) -> Any:
    """``vmap`` (torch 2.13) takes an index without axes for all places: it is given one."""
    target, dim, index, source = args
    return by_vmap(func, [target, dim, index.reshape(-1), source], kwargs, leads)


X4 = t(3, 4, low=-1, high=1)
ROWS = torch.tensor([2, 0])
PAIR: dict[str, tuple[str, Lift, Any, list]] = {
    "torch.where": (
        "condition, input, other : input + other",
        by_broadcasting,
        True,
        [
            call(MASK, t(2, 3), t(2, 3)),
            call(MASK, t(3), 0.5),
            call(torch.tensor([[True], [False]]), t(3), t(2, 1)),
        ],
    ),
    "index_add": (
        "input, dim, index, source : input + source",
        by_vmap,
        False,
        [call(X4, 0, ROWS, t(2, 4)), call(X4, 0, ROWS, t(2, 4), alpha=2)],
    ),
    "index_copy": (
        "input, dim, index, source : input + source",
        _index_copy_lift,
        False,
        [call(X4, 0, ROWS, t(2, 4)), call(X4, 0, torch.tensor(1), t(1, 4))],
    ),
    "scatter_add": (
        "input, dim, index, src : input + src",
        by_vmap,
        False,
        [call(X4, 0, torch.tensor([[0, 1, 2, 2], [1, 1, 0, 0]]), t(2, 4))],
    ),
    "scatter": (
        "input, dim, index, src : input + src",
        by_vmap,
        False,
        [
            call(X4, 0, torch.tensor([[0, 1, 2, 2], [1, 0, 0, 0]]), t(2, 4)),
            call(X4, 0, torch.tensor([[0, 1, 2, 2], [1, 1, 0, 2]]), t(2, 4), reduce="multiply"),
        ],
    ),
    "masked_scatter": (
        "input, mask, source : input + source",
        by_vmap,
        False,
        [call(t(2, 3), MASK, t(4))],
    ),
    "select_scatter": ("input, src : input + src", by_vmap, False, [call(X4, t(4), 0, 1)]),
    "slice_scatter": (
        "input, src : input + src",
        by_vmap,
        False,
        [call(X4, t(2, 4), 0, 1, 3)],
    ),
    "diagonal_scatter": ("input, src : input + src", by_vmap, False, [call(X4, t(3))]),
    "complex": ("real, imag : real + imag", by_broadcasting, True, [call(t(2, 3), t(2, 3))]),
    "cross linalg.cross": (
        "input, other : input*other",
        by_vmap,
        False,
        [call(t(4, 3), t(4, 3), dim=1)],
    ),
}


def _scatter(linear: Evaluator) -> Evaluator:
    """``reduce="multiply"`` makes a product of the entries that meet in one place."""

    def evaluate(func: Callable, args: tuple, kwargs: dict) -> Any:
        if kwargs.get("reduce") == "multiply":
            return run(_multiplied, *args, **kwargs)
        return linear(func, args, kwargs)

    return evaluate


def _multiplied(
    input: Any, dim: int, index: torch.Tensor, src: Any = None, *, reduce: str, value: Any = None
) -> Any:
    factor = value if src is None else src
    if not isinstance(factor, torch.Tensor):
        factor = torch.full(index.shape, factor, dtype=input.dtype, device=index.device)
    return torch.scatter_reduce(input, dim, index, factor, "prod")


def _zero_of_rank(value: torch.Tensor) -> torch.Tensor:
    return value.new_zeros((1,) * value.ndim)


for names, (form, lift, shared, samples) in PAIR.items():
    zero = _zero_of_rank if names == "torch.where" else None
    evaluate = multilinear(form, lift, shared=shared, zero=zero, dense=not shared)
    if names == "complex":
        evaluate = multilinear(form, lift)
    if names == "scatter":
        evaluate = _scatter(evaluate)
    add_rule(
        names,
        "multilinear",
        form.split(":")[1].strip(),
        evaluate,
        samples,
        in_place=in_place(evaluate),
    )


def _where_method(input: Any, condition: Any, other: Any) -> Any:
    return torch.where(condition, input, other)


def _masked_fill(input: Any, mask: Any, value: Any) -> Any:
    return torch.where(mask, value, input)


def _index_fill(input: Any, dim: int, index: Any, value: Any) -> Any:
    if input.ndim == 0:
        return torch.where(torch.tensor(index.numel() > 0, device=input.device), value, input)
    mask = torch.zeros(input.shape[dim], dtype=torch.bool, device=input.device)
    mask = mask.index_fill(0, index, True)
    shape = [1] * input.ndim
    shape[dim] = -1
    return torch.where(mask.reshape(shape), value, input)


def _index_put(input: Any, indices: Any, values: Any, accumulate: bool = False) -> Any:
    indices = tuple(slice(None) if index is None else index for index in indices)
    result = torch.clone(input)
    if accumulate:
        places = torch.arange(input.numel(), device=input.device).reshape(input.shape)
        where = places[indices]
        values = torch.broadcast_to(values, where.shape)
        flat = torch.reshape(input, (-1,))
        flat = torch.index_add(flat, 0, where.reshape(-1), torch.reshape(values, (-1,)))
        return torch.reshape(flat, tuple(input.shape))
    result[indices] = values
    return result


def _filled(input: Any, value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return torch.full_like(input, value)
    return torch.broadcast_to(value.to(input.dtype), tuple(input.shape)).clone()


for names, body, samples in (
    ("fill", _filled, [call(t(2, 3), 0.5), call(t(2, 3), t())]),
    ("Tensor.where", _where_method, [call(t(2, 3), MASK, t(2, 3))]),
    ("masked_fill", _masked_fill, [call(t(2, 3), MASK, 0.5), call(t(2, 3), MASK, t())]),
    ("index_fill", _index_fill, [call(X4, 1, ROWS, 0.5)]),
    (
        "index_put",
        _index_put,
        [
            call(X4, (ROWS,), t(2, 4)),
            call(X4, (ROWS, ROWS), t(2)),
            call(X4, (torch.tensor([1, 1]),), t(2, 4), True),
        ],
    ),
):
    rule = composite(body)
    add_rule(names, "composite", "torch code", rule, samples, in_place=in_place(rule))

# --- indexing -------------------------------------------------------------------------------------


def _led(index: Any) -> tuple | None:
    """The same index under a leading axis; None where its result would move to the front."""
    items = index if isinstance(index, tuple) else (index,)
    arrays = [n for n, i in enumerate(items) if isinstance(i, (torch.Tensor, list))]
    if arrays and arrays != list(range(arrays[0], arrays[-1] + 1)):
        return None
    return (slice(None), *items)


def _getitem_lift(func: Callable, args: list, kwargs: dict, leads: set) -> Any:
    block, index = args
    led = _led(index)
    if led is None:
        return torch.stack([row[index] for row in block.unbind(0)])
    return block[led]


def _getitem(func: Callable, args: tuple, kwargs: dict) -> Any:
    x, index = args
    if not isinstance(x, TaylorTensor) or flatten(index, []):
        raise UnsupportedFunction(
            f"{name_of(func)}: a TaylorTensor is no index; use x.value.long() for one"
        )
    if isinstance(index, list):
        index = tuple(index) if any(isinstance(i, slice) for i in index) else torch.tensor(index)
    return _getitem_linear(func, (x, index), kwargs)


_getitem_linear = multilinear("input : input", _getitem_lift, view="maybe")
add_rule(
    "__getitem__",
    "linear",
    "input",
    _getitem,
    [
        call(X, 1),
        call(X, (slice(None), slice(0, 2))),
        call(X, (..., None, 1)),
        call(X, (slice(None), torch.tensor([2, 0]))),
        call(X, (torch.tensor([1, 0]), slice(None), torch.tensor([2, 0]))),
        call(X, torch.tensor([[True, False, True], [False, True, True]])),
    ],
)


def _setitem(func: Callable, args: tuple, kwargs: dict) -> None:
    """``x[index] = v``: linear in both. A plain ``x`` becomes a TaylorTensor in place."""
    x, index, v = args
    if flatten(index, []):
        raise UnsupportedFunction(
            f"{name_of(func)}: a TaylorTensor is no index; use x.value.long() for one"
        )
    frame = join(func, series_among(func, (x, v)))
    structure, into, what = frame.structure, frame.blocks(x), frame.blocks(v)
    y0 = into[0].clone()
    y0[index] = what[0]

    def term(_: Any, k: int) -> Any:
        if into[k] is None and what[k] is None:
            return None
        shape = (structure.size(k), *y0.shape) if structure.leads(k) else tuple(y0.shape)
        block = (
            y0.new_zeros(shape) if into[k] is None else into[k].expand(shape).contiguous().clone()
        )
        part = 0.0 if what[k] is None else what[k]
        led = _led(index) if structure.leads(k) else index
        if led is None:
            rows = part.unbind(0) if isinstance(part, torch.Tensor) else [part] * shape[0]
            for row, piece in zip(block.unbind(0), rows, strict=True):
                row[index] = piece
        else:
            if structure.leads(k) and isinstance(part, torch.Tensor):
                missing = y0[index].ndim - (part.ndim - 1)
                if missing > 0:
                    part = part.reshape(part.shape[:1] + (1,) * missing + part.shape[1:])
            block[led] = part
        return block

    store(func, x, frame.wrap(by_degree(y0, frame.order, term, into, what)))


def _copy(func: Callable, args: tuple, kwargs: dict) -> Any:
    target, source = args[:2]
    if isinstance(source, TaylorTensor):
        result = run(torch.broadcast_to, source, tuple(target.shape))
        return store(func, target, run(torch.clone, result))
    plain = torch.empty_like(target.value).copy_(source)
    return store(func, target, frame_of(target).constant(plain))


def _zero(func: Callable, args: tuple, kwargs: dict) -> Any:
    return store(func, args[0], frame_of(args[0]).constant(torch.zeros_like(args[0].value)))


for name, says, evaluate in (
    ("__setitem__", "input + value", _setitem),
    ("Tensor.copy_", "src", _copy),
    ("zero_", "a constant series", _zero),
):
    add_rule(name, "linear", says, evaluate)
