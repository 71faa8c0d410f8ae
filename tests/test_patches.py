"""What Python's operators and built-in functions do to a series in compiled code: as in eager mode.

Dynamo emulates them itself. Where it would lose the coefficients it is taught not to, or refuses.
"""

from __future__ import annotations

import math
import operator
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

import taylortorch as tt
from taylortorch import TaylorTensor
from taylortorch.engine.private import MissingInTorch, private
from taylortorch.patches import dynamo, probes

F64 = torch.float64
MATRIX = torch.tensor([[1.0, -2.0], [3.0, 0.5]], dtype=F64)
MASK = torch.tensor([[True, False], [False, True]])


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def points(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, 2, generator=generator, dtype=F64) * 2 - 1.1


MAKERS: dict[str, Callable] = {
    "line": lambda x: TaylorTensor(x, direction=x + 1, order=3),
    "bundle": lambda x: TaylorTensor(x, directions=torch.stack([x, x + 1, 2 * x])),
    "nested": lambda x: TaylorTensor(TaylorTensor(x, order=1), order=1),
}


def in_place(function: Callable, other: Any) -> Callable:
    def program(x: Any) -> Any:
        y = x * 1.0
        z = function(y, other(x) if callable(other) else other)
        return y, z

    return program


def writing(key: Any, value: Callable) -> Callable:
    def program(x: Any) -> Any:
        y = x * 2.0
        y[key] = value(x)
        return y * x, y

    return program


def by_operator(x: Any) -> Any:
    y = x.exp()
    operator.setitem(y, 0, 1.5)
    operator.setitem(y, (slice(None), 1), x[:, 0])
    return y * x


def by_index_put(x: Any) -> Any:
    y = x.exp()
    y.index_put_((torch.tensor([0, 1]), torch.tensor([1, 0])), x[0])
    return y * x


def by_methods(x: Any) -> Any:
    y = x.exp()
    y.__setitem__(0, x[1])
    y[1].copy_(x[0])
    y[:, 0].fill_(2.0)
    y.masked_fill_(MASK, 0.5)
    return y * x


def by_loop(x: Any) -> Any:
    out = torch.zeros_like(x)
    for i in range(2):
        for j in range(2):
            out[i, j] = x[j, i] * (i + 1)
    return out


def augmented(x: Any) -> Any:
    y = x * 1.0
    y[0] += x[1]
    y[:, 1] *= 3
    y -= 0.5
    y **= 2
    y /= 1.5
    return y


def swapped(x: Any) -> Any:
    a, b = x
    return a * b, b


def starred(x: Any) -> Any:
    return torch.stack([*x, x[0]])


def a_mean(x: Any) -> Any:
    total = 0
    for row in x:
        total = total + row**2
    return total / len(x)


