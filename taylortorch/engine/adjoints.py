r"""The reverse pass through elementwise functions, in closed form at every order.

Let ``y = f(x)`` act entry by entry and let ``g = f'(x)`` be the series of its slope. A change of
the coefficient ``x_j`` changes the path ``x(t)`` by ``t^j``, hence ``y(t)`` by ``g(t) t^j``:

    dy_k / dx_j = g_{k-j}        and so        xbar_j = sum_{k >= j} ybar_k g_{k-j}

where ``xbar`` and ``ybar`` are the cotangents of a loss. The sum is a correlation; ``g`` follows
from what the forward pass has anyway: for ``y' = (a + b y + c y**2) x'`` from ``y`` alone. So a
layer keeps its result, which the next layer keeps as well, and none of the intermediate products
that autograd would record one by one.

autograd records them nevertheless where this reverse pass does not apply: inside ``torch.compile``
(whose partitioner decides what to recompute), ``torch.func`` transforms and forward mode, for
nested, complex and compact series, and for streams.

Source: Griewank & Walther, *Evaluating Derivatives*, 2nd ed. (2008), section 13.3; Christianson,
*Reverse accumulation and accurate rounding error estimates for Taylor series coefficients* (1992).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..algebra.structures import Bundle, Collapsed, Line, Multivariate, Structure
from .private import in_forward_mode, innermost_transform

Blocks = Sequence[Any]


# entries of a block; below, the call of a Function costs more than autograd's own records
SMALL = 65_536


_WHOLE = (Line, Bundle, Collapsed, Multivariate)


Forward = Callable[[Blocks], Blocks]
Slope = Callable[[Blocks, Blocks, int], Blocks]


def record(forward: Forward, slope: Slope, needs: int, s: Structure, x: Blocks) -> Blocks:
    """The blocks of an elementwise function of a series, recorded for the reverse pass.

    Args:
        forward: ``forward(x)`` gives the blocks of ``y``.
        slope: ``slope(x, y, order)`` gives those of ``g`` up to ``order``.
        needs: how many of the first blocks of ``x`` it reads; the others are ``None`` there.
        s: the structure of the series.
        x: its blocks.

    Neither function may hold on to a tensor that requires grad.
    """
    there = [k for k, block in enumerate(x) if block is not None]
    return _record(forward, slope, needs, s, len(x), there, *[x[k] for k in there])


def applies(s: Structure, x: Blocks) -> bool:
    """Whether the reverse pass of a function of this series is to be recorded here."""
    if not torch.is_grad_enabled() or type(s) not in _WHOLE or type(x) not in (tuple, list):
        return False
    # before sizes are compared: a trace would hold for batches on one side of the threshold only
    if type(x[0]) not in _PLAIN or torch.compiler.is_compiling():
        return False
    first = x[0] if len(x) < 2 or x[1] is None else x[1]
    if max(first.numel(), x[0].numel()) < SMALL:
        return False
    grad = False
    for block in x:
        if block is not None:
            if type(block) not in _PLAIN:
                return False
            grad = grad or block.requires_grad
    return (
        grad
        and len(x) > 1
        and not x[0].is_complex()
        and innermost_transform() is None
        and not in_forward_mode()
        and not getattr(getattr(s, "weights", None), "requires_grad", False)
    )


_PLAIN = (torch.Tensor, torch.nn.Parameter)


class _Recorded(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        forward: Forward,
        slope: Slope,
        needs: int,
        s: Structure,
        length: int,
        there: list[int],
        *given: Any,
    ) -> Any:
        x: list[Any] = [None] * length
        for k, block in zip(there, given, strict=True):
            x[k] = block
        y = list(forward(x))
        ctx.set_materialize_grads(False)
        ctx.known = slope, s, length, there
        ctx.kept = [k for k in there if k < needs]
        ctx.shapes = [block.shape for block in given]
        ctx.zero = [k for k, block in enumerate(y) if block is None]
        ctx.save_for_backward(
            *(x[k] for k in ctx.kept), *(block for block in y if block is not None)
        )
        return tuple(y)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        slope_of, s, length, there = ctx.known
        saved = list(ctx.saved_tensors)
        x: list[Any] = [None] * length
        for k in ctx.kept:
            x[k] = saved.pop(0)
        y = [None if k in ctx.zero else saved.pop(0) for k in range(length)]
        asked = [j for n, j in enumerate(there) if ctx.needs_input_grad[6 + n]]
        arrived = [k for k in range(length) if cotangents[k] is not None]
        if not asked or not arrived:
            return (None,) * (6 + len(there))
        slope = slope_of(x, y, max(0, arrived[-1] - asked[0]))
        result: list[Any] = [None] * 6
        for j, shape in zip(there, ctx.shapes, strict=True):
            total = None
            if j in asked:
                for k in arrived:
                    if k >= j and slope[k - j] is not None:
                        total = _add(s, total, j, k, cotangents[k], slope[k - j])
            result.append(total if total is None else total.sum_to_size(shape))
        return tuple(result)


def _add(s: Structure, total: Any, j: int, k: int, cotangent: Any, slope: Any) -> Any:
    """``total`` plus what ``ybar_k`` and ``g_{k-j}`` add to ``xbar_j``."""
    owned = None if torch.is_grad_enabled() else total
    if 0 < j < k:
        term = s.pull((j, k - j), cotangent, slope, owned)
    elif j == 0 and s.leads(k):
        return _plus(total, (cotangent * slope).sum(0))
    else:
        term = cotangent * slope if owned is None else owned.addcmul_(cotangent, slope)
    return term if owned is not None else _plus(total, term)


def _plus(total: Any, term: Any) -> Any:
    if total is None or term is None:
        return term if total is None else total
    return total + term


# ``Function.apply`` without the search for transforms and their dead wrappers, which ``applies``
# has ruled out
_record = super(torch.autograd.Function, _Recorded).apply
