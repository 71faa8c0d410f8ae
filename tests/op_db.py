"""torch's own operator database, walked with random paths through its float64 samples.

``python -m tests.op_db`` rewrites ``op_db.txt``, the verdict on every entry. The database is
internal to torch, so it is used with the tested version only.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.testing._internal.common_methods_invocations import op_db
from torch.utils._pytree import tree_flatten, tree_unflatten

import taylortorch as tt
from tests.oracle import along

VERDICTS = Path(__file__).with_name("op_db.txt")
SAMPLES, LARGEST = 5, 10_000
# reverse mode over reverse mode is itself wrong at order 3 for these
WRONG_AT_ORDER_3 = ("layer_norm", "batch_norm", "instance_norm", "group_norm")
# torch's own second derivative is off, or its first where indices repeat (the forward pass
# overwrites, the backward pass adds), or it reaches a triangle that the function does not read
NOT_COMPARABLE = (
    "linear_cross_entropy_chunked",
    "max_unpool",
    "cholesky_inverse",
    "cholesky_solve",
    "pinv_hermitian",
)
# drawn anew at every call, so there is nothing to compare with
RANDOM = ("dropout", "rrelu", "bernoulli", "multinomial", "normal", "rand_like", "gumbel_softmax")

ENTRIES = {
    op.formatted_name: op for op in op_db if op.supports_autograd and torch.float64 in op.dtypes
}


def is_float(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and (x.is_floating_point() or x.is_complex())


def outputs(result: Any) -> list[torch.Tensor]:
    leaves = tree_flatten(result, is_leaf=lambda x: isinstance(x, torch.Tensor))[0]
    return [leaf for leaf in leaves if is_float(leaf)]


class Call:
    """One sample of an entry, as a function of its floating-point tensors."""

    def __init__(self, op: Any, sample: Any) -> None:
        self.op, self.sample = op, sample
        self.flat, self.spec = tree_flatten((sample.input, sample.args, sample.kwargs))
        self.places = [i for i, x in enumerate(self.flat) if is_float(x)]
        self.base = [self.flat[i].detach() for i in self.places]

    def __call__(self, tensors: list[Any]) -> list[torch.Tensor]:
        flat = list(self.flat)
        for place, x in zip(self.places, tensors, strict=True):
            flat[place] = x
        first, args, kwargs = tree_unflatten(flat, self.spec)
        result = self.op.op(first, *args, **kwargs)
        if self.sample.output_process_fn_grad is not None:
            result = self.sample.output_process_fn_grad(result)
        return outputs(result)

    def differentiable(self, place: int) -> bool:
        """Whether torch's autograd sees this tensor."""
        tensors = [b.clone() for b in self.base]
        tensors[place].requires_grad_()
        try:
            return any(y.requires_grad for y in self(tensors))
        except RuntimeError:
            return False


def calls(op: Any) -> Iterator[Call]:
    """A few samples of moderate size, spread over those of the entry."""
    every = []
    for n, sample in enumerate(op.sample_inputs("cpu", torch.float64, requires_grad=False)):
        if n == 40:
            break
        every.append(sample)
    for sample in every[:: max(1, len(every) // SAMPLES)][:SAMPLES]:
        call = Call(op, sample)
        if call.base and sum(b.numel() for b in call.base) <= LARGEST:
            yield call


def verdict_on(call: Call, order: int, single: bool) -> str:
    """right, wrong, refused, crashed, plain (no series came out), or untested."""
    try:
        plain = call([b.clone() for b in call.base])
    except (RuntimeError, TypeError, ValueError, IndexError):
        return "untested"
    moving = [call.differentiable(n) for n in range(len(call.base))]
    if not any(moving):
        return "untested"
    paths = [
        [b, *(torch.randn_like(b) * 0.3 for _ in range(order))] if move else [b]
        for b, move in zip(call.base, moving, strict=True)
    ]
    weights = [torch.randn_like(o) for o in plain]

    def on_curve(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        fixed = zip(tensors, call.base, moving, strict=True)
        return call([x if move else b for x, b, move in fixed])

    try:
        expected = along(on_curve, paths, order, weights)
    except RuntimeError:
        expected = None
    series = [
        tt.TaylorTensor.from_coeffs(p) if move else p[0].clone()
        for p, move in zip(paths, moving, strict=True)
    ]
    try:
        results = call(series)
    except tt.UnsupportedFunction:
        return "refused"
    except Exception:
        return "crashed"
    if not any(isinstance(r, tt.TaylorTensor) for r in results):
        return "plain"
    if len(results) != len(plain):
        return "wrong"
    if expected is None:
        return "untested"
    tolerance = 2e-2 if single else 1e-6
    for k in range(order + 1):
        got = torch.zeros((), dtype=torch.float64)
        for r, w in zip(results, weights, strict=True):
            c = r.coeffs[k] if isinstance(r, tt.TaylorTensor) else (r if k == 0 else r * 0)
            part = c * w if not c.is_complex() else c.real * w.real + c.imag * w.imag
            got = got + part.sum().double() * math.factorial(k)
        # a NaN in the value is nobody's derivative
        if not torch.isfinite(expected[k]) or not torch.isfinite(expected[0]):
            continue
        if not torch.allclose(got, expected[k].double(), rtol=tolerance, atol=tolerance):
            return "wrong"
    return "right"


def verdict(name: str) -> str:
    """The worst verdict on the entry's samples; refused and untested ones weigh least."""
    op = ENTRIES[name]
    if any(random in name for random in RANDOM):
        return "random"
    if any(part in name for part in NOT_COMPARABLE):
        return "incomparable"
    order = 2 if any(part in name for part in WRONG_AT_ORDER_3) else 3
    single = name in ("float", "half", "bfloat16", "chalf", "cfloat")
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seen = {verdict_on(call, order, single) for call in calls(op)}
    for worst in ("wrong", "crashed", "plain", "refused", "right"):
        if worst in seen:
            return worst
    return "untested"


if __name__ == "__main__":
    lines = [f"{name} {verdict(name)}" for name in sorted(ENTRIES)]
    VERDICTS.write_text("\n".join(lines) + "\n")
    counts: dict[str, int] = {}
    for line in lines:
        counts[line.split()[1]] = counts.get(line.split()[1], 0) + 1
    print(counts)