PROGRAMS: dict[str, Callable] = {
    "abs": lambda x: abs(x),
    "abs, of a product": lambda x: abs(x * x - 0.3) + x,
    "operator.abs": lambda x: operator.abs(x),
    "-": lambda x: -x,
    "+": lambda x: +x,
    "operator.neg": lambda x: operator.neg(x) + operator.pos(x),
    "pow": lambda x: pow(x, 2) + pow(2, x),
    "pow of series": lambda x: pow(abs(x) + 0.1, x),
    "**": lambda x: x**2 + x**3.0 + 2**x + 2.0**x,
    "1 - x": lambda x: 1 - x,
    "1 + x": lambda x: 1 + x,
    "2 * x": lambda x: 2 * x,
    "2 / x": lambda x: 2 / x,
    "2 // x": lambda x: 2 // x + x // 2,
    "2 % x": lambda x: 2 % x + x % 2,
    "x % y": lambda x: x % (x * x + 0.1),
    "True * x": lambda x: True * x + x,
    "1j * x": lambda x: 1j * x,
    "operators": lambda x: operator.sub(1.5, x) / operator.add(x, 3) + operator.pow(x, 2),
    "plain, left": lambda x: MATRIX - x + MATRIX * x + MATRIX / (x + 3),
    "plain, right": lambda x: x - MATRIX + x * MATRIX + x / MATRIX,
    "x @ plain": lambda x: x @ MATRIX,
    "plain @ x": lambda x: MATRIX @ x,
    "x @ x": lambda x: operator.matmul(x, x + 1),
    "compared": lambda x: (x > 0, x < 0, x == x, x != 0, x >= MATRIX, x >= MATRIX),
    "where": lambda x: torch.where(x > 0, x, x * x),
    "+=": in_place(operator.iadd, lambda x: x + 1),
    "-=": in_place(operator.isub, 2.0),
    "*=": in_place(operator.imul, lambda x: x),
    "/=": in_place(operator.itruediv, 2),
    "//=": in_place(operator.ifloordiv, 2),
    "%=": in_place(operator.imod, 0.3),
    "**=": in_place(operator.ipow, 3),
    "@=": in_place(operator.imatmul, MATRIX),
    "number += x": lambda x: operator.iadd(1.0, x) + operator.isub(2, x),
    "y[i] = number": writing(0, lambda x: 1.0),
    "y[i] = int": writing(0, lambda x: 1),
    "y[i] = tensor": writing(1, lambda x: MATRIX[0]),
    "y[i] = series": writing(0, lambda x: x[1]),
    "y[-1, 0] = series": writing((-1, 0), lambda x: x[0, 1]),
    "y[:, i] = series": writing((slice(None), 0), lambda x: x[:, 1] ** 2),
    "y[...] = series": writing(..., lambda x: x * x),
    "y[mask] = number": writing(MASK, lambda x: 1.0),
    "y[mask] = series": writing(MASK, lambda x: x[0]),
    "y[indices] = series": writing(torch.tensor([1, 0]), lambda x: x),
    "y[list] = tensor": writing([0], lambda x: MATRIX[:1]),
    "operator.setitem": by_operator,
    "index_put_": by_index_put,
    "methods that write": by_methods,
    "a loop that writes": by_loop,
    "augmented": augmented,
    "operator.getitem": lambda x: operator.getitem(x, 0) * operator.getitem(x, (1, 0)),
    "for row in x": a_mean,
    "a, b = x": swapped,
    "*x": starred,
    "list(x)": lambda x: torch.stack(list(x)[::-1]),
    "iter(x)": lambda x: next(iter(x)),
    "zip": lambda x: [a * b for a, b in zip(x, x * x, strict=True)],
    "enumerate": lambda x: [a * i for i, a in enumerate(x)],
    "map": lambda x: list(map(torch.exp, x)),
    "reversed": lambda x: [row * 2 for row in reversed(x)],
    "sum(x)": lambda x: sum(x),
    "sum of a list": lambda x: sum([x, x * x, 1 - x], 2.0),
    "sum of a generator": lambda x: sum(x**k for k in range(3)),
    "len": lambda x: x * len(x),
    "max of rows": lambda x: max(x[0, 0], x[0, 1]) * x,
    "min of a number": lambda x: min(x[0, 0], 0.3) * x,
    "torch.cat of a tuple": lambda x: torch.cat((x, x)),
    "torch.stack of a tuple": lambda x: torch.stack((x, MATRIX, x * x), dim=-1),
    "torch.cat, by keyword": lambda x: torch.cat(tensors=(x, MATRIX), dim=1),
    "hstack": lambda x: torch.hstack((x, x + 1)),
    "einsum": lambda x: torch.einsum("ij,jk->ik", (x, x)),
    "broadcast_tensors": lambda x: torch.broadcast_tensors(x, x[0])[1],
    "softmax": lambda x: torch.softmax(x, -1),
    "layer_norm": lambda x: torch.nn.functional.layer_norm(x, (2,)),
    "batch_norm": lambda x: torch.nn.functional.batch_norm(x, MATRIX[0], MATRIX[1] + 3),
    "tanh": lambda x: torch.tanh(x),
    "float power": lambda x: (x * x + 1) ** -0.5,
}
REFUSED: dict[str, Callable] = {
    "float": lambda x: float(x[0, 0]) * 2.0,
    "int": lambda x: int(x[0, 0]) + 1,
    "complex": lambda x: complex(x[0, 0]) * 2,
    "operator.index": lambda x: operator.index(x[0, 0]),
    "~": lambda x: ~x,
    "&": lambda x: x & x,
    "<<": lambda x: x << 1,
    "divmod": lambda x: divmod(x, 2),
    "divmod of a number": lambda x: divmod(2, x),
    "round": lambda x: round(x),
    "pow modulo": lambda x: pow(x, 2, 3),
    "number @ x": lambda x: 2.0 @ x,
    "del": lambda x: operator.delitem(x, 0),
    "item": lambda x: x[0, 0].item() * 2,
    "tolist": lambda x: x.tolist(),
    "math": lambda x: math.sin(x[0, 0]),
}
OLD = torch.__version__ < "2.13"
inside_or_passed_in = pytest.mark.parametrize("inside", [True, False], ids=["made", "passed in"])


def compiled(program: Callable, make: Callable, inside: bool, backend: str) -> Callable:
    """The compiled program as a function of the point."""
    if inside:
        return torch.compile(lambda x: program(make(x)), fullgraph=True, backend=backend)
    traced = torch.compile(program, fullgraph=True, backend=backend)
    return lambda x: traced(make(x))


def tensors(y: Any) -> list[Any]:
    if isinstance(y, TaylorTensor):
        return [t for c in y.coeffs for t in tensors(c)]
    if isinstance(y, (tuple, list)):
        return [t for item in y for t in tensors(item)]
    return [y]


