"""Derivatives that are asked for after the forward pass, served from one Taylor pass.

A host library evaluates ``u = f(x)`` on ordinary tensors and differentiates ``u`` with respect to
``x`` later, by reverse mode. Which derivatives will be asked for is not known when ``f`` runs. But
a training step asks for what the step before asked for, so each pass through ``f`` carries the
multi-indices that were asked of the previous two (``Passes``):

* ``f`` runs on a series; the host gets its value ``c_0``, an ordinary tensor, and goes on.
* A derivative of ``u`` that the series carries is read off it, ``a! c_a``.
* Reverse mode sums over the samples; that is the derivative of each if the function acts on each by
  itself. The first series through a function is compared with reverse mode; where they differ, the
  function is left to the host, with a warning.
* Any other one is left to the host's own reverse mode, which works as before: values and
  coefficients are ordinary tensors that autograd has recorded as functions of ``x``. So the first
  pass, a change of the equation, or the derivative of an expression of ``u`` is right as well, at
  the host's price.

No series is used where reverse mode is cheaper: where only the gradient of one component is asked
for, and where expressions are differentiated in an equation of order 1 or 2.

Tensors that are ``u`` or a derivative of it carry a ``Mark`` that says so, column by column; a
column cut out of one by slicing is recognised by its place in memory.

A ``Host`` is what a module of this package turns on: it says which functions of its library are
replaced, and by what.
"""

from __future__ import annotations

import collections
import copy
import dataclasses
import functools
import importlib
import importlib.metadata
import warnings
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch

from ..algebra.indices import MultiIndex, closure, factorial
from ..algebra.structures import Bundle, Line, Multivariate, Structure
from ..engine.private import base_of, version_of
from ..engine.tensor import TaylorTensor, full, settle, wrap
from ..operators.variables import Origin, TorchArrays


class Column(NamedTuple):
    """One column of a tensor: a derivative of one component of ``u``."""

    component: int
    degrees: MultiIndex


class _NotSaved:
    """A tensor that carries one is copied and saved as if it did not."""

    def __reduce__(self) -> Any:
        # a type that torch.load(weights_only=True) knows
        return (collections.OrderedDict, ())


@dataclasses.dataclass(frozen=True)
class Mark(_NotSaved):
    """What the columns of a tensor are, as long as nobody has written to it."""

    evaluation: Evaluation
    columns: tuple[Column, ...]
    version: int


class Visits(_NotSaved):
    """The passes at a tensor of points that are still of use."""

    def __init__(self) -> None:
        self.refs: list[weakref.ref[Evaluation]] = []

    @property
    def evaluations(self) -> list[Evaluation]:
        """Those."""
        return [found for ref in self.refs if (found := ref()) is not None]

    def add(self, evaluation: Evaluation) -> None:
        """Note one more."""
        self.refs = [*map(weakref.ref, self.evaluations), weakref.ref(evaluation)]


class Asked:
    """What a host asks of one pass: these derivatives of ``u``, and of expressions of it."""

    def __init__(self) -> None:
        self.indices: set[MultiIndex] = set()
        self.components: set[int] = set()
        self.expressions = False


class Differentiated(Exception):
    """The function itself differentiates its intermediate results: it cannot run on a series."""


class Counts(NamedTuple):
    """How many derivatives were read off a series, and how many were left to the host."""

    served: int
    left: int


_MIXED = (
    "taylortorch: the first derivatives of this {} are not those of reverse mode: it mixes the "
    "samples of a batch (as batch normalisation does in training), or has a backward of its own; "
    "its derivatives are left to the host"
)


