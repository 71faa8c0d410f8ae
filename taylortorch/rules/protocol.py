"""What Python, numpy and autograd ask of a tensor.

A series of order 0 has nothing to lose: ``float``, ``item``, ``numpy`` and ``backward`` act on its
value. Above order 0 they raise, and say what to do instead.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch

from ..algebra.structures import Structure
from ..engine.kinds import attribute, value
from ..engine.private import several_handles
from ..engine.registry import UnsupportedFunction, add_rule, claim, name_of, resolve
from ..engine.samples import call, t
from ..engine.tensor import TaylorTensor, flatten, full, run, settle, wrap


def _on_value(what: str) -> Callable:
    """On the values of series of order 0; above, an error."""

    def evaluate(func: Callable, args: tuple, kwargs: dict) -> Any:
        for x in flatten((args, kwargs), []):
            settle(x)
            if x.order > 0:
                raise UnsupportedFunction(
                    f"{name_of(func)} of a TaylorTensor of order {x.order} would lose its "
                    f"coefficients: use x.value{what} for the value, x.coeffs[k] or "
                    "x.derivatives[k] for the others"
                )
        return value(func, args, kwargs)

    return evaluate


LEAVING = {
    "item": ".item()",
    "tolist": ".tolist()",
    "numpy": ".numpy()",
    "__array__": ".numpy()",
    "__float__": "",
    "__int__": "",
    "__index__": "",
    "__complex__": "",
    "__long__": "",
    "backward": ".backward()",
    "autograd.grad": "",
    "autograd.backward": "",
}
for name, what in LEAVING.items():
    if "." in name or hasattr(torch.Tensor, name):
        add_rule(name, "value", "of a series of order 0", _on_value(what), [])


def _rows(func: Callable, args: tuple, kwargs: dict) -> Any:
    # torch's own does not ask for a rule; Dynamo asks on its behalf
    if args[0].ndim == 0:
        raise TypeError("iteration over a 0-d tensor")
    return iter(run(torch.unbind, args[0]))


def _length(func: Callable, args: tuple, kwargs: dict) -> int:
    if args[0].ndim == 0:
        raise TypeError(
            "len() of a 0-d TaylorTensor. torch.tensor([...]) and torch.as_tensor([...]) ask for "
            "it, and can read plain numbers only: put series together with torch.stack([...])"
        )
    return attribute(func, args, kwargs)


add_rule("__len__", "value", "of c_0", _length, [call(t(2, 3))])


def _detach(func: Callable, args: tuple, kwargs: dict) -> Any:
    """The value without its series, and without gradients: an explicit way to drop both."""
    return args[0].value.detach()


def _detach_copy(func: Callable, args: tuple, kwargs: dict) -> Any:
    return args[0].value.detach().clone()


add_rule("detach", "value", "drops the series", _detach, [call(t(2, 3))])
add_rule("detach_copy", "value", "drops the series", _detach_copy, [call(t(2, 3))])


def _requires_grad(func: Callable, args: tuple, kwargs: dict) -> bool:
    return any(block is not None and block.requires_grad for block in args[0]._blocks)


def _require_grad(func: Callable, args: tuple, kwargs: dict) -> Any:
    x, *rest = args
    x._blocks[0].requires_grad_(*rest, **kwargs)
    return x


def _grad_fn(func: Callable, args: tuple, kwargs: dict) -> Any:
    """That of the value; of the first coefficient that has one where the value has none."""
    settle(args[0])
    nodes = (block.grad_fn for block in args[0]._blocks if block is not None)
    return next((node for node in nodes if node is not None), None)


def _register_hook(func: Callable, args: tuple, kwargs: dict) -> Any:
    """A hook that watches the gradient of each coefficient, and cannot replace it."""
    x, hook = args
    settle(x)

    def watch(grad: torch.Tensor) -> None:
        result = hook(grad)
        if result is not None and result is not grad:
            raise UnsupportedFunction(
                f"{name_of(func)}: a hook on a TaylorTensor sees the gradient of each coefficient "
                "and cannot replace it: to replace it, call register_hook on x.value or on "
                "x.coeffs[k]"
            )

    reached = [block for block in x._blocks if block is not None and block.requires_grad]
    if not reached:
        raise UnsupportedFunction(
            f"{name_of(func)}: no coefficient of this TaylorTensor requires a gradient; gradients "
            "belong to its coefficients, on x.value or on x.coeffs[k]"
        )
    return several_handles(tuple(block.register_hook(watch) for block in reached))


def _is_leaf(func: Callable, args: tuple, kwargs: dict) -> bool:
    return all(block is None or block.is_leaf for block in args[0]._blocks)


def _repr(func: Callable, args: tuple, kwargs: dict) -> str:
    """Readable: the kind of series, then each coefficient as torch prints it."""
    x = args[0]
    settle(x)
    head = f"TaylorTensor(order={x.order}, {x._structure.describe()}, shape={tuple(x.shape)}"
    if x._level:
        head += f", level={x._level}"
    lines = [f"{head}, dtype={x.dtype})"]
    for k, block in enumerate(x._blocks):
        text = "0 (structural zero)" if block is None else repr(full(x, k))
        lines.append(f"  c_{k} = {text}".replace("\n", "\n        "))
    return "\n".join(lines)


def _format(func: Callable, args: tuple, kwargs: dict) -> str:
    x, spec = args[0], args[1] if len(args) > 1 else kwargs.get("format_spec", "")
    if x.order == 0:
        return format(x.value, spec)
    if spec:
        raise UnsupportedFunction(
            f"a TaylorTensor of order {x.order} has no format {spec!r}: format x.value"
        )
    return _repr(func, args, {})


def _deepcopy(func: Callable, args: tuple, kwargs: dict) -> TaylorTensor:
    x, memo = args
    if id(x) not in memo:
        _, (blocks, *rest) = _reduce(func, args, kwargs)
        memo[id(x)] = rebuild(copy.deepcopy(blocks, memo), *rest)
    return memo[id(x)]


def rebuild(
    blocks: tuple, structure: Structure, level: int, variable: tuple[int, int] | None
) -> TaylorTensor:
    """The TaylorTensor that was copied or pickled."""
    result = wrap(blocks, structure, level)
    result._variable = variable
    return result


def _reduce(func: Callable, args: tuple, kwargs: dict) -> tuple:
    x = args[0]
    settle(x)
    variable = None if x._writes else x._variable
    return rebuild, (x._blocks, x._structure, x._level, variable)


def _of_base(func: Callable, args: tuple, kwargs: dict) -> Any:
    view = args[0]._view
    return view and view[0]


def _is_view(func: Callable, args: tuple, kwargs: dict) -> bool:
    return args[0]._view is not None


def _writes(func: Callable, args: tuple, kwargs: dict) -> int:
    return args[0]._writes


def _none(func: Callable, args: tuple, kwargs: dict) -> None:
    return None


# a name with a dot in front is that of an attribute
MEMBERS: dict[str, Callable] = {
    ".requires_grad": _requires_grad,
    ".grad_fn": _grad_fn,
    "._grad_fn": _grad_fn,
    ".is_leaf": _is_leaf,
    ".grad": attribute,
    "._grad": attribute,
    ".retains_grad": attribute,
    "._base": _of_base,
    "._version": _writes,
    "._backward_hooks": _none,
    "._post_accumulate_grad_hooks": _none,
    "Tensor.__iter__": _rows,
    "Tensor._is_view": _is_view,
    "Tensor.requires_grad_": _require_grad,
    "Tensor.register_hook": _register_hook,
    "Tensor.__repr__": _repr,
    "Tensor.__format__": _format,
    "Tensor.__deepcopy__": _deepcopy,
    "Tensor.__reduce_ex__": _reduce,
}
for name, evaluate in MEMBERS.items():
    for member in resolve(name):
        claim(member, evaluate)
