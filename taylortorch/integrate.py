"""Ordinary differential equations by Taylor series: any order, adaptive steps, dense output.

A step expands the solution of ``y' = f(t, y)`` about its start, ``y(t + h) = y_0 + y_1 h + ...``,
where ``y_{k+1}`` is the coefficient of degree ``k`` of ``f`` over ``k + 1``, and evaluates the
polynomial as far away as the tolerance allows. ``f`` is any torch code: it is called once a step,
on series that become known degree by degree (``algebra/streams.py``). A rule that needs its whole
input at once (a matrix factorisation, say) cannot follow; then ``f`` is called once for every
degree.

The slope at the end of a step, which the next one needs anyway, is compared with that of the
polynomial; where they differ by more than the tolerance (``f`` has a kink there, or its highest
coefficients vanish by chance), the step is halved.
"""

from __future__ import annotations

import bisect
import contextlib
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar, overload

import torch

from .algebra.streams import Stream, Tape, Unknown
from .algebra.structures import LINE
from .engine.frames import Frame, level_above
from .engine.private import TreeSpec, dynamo_is_loaded, tree_flatten, tree_unflatten, untraced
from .engine.tensor import TaylorTensor, check_order, check_value, full, wrap

_State = TypeVar("_State")

_WHO = "taylortorch.odeint_taylor"


class TaylorSolution:
    """The solution of a differential equation as its Taylor polynomials, one for each step.

    Called with a time, or a tensor of times of any shape between the first and the last node, it
    gives the state there, of shape ``(*t.shape, *y0.shape)``, differentiably.

    Attributes:
        nodes: the ends of the steps, S + 1 numbers.
        pieces: the S polynomials: ``pieces[i]`` has the structure of ``y0``, with a TaylorTensor
            about ``nodes[i]`` in place of each tensor; ``pieces[i].at(t - nodes[i])`` is the state.
    """

    def __init__(self, spec: TreeSpec, first: float) -> None:
        self.nodes = [first]
        self.pieces: list[Any] = []
        self._spec = spec
        self._steps: list[_Step] = []

    def __repr__(self) -> str:
        return f"TaylorSolution({len(self.pieces)} steps from {self.nodes[0]} to {self.nodes[-1]})"

    def _append(self, step: _Step, end: float) -> None:
        self._steps.append(step)
        self.pieces.append(tree_unflatten(step.polynomials, self._spec))
        self.nodes.append(end)

    def __call__(self, t: torch.Tensor | float) -> Any:
        """The state at ``t``.

        Raises:
            ValueError: a time outside of the interval that was integrated over.
        """
        times = t if isinstance(t, torch.Tensor) else torch.tensor(t, dtype=torch.float64)
        flat = times.reshape(-1)
        sign = 1 if self.nodes[-1] >= self.nodes[0] else -1
        ascending = [sign * node for node in self.nodes]
        places: dict[int, list[int]] = {}
        for n, time in enumerate(flat.tolist()):
            if not ascending[0] <= sign * time <= ascending[-1]:
                raise ValueError(
                    f"TaylorSolution: t = {time} is outside of the interval from {self.nodes[0]} "
                    f"to {self.nodes[-1]}"
                )
            step = bisect.bisect_left(ascending, sign * time, 1, len(self._steps)) - 1
            places.setdefault(step, []).append(n)
        order = [n for found in places.values() for n in found]
        back = sorted(range(len(order)), key=order.__getitem__)
        parts = [self._steps[step].at_times(flat[found]) for step, found in places.items()]
        leaves = []
        for pieces in zip(*(parts or [self._steps[0].at_times(flat)]), strict=True):
            states = torch.cat(pieces)
            index = torch.tensor(back, dtype=torch.long, device=states.device)
            states = torch.index_select(states, 0, index)
            leaves.append(states.reshape(*times.shape, *states.shape[1:]))
        return tree_unflatten(leaves, self._spec)