class Passes:
    """What was asked of the last pass through each function, and how often it could be served."""

    def __init__(self) -> None:
        self._asked: Any = weakref.WeakKeyDictionary()
        # by owner and key: whether a series is right
        self._serves: Any = weakref.WeakKeyDictionary()
        self.served = self.left = 0

    def evaluate(
        self, owner: Any, key: Any, function: Callable[..., Any], inputs: Sequence[torch.Tensor]
    ) -> Any:
        """``function(*inputs)``, with the derivatives that were asked of the pass before.

        Args:
            owner: the object that the function belongs to; it is not kept alive.
            key: tells functions of one owner apart, as training from evaluation.
            inputs: tensors of shape ``(N, D)`` whose columns are the coordinates.
        """
        functions = self._asked.setdefault(owner, {})
        history: list[Asked] = functions.setdefault((key, sum(x.shape[1] for x in inputs)), [])
        # two, since a step may call the function at other points, of which nothing is asked
        wanted = _worth_a_series(history)
        evaluation = Evaluation(self, inputs)
        history[:] = [*history[-1:], evaluation.asked]
        serves = self._serves.setdefault(owner, {})
        if wanted and serves.get(key, True):
            try:
                result = evaluation.read(function(*evaluation.series(wanted)))
            except Differentiated:
                serves[key] = False
            else:
                if key not in serves:
                    serves[key] = evaluation.agrees(result)
                    if not serves[key]:
                        warnings.warn(_MIXED.format(type(owner).__name__), stacklevel=4)
                if serves[key]:
                    return result
        return evaluation.read(function(*inputs))

    @property
    def counts(self) -> Counts:
        """How often a derivative was served since the last ``clear``."""
        return Counts(self.served, self.left)

    def clear(self) -> None:
        """Forget what was asked for, and how often."""
        self._asked.clear()
        self._serves.clear()
        self.served = self.left = 0


def _worth_a_series(history: Sequence[Asked]) -> set[MultiIndex]:
    """What was asked, or nothing where reverse mode is cheaper."""
    indices = set().union(*(asked.indices for asked in history))
    highest = max((sum(index) for index in indices), default=0)
    if any(asked.expressions for asked in history):
        # reverse mode would go through the series
        return indices if highest > 2 else set()
    if highest == 1 and len(set().union(*(asked.components for asked in history))) == 1:
        # one gradient is one backward pass
        return set()
    return indices


class Evaluation:
    """One pass: its inputs, its coefficients, and what has been asked of it."""

    def __init__(self, passes: Passes, inputs: Sequence[torch.Tensor]) -> None:
        self.passes = passes
        self.inputs = tuple(inputs)
        self.asked = Asked()
        for x in self.inputs:
            visits = getattr(x, "_taylor_visits", None)
            if not isinstance(visits, Visits):
                visits = x._taylor_visits = Visits()  # type: ignore[attr-defined]
            visits.add(self)
        self.count = sum(x.shape[1] for x in inputs)
        self.places: dict[MultiIndex, tuple[int, int | None, int]] = {}
        # by degree, all but the value: it carries the mark, which holds this object
        self.blocks: list[Any] = []

    def series(self, wanted: Iterable[MultiIndex]) -> list[Any]:
        """The inputs as series that carry these multi-indices and what they are computed from."""
        plan = _plan(frozenset(wanted), tuple(x.shape[1] for x in self.inputs))
        self.places = plan.places
        plain = [x if type(x) is torch.Tensor else x.as_subclass(torch.Tensor) for x in self.inputs]
        seeds = plan.seeds(plain[0].dtype, plain[0].device)
        return [
            x if seed is None else wrap((x, seed, *plan.zeros), plan.structure, 0)
            for x, seed in zip(plain, seeds, strict=True)
        ]

    def read(self, result: Any) -> Any:
        """The value of the result, marked as the output of this pass."""
        if isinstance(result, TaylorTensor):
            settle(result)
            series = result
            # a tensor of its own: the graph below it may keep the value, which would keep the mark,
            # which keeps the coefficients and their graph
            result = series.value.clone()
            self.blocks = [None, *(_rows(series, k) for k in range(1, len(series._blocks)))]
        else:
            self.places = {}
        if isinstance(result, torch.Tensor) and result.ndim == 2 and result.grad_fn is not None:
            if base_of(result) is not None:
                # slices of a view are views of its base
                result = result.clone()
            zero = (0,) * self.count
            self.mark(result, [Column(i, zero) for i in range(result.shape[1])])
        return result

    def agrees(self, result: torch.Tensor) -> bool:
        """Whether the first derivatives are those of reverse mode, which sums over the samples."""
        if not isinstance(getattr(result, "_taylor", None), Mark):
            return True
        near = torch.finfo(result.dtype).eps ** 0.5
        for i in range(result.shape[1]):
            slopes = torch.autograd.grad(
                result[:, i].sum(), self.inputs, retain_graph=True, materialize_grads=True
            )
            slope = torch.cat([part.as_subclass(torch.Tensor) for part in slopes], 1)
            for index, (degree, row, _) in self.places.items():
                if degree == 1 and self.blocks:
                    right = slope[:, index.index(1)]
                    found = self.blocks[1][row or 0][:, i]
                    scale = float(right.abs().nan_to_num().max())
                    if not torch.allclose(found, right, near, near * scale, equal_nan=True):
                        return False
        return True

    def mark(self, tensor: torch.Tensor, columns: Iterable[Column]) -> torch.Tensor:
        """Note on ``tensor`` what its columns are."""
        tensor._taylor = Mark(self, tuple(columns), version_of(tensor))  # type: ignore[attr-defined]
        return tensor

    def derivatives(self, columns: Sequence[Column]) -> list[torch.Tensor] | None:
        """The given derivatives, one ``(N, 1)`` column each, or None if one is not carried."""
        self.asked.indices.update(column.degrees for column in columns)
        self.asked.components.update(column.component for column in columns)
        if any(column.degrees not in self.places for column in columns):
            self.passes.left += 1
            return None
        self.passes.served += 1
        result = []
        for component, degrees in columns:
            degree, row, scale = self.places[degrees]
            rows = self.blocks[degree]
            block = rows[0 if row is None else row][:, component : component + 1]
            result.append(block * scale if scale != 1 else block)
        return result

    def aside(self, function: Callable[[], Any]) -> Any:
        """``function()``; the derivatives that it asks for on its way are not asked for."""
        asked, left = copy.deepcopy(vars(self.asked)), self.passes.left
        result = function()
        vars(self.asked).update(asked)
        self.passes.left = left
        return result


