"""Rules for users' own functions."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, TypeVar, overload

import torch
from torch.autograd import forward_ad
from torch.autograd.function import Function, FunctionMeta
from torch.nn import Module

from . import kinds
from .lifts import by_vmap, one_by_one
from .members import give_members
from .registry import (
    NAMES,
    OPERATOR_TYPES,
    REFUSED,
    ROWS,
    RULES,
    Evaluator,
    Rule,
    Sample,
    UnsupportedFunction,
    claim,
)
from .tensor import TaylorTensor, constant_in_traces, constant_like, flatten, run

_F = TypeVar("_F", bound=Callable[..., Any])

_WHO = "taylortorch.register_rule"
_ABSENT: Any = inspect.Parameter.empty
_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_BATCHED = "FuncTorchBatched"


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
    function: Any = _ABSENT,
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
        samples: sample calls, see ``taylortorch.registry.call``.
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
    chosen = [way for way, given in ways.items() if given is not None]
    if len(chosen) != 1:
        raise TypeError(
            "taylortorch.register_rule takes exactly one of derivative=, ode=, form=, composite=, "
            f"evaluate=; got {len(chosen)}"
        )
    if function is _ABSENT:
        return functools.partial(register_rule, **ways, samples=samples, replace=replace)
    target = _Target(function)
    keys = _keys(target)
    for key in keys:
        if key in RULES and not replace:
            raise ValueError(
                f"{target.name} has a rule already: pass replace=True to give it this one instead"
            )
    kind, says, rule = _WAYS[chosen[0]](target, ways[chosen[0]])
    served = _served(target, rule)
    for key in keys:
        _forget(key)
        claim(key, rule)
        NAMES.setdefault(key, target.name)
    give_members(RULES)
    known_as = keys[-1] if target.operators else served
    ROWS.append(Rule(target.name, kind, says, (known_as,), (), tuple(samples)))
    return served


# --- the function -------------------------------------------------------------------------------


class _Target:
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
            raise TypeError(f"{_WHO}: {what} must be a function, got {type(code).__name__}")
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
                f"{_WHO}: {what} must take the arguments of {self.name}, {self.takes()}, with the "
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
        raise TypeError(f"{_WHO} takes a function, got {function!r}")
    what = f"{_WHO}: {_name(function)}"
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


def _operators(function: Any) -> tuple[torch._ops.OpOverload, ...]:
    """The overloads of an operator; none for other functions."""
    operator = getattr(function, "_opoverload", function)
    if isinstance(operator, torch._ops.OpOverloadPacket):
        return tuple(getattr(operator, name) for name in operator.overloads())
    return (operator,) if isinstance(operator, torch._ops.OpOverload) else ()


def _parameters(
    function: Any, operators: tuple[torch._ops.OpOverload, ...]
) -> list[inspect.Parameter] | None:
    """The parameters of a function, None where Python does not know them."""
    if len(operators) == 1:
        return [
            inspect.Parameter(
                argument.name,
                inspect.Parameter.KEYWORD_ONLY if argument.kwarg_only else _BY_PLACE[1],
                default=argument.default_value if argument.has_default_value() else _ABSENT,
            )
            for argument in operators[0]._schema.arguments
        ]
    code, first = function, 0
    if isinstance(function, type):
        code = function.forward  # type: ignore[attr-defined]
        first = int(function.setup_context is Function.setup_context)  # type: ignore[attr-defined]
    try:
        return list(inspect.signature(code).parameters.values())[first:]
    except (ValueError, TypeError):
        return None


def _keys(target: _Target) -> tuple[Any, ...]:
    """The objects that calls of the function arrive as."""
    packets = {operator.overloadpacket for operator in target.operators}
    if packets:
        whole = (p for p in packets if len(p.overloads()) == len(target.operators))
        return *target.operators, *whole
    return (target.function,) if isinstance(target.function, Hashable) else ()


def _in_torch(target: _Target) -> bool:
    """Whether torch itself hands calls on a TaylorTensor over."""
    if not isinstance(target.function, Hashable):
        return False
    return target.function in torch.overrides.get_testing_overrides()


def _records(target: _Target) -> bool:
    """Whether autograd is known to record the function's gradient."""
    if not target.operators:
        return isinstance(target.function, type) or _in_torch(target)
    return all(map(_has_formula, target.operators))


def _has_formula(operator: torch._ops.OpOverload) -> bool:
    definition = torch._library.custom_ops._maybe_get_opdef(operator)
    if definition is not None:
        return definition._backward_fn is not None
    return _has_kernel(operator, "Autograd", "AutogradCPU", "AutogradCUDA")


