"""Closed forms of functions for which reverse mode over reverse mode is wrong or not implemented.

Layer, batch and instance norm are wrong in torch at order 3; the others lack a second derivative.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from taylortorch.engine.registry import name_of


def _layer_norm(x: Any, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    axes = tuple(range(-len(shape), 0))
    y = (x - x.mean(axes, keepdim=True)) / (x.var(axes, correction=0, keepdim=True) + eps).sqrt()
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _batch_norm(
    x: Any, w: Any, b: Any, mean: Any, var: Any, training: bool, momentum: Any, eps: float, _: Any
) -> Any:
    if training:
        mean, var = x.mean((0, 2)), x.var((0, 2), correction=0)
    y = (x - mean[:, None]) / (var[:, None] + eps).sqrt()
    return y * w[:, None] + b[:, None]


def _weight_norm(v: Any, g: Any, dim: int = 0) -> Any:
    # torch's own is wrong already at order 2
    return v * g / v.norm(dim=[axis for axis in range(v.ndim) if axis != dim], keepdim=True)


def _reduced(entries: Any, reduction: Any) -> Any:
    if reduction in (0, "none"):
        return entries
    return entries.mean() if reduction in (1, "mean") else entries.sum()


def _normal(x: Any, axes: Any, eps: float) -> tuple[Any, Any, Any]:
    mean = x.mean(axes, keepdim=True)
    rstd = (x.var(axes, correction=0, keepdim=True) + eps) ** -0.5
    return (x - mean) * rstd, mean, rstd


def _native_layer_norm(x: Any, shape: Any, weight: Any, bias: Any, eps: float) -> Any:
    # torch's autograd takes the statistics for constants
    y, mean, rstd = _normal(x, tuple(range(-len(shape), 0)), eps)
    return (y if weight is None else y * weight + bias), mean, rstd


def _native_group_norm(x: Any, w: Any, b: Any, n: int, c: int, _: Any, g: int, eps: float) -> Any:
    y, mean, rstd = _normal(x.reshape(n, g, -1), (2,), eps)
    return y.reshape(x.shape) * w[:, None] + b[:, None], mean[..., 0], rstd[..., 0]


def _native_batch_norm(x: Any, w: Any, b: Any, *others: Any) -> Any:
    y, mean, rstd = _normal(x, (0, 2), others[-1])
    return y * w[:, None] + b[:, None], mean.flatten(), rstd.flatten()


def _instance_norm(x: Any, *args: Any) -> Any:
    if len(args) == 8:
        w, b, mean, var, by_batch, _, eps, _ = args
    else:
        (mean, var, w, b), by_batch, eps = args, True, 1e-5
    shape = (1, -1) + (1,) * (x.ndim - 2)
    if by_batch:
        y = _normal(x, tuple(range(2, x.ndim)), eps)[0]
    else:
        y = (x - mean.reshape(shape)) / (var.reshape(shape) + eps).sqrt()
    return y * w.reshape(shape) + b.reshape(shape)


def _distances(d: Any, p: float) -> Any:
    return (d.abs() ** p).sum(-1) ** (1 / p)


def _pdist(x: Any, p: float = 2.0) -> Any:
    first, second = torch.triu_indices(len(x), len(x), 1)
    return _distances(x[first] - x[second], p)


def _embedding_bag(*args: Any, **kwargs: Any) -> Any:
    weight, indices, offsets, *rest = (*args, None)
    if not weight.is_floating_point():
        return torch.nn.functional.embedding_bag(*args, **kwargs)
    if len(rest) < 4 or rest[3] is None:
        return torch.embedding_bag(*args)[0]
    ends = [*offsets[1:].tolist(), len(indices)]
    rows = weight[indices] * rest[3][:, None]
    return torch.stack([rows[a:b].sum(0) for a, b in zip(offsets.tolist(), ends, strict=True)])


def _multi_margin(
    x: Any, target: Any, p: int = 1, margin: float = 1.0, weight: Any = None, reduction: Any = 1
) -> Any:
    rows = []
    for scores, y in zip(x.reshape(-1, x.shape[-1]), target.reshape(-1).tolist(), strict=True):
        terms = [(margin - scores[y] + s).clamp(min=0) ** p for j, s in enumerate(scores) if j != y]
        rows.append((1.0 if weight is None else weight[y]) * sum(terms) / len(scores))
    return _reduced(torch.stack(rows) if x.ndim == 2 else rows[0], reduction)


def _multilabel_margin(x: Any, target: Any, reduction: Any = 1) -> Any:
    rows = []
    scores_of, labels_of = (y.reshape(-1, x.shape[-1]) for y in (x, target))
    for scores, labels in zip(scores_of, labels_of.tolist(), strict=True):
        here = labels[: labels.index(-1)] if -1 in labels else labels
        others = [j for j in range(len(scores)) if j not in here]
        terms = [(1 - scores[y] + scores[j]).clamp(min=0) for y in here for j in others]
        rows.append(sum(terms, 0 * scores[0]) / len(scores))
    return _reduced(torch.stack(rows) if x.ndim == 2 else rows[0], reduction)


def _ctc(
    logs: Any, targets: Any, inputs: Any, lengths: Any, blank: int = 0, reduction: Any = 1
) -> Any:
    """The sum over every alignment; torch's backward is not the derivative in log_probs."""
    batched = logs.ndim == 3
    logs = logs if batched else logs.unsqueeze(1)
    losses, start = [], 0
    for n, (steps, length) in enumerate(zip(inputs, lengths, strict=True)):
        label = (targets[n] if targets.ndim == 2 else targets[start:])[:length].tolist()
        start += length
        paths = [
            path
            for path in itertools.product(range(logs.shape[2]), repeat=steps)
            if [c for c, _ in itertools.groupby(path) if c != blank] == label
        ]
        scores = [sum(logs[t, n, c] for t, c in enumerate(path)) for path in paths]
        losses.append(-torch.stack(scores).logsumexp(0))
    loss = torch.stack(losses)
    if reduction in (1, "mean"):
        return (loss / torch.tensor(lengths)).mean()
    return _reduced(loss if batched else loss[0], reduction)


