"""One call of a function that is checked: its tensors, paths through them, what must come out.

A ``Case`` chooses the oracle, calls the rule, and compares; what is compared, ``check.py`` and
``laws.py`` say.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..engine.registry import UnsupportedFunction, name_of
from ..engine.samples import Sample
from ..engine.tensor import TaylorTensor
from ..extend.target import argument_names, plain
from .oracles import Autograd, Opaque, Path, largest_of, leaves_of
from .samples import invoke, labels

# relative, relative to the largest entry, and of the largest coefficient
_TOLERANCES = {
    torch.float64: (1e-6, 1e-9, 1e-12),
    torch.complex128: (1e-6, 1e-9, 1e-12),
    torch.float32: (1e-3, 1e-4, 1e-4),
    torch.complex64: (1e-3, 1e-4, 1e-4),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What ``check_rule`` was asked for."""

    order: int
    rtol: float | None
    atol: float | None
    gradients: bool
    compile: bool


class Subject:
    """The function that is checked: ``function`` has the rule, ``plain`` is what it was before."""

    def __init__(
        self,
        function: Any,
        reference: Callable | None,
        settings: Settings,
        generator: torch.Generator,
    ) -> None:
        is_class = isinstance(function, type) and issubclass(function, torch.autograd.Function)
        original = plain(function)
        self.name = name_of(function)
        if isinstance(function, torch.nn.Module):
            self.name = f"the module {type(function).__name__}"
        self.function = function.apply if is_class else function
        self.plain = original.apply if is_class else original
        self.reference = reference
        self.settings = settings
        self.generator = generator
        self.names = argument_names(original)


