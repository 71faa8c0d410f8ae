"""Pooling, resizing, sampling on grids, patches, embeddings, distances.

Averages, interpolation and patches are linear in their input. A maximum over a window is a gather
by the indices of the value's maxima. Sampling at moving points is multilinear in the input and a
polynomial of the point within its cell.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from ..engine.kinds import composite, constant, value
from ..engine.lifts import Lift, by_vmap
from ..engine.multilinear import multilinear
from ..engine.private import NN
from ..engine.registry import Evaluator, UnsupportedFunction, add_rule, name_of
from ..engine.samples import Sample, call, t
from ..engine.tensor import TaylorTensor, innermost, run
from ..engine.writing import laid_out_as
from .bodies import own_body


def _plain(x: Any) -> Any:
    """The value below all levels, without gradient: what decides on indices and pieces."""
    x = innermost(x)
    return x.detach() if isinstance(x, torch.Tensor) else x


LINE, PLANE, SPACE = t(2, 2, 6, low=-1), t(2, 2, 5, 6, low=-1), t(1, 2, 4, 5, 4, low=-1)
SMALL = t(1, 2, 2, 3, 2, low=-1)

# --- linear in the input --------------------------------------------------------------------------


def _in_batch(rank: int) -> Lift:
    """For functions of a batch of ``rank`` axes: the directions are more samples of it."""

    def lift(func: Callable, args: list, kwargs: dict, leads: set) -> Any:
        block = args[0]
        if leads != {0} or block.ndim != rank + 1:
            return by_vmap(func, args, kwargs, leads)
        lead = tuple(block.shape[:2])
        flat = func(torch.flatten(block, 0, 1), *args[1:], **kwargs)
        return torch.reshape(flat, (*lead, *flat.shape[1:]))

    return lift


def _affine_grid_lift(func: Callable, args: list, kwargs: dict, leads: set) -> Any:
    """As ``_in_batch``; the size names the number of samples."""
    theta, size, align_corners = args
    count = theta.shape[0]
    flat = func(torch.flatten(theta, 0, 1), [count * size[0], *size[1:]], align_corners)
    return torch.reshape(flat, (count, size[0], *flat.shape[1:]))


# name: the rank of a batch, samples
LINEAR: dict[str, tuple[int, list[Sample]]] = {
    "avg_pool1d": (3, [call(LINE, 3), call(LINE, 3, 2, 1, False, False), call(t(2, 6), 2)]),
    "avg_pool2d": (4, [call(PLANE, 2), call(PLANE, (2, 3), 1, (1, 0), True, False, 5)]),
    "avg_pool3d": (5, [call(SPACE, 2), call(SPACE, 2, 2, 1, False, False)]),
    "adaptive_avg_pool1d": (3, [call(LINE, 4)]),
    "_C._nn.adaptive_avg_pool2d _adaptive_avg_pool2d": (4, [call(PLANE, (3, 4))]),
    "_C._nn.adaptive_avg_pool3d _adaptive_avg_pool3d": (5, [call(SPACE, (3, 2, 3))]),
    "upsample_nearest1d": (3, [call(LINE, [9], None)]),
    "upsample_nearest2d": (4, [call(PLANE, [7, 4], None)]),
    "upsample_nearest3d": (5, [call(SMALL, [3, 4, 3], None)]),
    "_upsample_nearest_exact1d": (3, [call(LINE, [9], None)]),
    "_upsample_nearest_exact2d": (4, [call(PLANE, [7, 4], None)]),
    "_upsample_nearest_exact3d": (5, [call(SMALL, [3, 4, 3], None)]),
    "upsample_linear1d": (3, [call(LINE, [9], False, None), call(LINE, [4], True, None)]),
    "upsample_bilinear2d": (4, [call(PLANE, [7, 4], False, None)]),
    "upsample_trilinear3d": (5, [call(SMALL, [3, 4, 3], True, None)]),
    "upsample_bicubic2d": (4, [call(PLANE, [7, 4], False, None)]),
    "_upsample_bilinear2d_aa": (4, [call(PLANE, [3, 4], False, None)]),
    "_upsample_bicubic2d_aa": (4, [call(PLANE, [3, 4], False, None)]),
    "im2col": (4, [call(PLANE, (2, 3), (1, 1), (1, 0), (2, 1))]),
    "col2im": (3, [call(t(2, 8, 9), (4, 4), (2, 2), (1, 1), (0, 0), (1, 1))]),
}
for name, (rank, samples) in LINEAR.items():
    rule = multilinear("input : input", _in_batch(rank))
    add_rule(name, "linear", "input", rule, samples)
add_rule(
    "_upsample_lanczos2d_aa",
    "linear",
    "input",
    multilinear("input : input", _in_batch(4)),
    [call(PLANE, [3, 4], False, None)],
    since="2.13",
)


def _affine_grid(theta: Any, size: Any, align_corners: bool) -> Any:
    return _AFFINE_GRID(torch.affine_grid_generator, (theta, list(size), align_corners), {})


_AFFINE_GRID = multilinear("theta : theta", _affine_grid_lift)
add_rule(
    "affine_grid_generator",
    "linear",
    "theta",
    composite(_affine_grid),
    [call(t(2, 2, 3), [2, 1, 3, 4], False), call(t(1, 3, 4), [1, 1, 2, 3, 2], True)],
)

# --- maxima over windows --------------------------------------------------------------------------


def _gathered(input: Any, indices: torch.Tensor, axes: int) -> Any:
    """The entries at flat ``indices`` into the last ``axes`` axes."""
    entries = torch.flatten(input, -axes)
    picked = torch.gather(entries, -1, indices.flatten(-axes)).reshape(indices.shape)
    return laid_out_as(picked, indices)


def _windowed(pool: Callable, axes: int, both: bool) -> Callable:
    """``pool`` gives values and indices; the series is gathered by the indices of its value."""

    def body(input: Any, *args: Any, **kwargs: Any) -> Any:
        indices = pool(_plain(input), *map(_plain, args), **kwargs)[1]
        picked = _gathered(input, indices, axes)
        return (picked, indices) if both else picked

    return body


HALVES = torch.full((2, 2, 2), 0.3, dtype=torch.float64)
THIRDS = torch.full((1, 2, 3), 0.3, dtype=torch.float64)
# name: what gives the indices, the number of axes pooled, whether indices are returned, samples
WINDOWS: dict[str, tuple[Callable, int, bool, list[Sample]]] = {
    "max_pool1d": (torch.max_pool1d_with_indices, 1, False, [call(LINE, 3), call(t(2, 6), 2)]),
    "max_pool1d_with_indices": (
        torch.max_pool1d_with_indices,
        1,
        True,
        [call(LINE, 3, 2, 1), call(LINE, 2, 1, 0, 2, True)],
    ),
    "max_pool2d": (NN.max_pool2d_with_indices, 2, False, [call(PLANE, 2), call(PLANE, 3, 2, 1)]),
    "max_pool2d_with_indices": (
        NN.max_pool2d_with_indices,
        2,
        True,
        [call(PLANE, (2, 3), (1, 2)), call(t(2, 5, 6), 2)],
    ),
    "max_pool3d": (NN.max_pool3d_with_indices, 3, False, [call(SPACE, 2)]),
    "max_pool3d_with_indices": (NN.max_pool3d_with_indices, 3, True, [call(SPACE, 2, 1)]),
    "torch.adaptive_max_pool1d": (torch.adaptive_max_pool1d, 1, True, [call(LINE, 4)]),
    "_C._nn.adaptive_max_pool2d": (NN.adaptive_max_pool2d, 2, True, [call(PLANE, (3, 2))]),
    "_C._nn.adaptive_max_pool3d": (NN.adaptive_max_pool3d, 3, True, [call(SPACE, (2, 3, 2))]),
    "_C._nn.fractional_max_pool2d": (
        NN.fractional_max_pool2d,
        2,
        True,
        [call(PLANE, (2, 2), (3, 3), HALVES)],
    ),
    "_C._nn.fractional_max_pool3d": (
        NN.fractional_max_pool3d,
        3,
        True,
        [call(SPACE, (2, 2, 2), (2, 3, 2), THIRDS)],
    ),
}
for name, (pool, axes, both, samples) in WINDOWS.items():
    rule = composite(_windowed(pool, axes, both))
    add_rule(name, "composite", "gather by index", rule, samples)


def _with_or_without_indices(name: str) -> Callable:
    """The function ``name`` of ``torch.nn.functional``, which torch splits in two."""
    with_indices = own_body(getattr(F, f"{name}_with_indices"))
    without = own_body(getattr(F, f"_{name}"))

    position = list(inspect.signature(with_indices).parameters).index("return_indices")

    def body(*args: Any, **kwargs: Any) -> Any:
        # Dynamo passes it as the user did
        wanted = args[position] if len(args) > position else kwargs.get("return_indices", False)
        return (with_indices if wanted else without)(*args, **kwargs)

    return body


SPLIT: dict[str, list[Sample]] = {
    "max_pool1d": [call(LINE, 3), call(LINE, 2, return_indices=True)],
    "max_pool2d": [call(PLANE, 2), call(PLANE, 3, 2, 1, 1, True, True)],
    "max_pool3d": [call(SPACE, 2)],
    "adaptive_max_pool1d": [call(LINE, 4)],
    "adaptive_max_pool2d": [call(PLANE, (3, None)), call(PLANE, 3, return_indices=True)],
    "adaptive_max_pool3d": [call(SPACE, 2)],
    "fractional_max_pool2d": [call(PLANE, 2, 3, _random_samples=HALVES)],
    "fractional_max_pool3d": [call(SPACE, 2, output_ratio=0.6, _random_samples=THIRDS)],
}
for name, samples in SPLIT.items():
    add_rule(
        f"nn.functional.{name}",
        "composite",
        "gather by index",
        composite(_with_or_without_indices(name)),
        samples,
    )


def _unpooled(axes: int) -> Callable:
    """Entries put at flat indices into zeros: what the gather undoes."""

    def body(input: Any, indices: torch.Tensor, output_size: Any, *others: Any) -> Any:
        outer = tuple(input.shape[:-axes])
        zeros = torch.zeros(
            (*outer, math.prod(output_size)), dtype=input.dtype, device=input.device
        )
        put = torch.scatter(zeros, -1, indices.flatten(-axes), torch.flatten(input, -axes))
        return torch.reshape(put, (*outer, *output_size))

    return body


PLACES = torch.tensor([[[[0, 7], [10, 14]]]])
for axes, samples in (
    (2, [call(t(1, 1, 2, 2), PLACES, (4, 4))]),
    (3, [call(t(1, 1, 1, 2, 2), PLACES[None], (2, 4, 4), (2, 2, 2), (0, 0, 0))]),
):
    add_rule(
        f"max_unpool{axes}d", "composite", "scatter by index", composite(_unpooled(axes)), samples
    )

# --- sampling at the points of a grid -------------------------------------------------------------
#
# Along each axis: pixel = the grid's coordinate in pixels, pulled back into the image where the
# padding says so; cell = floor(pixel), decided by the value; within the cell the weights of the
# neighbouring pixels are polynomials of pixel - cell (degree 1: bilinear, 3: bicubic).

ZEROS, BORDER, REFLECTION = 0, 1, 2


def _pixels(x: Any, size: int, align_corners: bool) -> Any:
    """From [-1, 1] to pixels: the ends are centres of pixels (align_corners) or their edges."""
    return (x + 1) * ((size - 1) / 2) if align_corners else ((x + 1) * size - 1) * 0.5


def _clipped(v: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The nearest point of the image, and the slope of that; as torch, 0 on the border itself."""
    inside = (v > 0) & (v < size - 1)
    return v.clamp(0, size - 1), inside.to(v.dtype)


