"""Functions that only move entries: linear, so every block goes through the function itself.

Views stay views: a write through one shows in its base and in every other view of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..algebra.series import by_degree
from ..engine.arguments import bind, series_among
from ..engine.frames import join
from ..engine.kinds import broadcast, composite, in_place, in_place_shape, reshape
from ..engine.lifts import Lift, as_is, by_axes, by_vmap, from_the_end
from ..engine.multilinear import multilinear
from ..engine.private import NN
from ..engine.registry import UnsupportedFunction, add_rule, name_of
from ..engine.samples import call, t
from ..engine.tensor import TaylorTensor, full, innermost, run, settle
from ..engine.writing import overlaps, shares_memory

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
    "resize": ("maybe", [call(X, 6, 4)]),
    "resize_as": ("maybe", [call(X, torch.zeros(6, 4))]),
    "ops.aten.alias": (True, [call(X)]),
    "ops.aten._unsafe_view": (False, [call(X, (6, 4))]),
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
    ".T ops.aten.numpy_T": (_reversed_lift, True, [call(t(2, 3))]),
    ".mT adjoint .mH ops.aten.mT ops.aten.mH": (_elementwise_lift, True, [call(X)]),
    ".H ops.aten.matrix_H": (_transpose_lift, True, [call(t(2, 3))]),
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
    "cpu cuda xpu ipu mtia pin_memory": (_elementwise_lift, "maybe", []),
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
    # torch reads pairs of neighbours in memory
    dense = names == "view_as_complex"
    evaluate = multilinear("input : input", lift, view=view, dense=dense)
    writes = {
        "tril": in_place(evaluate),
        "triu": in_place(evaluate),
        "conj_physical resolve_neg": in_place(evaluate),
        "t": in_place_shape(evaluate),
        "transpose": in_place_shape(evaluate),
        "swapdims": in_place_shape(evaluate),
        "swapaxes": in_place_shape(evaluate),
    }
    add_rule(names, "linear", "input", evaluate, samples, in_place=writes.get(names))


def _reversed(input: Any) -> Any:
    return torch.flip(input, (0,)) if input.ndim else input


add_rule("__reversed__", "composite", "flip", composite(_reversed), [call(X), call(t())])


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


def _slice(
    input: Any, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Any:
    index = [slice(None)] * input.ndim
    index[dim] = slice(start, end, step)
    return input[tuple(index)]


add_rule(
    "ops.aten.slice",
    "composite",
    "input[start:end:step]",
    composite(_slice),
    [call(X, 2, 1, 3), call(X, -1, 0, 4, 2), call(X)],
)


# --- by place in memory ---------------------------------------------------------------------------


def _strided_lift(func: Callable, args: list, kwargs: dict, leads: set) -> Any:
    block, size, stride, start = args
    count, length = block.shape[0], block[0].numel()
    return func(block, (count, *size), (length, *stride), start)


def _strided(input: Any, size: tuple, stride: tuple, start: int) -> Any:
    """The entries of ``input``, counted row by row, ``start + sum of i_n stride_n``."""
    if isinstance(input, TaylorTensor):
        return run(_STRIDED, _strided, (input, size, stride, start), {})
    # a direction that is the same everywhere has the memory of one entry
    return torch.as_strided(torch.reshape(input, (-1,)).contiguous()[start:], size, stride)


_STRIDED = multilinear("input : input", _strided_lift, view=True)


def _start(
    func: Any, x: Any, memory: Any, size: tuple, stride: tuple, storage_offset: int | None
) -> int:
    """The number, among the entries of ``memory`` counted row by row, where ``x`` is read first.

    Raises:
        UnsupportedFunction: a place that holds no entry, or a layout that is not known.
    """
    way_out = "use indexing, reshape or unfold"
    written, value = False, memory
    while isinstance(value, TaylorTensor):
        written, value = written or value._writes > 0, value.value
    x = innermost(x)
    if not value.is_contiguous() or not shares_memory(x, value):
        raise UnsupportedFunction(
            f"{name_of(func)} addresses memory, and this series is not laid out row by row: "
            f"{way_out}"
        )
    if written:
        raise UnsupportedFunction(
            f"{name_of(func)} addresses memory, and a series that was written to has blocks with "
            f"strides of their own: {way_out}"
        )
    if torch.compiler.is_compiling():
        if x is not value or storage_offset is not None:
            raise UnsupportedFunction(
                "torch.as_strided of a view or with storage_offset= inside torch.compile, which "
                "does not trace storage offsets: use indexing, reshape or unfold"
            )
        start = 0
    else:
        first = x.storage_offset() if storage_offset is None else storage_offset
        start = first - value.storage_offset()
    last = start + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 not in size and not 0 <= start <= last < value.numel():
        raise UnsupportedFunction(
            f"{name_of(func)} reads memory outside of the series, which has no coefficients: "
            f"{way_out}"
        )
    return start


def _as_strided(func: Callable, args: tuple, kwargs: dict) -> Any:
    """A view of the series that ``input`` is a view of, by place."""
    names = ("input", "size", "stride", "storage_offset")
    given = dict(zip(names, args, strict=False)) | kwargs
    x, size, stride = given["input"], tuple(given["size"]), tuple(given["stride"])
    series_among(func, (x,))
    settle(x)
    root = x
    while root._view is not None:
        root = root._view[0]
    start = _start(func, x, root, size, stride, given.get("storage_offset"))
    return _strided(root, size, stride, start)


add_rule(
    "as_strided",
    "linear",
    "input",
    _as_strided,
    [
        call(X, (2, 3), (12, 4)),
        call(X, (5, 3), (2, 1), 4),
        call(X, (2, 3), (0, 1)),
        call(X, (), ()),
    ],
)


def _as_strided_scatter(func: Callable, args: tuple, kwargs: dict) -> Any:
    names = ("input", "src", "size", "stride", "storage_offset")
    given = dict(zip(names, args, strict=False)) | kwargs
    x, src, size, stride = (given[name] for name in names[:4])
    size, stride = tuple(size), tuple(stride)
    if overlaps(size, stride):
        raise UnsupportedFunction(
            f"{name_of(func)} writes to one place in memory more than once: which entry stays is "
            "not determined"
        )
    start = _start(func, x, x, size, stride, given.get("storage_offset"))

    def body(x: Any, src: Any) -> Any:
        places = _strided(torch.arange(x.numel(), device=x.device), size, stride, start)
        flat = torch.reshape(x, (-1,))
        put = torch.index_copy(flat, 0, places.reshape(-1), torch.reshape(src, (-1,)))
        return torch.reshape(put, tuple(x.shape))

    return run(body, x, src)


add_rule(
    "as_strided_scatter",
    "composite",
    "input + src",
    _as_strided_scatter,
    [call(X, t(2, 3), (2, 3), (12, 4)), call(X, t(5, 2), (5, 2), (2, 1), 4), call(X, t(), (), ())],
)

# --- copies of views ------------------------------------------------------------------------------


def _copied(view: Callable) -> Callable:
    """What ``view`` gives, in memory of its own."""

    def clone(part: Any) -> Any:
        return torch.clone(part, memory_format=torch.contiguous_format)

    def body(*args: Any, **kwargs: Any) -> Any:
        result = view(*args, **kwargs)
        return tuple(map(clone, result)) if isinstance(result, (tuple, list)) else clone(result)

    return body


COPIES: dict[str, tuple[Callable, list]] = {
    "alias_copy": (torch.ops.aten.alias, [call(X)]),
    "as_strided_copy": (torch.as_strided, [call(X, (5, 3), (2, 1), 4)]),
    "diagonal_copy": (torch.diagonal, [call(X), call(X, 1, 0, 2)]),
    "expand_copy": (torch.Tensor.expand, [call(t(2, 1, 4), (2, 3, 4))]),
    "permute_copy": (torch.permute, [call(X, (2, 0, 1))]),
    "select_copy": (torch.select, [call(X, 1, 2)]),
    "slice_copy": (torch.ops.aten.slice, [call(X, 2, 1, 3)]),
    "split_copy": (torch.split, [call(X, 2, 2)]),
    "split_with_sizes_copy": (torch.split_with_sizes, [call(X, [1, 3], 2)]),
    "squeeze_copy": (torch.squeeze, [call(t(2, 1, 3, 1)), call(t(2, 1, 3), 1)]),
    "t_copy": (torch.t, [call(t(2, 3))]),
    "transpose_copy": (torch.transpose, [call(X, 0, 2)]),
    "unbind_copy": (torch.unbind, [call(X, 1)]),
    "unfold_copy": (torch.Tensor.unfold, [call(X, 2, 2, 1)]),
    "unsqueeze_copy": (torch.unsqueeze, [call(X, -1)]),
    "view_copy": (torch.Tensor.view, [call(X, (6, 4))]),
    "view_as_complex_copy": (torch.view_as_complex, []),
    "view_as_real_copy": (torch.view_as_real, []),
}
for name, (function, samples) in COPIES.items():
    rule = composite(_copied(function))
    add_rule(name, "composite", f"a copy of {name.removesuffix('_copy')}", rule, samples)

# --- to another dtype or device -------------------------------------------------------------------


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


for names in ("to", "type", "type_as", "to_dense", "_autocast_to_full_precision"):
    samples = {"to": [call(X, torch.float32)], "to_dense": [call(X)]}.get(names, [])
    add_rule(names, "linear", "input", _to, samples)
add_rule("ops.aten._to_copy", "linear", "input", _to, [call(X, dtype=torch.float32)])
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
    frame = join(func, (x,))
    pads = NN.pad

    def term(_: Any, k: int) -> Any:
        if x._blocks[k] is None:
            return None
        block = full(x, k)
        if mode == "constant" or not frame.structure.leads(k):
            return pads(block, pad, mode, 0.0 if mode == "constant" else None)
        return torch.vmap(lambda b: pads(b, pad, mode, None))(block)

    if mode == "constant":
        # not pads, which takes no complex number
        y0 = torch.constant_pad_nd(x._blocks[0], pad, 0 if value is None else value)
    else:
        y0 = pads(x._blocks[0], pad, mode, value)
    return frame.wrap(by_degree(y0, frame.order, term, x._blocks))


add_rule(
    "pad nn.functional.pad constant_pad_nd",
    "linear",
    "input",
    _pad,
    [call(X, (1, 2)), call(X, (1, 1, 2, 0), value=1.5), call(X, (1, 1), mode="reflect")],
)
