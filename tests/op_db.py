"""torch's own operator database, walked with random paths through its samples, form by form.

``python -m tests.op_db`` rewrites the verdicts on every entry, for the torch that it runs on, and
prints what was compared. The database is internal to torch and changes with it: ``op_db.txt`` is
for the pinned version, ``op_db-X.Y.txt`` says what is different with another. Where a version has
no file, the verdicts for the nearest one are expected.

A sample is called with series of order 3 in place of all its tensors at once, and of each one
alone. What comes out is compared, at orders 1, 2 and 3, with reverse mode over reverse mode, and
with differences of torch's own forward pass along the path. At each order one of them decides:

* Reverse mode, as far as torch has it: it is exact.
* Differences where it has none, or where it is off: the forward pass is what is differentiated.
  Reverse mode is off only if the differences lie further from it than ``MANY`` times their own
  error, and so do differences of a second kind, at other points and of other step sizes.

Differences bring their error with them, and count where it is small. They refuse an entry of a
series only where both kinds do, and one that reverse mode confirms only at ten times the
tolerance: then a rule repeats what torch's backward pass has wrong. Up to a hundred times the
tolerance of reverse mode, differences that allow a series stand against it: that is rounding where
a derivative is badly conditioned. So no oracle that is off alone, on another processor or by an
error of its own, changes a verdict, as long as another one is there to be asked.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import math
import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.opinfo.core import gradcheck_wrapper_hermitian_input
from torch.utils._pytree import tree_flatten, tree_unflatten

import taylortorch as tt
from taylortorch.testing.oracles import Differences
from tests.oracle import along, differences

PINNED = (2, 13)
VERDICTS = Path(__file__).with_name("op_db.txt")
HEAD = """\
# The verdict on every entry of torch's operator database, for each form it has: the function (its
# aliases and its operator), the method, the in-place form. Written by python -m tests.op_db.
#
# right      the derivatives of order 1, 2 and 3 are those of the oracles, in float64 and complex128
# partly     the same, and some of the samples raise UnsupportedFunction
# refused    all of them do
# value      the result has no derivative (integers, booleans), and is torch's
# untested   torch has neither a derivative nor a finite, smooth value for most of the samples
# -          torch has no such form, or no sample of it with a floating-point tensor
#
# None may be wrong, crashed, or plain: a derivative that torch has, and no series.
"""
DIFFERENT = """\
# The entries of torch {}.{}'s operator database with other verdicts than in op_db.txt; gone: it has
# no such entry. Written by python -m tests.op_db.
"""
GONE = "gone"
ORDER = 3
FORMS = ("function", "method", "in-place")
# how many samples of each form are taken, how many numbers they may hold
COUNTS = {torch.float64: (8, 3, 3), torch.complex128: (2, 1, 1)}
LARGEST = 10_000
# torch's contract: the row padding_idx takes no gradient, though the forward pass reads it
BY_CONTRACT = ("nn_functional_embedding",)
# of complex numbers they take those with a real diagonal; a random path does not stay there
REAL_ONLY = ("cholesky_inverse", "linalg_ldl_")

# how many times their own error differences differ from what they exclude
MANY = 10
# of the second kind of differences
RADII = (0.08, 0.03, 0.012, 0.005, 0.002)

# what is in memory that nobody wrote to cannot be compared
ENTRIES = {
    op.formatted_name: op
    for op in op_db
    if not op.dtypes.isdisjoint(COUNTS) and "empty" not in op.formatted_name
}
# what was compared with what, and where torch's autograd is not the derivative of the forward pass
COMPARED: Counter[str] = Counter()
OFF_IN_TORCH: set[str] = set()


def is_float(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and (x.is_floating_point() or x.is_complex())


def leaves(result: Any) -> list[Any]:
    return tree_flatten(result, is_leaf=lambda x: isinstance(x, torch.Tensor))[0]


def entries_of(tensors: list[Any]) -> torch.Tensor:
    """All entries as one vector of float64, real and imaginary parts apart."""
    dense = [x.to_dense() if x.layout is not torch.strided else x for x in tensors]
    parts = [torch.view_as_real(x.resolve_conj()) if x.is_complex() else x for x in dense]
    return torch.cat([torch.zeros(0), *(x.detach().reshape(-1).double() for x in parts)])


class Call:
    """One sample of an entry in one form, as a function of its floating-point tensors."""

    def __init__(self, name: str, form: Callable, in_place: bool, sample: Any) -> None:
        self.name, self.form, self.in_place, self.sample = name, form, in_place, sample
        wrapper = ENTRIES[name].gradcheck_wrapper
        self.symmetric = wrapper is gradcheck_wrapper_hermitian_input or "ldl_factor" in name
        flat, self.spec = tree_flatten((sample.input, sample.args, sample.kwargs))
        # weights and bounds that come in single precision would drown the differences in noise
        self.flat = [x.double() if is_float(x) and x.dtype == torch.float32 else x for x in flat]
        # a series is dense; sparse tensors stay constants
        self.places = [
            i for i, x in enumerate(self.flat) if is_float(x) and x.layout is torch.strided
        ]
        self.base = [self.flat[i].detach() for i in self.places]
        self.expected: Any = None

    def __call__(self, tensors: list[Any]) -> Any:
        flat = [x.clone() if isinstance(x, torch.Tensor) else x for x in self.flat]
        for place, x in zip(self.places, tensors, strict=True):
            flat[place] = x
        first, args, kwargs = tree_unflatten(flat, self.spec)
        if self.symmetric:
            # torch reads one triangle of the matrix, and differentiates as if it had read both
            first = first + first.mH
        # random functions draw the same numbers in every call
        torch.default_generator.manual_seed(0)
        result = self.form(first, *args, **kwargs)
        if self.in_place and result is not first:
            raise AssertionError("an in-place form returned another object than it was given")
        if self.sample.output_process_fn_grad is not None:
            result = self.sample.output_process_fn_grad(result)
        return result

    def is_taken(self) -> bool:
        """Whether torch takes the call, with a tensor of moderate size to move."""
        if not self.base or sum(b.numel() for b in self.base) > LARGEST:
            return False
        try:
            self.expected = self([b.clone() for b in self.base])
        except Exception:
            return False
        # torch may resize what it writes to
        return not self.in_place or self.expected.numel() == self.flat[0].numel()

    def is_dull(self) -> bool:
        """Whether there is nothing to compare: no finite number comes out."""
        found = [y for y in leaves(self.expected) if isinstance(y, torch.Tensor)]
        return not torch.isfinite(entries_of(found)).any()

    def is_seen_by_autograd(self, place: int) -> bool:
        tensors = [b.clone() for b in self.base]
        # not a leaf, so that it can be written to
        tensors[place] = tensors[place].requires_grad_() * 1
        try:
            result = leaves(self(tensors))
        except RuntimeError:
            return False
        return any(isinstance(y, torch.Tensor) and y.requires_grad for y in result)

    def choices(self) -> Iterator[tuple[list[int], bool]]:
        """Which tensors move: all that torch differentiates, then each alone."""
        places = range(len(self.base))
        seen = [n for n in places if self.is_seen_by_autograd(n)]
        if seen:
            yield seen, True
        for n in places:
            if n not in seen or len(seen) > 1:
                yield [n], n in seen


def forms_of(op: Any) -> list[list[Callable]]:
    """The callables that stand for the entry: as a function, as a method, in place."""
    variants = [op, *op.aliases]
    names = [v.name + "_" for v in variants if "." not in v.name]
    has_argument = inspect.isfunction(op.op) and "inplace" in inspect.signature(op.op).parameters
    found = [
        [*(v.op for v in variants), op.get_operator()],
        [v.method_variant for v in variants],
        [
            *(v.inplace_variant for v in variants),
            op.get_inplace_operator(),
            *(getattr(torch, name, None) for name in names),
            functools.partial(op.op, inplace=True) if has_argument else None,
        ],
    ]
    return [list(dict.fromkeys(f for f in fs if f is not None)) for fs in found]


def samples_of(op: Any, dtype: torch.dtype) -> list[Any]:
    if dtype not in op.dtypes or (dtype.is_complex and op.formatted_name.startswith(REAL_ONLY)):
        return []
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    samples = list(op.sample_inputs("cpu", dtype, requires_grad=False, set_seed=False))
    # they come ordered by shape and by argument
    random.shuffle(samples)
    return samples


def calls(samples: list[Any], count: int, *form: Any) -> Iterator[Call]:
    """So many calls that torch itself takes, and one of them without numbers."""
    left = {True: 1, False: count}
    for sample in samples:
        call = Call(*form, sample)
        if call.is_taken():
            dull = call.is_dull()
            left[dull] -= 1
            if left[dull] >= 0:
                yield call
        if left[False] <= 0:
            break


def verdict_on(call: Call, moving: list[int], seen: bool, known: dict[Any, Oracles]) -> str:
    """The verdict on one call with series in these places; ``empty`` where nothing comes out.

    What torch says about a sample is kept in ``known``: one form after the other asks for it.
    """
    generator = torch.Generator().manual_seed(0)
    paths = [
        [b, *(draw(b, generator) * 0.3 for _ in range(ORDER))] if n in moving else [b]
        for n, b in enumerate(call.base)
    ]
    versions = [c._version for path in paths for c in path]
    series = [tt.TaylorTensor.from_coeffs(p) if len(p) > 1 else p[0].clone() for p in paths]
    try:
        result = call(series)
    except tt.UnsupportedFunction:
        return "refused"
    except Exception:
        return "crashed"
    if [c._version for path in paths for c in path] != versions:
        return "wrong"
    if not agree(call, result):
        return "wrong"
    plains = leaves(call.expected)
    results = [r for r, p in zip(leaves(result), plains, strict=True) if is_float(p)]
    plains = [p for p in plains if is_float(p)]
    if not plains:
        return "value"
    if not any(p.numel() for p in plains):
        return "empty"
    if seen and not any(isinstance(r, tt.TaylorTensor) for r in results):
        return "plain"
    # what no series reached is a constant
    derivatives = [
        r.derivatives if isinstance(r, tt.TaylorTensor) else (r, *([torch.zeros_like(r)] * ORDER))
        for r in results
    ]
    got = [entries_of(list(by_degree)) for by_degree in zip(*derivatives, strict=True)]
    key = id(call.sample), tuple(moving), seen
    if key not in known or not known[key].is_about(plains):
        known[key] = Oracles(call, paths, seen, plains)
    oracles = known[key]
    # one comparison of a sample with differences is enough where reverse mode agrees
    of_sample = [found for (sample, *_), found in known.items() if sample == id(call.sample)]
    confirmed = any(vars(found).get("differences") is not None for found in of_sample)
    if not oracles.finite.any():
        COMPARED["nothing: NaN or infinite"] += ORDER
        return "untested"
    answers = [oracles.is_right(got[k], k, confirmed) for k in range(1, ORDER + 1)]
    if False in answers:
        return "wrong"
    return "untested" if None in answers else "right"


def draw(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(like.shape, generator=generator, dtype=like.dtype)


def agree(call: Call, result: Any) -> bool:
    """Whether the result has the types, shapes and values of torch's."""
    plain = leaves(call.expected)
    results = [r.value if isinstance(r, tt.TaylorTensor) else r for r in leaves(result)]
    if len(results) != len(plain):
        return False
    if type(result) is not type(call.expected) and result is not leaves(result)[0]:
        return False
    for r, p in zip(results, plain, strict=True):
        if not isinstance(p, torch.Tensor):
            if r != p:
                return False
        elif r.shape != p.shape or r.dtype != p.dtype:
            return False
        else:
            tolerance = tolerance_of(p) / 1e3
            if not torch.allclose(
                entries_of([r]), entries_of([p]), rtol=tolerance, atol=tolerance, equal_nan=True
            ):
                return False
    return True


