"""Rules for users' own functions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch

from . import kinds
from .members import give_members
from .registry import NAMES, REFUSED, ROWS, RULES, Evaluator, Rule, Sample, claim
from .tensor import flatten


def register_rule(
    function: Any,
    *,
    derivative: Callable | tuple[Callable, ...] | None = None,
    ode: tuple[float, float, float] | None = None,
    form: str | None = None,
    composite: Callable | None = None,
    evaluate: Evaluator | None = None,
    samples: Iterable[Sample] = (),
) -> Any:
    r"""Tell taylortorch how ``function`` acts on a series, in exactly one of five ways.

    Args:
        function: a function torch dispatches (``torch.f``, an operator ``torch.ops.lib.f``), a
            ``torch.autograd.Function`` class, or any other callable.
        derivative: for elementwise functions, ``g`` with ``y' = g(x) x'``, in torch code that
            supports series; one per argument for several arguments.
        ode: for elementwise functions, ``(a, b, c)`` with ``y' = (a + b y + c y^2) x'``.
        form: for functions linear in each tensor argument: ``"input, weight : input*weight"``.
        composite: torch code that computes the same and takes the same arguments.
        evaluate: ``evaluate(func, args, kwargs)``, from scratch.
        samples: sample calls, see ``taylortorch.registry.call``.

    Returns:
        What to call from then on: ``function`` itself, or, for a callable that torch does not
        dispatch, a wrapper of it that knows the rule.

    Raises:
        TypeError: not exactly one of the five.
        ValueError: the function has a rule already.

    >>> import torch, taylortorch as tt
    >>> def cube(x):  # opaque to torch
    ...     return torch.tensor([entry**3 for entry in x.tolist()])
    >>> cube = tt.register_rule(cube, derivative=lambda x: 3 * x**2)
    >>> cube(tt.TaylorTensor(torch.tensor([2.0]))).derivatives
    (tensor([8.]), tensor([12.]), tensor([12.]))
    """
    ways = {
        "slope": derivative,
        "ode": ode,
        "multilinear": form,
        "composite": composite,
        "by hand": evaluate,
    }
    chosen = [kind for kind, way in ways.items() if way is not None]
    if len(chosen) != 1:
        raise TypeError(
            "taylortorch.register_rule takes exactly one of derivative=, ode=, form=, composite=, "
            f"evaluate=; got {len(chosen)}"
        )
    kind = chosen[0]
    if derivative is not None:
        parts = derivative if isinstance(derivative, tuple) else (derivative,)
        rule = kinds.slope(*parts, names=tuple(f"argument {n + 1}" for n in range(len(parts))))
        says = "y' = g(x) x'"
    elif ode is not None:
        rule, says = kinds.ode(*ode), "y' = ({} + {} y + {} y^2) x'".format(*ode)
    elif form is not None:
        rule, says = kinds.multilinear(form), form.split(":")[1].strip()
    elif composite is not None:
        rule, says = kinds.composite(composite), "torch code"
    else:
        assert evaluate is not None
        rule, says = evaluate, "by hand"

    keys = _keys(function)
    for key in keys:
        claim(key, rule)
        REFUSED.pop(key, None)
        NAMES.setdefault(key, _name(function))
    give_members(RULES)
    served = _served(function, rule)
    ROWS.append(Rule(_name(function), kind, says, (served,), (), tuple(samples)))
    return served


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", None) or getattr(function, "__name__", function))


def _keys(function: Any) -> tuple[Any, ...]:
    """The objects that calls of ``function`` arrive as."""
    operator = getattr(function, "_opoverload", None)
    if operator is not None:
        # a torch.library.custom_op
        return operator, operator.overloadpacket
    if isinstance(function, torch._ops.OpOverloadPacket):
        return function, *(getattr(function, name) for name in function.overloads())
    return (function,)


def _served(function: Any, rule: Evaluator) -> Any:
    """What the user calls: the function, or something that dispatches where torch does not."""
    if isinstance(function, type) and issubclass(function, torch.autograd.Function):
        function.apply = staticmethod(_dispatching(function.apply, rule))  # type: ignore
        return function
    dispatched = (torch._ops.OpOverload, torch._ops.OpOverloadPacket)
    if isinstance(function, dispatched) or hasattr(function, "_opoverload"):
        return function
    if function in torch.overrides.get_testing_overrides():
        return function
    return _dispatching(function, rule)


def _dispatching(function: Callable, rule: Evaluator) -> Callable:
    @functools.wraps(function)
    def dispatching(*args: Any, **kwargs: Any) -> Any:
        if flatten((args, kwargs), []):
            return rule(dispatching, args, kwargs)
        return function(*args, **kwargs)

    return dispatching
