"""Losses: torch code over the functions that have rules.

``torch.nn.functional`` checks arguments in Python and ends in a function of C++ (``torch._C._nn``
or ``torch``); the Python bodies are torch's own, what they end in is written here. A class index
picks entries; a margin or a threshold is decided by the value, as everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from ..engine.kinds import composite
from ..engine.registry import add_rule, holds_here
from ..engine.samples import Sample, call, t
from .bodies import own_body

# how C++ names the reductions; its functions, called without one, do not reduce
NONE, MEAN, SUM = 0, 1, 2


def _reduced(entries: Any, reduction: int) -> Any:
    if reduction == NONE:
        return entries
    return torch.mean(entries) if reduction == MEAN else torch.sum(entries)


# --- of a difference ------------------------------------------------------------------------------


def _l1_loss(input: Any, target: Any, reduction: int = NONE) -> Any:
    return _reduced(torch.abs(input - target), reduction)


def _mse_loss(input: Any, target: Any, reduction: int = NONE) -> Any:
    return _reduced(torch.square(input - target), reduction)


def _smooth_l1_loss(input: Any, target: Any, reduction: int = NONE, beta: float = 1.0) -> Any:
    """``d**2 / (2 beta)`` where ``|d| < beta``, ``|d| - beta / 2`` elsewhere."""
    d = input - target
    size = torch.abs(d)
    if beta == 0:
        return _reduced(size, reduction)
    entries = torch.where(size < beta, torch.square(d) * (0.5 / beta), size - 0.5 * beta)
    return _reduced(entries, reduction)


def _huber_loss(input: Any, target: Any, reduction: int = NONE, delta: float = 1.0) -> Any:
    """``d**2 / 2`` where ``|d| <= delta``, ``delta (|d| - delta / 2)`` elsewhere."""
    d = input - target
    size = torch.abs(d)
    entries = torch.where(size <= delta, 0.5 * torch.square(d), delta * (size - 0.5 * delta))
    return _reduced(entries, reduction)


# --- margins --------------------------------------------------------------------------------------


def _soft_margin_loss(input: Any, target: Any, reduction: int = NONE) -> Any:
    """``log(1 + exp(-target * input))``, without overflow."""
    return _reduced(-F.logsigmoid(target * input), reduction)


def _hinge_embedding_loss(
    input: Any, target: Any, margin: float = 1.0, reduction: int = NONE
) -> Any:
    hinge = torch.where(target != 1, torch.clamp_min(margin - input, 0), 0.0)
    return _reduced(hinge + torch.where(target != -1, input, 0.0), reduction)


def _cosine_embedding_loss(
    input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: int = NONE
) -> Any:
    tiny = 1e-12
    axis = target.ndim
    squares = [torch.sum(x * x, axis) + tiny for x in (input1, input2)]
    cosine = torch.sum(input1 * input2, axis) / torch.sqrt(squares[0] * squares[1])
    similar = torch.where(target == 1, 1 - cosine, 0.0)
    different = torch.where(target == -1, torch.clamp_min(cosine - margin, 0), 0.0)
    return _reduced(similar + different, reduction)


def _margin_ranking_loss(
    input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: int = NONE
) -> Any:
    return _reduced(torch.clamp_min(-target * (input1 - input2) + margin, 0), reduction)


def _triplet_margin_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: int = NONE,
) -> Any:
    near = F.pairwise_distance(anchor, positive, p, eps)
    far = F.pairwise_distance(anchor, negative, p, eps)
    if swap:
        far = torch.minimum(far, F.pairwise_distance(positive, negative, p, eps))
    return _reduced(torch.clamp_min(margin + near - far, 0), reduction)


def _multi_margin_loss(
    input: Any,
    target: Any,
    p: int = 1,
    margin: float = 1.0,
    weight: Any = None,
    reduction: int = NONE,
) -> Any:
    """``sum over j != y of max(0, margin - x[y] + x[j])**p / C``, times the weight of class y."""
    scores = input if input.ndim == 2 else torch.reshape(input, (1, -1))
    classes = target.reshape(-1, 1)
    hinge = torch.relu(margin - torch.gather(scores, 1, classes) + scores)
    if p == 2:
        hinge = torch.square(hinge)
    if weight is not None:
        hinge = hinge * weight[classes]
    other = torch.ones(scores.shape, dtype=torch.bool, device=input.device)
    hinge = torch.where(other.scatter(1, classes, False), hinge, 0.0)
    entries = torch.sum(hinge, 1) / scores.shape[1]
    return _reduced(entries if target.ndim else entries[0], reduction)


def _multilabel_margin_loss(input: Any, target: Any, reduction: int = NONE) -> Any:
    """``sum of max(0, 1 - x[y] + x[j]) / C`` over the labels y before the first -1, others j."""
    scores = input if input.ndim == 2 else torch.reshape(input, (1, -1))
    labels = target.reshape(scores.shape)
    valid = torch.cumprod((labels >= 0).long(), 1).bool()
    places = labels.clamp(min=0)
    is_label = torch.zeros_like(labels).scatter_add(1, places, valid.long()) > 0
    chosen = torch.gather(scores, 1, places)
    hinge = torch.relu(1 - chosen.unsqueeze(2) + scores.unsqueeze(1))
    hinge = torch.where(valid.unsqueeze(2) & ~is_label.unsqueeze(1), hinge, 0.0)
    entries = torch.sum(hinge, (1, 2)) / scores.shape[1]
    return _reduced(entries if input.ndim == 2 else entries[0], reduction)


# --- likelihoods ----------------------------------------------------------------------------------


def _kl_div(input: Any, target: Any, reduction: int = NONE, *, log_target: bool = False) -> Any:
    """``target * (log(target) - input)``; 0 log 0 is 0."""
    if log_target:
        entries = torch.exp(target) * (target - input)
    else:
        entries = torch.xlogy(target, target) - target * input
    return _reduced(entries, reduction)


def _poisson_nll_loss(
    input: Any, target: Any, log_input: bool, full: bool, eps: float, reduction: int
) -> Any:
    """``exp(x) - target * x`` and, if full, Stirling's formula for ``log(target!)``."""
    if log_input:
        entries = torch.exp(input) - target * input
    else:
        entries = input - target * torch.log(input + eps)
    if full:
        stirling = target * torch.log(target) - target + 0.5 * torch.log(2 * math.pi * target)
        entries = entries + torch.where(target > 1, stirling, 0.0)
    return _reduced(entries, reduction)


