"""``torch.foreach``: the function at each position of lists, by the rule that it has alone.

A list may hold series and plain tensors side by side; what else a function takes is one for all
positions (a number, a tensor), or a list with one for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..engine.registry import Evaluator, add_rule
from ..engine.samples import Sample, call, t
from ..engine.tensor import run

SINCE = "2.15"


def at_each_position(single: Callable, writes: bool = False) -> Evaluator:
    """The evaluator of the function of lists that calls ``single`` at each position.

    What writes returns the list that it was given, as torch does.

    Raises:
        ValueError: lists of different lengths.
    """

    def evaluate(func: Callable, args: tuple, kwargs: dict) -> Any:
        lists = [a for a in (*args, *kwargs.values()) if isinstance(a, (list, tuple))]
        counts = {len(a) for a in lists}
        if len(counts) != 1:
            raise ValueError(f"lists of different lengths: {sorted(counts)}")
        results = [
            run(
                single,
                *(_at(n, a) for a in args),
                **{name: _at(n, a) for name, a in kwargs.items()},
            )
            for n in range(counts.pop())
        ]
        return args[0] if writes else tuple(results)

    return evaluate


def _at(n: int, argument: Any) -> Any:
    if isinstance(argument, torch.Tensor) and argument.ndim == 1:
        # one tensor with the numbers of all positions; a tensor that they share has no axis
        return argument[n].item()
    return argument[n] if isinstance(argument, (list, tuple)) else argument


def _extreme(name: str) -> Callable:
    """Alone, ``maximum`` and ``minimum`` take no numbers."""

    def single(x: Any, other: Any) -> Any:
        if not isinstance(other, torch.Tensor):
            other = torch.full((), other, dtype=x.dtype, device=x.device)
        return getattr(torch, name)(x, other)

    return single


def _extreme_written(name: str) -> Callable:
    """Alone, they have no form in place."""
    single = _extreme(name)
    return lambda x, other: x.copy_(single(x, other))


def _norm(x: Any, ord: Any = 2, dtype: torch.dtype | None = None) -> Any:
    return torch.linalg.vector_norm(x, ord, dtype=dtype)


A, B = t(2, 3), t(4)
SIGNED = [t(2, 3, low=-2, high=2), t(4, low=-2, high=2)]
LISTS = [call([A, B], [A, B])]
NUMBERS = [call([A, B], 0.5), call([A, B], [0.3, 0.6])]
ONE = (
    "abs acos asin atan ceil cos cosh erf erfc exp expm1 floor frac lgamma log log10 log1p log2 "
    "neg reciprocal round rsqrt sigmoid sign sin sinh sqrt tan tanh trunc"
)
DEFINED_BELOW_1 = ("acos", "asin", "lgamma", "log", "log10", "log1p", "log2", "rsqrt", "sqrt")
# the functions at one position, where they are not those of torch: out of place, in place
OWN: dict[str, tuple[Callable, Callable]] = {
    name: (_extreme(name), _extreme_written(name)) for name in ("maximum", "minimum")
}
SCALES = [
    call([A, B], [A, B], [A, B], value=0.5),
    call([A, B], [A, B], [A, B], value=[0.5, 2.0]),
    call([A, B], [A, B], [A, B], value=torch.tensor([0.5, 2.0], dtype=torch.float64)),
]
SAMPLES: dict[str, list[Sample]] = {
    name: [call([A, B] if name in DEFINED_BELOW_1 else SIGNED)] for name in ONE.split()
} | {
    "add": [*LISTS, *NUMBERS, call([A, B], [A, B], alpha=2), call([A, B], t(), alpha=2)],
    "sub": [*LISTS, *NUMBERS, call([A, B], [A, B], alpha=2)],
    "mul": [*LISTS, *NUMBERS, call([A, B], t())],
    "div": [*LISTS, *NUMBERS, call([A, B], t())],
    "pow": [*LISTS, *NUMBERS, call(0.5, [A, B])],
    "lerp": [call([A, B], [A, B], 0.3), call([A, B], [A, B], [A, B])],
    "clamp_min": [*LISTS, *NUMBERS],
    "clamp_max": [*LISTS, *NUMBERS],
    "maximum": [*LISTS, *NUMBERS],
    "minimum": [*LISTS, *NUMBERS],
    "addcmul": SCALES,
    "addcdiv": SCALES,
}
OUT_OF_PLACE: dict[str, tuple[Callable, list[Sample]]] = {
    "clone": (torch.clone, [call([A, B])]),
    "max": (torch.max, [call(SIGNED)]),
    "norm": (_norm, [call(SIGNED), call(SIGNED, ord=3)]),
    "mm": (torch.mm, [call([t(2, 3), t(1, 2)], [t(3, 2), t(2, 4)])]),
}
IN_PLACE: dict[str, tuple[Callable, list[Sample]]] = {
    "copy_": (torch.Tensor.copy_, []),
    "zero_": (torch.Tensor.zero_, []),
}


def _add(
    name: str,
    evaluate: Evaluator,
    samples: Sequence[Sample],
    in_place: Callable[[Callable], Evaluator] | None = None,
) -> None:
    says = f"{name} at each position"
    add_rule(f"foreach.{name}", "composite", says, evaluate, samples, in_place, since=SINCE)


def _always(rule: Evaluator) -> Callable[[Callable], Evaluator]:
    return lambda _: rule


for name, samples in SAMPLES.items():
    own = OWN.get(name)
    alone, writing = own or (getattr(torch, name), getattr(torch.Tensor, f"{name}_"))
    written = at_each_position(writing, writes=True)
    _add(name, at_each_position(alone), samples, _always(written))
for table, writes in ((OUT_OF_PLACE, False), (IN_PLACE, True)):
    for name, (single, samples) in table.items():
        _add(name, at_each_position(single, writes), samples)