def agree(got: Any, expected: Any) -> None:
    for a, b in zip(tensors(got), tensors(expected), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def check(program: Callable, make: Callable, inside: bool, backend: str) -> None:
    run = compiled(program, make, inside, backend)
    for seed in range(2):
        agree(run(points(seed)), program(make(points(seed))))


@inside_or_passed_in
@pytest.mark.parametrize("name", PROGRAMS)
def test_as_in_eager_mode(name: str, inside: bool) -> None:
    check(PROGRAMS[name], MAKERS["line"], inside, "eager")


@inside_or_passed_in
@pytest.mark.parametrize("maker", ["bundle", "nested"])
@pytest.mark.parametrize(
    "name", ["abs", "pow", "1 - x", "2 % x", "y[i] = series", "a, b = x", "x @ plain", "hstack"]
)
def test_of_other_structures(name: str, maker: str, inside: bool) -> None:
    if OLD and maker == "nested" and not inside and name in ("a, b = x", "hstack"):
        pytest.skip("torch 2.10 does not trace x.ndim of it: an error")
    check(PROGRAMS[name], MAKERS[maker], inside, "eager")


@inside_or_passed_in
@pytest.mark.parametrize("name", ["abs", "pow", "1 - x", "y[mask] = series", "for row in x"])
def test_by_aot_autograd(name: str, inside: bool) -> None:
    check(PROGRAMS[name], MAKERS["line"], inside, "aot_eager")


@inside_or_passed_in
@pytest.mark.parametrize("name", REFUSED)
def test_an_error_as_in_eager_mode(name: str, inside: bool) -> None:
    program, make = REFUSED[name], MAKERS["line"]
    with pytest.raises((TypeError, NotImplementedError, RuntimeError)):
        program(make(points(0)))
    with pytest.raises(Exception):  # noqa: B017, PT011  Dynamo has its own
        compiled(program, make, inside, "eager")(points(0))


def test_what_dynamo_would_do_to_the_storage_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The net under the operators: an operation that nobody taught Dynamo gives no number."""
    monkeypatch.delitem(dynamo.METHODS, abs)
    make = MAKERS["line"]

    def past_the_rules(x: Any) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            return torch.sin(x)

    with pytest.raises(torch._dynamo.exc.Unsupported, match="would lose its coefficients"):
        compiled(past_the_rules, make, True, "eager")(points(0))
    # and where graph breaks are allowed it is done in eager mode
    broken = torch.compile(lambda x: abs(make(x)) * 2, backend="eager")
    agree(broken(points(0)), abs(make(points(0))) * 2)


def test_a_torch_that_was_not_tested_is_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "TESTED", ("1.0.0",))
    probes._failing.cache_clear()
    f = lambda x: torch.exp(TaylorTensor(x)).coeffs  # noqa: E731
    agree(torch.compile(f, backend="eager", fullgraph=True)(points(0)), f(points(0)))
    assert probes._failing.cache_info().misses == 1

    torch._dynamo.reset()
    probes._failing.cache_clear()
    wrong = {**probes.PROBES, "x + 1": lambda x: x + _in_traces()}
    monkeypatch.setattr(probes, "PROBES", wrong)
    with pytest.raises(
        Exception, match=r"torch.compile of a TaylorTensor with torch 2.*c_0 of x \+ 1, made inside"
    ):
        torch.compile(f, backend="eager", fullgraph=True)(points(0))
    probes._failing.cache_clear()


def _in_traces() -> int:
    return int(torch.compiler.is_dynamo_compiling())


def test_a_torch_without_what_is_changed_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamo, "MISSING", ["torch 9.9 has no such.thing"])
    with pytest.raises(Exception, match=r"torch 9\.9 has no such\.thing"):
        compiled(torch.exp, MAKERS["line"], True, "eager")(points(0))
    with pytest.raises(MissingInTorch, match=r"needs torch\._dynamo\.nothing\.here, which"):
        private("torch._dynamo.nothing.here")


PLAIN = """
import sys, torch
import taylortorch as tt
assert "torch._dynamo" not in sys.modules
x = tt.TaylorTensor(torch.tensor([0.3, -0.7]))
assert "torch._dynamo" not in sys.modules
# the first thing that Dynamo sees is a tuple of series that were passed in
f = torch.compile(lambda x, y: torch.cat((x, y)).coeffs, backend="eager", fullgraph=True)
assert torch.equal(f(x, x)[0], torch.tensor([0.3, -0.7, 0.3, -0.7]))
"""


def test_dynamo_is_changed_when_it_is_imported() -> None:
    subprocess.run([sys.executable, "-W", "error:Dynamo", "-c", PLAIN], check=True)


def test_compiling_does_not_warn(recwarn: pytest.WarningsRecorder) -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        a, b = tt.variables(x[:, 0], x[:, 1], order=3)
        u = a * torch.sin(b)
        return tt.d(u, a, b).value + tt.laplacian(u, a).value

    agree(torch.compile(f, backend="eager", fullgraph=True)(points(0)), f(points(0)))
    assert not [w for w in recwarn if "lru_cache" in str(w.message)]