def _symmetric(A: torch.Tensor) -> torch.Tensor:
    return (A + A.mT) / 2


def _triangle(L: torch.Tensor, upper: bool) -> torch.Tensor:
    return L.triu() if upper else L.tril()


def _cond(A: torch.Tensor, p: Any = None) -> torch.Tensor:
    if p in (None, 2, -2, "nuc"):
        return torch.linalg.cond(A, p)
    norm = torch.linalg.matrix_norm
    return norm(A, p) * norm(torch.linalg.inv(A), p)


def _linspace(start: Any, end: Any, n: int, dtype: Any = None) -> Any:
    return start + (end - start) * torch.arange(n) / max(n - 1, 1)


def _as_strided_scatter(x: Any, src: Any, size: Any, stride: Any, start: int = 0) -> Any:
    places = torch.as_strided(torch.arange(x.numel()), size, stride, start)
    return x.flatten().index_put((places.flatten(),), src.flatten()).reshape(x.shape)


EULER = 0.57721566490153286061


def _harmonic(k: int) -> float:
    return sum(1 / j for j in range(1, k + 1))


def _even_series(x: Any, coefficient: Callable[[int], float], terms: int = 40) -> Any:
    """The sum of ``coefficient(k) (x^2 / 4)^k``."""
    z, total = x * x / 4, 0.0
    for k in range(terms - 1, -1, -1):
        total = total * z + coefficient(k)
    return total


def _pair(k: int) -> float:
    return 1 / (math.factorial(k) * math.factorial(k + 1))


def _square(k: int) -> float:
    return 1 / math.factorial(k) ** 2


def _weight(k: int) -> float:
    return (_harmonic(k) + _harmonic(k + 1) - 2 * EULER) * _pair(k)


# DLMF 10.2.2, 10.8.1, 10.8.2, 10.25.2, 10.31.1, 10.31.2


def _j0(x: Any) -> Any:
    return _even_series(x, lambda k: (-1) ** k * _square(k))


def _j1(x: Any) -> Any:
    return x / 2 * _even_series(x, lambda k: (-1) ** k * _pair(k))


