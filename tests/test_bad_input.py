"""What cannot be done raises, says why and what to do instead; nothing is lost silently.

Everything about a TaylorTensor is asked twice: of one made in eager mode, and of one that a
compiled module returned.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

import taylortorch as tt
from taylortorch import TaylorTensor, UnsupportedFunction

F64 = torch.float64


def grid(*shape: int) -> torch.Tensor:
    return torch.linspace(0.2, 0.9, torch.Size(shape).numel(), dtype=F64).reshape(shape)


def series(shape: tuple[int, ...], compiled: bool) -> TaylorTensor:
    x = TaylorTensor(grid(*shape))
    module = torch.nn.Tanh()
    return (torch.compile(module, fullgraph=True, backend="eager") if compiled else module)(x)


@pytest.fixture(scope="module", params=["eager", "compiled"])
def made(request: pytest.FixtureRequest) -> tuple[TaylorTensor, TaylorTensor]:
    compiled = request.param == "compiled"
    return series((2, 3), compiled), series((), compiled)


@pytest.fixture
def x(made: tuple) -> TaylorTensor:
    """A series of shape (2, 3)."""
    return made[0]


@pytest.fixture
def s(made: tuple) -> TaylorTensor:
    """A series of no axes."""
    return made[1]


# --- making one -----------------------------------------------------------------------------------

V = grid(3)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: TaylorTensor(1.0), TypeError, r"got float: use torch.as_tensor\(x\)"),
        (lambda: TaylorTensor([1.0]), TypeError, "got list"),
        (lambda: TaylorTensor(np.ones(3)), TypeError, "got ndarray"),
        (lambda: TaylorTensor(torch.arange(3)), TypeError, r"got torch.int64: use x.to\("),
        (lambda: TaylorTensor(V > 0), TypeError, "got torch.bool"),
        (lambda: TaylorTensor(V, order=-1), ValueError, "order must be >= 0, got -1"),
        (lambda: TaylorTensor(V, order=2.0), TypeError, "order must be an int, got float"),
        (lambda: TaylorTensor(V, order=True), TypeError, "order must be an int, got bool"),
        (lambda: TaylorTensor(V, order="2"), TypeError, "order must be an int, got str"),
        (lambda: TaylorTensor(V, grid(4)), ValueError, r"direction of shape \(4,\).*\(3,\)"),
        (lambda: TaylorTensor(V, grid(1, 3)), ValueError, r"direction of shape \(1, 3\)"),
        (lambda: TaylorTensor(V, V.float()), ValueError, "dtype torch.float32.*torch.float64"),
        (lambda: TaylorTensor(V, V.to("meta")), ValueError, "device meta"),
        (lambda: TaylorTensor(V, torch.arange(3)), TypeError, "direction must be a floating"),
        (lambda: TaylorTensor(V, 1.0), TypeError, "direction must be a tensor, got float"),
        (lambda: TaylorTensor(V, V, directions=V[None]), ValueError, "not both"),
        (lambda: TaylorTensor(V, directions=V), ValueError, r"shape \(R, \*\(3,\)\), got \(3,\)"),
        (lambda: TaylorTensor(V, directions=[V]), ValueError, "got list"),
        (lambda: TaylorTensor(V, directions=grid(2, 4)), ValueError, r"directions of shape \(2, 4"),
        (lambda: TaylorTensor(V, weights=1.0), ValueError, "weights= go with directions="),
        (
            lambda: TaylorTensor(V, directions=grid(2, 3), weights=grid(3)),
            ValueError,
            r"weights must have shape \(2,\), got \(3,\)",
        ),
        (lambda: TaylorTensor.from_coeffs([]), ValueError, "at least one coefficient, got none"),
        (lambda: TaylorTensor.from_coeffs([V, grid(2)]), ValueError, "coefficient 1 has shape"),
        (lambda: TaylorTensor.from_coeffs([V, V.float()]), ValueError, "coefficient 1 has dtype"),
        (lambda: TaylorTensor.from_coeffs([V, V.to("meta")]), ValueError, "1 has device meta"),
        (lambda: TaylorTensor.from_coeffs([V, 0.0]), TypeError, "coefficient 1 must be a tensor"),
        (lambda: TaylorTensor.from_coeffs([V, torch.arange(3)]), TypeError, "coefficient 1 must"),
        (lambda: TaylorTensor(V).multi_indices, AttributeError, "taylortorch.variables.*line"),
    ],
)
def test_making_one(make: Callable, error: type, says: str) -> None:
    with pytest.raises(error, match=says):
        make()


# --- leaving torch --------------------------------------------------------------------------------

LEAVING: dict[str, tuple[Callable, str]] = {
    # what is asked of a series of no axes, and the function as the message names it
    "item": (lambda s: s.item(), "torch.Tensor.item"),
    "tolist": (lambda s: s.tolist(), "torch.Tensor.tolist"),
    "numpy": (lambda s: s.numpy(), "torch.Tensor.numpy"),
    "np.asarray": (np.asarray, "__array__"),
    "np.array of a list": (lambda s: np.array([s, s]), "__array__"),
    "np.stack": (lambda s: np.stack([s, s]), "__array__"),
    "np.float64": (np.float64, "__array__"),
    "float": (float, "__float__"),
    "int": (int, "__int__"),
    "complex": (complex, "__complex__"),
    "math.sin": (math.sin, "__float__"),
    "math.floor": (math.floor, "__float__"),
    "range": (range, "__index__"),
    "an index of a list": (lambda s: [1, 2][s], "__index__"),
    "a bound of a slice": (lambda s: torch.ones(3)[:s], "__index__"),
    "backward": (lambda s: s.backward(), "torch.Tensor.backward"),
    "autograd.backward": (torch.autograd.backward, "torch.autograd.backward"),
    "autograd.grad": (
        lambda s: torch.autograd.grad(s, torch.ones(2, requires_grad=True)),
        "torch.autograd.grad",
    ),
}


@pytest.mark.parametrize("name", LEAVING)
def test_leaving_torch_above_order_zero(s: TaylorTensor, name: str) -> None:
    ask, function = LEAVING[name]
    with pytest.raises(UnsupportedFunction, match=r"of order 2.*lose.*x\.value.*x\.coeffs") as e:
        ask(s)
    assert function in str(e.value)


@pytest.mark.parametrize(
    "ask",
    [
        lambda s: np.zeros(2).__setitem__(0, s),
        lambda s: torch.tensor([s, s]),
        lambda s: torch.as_tensor([s, s]),
        lambda s: torch.ones(3).new_tensor([s, s]),
    ],
)
def test_lists_of_numbers(s: TaylorTensor, ask: Callable) -> None:
    with pytest.raises((TypeError, ValueError, UnsupportedFunction)):
        ask(s)


@pytest.mark.parametrize("ask", [float, int, np.asarray, lambda s: s.item(), math.sqrt])
def test_leaving_torch_at_order_zero(ask: Callable) -> None:
    assert ask(TaylorTensor(torch.tensor(4.0), order=0)) == ask(torch.tensor(4.0))


def test_formatting_with_a_number_format(s: TaylorTensor) -> None:
    with pytest.raises(UnsupportedFunction, match=r"format x\.value"):
        f"{s:.3f}"


# --- C++ code that would read the value -----------------------------------------------------------


@torch.jit.script
def scripted(x: torch.Tensor) -> torch.Tensor:
    return x.sin()


class Sine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return torch.sin(x)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g * torch.cos(ctx.saved_tensors[0])


class Same(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g


class Both(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any, w: Any) -> Any:
        return x * w, x + w

    @staticmethod
    def backward(ctx: Any, *g: Any) -> Any:
        return g[0], g[1]


library = torch.library.Library("taylortorch_tests", "DEF")
library.define("own_sine(Tensor x) -> Tensor")
library.impl("own_sine", lambda x: x.sin(), "CompositeExplicitAutograd")

IN_CPP: dict[str, Callable] = {
    "torch.tensor": torch.tensor,
    "new_tensor": lambda x: torch.ones(3).new_tensor(x),
    "torch.Tensor": torch.Tensor,
    "as_tensor of another dtype": lambda x: torch.as_tensor(x, dtype=torch.float32),
    "autograd.Variable": torch.autograd.Variable,
    "_make_subclass": lambda x: torch.Tensor._make_subclass(torch.nn.Parameter, x),
    "nested tensor": lambda x: torch.nested.nested_tensor([x, x]),
    "as a gradient": lambda x: (torch.ones(2, 3, dtype=F64, requires_grad=True) * 2).backward(x),
}


# torch's own, of copies: it is given before anything is copied
@pytest.mark.filterwarnings("ignore:To copy construct from a tensor")
@pytest.mark.parametrize("route", IN_CPP.values(), ids=IN_CPP)
def test_cpp_code_never_reads_the_value(x: TaylorTensor, route: Callable) -> None:
    with pytest.raises(UnsupportedFunction, match=r"lose its coefficients.*Use x\.value"):
        route(x)


NUMBERS: dict[str, Callable] = {
    "torch.full": lambda s: torch.full((2,), s),
    "torch.arange": torch.arange,
    "full_like": lambda s: torch.full_like(torch.ones(2), s),
    "new_full": lambda s: torch.ones(2).new_full((2,), s),
    "alpha=": lambda s: torch.add(torch.ones(2), 1, alpha=s),
    "value=": lambda s: torch.addcmul(torch.ones(2), torch.ones(2), torch.ones(2), value=s),
    "elu": lambda s: torch.nn.functional.elu(torch.ones(2), s),
    "leaky_relu": lambda s: torch.nn.functional.leaky_relu(torch.ones(2), s),
    "softplus": lambda s: torch.nn.functional.softplus(torch.ones(2), beta=s),
    "threshold": lambda s: torch.nn.functional.threshold(torch.ones(2), 0.5, s),
    "pad": lambda s: torch.nn.functional.pad(torch.ones(2), (1, 1), value=s),
    "dropout": lambda s: torch.nn.functional.dropout(torch.ones(2), s),
    "layer_norm eps": lambda s: torch.nn.functional.layer_norm(torch.ones(2), (2,), eps=s),
    "nan_to_num": lambda s: torch.nan_to_num(torch.ones(2), nan=s),
}


@pytest.mark.parametrize("route", NUMBERS.values(), ids=NUMBERS)
def test_a_series_is_no_plain_number(s: TaylorTensor, route: Callable) -> None:
    with pytest.raises((TypeError, UnsupportedFunction), match="TaylorTensor"):
        route(s)


def test_a_scripted_function(x: TaylorTensor) -> None:
    # the interpreter of TorchScript keeps the place and drops the message
    with pytest.raises(RuntimeError, match=r"(?s)TorchScript interpreter.*scripted.*x\.sin"):
        scripted(x)


@pytest.mark.parametrize(
    "apply",
    [
        Sine.apply,
        Same.apply,
        lambda x: Both.apply(x, torch.ones(2, 3, dtype=F64))[1],
        lambda x: Both.apply(torch.ones(2, 3, dtype=F64), x)[0],
    ],
    ids=["Sine", "Same", "Both", "Both, second argument"],
)
@pytest.mark.parametrize(
    "use",
    [
        lambda y: y * 1,
        lambda y: y.coeffs,
        lambda y: y.value,
        lambda y: y.derivatives,
        lambda y: y[0],
        lambda y: y > 0,
        lambda y: torch.cat([torch.ones(2, 3, dtype=F64), y]),
        lambda y: torch.zeros(3, dtype=F64).__setitem__(slice(None), y[0]),
        lambda y: y.detach(),
        repr,
        TaylorTensor,
    ],
)
def test_a_custom_function_without_a_rule(x: TaylorTensor, apply: Callable, use: Callable) -> None:
    with pytest.raises(UnsupportedFunction, match=r"(Sine|Same|Both).*register_rule"):
        use(apply(x))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_a_reentrant_checkpoint(x: TaylorTensor) -> None:
    layer = torch.nn.Linear(3, 2).double()
    with pytest.raises(UnsupportedFunction, match="use_reentrant=False"):
        checkpoint(layer, x, use_reentrant=True).exp()


def test_a_full_backward_hook(x: TaylorTensor) -> None:
    layer = torch.nn.Linear(3, 2).double()
    layer.register_full_backward_hook(lambda *args: None)
    with pytest.raises(UnsupportedFunction, match="hook"):
        layer(x).exp()
    layer = torch.nn.Linear(3, 2).double()
    layer.register_full_backward_pre_hook(lambda *args: None)
    with pytest.raises(UnsupportedFunction, match="hook"):
        layer(x).exp()


def test_an_operator_without_a_rule(x: TaylorTensor) -> None:
    for operator in (torch.ops.taylortorch_tests.own_sine, torch.ops.prims.sin):
        with pytest.raises(UnsupportedFunction, match=r"sin.*register_rule"):
            operator(x)


# --- torch functions that are refused -------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda x: torch.sin(x, out=torch.empty(2, 3, dtype=F64)),
        lambda x: torch.add(x, 1, out=x),
        lambda x: torch.sin(torch.ones(2, 3, dtype=F64), out=x),
        lambda x: torch.matmul(x.mT, x, out=torch.empty(3, 3, dtype=F64)),
        lambda x: torch.cat([x, x], out=torch.empty(4, 3, dtype=F64)),
        lambda x: torch.sum(x, 0, out=torch.empty(3, dtype=F64)),
    ],
)
@pytest.mark.parametrize("order", [0, 2])
def test_out(x: TaylorTensor, call: Callable, order: int) -> None:
    y = x if order else TaylorTensor(grid(2, 3), order=0)
    with pytest.raises(UnsupportedFunction, match=r"torch\.\w+\(out=.*returned TaylorTensor"):
        call(y)


def test_out_none_is_no_out(x: TaylorTensor) -> None:
    assert isinstance(torch.sin(x, out=None), TaylorTensor)


REFUSED: dict[str, tuple[Callable, str]] = {
    ".data": (lambda x: x.data, r"torch\.Tensor\.data .*x\.detach\(\)"),
    ".data =": (lambda x: setattr(x, "data", torch.ones(2, 3)), r"\.data"),
    ".grad =": (lambda x: setattr(x, "grad", torch.ones(2, 3)), r"\.grad"),
    ".requires_grad =": (lambda x: setattr(x, "requires_grad", True), r"\.requires_grad"),
    "data_ptr": (lambda x: x.data_ptr(), r"storage.*x\.value"),
    "untyped_storage": (lambda x: x.untyped_storage(), r"storage.*x\.value"),
    "from_dlpack": (torch.from_dlpack, r"storage.*x\.value"),
    "np.from_dlpack": (np.from_dlpack, r"storage.*x\.value"),
    "share_memory_": (lambda x: x.share_memory_(), "storage"),
    "as_strided": (lambda x: x.as_strided((2,), (6,)), "as_strided.*outside.*use indexing"),
    "as_strided_": (lambda x: x.as_strided_((2,), (1,)), "as_strided_.*in place"),
    "view of another dtype": (lambda x: x.view(torch.int64), r"bits: use x\.to\(dtype\)"),
    "register_hook": (lambda x: x.register_hook(print), r"x\.value or on x\.coeffs"),
    "retain_grad": (lambda x: x.retain_grad(), r"x\.value or on x\.coeffs"),
    "to_sparse": (lambda x: x.to_sparse(), r"dense; use x\.value"),
    "matrix_rank": (torch.linalg.matrix_rank, r"no derivative; use x\.value"),
    "apply_": (lambda x: x.apply_(lambda a: a), "storage"),
    "an index": (lambda x: torch.ones(3)[x], r"no index; use x\.value\.long\(\)"),
    "an index in a tuple": (lambda x: torch.ones(2, 3)[0, x], "no index"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_reason(x: TaylorTensor, name: str) -> None:
    ask, says = REFUSED[name]
    with pytest.raises(UnsupportedFunction, match=says):
        ask(x)


def test_a_function_without_a_rule_says_what_to_do(x: TaylorTensor) -> None:
    names = r"torch\.special\.airy_ai has no Taylor rule yet.*x\.value.*supported.*register_rule"
    with pytest.raises(UnsupportedFunction, match=names):
        torch.special.airy_ai(x)


def test_numpy_functions(x: TaylorTensor) -> None:
    for call in (np.sin, np.exp, lambda x: np.ones((2, 3)) * x, lambda x: np.add(x, 1)):
        with pytest.raises(TypeError, match="TaylorTensor"):
            call(x)


def test_a_parameter(x: TaylorTensor) -> None:
    with pytest.raises((RuntimeError, UnsupportedFunction), match="TaylorTensor"):
        torch.nn.Parameter(x)
    with pytest.raises(RuntimeError, match="weight"):
        torch.nn.Linear(3, 2).double().load_state_dict({"weight": x, "bias": grid(2)})


# --- mixing, writing ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        lambda: TaylorTensor(grid(2, 3), directions=grid(4, 2, 3)),
        lambda: tt.variables(grid(2, 3)),
    ],
)
@pytest.mark.parametrize(
    "mix",
    [
        lambda x, y: x + y,
        lambda x, y: y / x,
        lambda x, y: torch.where(x > 0, x, y),
        lambda x, y: torch.stack([x, y]),
        lambda x, y: x.__setitem__(0, y[0]),
        lambda x, y: torch.nn.functional.linear(x, y),
        lambda x, y: torch.atan2(y, x),
    ],
)
def test_mixing_expansions(x: TaylorTensor, other: Callable, mix: Callable) -> None:
    with pytest.raises(UnsupportedFunction, match=r"mixes two different expansions.*nest"):
        mix(x * 1, other())


def test_bundles_of_different_sizes_do_not_mix() -> None:
    a, b = (TaylorTensor(grid(3), directions=grid(r, 3)) for r in (2, 3))
    with pytest.raises(UnsupportedFunction, match=r"2 directions and .*3 directions"):
        a * b


@pytest.mark.parametrize(
    "alias", [lambda p: p[0], lambda p: p.data, lambda p: p.numpy(), lambda p: p.view(-1)]
)
@pytest.mark.parametrize(
    "write",
    [
        lambda p, x: p.__setitem__(0, x[0]),
        lambda p, x: p.add_(x),
        lambda p, x: p.copy_(x),
        lambda p, x: p.mul_(x),
        lambda p, x: p.fill_(x[0, 0]),
        lambda p, x: p.index_add_(0, torch.arange(2), x),
        lambda p, x: p.clamp_(min=x),
    ],
)
def test_a_write_that_an_alias_would_not_see(
    x: TaylorTensor, alias: Callable, write: Callable
) -> None:
    plain = torch.zeros(2, 3, dtype=F64)
    other = alias(plain)
    with pytest.raises(UnsupportedFunction, match=r"share.*zeros_like\(x\)"):
        write(plain, x)
    assert np.asarray(other).sum() == 0


def test_a_write_into_a_view_of_a_plain_tensor(x: TaylorTensor) -> None:
    with pytest.raises(UnsupportedFunction, match=r"share.*zeros_like\(x\)"):
        torch.zeros(2, 3, dtype=F64)[0].add_(x[0])


def test_a_write_into_a_parameter(x: TaylorTensor) -> None:
    with pytest.raises(RuntimeError, match="leaf"):
        torch.nn.Parameter(grid(2, 3)).add_(x)
    layer = torch.nn.Linear(3, 2).double()
    with pytest.raises(UnsupportedFunction, match="share"):
        layer.weight.data.copy_(x)


def test_a_random_write(x: TaylorTensor) -> None:
    for write in (lambda y: y.normal_(), lambda y: y.uniform_(), torch.nn.init.uniform_):
        y = x.clone()
        try:
            write(y)
        except UnsupportedFunction:
            continue
        assert all((c == 0).all() for c in y.coeffs[1:])
        assert not torch.equal(y.value, x.value)


# --- under a compiler -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "f",
    [
        lambda x: torch.special.airy_ai(x),
        lambda x: torch.tensor([float(v) for v in x[0]]),
        lambda x: x.sum().item(),
        lambda x: torch.sin(x, out=torch.empty_like(x.value)),
        lambda x: torch.full((2,), x[0, 0]),
        lambda x: torch.zeros(2, 3, dtype=F64).add_(x),
        lambda x: x + tt.variables(grid(2, 3)),
    ],
    ids=["no rule", "float", "item", "out=", "full", "adoption", "mixing"],
)
@pytest.mark.parametrize("inside", [True, False])
def test_inside_a_compiled_function(f: Callable, inside: bool) -> None:
    def program(v: Any) -> Any:
        y = f(TaylorTensor(v) if inside else v)
        return y.coeffs if isinstance(y, TaylorTensor) else (y,)

    torch._dynamo.reset()
    argument = grid(2, 3) if inside else TaylorTensor(grid(2, 3))
    with pytest.raises((torch._dynamo.exc.TorchDynamoException, RuntimeError, TypeError)):
        torch.compile(program, backend="eager", fullgraph=True)(argument)