def _reflected(v: torch.Tensor, size: int, align_corners: bool) -> tuple[Any, Any]:
    """The point mirrored at the ends until it is in the image, and the slope of that."""
    low, span = (0.0, size - 1) if align_corners else (-0.5, size)
    if span == 0:
        return torch.zeros_like(v), torch.zeros_like(v)
    distance = (v - low).abs()
    rest = torch.fmod(distance, span)
    even = torch.floor(distance / span) % 2 == 0
    mirrored = torch.where(even, rest, span - rest) + low
    slope = torch.where((v < low) == even, -1.0, 1.0).to(v.dtype)
    clipped, inside = _clipped(mirrored, size)
    return clipped, slope * inside


def _padded(v: torch.Tensor, size: int, padding: int, align_corners: bool) -> tuple[Any, Any]:
    if padding == BORDER:
        return _clipped(v, size)
    if padding == REFLECTION:
        return _reflected(v, size, align_corners)
    return v, torch.ones_like(v)


def _linear_weights(s: Any) -> list[tuple[int, Any]]:
    """The pixels around a cell and their weights at the point ``s`` of it, 0 <= s < 1."""
    return [(0, 1 - s), (1, s)]


def _cubic_weights(s: Any) -> list[tuple[int, Any]]:
    """Keys' cubic convolution with a = -3/4."""
    a, r = -0.75, 1 - s

    def near(x: Any) -> Any:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: Any) -> Any:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return [(-1, far(s + 1)), (0, near(s)), (1, near(r)), (2, far(r + 1))]


