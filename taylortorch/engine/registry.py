"""The switchboard: which rule serves which torch function, and what is known about each rule.

``RULES`` maps a function object, as ``__torch_function__`` receives it, to its evaluator
``evaluate(func, args, kwargs)``. ``ROWS`` holds one ``Rule`` per row of the tables in ``rules/``,
with the sample calls from which its tests and its line in the documentation are made.
"""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.overrides import resolve_name

from .private import OPERATOR_TYPES, SCRIPT_METHOD, SPACES, constant_in_traces
from .samples import Sample

Evaluator = Callable[[Callable, tuple, dict], Any]

RULES: dict[Any, Evaluator] = {}
TRACED: dict[int, Evaluator] = {}
OPERATORS: dict[str, Any] = {}
Adapter = Callable[[Any, tuple, dict], tuple[tuple, dict]]
ADAPTERS: dict[str, Adapter] = {}
"""What an operator reads otherwise than the function in front of it, by the operator's name: from
the operator, its arguments and those given by name, the arguments of the function."""
LEAKS: dict[str, str] = {}
"""What a user did, and can do, by the operator that a series reached in C++."""
REFUSED: dict[Any, str] = {}
ROWS: list[Rule] = []
# rows of other versions of torch: documented, but without functions
ROWS_OF_OTHERS: list[Rule] = []
REFUSED_BY_OTHERS: dict[str, str] = {}
NAMES: dict[Any, str] = {}


class UnsupportedFunction(NotImplementedError):
    """A function that would lose or falsify derivatives, or for which no rule is known.

    The message names the function as the user wrote it, says why, and what to do instead.
    """


@dataclasses.dataclass(frozen=True)
class Rule:
    """One row: the names it serves, its kind, what the row says, and its sample calls."""

    name: str
    kind: str
    says: str
    functions: tuple[Any, ...]
    in_place: tuple[Any, ...]
    samples: tuple[Sample, ...]
    since: str | None = None
    until: str | None = None


_NAMESPACES = (
    ("torch", torch),
    ("torch.Tensor", torch.Tensor),
    ("torch.nn.functional", torch.nn.functional),
    ("torch.special", torch.special),
    *SPACES,
)


def release(version: str) -> tuple[int, ...]:
    """The release that a version of torch belongs to, as numbers: ``(2, 14)``."""
    # a nightly build of 2.14 is 2.14 here, though packaging puts it before
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def holds_here(since: str | None = None, until: str | None = None) -> bool:
    """Whether this torch is of version ``since`` or newer, and older than ``until``."""
    here = release(torch.__version__)
    return (since is None or here >= release(since)) and (until is None or here < release(until))


def resolve(name: str) -> list[Any]:
    """The callables a name stands for: functions and methods of that name, or one dotted path.

    ``"sin"`` gives ``torch.sin``, ``torch.Tensor.sin`` and every built-in of that name;
    ``"linalg.inv"`` only ``torch.linalg.inv``, ``"torch.where"`` only the function; ``".T"`` the
    property getter of ``torch.Tensor``.

    Raises:
        LookupError: the name stands for nothing in this torch.
    """
    found: list[Any] = []
    if name.startswith("."):
        found = [getattr(torch.Tensor, name[1:]).__get__]
        NAMES[found[0]] = f"torch.Tensor{name}"
    elif "." in name:
        target: Any = torch
        name = name.removeprefix("torch.")
        for part in name.split("."):
            target = getattr(target, part, None)
        found = [] if target is None else [target]
        NAMES.setdefault(found[0] if found else None, f"torch.{name}")
    else:
        for prefix, space in _NAMESPACES:
            if name.startswith("__") and space is not torch.Tensor:
                continue
            target = getattr(space, name, None)
            if isinstance(target, types.FunctionType) and space is torch.nn.functional:
                # the Python functions there have signatures of their own: named by their path
                continue
            if callable(target) and not any(target is f for f in found):
                found.append(target)
                NAMES.setdefault(target, f"{prefix}.{name}")
    if not found:
        raise LookupError(f"torch {torch.__version__} has no function {name!r}")
    return found


def _first_of(names: Iterable[str]) -> list[Any]:
    return list(dict.fromkeys(f for name in names for f in resolve(name)))


def add_rule(
    names: str,
    kind: str,
    says: str,
    evaluate: Evaluator,
    samples: Iterable[Sample] = (),
    in_place: Callable[[Callable], Evaluator] | None = None,
    since: str | None = None,
    until: str | None = None,
) -> None:
    """Serve every callable that ``names`` (separated by spaces) stands for.

    ``in_place`` makes, from an out-of-place function, the evaluator of its in-place form; given
    one, every existing ``name_`` and ``__iname__`` is served too. ``since`` and ``until`` say which
    versions of torch have the functions, the latter excluded; in others the row is only
    documented.

    Raises:
        LookupError: a name stands for nothing.
        ValueError: a callable has a rule already.
    """
    if not holds_here(since, until):
        ROWS_OF_OTHERS.append(Rule(names, kind, says, (), (), tuple(samples), since, until))
        return
    functions = tuple(_first_of(names.split()))
    written: dict[Any, Any] = {}
    if in_place is not None:
        for name in names.split():
            forms = [f"{name}_"]
            if name.startswith("__") and not name.startswith("__r"):
                forms = [f"__i{name[2:]}"]
            for form in forms:
                try:
                    targets = resolve(form)
                except LookupError:
                    continue
                out_of_place = getattr(torch.Tensor, name, None) or functions[0]
                written.update((target, out_of_place) for target in targets)
    for function in functions:
        claim(function, evaluate)
    for function, out_of_place in written.items():
        assert in_place is not None
        claim(function, in_place(out_of_place))
    row = (names.split()[0], kind, says, functions, tuple(written), tuple(samples), since, until)
    ROWS.append(Rule(*row))