class Plan:
    """How series are laid out that carry certain multi-indices, and where in them each one is."""

    def __init__(self, wanted: Iterable[MultiIndex], widths: Sequence[int]) -> None:
        count, indices = sum(widths), closure(sum(widths), wanted)
        order = len(indices) - 1
        self.moving = [index.index(1) for index in indices[1]]
        self.widths = widths
        self.zeros = (None,) * (order - 1)
        self._seeds: dict[Any, list[Any]] = {}
        # degree, row (None: there is one), a!
        self.places: dict[MultiIndex, tuple[int, int | None, int]] = {}
        self.structure: Structure
        pure = [
            [_unit(count, coordinate, degree) for coordinate in self.moving]
            for degree in range(1, order + 1)
        ]
        if len(self.moving) == 1:
            self.structure = Line()
        elif [set(rows) for rows in pure] == [set(rows) for rows in indices[1:]]:
            self.structure = Bundle(len(self.moving))
        else:
            self.structure = Multivariate(Origin(), indices, TorchArrays)
            pure = [list(rows) for rows in indices[1:]]
        for degree, rows in enumerate(pure, 1):
            for n, index in enumerate(rows):
                scale = factorial(index)
                row = n if self.structure.leads(degree) else None
                self.places[index] = (degree, row, scale)

    def seeds(self, dtype: torch.dtype, device: torch.device) -> list[Any]:
        """Block 1 of each input, None for one that does not move."""
        found = self._seeds.get((dtype, device))
        if found is None:
            unit = torch.eye(sum(self.widths), dtype=dtype, device=device)[self.moving]
            parts = [part.unsqueeze(1) for part in unit.split(list(self.widths), 1)]
            if not self.structure.leads(1):
                parts = [part[0] for part in parts]
            found = [part.contiguous() if part.any() else None for part in parts]
            self._seeds[dtype, device] = found
        return found


@functools.lru_cache(1024)
def _plan(wanted: frozenset[MultiIndex], widths: tuple[int, ...]) -> Plan:
    return Plan(sorted(wanted), widths)


def _unit(count: int, coordinate: int, degree: int) -> MultiIndex:
    index = [0] * count
    index[coordinate] = degree
    return tuple(index)


def _rows(series: TaylorTensor, k: int) -> Any:
    block = full(series, k)
    return block.unbind(0) if series._structure.leads(k) else (block,)


def requested(ys: Any, xs: Any) -> Mark | None:
    """As ``known``, for a derivative of ``ys`` with respect to the input ``xs`` of a pass.

    Anything else is a derivative of an expression of ``xs``, and counted as one.

    Raises:
        Differentiated: ``ys`` is a series: a network or a transform differentiates itself.
    """
    if isinstance(ys, TaylorTensor):
        raise Differentiated
    mark = known(ys)
    if mark is not None and mark.evaluation.inputs[0] is xs:
        return mark
    expression_of(xs)
    return None