def _i0(x: Any) -> Any:
    return _even_series(x, _square)


def _i1(x: Any) -> Any:
    return x / 2 * _even_series(x, _pair)


def _y0(x: Any) -> Any:
    rest = _even_series(x, lambda k: (-1) ** k * _harmonic(k) * _square(k))
    return 2 / math.pi * ((torch.log(x / 2) + EULER) * _j0(x) - rest)


def _y1(x: Any) -> Any:
    rest = _even_series(x, lambda k: (-1) ** k * _weight(k))
    return 2 / math.pi * (torch.log(x / 2) * _j1(x) - 1 / x) - x / (2 * math.pi) * rest


def _k0(x: Any) -> Any:
    rest = _even_series(x, lambda k: _harmonic(k) * _square(k))
    return rest - (torch.log(x / 2) + EULER) * _i0(x)


def _k1(x: Any) -> Any:
    return 1 / x + torch.log(x / 2) * _i1(x) - x / 4 * _even_series(x, _weight)


def _polynomial(convert: Callable, shifted: bool = False) -> Callable:
    """An orthogonal polynomial from its coefficients in powers of x."""

    def one(x: Any, n: int) -> Any:
        total = torch.zeros_like(x)
        for coefficient in convert([0] * n + [1])[::-1]:
            total = total * x + float(coefficient)
        return total

    def body(x: Any, n: Any) -> Any:
        x = 2 * x - 1 if shifted else x
        if isinstance(n, torch.Tensor):
            return torch.stack([one(x[..., i], int(n[i])) for i in range(len(n))], -1)
        return one(x, n)

    return body


def _of_angle(g: Callable, shifted: bool = False) -> Callable:
    return lambda x, n: g(torch.acos(2 * x - 1 if shifted else x), n)


def _chebyshev_u(a: Any, n: Any) -> Any:
    return torch.sin((n + 1) * a) / torch.sin(a)


def _chebyshev_v(a: Any, n: Any) -> Any:
    return torch.cos((n + 0.5) * a) / torch.cos(a / 2)


def _chebyshev_w(a: Any, n: Any) -> Any:
    return torch.sin((n + 0.5) * a) / torch.sin(a / 2)


def _unique(x: Any, return_counts: bool = False, dim: Any = None) -> Any:
    return x.flatten().sort().values if dim is None else x.index_select(dim, x[0].argsort())


def _ldl_factor(A: Any, hermitian: bool = False) -> Any:
    C = torch.linalg.cholesky(_symmetric(A))
    d = torch.diagonal(C, 0, -2, -1)
    return torch.tril(C / d.unsqueeze(-2), -1) + torch.diag_embed(d * d)


def _ldl_solve(LD: Any, pivots: Any, B: Any) -> Any:
    L = torch.tril(LD, -1) + torch.eye(LD.shape[-1], dtype=LD.dtype)
    d = torch.diagonal(LD, 0, -2, -1)
    return torch.linalg.solve(L * d.unsqueeze(-2) @ L.mT, B)


def geqrf(A: Any) -> tuple[Any, Any]:
    """The reflections of LAPACK, one after the other."""
    m, n = A.shape[-2:]
    columns, scales = [], []
    for j in range(min(m, n)):
        x = A[..., j:, j]
        head, tail = x[..., :1], x[..., 1:]
        if j == m - 1:
            scales.append(torch.zeros_like(head))
            columns.append(torch.ones_like(head))
            continue
        beta = -torch.sgn(head.detach()) * torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        v = torch.cat([torch.ones_like(head), tail / (head - beta)], -1)
        scales.append((beta - head) / beta)
        row = v.unsqueeze(-2) @ A[..., j:, :]
        rest = A[..., j:, :] - scales[-1].unsqueeze(-1) * v.unsqueeze(-1) * row
        A = torch.cat([A[..., :j, :], rest], -2)
        columns.append(v)
    below = [torch.nn.functional.pad(v[..., 1:], (m - v.shape[-1] + 1, 0)) for v in columns]
    packed = torch.nn.functional.pad(torch.stack(below, -1), (0, max(n - m, 0)))
    return torch.triu(A) + packed, torch.cat(scales, -1)


