"""Functions that only move entries: linear, so every block goes through the function itself.

Views stay views: a write through one shows in its base and in every other view of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..kinds import (
    bind,
    broadcast,
    composite,
    in_place,
    in_place_shape,
    multilinear,
    reshape,
    series_among,
)
from ..lifts import Lift, as_is, by_axes, by_vmap, from_the_end
from ..registry import UnsupportedFunction, add_rule, call, t
from ..tensor import TaylorTensor, full, innermost, join, settle, wrap

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


def _unflatten(func: Callable, args: tuple, kwargs: dict) -> Any:
    """Dynamo cannot trace the Python body of the method."""
    return reshape(True)(torch.unflatten, args, kwargs)


BY_HAND = {"view": _view, "unflatten": _unflatten}
for names, (view, samples) in RESHAPES.items():
    evaluate = BY_HAND.get(names, reshape(view))
    add_rule(
        names,
        "reshape",
        "same entries, same order",
        evaluate,
        samples,
        in_place=in_place_shape(evaluate) if names in ("squeeze", "unsqueeze") else None,
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
    writes = {
        "tril": in_place(evaluate),
        "triu": in_place(evaluate),
        "t": in_place_shape(evaluate),
        "transpose": in_place_shape(evaluate),
        "swapdims": in_place_shape(evaluate),
        "swapaxes": in_place_shape(evaluate),
    }
    add_rule(names, "linear", "input", evaluate, samples, in_place=writes.get(names))


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
    x, *rest = args
    # a tensor given as the model of dtype and device
    rest = [innermost(a) for a in rest]
    kwargs = {name: innermost(a) for name, a in kwargs.items()}
    if not isinstance(x, TaylorTensor):
        return func(x, *rest, **kwargs)
    settle(x)
    result = func(x._blocks[0], *rest, **kwargs)
    if not isinstance(result, torch.Tensor):
        return result
    if not (result.is_floating_point() or result.is_complex()):
        return result
    return _CAST(func, (x, *rest), kwargs)


_CAST = multilinear("input : input", _elementwise_lift, view="maybe")


for names in ("to", "type", "type_as", "_autocast_to_full_precision"):
    samples = [call(X, torch.float32)] if names == "to" else []
    add_rule(names, "linear", "input", _to, samples)
add_rule(
    "_autocast_to_reduced_precision",
    "linear",
    "input",
    _CAST,
)

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