def _maps(target: _Target) -> bool:
    """Whether ``torch.vmap`` has a rule for the function."""
    if target.operators:
        return all(op.namespace == "aten" or _has_kernel(op, _BATCHED) for op in target.operators)
    if isinstance(target.function, type):
        own = target.function.vmap is not Function.vmap  # type: ignore[attr-defined]
        return own or target.function.generate_vmap_rule  # type: ignore[attr-defined]
    return _in_torch(target)


def _has_kernel(operator: torch._ops.OpOverload, *keys: str) -> bool:
    known = torch._C._dispatch_has_kernel_for_dispatch_key
    return any(known(operator.name(), key) for key in keys)


# --- the five ways ------------------------------------------------------------------------------


def _by_derivative(target: _Target, derivative: Any) -> tuple[str, str, Evaluator]:
    parts = tuple(derivative) if isinstance(derivative, (tuple, list)) else (derivative,)
    names = target.names(len(parts))
    known = target.parameters is not None and not target.open_ended
    if known and len(parts) > len(target.by_place):
        raise TypeError(
            f"{_WHO}: {len(parts)} derivatives for {target.name}, which takes {target.takes()}"
        )
    for n, part in enumerate(parts):
        if part is not None:
            target.check_takes(part, "derivative" if len(parts) == 1 else f"derivative {n + 1}")
    if names[:1] == ("self",) and parts[0] is not None:
        raise TypeError(
            f"{_WHO}: the first argument of {target.name} is self: give derivative=(None, ...), or "
            "the rule to the method of an object"
        )
    slopes = tuple(
        _refusing(target.name, name) if part is None else part
        for name, part in zip(names, parts, strict=True)
    )
    rule = kinds.slope(*map(_on_series, slopes), names=names)
    says = "y' = g(x) x'" if len(parts) == 1 else "y' = sum of g_i(x) x_i'"
    return "slope", says, _with(target, rule, _Value(target, slopes))


def _by_ode(target: _Target, ode: Any) -> tuple[str, str, Evaluator]:
    fits = isinstance(ode, (tuple, list)) and len(ode) == 3
    if not fits or not all(isinstance(number, (int, float)) for number in ode):
        raise TypeError(
            f"{_WHO}: ode= takes the numbers (a, b, c) of y' = (a + b y + c y^2) x', got {ode!r}"
        )
    a, b, c = ode
    slopes = (lambda y: a + b * y + c * y * y,)
    says = f"y' = ({a} + {b} y + {c} y^2) x'"
    return "ode", says, _with(target, kinds.ode(a, b, c), _Value(target, slopes, of_result=True))


def _by_form(target: _Target, form: Any) -> tuple[str, str, Evaluator]:
    if not isinstance(form, str):
        raise TypeError(f"{_WHO}: form must be a text, got {type(form).__name__}")
    names = tuple(kinds.Form(form).names)
    expected = target.names(len(names))
    if target.parameters is not None and not target.open_ended and names != expected:
        raise ValueError(
            f"{_WHO}: the form {form!r} names ({', '.join(names)}) what {target.name} calls "
            f"{target.takes()}"
        )

    def lift(func: Callable, args: list, kwargs: dict, leads: set) -> Any:
        return (by_vmap if target.maps() else one_by_one)(func, args, kwargs, leads)

    rule = kinds.multilinear(form, lift=lift)
    return "multilinear", form.split(":")[1].strip(), _with(target, rule, _Value(target))


def _by_composite(target: _Target, composite: Any) -> tuple[str, str, Evaluator]:
    target.check_takes(composite, "composite")
    return "composite", "torch code", kinds.composite(composite)


def _by_hand(target: _Target, evaluate: Any) -> tuple[str, str, Evaluator]:
    if not callable(evaluate):
        raise TypeError(
            f"{_WHO}: evaluate must be a function, evaluate(func, args, kwargs), "
            f"got {type(evaluate).__name__}"
        )

    def positional(func: Callable, args: tuple, kwargs: dict) -> Any:
        return evaluate(func, *target.positional(args, kwargs))

    return "by hand", "by hand", positional


_WAYS: dict[str, Callable[[_Target, Any], tuple[str, str, Evaluator]]] = {
    "derivative": _by_derivative,
    "ode": _by_ode,
    "form": _by_form,
    "composite": _by_composite,
    "evaluate": _by_hand,
}


def _with(target: _Target, rule: Evaluator, value: Callable) -> Evaluator:
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