def claim(function: Any, evaluate: Evaluator) -> None:
    """Give a function its rule.

    Raises:
        ValueError: it has one already.
    """
    if function in RULES:
        raise ValueError(f"{name_of(function)} has a rule already")
    RULES[function] = evaluate
    if isinstance(function, types.FunctionType):
        TRACED[identity(function)] = evaluate
    _note_operator(function)


def rule_for(function: Any) -> Evaluator | None:
    """The rule of a function as ``__torch_function__`` receives it.

    Dynamo, tracing, does not find a Python function such as ``Tensor.__rsub__`` among the keys of a
    dict; its identity does. An operator ``torch.ops.aten.f`` has the rule of ``torch.f``.
    """
    if isinstance(function, types.FunctionType) and torch.compiler.is_dynamo_compiling():
        return TRACED.get(identity(function))
    rule = RULES.get(function)
    if rule is None and isinstance(function, OPERATOR_TYPES):
        known = _behind(function)
        if known in RULES:
            return _on_behalf_of(known)
    return rule


@constant_in_traces
def identity(function: Any) -> int:
    """What a function is known by in traces; its name there is not always its own."""
    return id(function)


_BUILT_IN = (types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType)


def _note_operator(function: Any) -> None:
    """Let the operator of torch's own that a function written in C++ calls find that function."""
    own = isinstance(function, OPERATOR_TYPES) and str(function).startswith("aten.")
    # a function in Python is another one, whatever its name
    if own or isinstance(function, _BUILT_IN):
        OPERATORS.setdefault(function.__name__, function)


def _behind(operator: Any) -> Any:
    """What a user calls for an operator: ``torch.sin`` for ``torch.ops.aten.sin.default``."""
    space, name = str(operator).split(".")[:2]
    return OPERATORS.get(name) if space == "aten" else None


def _on_behalf_of(known: Any) -> Evaluator:
    def evaluate(operator: Any, args: tuple, kwargs: dict) -> Any:
        # what functions call input, operators call self
        named = {"input" if name == "self" else name: a for name, a in kwargs.items()}
        adapt = ADAPTERS.get(str(operator).split(".")[1])
        if adapt is not None:
            args, named = adapt(operator, args, named)
        return RULES[known](known, args, named)

    return evaluate


def refuse(names: str, reason: str, since: str | None = None, until: str | None = None) -> None:
    """Refuse every callable that ``names`` stands for, with a reason that says what to do instead.

    ``since`` and ``until`` are as in ``add_rule``.

    Raises:
        LookupError: a name stands for nothing.
    """
    if not holds_here(since, until):
        REFUSED_BY_OTHERS.update(dict.fromkeys(names.split(), reason))
        return
    for function in _first_of(names.split()):
        REFUSED[function] = reason
        _note_operator(function)


@constant_in_traces
def name_of(function: Any) -> str:
    """The function's name as a user writes it."""
    name = NAMES.get(function)
    if name is None and isinstance(function, OPERATOR_TYPES):
        name = f"torch.ops.{function}"
    name = name or resolve_name(function)
    if name is None:
        name = getattr(function, "__qualname__", None) or str(function)
    return str(name).removesuffix(".__get__")


def refusal(function: Any) -> UnsupportedFunction:
    """The error for a function without a rule: its name, the reason, the ways out."""
    if isinstance(function, SCRIPT_METHOD):
        return UnsupportedFunction(
            f"the {function.name} of a scripted or traced module (torch.jit) runs in C++ and would "
            "lose the coefficients of a TaylorTensor: call the module that it was made from, or "
            "torch.compile of that"
        )
    name = name_of(function)
    reason = REFUSED.get(function)
    if reason is None and isinstance(function, OPERATOR_TYPES):
        reason = REFUSED.get(_behind(function))
    if reason is not None:
        return UnsupportedFunction(f"{name} does not take a TaylorTensor: {reason}")
    return UnsupportedFunction(
        f"{name} has no Taylor rule yet. Use x.value where no derivative through it is needed, "
        f"write it in terms of functions in taylortorch.supported(), or give it a rule with "
        f"taylortorch.register_rule."
    )


def supported() -> dict[str, list[str]]:
    """The names of all functions with a rule, by kind.

    >>> import taylortorch as tt
    >>> "tanh" in tt.supported()["ode"]
    True
    """
    kinds: dict[str, list[str]] = {}
    for rule in ROWS:
        kinds.setdefault(rule.kind, []).append(rule.name)
    return {kind: sorted(names) for kind, names in sorted(kinds.items())}
