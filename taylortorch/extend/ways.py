"""The five ways to say a rule, each checked against the function and made into an evaluator.

A way gives the kind of the rule, what the table of rules says of it, and the evaluator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..engine import kinds
from ..engine.lifts import by_vmap, one_by_one
from ..engine.multilinear import Form, multilinear
from ..engine.registry import Evaluator, UnsupportedFunction
from .opaque import Value, on_series
from .target import WHO, Target


def _by_derivative(target: Target, derivative: Any) -> tuple[str, str, Evaluator]:
    parts = tuple(derivative) if isinstance(derivative, (tuple, list)) else (derivative,)
    names = target.names(len(parts))
    known = target.parameters is not None and not target.open_ended
    if known and len(parts) > len(target.by_place):
        raise TypeError(
            f"{WHO}: {len(parts)} derivatives for {target.name}, which takes {target.takes()}"
        )
    for n, part in enumerate(parts):
        if part is not None:
            target.check_takes(part, "derivative" if len(parts) == 1 else f"derivative {n + 1}")
    if names[:1] == ("self",) and parts[0] is not None:
        raise TypeError(
            f"{WHO}: the first argument of {target.name} is self: give derivative=(None, ...), or "
            "the rule to the method of an object"
        )
    slopes = tuple(
        _refusing(target.name, name) if part is None else part
        for name, part in zip(names, parts, strict=True)
    )
    rule = kinds.slope(*map(on_series, slopes), names=names)
    says = "y' = g(x) x'" if len(parts) == 1 else "y' = sum of g_i(x) x_i'"
    return "slope", says, _with(target, rule, Value(target, slopes))


def _by_ode(target: Target, ode: Any) -> tuple[str, str, Evaluator]:
    fits = isinstance(ode, (tuple, list)) and len(ode) == 3
    if not fits or not all(isinstance(number, (int, float)) for number in ode):
        raise TypeError(
            f"{WHO}: ode= takes the numbers (a, b, c) of y' = (a + b y + c y^2) x', got {ode!r}"
        )
    a, b, c = ode
    slopes = (lambda y: a + b * y + c * y * y,)
    says = f"y' = ({a} + {b} y + {c} y^2) x'"
    return "ode", says, _with(target, kinds.ode(a, b, c), Value(target, slopes, of_result=True))


def _by_form(target: Target, form: Any) -> tuple[str, str, Evaluator]:
    if not isinstance(form, str):
        raise TypeError(f"{WHO}: form must be a text, got {type(form).__name__}")
    names = tuple(Form(form).names)
    expected = target.names(len(names))
    if target.parameters is not None and not target.open_ended and names != expected:
        raise ValueError(
            f"{WHO}: the form {form!r} names ({', '.join(names)}) what {target.name} calls "
            f"{target.takes()}"
        )

    def lift(func: Callable, args: list, kwargs: dict, leads: set) -> Any:
        return (by_vmap if target.maps() else one_by_one)(func, args, kwargs, leads)

    rule = multilinear(form, lift=lift)
    return "multilinear", form.split(":")[1].strip(), _with(target, rule, Value(target))


def _by_composite(target: Target, composite: Any) -> tuple[str, str, Evaluator]:
    target.check_takes(composite, "composite")
    return "composite", "torch code", kinds.composite(composite)


def _by_hand(target: Target, evaluate: Any) -> tuple[str, str, Evaluator]:
    if not callable(evaluate):
        raise TypeError(
            f"{WHO}: evaluate must be a function, evaluate(func, args, kwargs), "
            f"got {type(evaluate).__name__}"
        )

    def positional(func: Callable, args: tuple, kwargs: dict) -> Any:
        return evaluate(func, *target.positional(args, kwargs))

    return "by hand", "by hand", positional


WAYS: dict[str, Callable[[Target, Any], tuple[str, str, Evaluator]]] = {
    "derivative": _by_derivative,
    "ode": _by_ode,
    "form": _by_form,
    "composite": _by_composite,
    "evaluate": _by_hand,
}


def _with(target: Target, rule: Evaluator, value: Callable) -> Evaluator:
    """The rule, with ``value`` to compute the function's value."""

    def evaluate(func: Callable, args: tuple, kwargs: dict) -> Any:
        args, kwargs = target.positional(args, kwargs)
        return rule(value, args, kwargs)

    return evaluate


def _refusing(name: str, argument: str) -> Callable:
    def slope(*args: Any, **kwargs: Any) -> Any:
        raise UnsupportedFunction(
            f"{name} was registered without a derivative in {argument}: pass x.value there, or "
            "give that derivative to taylortorch.register_rule"
        )

    return slope
