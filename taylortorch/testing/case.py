"""testing.case."""

from __future__ import annotations

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..algebra.structures import Bundle, Collapsed
from ..engine.registry import UnsupportedFunction, name_of
from ..engine.samples import Sample
from ..engine.tensor import TaylorTensor, wrap
from ..extend.target import argument_names, plain
from ..operators.variables import variables
from .diagnosis import (
    Report,
    labels,
    largest_of,
    mixed,
    number_of,
    on_line,
    ratio_of,
    rows_of_block,
    shown,
)
from .oracles import (
    Autograd,
    Opaque,
    Path,
    coefficients,
    contracted,
    gradients_of,
    leaves_of,
    weighted,
)
from .samples import invoke, subsets, tensors_in


@dataclasses.dataclass(frozen=True)
class Settings:
    order: int
    rtol: float | None
    atol: float | None
    gradients: bool
    compile: bool


# --- the check ----------------------------------------------------------------------------------


class Check:
    """One call of ``check_rule``."""

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
        self.oracles: dict[str, None] = {}
        self.checks: dict[str, None] = {}
        self.refused: dict[str, None] = {}
        self.error = 0.0

    def sample(self, number: int, sample: Sample) -> None:
        """Check everything on one sample."""
        specs = tensors_in((sample.args, tuple(sample.kwargs.values())))
        values = [spec.draw(self.generator) for spec in specs]
        where = f"sample {number}: {shown(sample.args)}" + "".join(
            f", {name}={shown(a)}" for name, a in sample.kwargs.items()
        )
        if not values:
            raise TypeError(f"taylortorch.testing.check_rule: {where} has no floating-point tensor")
        double = [v.to(torch.complex128 if v.is_complex() else torch.float64) for v in values]
        try:
            invoke(self.plain, sample, double)
        except Exception:
            double = values
        case = _Case(self, sample, double, where)
        case.check()
        if any(a.dtype != b.dtype for a, b in zip(values, double, strict=True)):
            case.keeps_precision(values)
        for n, value in enumerate(double):
            if len(double) > 1 and value.ndim and len(value):
                lower = [v[0] if i == n else v for i, v in enumerate(double)]
                if case.broadcasts(lower):
                    what = f"{where}, with [0] of {case.labels[n]}"
                    _Case(self, sample, lower, what).check()
                    self.checks["broadcasting"] = None

    def report(self, count: int) -> Report:
        """What was checked."""
        order = self.settings.order
        checks, refused = tuple(self.checks), tuple(self.refused)
        return Report(self.name, count, order, tuple(self.oracles), checks, refused, self.error)


