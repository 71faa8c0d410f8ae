"""What is read of torch that torch does not promise: each a capability, missing by name.

No other module reads a private name of torch; ``patches/`` lists those that are changed. What
torch loads late, if ever (Dynamo, fully sharded modules), is looked up by ``private`` when needed.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import torch

_F = TypeVar("_F", bound=Callable[..., Any])


class MissingInTorch(ImportError):
    """This torch lacks something private that taylortorch needs; the message names both."""


def private(path: str) -> Any:
    """The object at a dotted path, such as ``torch._dynamo.exc.unimplemented``.

    Raises:
        MissingInTorch: this torch has nothing there.
    """
    parts = path.split(".")
    found: Any = None
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        break
    for part in parts[length:]:
        found = getattr(found, part, None)
    if found is None:
        raise MissingInTorch(
            f"taylortorch needs {path}, which torch {torch.__version__} does not have: install a "
            "version of torch that it was tested with"
        )
    return found


# --- tensors --------------------------------------------------------------------------------------

make_wrapper = private("torch.Tensor._make_wrapper_subclass")
TENSOR_BASE = private("torch._C.TensorBase")
without_torch_function = private("torch._C.DisableTorchFunctionSubclass")
without_any_torch_function = private("torch._C.DisableTorchFunction")
share_memory = private("torch._C._is_alias_of")
_uses_of = private("torch._C._storage_Use_Count")


def is_shared(storage: torch.UntypedStorage) -> bool:
    """Whether more than the tensor that was asked for this storage uses it."""
    return _uses_of(storage._cdata) > 2


def base_of(x: torch.Tensor) -> torch.Tensor | None:
    """The tensor that autograd knows ``x`` to be a view of."""
    return x._base


def version_of(x: torch.Tensor) -> int:
    """How often ``x``, or what shares its memory, was written to."""
    return x._version


# --- functions and operators ----------------------------------------------------------------------

NN = private("torch._C._nn")
FUNCTIONS = private("torch._C._VariableFunctions")
# where functions written in C++ lie, and what a user finds them by
SPACES = (("torch._C._nn", NN), ("torch._C._VariableFunctions", FUNCTIONS))
OPERATOR, OVERLOADS = private("torch._ops.OpOverload"), private("torch._ops.OpOverloadPacket")
OPERATOR_TYPES = (OPERATOR, OVERLOADS)
SCRIPT_METHOD = private("torch._C.ScriptMethod")
has_kernel = private("torch._C._dispatch_has_kernel_for_dispatch_key")
_definition_of = private("torch._library.custom_ops._maybe_get_opdef")
several_handles = private("torch.autograd.graph._MultiHandle")
pack_padded_sequence = private("torch._VF._pack_padded_sequence")
pad_packed_sequence = private("torch._VF._pad_packed_sequence")


def arguments_of(operator: Any) -> Any:
    """The arguments in an operator's schema."""
    return operator._schema.arguments


def formula_of(operator: Any) -> bool | None:
    """Whether a custom operator was given a gradient; None where it is no custom operator."""
    definition = _definition_of(operator)
    return None if definition is None else definition._backward_fn is not None


def entries_of(mask: Any, device: Any) -> Any:
    """An attention mask; one that is given by its shape alone (``CausalBias``) written out."""
    return mask._materialize(device) if hasattr(mask, "_materialize") else mask


# --- transforms, trees, forward mode --------------------------------------------------------------

innermost_transform = private("torch._C._functorch.peek_interpreter_stack")
is_transformed = private("torch._C._functorch.is_functorch_wrapped_tensor")
is_batched = private("torch._C._functorch.is_batchedtensor")
unwrapped = private("torch._C._functorch.get_unwrapped")

TreeSpec = private("torch.utils._pytree.TreeSpec")
tree_flatten = private("torch.utils._pytree.tree_flatten")
tree_unflatten = private("torch.utils._pytree.tree_unflatten")
register_pytree_node = private("torch.utils._pytree.register_pytree_node")

_forward_ad = private("torch.autograd.forward_ad")


def in_forward_mode() -> bool:
    """Whether forward-mode differentiation is under way."""
    return _forward_ad._current_level >= 0


# --- Dynamo ---------------------------------------------------------------------------------------

_frames = private("torch._C._dynamo.eval_frame")
_skip = private("torch._C._dynamo.eval_frame._FrameAction").SKIP


def untraced(function: _F) -> _F:
    """Keep Dynamo from compiling this function, or what it calls, as a piece of its own."""
    strategy = _frames._FrameExecStrategy(_skip, _skip)
    _frames.set_code_exec_strategy(function.__code__, strategy)
    return function


def disabled_in_traces(function: _F) -> _F:
    """Have Dynamo call this function as it is, where its graph ends."""
    function._torchdynamo_disable = True  # type: ignore[attr-defined]
    return function


def constant_in_traces(function: _F) -> _F:
    """Have Dynamo call this function while it traces, and take its result for a constant."""
    # what torch.compiler.assume_constant_result does; that imports all of Dynamo first, which
    # takes longer than the rest of torch
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


WHY_NOT_COMPILED: list[Callable[[], str]] = []
"""Asked when a series is made in a trace: what of Dynamo is not as it must be; empty if nothing."""


@constant_in_traces
def why_not_compiled() -> str:
    """Why no series can be made in a trace on this torch; empty where it can."""
    return next(filter(None, (ask() for ask in WHY_NOT_COMPILED)), "")


def dynamo_is_loaded() -> bool:
    """Whether anything can have been compiled yet."""
    return "torch._dynamo" in sys.modules


def can_compile() -> bool:
    """Whether Dynamo works with this Python."""
    return private("torch._dynamo.is_dynamo_supported")()