def _on_series(derivative: Callable) -> Callable:
    """The derivative, given what autograd follows as series: so rules act on all that it calls."""

    def slope(*args: Any, **kwargs: Any) -> Any:
        frame = None
        for x in flatten((args, kwargs), []):
            frame = x if frame is None or x._level > frame._level else frame

        def lifted(x: Any) -> Any:
            if isinstance(x, TaylorTensor) or not _followed(x):
                return x
            return TaylorTensor(x, order=0) if frame is None else constant_like(x, frame)

        named = {name: lifted(x) for name, x in kwargs.items()}
        y = run(derivative, *map(lifted, args), **named)
        return y.value if frame is None and isinstance(y, TaylorTensor) else y

    return slope


# --- the value ----------------------------------------------------------------------------------


class _Value:
    """The function on values. Where autograd sees no gradient, it is formed from ``slopes``.

    These are the derivatives in the leading arguments, functions of all arguments, or of the
    result. A gradient that is not known from them either raises.
    """

    def __init__(
        self, target: _Target, slopes: Sequence[Callable] = (), of_result: bool = False
    ) -> None:
        self.target = target
        self.slopes = slopes
        self.of_result = of_result
        self.__qualname__ = target.name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        target, count = self.target, len(self.slopes)
        if flatten((args, kwargs), []):
            # series of a lower level
            return target.call(*args, **kwargs)
        if target.records() or not _followed((args, kwargs)):
            return self.checked(_on_plain(target.plain, *args, **kwargs), args)
        y = self.checked(
            self.opaque(args, kwargs) if count else target.plain(*args, **kwargs), args
        )
        if _followed(y) and not target.operators:
            return y
        if _followed((args[count:], kwargs)):
            raise UnsupportedFunction(self.lost())
        return self.attached(_detached(y), args, kwargs)

    def opaque(self, args: tuple, kwargs: dict) -> Any:
        """The result of a function that may not take what requires grad."""
        try:
            return _on_plain(self.target.plain, *args, **kwargs)
        except RuntimeError:
            # as numpy() does: without the leading arguments, whose slopes are known
            count = len(self.slopes)
            bare = (*map(_detached, args[:count]), *args[count:])
            y = _on_plain(self.target.plain, *bare, **kwargs)
            if _followed(y):
                raise
            return y

    def checked(self, y: Any, args: tuple) -> Any:
        """The result, if it is one that the rule is for."""
        results = y if isinstance(y, (tuple, list)) and not self.slopes else (y,)
        for result in results:
            if not isinstance(result, torch.Tensor):
                raise TypeError(
                    f"{self.target.name} returned a {type(result).__name__}; its rule is for a "
                    "function that returns a tensor"
                )
        if self.slopes:
            operands = [x for x in args[: len(self.slopes)] if isinstance(x, torch.Tensor)]
            if not _broadcast(y.shape, *(x.shape for x in operands)):
                raise ValueError(
                    f"{self.target.name} was registered as elementwise, but makes {tuple(y.shape)} "
                    f"of {', '.join(str(tuple(x.shape)) for x in operands)}: give it a rule by "
                    "form=, composite= or evaluate="
                )
        return y

    def lost(self) -> str:
        """Why a gradient is lost, and what to do."""
        if self.slopes:
            known = " and ".join(self.target.names(len(self.slopes)))
            return (
                f"autograd does not see through {self.target.name}, which was registered with its "
                f"derivative in {known}, but another argument requires grad: register a derivative "
                "for each"
            )
        return (
            f"autograd does not see through {self.target.name}, so the gradient of what requires "
            "grad would be lost: give it a backward (torch.autograd.Function, "
            "torch.library.register_autograd), or a rule by derivative= or composite="
        )

    def attached(self, y: torch.Tensor, args: tuple, kwargs: dict) -> torch.Tensor:
        """``y`` with the gradient that the slopes give it."""
        count = len(self.slopes)
        places = [n for n in range(count) if isinstance(args[n], torch.Tensor)]

        def slopes_at(y: Any, operands: Sequence[Any], wanted: Sequence[bool]) -> list[Any]:
            filled = list(args)
            for n, operand in zip(places, operands, strict=True):
                filled[n] = operand
            result: list[Any] = []
            for n, want in zip(places, wanted, strict=True):
                if not want:
                    result.append(None)
                elif self.of_result:
                    result.append(self.slopes[n](y))
                elif torch.compiler.is_compiling():
                    # there is no second backward in compiled code
                    result.append(_on_plain(self.slopes[n], *filled, **kwargs))
                else:
                    result.append(_on_series(self.slopes[n])(*filled, **kwargs))
            return result

        operands = [args[n] for n in places]
        kind = _Pushed if any(map(_has_tangent, operands)) else _Attached
        return kind.apply(slopes_at, y, *operands)


