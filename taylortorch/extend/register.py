"""``register_rule``: the rule into the tables, and what the user calls from then on."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, overload

from torch.autograd.function import FunctionMeta

from ..engine.registry import NAMES, REFUSED, ROWS, RULES, Evaluator, Rule, claim
from ..engine.samples import Sample
from ..engine.tensor import flatten
from ..patches.members import give_members
from .target import ABSENT, PLAIN, Target, dispatch_keys, in_torch, plain
from .ways import WAYS

_F = TypeVar("_F", bound=Callable[..., Any])


@overload
def register_rule(
    function: _F,
    *,
    derivative: Callable | Sequence[Callable | None] | None = None,
    ode: tuple[float, float, float] | None = None,
    form: str | None = None,
    composite: Callable | None = None,
    evaluate: Evaluator | None = None,
    samples: Iterable[Sample] = (),
    replace: bool = False,
) -> _F: ...


@overload
def register_rule(
    *,
    derivative: Callable | Sequence[Callable | None] | None = None,
    ode: tuple[float, float, float] | None = None,
    form: str | None = None,
    composite: Callable | None = None,
    evaluate: Evaluator | None = None,
    samples: Iterable[Sample] = (),
    replace: bool = False,
) -> Callable[[_F], _F]: ...


def register_rule(
    function: Any = ABSENT,
    *,
    derivative: Callable | Sequence[Callable | None] | None = None,
    ode: tuple[float, float, float] | None = None,
    form: str | None = None,
    composite: Callable | None = None,
    evaluate: Evaluator | None = None,
    samples: Iterable[Sample] = (),
    replace: bool = False,
) -> Any:
    r"""Tell taylortorch how ``function`` acts on a series, in exactly one of five ways.

    Without ``function`` it is a decorator. ``taylortorch.testing.check_rule`` verifies a rule.

    Args:
        function: a function torch dispatches (``torch.f``, an operator ``torch.ops.lib.f``, what
            ``torch.library.custom_op`` returned), a ``torch.autograd.Function`` class, or any other
            callable on tensors.
        derivative: for an elementwise function of one result, ``g`` with ``y' = g(x) x'``: torch
            code that supports series and takes the arguments of ``function``. For several
            arguments a tuple in their order, ``y' = sum_i g_i(x_1, ...) x_i'``; None for an
            argument that is never a series. Where autograd does not see through ``function``, the
            gradient of its value is taken from ``derivative`` as well, at every order.
        ode: as ``derivative``, with ``y' = (a + b y + c y^2) x'`` given as ``(a, b, c)``.
        form: for a function linear in its first argument, ``"x : x"``, or of degree one in each of
            several, ``"x, weight, bias : x*weight + bias"``: its parameters, as many as are needed,
            by the names of its signature, then a sum of products of them. Directions are passed one
            at a time, or together to functions that torch can map over (``torch.vmap``).
        composite: torch code that computes the same and takes the same arguments.
        evaluate: ``evaluate(func, args, kwargs)``, from scratch: ``func`` computes the value, and
            ``args`` holds all arguments that have a place, given by name or not.
        samples: sample calls, see ``taylortorch.testing.call``.
        replace: replace the rule that ``function`` has, be it taylortorch's own. It holds for this
            callable only: ``torch.sin`` and ``torch.Tensor.sin`` are two.

    Returns:
        What to call from then on: ``function`` itself, or, for a callable that torch does not
        dispatch, a wrapper that knows the rule and passes plain tensors on to ``function``.

    Raises:
        TypeError: not exactly one of the five, something that is not a function, or code that does
            not take the arguments of ``function``.
        ValueError: a form that is none or has other names than the function, or a function that has
            a rule already.

    >>> import torch, taylortorch as tt
    >>> @tt.register_rule(derivative=lambda x: 3 * x**2)
    ... def cube(x):  # opaque to torch
    ...     return torch.tensor([entry**3 for entry in x.tolist()])
    >>> cube(tt.TaylorTensor(torch.tensor([2.0]))).derivatives
    (tensor([8.]), tensor([12.]), tensor([12.]))
    """
    ways: dict[str, Any] = {
        "derivative": derivative,
        "ode": ode,
        "form": form,
        "composite": composite,
        "evaluate": evaluate,
    }
    way = _only(ways)
    if function is ABSENT:
        return functools.partial(register_rule, **ways, samples=samples, replace=replace)
    target = Target(function)
    keys = dispatch_keys(target)
    if not replace and any(key in RULES for key in keys):
        raise ValueError(
            f"{target.name} has a rule already: pass replace=True to give it this one instead"
        )
    kind, says, rule = WAYS[way](target, ways[way])
    served = _served(target, rule)
    _enter(target.name, keys, rule)
    known_as = keys[-1] if target.operators else served
    ROWS.append(Rule(target.name, kind, says, (known_as,), (), tuple(samples)))
    return served


def _only(ways: dict[str, Any]) -> str:
    """The one way that is given."""
    chosen = [way for way, given in ways.items() if given is not None]
    if len(chosen) != 1:
        raise TypeError(
            "taylortorch.register_rule takes exactly one of derivative=, ode=, form=, composite=, "
            f"evaluate=; got {len(chosen)}"
        )
    return chosen[0]


def _enter(name: str, keys: tuple[Any, ...], rule: Evaluator) -> None:
    """Have calls of the function, under all objects that they arrive as, find the rule."""
    for key in keys:
        _forget(key)
        claim(key, rule)
        NAMES.setdefault(key, name)
    give_members(RULES)


def _served(target: Target, rule: Evaluator) -> Any:
    """What the user calls: the function, or something that dispatches where torch does not."""
    function = target.function
    if target.operators or in_torch(target):
        return function
    if not isinstance(function, type):
        target.call = _dispatching(function, rule)
        PLAIN[target.call] = function
        return target.call
    if function not in PLAIN:
        PLAIN[function] = _twin(function)
        function.__class__ = _Ruled
    target.plain = PLAIN[function].apply
    target.call = _dispatching(target.plain, rule)
    PLAIN[target.call] = target.plain
    function.apply = staticmethod(target.call)  # type: ignore[attr-defined]
    return function


def _dispatching(function: Callable, rule: Evaluator) -> Callable:
    @functools.wraps(function)
    def dispatching(*args: Any, **kwargs: Any) -> Any:
        if flatten((args, kwargs), []):
            return rule(dispatching, args, kwargs)
        return function(*args, **kwargs)

    return dispatching


class _Ruled(FunctionMeta):
    """The class of the Functions that have a rule.

    Dynamo takes a class whose type is ``FunctionMeta`` for a custom Function and traces its forward
    in place of its ``apply``, which is where the rule is.
    """

    def __init__(cls, name: str, bases: tuple, attributes: dict) -> None:
        super().__init__(name, bases, attributes)
        # a subclass of a Function that has a rule has none
        if "apply" not in attributes:
            ruled = next(base for base in cls.__mro__ if base in PLAIN)
            cls.apply = inspect.getattr_static(PLAIN[ruled], "apply")
        cls.__class__ = FunctionMeta  # type: ignore[assignment]


def _twin(function: type) -> Any:
    """The same Function, whose ``apply`` stays as it is."""
    attributes = {
        "__module__": function.__module__,
        "__qualname__": function.__qualname__,
        "__doc__": function.__doc__,
        "apply": inspect.getattr_static(function, "apply"),
    }
    return FunctionMeta(function.__name__, (function,), attributes)


def _forget(function: Any) -> None:
    """Take its rule from a function, and the function from the row that names it."""
    RULES.pop(function, None)
    REFUSED.pop(function, None)
    for n in reversed(range(len(ROWS))):
        kept = tuple(f for f in ROWS[n].functions if f is not function and plain(f) is not function)
        if len(kept) < len(ROWS[n].functions):
            ROWS[n : n + 1] = [dataclasses.replace(ROWS[n], functions=kept)] if kept else []