def _binary_cross_entropy(
    input: Any, target: Any, weight: Any = None, reduction: int = NONE
) -> Any:
    """``-target log(x) - (1 - target) log(1 - x)``; torch keeps the logarithms above -100."""
    yes = torch.clamp_min(torch.log(input), -100)
    no = torch.clamp_min(torch.log1p(-input), -100)
    entries = (target - 1) * no - target * yes
    return _reduced(entries if weight is None else entries * weight, reduction)


def _binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, pos_weight: Any = None, reduction: int = NONE
) -> Any:
    log_yes = F.logsigmoid(input)
    if pos_weight is not None:
        log_yes = (1 + (pos_weight - 1) * target) * log_yes
    entries = (1 - target) * input - log_yes
    return _reduced(entries if weight is None else entries * weight, reduction)


def _nll_loss(
    input: Any,
    target: torch.Tensor,
    weight: Any = None,
    reduction: int = NONE,
    ignore_index: int = -100,
) -> Any:
    """``-w[y] x[y]`` along the axis of classes; the mean is over the weights of what counts."""
    axis = 0 if input.ndim == 1 else 1
    counts = target != ignore_index
    classes = torch.where(counts, target, 0)
    picked = torch.gather(input, axis, classes.unsqueeze(axis)).squeeze(axis)
    if weight is None:
        shares = counts.to(input.dtype)
    else:
        shares = torch.where(counts, weight[classes], 0.0)
    entries = -torch.where(counts, picked, 0.0) * shares
    if reduction == MEAN:
        return torch.sum(entries) / torch.sum(shares)
    return _reduced(entries, reduction)


