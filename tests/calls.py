"""The sample calls of the rules' rows, with numbers in them."""

from __future__ import annotations

from typing import Any

import torch

from taylortorch.engine.samples import Sample
from taylortorch.testing.samples import invoke, tensors_in

_ACCEPTED: dict[tuple[Any, int], tuple[Sample, bool]] = {}


def draw(sample: Sample, order: int, seed: int = 0) -> list[list[torch.Tensor]]:
    """A random polynomial path through the sample's point for each of its tensors."""
    generator = torch.Generator().manual_seed(seed)
    paths = []
    for spec in tensors_in((sample.args, tuple(sample.kwargs.values()))):
        base = spec.draw(generator)
        higher = [
            torch.rand(spec.shape, generator=generator, dtype=torch.float64) - 0.5
            for _ in range(order)
        ]
        paths.append([base, *higher])
    return paths


def accepts(function: Any, sample: Sample) -> bool:
    """Whether torch itself takes this call: methods know fewer forms than functions."""
    # several files ask the same of thousands of calls; the sample is kept so that its id is its own
    key = function, id(sample)
    if key not in _ACCEPTED:
        try:
            invoke(function, sample, [p[0] for p in draw(sample, 0)])
        except (TypeError, AttributeError):
            _ACCEPTED[key] = sample, False
        else:
            _ACCEPTED[key] = sample, True
    return _ACCEPTED[key][1]
