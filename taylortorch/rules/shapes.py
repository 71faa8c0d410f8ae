"""Functions that only move entries: linear, so every block goes through the function itself.

Views stay views: a write through one shows in its base and in every other view of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..kinds import bind, broadcast, composite, in_place, multilinear, reshape, series_among
from ..lifts import Lift, as_is, by_axes, by_broadcasting, by_vmap, from_the_end
from ..registry import RULES, UnsupportedFunction, add_rule, call, name_of, t
from ..tensor import (
    TaylorTensor,
    blocks_at,
    flatten,
    full,
    join,
    run,
    store,
    wrap,
)

X = t(2, 3, 4, low=-1, high=1)
MASK = torch.tensor([[True, False, True], [False, False, True]])
INDEX = torch.tensor([1, 0, 1])

# --- the same entries in the same order ----------------------------------------------------------

RESHAPES: dict[str, tuple[bool | str, list]] = {
    "reshape": ("maybe", [call(X, (6, 4)), call(X, (-1,))]),
    "view": (True, [call(X, (6, 4))]),
    "view_as": (True, [call(X, torch.zeros(6, 4))]),
    "reshape_as": ("maybe", [call(X, torch.zeros(6, 4))]),
    "flatten": ("maybe", [call(X), call(X, 1)]),
    "unflatten": (True, [call(X, 2, (2, 2))]),
    "ravel": ("maybe", [call(X)]),
    "squeeze": (True, [call(t(2, 1, 3, 1)), call(t(2, 1, 3), 1)]),
    "unsqueeze": (True, [call(X, 1), call(X, -1), call(t(), 0)]),
    "contiguous": ("maybe", [call(X)]),
}


def _view(func: Callable, args: tuple, kwargs: dict) -> Any:
    """``x.view(dtype)`` reads the bits of the value: no derivative survives that."""
    if (len(args) > 1 and isinstance(args[1], torch.dtype)) or "dtype" in kwargs:
        raise UnsupportedFunction("torch.Tensor.view(dtype) reads bits: use x.to(dtype)")
    return reshape(True)(func, args, kwargs)


for names, (view, samples) in RESHAPES.items():
    evaluate = _view if names == "view" else reshape(view)
    add_rule(
        names,
        "reshape",
        "same entries, same order",
        evaluate,
        samples,
        in_place=in_place(evaluate) if names in ("squeeze", "unsqueeze") else None,
    )

for names, sample in (
    ("expand", call(t(2, 1, 4), (2, 3, 4))),
    ("expand_as", call(t(3, 1), torch.zeros(2, 3, 4))),
    ("broadcast_to", call(t(3, 1), (2, 3, 4))),
):
    add_rule(names, "reshape", "broadcast view", broadcast, [sample])

# --- linear in the input --------------------------------------------------------------------------


def _permute_lift(func: Callable, args: list, kwargs: dict, leads: set) -> Any:
    block = args[0]
    order = kwargs["dims"] if "dims" in kwargs else args[1:]
    if len(order) == 1 and isinstance(order[0], (tuple, list)):
        order = order[0]
    return block.permute(0, *from_the_end(tuple(order), block.ndim - 1))


def _transpose_lift(func: Callable, args: list, kwargs: dict, leads: set) -> Any:
    block = args[0]
    return block if block.ndim < 3 else block.transpose(-1, -2)


def _reversed_lift(func: Callable, args: list, kwargs: dict, leads: set) -> Any:
    block = args[0]
    return block.permute(0, *range(block.ndim - 1, 0, -1))


def _repeat_lift(func: Callable, args: list, kwargs: dict, leads: set) -> Any:
    block = args[0]
    times = args[1:] if len(args) > 1 else (kwargs.get("repeats") or kwargs.get("dims"),)
    if len(times) == 1 and isinstance(times[0], (tuple, list)):
        times = times[0]
    rank = block.ndim - 1
    times = (1,) * (rank - len(times)) + tuple(times)
    block = block.reshape(block.shape[:1] + (1,) * (len(times) - rank) + block.shape[1:])
    return block.repeat(1, *times)


def _elementwise_lift(func: Callable, args: list, kwargs: dict, leads: set) -> Any:
    return func(*args, **kwargs)


ONE_AXIS = by_axes(("dim", 1, 0))
TWO_AXES = by_axes(("dim0", 1, 0), ("dim1", 2, 1))
SWAP_DIMS = TWO_AXES
SWAP_AXES = by_axes(("axis0", 1, 0), ("axis1", 2, 1))
MOVE = by_axes(("source", 1, 0), ("destination", 2, 0))
DIAGONAL = by_axes(("dim1", 2, 0), ("dim2", 3, 1))

# name: lift, view, samples
LINEAR: dict[str, tuple[Lift, bool | str, list]] = {
    "transpose": (TWO_AXES, True, [call(X, 0, 2), call(X, -1, 1)]),
    "swapdims": (SWAP_DIMS, True, [call(X, 0, 2)]),
    "swapaxes": (SWAP_AXES, True, [call(X, 0, 2)]),
    "permute": (_permute_lift, True, [call(X, (2, 0, 1))]),
    "movedim": (MOVE, True, [call(X, 0, 2), call(X, (0, 1), (1, 2))]),
    "moveaxis": (MOVE, True, [call(X, 0, 2)]),
    "t": (_transpose_lift, True, [call(t(2, 3)), call(t(3))]),
    ".T": (_reversed_lift, True, [call(t(2, 3))]),
    ".mT adjoint .mH": (_elementwise_lift, True, [call(X)]),
    ".H": (_transpose_lift, True, [call(t(2, 3))]),
    "select": (ONE_AXIS, True, [call(X, 1, 2)]),
    "narrow": (ONE_AXIS, True, [call(X, 2, 1, 2)]),
    "unbind": (ONE_AXIS, True, [call(X), call(X, 1)]),
    "chunk": (by_axes(("dim", 2, 0)), True, [call(X, 2, 2)]),
    "split_with_sizes": (by_axes(("dim", 2, 0)), True, [call(X, [1, 3], 2)]),
    "tensor_split": (by_axes(("dim", 2, 0)), True, [call(X, 2, 2)]),
    "unsafe_chunk": (by_axes(("dim", 2, 0)), False, [call(X, 2, 2)]),
    "unsafe_split": (by_axes(("dim", 2, 0)), False, [call(X, 2, 2)]),
    "hsplit": (by_vmap, True, [call(X, 3)]),
    "vsplit": (by_vmap, True, [call(X, 2)]),
    "dsplit": (by_vmap, True, [call(X, 2)]),
    "diagonal linalg.diagonal": (by_vmap, True, [call(X), call(X, 1, 0, 2)]),
    "unfold": (by_axes(("dimension", 1, 0)), True, [call(X, 2, 2, 1)]),
    "flip": (by_axes(("dims", 1, None)), False, [call(X, (0, 2))]),
    "fliplr": (by_vmap, False, [call(X)]),
    "flipud": (by_vmap, False, [call(X)]),
    "roll": (by_vmap, False, [call(X, 1, -1), call(X, 5)]),
    "rot90": (by_axes(("dims", 2, (0, 1))), False, [call(X), call(X, 1, (0, 2))]),
    "tril": (as_is, False, [call(X), call(X, 1)]),
    "triu": (as_is, False, [call(X)]),
    "diag": (by_vmap, False, [call(t(3)), call(t(3, 4))]),
    "diag_embed": (by_vmap, False, [call(t(2, 3))]),
    "diagflat": (by_vmap, False, [call(t(2, 3))]),
    "trace": (by_vmap, False, [call(t(3, 4))]),
    "repeat tile": (_repeat_lift, False, [call(X, (2, 1, 3)), call(t(3), (2, 2))]),
    "repeat_interleave": (by_vmap, False, [call(X, 2, 1)]),
    "gather": (by_vmap, False, [call(t(3, 4), 1, torch.tensor([[0, 2], [1, 1], [3, 0]]))]),
    "take": (by_vmap, False, [call(X, torch.tensor([0, 5, 5]))]),
    "take_along_dim": (by_vmap, False, [call(t(3, 4), torch.tensor([[0, 2, 1, 1]]), 0)]),
    "index_select": (ONE_AXIS, False, [call(X, 1, INDEX)]),
    "masked_select": (by_vmap, False, [call(t(2, 3), MASK)]),
    "clone": (_elementwise_lift, False, [call(X)]),
    "narrow_copy": (ONE_AXIS, False, [call(X, 2, 1, 2)]),
    ".real": (_elementwise_lift, True, []),
    ".imag": (_elementwise_lift, True, []),
    "real": (_elementwise_lift, True, [call(X)]),
    "imag": (_elementwise_lift, True, []),
    "conj resolve_conj": (_elementwise_lift, True, [call(X)]),
    "conj_physical resolve_neg": (_elementwise_lift, False, [call(X)]),
    "view_as_real": (_elementwise_lift, True, []),
    "view_as_complex": (_elementwise_lift, True, [call(t(3, 2))]),
    "float double half bfloat16 cfloat cdouble chalf": (_elementwise_lift, "maybe", []),
    "cpu cuda pin_memory": (_elementwise_lift, "maybe", []),
    "channel_shuffle native_channel_shuffle": (by_vmap, False, [call(t(1, 4, 2, 2), 2)]),
    "pixel_shuffle": (as_is, False, [call(t(1, 4, 2, 3), 2)]),
    "pixel_unshuffle": (as_is, False, [call(t(1, 1, 4, 6), 2)]),
}
_MASKED_IN_VMAP = ("masked_select",)


def _masked_select_lift(func: Callable, args: list, kwargs: dict, leads: set) -> Any:
    # a result whose length depends on the mask does not exist under vmap
    block, mask = args[0], args[1]
    shape = torch.broadcast_shapes(block.shape[1:], mask.shape)
    missing = len(shape) - (block.ndim - 1)
    block = block.reshape(block.shape[:1] + (1,) * missing + block.shape[1:])
    return block.expand(block.shape[0], *shape)[:, mask.expand(shape)]


for names, (lift, view, samples) in LINEAR.items():
    if names in _MASKED_IN_VMAP:
        lift = _masked_select_lift
    evaluate = multilinear("input : input", lift, view=view)
    writes = names.split()[0] in ("t", "transpose", "swapdims", "swapaxes", "tril", "triu")
    add_rule(
        names, "linear", "input", evaluate, samples, in_place=in_place(evaluate) if writes else None
    )


def _split(input: Any, split_size_or_sections: Any, dim: int = 0) -> Any:
    if not isinstance(split_size_or_sections, int):
        return torch.split_with_sizes(input, list(split_size_or_sections), dim)
    count, step = input.shape[dim], split_size_or_sections
    return tuple(
        torch.narrow(input, dim, start, min(step, count - start))
        for start in (range(0, count, step) if count else (0,))
    )


add_rule(
    "split",
    "composite",
    "narrow",
    composite(_split),
    [call(X, 2, 2), call(X, [1, 3], 2), call(X, 1)],
)


def _to(func: Callable, args: tuple, kwargs: dict) -> Any:
    """``x.to(...)``: linear for a floating-point or complex target; integers have no series."""
    x = args[0]
    level = join(func, (x,))[0]
    other = args[1] if len(args) > 1 else kwargs.get("other")
    if isinstance(other, TaylorTensor) and other._level == level:
        args = (x, other._blocks[0], *args[2:])
    result = func(x._blocks[0], *args[1:], **kwargs)
    if not (result.is_floating_point() or result.is_complex()):
        return result
    return multilinear("input : input", _elementwise_lift, view="maybe")(func, args, kwargs)


for names in ("to", "type", "type_as", "_autocast_to_full_precision"):
    samples = [call(X, torch.float32)] if names == "to" else []
    add_rule(names, "linear", "input", _to, samples)
add_rule(
    "_autocast_to_reduced_precision",
    "linear",
    "input",
    multilinear("input : input", _elementwise_lift, view="maybe"),
)

# --- linear in two arguments ----------------------------------------------------------------------


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
        by_vmap,
        False,
        [call(X4, 0, ROWS, t(2, 4))],
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
        [call(X4, 0, torch.tensor([[0, 1, 2, 2], [1, 0, 0, 0]]), t(2, 4))],
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
for names, (form, lift, shared, samples) in PAIR.items():
    zero = 0.0 if names == "torch.where" else None
    evaluate = multilinear(form, lift, shared=shared, zero=zero, dense=not shared)
    if names == "complex":
        evaluate = multilinear(form, lift)
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
    mask = torch.zeros(input.shape[dim], dtype=torch.bool, device=input.device)
    mask = mask.index_fill(0, index, True)
    shape = [1] * input.ndim
    shape[dim] = -1
    return torch.where(mask.reshape(shape), value, input)


def _index_put(input: Any, indices: Any, values: Any, accumulate: bool = False) -> Any:
    result = torch.clone(input)
    if accumulate:
        places = torch.arange(input.numel(), device=input.device).reshape(input.shape)
        where = places[tuple(indices)]
        values = torch.broadcast_to(values, where.shape)
        flat = torch.reshape(input, (-1,))
        flat = torch.index_add(flat, 0, where.reshape(-1), torch.reshape(values, (-1,)))
        return torch.reshape(flat, tuple(input.shape))
    result[tuple(indices)] = values
    return result


for names, body, samples in (
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
    level, structure, order = join(func, series_among(func, (x, v)))
    into, what = blocks_at(x, level, structure, order), blocks_at(v, level, structure, order)
    y0 = into[0].clone()
    y0[index] = what[0]
    blocks: list[Any] = [y0]
    for k in range(1, order + 1):
        if into[k] is None and what[k] is None:
            blocks.append(None)
            continue
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
        blocks.append(block)
    store(func, x, wrap(blocks, structure, level))


RULES[torch.Tensor.__setitem__] = _setitem


def _copy(func: Callable, args: tuple, kwargs: dict) -> Any:
    target, source = args[:2]
    if isinstance(source, TaylorTensor):
        result = run(torch.broadcast_to, source, tuple(target.shape))
        if result is source:
            result = wrap(source._blocks, source._structure, source._level)
        return store(func, target, result)
    plain = torch.empty_like(target.value).copy_(source)
    return store(func, target, _constant(plain, target))


def _constant(plain: torch.Tensor, like: TaylorTensor) -> TaylorTensor:
    return wrap((plain,) + (None,) * like.order, like._structure, like._level)


def _fill(func: Callable, args: tuple, kwargs: dict) -> Any:
    target: TaylorTensor = args[0]
    number: Any = args[1] if len(args) > 1 else kwargs.get("value")
    if isinstance(number, TaylorTensor):
        return store(func, target, run(torch.broadcast_to, number, tuple(target.shape)).clone())
    return store(func, target, _constant(torch.full_like(target.value, number), target))


def _zero(func: Callable, args: tuple, kwargs: dict) -> Any:
    return store(func, args[0], _constant(torch.zeros_like(args[0].value), args[0]))


for name, evaluate in (("copy_", _copy), ("fill_ fill", _fill), ("zero_", _zero)):
    if name == "fill_ fill":
        RULES[torch.Tensor.fill_] = evaluate
    else:
        RULES[getattr(torch.Tensor, name)] = evaluate

# --- joining --------------------------------------------------------------------------------------


def _cat(func: Callable, args: tuple, kwargs: dict) -> Any:
    """Blocks that all have size 1 along an axis other than ``dim`` keep it."""
    (tensors,), others, kwargs = _list_first(args, kwargs)
    axis = others[0] if others else kwargs.get("dim", kwargs.get("axis", 0))
    level, structure, order = join(func, flatten(tensors, []))
    inputs = [blocks_at(x, level, structure, order) for x in tensors]
    y0 = torch.cat([b[0] for b in inputs], axis)
    axis = axis % y0.ndim
    blocks: list[Any] = [y0]
    for k in range(1, order + 1):
        if all(b[k] is None for b in inputs):
            blocks.append(None)
            continue
        lead = (structure.size(k),) if structure.leads(k) else ()
        skip = len(lead)
        sizes = list(y0.shape)
        for other in range(y0.ndim):
            if other != axis and all(b[k] is None or b[k].shape[other + skip] == 1 for b in inputs):
                sizes[other] = 1
        parts = []
        for b in inputs:
            if b[0].ndim == 1 and b[0].shape[0] == 0 and y0.ndim != 1:
                continue
            sizes[axis] = b[0].shape[axis]
            shape = (*lead, *sizes)
            parts.append(y0.new_zeros(shape) if b[k] is None else b[k].to(y0.dtype).expand(shape))
        blocks.append(torch.cat(parts, axis + skip))
    return wrap(blocks, structure, level)


def _list_first(args: tuple, kwargs: dict) -> tuple[list[Any], tuple, dict]:
    if args:
        return [args[0]], args[1:], kwargs
    kwargs = dict(kwargs)
    return [kwargs.pop("tensors")], (), kwargs


def _stack(tensors: Sequence[Any], dim: int = 0) -> Any:
    return torch.cat([torch.unsqueeze(x, dim) for x in tensors], dim)


def _listed(tensors: tuple) -> Sequence[Any]:
    return tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else tensors


def _each(f: Callable) -> Callable:
    def body(*tensors: Any) -> Any:
        listed = _listed(tensors)
        many = len(tensors) > 1 or isinstance(tensors[0], (list, tuple))
        return tuple(f(x) for x in listed) if many else f(listed[0])

    return body


def _atleast_1d(x: Any) -> Any:
    return torch.reshape(x, (1,)) if x.ndim == 0 else x


def _atleast_2d(x: Any) -> Any:
    return x if x.ndim >= 2 else torch.unsqueeze(_atleast_1d(x), 0)


def _atleast_3d(x: Any) -> Any:
    return x if x.ndim >= 3 else torch.unsqueeze(_atleast_2d(x), -1)


def _hstack(tensors: Sequence[Any]) -> Any:
    parts = [_atleast_1d(x) for x in tensors]
    return torch.cat(parts, 0 if parts[0].ndim == 1 else 1)


def _vstack(tensors: Sequence[Any]) -> Any:
    return torch.cat([_atleast_2d(x) for x in tensors], 0)


def _dstack(tensors: Sequence[Any]) -> Any:
    return torch.cat([_atleast_3d(x) for x in tensors], 2)


def _column_stack(tensors: Sequence[Any]) -> Any:
    return torch.cat([x if x.ndim > 1 else torch.reshape(x, (x.numel(), 1)) for x in tensors], 1)


def _meshgrid(*tensors: Any, indexing: str | None = None) -> Any:
    parts = [_atleast_1d(x) for x in _listed(tensors)]
    if indexing == "xy" and len(parts) >= 2:
        first, second, *rest = _meshgrid(parts[1], parts[0], *parts[2:])
        return second, first, *rest
    sizes = tuple(x.shape[0] for x in parts)
    return tuple(
        torch.broadcast_to(torch.reshape(x, (1,) * n + (-1,) + (1,) * (len(parts) - n - 1)), sizes)
        for n, x in enumerate(parts)
    )


def _broadcast_tensors(*tensors: Any) -> Any:
    listed = _listed(tensors)
    shape = torch.broadcast_shapes(*(x.shape for x in listed))
    return tuple(torch.broadcast_to(x, shape) for x in listed)


def _block_diag(*tensors: Any) -> Any:
    parts = [_atleast_2d(x) for x in tensors]
    width = sum(x.shape[1] for x in parts)
    rows, start = [], 0
    for x in parts:
        rows.append(torch.constant_pad_nd(x, (start, width - start - x.shape[1])))
        start += x.shape[1]
    return torch.cat(rows, 0)


def _cartesian_prod(*tensors: Any) -> Any:
    if len(tensors) == 1:
        return tensors[0]
    return torch.stack([torch.reshape(g, (-1,)) for g in _meshgrid(*tensors)], 1)


def _diff(input: Any, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None) -> Any:
    parts = [x for x in (prepend, input, append) if x is not None]
    x = torch.cat(parts, dim) if len(parts) > 1 else input
    for _ in range(n):
        count = x.shape[dim] - 1
        x = torch.narrow(x, dim, 1, count) - torch.narrow(x, dim, 0, count)
    return x


add_rule(
    "cat concat concatenate",
    "linear",
    "tensors",
    _cat,
    [call([t(2, 3), t(1, 3)]), call([t(2, 3), t(2, 1), t(2, 2)], 1)],
)
TWO = [t(2, 3), t(2, 3)]
JOINS: tuple[tuple[str, Callable, list], ...] = (
    ("stack", _stack, [call(TWO), call(TWO, -1)]),
    ("hstack", _hstack, [call(TWO), call([t(2), t(3)])]),
    ("vstack row_stack", _vstack, [call(TWO), call([t(3), t(3)])]),
    ("dstack", _dstack, [call(TWO)]),
    ("column_stack", _column_stack, [call([t(3), t(3, 2)])]),
    ("atleast_1d", _each(_atleast_1d), [call(t()), call(t(2, 3))]),
    ("atleast_2d", _each(_atleast_2d), [call(t(3))]),
    ("atleast_3d", _each(_atleast_3d), [call(t(2, 3))]),
    ("meshgrid", _meshgrid, [call(t(2), t(3), indexing="ij"), call(t(2), t(3), indexing="xy")]),
    ("broadcast_tensors", _broadcast_tensors, [call(t(2, 1), t(3))]),
    ("block_diag", _block_diag, [call(t(2, 3), t(1, 2))]),
    ("cartesian_prod", _cartesian_prod, [call(t(2), t(3))]),
    ("diff", _diff, [call(X), call(X, 2, 1)]),
)
for names, joining, samples in JOINS:
    add_rule(names, "composite", "torch code", composite(joining), samples)

# --- padding --------------------------------------------------------------------------------------


def _pad(func: Callable, args: tuple, kwargs: dict) -> Any:
    """Linear in the input; the constant goes to the value alone."""
    names = ("input", "pad", "mode", "value")
    given = dict(zip(names, args, strict=False)) | kwargs
    x, pad = given["input"], list(given["pad"])
    mode, value = given.get("mode") or "constant", given.get("value")
    series_among(func, (x,))
    bind(func, ("input",), args, kwargs)
    if len(args) > 2 and not isinstance(args[2], str):
        mode, value = "constant", args[2]
    level, structure, order = join(func, (x,))
    pads = torch._C._nn.pad  # type: ignore[attr-defined]
    blocks: list[Any] = [pads(x._blocks[0], pad, mode, value)]
    for k in range(1, order + 1):
        block = x._blocks[k]
        if block is not None:
            block = full(x, k)
            if mode == "constant" or not structure.leads(k):
                block = pads(block, pad, mode, 0.0 if mode == "constant" else None)
            else:
                block = torch.vmap(lambda b: pads(b, pad, mode, None))(block)
        blocks.append(block)
    return wrap(blocks, structure, level)


add_rule(
    "pad nn.functional.pad constant_pad_nd",
    "linear",
    "input",
    _pad,
    [call(X, (1, 2)), call(X, (1, 1, 2, 0), value=1.5), call(X, (1, 1), mode="reflect")],
)
