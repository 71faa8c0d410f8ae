"""Dynamo, taught to hand to ``__torch_function__`` all that eager mode hands to it.

In a trace a TaylorTensor is a tensor with a storage of NaN, which only ``__torch_function__`` keeps
from being read. Dynamo emulates most of Python's operators on a tensor without asking it, and which
ones changes between releases. So here are two things: the operators, called by the methods that
Python calls for them; and a net, which makes an error of whatever reaches the storage nevertheless.
"""

from __future__ import annotations

import builtins
import functools
import operator
from collections.abc import Iterator
from typing import Any

import torch

from ..engine.private import WHY_NOT_COMPILED, private
from ..engine.tensor import TaylorTensor
from .changes import MISSING, Change
from .probes import failing

# --- which method Python calls for an operator --------------------------------------------------

_UNARY = "abs neg pos invert inv"
_COMPARED = {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le", "eq": "eq", "ne": "ne"}
_BINARY = "add sub mul truediv floordiv mod pow matmul and_ or_ xor lshift rshift"
_ITEMS = "getitem setitem delitem contains"


def _methods() -> Iterator[tuple[Any, str, str | None]]:
    """The functions of ``operator`` and ``builtins``, their methods, and the reflected ones."""
    for name in (_UNARY + " " + _ITEMS).split():
        yield getattr(operator, name), f"__{'invert' if name == 'inv' else name}__", None
    for name, reflected in _COMPARED.items():
        yield getattr(operator, name), f"__{name}__", f"__{reflected}__"
    for name in _BINARY.split():
        bare = name.rstrip("_")
        yield getattr(operator, name), f"__{bare}__", f"__r{bare}__"
        yield getattr(operator, f"i{bare}"), f"__i{bare}__", f"__r{bare}__"
    for name in ("abs", "iter", "reversed"):
        yield getattr(builtins, name), f"__{name}__", None
    yield builtins.pow, "__pow__", "__rpow__"


METHODS = {function: (method, reflected) for function, method, reflected in _methods()}


def _method_called(function: Any, args: list[Any]) -> tuple[Any, list[Any]] | None:
    """The method of ``torch.Tensor`` that Python calls, and its arguments in the order it takes."""
    method, reflected = METHODS[function]
    if not _is_tensor(args[0]):
        if reflected is None or len(args) != 2 or not _is_number(args[0]):
            return None
        method, args = reflected, args[::-1]
    elif not hasattr(torch.Tensor, method):
        # a @= b, which tensors do not have in place
        method = method.replace("__i", "__", 1)
    found = getattr(torch.Tensor, method, None)
    return None if found is None else (found, args)


def _is_number(variable: Any) -> bool:
    return issubclass(_type_of(variable), (int, float, complex))


def _is_tensor(variable: Any) -> bool:
    return issubclass(_type_of(variable), torch.Tensor)


def _type_of(variable: Any) -> type:
    try:
        return variable.python_type() if variable.is_realized() else variable.peek_type()
    except NotImplementedError:
        return object


def _is_series(variable: Any) -> bool:
    return issubclass(_type_of(variable), TaylorTensor)


# --- the changes --------------------------------------------------------------------------------


def _builtins(original: Any) -> Any:
    dispatches = private("torch._dynamo.variables.torch_function.can_dispatch_torch_function")
    dispatch = private("torch._dynamo.variables.torch_function.dispatch_torch_function")
    build = private("torch._dynamo.variables.builder.SourcelessBuilder.create")

    def call_function(self: Any, tx: Any, args: Any, kwargs: Any) -> Any:
        if self.fn in METHODS and not kwargs and any(map(_is_series, args)):
            args = [variable.realize() for variable in args]
            called = _method_called(self.fn, args) if dispatches(tx, args, kwargs) else None
            if called is not None:
                method, args = called
                return dispatch(tx, build(tx, method), args, kwargs)
        return original(self, tx, args, kwargs)

    return call_function


def _assigned(original: Any) -> Any:
    def mp_ass_subscript_impl(self: Any, tx: Any, key: Any, value: Any) -> Any:
        if _is_series(self) and value is not None:
            return self.call_method(tx, "__setitem__", [key, value], {})
        return original(self, tx, key, value)

    return mp_ass_subscript_impl


def _unpacked(original: Any) -> Any:
    def unpack_var_sequence(self: Any, tx: Any, idxes: Any = None) -> Any:
        if _is_series(self):
            rows = self.call_method(tx, "unbind", [], {}).unpack_var_sequence(tx)
            return rows if idxes is None else [rows[i] for i in idxes]
        return original(self, tx, idxes)

    return unpack_var_sequence


def _in_tuples(original: Any) -> Any:
    tuples = private("torch._dynamo.variables.lists.TupleVariable")

    def flatten_vts(variables: Any) -> list[Any]:
        found: list[Any] = []
        for variable in original(variables):
            inside = isinstance(variable, tuples)
            found += flatten_vts(variable.items) if inside else [variable]
        return found

    return flatten_vts


_STORAGE = "the storage of a TaylorTensor"


def _marked(original: Any) -> Any:
    def from_tensor_var(cls: Any, *args: Any, **kwargs: Any) -> Any:
        variable = original.__func__(cls, *args, **kwargs)
        if _is_series(variable):
            variable.proxy.node.meta[_STORAGE] = True
        return variable

    return classmethod(from_tensor_var)


def _refusing(original: Any) -> Any:
    proxies = private("torch.fx.Proxy")
    refuse = private("torch._dynamo.exc.unimplemented")

    def create_proxy(
        self: Any, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **named: Any
    ) -> Any:
        def check(leaf: Any) -> None:
            if isinstance(leaf, proxies) and _STORAGE in leaf.node.meta:
                name = target if isinstance(target, str) else getattr(target, "__name__", target)
                refuse(
                    gb_type="A function would lose the coefficients of a TaylorTensor",
                    context=f"{kind} {target}",
                    explanation=f"Dynamo (torch {torch.__version__}) does not call "
                    f"__torch_function__ for {name} of a TaylorTensor, and would lose its "
                    "coefficients (taylortorch.UnsupportedFunction).",
                    hints=["Write it with functions of torch: torch.abs(x) for abs(x)."],
                )

        # into slices too, which a pytree takes for leaves
        torch.fx.node.map_aggregate((args, kwargs), check)
        return original(self, kind, target, args, kwargs, *rest, **named)

    return create_proxy


def _why_not() -> str:
    return "; ".join(MISSING) or failing()


WHY_NOT_COMPILED.append(_why_not)

_VARIABLES = "torch._dynamo.variables"
_SERIES = f"{_VARIABLES}.torch_function.TensorWithTFOverrideVariable"
_change = functools.partial(Change, when="torch._dynamo")

CHANGES = (
    _change(
        f"{_VARIABLES}.builtin.BuiltinVariable.call_function",
        _builtins,
        "abs(x), pow(x, 2), operator.setitem act on the storage of a series made in a trace; x @ a "
        "becomes a @ x",
    ),
    _change(
        f"{_SERIES}.mp_ass_subscript_impl",
        _assigned,
        "so does x[i] = v, from torch 2.14 on",
        optional=True,
    ),
    _change(f"{_SERIES}.unpack_var_sequence", _unpacked, "so does a, b = x"),
    _change(
        f"{_VARIABLES}.user_defined.UserDefinedObjectVariable.unpack_var_sequence",
        _unpacked,
        "torch 2.10 does not find the rows of a series that is passed in",
    ),
    _change(
        f"{_SERIES}.from_tensor_var",
        _marked,
        "anything else of that kind would give a number: the storage is marked here",
    ),
    _change(
        "torch._dynamo.output_graph.SubgraphTracer.create_proxy",
        _refusing,
        "and what reads it is refused there",
    ),
    _change(
        f"{_VARIABLES}.torch_function._flatten_vts",
        _in_tuples,
        "series in tuples of arguments are not found",
    ),
)