@overload
def odeint_taylor(
    func: Callable[[Any, Any], Any],
    y0: _State,
    t: torch.Tensor,
    *,
    rtol: float = 1e-7,
    atol: float = 1e-9,
    order: int | None = None,
    max_step: float = math.inf,
    max_steps: int = 100_000,
    dense_output: Literal[False] = False,
    callback: Callable[[float, float], None] | None = None,
) -> _State: ...
@overload
def odeint_taylor(
    func: Callable[[Any, Any], Any],
    y0: _State,
    t: torch.Tensor,
    *,
    rtol: float = 1e-7,
    atol: float = 1e-9,
    order: int | None = None,
    max_step: float = math.inf,
    max_steps: int = 100_000,
    dense_output: Literal[True],
    callback: Callable[[float, float], None] | None = None,
) -> tuple[_State, TaylorSolution]: ...
@untraced
def odeint_taylor(
    func: Callable[[Any, Any], Any],
    y0: Any,
    t: torch.Tensor,
    *,
    rtol: float = 1e-7,
    atol: float = 1e-9,
    order: int | None = None,
    max_step: float = math.inf,
    max_steps: int = 100_000,
    dense_output: bool = False,
    callback: Callable[[float, float], None] | None = None,
) -> Any:
    r"""Solve ``dy/dt = func(t, y)``, ``y(t[0]) = y0`` by Taylor series of any order.

    It is called as ``torchdiffeq.odeint`` is. Its strength is smooth right-hand sides and tight
    tolerances: twice the digits take twice the order, and steps of the same length.

    Args:
        func: ``func(t, y)`` gives the slope, of the structure and shapes of ``y``; both arguments
            are TaylorTensors. Parameters come through its closure, or as those of a module.
        y0: the state: a floating-point or complex tensor of any shape, or a tuple, list or dict
            (nested at will) of such. Leading axes are batch axes. All samples share one step, the
            shortest that any of them needs. A TaylorTensor carries its own series along: the
            derivatives of the solution with respect to the initial state, of any order.
        t: the times at which the solution is wanted, one axis, increasing or decreasing. The first
            one is that of ``y0``. The steps do not depend on the others, but for the last.
        rtol, atol: the error allowed in a step is ``atol + rtol * max|y|``, the maximum over the
            last axis of each tensor: what lies along it is one state. An ``rtol`` below the
            precision of the dtype counts as that precision.
        order: the degree of the polynomials. Default: ``ceil(1 - log(rtol) / 2)``, the best one by
            Jorba & Zou: 10 for the default ``rtol``, 20 for the precision of float64.
        max_step: the longest step, for right-hand sides with features that a step may pass over.
        max_steps: how many steps may be taken.
        dense_output: also return the polynomials.
        callback: called as ``callback(t, h)`` after each step, at time t and of length h.

    Returns:
        The solution at the times ``t``: in place of each tensor of ``y0`` one of shape
        ``(len(t), *shape)``. With ``dense_output=True`` a pair: this, and a ``TaylorSolution``.

    Raises:
        TypeError: ``t`` or ``y0`` is not a floating-point tensor, or ``func`` returns another
            structure.
        ValueError: times that are not finite or not strictly monotonic, a state that is not finite,
            tolerances that are negative or both 0, or ``func`` returns another shape or dtype.
        RuntimeError: the solution cannot be continued: a coefficient is not finite, the step is
            too short to move on (a singularity, a stiff equation), or ``max_steps`` is reached.

    **Derivatives.** Ordinary autograd runs through all steps, to ``y0``, to ``t`` and to whatever
    ``func`` is made of. The lengths of the steps are constants for it.

    **torch.compile.** Compiled functions and modules run here as they were written, eagerly. Within
    a compiled function the integration is a graph break.

    Sources: Jorba & Zou, *A software package for the numerical integration of ODEs by means of
    high-order Taylor methods* (2005); Griewank & Walther, *Evaluating Derivatives*, 2nd ed. (2008),
    chapter 13; Biscani & Izzo, *Revisiting high-order Taylor methods for astrodynamics and
    celestial mechanics* (2021).

    >>> import torch, taylortorch as tt
    >>> y0 = torch.tensor([1.0, 0.0], dtype=torch.float64)
    >>> t = torch.tensor([0.0, torch.pi], dtype=torch.float64)
    >>> def rotation(t, y):
    ...     return torch.stack([-y[1], y[0]])
    >>> y, solution = tt.odeint_taylor(rotation, y0, t, rtol=1e-14, dense_output=True)
    >>> y.shape, bool(torch.allclose(y[-1], -y0, atol=1e-9))
    (torch.Size([2, 2]), True)
    >>> bool(torch.allclose(solution(t[-1] / 2), y0.flip(0), atol=1e-9))
    True
    """
    times = _checked_times(t)
    leaves, spec = _checked_state(y0)
    rtol, order = _checked_options(leaves, rtol, atol, order, max_step)
    solution = TaylorSolution(spec, times[0]) if dense_output else None
    with level_above(*leaves) as level, _uncompiled():
        equation = _Equation(func, spec, order, level, rtol, atol)
        states = _march(equation, leaves, t, times, max_step, max_steps, solution, callback)
    joined = tree_unflatten([torch.cat(parts) for parts in states], spec)
    return (joined, solution) if dense_output else joined


