"""Torch code that runs on TaylorTensors as it runs on tensors.

Two sources: bodies written here for functions that torch implements in C++, and torch's own Python
bodies (``torch.nn.functional``), rebuilt so that they do not hand the call back to
``__torch_function__`` but go on to the functions they call.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from ..engine.kinds import composite, in_place, with_inplace_argument
from ..engine.private import entries_of
from ..engine.registry import add_rule
from ..engine.samples import Sample, call, t
from ..engine.tensor import TaylorTensor, innermost
from ..engine.writing import laid_out_as
from .bodies import own_body

X = t(2, 3, 4, low=-1, high=1)

# --- written here ---------------------------------------------------------------------------------


def _row_major(x: Any) -> Any:
    """torch's kernel takes and gives rows in order of memory: ``view`` and dropout depend on it."""
    return x.contiguous()


def _softmax(input: Any, dim: int, dtype: torch.dtype | None = None) -> Any:
    x = _row_major(input if dtype is None else input.to(dtype))
    if x.ndim == 0:
        # NaN where the value is infinite
        return torch.ones_like(x) + 0 * x.detach()
    if x.numel() == 0:
        return torch.clone(x)
    e = torch.exp(x - torch.amax(x.detach(), dim, keepdim=True))
    return e / torch.sum(e, dim, keepdim=True)


def _log_softmax(input: Any, dim: int, dtype: torch.dtype | None = None) -> Any:
    x = _row_major(input if dtype is None else input.to(dtype))
    if x.ndim == 0:
        return torch.zeros_like(x) + 0 * x.detach()
    if x.numel() == 0:
        return torch.clone(x)
    shifted = x - torch.amax(x.detach(), dim, keepdim=True)
    return shifted - torch.log(torch.sum(torch.exp(shifted), dim, keepdim=True))


def _in_single(body: Callable) -> Callable:
    """Half precision is computed in single precision and rounded once, as torch's kernels do."""

    def wider(input: Any, *args: Any, **kwargs: Any) -> Any:
        dtype = input.dtype
        if dtype not in (torch.float16, torch.bfloat16):
            return body(input, *args, **kwargs)
        return body(input.to(torch.float32), *args, **kwargs).to(dtype)

    return wider


def _normal(x: Any, axes: tuple[int, ...], eps: float) -> tuple[Any, Any, Any]:
    """``(x - mean) rstd``, mean, ``rstd = (variance + eps)**(-1/2)`` over some axes."""
    mean = torch.mean(x, axes, keepdim=True)
    centred = x - mean
    rstd = torch.rsqrt(torch.mean(centred * centred, axes, keepdim=True) + eps)
    return centred * rstd, mean, rstd