def complete_qr(A: Any) -> tuple[Any, Any]:
    """The product of the reflections, and what they make of the matrix."""
    packed, scales = geqrf(A)
    m, n = A.shape[-2:]
    Q = torch.eye(m, dtype=A.dtype).expand(*A.shape[:-2], m, m)
    for j in range(min(m, n)):
        v = torch.nn.functional.pad(packed[..., j + 1 :, j], (j + 1, 0))
        v = v + torch.eye(m, dtype=A.dtype)[j]
        Q = Q - scales[..., j, None, None] * (Q @ v.unsqueeze(-1)) @ v.unsqueeze(-2)
    return Q, torch.triu(packed)


def _of_terms(terms: Any, reduce: str) -> Any:
    """The reduction of a stack of terms, at least one, along its first axis."""
    if reduce == "mean":
        return terms.mean(0)
    pick = {"sum": torch.sum, "prod": torch.prod, "max": torch.amax, "min": torch.amin}
    return pick[reduce.removeprefix("a")](terms, 0)


def _sparse_mm(a: Any, b: Any, reduce: str = "sum") -> Any:
    if reduce == "sum":
        return torch.mm(a, b)
    rows = []
    for row in a.to_dense():
        kept = row.nonzero()[:, 0]
        terms = row[kept, None] * b[kept]
        rows.append(_of_terms(terms, reduce) if len(kept) else terms.sum(0))
    return torch.stack(rows)


def _segments(
    x: Any,
    reduce: str,
    *,
    lengths: Any = None,
    offsets: Any = None,
    axis: int = 0,
    initial: Any = 0,
) -> Any:
    if axis:
        rows = [_segments(row, reduce, lengths=n) for row, n in zip(x, lengths, strict=True)]
        return torch.stack(rows)
    results = []
    for part in x.split((offsets.diff() if lengths is None else lengths).tolist()):
        start = torch.full_like(x[:1], initial or (reduce == "prod"))
        if len(part) == 0:
            results.append(start[0])
        elif reduce == "mean":
            results.append((start[0] + part.sum(0)) / len(part))
        else:
            terms = part if reduce == "min" else torch.cat([start, part])
            results.append(_of_terms(terms, reduce))
    return torch.stack(results)


