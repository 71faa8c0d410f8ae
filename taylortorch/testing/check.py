r"""``check_rule``: whether a rule is right, told by oracles that know nothing of series.

The coefficients along random polynomial paths are compared with those of ``oracles.py``; the laws
that relate the structures to each other (a bundle is as many lines, an order contains the lower
ones) need no oracle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from ..engine.samples import Sample
from ..engine.tensor import check_order
from .case import Check, Settings
from .diagnosis import Report
from .samples import as_sample


def check_rule(
    function: Any,
    samples: Iterable[Any],
    *,
    order: int = 3,
    rtol: float | None = None,
    atol: float | None = None,
    reference: Callable | None = None,
    gradients: bool = True,
    compile: bool = False,
    seed: int = 0,
) -> Report:
    r"""Check the rule of ``function`` against oracles that know nothing of series.

    For every sample, and every choice of which of its floating-point tensors are series: the value;
    the coefficients ``c_1 ... c_K``; the gradient of each with respect to every coefficient of
    every argument, and to what else requires grad in the function; truncation, structural zeros,
    shared directions, bundles, collapsed, several variables, nested levels, broadcasting where the
    function does that, and that lower precision is kept.

    Args:
        function: what ``register_rule`` returned, a ``torch.autograd.Function`` class, or any
            function of tensors that takes TaylorTensors.
        samples: calls: tuples of arguments, whose floating-point tensors (in lists and tuples too)
            are made series and the rest kept; ``call(x, alpha=2.0)`` for arguments by name; in it,
            ``t(2, 3)`` for a random tensor of that shape. Tensors are converted to double precision
            where the function takes it.
        order: K, the highest degree checked.
        rtol, atol: an entry may be off by ``rtol`` of itself, plus ``atol`` of the largest entry.
            Default: 1e-6 and 1e-9 for double precision, 1e-3 and 1e-4 for single. What finite
            differences may be off by is added.
        reference: another function with the same arguments that the derivatives are taken of;
            values are still those of ``function``.
        gradients: whether gradients are checked.
        compile: whether the rule is also run in ``torch.compile(fullgraph=True)``.
        seed: of the random paths.

    Returns:
        A report; printed, it says what was checked, and with which oracle.

    Raises:
        AssertionError: the rule is wrong. Says for which sample, which arguments being series, at
            which degree and entry, what was got and expected, and what the numbers point to.
        TypeError: samples that are none.
        ValueError: an order below 1, or a sample where the function is not finite.

    >>> import torch, taylortorch as tt
    >>> @tt.register_rule(derivative=lambda x: 3 * x**2)
    ... def cube(x):
    ...     return torch.from_numpy(x.numpy() ** 3)
    >>> report = tt.testing.check_rule(cube, [(torch.tensor([0.5, 2.0]),)])
    >>> report.oracle
    ("finite differences (autograd fails: Can't call numpy() on Tensor that requires grad)",)
    >>> cube = tt.register_rule(cube, derivative=lambda x: 6 * x**2, replace=True)
    >>> tt.testing.check_rule(cube, [(torch.tensor([0.5, 2.0]),)])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    AssertionError: the rule of cube is wrong
      sample 1: (float32[2],)
      series: argument 1, x
      c_1 at (1,): got 4.98..., expected 2.49... by finite differences
      2 of 2 entries are wrong
      it points to: the derivative is off by the factor 2
    """
    if isinstance(samples, (str, torch.Tensor, Sample)):
        raise TypeError(
            "taylortorch.testing.check_rule takes a list of samples, each a tuple of arguments: "
            "check_rule(f, [(x, y)])"
        )
    check_order(order)
    if order < 1:
        raise ValueError("taylortorch.testing.check_rule: order must be at least 1")
    settings = Settings(order, rtol, atol, gradients, compile)
    check = Check(function, reference, settings, torch.Generator().manual_seed(seed))
    given = [as_sample(sample) for sample in samples]
    if not given:
        raise TypeError("taylortorch.testing.check_rule: no samples, so nothing would be checked")
    for number, sample in enumerate(given, 1):
        check.sample(number, sample)
    return check.report(len(given))