def _cross_entropy_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    reduction: int = NONE,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Any:
    """``-sum_c w[c] target[c] log_softmax(x)[c]``; smoothing mixes the target with 1/C."""
    axis = 0 if input.ndim == 1 else 1
    count = input.shape[axis]
    logs = torch.log_softmax(input, axis)
    along = (-1,) + (1,) * (input.ndim - axis - 1)
    weighted = logs if weight is None else logs * weight.reshape(along)
    if target.shape == input.shape:
        if label_smoothing:
            target = target * (1 - label_smoothing) + label_smoothing / count
        entries = -torch.sum(weighted * target, axis)
        if reduction == MEAN:
            return torch.sum(entries) / max(input.numel() // count, 1)
        return _reduced(entries, reduction)
    sharp = _nll_loss(logs, target, weight, reduction, ignore_index)
    if not label_smoothing:
        return sharp
    counts = target != ignore_index
    entries = torch.where(counts, -torch.sum(weighted, axis), 0.0)
    if reduction == MEAN:
        shares = counts if weight is None else torch.where(counts, weight[counts * target], 0.0)
        smooth = torch.sum(entries) / torch.sum(shares)
    else:
        smooth = _reduced(entries, reduction)
    return (1 - label_smoothing) * sharp + (label_smoothing / count) * smooth


def _linear_cross_entropy(*args: Any, options: Any = None, **kwargs: Any) -> Any:
    """The options split the batch into chunks, to save memory; they do not change the result."""
    return _LINEAR_CROSS_ENTROPY(*args, **kwargs)


_SINCE = "2.13"
_LINEAR_CROSS_ENTROPY = own_body(F.linear_cross_entropy) if holds_here(_SINCE) else F.cross_entropy

# --- connectionist temporal classification --------------------------------------------------------


def _log_sum(terms: list[Any]) -> Any:
    """The logarithm of a sum, entry by entry, of logarithms that may be -inf.

    A term of -inf is 0 with all its derivatives, so it is replaced before exp and log see it.
    """
    stacked = torch.stack(terms)
    finite = stacked.detach() > -torch.inf
    any_finite = finite.any(0)
    safe = torch.where(finite, stacked, 0.0)
    peak = torch.where(finite, stacked.detach(), -torch.inf).amax(0)
    peak = torch.where(any_finite, peak, 0.0)
    total = torch.sum(torch.where(finite, torch.exp(safe - peak), 0.0), 0)
    result = torch.log(torch.where(any_finite, total, 1.0)) + peak
    return torch.where(any_finite, result, -torch.inf)


def _ctc_loss(
    log_probs: Any,
    targets: torch.Tensor,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: int = NONE,
    zero_infinity: bool = False,
) -> Any:
    """``-log`` of the sum of the probabilities of all alignments of a target with the input.

    The target with blanks around its labels has ``2 L + 1`` states. The forward variables
    ``alpha_t(s) = p_t(label of s) (alpha_{t-1}(s) + alpha_{t-1}(s - 1) + alpha_{t-1}(s - 2))``, the
    last only from another label, are kept as logarithms; all samples and states move at once.

    The derivative is that in ``log_probs``. What torch's backward returns is the one in the logits
    of a log_softmax before the loss; through that log_softmax both are equal.

    Source: Graves, Fernandez, Gomez & Schmidhuber, *Connectionist temporal classification*, 2006.
    """
    batched = log_probs.ndim == 3
    logs = log_probs if batched else torch.unsqueeze(log_probs, 1)
    steps, batch, _ = logs.shape
    device = logs.device
    inputs = torch.as_tensor(input_lengths, device=device).reshape(-1)
    lengths = torch.as_tensor(target_lengths, device=device).reshape(-1).long()
    longest = int(lengths.max()) if batch else 0
    if targets.ndim == 2:
        labels = targets[:, :longest].to(device).long()
    elif not batched:
        labels = targets.reshape(1, -1).to(device).long()
    else:
        # one after the other
        column = torch.arange(longest, device=device)
        place = (lengths.cumsum(0) - lengths).unsqueeze(1) + column
        padded = targets.to(device).long()
        labels = padded[place.clamp(max=max(len(padded) - 1, 0))] if longest else place
    used = torch.arange(longest, device=device) < lengths.unsqueeze(1)
    labels = torch.where(used, labels, blank)
    states = torch.full((batch, 2 * longest + 1), blank, dtype=torch.long, device=device)
    states[:, 1::2] = labels
    skips = torch.zeros_like(states, dtype=torch.bool)
    skips[:, 2:] = (states[:, 2:] != blank) & (states[:, 2:] != states[:, :-2])
    emitted = torch.gather(logs, 2, states.expand(steps, -1, -1))
    impossible = torch.full((batch, 2), -torch.inf, dtype=logs.dtype, device=device)
    start = torch.arange(2 * longest + 1, device=device) < 2
    alpha = torch.where(start, emitted[0], -torch.inf)
    for step in range(1, steps):
        shifted = torch.cat([impossible, alpha], 1)
        skipped = torch.where(skips, shifted[:, :-2], -torch.inf)
        moved = _log_sum([alpha, shifted[:, 1:-1], skipped]) + emitted[step]
        alpha = torch.where((step < inputs).unsqueeze(1), moved, alpha)
    last = (2 * lengths).unsqueeze(1)
    ends = torch.gather(alpha, 1, torch.cat([last, (last - 1).clamp(min=0)], 1))
    final, before = torch.unbind(ends, 1)
    # an empty target has only its blank to end in
    loss = -_log_sum([final, torch.where(lengths > 0, before, -torch.inf)])
    if zero_infinity:
        loss = torch.where(loss == torch.inf, 0.0, loss)
    if reduction == MEAN:
        return torch.mean(loss / lengths.clamp(min=1))
    loss = loss if batched else loss[0]
    return _reduced(loss, reduction)


# --- the tables -----------------------------------------------------------------------------------

X, Y, WIDE = t(3, 4), t(3, 4), t(3, 4, low=-2, high=2)
SIGNS = torch.tensor([[1.0, -1, 1, -1], [-1, 1, 1, -1], [1, 1, -1, -1]], dtype=torch.float64)
SIDES = SIGNS[:, 1]
CLASSES = torch.tensor([2, 0, 3])
SOME = torch.tensor([2, -100, 3])
PIXELS = torch.tensor([[[0, 1, 2], [2, 2, 0]]])
REPEATED = torch.tensor([[1, 1], [3, 2]])
LABELS = torch.tensor([[3, 0, -1, 1], [1, 2, 0, 3], [-1, 0, 1, 2]])
WEIGHT = torch.tensor([0.3, 1.2, 0.7, 0.5], dtype=torch.float64)
ROWS_OF_WEIGHT = WEIGHT.expand(3, 4)

ENDS: dict[str, tuple[Callable, list[Sample]]] = {
    "l1_loss": (_l1_loss, [call(X, Y, NONE), call(X, Y, SUM)]),
    "mse_loss": (_mse_loss, [call(X, Y), call(X, Y, MEAN)]),
    "smooth_l1_loss": (_smooth_l1_loss, [call(WIDE, WIDE, MEAN, 0.7), call(WIDE, WIDE)]),
    "huber_loss": (_huber_loss, [call(WIDE, WIDE, MEAN, 0.7), call(WIDE, WIDE)]),
    "soft_margin_loss": (_soft_margin_loss, [call(WIDE, SIGNS), call(WIDE, SIGNS, MEAN)]),
    "hinge_embedding_loss": (
        _hinge_embedding_loss,
        [call(WIDE, SIGNS, 1.0, MEAN), call(WIDE, SIGNS)],
    ),
    "cosine_embedding_loss": (
        _cosine_embedding_loss,
        [call(WIDE, WIDE, SIDES, 0.1, NONE), call(t(4), t(4), SIDES[0])],
    ),
    "margin_ranking_loss": (
        _margin_ranking_loss,
        [call(WIDE, WIDE, SIGNS, 0.1, MEAN), call(WIDE, WIDE, SIGNS)],
    ),
    "triplet_margin_loss": (
        _triplet_margin_loss,
        [call(X, X, X, 1.0, 2.0, 1e-6, True, NONE), call(X, X, X, 0.5, 3.0)],
    ),
    "multi_margin_loss": (
        _multi_margin_loss,
        [
            call(WIDE, CLASSES, 1, 0.8, WEIGHT, NONE),
            call(WIDE, CLASSES, 2, 1.0, None, MEAN),
            call(t(4), CLASSES[0], 1, 1.0, None, SUM),
        ],
    ),
    "multilabel_margin_loss": (
        _multilabel_margin_loss,
        [call(WIDE, LABELS, NONE), call(WIDE, LABELS, MEAN), call(t(4), LABELS[0], SUM)],
    ),
    "kl_div": (
        _kl_div,
        [call(WIDE, Y, NONE), call(WIDE, Y), call(WIDE, WIDE, SUM, log_target=True)],
    ),
    "poisson_nll_loss": (
        _poisson_nll_loss,
        [
            call(X, t(3, 4, low=0.5, high=3), True, True, 1e-8, NONE),
            call(X, Y, False, False, 1e-8, MEAN),
        ],
    ),
    "binary_cross_entropy": (
        _binary_cross_entropy,
        [call(X, Y, ROWS_OF_WEIGHT), call(X, Y, None, MEAN)],
    ),
    "binary_cross_entropy_with_logits": (
        _binary_cross_entropy_with_logits,
        [call(WIDE, Y, WEIGHT, WEIGHT + 1, NONE), call(WIDE, Y)],
    ),
    "nll_loss": (_nll_loss, [call(WIDE, CLASSES, WEIGHT, NONE), call(WIDE, CLASSES)]),
    "nll_loss2d": (_nll_loss, [call(t(1, 3, 2, 3), PIXELS, None, NONE, 1)]),
    "nll_loss_nd": (
        _nll_loss,
        [
            call(WIDE, SOME, WEIGHT, MEAN, -100),
            call(t(1, 3, 2, 3), PIXELS, WEIGHT[:3], MEAN, 1),
            call(t(4), CLASSES[0], WEIGHT, NONE, -100),
        ],
    ),
    "cross_entropy_loss": (
        _cross_entropy_loss,
        [
            call(WIDE, CLASSES, None, NONE, -100, 0.0),
            call(WIDE, SOME, WEIGHT, MEAN, -100, 0.2),
            call(WIDE, SOME, None, MEAN, -100, 0.2),
            call(WIDE, SOME, WEIGHT, SUM, -100, 0.2),
            call(WIDE, Y, WEIGHT, MEAN, -100, 0.2),
            call(t(1, 3, 2, 3), PIXELS, WEIGHT[:3], NONE, 1, 0.1),
            call(t(1, 3, 2, 3), t(1, 3, 2, 3), None, SUM, -100, 0.0),
            call(t(4), CLASSES[0]),
        ],
    ),
    "ctc_loss": (
        _ctc_loss,
        [
            call(t(5, 2, 4, low=-2, high=-0.5), REPEATED, (5, 4), (2, 1), 0, MEAN),
            call(t(4, 2, 3, low=-2, high=-0.5), torch.tensor([1, 2, 2]), (4, 4), (1, 2), 0, NONE),
        ],
    ),
}
for name, (body, samples) in ENDS.items():
    add_rule(name, "composite", "torch code", composite(body), samples)

TORCH_BODIES: dict[str, list[Sample]] = {
    "l1_loss": [call(t(2, 3), t(2, 3))],
    "mse_loss": [call(t(2, 3), t(2, 3))],
    "smooth_l1_loss": [call(WIDE, WIDE, beta=0.5), call(WIDE, WIDE, beta=0.0)],
    "huber_loss": [call(WIDE, WIDE, delta=0.5), call(WIDE, WIDE, weight=Y)],
    "soft_margin_loss": [call(WIDE, SIGNS, reduction="sum")],
    "hinge_embedding_loss": [call(WIDE, SIGNS)],
    "cosine_embedding_loss": [call(WIDE, WIDE, SIDES)],
    "margin_ranking_loss": [call(WIDE, WIDE, SIGNS, 0.2)],
    "triplet_margin_loss": [call(X, X, X)],
    "multi_margin_loss": [call(WIDE, CLASSES)],
    "multilabel_margin_loss": [call(WIDE, LABELS)],
    "multilabel_soft_margin_loss": [call(WIDE, Y, Y), call(WIDE, Y, reduction="none")],
    "poisson_nll_loss": [call(X, Y)],
    "kl_div": [call(WIDE, Y, reduction="batchmean")],
    "nll_loss": [call(WIDE, SOME, WEIGHT)],
    "cross_entropy": [call(WIDE, CLASSES), call(WIDE, Y, label_smoothing=0.1)],
    "binary_cross_entropy": [call(X, Y, WEIGHT)],
    "binary_cross_entropy_with_logits": [call(WIDE, Y, pos_weight=WEIGHT)],
    "ctc_loss": [
        call(t(4, 3, low=-2, high=-0.5), torch.tensor([1, 2]), (4,), (2,), reduction="sum")
    ],
}
for name, samples in TORCH_BODIES.items():
    rule = composite(own_body(getattr(F, name)))
    add_rule(f"nn.functional.{name}", "composite", "torch's own body", rule, samples)
add_rule(
    "nn.functional.linear_cross_entropy",
    "composite",
    "torch's own body",
    composite(_linear_cross_entropy),
    [call(t(3, 2), t(4, 2), CLASSES, linear_bias=t(4))],
    since=_SINCE,
)