REFERENCES = {
    # torch has no derivative of these, or no second one
    "ldl_factor": _ldl_factor,
    "ldl_factor_ex": _ldl_factor,
    "ldl_solve": _ldl_solve,
    "geqrf": geqrf,
    "mm": _sparse_mm,
    "segment_reduce": _segments,
    # torch's gradient of eigh is not symmetric, so off symmetric paths it is no derivative
    "eigh": lambda A, *rest: torch.linalg.eigh(_symmetric(A), *rest),
    "eigvalsh": lambda A, *rest: torch.linalg.eigvalsh(_symmetric(A), *rest),
    # torch's gradient reaches the triangle that the function does not read
    "cholesky_solve": lambda B, L, upper=False: torch.cholesky_solve(B, _triangle(L, upper), upper),
    "cholesky_inverse": lambda L, upper=False: torch.cholesky_inverse(_triangle(L, upper), upper),
    # torch's backward fails: an inverse is modified in place
    "cond": _cond,
    "layer_norm": _layer_norm,
    "_weight_norm": _weight_norm,
    "batch_norm": lambda *args: (
        _batch_norm(*args) if len(args) == 9 else torch.nn.functional.batch_norm(*args)
    ),
    "hardsigmoid": lambda x: ((x + 3).clamp(0, 6)) / 6,
    "__rmod__": lambda x, other: other - x * torch.floor(other / x),
    "native_channel_shuffle": torch.channel_shuffle,
    # torch has no derivative with reduce="multiply"
    "scatter": lambda x, dim, index, src, reduce=None: (
        x.scatter(dim, index, src) if reduce is None else x.scatter_reduce(dim, index, src, "prod")
    ),
    # torch's gradient in the input reaches the entries that were written over, and no others
    "as_strided_scatter": _as_strided_scatter,
    "channel_shuffle": lambda x, groups: x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2),
    # torch takes the ends for constants
    "linspace": _linspace,
    "logspace": lambda start, end, n, base=10.0, dtype=None: base ** _linspace(start, end, n),
    "native_layer_norm": _native_layer_norm,
    "native_group_norm": _native_group_norm,
    "native_batch_norm": _native_batch_norm,
    "_batch_norm_with_update": _native_batch_norm,
    "_native_batch_norm_legit": lambda *args: (
        _native_batch_norm(*args) if len(args) == 6 else torch._native_batch_norm_legit(*args)
    ),
    "copy": lambda x, src: src.expand_as(x),
    "instance_norm": _instance_norm,
    "cdist": lambda a, b, p=2.0: _distances(a.unsqueeze(-2) - b.unsqueeze(-3), p),
    "_cdist_forward": lambda a, b, p, _: _distances(a.unsqueeze(-2) - b.unsqueeze(-3), p),
    "pdist": _pdist,
    "_pdist_forward": _pdist,
    "embedding_bag": _embedding_bag,
    "_embedding_bag": _embedding_bag,
    "multi_margin_loss": _multi_margin,
    "multilabel_margin_loss": _multilabel_margin,
    "ctc_loss": _ctc,
    # torch has no derivative of the Bessel family
    "bessel_j0": _j0,
    "bessel_j1": _j1,
    "bessel_y0": _y0,
    "bessel_y1": _y1,
    "modified_bessel_i0": _i0,
    "modified_bessel_i1": _i1,
    "modified_bessel_k0": _k0,
    "modified_bessel_k1": _k1,
    "scaled_modified_bessel_k0": lambda x: x.exp() * _k0(x),
    "scaled_modified_bessel_k1": lambda x: x.exp() * _k1(x),
    "spherical_bessel_j0": lambda x: torch.sin(x) / x,
    "chebyshev_polynomial_t": _polynomial(np.polynomial.chebyshev.cheb2poly),
    "chebyshev_polynomial_u": _of_angle(_chebyshev_u),
    "chebyshev_polynomial_v": _of_angle(_chebyshev_v),
    "chebyshev_polynomial_w": _of_angle(_chebyshev_w),
    "hermite_polynomial_h": _polynomial(np.polynomial.hermite.herm2poly),
    "hermite_polynomial_he": _polynomial(np.polynomial.hermite_e.herme2poly),
    "laguerre_polynomial_l": _polynomial(np.polynomial.laguerre.lag2poly),
    "legendre_polynomial_p": _polynomial(np.polynomial.legendre.leg2poly),
    "shifted_chebyshev_polynomial_t": _polynomial(np.polynomial.chebyshev.cheb2poly, True),
    "shifted_chebyshev_polynomial_u": _of_angle(_chebyshev_u, True),
    "shifted_chebyshev_polynomial_v": _of_angle(_chebyshev_v, True),
    "shifted_chebyshev_polynomial_w": _of_angle(_chebyshev_w, True),
    # torch gives NaN from order 3 on
    "logcumsumexp": lambda x, dim: x.exp().cumsum(dim).log(),
    "unique": _unique,
    "unique_consecutive": lambda x, return_counts=False, dim=None: (
        x.flatten() if dim is None else x
    ),
}


def _one_by_one(single: Callable) -> Callable:
    """torch's backward of lists fails where one tensor is given for all of them."""

    def at(n: int, argument: Any) -> Any:
        packed = isinstance(argument, torch.Tensor) and argument.ndim == 1
        return argument[n] if packed or isinstance(argument, (list, tuple)) else argument

    return lambda inputs, *args, **kwargs: [
        single(x, *(at(n, a) for a in args), **{name: at(n, a) for name, a in kwargs.items()})
        for n, x in enumerate(inputs)
    ]


OF_LISTS = {
    f"torch.foreach.{name}": _one_by_one(getattr(torch, name))
    for name in ("add", "mul", "div", "addcmul", "addcdiv")
}


def reference_for(function: Any, references: dict[str, Callable] = REFERENCES) -> Callable:
    """What has the derivatives that the function should have: mostly the function itself."""
    name = name_of(function)
    if name.startswith("torch.foreach."):
        return OF_LISTS.get(name, function)
    return references.get(name.split(".")[-1], function)