def _sampled(input: Any, grid: Any, mode: int, padding: int, align_corners: bool) -> Any:
    """``sum over neighbours of input[neighbour] * product over axes of weight(pixel - cell)``."""
    sizes = tuple(input.shape[2:])
    batch, channels = input.shape[:2]
    points = tuple(grid.shape[1:-1])
    bicubic = mode == 2
    choices: list[list[tuple[torch.Tensor, torch.Tensor, Any]]] = []
    # the last coordinate of a grid point is along the first axis of the image
    for size, coordinate in zip(sizes, reversed(torch.unbind(grid, -1)), strict=True):
        pixel = _pixels(coordinate, size, align_corners)
        v = _plain(pixel)
        if not bicubic:
            # the padded value, moving with the pixel at the slope of the padding there
            pulled, slope = _padded(v, size, padding, align_corners)
            pixel = pulled + slope * (pixel - v)
            v = pulled
        cell = torch.floor(v)
        axis = []
        for offset, weight in (_cubic_weights if bicubic else _linear_weights)(pixel - cell):
            place = cell + offset
            if bicubic:
                # here torch pads the neighbours, not the point
                place = _padded(place, size, padding, align_corners)[0]
            there = (place >= 0) & (place < size)
            axis.append((place.clamp(0, size - 1).long(), there, weight))
        choices.append(axis)
    entries = torch.flatten(input, 2)
    total: Any = 0
    for corner in itertools.product(*choices):
        index: Any = 0
        share: Any = 1
        inside: Any = True
        for size, (place, there, weight) in zip(sizes, corner, strict=True):
            index, inside = index * size + place, inside & there
            share = share * weight
        index = index.reshape(batch, 1, -1).expand(batch, channels, -1)
        values = torch.reshape(torch.gather(entries, 2, index), (batch, channels, *points))
        total = total + values * (share * inside.to(share.dtype)).unsqueeze(1)
    return total