def is_finite(x: torch.Tensor) -> torch.Tensor:
    """NaN and infinity are nobody's value, in one part of a complex number or in both."""
    known = torch.isfinite(x).double()
    return torch.complex(known, known) if x.is_complex() else known


def tolerance_of(x: torch.Tensor) -> float:
    return max(1e-6, torch.finfo(x.dtype).eps ** 0.5) if is_float(x) else 0.0


class Estimate:
    """Derivatives by differences, of every entry, where their own error says that they count."""

    def __init__(self, exact: torch.Tensor, error: torch.Tensor, finite: torch.Tensor) -> None:
        self.exact, self.scale = exact, 1 + exact.abs()
        self.smooth = finite & (error <= 1e-4 * self.scale).all(0)
        # the error of an entry is itself an estimate, now and then a lucky one
        typical = error[:, self.smooth].median(1, keepdim=True).values if self.smooth.any() else 0
        self.error = error.clamp_min(3 * typical)

    def allowed(self, got: torch.Tensor, k: int, times: float = 1) -> torch.Tensor:
        """Where these may be the derivatives of order k, with so many times the tolerance."""
        tolerance = times * (1e-5 * self.scale[k] + MANY * self.error[k])
        return self.smooth & ((got - self.exact[k]).abs() <= tolerance)

    def is_excluded(self, total: torch.Tensor, weights: torch.Tensor, k: int) -> bool:
        """Whether this is far from the weighted sum of the derivatives of order k."""
        exact, error = weights * self.exact[k], weights.abs() * self.error[k]
        used = weights != 0
        distance = (total - exact[used].sum()).abs()
        return bool(distance > 1e-5 * (1 + exact[used].norm()) + MANY * error[used].norm())


