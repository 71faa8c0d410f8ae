"""What the numbers of a wrong rule point to: the likely cause, as an author would name it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from ..engine.tensor import TaylorTensor
from .case import Case
from .oracles import coefficients, largest_of
from .samples import invoke


def cause(case: Case, chosen: tuple[int, ...], results: list[Any], n: int, k: int) -> str:
    """A likely cause of a wrong ``c_k`` of result ``n``; empty where the numbers show none."""
    entries, _ = case.expected[chosen]
    got, want = coefficients(results[n], case.order)[k].detach(), entries[k][n]
    if not isinstance(results[n], TaylorTensor):
        return "a plain tensor came out: the series is lost, by .value, .detach() or numpy"
    ratio = _ratio(got, want)
    if len(chosen) > 1 and all((i,) in case.right for i in chosen):
        return (
            "each argument alone is right, so the mixed terms are wrong: the products of the "
            "coefficients of several arguments"
        )
    if ratio == 0 and k == 1:
        who = " and ".join(case.labels[i] for i in chosen)
        return f"the result does not depend on {who}"
    if k > 1 and _linear(case, chosen, got, n, k):
        return (
            "the derivative does not vary along the path: its own series is lost, by .value, "
            ".detach() or a constant"
        )
    if ratio is not None and ratio < 0 and abs(ratio + 1) < 1e-4:
        return "the sign"
    if ratio is not None and k > 1 and abs(ratio / math.factorial(k) - 1) < 1e-4:
        return f"derivatives where coefficients are meant: c_{k} is the derivative / {k}!"
    if ratio is not None and k > 1 and abs(ratio * math.factorial(k) - 1) < 1e-4:
        return f"one division by {k}! too many"
    if ratio is not None:
        return f"{'the derivative' if k == 1 else f'c_{k}'} is off by the factor {ratio:.4g}"
    other = _swapped(case, chosen, got, n) if k == 1 and len(chosen) == 1 else ""
    if other:
        return other
    if k == 1 and _affine(case, chosen, got - want, n):
        return "the function is affine, not linear: its value at zero is added"
    if k > 1:
        return (
            f"c_1 to c_{k - 1} are right: what is wrong is how the derivative itself is "
            "expanded, or a product of lower coefficients is missing"
        )
    return ""


def cause_of_gradient(got: torch.Tensor, want: torch.Tensor) -> str:
    """A likely cause of a wrong gradient."""
    ratio = _ratio(got, want)
    if ratio == 0:
        return (
            "the gradient is cut off, by .detach(), .value, .item(), torch.no_grad() or numpy in "
            "the rule"
        )
    if ratio is not None:
        return f"the gradient is off by the factor {ratio:.4g}"
    return "part of the gradient is cut off, or the rule is right at this point only"


def _swapped(case: Case, chosen: tuple[int, ...], got: torch.Tensor, n: int) -> str:
    """Whether it is the derivative in another argument."""
    (i,) = chosen
    for j, path in enumerate(case.highest):
        if j != i and path[0].shape == case.highest[i][0].shape:
            moved = [p[:1] for p in case.highest]
            moved[j] = [path[0], *case.highest[i][1 : case.order + 1]]
            want = case.oracle.entries(moved, case.base)[0][1][n]
            if largest_of(got - want) <= 1e-4 * largest_of(want):
                return f"it is the derivative in {case.labels[j]}: the derivatives are swapped"
    return ""


def _linear(case: Case, chosen: Sequence[int], got: torch.Tensor, n: int, k: int) -> bool:
    """Whether ``c_k`` is the first derivative times the coefficients of degree ``k`` alone."""
    curve = [[p[0], p[k]] if i in chosen else p[:1] for i, p in enumerate(case.highest)]
    want = case.oracle.entries(curve, case.base)[0][1][n]
    return largest_of(got - want) <= 1e-6 * largest_of(want)


def _affine(case: Case, chosen: Sequence[int], off: torch.Tensor, n: int) -> bool:
    """Whether the error is the value where these arguments are zero."""
    zeros = [torch.zeros_like(v) if i in chosen else v for i, v in enumerate(case.values)]
    with torch.no_grad():
        at_zero = invoke(case.of.plain, case.sample, zeros)[n]
    return largest_of(off - at_zero) <= 1e-6 * largest_of(at_zero)


def _ratio(got: torch.Tensor, want: torch.Tensor) -> float | None:
    """The one factor between two tensors, if there is one."""
    got, want = got.detach(), want.detach().expand_as(got)
    scale = largest_of(want)
    if not scale:
        return None
    if largest_of(got) <= 1e-6 * scale:
        return 0.0
    factor = ((got * want.conj()).sum() / (want * want.conj()).sum()).item()
    if isinstance(factor, complex):
        if abs(factor.imag) > 1e-6 * abs(factor):
            return None
        factor = factor.real
    return factor if largest_of(got - factor * want) <= 1e-4 * scale * abs(factor) else None