_IN_INPUT = multilinear("input : input")
GRID_ARGUMENTS = ("input", "grid", "interpolation_mode", "padding_mode", "align_corners")


def _grid_sampler(func: Callable, args: tuple, kwargs: dict) -> Any:
    given = dict(zip(GRID_ARGUMENTS, args, strict=False)) | kwargs
    input, grid, mode, padding, align_corners = (given[name] for name in GRID_ARGUMENTS)
    if isinstance(grid, TaylorTensor) and mode != 1:
        return run(_sampled, input, grid, mode, padding, align_corners)
    # the nearest pixel does not move with the point
    rule = _IN_INPUT if isinstance(input, TaylorTensor) else constant
    if isinstance(input, TaylorTensor):
        grid = _plain(grid)
    return rule(func, (input, grid, mode, padding, align_corners), {})


IMAGE, VOLUME = t(2, 2, 4, 5, low=-1), t(1, 2, 3, 4, 3, low=-1)
GRID, GRID3 = t(2, 3, 4, 2, low=-1.7, high=1.7), t(1, 2, 3, 2, 3, low=-1.7, high=1.7)
ON_PLANE = [
    call(IMAGE, GRID, mode, padding, align_corners)
    for mode in (0, 2)
    for padding in (ZEROS, BORDER, REFLECTION)
    for align_corners in (False, True)
] + [call(IMAGE, GRID, 1, ZEROS, False)]
IN_SPACE = [call(VOLUME, GRID3, 0, padding, False) for padding in (ZEROS, BORDER, REFLECTION)]
for name, samples in (
    ("grid_sampler", [call(IMAGE, GRID, 0, ZEROS, False)]),
    ("grid_sampler_2d", ON_PLANE),
    ("grid_sampler_3d", IN_SPACE),
):
    add_rule(name, "composite", "neighbours and weights", _grid_sampler, samples)