def _checked_options(
    leaves: list[Any], rtol: float, atol: float, order: int | None, max_step: float
) -> tuple[float, int]:
    """The relative tolerance that the precision allows, and the order."""
    if not (rtol >= 0 and atol >= 0 and 0 < rtol + atol < math.inf):
        raise ValueError(
            f"{_WHO}: rtol and atol must be finite, >= 0 and not both 0, got {rtol} and {atol}"
        )
    if not max_step > 0:
        raise ValueError(f"{_WHO}: max_step must be > 0, got {max_step}")
    precision = max(torch.finfo(leaf.dtype).eps for leaf in leaves)
    if rtol > 0:
        rtol = max(rtol, precision)
    if order is None:
        order = max(2, math.ceil(1 - math.log(rtol or max(atol, precision)) / 2))
    check_order(order)
    if order < 1:
        raise ValueError(f"{_WHO}: order must be >= 1, got {order}")
    return rtol, order


def _march(
    equation: _Equation,
    leaves: list[Any],
    t: torch.Tensor,
    times: list[float],
    max_step: float,
    max_steps: int,
    solution: TaylorSolution | None,
    callback: Callable[[float, float], None] | None,
) -> list[list[Any]]:
    """For each tensor of the state, its values at ``times``: parts along a new first axis."""
    node, end = times[0], times[-1]
    sign = 1 if end >= node else -1
    states = [[leaf.unsqueeze(0)] for leaf in leaves]
    if len(times) == 1:
        if solution is not None:
            solution._append(_Expansion(equation, node, t[0], leaves).finish(), end)
        return states
    wanted = 1
    expansion = _Expansion(equation, node, t[0], leaves)
    for _ in range(max_steps):
        step = expansion.finish()
        h = min(equation.length(step), max_step)
        while True:
            reached = node + sign * h
            # no last step much shorter than the others
            if sign * (end - reached) < 1e-3 * h:
                reached = end
            if h < 2 * math.ulp(node):
                raise RuntimeError(
                    f"{_WHO}: the step became too short to move on at t = {node}: the solution has "
                    "a singularity or func a discontinuity there, or the tolerance "
                    f"(rtol={equation.rtol}, atol={equation.atol}) cannot be met"
                )
            following = _Expansion(equation, reached, t.new_tensor(reached), step.at(reached))
            if equation.accepts(step, reached - node, following):
                break
            following.discard()
            h = abs(reached - node) / 2
        first = wanted
        while wanted < len(times) and sign * (times[wanted] - reached) <= 0:
            wanted += 1
        if wanted > first:
            for parts, part in zip(states, step.at_times(t[first:wanted]), strict=True):
                parts.append(part)
        if solution is not None:
            solution._append(step, reached)
        if callback is not None:
            callback(reached, reached - node)
        if reached == end:
            following.discard()
            return states
        node, expansion = reached, following
    raise RuntimeError(
        f"{_WHO}: {max_steps} steps led to t = {node}, not to {end}: pass a larger max_steps, or "
        "tolerances that allow longer steps"
    )


