"""The wrapper: ``TaylorTensor``, how it is made, read, and how it meets torch.

It knows no function by name and no rule: ``__torch_function__`` looks the function up in
``registry.RULES`` and passes the call on. Two classes share the name. ``TaylorTensor`` is what
``torch.compile`` traces; ``Guarded``, its subclass without storage, is what everything in eager
mode is made of, and its ``__torch_dispatch__`` turns every read that C++ attempts into an error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from ..algebra import memo
from ..algebra.indices import factorial
from ..algebra.streams import Stream
from ..algebra.structures import LINE, Bundle, Collapsed, Multivariate, Structure
from .private import make_wrapper, untraced, why_not_compiled, without_torch_function
from .registry import LEAKS, UnsupportedFunction, name_of, refusal, rule_for

_SPARSE = {
    torch.sparse_coo,
    torch.sparse_csr,
    torch.sparse_csc,
    torch.sparse_bsr,
    torch.sparse_bsc,
}


# Dynamo alone: torch.export runs this code as it is, on tensors without numbers
_compiling = torch.compiler.is_dynamo_compiling
memo.tracing = torch.compiler.is_compiling

_graph_node: Any = torch.Tensor.grad_fn.__get__  # type: ignore[union-attr]


# names that torch takes as aliases, for those who come from numpy
_NUMPY_NAMES = {"axis": "dim", "keepdims": "keepdim"}


class _Seal:
    """The last attribute set on a traced TaylorTensor: in eager mode it makes the tensor guarded.

    A compiled function rebuilds its result by ``as_subclass(TaylorTensor)`` and then sets the
    attributes. That tensor has storage, which C++ would read; setting the seal swaps it, in place,
    for a guarded one with the same blocks.
    """

    def __get__(self, instance: Any, owner: Any = None) -> None:
        return None

    @untraced
    def __set__(self, instance: Any, value: Any) -> None:
        # its own shape, since blocks that are TaylorTensors may not have their attributes yet
        with without_torch_function():
            guarded = _guarded(instance)
        vars(guarded).update(vars(instance))
        become(instance, guarded)


class TaylorTensor(torch.Tensor):
    r"""A truncated Taylor series of tensors that passes through torch functions as a tensor does.

    Along a direction ``v`` the input is ``x(t) = x_0 + v t``; a function ``f`` of it becomes
    ``f(x(t)) = c_0 + c_1 t + ... + c_K t^K`` with ``c_k = (1/k!) d^k/dt^k f(x(t))`` at ``t = 0``.

    Args:
        value: ``x_0``, a floating-point or complex tensor. A TaylorTensor opens a level above its
            own: the new series is expanded in a variable of its own.
        direction: ``v``, a tensor that broadcasts to the shape of ``value``. Default: ones, so that
            elementwise functions of ``value`` give their ordinary derivatives.
        directions: R directions sharing one value, shape ``(R, *value.shape)``; an axis of size 1
            stands for a direction that is the same along that axis.
        order: K, the highest degree kept. Default 2.
        weights: with ``directions``: keep of degree K only the sum over directions with these
            weights, shape ``(R,)``, or a number for all. The Laplacian of ``f: R^D -> R`` is
            ``2 y.coeffs[2]`` for D unit directions, order 2 and weights 1.

    Raises:
        TypeError: ``value`` is not a floating-point or complex tensor, or ``order`` not an int.
        ValueError: a negative order, or a direction of another shape, dtype or device.

    Source: Griewank & Walther, *Evaluating Derivatives*, 2nd ed. (2008), section 13.1.

    >>> import torch, taylortorch as tt
    >>> y = tt.TaylorTensor(torch.tensor([0.0, 1.0]), order=3) ** 3
    >>> [d.tolist() for d in y.derivatives]
    [[0.0, 1.0], [0.0, 3.0], [0.0, 6.0], [6.0, 6.0]]
    """

    _blocks: Sequence[Any]
    _structure: Structure
    _level: int
    _view: tuple[Any, ...] | None = None
    _writes: int = 0
    _variable: Any = None
    _viewed: bool = False
    _sealed = _Seal()
    # numpy scalars on the left of an operator leave the operation to the TaylorTensor
    __array_ufunc__ = None

    @staticmethod
    def __new__(
        cls: type,
        value: torch.Tensor,
        direction: torch.Tensor | None = None,
        *,
        directions: torch.Tensor | None = None,
        order: int = 2,
        weights: torch.Tensor | float | None = None,
    ) -> TaylorTensor:
        check_value(value, "TaylorTensor")
        check_order(order)
        if direction is not None and directions is not None:
            raise ValueError("TaylorTensor takes direction= or directions=, not both")
        structure: Structure = LINE
        if directions is None:
            if weights is not None:
                raise ValueError("TaylorTensor: weights= go with directions=")
            ones = (1,) * value.ndim
            if direction is None:
                seed = value.new_ones(ones)
            else:
                _check_direction(direction, value, value.shape, "direction")
                seed = direction.reshape(ones[direction.ndim :] + tuple(direction.shape))
        else:
            seed = directions
            if not isinstance(seed, torch.Tensor) or seed.ndim != value.ndim + 1:
                raise ValueError(
                    f"TaylorTensor: directions must have shape (R, *{tuple(value.shape)}), "
                    f"got {_shape_of(seed)}; an axis of size 1 is a direction that is the same "
                    "along it"
                )
            count = seed.shape[0]
            _check_direction(seed, value, (count, *value.shape), "directions")
            structure = Bundle(count)
            if weights is not None and order > 0:
                structure = Collapsed(count, order, _check_weights(weights, seed))
        first = seed
        if type(structure) is Collapsed and order == 1:
            first = structure.collapse(seed)
        blocks = (value, first)[: order + 1] + (None,) * (order - 1)
        return wrap(blocks, structure, level_over(value))

    @classmethod
    def from_coeffs(cls, coeffs: Sequence[torch.Tensor]) -> TaylorTensor:
        """The series ``c_0 + c_1 t + ... + c_K t^K`` of the given coefficients, all of one shape.

        Raises:
            ValueError: an empty sequence, or coefficients of different shapes, dtypes or devices.
            TypeError: a coefficient that is not a floating-point or complex tensor.

        >>> import torch, taylortorch as tt
        >>> x = tt.TaylorTensor.from_coeffs([torch.tensor(c) for c in (1.0, 2.0, 3.0)])
        >>> [float(c) for c in (x * x).coeffs]  # (1 + 2 t + 3 t^2)^2
        [1.0, 4.0, 10.0]
        """
        blocks = tuple(coeffs)
        if not blocks:
            raise ValueError("TaylorTensor.from_coeffs needs at least one coefficient, got none")
        for k, block in enumerate(blocks):
            check_value(block, f"TaylorTensor.from_coeffs: coefficient {k}")
            for what in ("shape", "dtype", "device"):
                if getattr(block, what) != getattr(blocks[0], what):
                    raise ValueError(
                        f"TaylorTensor.from_coeffs: coefficient {k} has {what} "
                        f"{getattr(block, what)}, coefficient 0 has {getattr(blocks[0], what)}"
                    )
        return wrap(blocks, LINE, max(level_over(block) for block in blocks))

    @property
    def value(self) -> torch.Tensor:
        """``c_0``, the primal value: what the model computes without any derivatives."""
        settle(self)
        return self._blocks[0]

    @property
    def order(self) -> int:
        """K, the highest degree kept."""
        return len(self._blocks) - 1

    @property
    def coeffs(self) -> tuple[torch.Tensor, ...]:
        """The Taylor coefficients ``c_0 ... c_K``, ``K + 1`` tensors.

        ``coeffs[0]`` has the value's shape; ``coeffs[k]`` has the value's shape for a line,
        ``(R, *shape)`` for R directions (the value's shape at a collapsed degree K), and
        ``(n_k, *shape)`` for several variables, in the order of ``multi_indices[k]``.
        """
        settle(self)
        return tuple(full(self, k) for k in range(len(self._blocks)))

    @property
    def derivatives(self) -> tuple[torch.Tensor, ...]:
        """The coefficients scaled to derivatives: ``k! c_k`` along a direction, ``a! c_a`` for a
        multi-index ``a``. Shapes as ``coeffs``."""
        structure = self._structure
        if not isinstance(structure, Multivariate):
            return tuple(c * math.factorial(k) if k > 1 else c for k, c in enumerate(self.coeffs))
        result = []
        for k, c in enumerate(self.coeffs):
            scales = [factorial(a) for a in structure.indices[k]]
            if k > 1:
                c = c * c.new_tensor(scales).reshape((-1,) + (1,) * (c.ndim - 1))
            result.append(c)
        return tuple(result)

    @property
    def multi_indices(self) -> tuple[tuple[tuple[int, ...], ...], ...]:
        """The multi-indices of each degree, in the order of ``coeffs[k]``; only for a series in
        several variables.

        Raises:
            AttributeError: the series is a line or a bundle of directions.
        """
        if not isinstance(self._structure, Multivariate):
            raise AttributeError(
                "multi_indices belong to a series made by taylortorch.variables; "
                f"this one is a {self._structure.describe()}"
            )
        return self._structure.indices

    def at(self, *offsets: Any) -> torch.Tensor:
        """The value of the Taylor polynomial away from the point of expansion, by Horner's rule.

        Args:
            offsets: for a line, and for R directions, one: ``t`` of ``c_0 + c_1 t + ...``. For
                several variables one for each coordinate: ``h`` of ``sum of c_a h^a``. A number or
                a tensor that broadcasts with ``coeffs[1]``: offsets of shape ``(7, 1, 1)`` give
                the values of a series of shape ``(5, 3)`` at seven places, ``(7, 5, 3)``.

        Returns:
            A tensor of the value's shape, ``(R, *shape)`` for R directions, broadcast with the
            offsets. A TaylorTensor where the coefficients or the offsets are TaylorTensors.

        Raises:
            TypeError: another number of offsets than the series has coordinates.
            ValueError: a collapsed series, which has no polynomial.

        >>> import torch, taylortorch as tt
        >>> y = torch.exp(tt.TaylorTensor(torch.tensor(0.0, dtype=torch.float64), order=15))
        >>> y.at(1.0)
        tensor(2.7183, dtype=torch.float64)
        """
        settle(self)
        result = run(self._structure.evaluate, self._blocks, offsets)
        lead = self._structure.leads(1) and not isinstance(self._structure, Multivariate)
        shape = full_shape(self, 1) if lead else self._blocks[0].shape
        places = (x.shape for x in offsets if isinstance(x, torch.Tensor))
        shape = torch.broadcast_shapes(shape, *places)
        return result if result.shape == shape else run(torch.broadcast_to, result, tuple(shape))

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        rule = rule_for(func)
        if rule is None:
            raise refusal(func)
        if kwargs:
            if kwargs.get("out") is not None:
                raise UnsupportedFunction(
                    f"{name_of(func)}(out=...) would write the value and lose the coefficients: "
                    "use the returned TaylorTensor"
                )
            kwargs = {_NUMPY_NAMES.get(n, n): a for n, a in kwargs.items() if n != "out"}
        if _compiling() and nested((args, kwargs)):
            return run(rule, func, args, kwargs or {})
        return rule(func, args, kwargs or {})


class Guarded(TaylorTensor):
    """A TaylorTensor without storage: what cannot be followed raises instead of reading it."""

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        raise UnsupportedFunction(
            f"a TaylorTensor reached C++ code ({func}) that would read its value and lose its "
            f"coefficients: {LEAKS.get(func.name().split('.')[0], _LIKELY_DEFAULT)}. "
            "Use x.value (or x.detach()) where no derivative is needed."
        )


Guarded.__name__ = Guarded.__qualname__ = "TaylorTensor"


# libraries that choose their back end by the module of a tensor's class take it for torch's
Guarded.__module__ = "torch"


_LIKELY_DEFAULT = (
    "a C++ operator, a custom autograd.Function, a scripted function or a backward hook was called "
    "on it; taylortorch.register_rule gives such a function a rule"
)


class Redispatch(TorchFunctionMode):
    """Under ``torch.compile``, torch functions called by a rule on TaylorTensors find their rules.

    Dynamo switches ``__torch_function__`` of subclasses off while it traces one; eager mode does
    not, and never needs this.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        # Dynamo does not always fill in ``types``
        if flatten((args, kwargs), []):
            return TaylorTensor.__torch_function__(func, types, args, kwargs)
        return func(*args, **(kwargs or {}))


def run(body: Any, *args: Any, **kwargs: Any) -> Any:
    """Call torch code on TaylorTensors from within a rule."""
    if _compiling():
        with Redispatch():
            return body(*args, **kwargs)
    return body(*args, **kwargs)


def nested(arguments: Any) -> bool:
    """Whether blocks of these arguments are TaylorTensors themselves."""
    return any(x._level > 0 for x in flatten(arguments, []))


# --- making one ---------------------------------------------------------------------------------


def wrap(blocks: Any, structure: Structure, level: int) -> TaylorTensor:
    """The TaylorTensor of these blocks, an iterable or a stream."""
    if type(blocks) is not Stream:
        blocks = tuple(blocks)
    value = blocks[0]
    compiling = _compiling()
    if compiling:
        if reason := why_not_compiled():
            raise UnsupportedFunction(
                f"torch.compile of a TaylorTensor with torch {torch.__version__} would lose "
                f"coefficients: {reason}. Call it without torch.compile"
            )
        plain = innermost(value)
        # NaN, so that a read the trace cannot see is never a plausible number
        fill = plain.new_full((), math.nan).expand(plain.shape)
        result = fill.as_subclass(TaylorTensor)
    else:
        if not isinstance(value, TaylorTensor) and value.layout in _SPARSE:
            raise UnsupportedFunction(
                f"an operation on a TaylorTensor gave a sparse result ({value.layout}), and a "
                "series is dense: multiply by a sparse matrix with @ or torch.sparse.mm, whose "
                "result is dense, or use .to_dense() first"
            )
        result = _guarded(value)
    result._blocks = blocks
    result._structure = structure
    result._level = level
    if compiling:
        # Dynamo does not find the defaults in the class
        result._view = None
        result._writes = 0
        result._variable = None
        result._viewed = False
        result._sealed = True
    return result


def _guarded(like: torch.Tensor) -> TaylorTensor:
    # a leaf that requires grad: whatever leaves a graph node on it has escaped the rules
    return make_wrapper(
        Guarded, like.shape, dtype=like.dtype, device=like.device, requires_grad=True
    )


def become(target: torch.Tensor, other: torch.Tensor) -> None:
    """Make the Python object ``target`` the tensor that ``other`` is."""
    with without_torch_function():
        torch.utils.swap_tensors(target, other)


def check_value(value: Any, who: str) -> None:
    """Raise unless ``value`` is a tensor that has derivatives."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(
            f"{who} must be a tensor, got {type(value).__name__}: use torch.as_tensor(x)"
        )
    if value.layout in _SPARSE:
        raise TypeError(f"{who} must be a dense tensor, got {value.layout}: use x.to_dense()")
    if not (value.is_floating_point() or value.is_complex()):
        raise TypeError(
            f"{who} must be a floating-point or complex tensor, got {value.dtype}: "
            "use x.to(torch.get_default_dtype())"
        )


def check_order(order: Any) -> None:
    """Raise unless ``order`` is an int >= 0."""
    if isinstance(order, bool) or not isinstance(order, (int, torch.SymInt)):
        raise TypeError(f"order must be an int, got {type(order).__name__}")
    if order < 0:
        raise ValueError(f"order must be >= 0, got {order}")


def _check_direction(seed: Any, value: torch.Tensor, shape: Sequence[int], name: str) -> None:
    if isinstance(seed, int):
        raise TypeError(
            f"TaylorTensor: {name} must be a tensor, got {type(seed).__name__}; the order is given "
            "by name: TaylorTensor(x, order=2)"
        )
    check_value(seed, f"TaylorTensor: {name}")
    fits = seed.ndim <= len(shape) and all(
        a == b or a == 1 for a, b in zip(reversed(seed.shape), reversed(tuple(shape)), strict=False)
    )
    if not fits:
        raise ValueError(
            f"TaylorTensor: {name} of shape {tuple(seed.shape)} does not fit "
            f"a value of shape {tuple(value.shape)}"
        )
    for what in ("dtype", "device"):
        if getattr(seed, what) != getattr(value, what):
            raise ValueError(
                f"TaylorTensor: {name} has {what} {getattr(seed, what)}, "
                f"the value {getattr(value, what)}"
            )


def _check_weights(weights: Any, seed: torch.Tensor) -> torch.Tensor | float:
    if isinstance(weights, (int, float)):
        return weights
    if not isinstance(weights, torch.Tensor) or weights.shape != (seed.shape[0],):
        raise ValueError(
            f"TaylorTensor: weights must have shape ({seed.shape[0]},), got {_shape_of(weights)}"
        )
    return weights


def _shape_of(x: Any) -> Any:
    return tuple(x.shape) if isinstance(x, torch.Tensor) else type(x).__name__


def level_over(x: Any) -> int:
    return x._level + 1 if isinstance(x, TaylorTensor) else 0


# --- reading one --------------------------------------------------------------------------------


def settle(x: TaylorTensor) -> None:
    """Make sure that the blocks of ``x`` are what they should be, or raise.

    A view follows what was written through its base; a graph node on the wrapper itself means that
    a custom ``autograd.Function`` (a backward hook, a reentrant checkpoint) ran on it without
    autograd recording the coefficients.
    """
    if not _compiling():
        with without_torch_function():
            node = _graph_node(x)
        if node is not None:
            raise UnsupportedFunction(
                f"a TaylorTensor passed through {node.name().removesuffix('Backward')}, a custom "
                "autograd.Function, a full backward hook or a reentrant checkpoint, which lost the "
                "gradients of its coefficients: register a rule for the Function with "
                "taylortorch.register_rule, use hooks on parameters, or "
                "checkpoint(..., use_reentrant=False)"
            )
    if x._view is not None:
        base, replay, seen = x._view
        settle(base)
        if base._writes != seen:
            fresh = run(replay, base)
            x._blocks, x._structure = fresh._blocks, fresh._structure
            x._view = (base, replay, base._writes)
            x._writes += 1


def innermost(x: Any) -> Any:
    """The value below all levels; anything but a TaylorTensor as it is."""
    while isinstance(x, TaylorTensor):
        x = x.value
    return x


def full_shape(x: TaylorTensor, k: int) -> tuple[int, ...]:
    """The shape of block ``k`` of ``x`` when it is expanded over the whole value."""
    shape = x._blocks[0].shape
    return (x._structure.size(k), *shape) if x._structure.leads(k) else shape


def full(x: TaylorTensor, k: int) -> torch.Tensor:
    """Block ``k`` of ``x`` as a tensor of its full shape, structural zeros included."""
    value, block = x._blocks[0], x._blocks[k]
    shape = full_shape(x, k)
    if block is None:
        return value.new_zeros(shape)
    if block.dtype != value.dtype:
        block = block.to(value.dtype)
    return block if block.shape == shape else block.expand(shape)


def flatten(tree: Any, found: list[TaylorTensor]) -> list[TaylorTensor]:
    """Append the TaylorTensors in nested lists, tuples and dicts of arguments to ``found``."""
    if isinstance(tree, TaylorTensor):
        found.append(tree)
    elif isinstance(tree, (list, tuple)):
        for item in tree:
            flatten(item, found)
    elif isinstance(tree, dict):
        for item in tree.values():
            flatten(item, found)
    return found
