"""Random programs against reverse mode over reverse mode, along random polynomial paths."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import taylortorch as tt
from taylortorch.algebra.structures import Bundle
from taylortorch.engine.tensor import wrap
from tests.oracle import along, contracted

Program = Callable[[list[torch.Tensor]], torch.Tensor]
deterministic = settings(report_multiple_bugs=False)

# smooth at every real number; the ones that grow are given a bounded argument
UNARY: dict[str, Callable] = {
    "sin": torch.sin,
    "cos": torch.cos,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "atan": torch.atan,
    "asinh": torch.asinh,
    "erf": torch.erf,
    "erfc": torch.erfc,
    "softplus": torch.nn.functional.softplus,
    "silu": torch.nn.functional.silu,
    "gelu": torch.nn.functional.gelu,
    "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "logsigmoid": torch.nn.functional.logsigmoid,
    "mish": torch.nn.functional.mish,
    "tanhshrink": torch.nn.functional.tanhshrink,
    "softsign_of_square": lambda x: torch.nn.functional.softsign(x * x),
    "exp": lambda x: torch.exp(torch.tanh(x)),
    "expm1": lambda x: torch.expm1(x.tanh()),
    "exp2": lambda x: torch.exp2(x.sin()),
    "sinh": lambda x: torch.sinh(x.tanh()),
    "cosh": lambda x: x.tanh().cosh(),
    "log": lambda x: torch.log(x.square() + 1.5),
    "log1p": lambda x: torch.log1p(x * x),
    "sqrt": lambda x: torch.sqrt(1 + x**2),
    "rsqrt": lambda x: (x**2 + 0.5).rsqrt(),
    "reciprocal": lambda x: torch.reciprocal(2 + x.sin()),
    "reversed_division": lambda x: 1.5 / (x.square() + 1),
    "asin": lambda x: torch.asin(0.8 * x.sin()),
    "acos": lambda x: torch.acos(0.7 * torch.tanh(x)),
    "tan": lambda x: torch.tan(x.tanh()),
    "square": torch.square,
    "cube": lambda x: x.tanh() ** 3,
    "real_power": lambda x: (x.sigmoid() + 0.5) ** 2.5,
    "reversed_power": lambda x: 1.7 ** x.cos(),
    "negated": lambda x: 0.5 - x,
}

# broadcasting functions of two arguments
BINARY: dict[str, Callable] = {
    "add": torch.add,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / (b.square() + 1),
    "atan2": lambda a, b: torch.atan2(a, b * b + 1),
    "hypot": lambda a, b: torch.hypot(a, b.cosh().rsqrt() + 0.5),
    "power": lambda a, b: torch.pow(a.sigmoid() + 0.5, b.tanh()),
    "logaddexp": torch.logaddexp,
    "where": lambda a, b: torch.where(a > 100, a, b * 2),
    "lerp": lambda a, b: torch.lerp(a, b, 0.25),
    "addcmul": lambda a, b: torch.addcmul(a, b, b, value=0.5),
}


def axis_of(x: torch.Tensor, choice: int) -> int:
    return choice % x.ndim - (x.ndim if choice % 2 else 0)


# functions that reduce or rearrange axes; ``choice`` picks among them
SHAPED: dict[str, Callable] = {
    "sum": lambda x, c: x.sum(axis_of(x, c), keepdim=True),
    "mean": lambda x, c: torch.mean(x, (axis_of(x, c),), keepdim=c % 3 == 0),
    "var": lambda x, c: x.var(axis_of(x, c), correction=0, keepdim=True),
    "softmax": lambda x, c: torch.softmax(x, axis_of(x, c)),
    "log_softmax": lambda x, c: x.log_softmax(axis_of(x, c)),
    "logsumexp": lambda x, c: torch.logsumexp(x, axis_of(x, c), keepdim=True),
    "cumsum": lambda x, c: x.cumsum(axis_of(x, c)),
    "cumprod": lambda x, c: x.cos().cumprod(axis_of(x, c)),
    "prod": lambda x, c: x.sin().prod(axis_of(x, c), keepdim=True),
    "transpose": lambda x, c: x.transpose(0, axis_of(x, c)),
    "permute": lambda x, c: x.permute(*range(1, x.ndim), 0),
    "flatten": lambda x, c: x.reshape(-1, x.shape[axis_of(x, c)]),
    "unsqueeze": lambda x, c: x.unsqueeze(c % (x.ndim + 1)) if x.ndim < 4 else x.squeeze(),
    "flip": lambda x, c: x.flip(axis_of(x, c)),
    "roll": lambda x, c: torch.roll(x, 1, axis_of(x, c)),
    "first": lambda x, c: x[:1] if c % 2 else x[..., -1:],
    "indexed": lambda x, c: x[[0, -1, 0]],
    "cat": lambda x, c: torch.cat([x, x * x, torch.ones_like(x)], axis_of(x, c)),
    "stack": lambda x, c: torch.stack([x, x.sin()], 0).mean(0),
    "gram": lambda x, c: x.reshape(-1, x.shape[-1]) @ x.reshape(-1, x.shape[-1]).mT / x.numel(),
    "linear": lambda x, c: torch.nn.functional.linear(x, WEIGHT[:, : x.shape[-1]], BIAS),
    "matmul": lambda x, c: WEIGHT[:, : x.shape[-1]] @ x.unsqueeze(-1),
    "einsum": lambda x, c: torch.einsum("...i,...j->...j", x, x) / x.shape[-1],
    "norm": lambda x, c: (x.square() + 0.3).norm(dim=axis_of(x, c), keepdim=True),
    "layer_norm": lambda x, c: (
        (x - x.mean(-1, True)) / (x.var(-1, correction=0, keepdim=True) + 1).sqrt()
    ),
    "expand": lambda x, c: x[:1].expand(3, *x.shape[1:]),
    "pad": lambda x, c: torch.nn.functional.pad(x, (1, 0)),
    "split": lambda x, c: sum(x.split(1, 0)),
}
WEIGHT = torch.linspace(-1, 1, 192, dtype=torch.float64).reshape(3, 64).sin()
BIAS = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
LIMIT = 60


@dataclasses.dataclass(frozen=True)
class Step:
    """One function, the earlier results it takes, and its choice of axis."""

    name: str
    sources: tuple[int, int]
    choice: int


def broadcastable(a: torch.Tensor, b: torch.Tensor) -> bool:
    try:
        shape = torch.broadcast_shapes(a.shape, b.shape)
    except RuntimeError:
        return False
    return shape.numel() <= LIMIT


def run(steps: Sequence[Step], inputs: list[torch.Tensor]) -> torch.Tensor:
    """Each step takes earlier results; what does not fit (shapes alone decide) is left out."""
    results = list(inputs)
    for step in steps:
        x = results[step.sources[0] % len(results)]
        if step.name in UNARY:
            results.append(UNARY[step.name](x))
        elif step.name in BINARY:
            y = results[step.sources[1] % len(results)]
            # bounded arguments keep repeated products in range
            y = y if broadcastable(x, y) else y.mean()
            results.append(
                BINARY[step.name](x, y).sin() if x.numel() > 1 else BINARY[step.name](x, y)
            )
        elif 0 < x.ndim < 4 and x.numel() <= LIMIT // 4:
            results.append(SHAPED[step.name](x, step.choice))
    used = [r.sum() if r.ndim == 0 else r.sin().mean() for r in results[len(inputs) : -1]]
    return results[-1] + sum(used)


steps = st.lists(
    st.builds(
        Step,
        st.sampled_from([*UNARY, *BINARY, *SHAPED]),
        st.tuples(st.integers(0, 30), st.integers(0, 30)),
        st.integers(0, 11),
    ),
    min_size=1,
    max_size=15,
)
SHAPES = [
    [(2, 3)],
    [(3,), (2, 1)],
    [(2, 1, 3), (3,)],
    [(1, 2), (2, 1)],
    [(4,), (4,), ()],
    [(), (2, 2)],
    [(1,)],
]


def paths_for(shapes: Sequence[tuple[int, ...]], order: int, seed: int) -> list[list[torch.Tensor]]:
    """Random polynomials in t; some degrees vanish."""
    generator = torch.Generator().manual_seed(seed)

    def coefficient(shape: tuple[int, ...], k: int) -> torch.Tensor:
        c = 2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1
        gone = k > 1 and torch.rand((), generator=generator) < 0.3
        return torch.zeros_like(c) if gone else c

    return [[coefficient(shape, k) for k in range(order + 1)] for shape in shapes]


def compare(
    program: Program, paths: list[list[torch.Tensor]], result: Any, k_max: int, r: int | None
) -> None:
    """The coefficients of ``result`` (of direction ``r`` in it) against reverse mode."""
    plain = program([p[0] for p in paths])
    generator = torch.Generator().manual_seed(0)
    weights = [torch.rand(plain.shape, generator=generator, dtype=torch.float64)]
    expected = along(lambda xs: [program(xs)], paths, k_max, weights)
    torch.testing.assert_close(result.value, plain, rtol=1e-12, atol=1e-12)
    coeffs = [c if r is None or k == 0 else c[r] for k, c in enumerate(result.coeffs)]
    line = tt.TaylorTensor.from_coeffs(coeffs)
    for k in range(k_max + 1):
        torch.testing.assert_close(
            contracted([line], weights, k),
            expected[k].detach(),
            rtol=1e-7,
            atol=1e-8,
            msg=lambda m, k=k: f"derivative {k}: {m}",
        )


@settings(deterministic, max_examples=150)
@given(steps, st.sampled_from(SHAPES), st.integers(0, 6), st.integers(0, 99))
def test_random_programs_along_a_line(
    steps: list[Step], shapes: list[tuple[int, ...]], order: int, seed: int
) -> None:
    # reverse mode is exponential in the order: long programs at low orders
    order = min(order, 6 if len(steps) <= 4 else 4 if len(steps) <= 8 else 3)
    paths = paths_for(shapes, order, seed)
    result = run(steps, [tt.TaylorTensor.from_coeffs(p) for p in paths])
    assert result.order == order
    compare(lambda xs: run(steps, xs), paths, result, order, None)


@settings(deterministic, max_examples=80)
@given(steps, st.sampled_from(SHAPES), st.integers(1, 4), st.integers(0, 99))
def test_random_programs_along_a_bundle(
    steps: list[Step], shapes: list[tuple[int, ...]], order: int, seed: int
) -> None:
    order = min(order, 4 if len(steps) <= 6 else 2)
    count = 2
    lines = [paths_for(shapes, order, seed + 100 * r) for r in range(count)]
    arguments = []
    for n in range(len(shapes)):
        higher = [torch.stack([lines[r][n][k] for r in range(count)]) for k in range(1, order + 1)]
        arguments.append(wrap([lines[0][n][0], *higher], Bundle(count), 0))
    result = run(steps, arguments)
    for r in range(count):
        paths = [[lines[0][n][0], *lines[r][n][1:]] for n in range(len(shapes))]
        compare(lambda xs: run(steps, xs), paths, result, order, r)


@settings(deterministic, max_examples=60)
@given(steps, st.sampled_from(SHAPES[1:6]), st.integers(0, 99))
def test_random_programs_with_a_constant_argument(
    steps: list[Step], shapes: list[tuple[int, ...]], seed: int
) -> None:
    paths = paths_for(shapes, 2, seed)
    paths[0] = paths[0][:1]
    arguments = [paths[0][0], *(tt.TaylorTensor.from_coeffs(p) for p in paths[1:])]
    result = run(steps, arguments)
    if isinstance(result, tt.TaylorTensor):
        compare(lambda xs: run(steps, xs), paths, result, 2, None)


# --- in place -----------------------------------------------------------------------------------


def selected(x: torch.Tensor, choice: int) -> torch.Tensor:
    """A view of a matrix."""
    views: list[Callable] = [
        lambda: x[0],
        lambda: x[:, 1:],
        lambda: x.t(),
        lambda: x.view(-1)[::2],
        lambda: x[-1, 1:3],
        lambda: x.unsqueeze(0)[0, :, ::2],
        lambda: x.reshape(2, -1).transpose(0, 1)[1],
        lambda: x.diagonal(),
        lambda: x.narrow(1, 1, 2).select(0, 1),
        lambda: x.flatten(),
        lambda: x,
        lambda: x[None].squeeze(0)[1],
        lambda: x.permute(1, 0)[2:],
        lambda: x.unfold(1, 2, 2)[0],
        lambda: x.unflatten(1, (2, 2))[:, 1],
    ]
    return views[choice % len(views)]()


WRITES: list[Callable] = [
    lambda target, value: target.mul_(value),
    lambda target, value: target.add_(value, alpha=0.5),
    lambda target, value: target.sin_(),
    lambda target, value: target.copy_(value.cos().expand(target.shape)),
    lambda target, value: target.tanh_(),
    lambda target, value: target.zero_(),
    lambda target, value: target.div_(value * value + 1),
    lambda target, value: target.addcmul_(value, value, value=0.3),
    lambda target, value: target.cos_(),
    lambda target, value: target.__setitem__(..., value * 2),
    lambda target, value: target.__setitem__(0, value),
    lambda target, value: target.fill_(0.7),
    lambda target, value: target.__iadd__(1.5),
    lambda target, value: target.masked_fill_(target.detach() > 0, 0.25),
    lambda target, value: target.sigmoid_(),
    lambda target, value: target.lerp_(value.expand(target.shape), 0.5),
]


def write_by_copy(write: Callable, target: torch.Tensor, value: torch.Tensor) -> None:
    """The same write so that reverse mode keeps what it has saved."""
    fresh = target.clone()
    write(fresh, value)
    target.copy_(fresh)


Writes = list[tuple[int, int, int]]


def run_in_place(
    program: Writes, inputs: list[torch.Tensor], by_copy: bool = False
) -> torch.Tensor:
    """Views made before and after writes are written to and read again, and so are their bases."""
    x, y = (a * 1.0 for a in inputs)
    early = [selected(x, n) for n in (0, 1, 2, 7)]
    read = []
    for n, (which, view, how) in enumerate(program):
        target = early[which % 4] if which % 3 == 0 else selected(x, view)
        value = (y if which % 2 else early[n % 4]).mean()
        if by_copy:
            write_by_copy(WRITES[how], target, value)
        else:
            WRITES[how](target, value)
        read.append(early[(n + 1) % 4].clone().sum() + target.clone().square().mean())
    return x.clone().sin().sum(0) + sum(read) + sum(v.clone().cos().sum() for v in early)


writes = st.lists(
    st.tuples(st.integers(0, 11), st.integers(0, 14), st.integers(0, len(WRITES) - 1)),
    min_size=1,
    max_size=6,
)


def compare_in_place(
    program: Writes, paths: list[list[torch.Tensor]], result: Any, order: int, r: int | None
) -> None:
    plain = run_in_place(program, [p[0] for p in paths])
    torch.testing.assert_close(result.value, plain, rtol=1e-12, atol=1e-12)
    compare(lambda xs: run_in_place(program, xs, by_copy=True), paths, result, order, r)


@settings(deterministic, max_examples=150)
@given(
    writes,
    st.integers(0, 4),
    st.integers(0, 99),
)
def test_random_in_place_programs_with_views(program: Writes, order: int, seed: int) -> None:
    order = min(order, 4 if len(program) <= 3 else 2)
    paths = paths_for([(2, 4), (3,)], order, seed)
    result = run_in_place(program, [tt.TaylorTensor.from_coeffs(p) for p in paths])
    compare_in_place(program, paths, result, order, None)


@settings(deterministic, max_examples=60)
@given(
    writes,
    st.integers(0, 99),
)
def test_random_in_place_programs_along_a_bundle(program: Writes, seed: int) -> None:
    shapes = [(2, 4), (3,)]
    lines = [paths_for(shapes, 2, seed + 100 * r) for r in range(2)]
    arguments = [
        wrap(
            [lines[0][n][0], *(torch.stack([lines[r][n][k] for r in range(2)]) for k in (1, 2))],
            Bundle(2),
            0,
        )
        for n in range(2)
    ]
    result = run_in_place(program, arguments)
    for r in range(2):
        paths = [[lines[0][n][0], *lines[r][n][1:]] for n in range(2)]
        compare_in_place(program, paths, result, 2, r)


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("order", [6])
def test_every_function_of_the_programs_alone(name: str, order: int) -> None:
    paths = paths_for([(2, 2)], order, 5)
    result = UNARY[name](tt.TaylorTensor.from_coeffs(paths[0]))
    compare(lambda xs: UNARY[name](xs[0]), paths, result, order, None)


@pytest.mark.parametrize("name", SHAPED)
@pytest.mark.parametrize("choice", [0, 1, 2, 3])
def test_every_shaped_function_of_the_programs_alone(name: str, choice: int) -> None:
    paths = paths_for([(2, 3)], 3, 6)
    result = SHAPED[name](tt.TaylorTensor.from_coeffs(paths[0]), choice)
    compare(lambda xs: SHAPED[name](xs[0], choice), paths, result, 3, None)


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("chosen", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("shapes", [[(2, 1), (3,)], [(3,), (2, 1)], [(), (2, 2)]])
def test_every_broadcasting_function_of_the_programs_alone(
    name: str, chosen: tuple[int, ...], shapes: list[tuple[int, ...]]
) -> None:
    lines = [paths_for(shapes, 2, seed) for seed in (7, 8)]
    arguments, paths = [], []
    for n in range(2):
        x0, *higher = lines[0][n]
        if n not in chosen:
            arguments.append(x0)
            paths.append([x0])
            continue
        blocks = [torch.stack([c, lines[1][n][k]]) for k, c in enumerate(higher, 1)]
        arguments.append(wrap([x0, *blocks], Bundle(2), 0))
        paths.append([x0, *higher])
    result = BINARY[name](*arguments)
    compare(lambda xs: BINARY[name](*xs), paths, result, 2, 0)