class _Equation:
    """The right-hand side, and what its solution is measured by."""

    def __init__(
        self, func: Callable, spec: TreeSpec, order: int, level: int, rtol: float, atol: float
    ) -> None:
        self.func = func
        self.spec = spec
        self.order = order
        self.level = level
        self.rtol = rtol
        self.atol = atol
        self.by_degree = True

    def slopes(self, time: Any, states: list[Any], order: int) -> list[Sequence[Any]]:
        """The blocks of ``func`` at series of this order, one sequence for each tensor."""
        returned = self.func(time, tree_unflatten(states, self.spec))
        found, spec = tree_flatten(returned, is_leaf=_is_tensor)
        if spec != self.spec:
            raise TypeError(
                f"{_WHO}: func must return the structure of y, {self.spec}, but returned {spec}"
            )
        result = []
        for slope, state in zip(found, states, strict=True):
            check_value(slope, f"{_WHO}: what func returns")
            for what in ("shape", "dtype"):
                if getattr(slope, what) != getattr(state, what):
                    raise ValueError(
                        f"{_WHO}: func returned {what} {getattr(slope, what)} for a state of "
                        f"{what} {getattr(state, what)}"
                    )
            if isinstance(slope, TaylorTensor) and (
                slope._level > self.level or (slope._level == self.level and slope.order < order)
            ):
                raise ValueError(
                    f"{_WHO}: func returned a series of its own making: return its .value, or the "
                    "coefficient that is meant"
                )
            result.append(Frame(self.level, LINE, order).blocks(slope))
        return result

    def tolerance(self, *states: Any) -> torch.Tensor:
        """The error allowed, for each state along the last axis."""
        size = functools.reduce(torch.maximum, map(_size, states))
        return (self.atol + self.rtol * size).clamp_min(torch.finfo(torch.float64).tiny)

    def length(self, step: _Step) -> float:
        """How far the polynomials of a step may be trusted.

        The smaller of ``(tol / |y_m|)^(1/m)`` over the two highest degrees ``m``, times
        ``exp(-0.7 / (K - 1))``.
        """
        lengths = [math.inf]
        for p in step.polynomials:
            tolerance = self.tolerance(p.value)
            for m in {max(self.order - 1, 1), self.order}:
                ratio = _largest(_size(full(p, m)) / tolerance)
                if not math.isfinite(ratio):
                    raise step.refusal()
                if ratio > 0:
                    lengths.append(ratio ** (-1 / m))
        return min(lengths) * math.exp(-0.7 / max(self.order - 1, 1))

    @torch.no_grad()
    def accepts(self, step: _Step, h: float, following: _Expansion) -> bool:
        """Whether the slope of the polynomial at the end of the step is that of the solution.

        Their difference ``d`` grows from 0 like ``h^K``: the error is ``h d / (K + 1)``.
        """
        for p, y, slope in zip(step.polynomials, following.leaves, following.slope, strict=True):
            derivative = [full(p, k) * k for k in range(1, self.order + 1)]
            difference = _size(LINE.evaluate(derivative, [h]) - slope)
            error = difference * abs(h) / (self.order + 1) / self.tolerance(p.value, y)
            # so that what is not a number is not accepted
            if not _largest(error) <= 1:
                return False
        return True


class _Expansion:
    """The solution through one point: its slope at once, all coefficients by ``finish``."""

    def __init__(
        self, equation: _Equation, time: float, start: torch.Tensor, leaves: list[Any]
    ) -> None:
        self.equation = equation
        self.time = time
        self.start = start
        self.leaves = leaves
        self.argument = start.to(dtype=_real(leaves[0].dtype), device=leaves[0].device)
        self.tape = Tape()
        self.slopes: list[Sequence[Any]] = []
        if equation.by_degree:
            try:
                self._follow()
            except Unknown:
                self.discard()
                equation.by_degree = False
        if not equation.by_degree:
            states = [wrap((y,), LINE, equation.level) for y in leaves]
            self.slopes = equation.slopes(self._time(0), states, 0)
        self.slope = [blocks[0] for blocks in self.slopes]

    def _time(self, order: int) -> TaylorTensor:
        blocks = (self.argument, self.argument.new_ones(()))[: order + 1]
        return wrap(blocks + (None,) * (order - 1), LINE, self.equation.level)

    def _follow(self) -> None:
        """Call ``func`` on series of which only the value is known."""
        order = self.equation.order - 1
        streams = [
            Stream(self.tape, y, order + 1, functools.partial(self._block, n))
            for n, y in enumerate(self.leaves)
        ]
        states = [wrap(stream, LINE, self.equation.level) for stream in streams]
        self.streams = streams
        self.slopes = self.equation.slopes(self._time(order), states, order)

    def _block(self, n: int, _: Sequence[Any], k: int) -> Any:
        slope = self.slopes[n][k - 1]
        return slope if slope is None or k == 1 else slope / k

    def finish(self) -> _Step:
        """All coefficients up to the order."""
        if self.equation.by_degree:
            try:
                return self._by_degree()
            except Unknown:
                self.equation.by_degree = False
            finally:
                self.discard()
        return self._anew()

    def _by_degree(self) -> _Step:
        for _ in range(1, self.equation.order):
            self.tape.advance()
        last = self.equation.order
        coefficients = [[*x.known, self._block(n, (), last)] for n, x in enumerate(self.streams)]
        return _Step(self, coefficients)

    def _anew(self) -> _Step:
        """Call ``func`` for every degree: its series is right as far as the one it is given."""
        equation = self.equation
        coefficients = [[y, slope] for y, slope in zip(self.leaves, self.slope, strict=True)]
        for k in range(1, equation.order):
            states = [wrap(c, LINE, equation.level) for c in coefficients]
            self.slopes = equation.slopes(self._time(k), states, k)
            for n, c in enumerate(coefficients):
                c.append(self._block(n, (), k + 1))
        return _Step(self, coefficients)

    def discard(self) -> None:
        """Let go of what ``func`` has left behind."""
        self.tape.close()


