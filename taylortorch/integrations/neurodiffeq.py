"""neurodiffeq: ``diff`` and the operators made of it, from one Taylor pass.

One line in a program that is otherwise as it was, anywhere before training::

    import taylortorch.integrations.neurodiffeq

    taylortorch.integrations.neurodiffeq.enable()

or for a part of it, ``with taylortorch.integrations.neurodiffeq.enable(): ...``; ``disable()`` goes
back.

From then on a condition that is enforced on a network, ``u = condition.enforce(net, t, x)``, runs
network and reparametrisation on Taylor series which carry the derivatives that were asked of this
condition before: ``diff(u, t, order=2)``, ``diff(diff(u, x), t)``, ``laplacian(u, x, y)`` read them
off. The first call is left to neurodiffeq's own reverse mode. So are derivatives of expressions
such as ``diff(r**2 * diff(u, r), r)``. An equation of order 2 with such derivatives, or of order 1,
is left to neurodiffeq as a whole, because reverse mode is cheaper. The losses are those of
neurodiffeq to rounding; ``counts()`` tells what was served.

Not served, but left as they are: conditions that differentiate the network themselves (``IBVP1D``
and ``DoubleEndedBVP1D`` where a slope is prescribed) and conditions outside of
``neurodiffeq.conditions`` with an ``enforce`` of their own; series of spherical harmonics, which
are multiplied on outside of the condition; ``neurodiffeq.operators.grad`` if it was imported by
name before ``enable()``.

Tested with neurodiffeq 0.7.
"""

from __future__ import annotations

import functools
from typing import Any

import torch

from ..engine.tensor import TaylorTensor
from .passes import (
    Column,
    Counts,
    Differentiated,
    Evaluation,
    Host,
    Replaced,
    expression_of,
    known,
    raised,
)

_host = Host("neurodiffeq", "neurodiffeq", tested="0.7.0")


def enable() -> Host:
    """Turn it on: ``diff`` and the operators are served from one Taylor pass.

    Returns:
        A context manager that turns it off again at the end of a ``with`` block.

    Raises:
        ImportError: neurodiffeq is not installed.
    """
    return _host.enable(_replaced)


def counts() -> Counts:
    """How many requests were served from a series, and how many were left to neurodiffeq, since
    ``enable()``; requests for derivatives of expressions, which are always left, are not counted.
    """
    return _host.counts


def disable() -> None:
    """Turn it off: neurodiffeq is as it was. Without effect if it is not on."""
    _host.disable()


def _replaced() -> list[Replaced]:
    from neurodiffeq import conditions, neurodiffeq, operators

    enforcing = [c for c in vars(conditions).values() if "enforce" in getattr(c, "__dict__", ())]
    return [
        *((condition, "enforce", _enforced) for condition in enforcing),
        (neurodiffeq, "unsafe_diff", _differentiated),
        (operators, "grad", _gradient),
    ]


def _enforced(enforce: Any) -> Any:
    @functools.wraps(enforce)
    def enforced(self: Any, net: Any, *coordinates: Any) -> Any:
        if not all(_is_column(x) for x in coordinates) or not torch.is_grad_enabled():
            return enforce(self, net, *coordinates)
        key = (id(net), getattr(net, "training", None))
        function = functools.partial(enforce, self, net)
        return _host.passes.evaluate(self, key, function, coordinates)

    return enforced


def _differentiated(unsafe_diff: Any) -> Any:
    def differentiated(u: Any, t: Any, order: int = 1) -> Any:
        evaluation, wanted = _wanted(u, (t,), order)
        if evaluation is None:
            return unsafe_diff(u, t, order=order)
        found = evaluation.derivatives(wanted)
        result = unsafe_diff(u, t, order=order) if found is None else _differentiable(found[0])
        return evaluation.mark(result, wanted)

    return differentiated


def _gradient(grad: Any) -> Any:
    def gradient(u: Any, *xs: Any) -> Any:
        evaluation, wanted = _wanted(u, xs, 1)
        if evaluation is None:
            return grad(u, *xs)
        found = evaluation.derivatives(wanted)
        results = grad(u, *xs) if found is None else [_differentiable(g) for g in found]
        return [evaluation.mark(g, [w]) for g, w in zip(results, wanted, strict=True)]

    return gradient


def _is_column(x: Any) -> bool:
    return (
        isinstance(x, torch.Tensor)
        and not isinstance(x, TaylorTensor)
        and x.ndim == 2
        and x.shape[1] == 1
        and x.requires_grad
    )


def _wanted(u: Any, xs: Any, order: Any) -> tuple[Evaluation | None, list[Column]]:
    """The pass that ``u`` comes from, and its derivatives along each of ``xs``."""
    if isinstance(u, TaylorTensor):
        raise Differentiated
    mark = known(u)
    if mark is None or len(mark.columns) != 1 or not isinstance(order, int) or order < 1:
        expression_of(*xs)
        return None, []
    numbers = [n for x in xs for n, y in enumerate(mark.evaluation.inputs) if y is x]
    if len(numbers) != len(xs):
        return None, []
    return mark.evaluation, [raised(mark.columns[0], *[n] * order) for n in numbers]


def _differentiable(result: torch.Tensor) -> torch.Tensor:
    """As neurodiffeq returns it: a derivative that is known to be zero can be differentiated."""
    return result if result.requires_grad else result.clone().requires_grad_()
