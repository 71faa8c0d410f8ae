"""Taylor polynomials as functions: composed, reversed, and how far they converge.

Evaluation is a method, ``y.at(t)``. The algebra is in ``algebra/series.py``.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from .algebra import series
from .algebra.structures import Bundle, Line, Structure
from .engine.arguments import aligned
from .engine.tensor import TaylorTensor, check_value, full, innermost, run, settle, wrap


def compose(outer: torch.Tensor, inner: torch.Tensor) -> TaylorTensor:
    """The series of ``f(x(t))`` from that of ``f`` about the value of ``x``, and that of ``x``.

    With ``outer = f_0 + f_1 s + f_2 s^2 + ...``, ``s`` being counted from ``inner.value``, and
    ``inner = x_0 + x_1 t + ...``: ``f_0 + f_1 (x - x_0) + f_2 (x - x_0)^2 + ...``, by Horner's
    rule. So ``compose(f(TaylorTensor(x.value, order=K)), x)`` is ``f(x)``: the series of ``f`` is
    made once, for many ``x`` of the same value.

    Args:
        outer: a line.
        inner: any series of the same level whose shape broadcasts with that of ``outer``.

    Returns:
        A series of the structure of ``inner`` and the lower of the two orders.

    Raises:
        TypeError: an argument that is not a TaylorTensor.
        ValueError: ``outer`` is not a line, or of another level than ``inner``.

    Source: Brent & Kung, *Fast algorithms for manipulating formal power series* (1978), section 2.
    Their faster methods save operations above orders of a few hundred.

    >>> import torch, taylortorch as tt
    >>> t = tt.TaylorTensor(torch.tensor(0.0, dtype=torch.float64), order=4)
    >>> [round(float(d), 9) for d in tt.compose(torch.exp(t), torch.sin(t)).derivatives]
    [1.0, 1.0, 1.0, 0.0, -3.0]
    """
    who = "taylortorch.compose"
    outer = _series(outer, f"{who}: outer")
    inner = _series(inner, f"{who}: inner")
    if not isinstance(outer._structure, Line):
        raise ValueError(
            f"{who}: outer must be a series along one line, f(TaylorTensor(x.value, order=K)); "
            f"it has {outer._structure.describe()}"
        )
    if outer._level != inner._level:
        raise ValueError(
            f"{who}: outer is nested {outer._level} deep, inner {inner._level}: both must be "
            "series in the same variable"
        )
    order = min(outer.order, inner.order)
    structure = inner._structure.truncated(order)
    ndim = max(outer.ndim, inner.ndim)
    f, x = list(outer._blocks[: order + 1]), aligned(inner._blocks[: order + 1], ndim, structure)
    shape = torch.broadcast_shapes(outer.shape, inner.shape)
    f[0] = run(torch.broadcast_to, f[0], shape)
    return wrap(run(series.compose, structure, f, x), structure, inner._level)


def invert(y: torch.Tensor, value: torch.Tensor | None = None) -> TaylorTensor:
    """The series of the inverse function: ``t`` as a function of ``y``, entry by entry.

    For ``y = c_0 + c_1 t + c_2 t^2 + ...`` with ``c_1 != 0`` everywhere it is the ``t = b_1 s + b_2
    s^2 + ...`` for which ``y = c_0 + s``. If ``y`` is ``f(TaylorTensor(x, order=K))``, then
    ``invert(y, x)`` is the series of the inverse function of ``f`` about ``c_0``.

    Args:
        y: a line, or several directions, each of which is reversed by itself.
        value: the value of the result, that of ``t`` where ``s = 0``. Default: 0.

    Raises:
        TypeError: ``y`` is not a TaylorTensor.
        ValueError: the first coefficient is 0 in some entry, where ``y`` has no inverse that is a
            power series; an order of 0; a structure other than a line or directions.

    Source: Lagrange's inversion formula; Brent & Kung, *Fast algorithms for manipulating formal
    power series* (1978), section 3.

    >>> import torch, taylortorch as tt
    >>> t = tt.TaylorTensor(torch.tensor(0.0, dtype=torch.float64), order=5)
    >>> [round(float(c), 9) for c in tt.invert(t * torch.exp(t)).coeffs]  # Lambert's W
    [0.0, 1.0, -1.0, 1.5, -2.666666667, 5.208333333]
    """
    who = "taylortorch.invert"
    y, structure = _line_or_directions(who, y)
    if y.order == 0:
        raise ValueError(f"{who}: y has order 0: no coefficient says how it depends on t")
    first = y._blocks[1]
    if first is None or bool((innermost(first) == 0).any()):
        raise ValueError(
            f"{who}: the first coefficient of y is 0 somewhere: y is stationary there, and t is no "
            "power series in y"
        )
    if value is None:
        value = torch.zeros_like(y._blocks[0])
    else:
        check_value(value, f"{who}: value")
        if value.shape != y.shape:
            raise ValueError(f"{who}: value has shape {list(value.shape)}, y {list(y.shape)}")
    blocks = run(series.reverse, structure, y._blocks)
    return wrap([value, *blocks[1:]], structure, y._level)


def _series(x: Any, name: str) -> TaylorTensor:
    if not isinstance(x, TaylorTensor):
        raise TypeError(f"{name} must be a TaylorTensor, got {type(x).__name__}")
    settle(x)
    return x


def _line_or_directions(who: str, y: Any) -> tuple[TaylorTensor, Structure]:
    y = _series(y, f"{who}: y")
    if not isinstance(y._structure, (Line, Bundle)):
        raise ValueError(
            f"{who}: y must be a line or several directions, it has {y._structure.describe()}"
        )
    return y, y._structure


# --- radius of convergence ------------------------------------------------------------------------


def radius_of_convergence(y: torch.Tensor) -> torch.Tensor:
    r"""How far from the point of expansion the nearest singularity is, estimated for each entry.

    Three estimates of ``1/R`` are made from the highest coefficients, each at the order ``K`` and
    at ``K - 1``; the one that changes least between the two is taken:

    * one real singularity, ``(R - t)^-p`` (three coefficients, exact for such a function):
      ``1/R = k c_k/c_{k-1} - (k - 1) c_{k-1}/c_{k-2}``;
    * a pair of them, complex conjugate or real, ``(1 - 2 u t + v t^2)^-p`` with ``1/R`` the larger
      of ``|u +- sqrt(u^2 - v)|`` (six coefficients):
      ``k c_k = 2 (k - 1 + p) u c_{k-1} - (k - 2 + 2 p) v c_{k-2}``, for four ``k``, is a linear
      system for ``u``, ``p u``, ``v`` and ``p v``;
    * anything else: the slope of ``log|c_k|`` over the upper half of the degrees.

    Args:
        y: a line, or several directions, of order 4 at least; the estimate for a pair takes order
            7. Orders of 15 and more give many digits, if one singularity is nearer than the others.

    Returns:
        A tensor of the value's shape, ``(R, *shape)`` for R directions, real, without a graph. It
        is inf for polynomials, seen by the upper half of their coefficients being 0, and large
        for functions without singularities, for which it grows with the order. NaN where a
        coefficient is not finite.

    Raises:
        TypeError: ``y`` is not a TaylorTensor.
        ValueError: a structure other than a line or directions, or an order below 4.

    Sources: Chang & Corliss, *Solving ordinary differential equations using Taylor series* (1982),
    three-term, six-term and top-line analysis.

    >>> import torch, taylortorch as tt
    >>> x = tt.TaylorTensor(torch.tensor([0.0, 0.5], dtype=torch.float64), order=20)
    >>> tt.radius_of_convergence(torch.log(1 + x))
    tensor([1.0000, 1.5000], dtype=torch.float64)
    """
    who = "taylortorch.radius_of_convergence"
    y, _ = _line_or_directions(who, y)
    if y.order < 4:
        raise ValueError(f"{who} needs a series of order 4 at least, this one has {y.order}")
    value = innermost(y)
    with torch.no_grad():
        coefficients = [innermost(full(y, k)) for k in range(1, y.order + 1)]
        wide = torch.complex128 if value.is_complex() else torch.float64
        c = torch.stack([x.detach().to(wide) for x in coefficients], -1)
        inverse = _inverse_radius(c)
    return (1 / inverse).to(value.real.dtype if value.is_complex() else value.dtype)


def _inverse_radius(c: torch.Tensor) -> torch.Tensor:
    """``1/R`` from the coefficients ``c_1 ... c_K`` along the last axis."""
    order = c.shape[-1]
    upper = c[..., order // 2 :]
    rough = _top_line(c)
    # coefficients of one magnitude: the estimates are of 1/R in units of the rough one
    degrees = torch.arange(1, order + 1, dtype=torch.float64, device=c.device)
    unit = torch.where(rough > 0, rough, 1.0)
    c = c * torch.exp(-(degrees - order) * torch.log(unit)[..., None])
    c = c / c.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    best, change = torch.ones_like(rough), torch.full_like(rough, 0.2)
    for estimate, needed in ((_three_terms, 4), (_six_terms, 7)):
        if order >= needed:
            here, before = estimate(c), estimate(c[..., :-1])
            moved = (here - before).abs()
            better = torch.isfinite(moved) & (moved < change)
            best, change = torch.where(better, here.abs(), best), torch.where(better, moved, change)
    inverse = torch.where((upper == 0).all(-1), 0.0, best * unit)
    return torch.where(torch.isfinite(c).all(-1), inverse, math.nan)


def _top_line(c: torch.Tensor) -> torch.Tensor:
    """``exp`` of the slope of ``log|c_k|`` over the coefficients of the upper half that are not 0.

    Where there is only one, ``|c_k|^(1/k)``.
    """
    order = c.shape[-1]
    degrees = torch.arange(1, order + 1, dtype=torch.float64, device=c.device)[order // 2 :]
    size = c[..., order // 2 :].abs()
    there = (size > 0).to(torch.float64)
    logs = torch.log(torch.where(size > 0, size, 1.0))
    count = there.sum(-1)
    mean = (degrees * there).sum(-1) / count
    spread = there * (degrees - mean[..., None])
    slope = (spread * logs).sum(-1) / (spread * spread).sum(-1)
    alone = (logs * there / degrees).sum(-1)
    return torch.exp(torch.where(count > 1, slope, alone))


def _three_terms(c: torch.Tensor) -> torch.Tensor:
    k = c.shape[-1]
    return k * c[..., -1] / c[..., -2] - (k - 1) * c[..., -2] / c[..., -3]


def _six_terms(c: torch.Tensor) -> torch.Tensor:
    order = c.shape[-1]
    rows, right = [], []
    for k in range(order - 3, order + 1):
        one, two = c[..., k - 2], c[..., k - 3]
        rows.append(torch.stack([2 * (k - 1) * one, 2 * one, -(k - 2) * two, -2 * two], -1))
        right.append(k * c[..., k - 1])
    solution, _ = torch.linalg.solve_ex(torch.stack(rows, -2), torch.stack(right, -1))
    u, v = solution[..., 0].to(torch.complex128), solution[..., 2]
    root = torch.sqrt(u * u - v)
    return torch.maximum((u + root).abs(), (u - root).abs())