@_in_single
def _layer_norm(
    input: Any,
    normalized_shape: Sequence[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Any:
    input, axes = _row_major(input), tuple(range(-len(normalized_shape), 0))
    return _affine(_normal(input, axes, eps)[0], weight, bias)


def _affine(x: Any, weight: Any, bias: Any) -> Any:
    if weight is not None:
        x = x * weight
    return x if bias is None else x + bias


@_in_single
def _group_norm(
    input: Any,
    num_groups: int,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Any:
    batch, channels = input.shape[:2]
    size = math.prod(input.shape[1:]) // num_groups
    grouped = torch.reshape(input, (batch, num_groups, size))
    normal = torch.reshape(_layer_norm(grouped, grouped.shape[-1:], eps=eps), tuple(input.shape))
    normal = laid_out_as(normal, innermost(input))
    shape = (1, channels) + (1,) * (input.ndim - 2)
    return _affine(
        normal,
        None if weight is None else weight.reshape(shape),
        None if bias is None else bias.reshape(shape),
    )


@_in_single
def _rms_norm(
    input: Any, normalized_shape: Sequence[int], weight: Any = None, eps: float | None = None
) -> Any:
    input, axes = _row_major(input), tuple(range(-len(normalized_shape), 0))
    if eps is None:
        eps = torch.finfo(input.dtype).eps
    return _affine(
        input * torch.rsqrt(torch.mean(input * input, axes, keepdim=True) + eps), weight, None
    )


def _ones(x: Any) -> Any:
    """With the strides of the value: torch draws its random numbers in the order of memory."""
    return torch.ones_like(innermost(x), requires_grad=False)


def _dropout(input: Any, p: float = 0.5, train: bool = True) -> Any:
    """One mask, drawn for the value, for every coefficient."""
    return input * torch.dropout(_ones(input), p, train)


def _native_dropout(input: Any, p: float, train: bool | None) -> Any:
    kept, mask = torch.native_dropout(_ones(input), p, train)
    return input * kept, mask


def _feature_dropout(input: Any, p: float = 0.5, train: bool = True) -> Any:
    return input * torch.feature_dropout(_ones(input), p, train)


def _alpha_dropout(input: Any, p: float = 0.5, train: bool = False) -> Any:
    return _alpha(torch.alpha_dropout, input, p, train)


def _feature_alpha_dropout(input: Any, p: float = 0.5, train: bool = False) -> Any:
    return _alpha(torch.feature_alpha_dropout, input, p, train)


# minus the limit of selu at minus infinity
ALPHA = 1.7580993408473766


def _alpha(dropout: Callable, input: Any, p: float, train: bool) -> Any:
    """``slope * input + shift`` with one random mask.

    torch gives ``a input + alpha a p`` where it keeps, ``alpha a p - alpha a`` where it drops.
    """
    if not train or p == 0:
        return torch.clone(input)
    if p == 1:
        return input * 0.0
    a = ((ALPHA**2 * p + 1) * (1 - p)) ** -0.5
    at_one = dropout(_ones(input), p, train)
    slope = (at_one.real > ALPHA * a * p).to(at_one.dtype) * a
    return slope * input + (at_one - slope)


def _frobenius_norm(input: Any, dim: Any, keepdim: bool = False) -> Any:
    return torch.linalg.vector_norm(input, 2, dim, keepdim)


def _nuclear_norm(input: Any, *rest: Any, dim: Any = (-2, -1), keepdim: bool = False) -> Any:
    """``(input, keepdim)`` or ``(input, dim, keepdim)``."""
    if rest and not isinstance(rest[0], bool):
        dim, rest = rest[0], rest[1:]
    return torch.linalg.matrix_norm(input, "nuc", tuple(dim), *(rest or (keepdim,)))


def _norm_except_dim(v: Any, pow: int = 2, dim: int = 0) -> Any:
    """Over all axes but one; -1 leaves none."""
    axes = [axis for axis in range(v.ndim) if axis != dim]
    return torch.linalg.vector_norm(v, pow, axes, keepdim=dim != -1)


def _weight_norm(v: Any, g: Any, dim: int = 0) -> Any:
    return v * (g / _norm_except_dim(v, 2, dim))


def _cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    x1, x2 = torch.broadcast_tensors(x1, x2)
    dot = torch.sum(x1 * x2, dim)
    squares = torch.sum(x1 * x1, dim), torch.sum(x2 * x2, dim)
    norms = [torch.sqrt(torch.clamp(s, min=eps * eps)) for s in squares]
    return dot / (norms[0] * norms[1])


def _pairwise_distance(
    x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Any:
    return torch.linalg.vector_norm(x1 - x2 + eps, p, -1, keepdim)


@_in_single
def _batch_norm(
    input: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Any:
    """In train mode through the batch statistics, as autograd; running statistics move once."""
    if input.numel() == 0:
        return torch.clone(input)
    if input.ndim < 4:
        input = _row_major(input)
    shape = (1, -1) + (1,) * (input.ndim - 2)
    if training:
        if isinstance(input, TaylorTensor) and input._structure.per_sample:
            warnings.warn(
                "batch normalisation in training mode mixes the samples of a batch: derivatives "
                "per sample then hold those of moving all samples together; use model.eval(), or a "
                "normalisation of each sample by itself",
                stacklevel=2,
            )
        axes = (0, *range(2, input.ndim))
        mean = torch.mean(input, axes, keepdim=True)
        centred = input - mean
        variance = torch.mean(centred * centred, axes, keepdim=True)
        if running_mean is not None:
            count = input.numel() // input.shape[1]
            new_mean = innermost(mean).reshape(-1)
            new_var = innermost(variance).reshape(-1) * (count / max(count - 1, 1))
            with torch.no_grad():
                running_mean.mul_(1 - momentum).add_(new_mean.to(running_mean.dtype) * momentum)
                running_var.mul_(1 - momentum).add_(new_var.to(running_var.dtype) * momentum)
    else:
        centred = input - running_mean.reshape(shape)
        variance = running_var.reshape(shape)
    return _affine(
        centred * torch.rsqrt(variance + eps),
        None if weight is None else weight.reshape(shape),
        None if bias is None else bias.reshape(shape),
    )


def _native_layer_norm(
    input: Any, normalized_shape: Sequence[int], weight: Any, bias: Any, eps: float
) -> Any:
    normal, mean, rstd = _normal(input, tuple(range(-len(normalized_shape), 0)), eps)
    return _affine(normal, weight, bias), mean, rstd


def _native_group_norm(
    input: Any, weight: Any, bias: Any, N: int, C: int, HxW: int, group: int, eps: float
) -> Any:
    normal, mean, rstd = _normal(torch.reshape(input, (N, group, C // group * HxW)), (2,), eps)
    shape = (1, C) + (1,) * (input.ndim - 2)
    w, b = (None if x is None else x.reshape(shape) for x in (weight, bias))
    result = _affine(torch.reshape(normal, tuple(input.shape)), w, b)
    return result, torch.squeeze(mean, 2), torch.squeeze(rstd, 2)


def _native_batch_norm(
    input: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    training: bool,
    momentum: float,
    eps: float,
) -> Any:
    """In train mode with the statistics of the batch; else torch returns none."""
    result = torch.batch_norm(
        input, weight, bias, running_mean, running_var, training, momentum, eps, False
    )
    if not training:
        none = torch.empty(0, dtype=input.dtype, device=input.device)
        return result, none, none.clone()
    _, mean, rstd = _normal(input, (0, *range(2, input.ndim)), eps)
    return result, mean.reshape(-1), rstd.reshape(-1)


def _scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    if enable_gqa:
        heads = query.shape[-3]
        key = torch.repeat_interleave(key, heads // key.shape[-3], -3)
        value = torch.repeat_interleave(value, heads // value.shape[-3], -3)
    attn_mask = entries_of(attn_mask, query.device)
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    scores = torch.matmul(query * factor, torch.transpose(key, -2, -1))
    some: Any = None
    if is_causal:
        if attn_mask is not None:
            raise ValueError("scaled_dot_product_attention takes attn_mask or is_causal, not both")
        earlier = torch.ones(scores.shape[-2:], dtype=torch.bool, device=query.device).tril()
        scores = torch.where(earlier, scores, -torch.inf)
    elif attn_mask is not None and attn_mask.dtype == torch.bool:
        some = attn_mask.any(-1, keepdim=True)
        scores = torch.where(attn_mask | ~some, scores, -torch.inf)
    elif attn_mask is not None:
        if not attn_mask.is_floating_point():
            raise TypeError(
                "scaled_dot_product_attention: attn_mask must be of dtype bool or floating-point, "
                f"got {attn_mask.dtype}"
            )
        scores = scores + attn_mask
        some = (scores.detach() > -torch.inf).any(-1, keepdim=True)
        scores = torch.where(some, scores, 0.0)
    weights = torch.softmax(scores, -1)
    if some is not None:
        # a query that may attend to nothing gets 0, as in torch
        weights = torch.where(some, weights, 0.0)
    return torch.matmul(_dropout(weights, dropout_p, dropout_p > 0), value)


def _convolution(
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
    *settings: bool,
) -> Any:
    """The settings of ``torch._convolution`` choose a kernel, not a function."""
    axes = f"{weight.ndim - 2}d"
    if transposed:
        transpose = getattr(torch, f"conv_transpose{axes}")
        return transpose(input, weight, bias, stride, padding, output_padding, groups, dilation)
    convolve = getattr(torch, f"conv{axes}")
    return convolve(input, weight, bias, stride, padding, dilation, groups)


def _conv_tbc(input: Any, weight: Any, bias: Any, pad: int = 0) -> Any:
    """Time, batch, channel: a conv1d whose axes are named in another order."""
    rows = torch.permute(input, (1, 2, 0)), torch.permute(weight, (2, 1, 0))
    return torch.permute(torch.conv1d(*rows, bias, 1, pad), (2, 0, 1))


def _linspace(start: Any, end: Any, steps: int, **kwargs: Any) -> Any:
    """Of ends that move; torch takes the values of both."""
    plain = torch.linspace(innermost(start), innermost(end), steps, **kwargs)
    if not (plain.is_floating_point() or plain.is_complex()):
        return plain
    share = torch.linspace(0.0, 1.0, steps, dtype=plain.dtype, device=plain.device)
    first, last = (x.to(share.dtype) if hasattr(x, "to") else x for x in (start, end))
    return first + (last - first) * share


def _logspace(start: Any, end: Any, steps: int, base: float = 10.0, **kwargs: Any) -> Any:
    return base ** _linspace(start, end, steps, **kwargs)


def _glu(input: Any, dim: int = -1) -> Any:
    first, second = torch.chunk(input, 2, dim)
    return first * torch.sigmoid(second)


TRAINED = (torch.ones(3, dtype=torch.float64) * 0.7, torch.ones(3, dtype=torch.float64) * 0.2)
CONVOLUTIONS = [
    call(t(2, 2, 6), t(3, 2, 3), t(3), [2], [1], [1], False, [0], 1),
    call(t(1, 2, 4, 4), t(2, 2, 3, 3), None, [2, 1], [0, 1], [1, 1], True, [0, 0], 2),
]
TABLE: dict[str, tuple[Callable, list]] = {
    "softmax special.softmax": (_softmax, [call(X, 1), call(X, -1)]),
    "log_softmax special.log_softmax": (_log_softmax, [call(X, 1)]),
    "layer_norm": (_layer_norm, [call(X, (4,), t(4), t(4)), call(X, (3, 4))]),
    "group_norm": (_group_norm, [call(t(2, 4, 3), 2, t(4), t(4))]),
    "rms_norm": (_rms_norm, [call(X, (4,), t(4), 1e-6)]),
    "batch_norm": (
        _batch_norm,
        [
            call(X, t(3), t(3), None, None, True, 0.1, 1e-5, False),
            call(X, t(3), t(3), *TRAINED, False, 0.1, 1e-5, False),
        ],
    ),
    "native_layer_norm": (
        _native_layer_norm,
        [
            call(t(2, 2, 6, low=-1), (6,), t(6), t(6), 1e-5),
            call(t(2, 2, 6, low=-1), (2, 6), None, None, 1e-5),
        ],
    ),
    "native_group_norm": (
        _native_group_norm,
        [call(t(2, 4, 3), t(4), t(4), 2, 4, 3, 2, 1e-5)],
    ),
    "native_batch_norm": (
        _native_batch_norm,
        [call(t(2, 2, 6, low=-1), t(2), t(2), None, None, True, 0.1, 1e-5)],
    ),
    "linspace": (
        _linspace,
        [call(t(), t(), 4, dtype=torch.float64), call(0.5, t(), 1, dtype=torch.float64)],
    ),
    "logspace": (_logspace, [call(t(), t(), 4, 2.0, dtype=torch.float64)]),
    "glu": (_glu, [call(X, 2)]),
    "dropout": (_dropout, [call(X, 0.5, False)]),
    "native_dropout": (_native_dropout, [call(X, 0.5, False)]),
    "feature_dropout": (_feature_dropout, [call(X, 0.5, False)]),
    "alpha_dropout": (_alpha_dropout, [call(X, 0.5, False)]),
    "feature_alpha_dropout": (_feature_alpha_dropout, [call(X, 0.5, False)]),
    "frobenius_norm": (_frobenius_norm, [call(X, [1], True), call(X, [0, 2])]),
    "nuclear_norm": (
        _nuclear_norm,
        [call(t(3, 2)), call(t(3, 2), True), call(t(3, 2, 4), [0, 2], True)],
    ),
    "convolution": (_convolution, CONVOLUTIONS),
    "_convolution": (_convolution, [Sample((*c.args, *(True,) * 4)) for c in CONVOLUTIONS]),
    "conv_tbc": (_conv_tbc, [call(t(5, 2, 3), t(3, 3, 4), t(4), 1)]),
    "torch.norm_except_dim": (_norm_except_dim, [call(X, 2, 1), call(X, 2, -1), call(t(3), 2, 0)]),
    "torch._weight_norm": (_weight_norm, [call(X, t(1, 1, 4), 2), call(t(2, 3), t(2, 1))]),
    "cosine_similarity": (_cosine_similarity, [call(t(2, 3), t(2, 3))]),
    "pairwise_distance": (_pairwise_distance, [call(t(2, 3), t(2, 3))]),
    "scaled_dot_product_attention": (
        _scaled_dot_product_attention,
        [
            call(t(2, 3, 4), t(2, 5, 4), t(2, 5, 4)),
            call(t(2, 3, 4), t(2, 3, 4), t(2, 3, 4), is_causal=True),
        ],
    ),
}

# --- torch's own bodies ---------------------------------------------------------------------------

TARGET = torch.full((2, 3), 0.3, dtype=torch.float64)
TORCH_BODIES: dict[str, list] = {
    "softmax": [call(X, 1)],
    "log_softmax": [call(X, 1)],
    "softmin": [call(X, 1)],
    "gumbel_softmax": [],
    "glu": [call(X, 2)],
    "normalize": [call(X, 2.0, 1)],
    "layer_norm": [call(X, (4,), t(4), t(4))],
    "group_norm": [call(t(2, 4, 3), 2, t(4), t(4))],
    "rms_norm": [call(X, (4,), t(4), 1e-6)],
    "batch_norm": [call(X, *TRAINED, t(3), t(3))],
    "instance_norm": [call(t(2, 3, 4), None, None, t(3), t(3))],
    "local_response_norm": [call(t(2, 3, 4), 3, 0.5), call(t(2, 3, 2, 2), 2, 0.5)],
    "dropout": [call(X, 0.5, False)],
    "dropout1d": [call(X, 0.5, False)],
    "dropout2d": [],
    "dropout3d": [],
    "alpha_dropout": [call(X, 0.5, False)],
    "feature_alpha_dropout": [call(X, 0.5, False)],
    "gaussian_nll_loss": [call(t(2, 3), TARGET, t(2, 3))],
    "multi_head_attention_forward": [],
    "triplet_margin_with_distance_loss": [],
}


for names, (body, samples) in TABLE.items():
    rule = composite(body)
    add_rule(names, "composite", "torch code", rule, samples, in_place=in_place(rule))
for name, samples in TORCH_BODIES.items():
    rule = with_inplace_argument(composite(own_body(getattr(F, name))))
    add_rule(f"nn.functional.{name}", "composite", "torch's own body", rule, samples)
