"""What is known of a function that is given a rule: its name, its arguments, how torch holds it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch.autograd.function import Function
from torch.nn import Module

from ..engine.private import (
    OPERATOR,
    OVERLOADS,
    arguments_of,
    constant_in_traces,
    formula_of,
    has_kernel,
)
from ..engine.registry import NAMES, OPERATOR_TYPES

WHO = "taylortorch.register_rule"


ABSENT: Any = inspect.Parameter.empty


_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


_BATCHED = "FuncTorchBatched"


class Target:
    """The function a rule is for: what it is called, what it takes, what torch knows of it.

    ``plain`` is the function itself, ``call`` what hands TaylorTensors to the rule.
    """

    def __init__(self, function: Any) -> None:
        _check_function(function)
        self.function = function = function if isinstance(function, type) else plain(function)
        self.name = _name(function)
        self.operators = _operators(function)
        self.parameters = _parameters(function, self.operators)
        self.by_place = tuple(p.name for p in self.parameters or () if p.kind in _BY_PLACE)
        self.open_ended = any(p.kind is p.VAR_POSITIONAL for p in self.parameters or ())
        self.plain: Callable = function
        self.call: Callable = function
        # asked at each call, since formulas may be registered later, but not traced
        self.records = constant_in_traces(lambda: _records(self))
        self.maps = constant_in_traces(lambda: _maps(self))

    def names(self, count: int) -> tuple[str, ...]:
        """What to call the first ``count`` arguments."""
        unknown = (f"argument {n + 1}" for n in range(len(self.by_place), count))
        return (*self.by_place, *unknown)[:count]

    def positional(self, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """The arguments, those given by name in their places as far as these follow each other."""
        if kwargs:
            kwargs = dict(kwargs)
            for name in self.by_place[len(args) :]:
                if name not in kwargs:
                    break
                args = (*args, kwargs.pop(name))
        return args, kwargs

    def check_takes(self, code: Any, what: str) -> None:
        """Raise unless ``code`` can be called with the arguments that the function requires."""
        if not callable(code):
            raise TypeError(f"{WHO}: {what} must be a function, got {type(code).__name__}")
        required = [p for p in self.parameters or () if p.default is p.empty]
        try:
            signature = inspect.signature(code)
        except (ValueError, TypeError):
            return
        if self.parameters is None or self.open_ended:
            return
        try:
            signature.bind(
                *(p.name for p in required if p.kind in _BY_PLACE),
                **{p.name: p.name for p in required if p.kind is p.KEYWORD_ONLY},
            )
        except TypeError as wrong:
            raise TypeError(
                f"{WHO}: {what} must take the arguments of {self.name}, {self.takes()}, with the "
                f"same defaults; it takes {signature}: {wrong}"
            ) from None

    def takes(self) -> str:
        """The parameters as a user reads them."""
        return f"({', '.join(map(str, self.parameters or ()))})"


def _name(function: Any) -> str:
    operator = getattr(function, "_opoverload", function)
    if isinstance(operator, OPERATOR_TYPES):
        return f"torch.ops.{operator}".removesuffix(".default")
    if isinstance(function, Hashable) and function in NAMES:
        return NAMES[function]
    name = getattr(function, "__qualname__", None) or getattr(function, "__name__", None)
    return str(name or repr(function))


def _check_function(function: Any) -> None:
    """Raise unless ``function`` is something that can have a rule."""
    if not callable(function):
        raise TypeError(f"{WHO} takes a function, got {function!r}")
    what = f"{WHO}: {_name(function)}"
    is_class = isinstance(function, type)
    if isinstance(function, Module) or (is_class and issubclass(function, Module)):
        raise TypeError(
            f"{what} is a module, whose forward runs on a TaylorTensor as it is: give a rule to "
            "the function in it that does not, or, for one module, module.forward = "
            "taylortorch.register_rule(module.forward, ...)"
        )
    if is_class and not issubclass(function, Function):
        raise TypeError(f"{what} is a class: give a rule to the function on tensors that uses it")
    owner = getattr(function, "__self__", None)
    if isinstance(owner, type) and issubclass(owner, Function):
        raise TypeError(f"{what}: give the rule to the class, {owner.__qualname__}")


def argument_names(function: Any) -> tuple[str, ...]:
    """The names of the arguments that have a place, as far as Python knows them."""
    known = _parameters(function, _operators(function))
    return tuple(p.name for p in known or () if p.kind in _BY_PLACE)


def _operators(function: Any) -> tuple[Any, ...]:
    """The overloads of an operator; none for other functions."""
    operator = getattr(function, "_opoverload", function)
    if isinstance(operator, OVERLOADS):
        return tuple(getattr(operator, name) for name in operator.overloads())
    return (operator,) if isinstance(operator, OPERATOR) else ()


def _parameters(function: Any, operators: tuple[Any, ...]) -> list[inspect.Parameter] | None:
    """The parameters of a function, None where Python does not know them."""
    if len(operators) == 1:
        return [
            inspect.Parameter(
                argument.name,
                inspect.Parameter.KEYWORD_ONLY if argument.kwarg_only else _BY_PLACE[1],
                default=argument.default_value if argument.has_default_value() else ABSENT,
            )
            for argument in arguments_of(operators[0])
        ]
    code, first = function, 0
    if isinstance(function, type):
        code = function.forward  # type: ignore[attr-defined]
        first = int(function.setup_context is Function.setup_context)  # type: ignore[attr-defined]
    try:
        return list(inspect.signature(code).parameters.values())[first:]
    except (ValueError, TypeError):
        return None


def dispatch_keys(target: Target) -> tuple[Any, ...]:
    """The objects that calls of the function arrive as."""
    packets = {operator.overloadpacket for operator in target.operators}
    if packets:
        whole = (p for p in packets if len(p.overloads()) == len(target.operators))
        return *target.operators, *whole
    return (target.function,) if isinstance(target.function, Hashable) else ()


def in_torch(target: Target) -> bool:
    """Whether torch itself hands calls on a TaylorTensor over."""
    if not isinstance(target.function, Hashable):
        return False
    return target.function in torch.overrides.get_testing_overrides()


def _records(target: Target) -> bool:
    """Whether autograd is known to record the function's gradient."""
    if not target.operators:
        return isinstance(target.function, type) or in_torch(target)
    return all(map(_has_formula, target.operators))


def _has_formula(operator: Any) -> bool:
    known = formula_of(operator)
    return (
        known
        if known is not None
        else _has_kernel(operator, "Autograd", "AutogradCPU", "AutogradCUDA")
    )


def _maps(target: Target) -> bool:
    """Whether ``torch.vmap`` has a rule for the function."""
    if target.operators:
        return all(op.namespace == "aten" or _has_kernel(op, _BATCHED) for op in target.operators)
    if isinstance(target.function, type):
        own = target.function.vmap is not Function.vmap  # type: ignore[attr-defined]
        return own or target.function.generate_vmap_rule  # type: ignore[attr-defined]
    return in_torch(target)


def _has_kernel(operator: Any, *keys: str) -> bool:
    return any(has_kernel(operator.name(), key) for key in keys)


PLAIN: dict[Any, Any] = {}


def plain(function: Any) -> Any:
    """What ``function`` was before ``register_rule``: the callable, or a class without a rule."""
    return PLAIN.get(function, function) if isinstance(function, Hashable) else function