class _Step:
    """A polynomial for each tensor of the state, about the start of the step."""

    def __init__(self, expansion: _Expansion, coefficients: list[list[Any]]) -> None:
        self.time = expansion.time
        self.start = expansion.start
        self.argument = expansion.argument
        below = [c._level for blocks in coefficients for c in blocks if _is_series(c)]
        level = max(below, default=-1) + 1
        self.polynomials = [wrap(blocks, LINE, level) for blocks in coefficients]

    def at(self, time: float) -> list[Any]:
        """The state at one time, differentiable in the start where that is."""
        offset: Any = time - self.time
        if self.start.requires_grad:
            offset = (time - self.start.double()).to(self.argument)
        return [p.at(offset) for p in self.polynomials]

    def at_times(self, t: torch.Tensor) -> list[Any]:
        """The states at several times, along a new first axis."""
        start = self.start.double() if self.start.requires_grad else self.time
        offsets = (t.double() - start).to(self.argument)
        return [p.at(offsets.reshape(-1, *(1,) * p.ndim)) for p in self.polynomials]

    def refusal(self) -> RuntimeError:
        """The error for coefficients that are not finite."""
        degrees = range(self.polynomials[0].order + 1)
        sizes = [max(_largest(_size(full(p, k))) for p in self.polynomials) for k in degrees]
        degree = next((k for k, size in enumerate(sizes) if not math.isfinite(size)), degrees[-1])
        what = ("state is", "slope that func gives is")
        return RuntimeError(
            f"{_WHO}: the "
            + (what[degree] if degree < 2 else f"Taylor coefficient of degree {degree} is")
            + f" not finite at t = {self.time}: func has a singularity there or is not smooth"
        )


# --- measures and checks --------------------------------------------------------------------------


@torch.no_grad()
def _size(x: Any) -> torch.Tensor:
    """The largest magnitude along the last axis, among all coefficients of a TaylorTensor."""
    size = functools.reduce(torch.maximum, [part.abs() for part in _plain(x)])
    if size.ndim and size.shape[-1]:
        size = size.amax(-1)
    return size.to("cpu", torch.float64)


def _plain(x: Any) -> list[torch.Tensor]:
    """The coefficients of a TaylorTensor, each of the shape of its value; a tensor as it is."""
    if not isinstance(x, TaylorTensor):
        return [x]
    parts = []
    for k, block in enumerate(x._blocks):
        if block is not None:
            pieces = full(x, k).unbind(0) if x._structure.leads(k) else [full(x, k)]
            parts += [part for piece in pieces for part in _plain(piece)]
    return parts


def _largest(sizes: torch.Tensor) -> float:
    """The largest entry, NaN where there is one, 0 where there is none at all."""
    return sizes.max().item() if sizes.numel() else 0.0


def _real(dtype: torch.dtype) -> torch.dtype:
    return dtype.to_real() if dtype.is_complex else dtype


def _is_tensor(x: Any) -> bool:
    return isinstance(x, torch.Tensor)


def _is_series(x: Any) -> bool:
    return isinstance(x, TaylorTensor)


def _uncompiled() -> Any:
    """Compiled functions run as they were written: a graph holds all degrees of an operation."""
    if not dynamo_is_loaded():
        return contextlib.nullcontext()
    return torch.compiler.set_stance("force_eager")


def _checked_times(t: Any) -> list[float]:
    check_value(t, f"{_WHO}: t")
    if isinstance(t, TaylorTensor) or t.is_complex():
        raise TypeError(f"{_WHO}: t must be a real tensor without a series: use t.value")
    if t.ndim != 1 or not len(t):
        raise ValueError(f"{_WHO}: t must have one axis and at least one time, got {list(t.shape)}")
    times = t.detach().tolist()
    if not all(map(math.isfinite, times)):
        raise ValueError(f"{_WHO}: t has times that are not finite")
    steps = [b - a for a, b in itertools.pairwise(times)]
    if not (all(step > 0 for step in steps) or all(step < 0 for step in steps)):
        raise ValueError(
            f"{_WHO}: t must increase or decrease strictly: sort it, and leave out repeated times"
        )
    return times


def _checked_state(y0: Any) -> tuple[list[Any], TreeSpec]:
    leaves, spec = tree_flatten(y0, is_leaf=_is_tensor)
    if not leaves:
        raise TypeError(f"{_WHO}: y0 holds no tensor")
    for leaf in leaves:
        check_value(leaf, f"{_WHO}: y0, or what it holds,")
        if not math.isfinite(_largest(_size(leaf))):
            raise ValueError(f"{_WHO}: y0 is not finite")
    return leaves, spec