class _Attached(Function):
    """A result and its gradient, ``sum of g_i(x) dx_i``, as an elementwise function has it."""

    @staticmethod
    def forward(slopes_at: Callable, y: torch.Tensor, *operands: torch.Tensor) -> torch.Tensor:
        return y.view_as(y)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        ctx.slopes_at = inputs[0]
        ctx.save_for_backward(output, *inputs[2:])

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple:
        y, *operands = ctx.saved_tensors
        slopes = ctx.slopes_at(y, operands, ctx.needs_input_grad[2:])
        return None, None, *map(functools.partial(_pulled_back, grad), slopes, operands)


class _Pushed(_Attached):
    """The same in forward mode. Dynamo does not take a Function that knows it."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        _Attached.setup_context(ctx, inputs, output)
        ctx.save_for_forward(output, *inputs[2:])

    @staticmethod
    def jvp(ctx: Any, _: Any, __: Any, *tangents: Any) -> torch.Tensor:
        y, *operands = ctx.saved_tensors
        slopes = ctx.slopes_at(y, operands, [v is not None for v in tangents])
        parts = [g * v for g, v in zip(slopes, tangents, strict=True) if v is not None]
        return functools.reduce(torch.add, parts).expand_as(y)


def _pulled_back(grad: torch.Tensor, slope: Any, operand: torch.Tensor) -> torch.Tensor | None:
    if slope is None:
        return None
    slope = slope.conj() if isinstance(slope, torch.Tensor) and slope.is_complex() else slope
    result = (grad * slope).sum_to_size(operand.shape)
    return result if operand.is_complex() or not result.is_complex() else result.real


def _followed(tree: Any) -> bool:
    """Whether autograd follows a plain tensor in nested arguments, backward or forward."""
    if isinstance(tree, torch.Tensor):
        return (torch.is_grad_enabled() and tree.requires_grad) or _has_tangent(tree)
    if isinstance(tree, dict):
        return any(map(_followed, tree.values()))
    return isinstance(tree, (list, tuple)) and any(map(_followed, tree))


def _has_tangent(x: torch.Tensor) -> bool:
    active = forward_ad._current_level >= 0
    return active and forward_ad.unpack_dual(x).tangent is not None


def _detached(x: Any) -> Any:
    if not isinstance(x, torch.Tensor):
        return x
    return forward_ad.unpack_dual(x).primal.detach() if _has_tangent(x) else x.detach()


def _broadcast(shape: Sequence[int], *shapes: Sequence[int]) -> bool:
    """Whether tensors of these shapes broadcast to ``shape``."""
    return all(
        len(other) <= len(shape)
        and all(a in (1, b) for a, b in zip(reversed(other), reversed(shape), strict=False))
        for other in shapes
    )


def _on_plain(function: Callable, *args: Any, **kwargs: Any) -> Any:
    """Call a function on plain tensors."""
    if torch.compiler.is_compiling():
        # numpy code cannot be traced under a mode, which ``run`` may have entered
        with torch._C.DisableTorchFunction():
            return function(*args, **kwargs)
    return function(*args, **kwargs)


# --- what the user calls ------------------------------------------------------------------------


def _served(target: _Target, rule: Evaluator) -> Any:
    """What the user calls: the function, or something that dispatches where torch does not."""
    function = target.function
    if target.operators or _in_torch(target):
        return function
    if not isinstance(function, type):
        target.call = _dispatching(function, rule)
        _PLAIN[target.call] = function
        return target.call
    if function not in _PLAIN:
        _PLAIN[function] = _twin(function)
        function.__class__ = _Ruled
    target.plain = _PLAIN[function].apply
    target.call = _dispatching(target.plain, rule)
    _PLAIN[target.call] = target.plain
    function.apply = staticmethod(target.call)  # type: ignore[attr-defined]
    return function


_PLAIN: dict[Any, Any] = {}


def plain(function: Any) -> Any:
    """What ``function`` was before ``register_rule``: the callable, or a class without a rule."""
    return _PLAIN.get(function, function) if isinstance(function, Hashable) else function


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
            ruled = next(base for base in cls.__mro__ if base in _PLAIN)
            cls.apply = inspect.getattr_static(_PLAIN[ruled], "apply")
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
