r"""``check_rule``: whether a rule is right, told by oracles that know nothing of series.

The coefficients along random polynomial paths, and their gradients, are compared with those of
``oracles.py``; what relates the structures to each other needs no oracle, and is in ``laws.py``.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from ..engine.registry import UnsupportedFunction
from ..engine.samples import Sample
from ..engine.tensor import TaylorTensor, check_order
from . import laws
from .case import Case, Settings, Subject
from .diagnosis import cause, cause_of_gradient
from .oracles import Autograd, Path, coefficients, contracted, gradients_of, largest_of, weighted
from .samples import as_samples, invoke, shown, subsets, tensors_in


@dataclasses.dataclass(frozen=True)
class Report:
    """What ``check_rule`` checked.

    ``oracle`` says what the coefficients were compared with, and why; ``checks`` what was checked;
    ``refused`` which arguments the rule does not take as a series; ``error`` is the largest error
    of a coefficient, relative to the largest entry of it.
    """

    function: str
    samples: int
    order: int
    oracle: tuple[str, ...]
    checks: tuple[str, ...]
    refused: tuple[str, ...]
    error: float

    def __repr__(self) -> str:
        lines = [
            f"{self.function}: right to order {self.order} on {self.samples} "
            f"sample{'s' * (self.samples != 1)}, to {self.error:.0e}",
            *(f"  oracle: {oracle}" for oracle in self.oracle),
            f"  checked: {', '.join(self.checks)}",
            *(f"  refused: {refusal}" for refusal in self.refused),
        ]
        return "\n".join(lines)


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
    given = as_samples(samples)
    check_order(order)
    if order < 1:
        raise ValueError("taylortorch.testing.check_rule: order must be at least 1")
    settings = Settings(order, rtol, atol, gradients, compile)
    subject = Subject(function, reference, settings, torch.Generator().manual_seed(seed))
    check = _Check(subject)
    for number, sample in enumerate(given, 1):
        check.check_sample(number, sample)
    return check.report(len(given))


class _Check:
    """One call of ``check_rule``, and what it has found so far."""

    def __init__(self, subject: Subject) -> None:
        self.of = subject
        self.oracles: dict[str, None] = {}
        self.checks: dict[str, None] = {}
        self.refused: dict[str, None] = {}
        self.error = 0.0

    def report(self, count: int) -> Report:
        """What was checked."""
        name, order = self.of.name, self.of.settings.order
        checks, refused = tuple(self.checks), tuple(self.refused)
        return Report(name, count, order, tuple(self.oracles), checks, refused, self.error)

    def check_sample(self, number: int, sample: Sample) -> None:
        """Check everything on one sample."""
        specs = tensors_in((sample.args, tuple(sample.kwargs.values())))
        values = [spec.draw(self.of.generator) for spec in specs]
        where = f"sample {number}: {shown(sample.args)}" + "".join(
            f", {name}={shown(a)}" for name, a in sample.kwargs.items()
        )
        if not values:
            raise TypeError(f"taylortorch.testing.check_rule: {where} has no floating-point tensor")
        double = [v.to(torch.complex128 if v.is_complex() else torch.float64) for v in values]
        try:
            invoke(self.of.plain, sample, double)
        except Exception:
            double = values
        case = Case(self.of, sample, double, where)
        self.check_case(case)
        if any(a.dtype != b.dtype for a, b in zip(values, double, strict=True)):
            self.check_precision(case, values)
        for n, value in enumerate(double):
            if len(double) > 1 and value.ndim and len(value):
                lower = [v[0] if i == n else v for i, v in enumerate(double)]
                if case.broadcasts(lower):
                    what = f"{where}, with [0] of {case.labels[n]}"
                    self.check_case(Case(self.of, sample, lower, what))
                    self.checks["broadcasting"] = None

    def check_case(self, case: Case) -> None:
        """Check everything at one point."""
        settings = self.of.settings
        self.oracles[case.oracle.name + case.why] = None
        choices = subsets(len(case.values))
        accepted = [chosen for chosen in choices if self.check_coefficients(case, chosen)]
        if not accepted:
            refused = "\n  ".join(self.refused)
            raise AssertionError(f"{self.of.name} takes no series\n  {case.where}\n  {refused}")
        self.checks |= dict.fromkeys(("values", "coefficients"))
        widest = max(accepted, key=len)
        if settings.gradients:
            for chosen in accepted if isinstance(case.oracle, Autograd) else [widest]:
                check_gradients(case, chosen)
            self.checks["gradients"] = None
        for name, members in laws.LAWS.items():
            for law in members:
                check_law(case, widest, name, law)
            self.checks[name] = None
        if settings.compile:
            check_compiled(case, widest)
            self.checks["torch.compile"] = None

    def check_coefficients(self, case: Case, chosen: tuple[int, ...]) -> bool:
        """Whether these arguments may be series; if so, the coefficients are compared."""
        try:
            results = case.run(case.lines(case.curve(chosen), chosen), chosen, "order K")
        except UnsupportedFunction as refusal:
            who = " and ".join(case.labels[i] for i in chosen)
            self.refused[f"{who}: {refusal}"] = None
            return False
        for result, value in zip(results, case.base, strict=True):
            c_0 = result.value if isinstance(result, TaylorTensor) else result
            case.compare(c_0, value, chosen, "the value", "the function")
        entries, errors = case.entries(chosen)
        case.check_decided(chosen, entries, errors)
        for k in range(1, case.order + 1):
            for n, result in enumerate(results):
                got, want = coefficients(result, case.order)[k], entries[k][n]
                what = f"c_{k}" + (f" of result {n + 1}" if len(results) > 1 else "")
                hint = functools.partial(cause, case, chosen, results, n, k)
                case.compare(got, want, chosen, what, case.oracle.name, hint, error=errors[k][n])
                scale = largest_of(want)
                if scale:
                    self.error = max(self.error, largest_of(got - want) / scale)
        case.right.add(chosen)
        return True

    def check_precision(self, case: Case, values: list[torch.Tensor]) -> None:
        """Lower precision stays what it is."""
        every = tuple(range(len(values)))
        if every not in case.right:
            return
        try:
            plain_results = invoke(self.of.plain, case.sample, values)
        except Exception:
            # it does not take them as they are
            return
        for claim in laws.precision(trial_of(case, every, values), case.order, plain_results):
            if claim.got.dtype != claim.want.dtype:
                raise AssertionError(
                    case.message(
                        every,
                        f"{claim.what} is {claim.got.dtype}, where the function returns "
                        f"{claim.want.dtype}",
                    )
                )


def trial_of(case: Case, chosen: Sequence[int], values: Sequence[torch.Tensor]) -> laws.Trial:
    """The case as laws see it."""

    def results(arguments: list[Any], what: str) -> list[Any]:
        return case.run(arguments, chosen, what)

    return laws.Trial(results, values, chosen, case.random)


def check_law(case: Case, chosen: tuple[int, ...], name: str, law: laws.Law) -> None:
    """Raise unless a law holds."""
    try:
        for claim in law(trial_of(case, chosen, case.values), case.order):
            case.compare(claim.got, claim.want, chosen, claim.what, claim.by)
    except UnsupportedFunction as refusal:
        raise AssertionError(case.message(chosen, f"{name}: {refusal}")) from refusal


def check_gradients(case: Case, chosen: tuple[int, ...]) -> None:
    """The gradient of every coefficient in every coefficient of every argument."""
    curve = [[c.clone().requires_grad_() for c in path] for path in case.curve(chosen)]
    leaves = [c for path in curve for c in path]
    by_autograd = isinstance(case.oracle, Autograd)
    closed_over = case.closed_over() if by_autograd else []
    try:
        results = case.run(case.lines(curve, chosen), chosen, "with tensors that require grad")
        degrees = range(case.order + 1)
        totals = [contracted(results, case.weights, k) / math.factorial(k) for k in degrees]
        wanted = case.oracle.totals(curve, case.weights) if by_autograd else []
        found = [gradients_of(total, leaves + closed_over) for total in totals]
    except (UnsupportedFunction, RuntimeError) as failure:
        raise AssertionError(
            case.message(
                chosen,
                f"gradients: {failure}",
                "pass gradients=False if nothing is trained through this function",
            )
        ) from failure
    if by_autograd:
        expected = [gradients_of(total, leaves + closed_over) for total in wanted]
        _compare_by_autograd(case, chosen, curve, closed_over, found, expected)
    else:
        _compare_by_differences(case, chosen, curve, found)


def _compare_by_autograd(
    case: Case,
    chosen: Sequence[int],
    curve: list[Path],
    closed_over: list[torch.Tensor],
    found: list[list[torch.Tensor]],
    expected: list[list[torch.Tensor]],
) -> None:
    names = [
        f"{case.labels[i]}" + (f" (c_{j})" if i in chosen else "")
        for i, path in enumerate(curve)
        for j in range(len(path))
    ]
    names += [f"a tensor {list(p.shape)} it closes over" for p in closed_over]
    size = max(case.size, *(largest_of(g) for row in expected for g in row))
    for k, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
        for got, want, name in zip(mine, theirs, names, strict=True):
            _compare_gradient(case, chosen, got, want, k, name, size=size)


def _compare_by_differences(
    case: Case, chosen: Sequence[int], curve: list[Path], found: list[list[torch.Tensor]]
) -> None:
    """The gradients along a random tangent of each argument."""
    start = 0
    for i, path in enumerate(curve):
        tangent = [case.random(c.shape, c) for c in path]
        moved = [tangent if n == i else [] for n in range(len(curve))]
        wanted, errors = case.oracle.slopes(case.curve(chosen), moved, case.weights)
        size = max(case.size, largest_of(wanted))
        for k, parts in enumerate(found):
            got = weighted(parts[start : start + len(path)], tangent).detach().cpu()
            name, error = case.labels[i], errors[k]
            _compare_gradient(case, chosen, got, wanted[k], k, name, error=error, size=size)
        start += len(path)


def _compare_gradient(
    case: Case,
    chosen: Sequence[int],
    got: torch.Tensor,
    want: torch.Tensor,
    k: int,
    name: str,
    **sizes: Any,
) -> None:
    what = f"the gradient of c_{k} with respect to {name}"
    hint = functools.partial(cause_of_gradient, got, want)
    case.compare(got, want, chosen, what, case.oracle.name, hint, **sizes)


def check_compiled(case: Case, chosen: tuple[int, ...]) -> None:
    """The same in ``torch.compile(fullgraph=True)``, made inside and passed in."""
    leaves = [[c.clone().requires_grad_() for c in path] for path in case.curve(chosen)]

    def inside(paths: list[Path]) -> list[list[torch.Tensor]]:
        return passed_in(case.lines(paths, chosen))

    def passed_in(arguments: list[Any]) -> list[list[torch.Tensor]]:
        results = invoke(case.of.function, case.sample, arguments)
        return [coefficients(r, case.order) for r in results]

    try:
        want = inside(leaves)
    except UnsupportedFunction as refusal:
        raise AssertionError(case.message(chosen, f"torch.compile: {refusal}")) from refusal
    torch.compiler.reset()
    for function, given in ((inside, leaves), (passed_in, case.lines(leaves, chosen))):
        try:
            got = torch.compile(function, fullgraph=True, backend="aot_eager")(given)
        except Exception as failure:
            text = str(failure).strip().split("\n")[0]
            raise AssertionError(
                case.message(chosen, f"torch.compile: {type(failure).__name__}: {text}")
            ) from failure
        for mine, theirs in zip(got, want, strict=True):
            for k, (a, b) in enumerate(zip(mine, theirs, strict=True)):
                case.compare(a, b, chosen, f"c_{k}, compiled", "eager mode")
        if case.of.settings.gradients and function is inside:
            pair = (_whole_gradient(case, columns, leaves) for columns in (got, want))
            for a, b in zip(*pair, strict=True):
                case.compare(a, b, chosen, "a gradient, compiled", "eager mode")
    torch.compiler.reset()


def _whole_gradient(case: Case, columns: list[Any], leaves: list[Path]) -> list[torch.Tensor]:
    """The gradient of a weighted sum of all coefficients."""
    parts = [c for column in columns for c in column]
    weights = [w for w, column in zip(case.weights, columns, strict=True) for _ in column]
    return gradients_of(weighted(parts, weights), [c for path in leaves for c in path])