class Oracles:
    """What torch says about one call along one path."""

    def __init__(self, call: Call, paths: list, seen: bool, plains: list[torch.Tensor]) -> None:
        self.call, self.paths, self.seen, self.plains = call, paths, seen, plains
        self.finite = entries_of([is_finite(p) for p in plains]) > 0
        generator = torch.Generator().manual_seed(1)
        self.weights = entries_of([draw(p, generator) for p in plains])
        self.tolerance = max(tolerance_of(x) for x in (*plains, *call.base))

    def on_curve(self, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        # an in-place form writes to what does not move, too
        pairs = zip(tensors, self.paths, strict=True)
        moved = [x if len(p) > 1 else p[0].clone() for x, p in pairs]
        return [y for y in leaves(self.call(moved)) if is_float(y)]

    def by_reverse_mode(self, where: torch.Tensor) -> list[torch.Tensor | None]:
        """The derivatives of the weighted sum over these entries, as many as torch has."""
        found: list[torch.Tensor] = []
        if self.seen and self.finite.all():
            weights = split(self.weights * where, self.plains)
            for order in range(ORDER, 0, -1):
                with contextlib.suppress(RuntimeError):
                    totals = along(self.on_curve, self.paths, order, weights)
                    found = [d.detach().double() for d in totals]
                    break
        known = [d if torch.isfinite(d) else None for d in found]
        return known + [None] * (ORDER + 1 - len(known))

    def by_differences(self, estimate: Callable) -> Estimate | None:
        # differences of numbers that are rounded to single precision are noise
        if self.tolerance > 1e-6:
            return None
        try:
            found = Estimate(*estimate(lambda ts: entries_of(self.on_curve(ts))), self.finite)
        except RuntimeError:
            # the path leaves the domain
            return None
        if self.call.name.startswith("unique") and not found.smooth[self.finite].all():
            # equal rows come out in another order when they part
            return None
        return found

    @functools.cached_property
    def reverse(self) -> list[torch.Tensor | None]:
        return self.by_reverse_mode(self.finite)

    @functools.cached_property
    def differences(self) -> Estimate | None:
        return self.by_differences(lambda f: differences(f, self.paths, ORDER))

    @functools.cached_property
    def second(self) -> Estimate | None:
        """The other kind of differences, asked before one kind overrules reverse mode or a rule."""
        return self.by_differences(lambda f: other_differences(f, self.paths, ORDER))

    @functools.cached_property
    def known(self) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
        """The entries that both kinds of differences know, and reverse mode over them."""
        assert self.differences is not None
        assert self.second is not None
        where = self.differences.smooth & self.second.smooth
        return where, self.by_reverse_mode(where)

    def is_about(self, plains: list[torch.Tensor]) -> bool:
        """Whether they are about a call with these results."""
        return len(plains) == len(self.plains) and all(
            p.dtype == q.dtype
            and p.shape == q.shape
            and p.layout == q.layout
            and torch.equal(entries_of([p]).nan_to_num(), entries_of([q]).nan_to_num())
            for p, q in zip(plains, self.plains, strict=True)
        )

    def is_right(self, got: torch.Tensor, k: int, confirmed: bool = False) -> bool | None:
        """Whether these are the derivatives of order k; None where no oracle knows.

        Differences that were not taken yet need not be where they ``confirmed`` a rule already.
        """
        total = self.reverse[k]
        agrees = None if total is None else self.is_sum(total, got, self.tolerance)
        asked = not (agrees and confirmed) or "differences" in vars(self)
        found = self.differences if asked else None
        if found is not None and not found.smooth.any():
            found = None
        answers = {"reverse mode": agrees, "differences": found}
        used = [name for name, answer in answers.items() if answer is not None]
        COMPARED[" and ".join(used) or "nothing: no oracle"] += 1
        if found is None:
            return agrees
        if agrees is None:
            return self.is_allowed(got, k, found.smooth)
        if agrees:
            # a rule may repeat what torch's backward pass has wrong
            if self.call.name in BY_CONTRACT or found.allowed(got, k, 10)[found.smooth].all():
                return True
            if self.second is None:
                return True
            return self.is_allowed(got, k, found.smooth & self.second.smooth, 10)
        if not self.is_allowed(got, k, found.smooth):
            return False
        if self.is_off(k):
            OFF_IN_TORCH.add(self.call.name)
            return True
        # as much as rounding may do where a derivative is badly conditioned
        return self.is_sum(total, got, 100 * self.tolerance)

    def is_sum(self, total: torch.Tensor, got: torch.Tensor, tolerance: float) -> bool:
        """Whether reverse mode found the weighted sum of these."""
        parts = got * self.weights
        return bool((parts.sum() - total).abs() <= tolerance * (1 + parts.norm()))

    def is_allowed(self, got: torch.Tensor, k: int, where: torch.Tensor, times: float = 1) -> bool:
        """Whether the differences of one kind or the other allow each of these entries."""
        assert self.differences is not None
        doubtful = where & ~self.differences.allowed(got, k, times)
        if not doubtful.any():
            return True
        if self.second is None:
            return False
        return not (doubtful & ~self.second.allowed(got, k, times)).any()

    def is_off(self, k: int) -> bool:
        """Whether both kinds of differences exclude what reverse mode says at order k."""
        if self.differences is None or self.second is None:
            return False
        where, totals = self.known
        total, weights = totals[k], self.weights * where
        return total is not None and all(
            kind.is_excluded(total, weights, k) for kind in (self.differences, self.second)
        )


def split(row: torch.Tensor, like: list[torch.Tensor]) -> list[torch.Tensor]:
    """The tensors whose entries are in this row: the reverse of ``entries_of``."""
    shapes = [(*x.shape, 2) if x.is_complex() else tuple(x.shape) for x in like]
    parts = zip(row.split([math.prod(shape) for shape in shapes]), shapes, like, strict=True)
    # a complex view of an odd offset is refused
    return [
        torch.view_as_complex(part.reshape(shape).clone())
        if x.is_complex()
        else part.reshape(shape)
        for part, shape, x in parts
    ]


def other_differences(f: Callable, paths: list, order: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What ``differences`` returns, at Chebyshev points of other radii."""
    factorials = torch.tensor([math.factorial(k) for k in range(order + 1)])[:, None]
    found = Differences(order, more=7)
    found.radii = RADII

    def at(t: float) -> torch.Tensor:
        return f([sum((c * t**k for k, c in enumerate(p[1:], 1)), p[0].clone()) for p in paths])

    with torch.no_grad():
        exact, error = found.coefficients(at)
    return exact * factorials, error * factorials


def verdict_of(
    name: str, n: int, functions: list[Callable], samples: dict, known: dict[Any, Oracles]
) -> str:
    """The worst verdict on the n-th form of an entry, over its aliases and samples."""
    found: Counter[str] = Counter()
    for function, (dtype, counts) in itertools.product(functions, COUNTS.items()):
        for call in calls(samples[dtype], counts[n], name, function, FORMS[n] == "in-place"):
            for moving, seen in call.choices():
                verdict = verdict_on(call, moving, seen, known)
                # what torch does not differentiate either may be refused
                found["refused by both" if verdict == "refused" and not seen else verdict] += 1
    for worst in ("wrong", "crashed", "plain"):
        if found[worst]:
            return worst
    if found["untested"] > found["right"]:
        return "untested"
    if found["right"]:
        return "partly" if found["refused"] else "right"
    for verdict in ("refused", "value", "refused by both", "untested", "empty"):
        if found[verdict]:
            return verdict.split()[0].replace("empty", "untested")
    return "-"


def verdicts(name: str) -> str:
    """The verdict on each form, as in a line of ``op_db.txt``."""
    op = ENTRIES[name]
    # torch.manual_seed keeps a stack trace for each kind of device: a sixth of the time
    seed = mock.patch.object(torch, "manual_seed", torch.default_generator.manual_seed)
    with seed, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        samples = {dtype: samples_of(op, dtype) for dtype in COUNTS}
        known: dict[Any, Oracles] = {}
        lines = [verdict_of(name, n, fs, samples, known) for n, fs in enumerate(forms_of(op))]
        return " ".join(lines)


def version() -> tuple[int, int]:
    """Of the torch that runs, without what a release may repair."""
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)


def file_of(of: tuple[int, int]) -> Path:
    return VERDICTS if of == PINNED else VERDICTS.with_name("op_db-{}.{}.txt".format(*of))


def versions() -> list[tuple[int, int]]:
    """The versions of torch with recorded verdicts."""
    names = [path.stem.split("-")[1] for path in VERDICTS.parent.glob("op_db-*.txt")]
    return sorted([PINNED, *((int(a), int(b)) for a, b in (name.split(".") for name in names))])


def nearest(of: tuple[int, int], known: list[tuple[int, int]]) -> tuple[int, int]:
    """The version of torch whose verdicts are expected: the newer one of two as near."""
    return min(known, key=lambda v: (abs(100 * (v[0] - of[0]) + v[1] - of[1]), -v[1]))


def lines_of(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line[:1] != "#"]
    return dict(line.split(" ", 1) for line in lines)


def recorded(of: tuple[int, int]) -> dict[str, str]:
    """The verdicts with a version of torch."""
    found = lines_of(VERDICTS)
    if of != PINNED:
        found.update(lines_of(file_of(of)))
    return {name: line for name, line in sorted(found.items()) if line != GONE}


def record(of: tuple[int, int], found: dict[str, str]) -> None:
    head = HEAD
    if of != PINNED:
        pinned = recorded(PINNED)
        names = sorted({*pinned, *found})
        every = {name: found.get(name, GONE) for name in names}
        found = {name: line for name, line in every.items() if line != pinned.get(name)}
        head = DIFFERENT.format(*of)
    file_of(of).write_text(head + "".join(f"{name} {line}\n" for name, line in found.items()))


if __name__ == "__main__":
    lines = {name: verdicts(name) for name in sorted(ENTRIES)}
    record(version(), lines)
    for n, form in enumerate(FORMS):
        print(f"{form}:", dict(Counter(line.split()[n] for line in lines.values()).most_common()))
    print("comparisons of one order:", dict(COMPARED.most_common()))
    print("torch's autograd is not the derivative of the forward pass:", *sorted(OFF_IN_TORCH))