def known(ys: Any) -> Mark | None:
    """What the columns of ``ys`` are, if they are the output of a pass or derivatives of it."""
    if not isinstance(ys, torch.Tensor) or isinstance(ys, TaylorTensor) or ys.ndim != 2:
        return None
    mark = getattr(ys, "_taylor", None)
    if isinstance(mark, Mark):
        return mark if mark.version == version_of(ys) else None
    base = base_of(ys)
    mark = getattr(base, "_taylor", None)
    if (
        base is None
        or not isinstance(mark, Mark)
        or mark.version != version_of(base)
        or ys.grad_fn is None
    ):
        return None
    rows, width = base.shape
    step, columns = base.stride(1), ys.shape[1]
    first, rest = divmod(int(ys.storage_offset() - base.storage_offset()), max(step, 1))
    if ys.shape[0] != rows or rest or (rows > 1 and ys.stride(0) != base.stride(0)):
        return None
    hop, rest = divmod(ys.stride(1), max(step, 1)) if columns > 1 else (1, 0)
    places = range(first, first + hop * columns, hop) if columns and hop else ()
    if rest or not places or not 0 <= places[0] <= places[-1] < width:
        return None
    return Mark(mark.evaluation, tuple(mark.columns[n] for n in places), mark.version)


def expression_of(*xs: Any) -> None:
    """Note that an expression of the passes at these points is differentiated."""
    for x in xs:
        visits = getattr(x, "_taylor_visits", None)
        if isinstance(visits, Visits):
            for evaluation in visits.evaluations:
                evaluation.asked.expressions = True


def raised(column: Column, *coordinates: int) -> Column:
    """The derivative of a column along each of these coordinates."""
    degrees = list(column.degrees)
    for i in coordinates:
        degrees[i] += 1
    return Column(column.component, tuple(degrees))


Replaced = tuple[Any, str, Callable[[Any], Any]]
"""An owner, the name of its attribute, and what makes the new one from the old one."""


class Host:
    """A host library, of which some attributes are other ones while its integration is on.

    A context manager: ``with`` turns the integration off at the end of the block.

    Args:
        name: of the library, as it writes it.
        package: what is imported, and what the module of the integration is called.
        tested: the release that the integration was tested with.
        distribution: what is installed, if that is not called like the package.
    """

    def __init__(self, name: str, package: str, tested: str, distribution: str = "") -> None:
        self.name, self.package, self.tested = name, package, tested
        self.distribution = distribution or package
        self.passes = Passes()
        self._undo: list[tuple[Any, str, Any]] = []

    @property
    def is_on(self) -> bool:
        """Whether the attributes are replaced."""
        return bool(self._undo)

    @property
    def counts(self) -> Counts:
        """How many requests were served from a series, and how many were left to the host."""
        return self.passes.counts

    def enable(self, replaced: Callable[[], Iterable[Replaced]]) -> Host:
        """Replace the attributes that ``replaced()`` lists; again: no effect.

        Raises:
            ImportError: the host is not installed.
        """
        importlib.import_module(self.package)
        self._check_version()
        if not self.is_on:
            # all of them before the first is put in its place: the host may be refused
            new = [(owner, name, made(getattr(owner, name))) for owner, name, made in replaced()]
            for owner, name, attribute in new:
                self._undo.append((owner, name, vars(owner).get(name, self)))
                setattr(owner, name, attribute)
        return self

    def disable(self) -> None:
        """The host as it was, and nothing remembered of it; again: no effect."""
        self.off()
        self.passes.clear()

    def off(self) -> None:
        """Put back what was there; again: no effect."""
        while self._undo:
            owner, name, old = self._undo.pop()
            if old is self:
                delattr(owner, name)
            else:
                setattr(owner, name, old)

    def _check_version(self) -> None:
        """Warn where the host is not of the series of releases that was tested."""
        found = importlib.metadata.version(self.distribution)
        if found.split(".")[:2] != self.tested.split(".")[:2]:
            who = f"taylortorch.integrations.{self.package}.enable"
            tested = f"{self.name} {self.tested}"
            # at the line that calls the integration's own enable()
            warnings.warn(f"{who} was tested with {tested}; this is {found}", stacklevel=4)

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *error: object) -> None:
        self.off()
