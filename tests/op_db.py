"""torch's own operator database, walked with random paths through its samples, form by form.

``python -m tests.op_db`` rewrites ``op_db.txt``, the verdicts on every entry, and prints what was
compared. The database is internal to torch, so it is used with the tested version only.

A sample is called with series of order 3 in place of all its tensors at once, and of each one
alone. What comes out is compared, at orders 1, 2 and 3, with two oracles: reverse mode over reverse
mode, and differences of torch's own forward pass along the path. Where they disagree the forward
pass is right: it is what is differentiated.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.opinfo.core import gradcheck_wrapper_hermitian_input
from torch.utils._pytree import tree_flatten, tree_unflatten

import taylortorch as tt
from tests.oracle import along, differences

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
ORDER = 3
FORMS = ("function", "method", "in-place")
# how many samples of each form are taken, how many numbers they may hold
COUNTS = {torch.float64: (8, 3, 3), torch.complex128: (2, 1, 1)}
LARGEST = 10_000
# torch's contract: the row padding_idx takes no gradient, though the forward pass reads it
BY_CONTRACT = ("nn_functional_embedding",)
# of complex numbers they take those with a real diagonal; a random path does not stay there
REAL_ONLY = ("cholesky_inverse", "linalg_ldl_")

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
        self.confirmed = False

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


def verdict_on(call: Call, moving: list[int], seen: bool) -> str:
    """The verdict on one call with series in these places; ``empty`` where nothing comes out."""
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
    return by_oracles(call, paths, seen, plains, got)


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


def by_oracles(
    call: Call, paths: list, seen: bool, plains: list[torch.Tensor], got: list[torch.Tensor]
) -> str:
    """right, wrong or untested."""

    def on_curve(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        # an in-place form writes to what does not move, too
        moved = [x if len(p) > 1 else p[0].clone() for x, p in zip(tensors, paths, strict=True)]
        return [y for y in leaves(call(moved)) if is_float(y)]

    finite = entries_of([is_finite(p) for p in plains]) > 0
    if not finite.any():
        COMPARED["nothing: NaN or infinite"] += ORDER
        return "untested"
    generator = torch.Generator().manual_seed(1)
    weights = [draw(p, generator) for p in plains]
    tolerance = max(tolerance_of(x) for x in (*plains, *call.base))
    reverse = by_reverse_mode(on_curve, paths, weights) if seen and finite.all() else []
    totals = [(c * entries_of(weights)).sum() for c in got]
    by_reverse = [
        bool(torch.isclose(total, r, rtol=tolerance, atol=tolerance)) if torch.isfinite(r) else None
        for total, r in zip(totals, reverse, strict=False)
    ]
    by_reverse += [None] * (ORDER + 1 - len(by_reverse))
    exact = error = None
    # differences of numbers that are rounded to single precision are noise; one comparison is
    # enough where reverse mode agrees
    if tolerance == 1e-6 and not (call.confirmed and all(by_reverse)):
        exact, error = by_differences(on_curve, paths)
        call.confirmed = exact is not None
    verdict = "right"
    for k in range(1, ORDER + 1):
        reversed_ok, forward_ok = by_reverse[k], None
        if exact is not None:
            smooth = finite & (error <= 1e-4 * (1 + exact.abs())).all(0)
            if call.name.startswith("unique") and not smooth.all():
                # equal rows come out in another order when they part
                smooth[:] = False
            allowed = 1e-5 * (1 + exact[k].abs()) + 10 * error[k]
            close = (got[k] - exact[k]).abs() <= allowed
            forward_ok = bool(close[smooth].all()) if smooth.any() else None
            if reversed_ok is False and forward_ok and smooth[finite].all():
                OFF_IN_TORCH.add(call.name)
                reversed_ok = None
            if reversed_ok and call.name in BY_CONTRACT:
                forward_ok = None
        oracles = {"reverse mode": reversed_ok, "differences": forward_ok}
        used = [oracle for oracle, ok in oracles.items() if ok is not None]
        COMPARED[" and ".join(used) or "nothing: no oracle"] += 1
        if False in oracles.values():
            return "wrong"
        if not used:
            verdict = "untested"
    return verdict


def by_reverse_mode(f: Callable, paths: list, weights: list[torch.Tensor]) -> list[torch.Tensor]:
    """As many derivatives as torch has."""
    for order in range(ORDER, 0, -1):
        with contextlib.suppress(RuntimeError):
            return [d.detach().double() for d in along(f, paths, order, weights)]
    return []


def by_differences(f: Callable, paths: list) -> Any:
    try:
        return differences(lambda tensors: entries_of(f(tensors)), paths, ORDER)
    except RuntimeError:
        # the path leaves the domain
        return None, None


def verdict_of(name: str, n: int, functions: list[Callable], samples: dict) -> str:
    """The worst verdict on the n-th form of an entry, over its aliases and samples."""
    found: Counter[str] = Counter()
    for function, (dtype, counts) in itertools.product(functions, COUNTS.items()):
        for call in calls(samples[dtype], counts[n], name, function, FORMS[n] == "in-place"):
            for moving, seen in call.choices():
                verdict = verdict_on(call, moving, seen)
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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        samples = {dtype: samples_of(op, dtype) for dtype in COUNTS}
        return " ".join(verdict_of(name, n, fs, samples) for n, fs in enumerate(forms_of(op)))


def recorded() -> dict[str, str]:
    """The verdicts in ``op_db.txt``."""
    lines = [line for line in VERDICTS.read_text().splitlines() if line[:1] != "#"]
    return dict(line.split(" ", 1) for line in lines)


if __name__ == "__main__":
    lines = {name: verdicts(name) for name in sorted(ENTRIES)}
    VERDICTS.write_text(HEAD + "".join(f"{name} {line}\n" for name, line in lines.items()))
    for n, form in enumerate(FORMS):
        print(f"{form}:", dict(Counter(line.split()[n] for line in lines.values()).most_common()))
    print("comparisons of one order:", dict(COMPARED.most_common()))
    print("torch's autograd is not the derivative of the forward pass:", *sorted(OFF_IN_TORCH))
