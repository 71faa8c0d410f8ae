"""The calls that a rule is checked with: made of what the user gives, filled, called and named."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch

from ..engine.samples import Sample, T


class _Given(T):
    """A tensor of a sample that stands for itself."""

    def __init__(self, tensor: torch.Tensor) -> None:
        super().__init__(tuple(tensor.shape))
        object.__setattr__(self, "tensor", tensor.detach().clone())

    def draw(self, generator: torch.Generator) -> torch.Tensor:
        return self.tensor.clone()  # type: ignore[attr-defined]


def as_samples(given: Any) -> list[Sample]:
    """What the user gives as samples; tensors in them stand for themselves."""
    if isinstance(given, (str, torch.Tensor, Sample)):
        raise TypeError(
            "taylortorch.testing.check_rule takes a list of samples, each a tuple of arguments: "
            "check_rule(f, [(x, y)])"
        )
    samples = [as_sample(sample) for sample in given]
    if not samples:
        raise TypeError("taylortorch.testing.check_rule: no samples, so nothing would be checked")
    return samples


def as_sample(given: Any) -> Sample:
    """One sample call, from a call or a tuple of arguments."""
    if isinstance(given, Sample):
        if tensors_in((given.args, tuple(given.kwargs.values()))):
            return given
        kwargs = {name: _pinned(a) for name, a in given.kwargs.items()}
        return Sample(_pinned(given.args), kwargs)
    if isinstance(given, torch.Tensor):
        given = (given,)
    if not isinstance(given, tuple):
        raise TypeError(
            "taylortorch.testing.check_rule: a sample is a tuple of arguments, or "
            f"taylortorch.testing.call(...), got {type(given).__name__}"
        )
    return Sample(_pinned(given))


def _pinned(tree: Any) -> Any:
    if is_differentiable(tree):
        return _Given(tree)
    if type(tree) in (list, tuple):
        return type(tree)(_pinned(item) for item in tree)
    return tree


def is_differentiable(x: Any) -> bool:
    """Whether ``x`` is a tensor that has derivatives."""
    return isinstance(x, torch.Tensor) and (x.is_floating_point() or x.is_complex())


def tensors_in(tree: Any) -> list[T]:
    """The tensors of a sample that can be series."""
    if isinstance(tree, T):
        return [tree]
    if isinstance(tree, (list, tuple)):
        return [found for item in tree for found in tensors_in(item)]
    return []


def filled(tree: Any, values: Any) -> Any:
    """The arguments with the next of ``values`` in the place of each ``T``."""
    if isinstance(tree, T):
        return next(values)
    if isinstance(tree, list):
        return [filled(item, values) for item in tree]
    if type(tree) is tuple:
        return tuple(filled(item, values) for item in tree)
    return tree


def outputs_of(result: Any) -> list[torch.Tensor]:
    """The differentiable tensors among the results that have entries."""
    items = result if isinstance(result, (tuple, list)) else [result]
    return [o for o in items if is_differentiable(o) and o.numel()]


def invoke(function: Any, sample: Sample, values: Sequence[Any]) -> list[torch.Tensor]:
    """The differentiable results of a sample's call, with ``values`` for its tensors."""
    stream = iter(values)
    args = filled(sample.args, stream)
    kwargs = {name: filled(a, stream) for name, a in sample.kwargs.items()}
    return outputs_of(function(*args, **kwargs))


def subsets(count: int) -> list[tuple[int, ...]]:
    """Which of ``count`` tensors are series: every choice, or each alone and all of many."""
    indices = range(count)
    every = [s for r in range(1, count + 1) for s in itertools.combinations(indices, r)]
    return every if count <= 3 else [(i,) for i in indices] + [tuple(indices)]


def labels(tree: Any, prefix: str, names: Sequence[str]) -> list[str]:
    """What to call the tensors of a sample."""
    if isinstance(tree, T):
        return [prefix]
    if not isinstance(tree, (list, tuple)):
        return []
    found = []
    for n, item in enumerate(tree):
        here = f"{prefix}[{n}]"
        if not prefix:
            here = f"argument {n + 1}" + (f", {names[n]}" if n < len(names) else "")
        found += labels(item, here, names)
    return found


def shown(tree: Any) -> str:
    """A sample's arguments as text, tensors by dtype and shape."""
    if isinstance(tree, T):
        tree = tree.draw(torch.Generator())
    if isinstance(tree, torch.Tensor):
        return f"{str(tree.dtype).removeprefix('torch.')}{list(tree.shape)}"
    if isinstance(tree, (list, tuple)):
        inner = ", ".join(map(shown, tree))
        if isinstance(tree, list):
            return f"[{inner}]"
        return f"({inner},)" if len(tree) == 1 else f"({inner})"
    return repr(tree)