class _Case:
    """One sample of one function: its tensors, its value there, and the oracle for it."""

    def __init__(
        self, check: Check, sample: Sample, values: list[torch.Tensor], where: str
    ) -> None:
        self.of = check
        self.sample = sample
        self.values = values
        self.where = where
        self.order = check.settings.order
        self.labels = labels(sample.args, "", check.names)
        for name, a in sample.kwargs.items():
            self.labels += labels(a, f"{name}=", ())
        with torch.no_grad():
            self.base = invoke(check.plain, sample, values)
        if not self.base:
            raise TypeError(
                f"taylortorch.testing.check_rule: {check.name} returns no floating-point tensor "
                f"for {where}"
            )
        if not all(o.isfinite().all() for o in self.base):
            raise ValueError(
                f"taylortorch.testing.check_rule: {check.name} is not finite for {where}: give "
                "another sample"
            )
        self.highest = [
            [value, *(self.random(value.shape, value) for _ in range(self.order + 1))]
            for value in values
        ]
        self.weights = [self.random(o.shape, o) for o in self.base]
        self.closed_over = self.tensors_closed_over()
        self.expected: dict[tuple[int, ...], tuple[list, list]] = {}
        self.right: set[tuple[int, ...]] = set()
        self.oracle = self.chosen_oracle()
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

    def tensors_closed_over(self) -> list[torch.Tensor]:
        """What requires grad in the function besides its arguments."""
        total = sum(o.abs().sum() for o in self.plain(self.values))
        return list(leaves_of(total).values())  # type: ignore[arg-type]

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

    # --- which oracle

    def chosen_oracle(self) -> Any:
        """Autograd, unless finite differences show that it does not see the function."""
        what = "" if self.of.reference is None else " of the reference"
        every = tuple(range(len(self.values)))
        autograd, opaque = Autograd(self.plain), Opaque(self.plain)
        try:
            with warnings.catch_warnings():
                # torch warns of operators without a formula; that the gradient is lost shows below
                warnings.simplefilter("ignore")
                self.expected[every] = autograd.entries(self.curve(every), self.base)
        except Exception as failure:
            reason = str(failure).split(". ")[0].split("\n")[0].rstrip(".")
            return self.note_oracle(opaque, f"{what} (autograd fails: {reason})")
        if self.of.reference is not None:
            return self.note_oracle(autograd, what)
        for chosen in dict.fromkeys([*((i,) for i in every), every]):
            curve = self.curve(chosen)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                seen = autograd.entries(curve, self.base)
            self.expected[chosen] = seen
            moves, errors = opaque.entries(curve, self.base)
            for k in range(1, self.order + 1):
                for a, b, e in zip(seen[0][k], moves[k], errors[k], strict=True):
                    scale = max(largest_of(a), largest_of(b))
                    near = (a - b).abs() <= 1e-3 * scale + 10 * e.abs()
                    if near.all() or largest_of(e) > 0.01 * scale:
                        continue
                    if k == 1 and a.any():
                        raise AssertionError(self.two_meanings(chosen, a, b))
                    why = (
                        f"does not see {self.labels[chosen[0]]}" if k == 1 else f"is wrong in c_{k}"
                    )
                    self.expected.clear()
                    return self.note_oracle(opaque, f" (autograd {why})")
        return self.note_oracle(autograd, "")

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

    def note_oracle(self, oracle: Any, why: str) -> Any:
        self.of.oracles[oracle.name + why] = None
        return oracle

    # --- values and coefficients

    def check(self) -> None:
        """Everything."""
        settings = self.of.settings
        choices = subsets(len(self.values))
        accepted = [chosen for chosen in choices if self.check_coefficients(chosen)]
        if not accepted:
            raise AssertionError(
                f"{self.of.name} takes no series\n  {self.where}\n  " + "\n  ".join(self.of.refused)
            )
        self.of.checks |= dict.fromkeys(("values", "coefficients"))
        if settings.gradients:
            by_autograd = isinstance(self.oracle, Autograd)
            for chosen in accepted if by_autograd else [max(accepted, key=len)]:
                self.check_gradients(chosen)
            self.of.checks["gradients"] = None
        widest = max(accepted, key=len)
        laws = {
            "orders": self.check_orders,
            "structural zeros, shared directions": self.check_shapes,
            "bundle, collapsed": self.check_bundles,
            "several variables": self.check_variables,
            "nested levels": self.check_levels,
        }
        if settings.compile:
            laws["torch.compile"] = self.check_compiled
        for law, check_law in laws.items():
            try:
                check_law(widest)
            except UnsupportedFunction as refusal:
                raise AssertionError(self.message(widest, f"{law}: {refusal}")) from refusal
            self.of.checks[law] = None

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

    def check_coefficients(self, chosen: tuple[int, ...]) -> bool:
        """Whether these arguments may be series; if so, the coefficients are compared."""
        try:
            results = self.run(self.lines(self.curve(chosen), chosen), chosen, "order K")
        except UnsupportedFunction as refusal:
            who = " and ".join(self.labels[i] for i in chosen)
            self.of.refused[f"{who}: {refusal}"] = None
            return False
        for result, value in zip(results, self.base, strict=True):
            c_0 = result.value if isinstance(result, TaylorTensor) else result
            self.compare(c_0, value, chosen, "the value", "the function")
        entries, errors = self.entries(chosen)
        self.check_decided(chosen, entries, errors)
        for k in range(1, self.order + 1):
            for n, result in enumerate(results):
                got = coefficients(result, self.order)[k]
                want = entries[k][n]
                self.compare(
                    got,
                    want,
                    chosen,
                    f"c_{k}" + (f" of result {n + 1}" if len(results) > 1 else ""),
                    self.oracle.name,
                    functools.partial(self.hint, chosen, results, n, k),
                    error=errors[k][n],
                )
                scale = largest_of(want)
                if scale:
                    self.of.error = max(self.of.error, largest_of(got - want) / scale)
        self.right.add(chosen)
        return True

    def lines(self, curve: list[Path], chosen: Sequence[int]) -> list[Any]:
        """The arguments: series along a curve, plain tensors where they stand still."""
        return [
            TaylorTensor.from_coeffs(path) if i in chosen else path[0]
            for i, path in enumerate(curve)
        ]

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
            f"{what}" + (f" at {place}" if place else "") + f": got {number_of(got, n)}, "
            f"expected {number_of(want, n)} by {by}"
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

    # --- what the numbers point to

    def hint(self, chosen: tuple[int, ...], results: list[Any], n: int, k: int) -> str:
        """A likely cause of a wrong ``c_k`` of result ``n``; empty where the numbers show none."""
        entries, _ = self.expected[chosen]
        got, want = coefficients(results[n], self.order)[k].detach(), entries[k][n]
        if not isinstance(results[n], TaylorTensor):
            return "a plain tensor came out: the series is lost, by .value, .detach() or numpy"
        ratio = ratio_of(got, want)
        if len(chosen) > 1 and all((i,) in self.right for i in chosen):
            return (
                "each argument alone is right, so the mixed terms are wrong: the products of the "
                "coefficients of several arguments"
            )
        if ratio == 0 and k == 1:
            who = " and ".join(self.labels[i] for i in chosen)
            return f"the result does not depend on {who}"
        if k > 1 and self.linear(chosen, got, n, k):
            return (
                "the derivative does not vary along the path: its own series is lost, by .value, "
                ".detach() or a constant"
            )
        if ratio is not None and ratio < 0 and abs(ratio + 1) < 1e-4:
            return "the sign"
        if ratio is not None and k > 1 and abs(ratio / math.factorial(k) - 1) < 1e-4:
            return f"derivatives where coefficients are meant: c_{k} is the derivative / {k}!"
        if ratio is not None and k > 1 and abs(ratio * math.factorial(k) - 1) < 1e-4:
            return f"one division by {k}! too many"
        if ratio is not None:
            return f"{'the derivative' if k == 1 else f'c_{k}'} is off by the factor {ratio:.4g}"
        other = self.swapped(chosen, got, n) if k == 1 and len(chosen) == 1 else ""
        if other:
            return other
        if k == 1 and self.affine(chosen, got - want, n):
            return "the function is affine, not linear: its value at zero is added"
        if k > 1:
            return (
                f"c_1 to c_{k - 1} are right: what is wrong is how the derivative itself is "
                "expanded, or a product of lower coefficients is missing"
            )
        return ""

    def swapped(self, chosen: tuple[int, ...], got: torch.Tensor, n: int) -> str:
        """Whether it is the derivative in another argument."""
        (i,) = chosen
        for j, path in enumerate(self.highest):
            if j != i and path[0].shape == self.highest[i][0].shape:
                moved = [p[:1] for p in self.highest]
                moved[j] = [path[0], *self.highest[i][1 : self.order + 1]]
                want = self.oracle.entries(moved, self.base)[0][1][n]
                if largest_of(got - want) <= 1e-4 * largest_of(want):
                    return f"it is the derivative in {self.labels[j]}: the derivatives are swapped"
        return ""

    def linear(self, chosen: Sequence[int], got: torch.Tensor, n: int, k: int) -> bool:
        """Whether ``c_k`` is the first derivative times the coefficients of degree ``k`` alone."""
        curve = [[p[0], p[k]] if i in chosen else p[:1] for i, p in enumerate(self.highest)]
        want = self.oracle.entries(curve, self.base)[0][1][n]
        return largest_of(got - want) <= 1e-6 * largest_of(want)

    def affine(self, chosen: Sequence[int], off: torch.Tensor, n: int) -> bool:
        """Whether the error is the value where these arguments are zero."""
        zeros = [torch.zeros_like(v) if i in chosen else v for i, v in enumerate(self.values)]
        with torch.no_grad():
            at_zero = invoke(self.of.plain, self.sample, zeros)[n]
        return largest_of(off - at_zero) <= 1e-6 * largest_of(at_zero)

    # --- gradients

    def check_gradients(self, chosen: tuple[int, ...]) -> None:
        """The gradient of every coefficient in every coefficient of every argument."""
        curve = [[c.clone().requires_grad_() for c in path] for path in self.curve(chosen)]
        leaves = [c for path in curve for c in path]
        names = [
            f"{self.labels[i]}" + (f" (c_{j})" if i in chosen else "")
            for i, path in enumerate(curve)
            for j in range(len(path))
        ]
        try:
            results = self.run(self.lines(curve, chosen), chosen, "with tensors that require grad")
            totals = [
                contracted(results, self.weights, k) / math.factorial(k)
                for k in range(self.order + 1)
            ]
            if isinstance(self.oracle, Autograd):
                wanted = self.oracle.totals(curve, self.weights)
                leaves += self.closed_over
                names += [f"a tensor {list(p.shape)} it closes over" for p in self.closed_over]
            found = [gradients_of(total, leaves) for total in totals]
        except (UnsupportedFunction, RuntimeError) as failure:
            raise AssertionError(
                self.message(
                    chosen,
                    f"gradients: {failure}",
                    "pass gradients=False if nothing is trained through this function",
                )
            ) from failure
        if isinstance(self.oracle, Autograd):
            expected = [gradients_of(total, leaves) for total in wanted]
            size = max(self.size, *(largest_of(g) for row in expected for g in row))
            for k in range(self.order + 1):
                for got, want, name in zip(found[k], expected[k], names, strict=True):
                    self.compare_gradient(got, want, chosen, f"c_{k}", name, size=size)
            return
        start = 0
        for i, path in enumerate(curve):
            tangent = [self.random(c.shape, c) for c in path]
            moved = [tangent if n == i else [] for n in range(len(curve))]
            wanted, errors = self.oracle.slopes(self.curve(chosen), moved, self.weights)
            for k in range(self.order + 1):
                parts = found[k][start : start + len(path)]
                got = weighted(parts, tangent).detach().cpu()
                self.compare_gradient(
                    got,
                    wanted[k],
                    chosen,
                    f"c_{k}",
                    self.labels[i],
                    error=errors[k],
                    size=max(self.size, largest_of(wanted)),
                )
            start += len(path)

    def compare_gradient(
        self,
        got: torch.Tensor,
        want: torch.Tensor,
        chosen: Sequence[int],
        of: str,
        name: str,
        **sizes: Any,
    ) -> None:
        """Raise unless a gradient is right."""

        def hint() -> str:
            ratio = ratio_of(got, want)
            if ratio == 0:
                return (
                    "the gradient is cut off, by .detach(), .value, .item(), torch.no_grad() or "
                    "numpy in the rule"
                )
            if ratio is not None:
                return f"the gradient is off by the factor {ratio:.4g}"
            return "part of the gradient is cut off, or the rule is right at this point only"

        what = f"the gradient of {of} with respect to {name}"
        self.compare(got, want, chosen, what, self.oracle.name, hint, **sizes)

    # --- laws

    def agree(
        self,
        got: list[Any],
        want: list[Any],
        chosen: Sequence[int],
        what: str,
        by: str = "the rule on a line",
    ) -> None:
        """Raise unless coefficients of all results agree."""
        for a, b in zip(got, want, strict=True):
            self.compare(a, b, chosen, what, by)

    def along_line(self, arguments: list[Any], chosen: Sequence[int], order: int) -> list[list]:
        """The coefficients of every result, by degree."""
        results = self.run(self.lines(arguments, chosen), chosen, f"order {order}")
        columns = [coefficients(r, order) for r in results]
        return [[column[k] for column in columns] for k in range(order + 1)]

    def check_orders(self, chosen: tuple[int, ...]) -> None:
        """The coefficients of lower orders are those of the highest."""
        whole = self.along_line(self.curve(chosen, self.order + 1), chosen, self.order + 1)
        for order in range(self.order + 1):
            part = self.along_line(self.curve(chosen, order), chosen, order)
            for k in range(order + 1):
                what = f"c_{k} at order {order}"
                self.agree(part[k], whole[k], chosen, what)

    def check_shapes(self, chosen: tuple[int, ...]) -> None:
        """Structural zeros are zeros, and a direction of size 1 is as many equal ones."""
        first = [path[1] for path in self.highest]
        ones = [torch.ones_like(value) for value in self.values]
        for what, directions, given in (
            ("with structural zeros", first, first),
            ("with one direction for all entries", ones, [None] * len(ones)),
        ):
            dense = [
                [value, v, *(torch.zeros_like(value) for _ in range(self.order - 1))]
                for value, v in zip(self.values, directions, strict=True)
            ]
            want = self.along_line([p[: self.order + 1] for p in dense], chosen, self.order)
            arguments = [
                TaylorTensor(value, v, order=self.order) if i in chosen else value
                for i, (value, v) in enumerate(zip(self.values, given, strict=True))
            ]
            results = [coefficients(r, self.order) for r in self.run(arguments, chosen, what)]
            for k in range(self.order + 1):
                self.agree([r[k] for r in results], want[k], chosen, f"c_{k} {what}")

    def check_bundles(self, chosen: tuple[int, ...]) -> None:
        """A bundle is as many lines; collapsed, its highest degree is their weighted sum."""
        count, order = 3, self.order
        blocks = [
            [v, *(self.random((count, *v.shape), v) for _ in range(order))] for v in self.values
        ]
        lines = [
            self.along_line([[b[0], *(c[r] for c in b[1:])] for b in blocks], chosen, order)
            for r in range(count)
        ]
        wrapped = [wrap(b, Bundle(count), 0) if i in chosen else b[0] for i, b in enumerate(blocks)]
        results = [rows_of_block(r, order, count) for r in self.run(wrapped, chosen, "a bundle")]
        for k in range(order + 1):
            for r in range(count):
                got = [rows[k][r] if k else rows[k] for rows in results]
                what = f"c_{k} along direction {r} of a bundle"
                self.agree(got, lines[r][k], chosen, what)
        weights = torch.tensor([1.5, -1.0, 0.25], dtype=torch.float64)
        collapsed = []
        for i, b in enumerate(blocks):
            structure = Collapsed(count, order, weights.to(b[0]))
            summed = (*b[:order], structure.collapse(b[order]))
            collapsed.append(wrap(summed, structure, 0) if i in chosen else b[0])
        for n, result in enumerate(self.run(collapsed, chosen, "collapsed")):
            top = coefficients(result, order)[order]
            want = sum(w * line[order][n] for w, line in zip(weights.tolist(), lines, strict=True))
            self.agree([top], [want], chosen, f"c_{order}, collapsed")

    def plane(
        self, chosen: Sequence[int], order: int
    ) -> tuple[list[Any], list[list[torch.Tensor]]]:
        """``x_0 + a s + b t + c s t`` in two variables, and ``(a, b, c)`` of each argument."""
        zero = torch.zeros((), dtype=torch.float64)
        s, t = variables(zero, zero, order=order)
        arguments: list[Any] = []
        slopes = [[self.random(x.shape, x) for _ in range(3)] for x in self.values]
        for i, (x, (a, b, c)) in enumerate(zip(self.values, slopes, strict=True)):
            h, g = s.to(x.device, x.dtype), t.to(x.device, x.dtype)
            arguments.append(x + a * h + b * g + c * (h * g) if i in chosen else x)
        return arguments, slopes

    def check_variables(self, chosen: tuple[int, ...]) -> None:
        """A series in several variables holds every line."""
        arguments, slopes = self.plane(chosen, self.order)
        results = self.run(arguments, chosen, "several variables")
        for v, w in ((1.0, 0.0), (0.5, -1.0), (-1.0, 2.0), (1.0, 1.0)):
            paths = [
                [x, a * v + b * w, c * v * w, *(torch.zeros_like(x),) * self.order]
                for x, (a, b, c) in zip(self.values, slopes, strict=True)
            ]
            line = self.along_line([p[: self.order + 1] for p in paths], chosen, self.order)
            for k in range(self.order + 1):
                got = [on_line(r, k, (v, w)) for r in results]
                self.agree(got, line[k], chosen, f"degree {k} in several variables")

    def check_levels(self, chosen: tuple[int, ...]) -> None:
        """Nested series hold the mixed coefficients of those in several variables."""
        arguments, slopes = self.plane(chosen, self.order + 1)
        flat = self.run(arguments, chosen, "several variables")
        nested: list[Any] = []
        for i, (x, (a, b, c)) in enumerate(zip(self.values, slopes, strict=True)):
            inner: list[Any] = [TaylorTensor.from_coeffs(p) for p in ([x, a], [b, c])]
            inner += [torch.zeros_like(inner[0])] * (self.order - 1)
            nested.append(TaylorTensor.from_coeffs(inner[: self.order + 1]) if i in chosen else x)
        for result, both in zip(self.run(nested, chosen, "nested"), flat, strict=True):
            for k in range(self.order + 1):
                for j, got in enumerate(coefficients(coefficients(result, self.order)[k], 1)):
                    what = f"the coefficient of s^{j} t^{k} of nested levels"
                    want = mixed(both, (j, k))
                    self.compare(got, want, chosen, what, "several variables")

    def keeps_precision(self, values: list[torch.Tensor]) -> None:
        """Lower precision stays what it is."""
        every = tuple(range(len(values)))
        arguments = [TaylorTensor(v, order=self.order) for v in values]
        if every not in self.right:
            return
        try:
            plain_results = invoke(self.of.plain, self.sample, values)
        except Exception:
            # it does not take them as they are
            return
        for result, value in zip(
            self.run(arguments, every, "in the precision given"), plain_results, strict=True
        ):
            for k, c in enumerate(coefficients(result, self.order)):
                if c.dtype != value.dtype:
                    raise AssertionError(
                        self.message(
                            every, f"c_{k} is {c.dtype}, where the function returns {value.dtype}"
                        )
                    )

    def check_compiled(self, chosen: tuple[int, ...]) -> None:
        """The same in ``torch.compile(fullgraph=True)``, made inside and passed in."""
        leaves = [[c.clone().requires_grad_() for c in path] for path in self.curve(chosen)]

        def inside(paths: list[Path]) -> list[list[torch.Tensor]]:
            return passed_in(self.lines(paths, chosen))

        def passed_in(arguments: list[Any]) -> list[list[torch.Tensor]]:
            results = invoke(self.of.function, self.sample, arguments)
            return [coefficients(r, self.order) for r in results]

        want = inside(leaves)
        torch.compiler.reset()
        for function, given in ((inside, leaves), (passed_in, self.lines(leaves, chosen))):
            try:
                got = torch.compile(function, fullgraph=True, backend="aot_eager")(given)
            except Exception as failure:
                text = str(failure).strip().split("\n")[0]
                raise AssertionError(
                    self.message(chosen, f"torch.compile: {type(failure).__name__}: {text}")
                ) from failure
            for k in range(self.order + 1):
                what = f"c_{k}, compiled"
                self.agree([r[k] for r in got], [r[k] for r in want], chosen, what, "eager mode")
            if self.of.settings.gradients and function is inside:
                mine, theirs = (self.whole_gradient(columns, leaves) for columns in (got, want))
                what = "a gradient, compiled"
                self.agree(mine, theirs, chosen, what, "eager mode")
        torch.compiler.reset()

    def whole_gradient(self, columns: list[Any], leaves: list[Path]) -> list[torch.Tensor]:
        """The gradient of a weighted sum of all coefficients."""
        parts = [c for column in columns for c in column]
        weights = [w for w, column in zip(self.weights, columns, strict=True) for _ in column]
        return gradients_of(weighted(parts, weights), [c for path in leaves for c in path])


# relative, relative to the largest entry, and of the largest coefficient
_TOLERANCES = {
    torch.float64: (1e-6, 1e-9, 1e-12),
    torch.complex128: (1e-6, 1e-9, 1e-12),
    torch.float32: (1e-3, 1e-4, 1e-4),
    torch.complex64: (1e-3, 1e-4, 1e-4),
}
