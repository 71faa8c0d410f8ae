"""Torch code that runs on TaylorTensors as it runs on tensors.

Two sources: bodies written here for functions that torch implements in C++, and torch's own Python
bodies (``torch.nn.functional``), rebuilt so that they do not hand the call back to
``__torch_function__`` but go on to the functions they call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from ..bodies import own_body
from ..kinds import composite, in_place, with_inplace_argument
from ..registry import add_rule, call, t
from ..tensor import innermost

X = t(2, 3, 4, low=-1, high=1)

# --- written here ---------------------------------------------------------------------------------


def _softmax(input: Any, dim: int, dtype: torch.dtype | None = None) -> Any:
    x = input if dtype is None else input.to(dtype)
    if x.ndim == 0:
        return torch.ones_like(x)
    if x.numel() == 0:
        return torch.clone(x)
    e = torch.exp(x - torch.amax(x.detach(), dim, keepdim=True))
    return e / torch.sum(e, dim, keepdim=True)


def _log_softmax(input: Any, dim: int, dtype: torch.dtype | None = None) -> Any:
    x = input if dtype is None else input.to(dtype)
    if x.ndim == 0:
        return torch.zeros_like(x)
    if x.numel() == 0:
        return torch.clone(x)
    shifted = x - torch.amax(x.detach(), dim, keepdim=True)
    return shifted - torch.log(torch.sum(torch.exp(shifted), dim, keepdim=True))


def _layer_norm(
    input: Any,
    normalized_shape: Sequence[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Any:
    axes = tuple(range(-len(normalized_shape), 0))
    centred = input - torch.mean(input, axes, keepdim=True)
    variance = torch.mean(centred * centred, axes, keepdim=True)
    return _affine(centred * torch.rsqrt(variance + eps), weight, bias)


def _affine(x: Any, weight: Any, bias: Any) -> Any:
    if weight is not None:
        x = x * weight
    return x if bias is None else x + bias


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
    shape = (1, channels) + (1,) * (input.ndim - 2)
    return _affine(
        normal,
        None if weight is None else weight.reshape(shape),
        None if bias is None else bias.reshape(shape),
    )


def _rms_norm(
    input: Any, normalized_shape: Sequence[int], weight: Any = None, eps: float | None = None
) -> Any:
    axes = tuple(range(-len(normalized_shape), 0))
    if eps is None:
        eps = torch.finfo(input.dtype).eps
    return _affine(
        input * torch.rsqrt(torch.mean(input * input, axes, keepdim=True) + eps), weight, None
    )


def _dropout(input: Any, p: float = 0.5, train: bool = True) -> Any:
    """One mask, drawn for the value, for every coefficient."""
    return input * torch.dropout(
        torch.ones(input.shape, dtype=input.dtype, device=input.device), p, train
    )


def _feature_dropout(input: Any, p: float = 0.5, train: bool = True) -> Any:
    ones = torch.ones(input.shape, dtype=input.dtype, device=input.device)
    return input * torch.feature_dropout(ones, p, train)


def _alpha_dropout(input: Any, p: float = 0.5, train: bool = False) -> Any:
    return _alpha(torch.alpha_dropout, input, p, train)


def _feature_alpha_dropout(input: Any, p: float = 0.5, train: bool = False) -> Any:
    return _alpha(torch.feature_alpha_dropout, input, p, train)


def _alpha(dropout: Callable, input: Any, p: float, train: bool) -> Any:
    """An affine map of the input with one random mask: its images of 0 and 1, under one seed."""
    if not train or p == 0:
        return torch.clone(input)
    ones = torch.ones(input.shape, dtype=input.dtype, device=input.device)
    with torch.random.fork_rng(devices=[input.device] if input.is_cuda else []):
        at_zero = dropout(torch.zeros_like(ones), p, train)
    at_one = dropout(ones, p, train)
    return at_zero + (at_one - at_zero) * input


def _cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    dot = torch.sum(x1 * x2, dim)
    squares = torch.sum(x1 * x1, dim), torch.sum(x2 * x2, dim)
    norms = [torch.sqrt(torch.clamp(s, min=eps * eps)) for s in squares]
    return dot / (norms[0] * norms[1])


def _pairwise_distance(
    x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Any:
    return torch.linalg.vector_norm(x1 - x2 + eps, p, -1, keepdim)


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
    shape = (1, -1) + (1,) * (input.ndim - 2)
    if training:
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
        groups = query.shape[-3] // key.shape[-3]
        key = torch.repeat_interleave(key, groups, -3)
        value = torch.repeat_interleave(value, groups, -3)
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    scores = torch.matmul(query * factor, torch.transpose(key, -2, -1))
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=query.device).tril()
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            scores = torch.where(attn_mask, scores, -torch.inf)
        else:
            scores = scores + attn_mask
    weights = torch.softmax(scores, -1)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        weights = torch.where(attn_mask.any(-1, keepdim=True), weights, 0.0)
    return torch.matmul(_dropout(weights, dropout_p, dropout_p > 0), value)


def _glu(input: Any, dim: int = -1) -> Any:
    first, second = torch.chunk(input, 2, dim)
    return first * torch.sigmoid(second)


TRAINED = (torch.ones(3, dtype=torch.float64) * 0.7, torch.ones(3, dtype=torch.float64) * 0.2)
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
    "glu": (_glu, [call(X, 2)]),
    "dropout": (_dropout, [call(X, 0.5, False)]),
    "feature_dropout": (_feature_dropout, [call(X, 0.5, False)]),
    "alpha_dropout": (_alpha_dropout, [call(X, 0.5, False)]),
    "feature_alpha_dropout": (_feature_alpha_dropout, [call(X, 0.5, False)]),
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
    "softsign": [call(X)],
    "tanhshrink": [call(X)],
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
