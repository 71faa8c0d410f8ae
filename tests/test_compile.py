"""``torch.compile(fullgraph=True)``: made inside, passed in, returned, trained, resized."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

import taylortorch as tt
from taylortorch import TaylorTensor, UnsupportedFunction

F64 = torch.float64


@pytest.fixture(autouse=True)
def fresh_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # after each compilation torch times the guards, and empties the processor's cache for that
    monkeypatch.setattr("torch._dynamo.guards.profile_guard_manager", lambda *args: 0.0)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def grid(*shape: int) -> torch.Tensor:
    return torch.linspace(-0.9, 0.8, torch.Size(shape).numel(), dtype=F64).reshape(shape)


def mlp(inputs: int = 2) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(inputs, 6), nn.Tanh(), nn.Linear(6, 6), nn.SiLU(), nn.Linear(6, 1)
    ).double()


def compiled(f: Callable, backend: Any = "aot_eager", **options: Any) -> Callable:
    return torch.compile(f, fullgraph=True, backend=backend, **options)


def tensors(y: Any) -> list[torch.Tensor]:
    if isinstance(y, TaylorTensor):
        return [t for c in y.coeffs for t in tensors(c)]
    if isinstance(y, (tuple, list)):
        return [t for item in y for t in tensors(item)]
    return [y]


def all_equal(a: Any, b: Any) -> None:
    for x, y in zip(tensors(a), tensors(b), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-10)


MAKERS: dict[str, Callable] = {
    "line": lambda x0: TaylorTensor(x0, direction=x0 + 1, order=3),
    "bundle": lambda x0: TaylorTensor(x0, directions=torch.stack([x0, x0 + 1, 2 * x0])),
    "collapsed": lambda x0: TaylorTensor(x0, directions=torch.stack([x0, x0 + 1]), weights=1.0),
    "variables": lambda x0: tt.variables(x0),
    "nested": lambda x0: TaylorTensor(TaylorTensor(x0, order=1), order=1),
    "order 0": lambda x0: TaylorTensor(x0, order=0),
}
every_maker = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


@every_maker
@pytest.mark.parametrize("where", ["made inside", "passed in", "returned"])
def test_a_network(make: Callable, where: str) -> None:
    net = mlp()
    expected = net(make(grid(5, 2)))
    if where == "made inside":
        got = compiled(lambda x0: net(make(x0)).coeffs)(grid(5, 2))
        got = tensors(got)
    elif where == "passed in":
        got = compiled(lambda x: net(x).derivatives)(make(grid(5, 2)))
        expected = expected.derivatives
    else:
        got = compiled(net)(make(grid(5, 2)))
        assert isinstance(got, TaylorTensor)
        assert type(got) is type(make(grid(5, 2)))
        # what a compiled module returned goes on in eager mode
        got, expected = torch.exp(got) * 2, torch.exp(expected) * 2
    all_equal(got, expected if where != "made inside" else tensors(expected))


def indexed(x: Any) -> Any:
    return x[:, 0:1] * x[1] + x[..., None, 0] - x[-1]


def written(x: Any) -> Any:
    y = x * 1.0
    y *= 2
    y[:, 0] = y[:, 1] ** 2
    y[1:].mul_(3)
    column = y[:, 1]
    y.add_(1)
    return y, column


def operators(x: Any) -> Any:
    return -(((1.5 - x) / (2 + x**2)) ** 3) + x.abs() - 1 / (x * x + 1)


def unflattened(x: Any) -> Any:
    return x.unflatten(1, (2, 1))


def methods(x: Any) -> Any:
    y = x.tanh().pow(2).clamp(min=0.1).reshape(-1).view(x.shape)
    return y.transpose(0, 1).contiguous().sum(dim=0, keepdim=True).squeeze(0) * x.size(0)


def joined(x: Any) -> Any:
    a, b = x.unbind(1)
    return torch.cat([torch.stack([a, b], 1), x.flip(0)], 1).chunk(2, 1)


def branched(x: Any) -> Any:
    if isinstance(x, torch.Tensor) and x.ndim == 2 and x.is_floating_point() and len(x) > 1:
        return x.exp().to(x.dtype)
    return x


def with_plain(x: Any) -> Any:
    a = torch.ones(2, 2, dtype=F64)
    return a @ x.T, a[0] * x, a[0] - x, x - a[0], x / a[1], torch.zeros_like(x) + x


def plain_matrix(x: Any) -> Any:
    a = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=F64)
    square = x[:2]
    return square @ a, a @ square


def preallocated(x: Any) -> Any:
    out = torch.zeros_like(x)
    for n in range(2):
        out[:, n] = x[:, 1 - n] * (n + 1)
    return out


PROGRAMS: dict[str, Callable] = {
    f.__name__: f
    for f in (
        indexed,
        written,
        operators,
        methods,
        joined,
        branched,
        with_plain,
        plain_matrix,
        unflattened,
        preallocated,
    )
}


def traced_programs() -> Iterator[Any]:
    for inside, where in ((True, "made inside"), (False, "passed in")):
        for maker in ("line", "bundle", "nested"):
            for n, (name, program) in enumerate(PROGRAMS.items()):
                # nested series take three times as long to trace: every other one of them in the
                # long sweeps, so that each program and each way in stays here
                slow = maker == "nested" and n % 2 == inside
                marks = [pytest.mark.slow] if slow else []
                yield pytest.param(
                    program, maker, inside, id=f"{where}-{maker}-{name}", marks=marks
                )


@pytest.mark.parametrize(("program", "maker", "inside"), list(traced_programs()))
def test_programs(program: Callable, maker: str, inside: bool) -> None:
    make = MAKERS[maker]
    expected = program(make(grid(3, 2)))
    if inside:
        got = compiled(lambda x0: program(make(x0)), "eager")(grid(3, 2))
    else:
        got = compiled(program, "eager")(make(grid(3, 2)))
    all_equal(got, expected)


def test_a_nested_series_given_by_keyword() -> None:
    def program(x0: torch.Tensor) -> Any:
        return torch.tanh(input=MAKERS["nested"](x0))

    all_equal(compiled(program, "eager")(grid(3, 2)), program(grid(3, 2)))


def test_a_write_into_an_argument_shows_outside() -> None:
    x, y = MAKERS["line"](grid(3, 2)), MAKERS["line"](grid(3, 2))

    def write(x: Any) -> Any:
        x.mul_(2)
        x[:, 0] = 1.0
        return x.exp()

    all_equal(compiled(write, "eager")(x), write(y))
    all_equal(x, y)


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "activations": (
        lambda: nn.Sequential(
            nn.ReLU(), nn.ELU(), nn.GELU(), nn.Softplus(), nn.Sigmoid(), nn.Mish(), nn.LeakyReLU()
        ),
        (3, 4),
    ),
    "layer norm": (lambda: nn.LayerNorm(4), (3, 4)),
    "batch norm": (lambda: nn.BatchNorm1d(4).eval(), (3, 4)),
    "conv": (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten()), (2, 1, 4, 4)),
    "softmax": (lambda: nn.Softmax(-1), (3, 4)),
    "transformer": (
        lambda: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True),
        (2, 3, 4),
    ),
    "relu in place": (lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True)), (3, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str) -> None:
    make, shape = LAYERS[name]
    torch.manual_seed(0)
    layer, x = make().double(), TaylorTensor(grid(*shape), direction=grid(*shape) + 1)
    all_equal(compiled(layer)(x), layer(x))


def residual(net: nn.Module, X0: torch.Tensor) -> torch.Tensor:
    X = tt.variables(X0)
    x, t = X[:, 0:1], X[:, 1:2]
    u = net(X)
    return ((tt.d(u, t) + u * tt.d(u, x) - 0.1 * tt.d(u, x, x)) ** 2).mean().value


def columns(net: nn.Module, X0: torch.Tensor) -> torch.Tensor:
    x, t = tt.variables(X0[:, 0:1], X0[:, 1:2])
    u = net(torch.cat([x, t], 1))
    return ((tt.d(u, t) + u * tt.d(u, x) - 0.1 * tt.d(u, x, x)) ** 2).mean().value


def lines(net: nn.Module, X0: torch.Tensor) -> torch.Tensor:
    return sum((c**2).mean() for c in net(TaylorTensor(X0)).derivatives)


@pytest.mark.parametrize(
    ("loss", "backend"),
    [
        # Inductor takes the graphs that aot_eager takes
        pytest.param(residual, "aot_eager", marks=pytest.mark.slow),
        (columns, "aot_eager"),
        pytest.param(lines, "aot_eager", marks=pytest.mark.slow),
        (residual, "inductor"),
        (lines, "inductor"),
    ],
)
def test_training_steps(loss: Callable, backend: str) -> None:
    nets = mlp(), mlp()
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in nets]
    step = [loss, compiled(loss, backend)]
    for _ in range(2):
        values = []
        for net, optimizer, f in zip(nets, optimizers, step, strict=True):
            optimizer.zero_grad()
            value = f(net, grid(6, 2))
            value.backward()
            optimizer.step()
            values.append(value.detach())
        all_equal(values[1], values[0])
    for p, q in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        all_equal(q, p)


def test_d_of_what_was_passed_in() -> None:
    net, X = mlp(), tt.variables(grid(5, 2))

    def f(X: Any) -> Any:
        u = net(X) * X[:, 1:2]
        return tt.d(u, X[:, 0:1], X[:, 1:2]), tt.d(u, X[:, 1])

    all_equal(compiled(f)(X), f(X))


def test_d_of_what_was_returned() -> None:
    net, X = mlp(), tt.variables(grid(5, 2))
    all_equal(tt.d(compiled(net)(X), X[:, 0], X[:, 1]), tt.d(net(X), X[:, 0], X[:, 1]))
    x, t = tt.variables(grid(5, 1), grid(5, 1) + 1)
    f = lambda x, t: torch.sin(x * t)  # noqa: E731
    all_equal(tt.d(compiled(f)(x, t), x, t), tt.d(f(x, t), x, t))


def tape(net: Any, x0: torch.Tensor) -> torch.Tensor:
    x, t = tt.variables(x=x0, t=x0[:, :1], derivatives=["t", "laplacian(x)"])
    u = net(x) * t
    y = tt.variables(x0, order=2)
    v = net(y)
    slices = tt.grad(v, y[:, 1:]).sum(-1) + tt.laplacian(v, y[:, :1]) + tt.hessian(v, y)[..., 0, 1]
    return (tt.laplacian(u, x) + tt.d(u, t)).value + slices.value


OPERATORS: dict[str, Callable] = {
    "tape": tape,
    "laplacian": lambda net, x: tt.func.laplacian(net)(x),
    "hessian": lambda net, x: tt.func.hessian(net)(x),
    "operator": lambda net, x: tt.func.linear_operator(net, {(2, 0): 1, (0, 1): x[:, 0]})(x),
    "weighted": lambda net, x: tt.func.weighted_laplacian(net, torch.eye(2, dtype=F64))(x),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_and_transforms(name: str) -> None:
    nets, x = (mlp(), mlp()), grid(5, 2)
    results = [
        OPERATORS[name](nets[0], x),
        compiled(lambda x: OPERATORS[name](nets[1], x), "aot_eager")(x),
    ]
    all_equal(results[1], results[0])
    for result in results:
        result.square().sum().backward()
    for p, q in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None)
        if p.grad is not None:
            all_equal(q.grad, p.grad)


some_makers = pytest.mark.parametrize("maker", ["line", "bundle", "variables"])


@some_makers
def test_a_changing_batch_size_does_not_recompile_every_time(maker: str) -> None:
    make, net, counter = MAKERS[maker], mlp(), CompileCounter()
    f = compiled(lambda x0: net(make(x0)).coeffs, counter)
    for size in (4, 7, 12, 31):
        all_equal(f(grid(size, 2)), net(make(grid(size, 2))).coeffs)
    assert counter.frame_count <= 2


@some_makers
def test_a_changing_batch_size_passed_in(maker: str) -> None:
    make, net, counter = MAKERS[maker], mlp(), CompileCounter()
    f = compiled(lambda x: net(x).mul(x.shape[0]).coeffs, counter)
    for size in (4, 7, 12, 31):
        all_equal(f(make(grid(size, 2))), (net(make(grid(size, 2))) * size).coeffs)
    assert counter.frame_count <= 2


def test_another_order_recompiles() -> None:
    net, counter = mlp(), CompileCounter()
    f = compiled(net, counter)
    for order in (1, 2, 3):
        x = TaylorTensor(grid(4, 2), order=order)
        all_equal(f(x), net(x))
    assert counter.frame_count == 3


@pytest.mark.filterwarnings("ignore:To copy construct from a tensor")
def test_what_a_compiled_module_returned_is_guarded() -> None:
    y = compiled(mlp())(TaylorTensor(grid(3, 2)))
    for read in (torch.tensor, lambda y: y.sum().item(), lambda y: torch.Tensor(y)):
        with pytest.raises(UnsupportedFunction):
            read(y)
    assert repr(y).startswith("TaylorTensor(order=2")


def test_a_write_to_a_returned_view_follows_its_base() -> None:
    def f(x: Any) -> Any:
        y = x * 2
        return y, y[:, 0]

    (y, column), (z, expected) = (
        compiled(f, "eager")(TaylorTensor(grid(3, 2))),
        f(TaylorTensor(grid(3, 2))),
    )
    y.mul_(3)
    z.mul_(3)
    all_equal(column, expected)
    column.zero_()
    expected.zero_()
    all_equal(y, z)


def test_gradients_with_respect_to_the_point() -> None:
    net = mlp()
    gradients = []
    for f in (net, compiled(net)):
        x0 = grid(3, 2).requires_grad_()
        y = f(TaylorTensor(x0))
        gradients.append(torch.autograd.grad(y.coeffs[2].sum(), x0)[0])
    all_equal(gradients[1], gradients[0])


def test_inductor_returns_a_series() -> None:
    net, x = mlp(), MAKERS["bundle"](grid(5, 2))
    all_equal(compiled(net, "inductor")(x), net(x))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_series_returned_where_graph_breaks_are_allowed(backend: str) -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh()).double()
    x = tt.TaylorTensor(torch.rand(4, 2, dtype=torch.float64), order=3)
    # without fullgraph Dynamo also compiles what Python runs between the graphs, the seal among it
    y = torch.compile(net, backend=backend)(x)
    for a, b in zip(y.coeffs, net(x).coeffs, strict=True):
        torch.testing.assert_close(a, b)
    with pytest.raises(tt.UnsupportedFunction):
        y.untyped_storage()


def test_transforms_in_a_thread_that_ran_none_before() -> None:
    """What a thread knows of open expansions is there when its first one is compiled."""

    def slopes() -> list[torch.Tensor]:
        transforms = [tt.func.jacfwd(f) for f in (torch.sin, torch.cos)]
        return [compiled(transform)(torch.zeros(1)) for transform in transforms]

    with ThreadPoolExecutor(1) as fresh:
        sine, cosine = fresh.submit(slopes).result()
    assert (sine, cosine) == (1, 0)


def test_a_tuple_of_series() -> None:
    """Dynamo looks for subclasses in lists of arguments, and by itself not in tuples."""

    def f(x: torch.Tensor) -> torch.Tensor:
        y = tt.TaylorTensor(x)
        return torch.cat((torch.sin(y), torch.stack((y, y * y)).sum(0)), -1).coeffs[2]

    x = torch.rand(3, 2, dtype=torch.float64)
    torch.testing.assert_close(torch.compile(f, fullgraph=True, backend="eager")(x), f(x))


def test_an_average_over_the_entries_of_compact_directions() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x * x).mean(-1)

    x = torch.rand(3, 4, dtype=torch.float64)
    laplacian = tt.func.laplacian(f)
    compiled = torch.compile(laplacian, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), laplacian(x))