class Case:
    """One sample of one function: its tensors, its value there, and the oracle for it."""

    def __init__(
        self, subject: Subject, sample: Sample, values: list[torch.Tensor], where: str
    ) -> None:
        self.of = subject
        self.sample = sample
        self.values = values
        self.where = where
        self.order = subject.settings.order
        self.labels = labels(sample.args, "", subject.names)
        for name, a in sample.kwargs.items():
            self.labels += labels(a, f"{name}=", ())
        with torch.no_grad():
            self.base = invoke(subject.plain, sample, values)
        if not self.base:
            raise TypeError(
                f"taylortorch.testing.check_rule: {subject.name} returns no floating-point tensor "
                f"for {where}"
            )
        if not all(o.isfinite().all() for o in self.base):
            raise ValueError(
                f"taylortorch.testing.check_rule: {subject.name} is not finite for {where}: give "
                "another sample"
            )
        self.highest = [
            [value, *(self.random(value.shape, value) for _ in range(self.order + 1))]
            for value in values
        ]
        self.weights = [self.random(o.shape, o) for o in self.base]
        self.expected: dict[tuple[int, ...], tuple[list, list]] = {}
        self.right: set[tuple[int, ...]] = set()
        self.oracle, self.why = self.chosen_oracle()
        entries, _ = self.entries(tuple(range(len(values))))
        # the rounding of numbers of this size may show in any coefficient
        higher = max(largest_of(c) for row in entries[1:] for c in row)
        self.size = max(higher, 0.01 * max(map(largest_of, self.base)))

    def random(self, shape: Sequence[int], like: torch.Tensor) -> torch.Tensor:
        """Entries between -1/2 and 1/2, real and imaginary."""
        generator = self.of.generator
        parts = 2 if like.is_complex() else 1
        entries = torch.rand((*shape, parts), generator=generator, dtype=torch.float64) - 0.5
        whole = torch.view_as_complex(entries) if parts == 2 else entries[..., 0]
        return whole.to(like)

    def curve(self, chosen: Sequence[int], order: int | None = None) -> list[Path]:
        """The paths of the tensors that are series; the others stand still."""
        last = (self.order if order is None else order) + 1
        return [p[:last] if i in chosen else p[:1] for i, p in enumerate(self.highest)]

    def plain(self, values: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The function the derivatives are taken of."""
        return invoke(self.of.reference or self.of.plain, self.sample, values)

    def broadcasts(self, values: list[torch.Tensor]) -> bool:
        """Whether the function takes these values and still makes results of the same shapes."""
        try:
            with warnings.catch_warnings():
                # shapes that nobody else gives the function, and what torch says of them
                warnings.simplefilter("ignore")
                results = invoke(self.of.plain, self.sample, values)
        except Exception:
            return False
        return [o.shape for o in results] == [o.shape for o in self.base]

    def closed_over(self) -> list[torch.Tensor]:
        """What requires grad in the function besides its arguments."""
        total = sum(o.abs().sum() for o in self.plain(self.values))
        return list(leaves_of(total).values())  # type: ignore[arg-type]

    # --- which oracle

    def chosen_oracle(self) -> tuple[Any, str]:
        """Autograd, unless finite differences show that it does not see the function; and why."""
        what = "" if self.of.reference is None else " of the reference"
        every = tuple(range(len(self.values)))
        autograd, opaque = Autograd(self.plain), Opaque(self.plain)
        try:
            self.expected[every] = self.seen_by(autograd, every)
        except Exception as failure:
            reason = str(failure).split(". ")[0].split("\n")[0].rstrip(".")
            return opaque, f"{what} (autograd fails: {reason})"
        if self.of.reference is not None:
            return autograd, what
        for chosen in dict.fromkeys([*((i,) for i in every), every]):
            seen = self.expected[chosen] = self.seen_by(autograd, chosen)
            k = self.blind(chosen, seen[0], *opaque.entries(self.curve(chosen), self.base))
            if k:
                self.expected.clear()
                blind = f"does not see {self.labels[chosen[0]]}" if k == 1 else f"is wrong in c_{k}"
                return opaque, f" (autograd {blind})"
        return autograd, ""

    def seen_by(self, autograd: Autograd, chosen: Sequence[int]) -> tuple[list, list]:
        """The entries by autograd."""
        with warnings.catch_warnings():
            # torch warns of operators without a formula; that the gradient is lost shows anyway
            warnings.simplefilter("ignore")
            return autograd.entries(self.curve(chosen), self.base)

    def blind(self, chosen: Sequence[int], seen: list, moves: list, errors: list) -> int:
        """The lowest degree that autograd does not see, by finite differences; 0 if it sees all."""
        for k in range(1, self.order + 1):
            for a, b, e in zip(seen[k], moves[k], errors[k], strict=True):
                scale = max(largest_of(a), largest_of(b))
                near = (a - b).abs() <= 1e-3 * scale + 10 * e.abs()
                if near.all() or largest_of(e) > 0.01 * scale:
                    continue
                if k == 1 and a.any():
                    raise AssertionError(self.two_meanings(chosen, a, b))
                return k
        return 0

    def two_meanings(self, chosen: Sequence[int], a: torch.Tensor, b: torch.Tensor) -> str:
        """What to say where autograd and finite differences disagree."""
        n = int((a - b).abs().argmax())
        return (
            f"the gradient of {self.of.name} is not that of its values\n  {self.where}\n"
            f"  series: {' and '.join(self.labels[i] for i in chosen)}\n"
            f"  c_1 is {a.flatten()[n].item():.6g} by autograd, {b.flatten()[n].item():.6g} by "
            "finite differences\n"
            "  say which is meant: pass reference=, a function with the gradient that counts (the "
            "function itself, if its backward is meant to differ)"
        )

    def entries(self, chosen: tuple[int, ...]) -> tuple[list, list]:
        """The coefficients of the oracle by degree and result, and bounds on their errors."""
        if chosen not in self.expected:
            self.expected[chosen] = self.oracle.entries(self.curve(chosen), self.base)
        return self.expected[chosen]

    def check_decided(self, chosen: Sequence[int], entries: list, errors: list) -> None:
        """Raise where the oracle has no answer."""
        for n, value in enumerate(self.base):
            scale = max(largest_of(row[n]) for row in entries[1:])
            for k in range(1, self.order + 1):
                want, error = entries[k][n], errors[k][n]
                if not want.isfinite().all():
                    raise AssertionError(
                        self.message(
                            chosen,
                            f"c_{k} is not finite by {self.oracle.name}: the sample lies where the "
                            "function has no derivatives; give another one, or reference=",
                        )
                    )
                if largest_of(error) > 1e-3 * scale + 1e-9 * largest_of(value):
                    raise AssertionError(
                        self.message(
                            chosen,
                            f"finite differences cannot tell c_{k} (they may be off by "
                            f"{largest_of(error):.1g} of {scale:.1g}): the function is not smooth "
                            "there, or computes in low precision; pass reference=, torch code that "
                            "computes the same in double precision",
                        )
                    )

    # --- calling the rule, and comparing

    def lines(self, curve: list[Path], chosen: Sequence[int]) -> list[Any]:
        """The arguments: series along a curve, plain tensors where they stand still."""
        return [
            TaylorTensor.from_coeffs(path) if i in chosen else path[0]
            for i, path in enumerate(curve)
        ]

    def run(self, arguments: Sequence[Any], chosen: Sequence[int], what: str) -> list[Any]:
        """The results of the rule, as many and of the same shapes as those of the function."""
        try:
            results = invoke(self.of.function, self.sample, arguments)
        except UnsupportedFunction:
            raise
        except Exception as failure:
            raise AssertionError(
                self.message(chosen, f"{what}: raised {type(failure).__name__}: {failure}")
            ) from failure
        shapes = [tuple(o.shape) for o in results]
        wanted = [tuple(o.shape) for o in self.base]
        if shapes != wanted:
            raise AssertionError(
                self.message(chosen, f"{what}: results of shapes {shapes}, expected {wanted}")
            )
        return results

    def compare(
        self,
        got: torch.Tensor,
        want: torch.Tensor,
        chosen: Sequence[int],
        what: str,
        by: str,
        hint: Callable[[], str] = str,
        *,
        error: Any = 0.0,
        size: float | None = None,
    ) -> None:
        """Raise unless ``got`` is ``want`` within the tolerances.

        ``error`` bounds that of ``want``; ``size`` is that of the numbers whose rounding may show.
        """
        if got.dtype != want.dtype and (got.is_complex() or not want.is_complex()):
            want = want.to(got.dtype)
        rtol, atol, rounding = _TOLERANCES.get(got.dtype, (2e-2, 1e-2, 1e-2))
        rtol = self.of.settings.rtol if self.of.settings.rtol is not None else rtol
        atol = self.of.settings.atol if self.of.settings.atol is not None else atol
        got, want = got.detach(), want.detach().expand_as(got)
        allowed = rtol * want.abs() + atol * largest_of(want) + 10 * abs(error)
        allowed = allowed + rounding * (self.size if size is None else size)
        off = (got - want).abs()
        wrong = ~(off <= allowed)
        if not wrong.any():
            return
        n = int(torch.where(wrong, off.nan_to_num(math.inf) / allowed, 0).argmax())
        place = tuple(int(i) for i in torch.unravel_index(torch.tensor(n), got.shape))
        lines = [
            f"{what}" + (f" at {place}" if place else "") + f": got {_number(got, n)}, "
            f"expected {_number(want, n)} by {by}"
        ]
        count = int(wrong.sum())
        if got.numel() > 1:
            lines.append(f"{count} of {got.numel()} entries are wrong")
        found = hint()
        if found:
            lines.append(f"it points to: {found}")
        raise AssertionError(self.message(chosen, *lines))

    def message(self, chosen: Sequence[int], *lines: str) -> str:
        """What is said of a wrong rule."""
        series = " and ".join(self.labels[i] for i in chosen)
        head = [f"the rule of {self.of.name} is wrong", self.where, f"series: {series}"]
        return "\n  ".join([*head, *lines])


def _number(x: torch.Tensor, n: int) -> str:
    return f"{x.flatten()[n].item():.8g}"