# --- embeddings -----------------------------------------------------------------------------------


def _embedding(
    weight: Any,
    indices: torch.Tensor,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Any:
    """Rows of a table; the row of the padding is a constant, as in torch's backward."""
    if scale_grad_by_freq:
        raise UnsupportedFunction(SCALED.format("embedding"))
    rows = _ROWS(torch.embedding, (weight, indices, -1, False, sparse), {})
    if padding_idx < 0:
        return rows
    return torch.where((indices == padding_idx).unsqueeze(-1), _plain(rows), rows)


_ROWS = multilinear("weight : weight")
SCALED = (
    "torch.{}(scale_grad_by_freq=True) of a TaylorTensor: what it scales is then the derivative of "
    "no function; use scale_grad_by_freq=False"
)


def _embedding_bag(
    weight: Any,
    indices: torch.Tensor,
    offsets: torch.Tensor,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Any:
    """Rows of a table, summed (mode 0), averaged (1) or maximised (2) over bags of indices."""
    if scale_grad_by_freq:
        raise UnsupportedFunction(SCALED.format("embedding_bag"))
    plain = torch.embedding_bag(
        _plain(weight),
        indices,
        offsets,
        scale_grad_by_freq,
        mode,
        sparse,
        _plain(per_sample_weights),
        include_last_offset,
        padding_idx,
    )
    bags = plain[0].shape[0]
    place = torch.arange(len(indices), device=indices.device, dtype=offsets.dtype)
    bag = torch.searchsorted(offsets[:bags].contiguous(), place, right=True) - 1
    kept = torch.ones_like(indices, dtype=torch.bool)
    if padding_idx is not None:
        kept = indices != padding_idx % weight.shape[0]
    count = torch.zeros(bags, dtype=torch.long, device=indices.device).index_add(
        0, bag, kept.long()
    )
    if mode == 2:
        # an empty bag has no maximum: torch gives 0
        picked = torch.gather(weight, 0, plain[3].clamp(min=0))
        result = torch.where((count > 0).unsqueeze(1), picked, 0.0)
        return (result, *plain[1:])
    rows = torch.index_select(weight, 0, indices)
    factor = kept.to(weight.dtype)
    if per_sample_weights is not None:
        factor = factor * per_sample_weights
    elif mode == 1:
        factor = factor / count.clamp(min=1)[bag]
    zeros = torch.zeros(plain[0].shape, dtype=weight.dtype, device=weight.device)
    result = torch.index_add(zeros, 0, bag, rows * factor.unsqueeze(1))
    return (result, *plain[1:])


TABLE = t(5, 3)
WORDS = torch.tensor([1, 4, 1, 0, 3, 2])
BAGS = torch.tensor([0, 2, 2, 5])
add_rule(
    "torch.embedding",
    "composite",
    "linear in weight",
    composite(_embedding),
    [call(TABLE, WORDS.reshape(2, 3)), call(TABLE, WORDS, 1)],
)
add_rule(
    "torch.embedding_bag torch._embedding_bag",
    "composite",
    "torch code",
    composite(_embedding_bag),
    [
        call(TABLE, WORDS, BAGS, False, 0, False, t(6)),
        call(TABLE, WORDS, BAGS, False, 1),
        call(TABLE, WORDS, BAGS, False, 2),
        call(TABLE, WORDS, BAGS, False, 1, False, None, False, 1),
    ],
)
add_rule("one_hot", "value", "of integers", value)

# --- distances ------------------------------------------------------------------------------------


def _cdist(x1: Any, x2: Any, p: float = 2.0, compute_mode: Any = None) -> Any:
    """All distances between two sets of points; that of two equal points has no derivatives."""
    return _length(x1.unsqueeze(-2) - x2.unsqueeze(-3), p)


def _length(difference: Any, p: float) -> Any:
    if p == 0:
        # a count of entries: torch's norm of a series gives it as a plain tensor
        return torch.sum(torch.abs(torch.sign(difference)), -1)
    return torch.linalg.vector_norm(difference, p, -1)


def _pdist(input: Any, p: float = 2.0) -> Any:
    """The distances of each pair of points."""
    first, second = torch.triu_indices(len(input), len(input), 1, device=input.device)
    return _length(torch.index_select(input, 0, first) - torch.index_select(input, 0, second), p)


add_rule(
    "cdist",
    "composite",
    "torch code",
    composite(_cdist),
    [call(t(2, 4, 3), t(2, 2, 3)), call(t(4, 3), t(2, 3), 3.0), call(t(4, 3), t(2, 3), 1.0)],
)
add_rule("pdist", "composite", "torch code", composite(_pdist), [call(t(4, 3)), call(t(4, 3), 3.0)])

# --- normalization --------------------------------------------------------------------------------


def _instance_norm(
    input: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Any:
    """Batch norm of one sample whose channels are those of all samples, as torch computes it."""
    batch, channels, *rest = input.shape
    w, b, mean, var = (
        None if x is None else x.repeat(batch) for x in (weight, bias, running_mean, running_var)
    )
    flat = torch.reshape(input, (1, batch * channels, *rest))
    result = torch.batch_norm(flat, w, b, mean, var, use_input_stats, momentum, eps, cudnn_enabled)
    if use_input_stats:
        # each sample has moved a copy of its own
        with torch.no_grad():
            for running, moved in ((running_mean, mean), (running_var, var)):
                if running is not None and moved is not None:
                    running.copy_(moved.reshape(batch, channels).mean(0))
    return torch.reshape(result, tuple(input.shape))


ONES = torch.ones(2, dtype=torch.float64)
add_rule(
    "torch.instance_norm",
    "composite",
    "torch code",
    composite(_instance_norm),
    [
        call(LINE, t(2), t(2), None, None, True, 0.1, 1e-5, False),
        call(PLANE, t(2), t(2), 0.1 * ONES, 0.7 * ONES, False, 0.1, 1e-5, False),
    ],
)


# --- torch's own bodies ---------------------------------------------------------------------------

TORCH_BODIES: dict[str, list[Sample]] = {
    "adaptive_avg_pool2d": [call(PLANE, (3, None))],
    "adaptive_avg_pool3d": [call(SPACE, 2)],
    "max_pool1d_with_indices": [call(LINE, 3)],
    "max_pool2d_with_indices": [call(PLANE, 2)],
    "max_pool3d_with_indices": [call(SPACE, 2)],
    "adaptive_max_pool1d_with_indices": [call(LINE, 4)],
    "adaptive_max_pool2d_with_indices": [call(PLANE, (3, None))],
    "adaptive_max_pool3d_with_indices": [call(SPACE, 2)],
    "fractional_max_pool2d_with_indices": [call(PLANE, 2, 3, _random_samples=HALVES)],
    "fractional_max_pool3d_with_indices": [call(SPACE, 2, 2, _random_samples=THIRDS)],
    "max_unpool1d": [call(t(1, 1, 3), torch.tensor([[[0, 3, 5]]]), 2)],
    "max_unpool2d": [call(t(1, 1, 2, 2), PLACES, 2)],
    "max_unpool3d": [call(t(1, 1, 1, 2, 2), PLACES[None], 2)],
    "interpolate": [
        call(PLANE, 3),
        call(PLANE, scale_factor=1.5, mode="bilinear"),
        call(PLANE, (3, 4), mode="bicubic", align_corners=True),
        call(PLANE, (3, 4), mode="area"),
        call(PLANE, (3, 4), mode="bilinear", antialias=True),
        call(LINE, 9, mode="linear"),
        call(SMALL, scale_factor=2, mode="trilinear"),
        call(SMALL, scale_factor=2, mode="nearest-exact"),
    ],
    "grid_sample": [call(IMAGE, GRID, "bicubic", "border", False), call(VOLUME, GRID3)],
    "affine_grid": [call(t(2, 2, 3), [2, 1, 3, 4], False)],
    "unfold": [call(PLANE, (2, 3), padding=1)],
    "fold": [call(t(2, 8, 9), (4, 4), (2, 2))],
    "embedding": [call(WORDS.reshape(2, 3), TABLE)],
    "embedding_bag": [
        call(WORDS.reshape(2, 3), TABLE),
        call(WORDS, TABLE, BAGS, mode="max"),
    ],
}


def _table_unwritten(evaluate: Evaluator) -> Evaluator:
    def checked(func: Callable, args: tuple, kwargs: dict) -> Any:
        table = args[1] if len(args) > 1 else kwargs["weight"]
        max_norm = args[3] if len(args) > 3 else kwargs.get("max_norm")
        if max_norm is not None and isinstance(table, TaylorTensor):
            raise UnsupportedFunction(
                f"{name_of(func)}(max_norm=...) rescales the rows of weight in place, unseen by "
                "autograd: rescale them before, with torch.renorm(weight, 2.0, 0, max_norm)"
            )
        return evaluate(func, args, kwargs)

    return checked


for name, samples in TORCH_BODIES.items():
    rule = composite(own_body(getattr(F, name)))
    if name.startswith("embedding"):
        rule = _table_unwritten(rule)
    add_rule(f"nn.functional.{name}", "composite", "torch's own body", rule, samples)

# --- norms over windows ---------------------------------------------------------------------------


def _lp_pool(own: Callable, mean: Callable, axes: int) -> Callable:
    """A window of zeros gives 0 with all its derivatives, as torch's autograd."""

    def body(
        input: Any, norm_type: Any, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
    ) -> Any:
        if norm_type == 0 or math.isinf(norm_type):
            return own(input, norm_type, kernel_size, stride, ceil_mode)
        sizes = kernel_size if isinstance(kernel_size, (tuple, list)) else [kernel_size] * axes
        power = torch.pow(input, norm_type)
        total = mean(power, kernel_size, stride, 0, ceil_mode) * math.prod(sizes)
        none = total == 0
        root = torch.pow(torch.where(none, 1.0, total), 1.0 / norm_type)
        return torch.where(none, 0.0, root)

    return body


for axes, samples in (
    (1, [call(t(2, 2, 6), 3, 2)]),
    (2, [call(t(2, 2, 5, 6), 2.0, 2), call(t(2, 2, 5, 6), math.inf, 2)]),
    (3, [call(t(1, 2, 4, 5, 4), 2.0, 2)]),
):
    name = f"nn.functional.lp_pool{axes}d"
    own = own_body(getattr(F, f"lp_pool{axes}d"))
    rule = composite(_lp_pool(own, getattr(F, f"avg_pool{axes}d"), axes))
    add_rule(name, "composite", "torch code", rule, samples)
