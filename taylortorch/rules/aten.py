"""Operators that stand behind torch's functions, as exported and traced programs call them.

An operator ``torch.ops.aten.f`` has the rule of the function ``f`` where torch has one (see
``registry.rule_for``). These have none that users call, or are written in terms of one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..engine.kinds import attribute, composite
from ..engine.multilinear import multilinear
from ..engine.private import OVERLOADS
from ..engine.registry import ADAPTERS, Adapter, add_rule
from ..engine.samples import Sample, call, t

X = t(2, 3, 4, low=-1, high=1)
PLANE = t(2, 2, 5, 6, low=-1)

# --- softmax --------------------------------------------------------------------------------------


def _softmax(input: Any, dim: int, half_to_float: bool) -> Any:
    return torch.softmax(input, dim, dtype=torch.float32 if half_to_float else None)


def _log_softmax(input: Any, dim: int, half_to_float: bool) -> Any:
    return torch.log_softmax(input, dim, dtype=torch.float32 if half_to_float else None)


def _safe_softmax(input: Any, dim: int, dtype: torch.dtype | None = None) -> Any:
    """Where every entry is masked, 0."""
    hidden = (input.detach() == -math.inf).all(dim, keepdim=True)
    result = torch.softmax(torch.where(hidden, 0.0, input), dim, dtype=dtype)
    return torch.where(hidden, 0.0, result)


def _softmax_backward(grad_output: Any, output: Any, dim: int, input_dtype: torch.dtype) -> Any:
    total = torch.sum(grad_output * output, dim, keepdim=True)
    return (output * (grad_output - total)).to(input_dtype)


def _log_softmax_backward(grad_output: Any, output: Any, dim: int, input_dtype: Any) -> Any:
    total = torch.sum(grad_output, dim, keepdim=True)
    return (grad_output - torch.exp(output) * total).to(input_dtype)


# --- batch norm -----------------------------------------------------------------------------------


def _legit(input: Any, weight: Any, bias: Any, *rest: Any, **named: Any) -> Any:
    if len(rest) + len(named) == 3:
        rest = (None, None, *rest)
    return torch.native_batch_norm(input, weight, bias, *rest, **named)


def _without_training(
    input: Any, weight: Any, bias: Any, mean: Any, var: Any, momentum: float, eps: float
) -> Any:
    return torch.native_batch_norm(input, weight, bias, mean, var, False, momentum, eps)


def _with_update(
    input: Any, weight: Any, bias: Any, mean: Any, var: Any, momentum: float, eps: float
) -> Any:
    result = torch.native_batch_norm(input, weight, bias, mean, var, True, momentum, eps)
    return (*result, _reserve(input))


def _without_update(
    input: Any, weight: Any, bias: Any, mean: Any, var: Any, momentum: float, eps: float
) -> Any:
    result = torch.native_batch_norm(input, weight, bias, mean, var, False, momentum, eps)
    return (*result, _reserve(input))


def _reserve(input: Any) -> torch.Tensor:
    """What another back end keeps for the backward pass; on this one it is empty."""
    return torch.empty(0, dtype=torch.uint8, device=input.device)


# --- indices --------------------------------------------------------------------------------------


def _places(indices: Sequence[torch.Tensor | None]) -> tuple:
    return tuple(slice(None) if index is None else index for index in indices)


def _index(input: Any, indices: Sequence[torch.Tensor | None]) -> Any:
    return torch.clone(input[_places(indices)])


def _unsafe_index_put(input: Any, indices: Any, values: Any, accumulate: bool = False) -> Any:
    # the operator: the function takes no None among the indices
    return torch.ops.aten.index_put(input, list(indices), values, accumulate)


def _clamped(input: Any, indices: Sequence[torch.Tensor | None]) -> list[torch.Tensor | None]:
    """Indices where the mask is false may point anywhere."""
    return [
        None if index is None else index.clamp(-size, size - 1)
        for index, size in zip(indices, input.shape, strict=False)
    ]


def _masked_index(input: Any, mask: torch.Tensor, indices: Any, fill: float) -> Any:
    if input.numel() == 0:
        return input.new_full(mask.shape, fill)
    return torch.where(mask, input[_places(_clamped(input, indices))], fill)


def _masked_index_put(input: Any, mask: torch.Tensor, indices: Any, values: Any) -> Any:
    if input.numel() == 0:
        return torch.clone(input)
    masked = torch.where(mask, values, 0.0)
    return torch.ops.aten.index_put(input, _clamped(input, indices), masked, True)


def _max_pool2d_backward(
    grad_output: Any,
    input: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    indices: torch.Tensor,
) -> Any:
    """Entries added up at flat indices: what the gather of the forward pass transposes to."""
    zeros = torch.flatten(torch.zeros_like(input), -2)
    added = torch.scatter_add(zeros, -1, indices.flatten(-2), torch.flatten(grad_output, -2))
    return torch.reshape(added, tuple(input.shape))


# --- others ---------------------------------------------------------------------------------------


def _dropout_backward(grad_output: Any, mask: torch.Tensor, scale: float) -> Any:
    return torch.where(mask, grad_output * scale, 0.0)


def _copy(input: Any, src: Any, non_blocking: bool = False) -> Any:
    return torch.zeros_like(input) + src.to(input.dtype)


def _cdist(x1: Any, x2: Any, p: float, compute_mode: int | None) -> Any:
    return torch.cdist(x1, x2, p)


def _padded(mode: str) -> Callable:
    return lambda input, padding: torch.nn.functional.pad(input, tuple(padding), mode)


MASK = torch.tensor([[True, False, True], [False, True, True]])
ROWS = torch.tensor([[1], [4]])
COLUMNS = torch.tensor([[2, 0, 1]])
WINDOWS = torch.tensor([[[[7, 7, 9], [7, 14, 21]]] * 2] * 2)
NORM = (t(2), t(2), torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64))
TABLE: dict[str, tuple[Callable, list[Sample]]] = {
    "_softmax": (_softmax, [call(X, 1, False)]),
    "_log_softmax": (_log_softmax, [call(X, -1, False)]),
    "_safe_softmax": (_safe_softmax, [call(X, 1), call(X, -1, dtype=torch.float64)]),
    "_softmax_backward_data": (_softmax_backward, [call(X, X, 1, torch.float64)]),
    "_log_softmax_backward_data": (_log_softmax_backward, [call(X, X, 1, torch.float64)]),
    "_native_batch_norm_legit": (
        _legit,
        [
            call(PLANE, *NORM, False, 0.1, 1e-5),
            call(t(3, 2, 4), t(2), t(2), True, 0.1, 1e-5),
        ],
    ),
    "_native_batch_norm_legit_no_training": (
        _without_training,
        [call(PLANE, *NORM, 0.1, 1e-5)],
    ),
    "ops.aten._batch_norm_with_update": (_with_update, [call(t(3, 2, 4), *NORM, 0.1, 1e-5)]),
    "ops.aten._batch_norm_no_update": (_without_update, [call(PLANE, *NORM, 0.1, 1e-5)]),
    "ops.aten.index ops.aten._unsafe_index _unsafe_index": (
        _index,
        [call(X, [None, torch.tensor([2, 0])]), call(X, [torch.tensor([1]), None, COLUMNS[0]])],
    ),
    "ops.aten._unsafe_index_put _unsafe_index_put": (
        _unsafe_index_put,
        [call(X, [None, torch.tensor([2, 0])], t(2, 2, 4))],
    ),
    "_unsafe_masked_index": (
        _masked_index,
        [call(t(2, 3), MASK, (ROWS, COLUMNS), 0.5)],
    ),
    "_unsafe_masked_index_put_accumulate": (
        _masked_index_put,
        [call(t(2, 3), MASK, (ROWS, COLUMNS), t(2, 3))],
    ),
    "ops.aten.max_pool2d_with_indices_backward": (
        _max_pool2d_backward,
        [call(t(2, 2, 2, 3), PLANE, [2, 2], [2, 2], [0, 0], [1, 1], False, WINDOWS)],
    ),
    "ops.aten._cdist_forward": (_cdist, [call(t(4, 3), t(2, 3), 3.0, None)]),
    "ops.aten._pdist_forward": (torch.pdist, [call(t(4, 3), 3.0)]),
    "ops.aten.native_dropout_backward": (_dropout_backward, [call(t(2, 3), MASK, 2.0)]),
    "ops.aten.copy": (_copy, [call(X, t(3, 4))]),
    "reflection_pad1d": (_padded("reflect"), [call(X, [1, 2])]),
    "reflection_pad2d": (_padded("reflect"), [call(X, [1, 2, 0, 1])]),
    "reflection_pad3d": (_padded("reflect"), [call(t(1, 2, 3, 4), [1, 0, 0, 1, 1, 0])]),
    "replication_pad1d": (_padded("replicate"), [call(X, [1, 2])]),
    "replication_pad2d": (_padded("replicate"), [call(X, [1, 2, 0, 1])]),
    "replication_pad3d": (_padded("replicate"), [call(t(1, 2, 3, 4), [1, 0, 0, 1, 1, 0])]),
}
for names, (body, samples) in TABLE.items():
    add_rule(names, "composite", "torch code", composite(body), samples)

for names, samples in (
    ("_fft_r2c", [call(X, [1, 2], 0, True)]),
    ("_fft_c2r", []),
    ("_fft_c2c", []),
):
    add_rule(names, "linear", "input", multilinear("input : input"), samples)

# losses of torch._C._nn take 0 ("none") for their default, operators 1 ("mean"): where it stands
REDUCTION_AT = {
    "binary_cross_entropy": 3,
    "cross_entropy_loss": 3,
    "huber_loss": 2,
    "l1_loss": 2,
    "mse_loss": 2,
    "multi_margin_loss": 5,
    "multilabel_margin_loss": 2,
    "nll_loss": 3,
    "nll_loss2d": 3,
    "nll_loss_nd": 3,
    "smooth_l1_loss": 2,
    "soft_margin_loss": 2,
}


def _averaged(place: int) -> Adapter:
    def adapt(operator: Any, args: tuple, named: dict) -> tuple[tuple, dict]:
        absent = len(args) <= place and "reduction" not in named
        return args, named | {"reduction": 1} if absent else named

    return adapt


def _corrected(operator: Any, args: tuple, named: dict) -> tuple[tuple, dict]:
    """The second argument of ``torch.var`` is an axis; here it tells whether to correct."""
    packet = isinstance(operator, OVERLOADS)
    if packet and len(args) == 2 and type(args[1]) is int:
        args = (args[0], bool(args[1]))
    return args, named


ADAPTERS.update({name: _averaged(place) for name, place in REDUCTION_AT.items()})
ADAPTERS.update(dict.fromkeys(("std", "std_mean", "var", "var_mean"), _corrected))

SIZES = "sym_size sym_stride sym_numel sym_storage_offset sym_is_contiguous"
for name in SIZES.split():
    add_rule(f"ops.aten.{name}", "value", "of c_0", attribute)
