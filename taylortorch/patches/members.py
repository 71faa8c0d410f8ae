"""The members of ``torch.Tensor`` as Python methods and properties of the guarded class.

Only Dynamo needs them. It takes a tensor whose class has a ``__torch_dispatch__`` for any Python
object: passed into a compiled function, it has the methods and operators that Dynamo can read.
"""

from __future__ import annotations

import types
from collections.abc import Hashable, MutableMapping
from typing import Any

import torch

from ..engine.private import TENSOR_BASE
from ..engine.tensor import Guarded, TaylorTensor, run


def give_members(rules: MutableMapping[Any, Any]) -> None:
    """Write the members of ``torch.Tensor`` that have a rule into the guarded class."""
    for base in (torch.Tensor, TENSOR_BASE):
        for name, member in vars(base).items():
            if name in vars(Guarded) or name in vars(TaylorTensor):
                continue
            if isinstance(member, Hashable) and member in rules:
                method = _method(member)
                setattr(Guarded, name, method)
                # some C++ code looks the function up in the class of its argument
                rules[method] = _calling(method)
                if isinstance(member, types.FunctionType):
                    # Dynamo reads a method that torch wrote in Python as an attribute
                    rules[member.__get__] = _bound(member)
            elif hasattr(member, "__set__") and member.__get__ in rules:
                setattr(Guarded, name, _property(member, rules[member.__get__]))


def _method(member: Any) -> Any:
    def method(*args: Any, **kwargs: Any) -> Any:
        return TaylorTensor.__torch_function__(member, (), args, kwargs)

    return method


def _bound(member: Any) -> Any:
    def method_of(func: Any, args: tuple, kwargs: dict) -> Any:
        return lambda *rest, **named: TaylorTensor.__torch_function__(
            member, (), (*args, *rest), named
        )

    return method_of


def _calling(method: Any) -> Any:
    return lambda func, args, kwargs: method(*args, **kwargs)


def _property(member: Any, rule: Any) -> property:
    # the rule, not its key: Dynamo finds no getter among the keys of a dict
    return property(
        lambda x: run(rule, member.__get__, (x,), {}),
        lambda x, value: TaylorTensor.__torch_function__(member.__set__, (), (x, value)),
    )
