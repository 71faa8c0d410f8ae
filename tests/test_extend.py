"""Users' own rules: every way to give one, every kind of function that can get one."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import taylortorch as tt
from taylortorch.engine.registry import ROWS, RULES
from taylortorch.testing import check_rule

F64 = torch.float64
X = torch.tensor([[0.4, 1.3, 0.7], [0.9, 0.6, 1.1]], dtype=F64)
Y = torch.tensor([[1.2, 0.5, 0.8], [0.7, 1.4, 0.6]], dtype=F64)


def opaque(f: Callable) -> Callable:
    """A numpy function as one of tensors, which autograd does not see through."""

    def of_arrays(*arguments: Any) -> torch.Tensor:
        assert all(type(a) is torch.Tensor for a in arguments)
        return torch.from_numpy(np.asarray(f(*(a.numpy() for a in arguments))))

    return of_arrays


def cubed(x: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(x.detach().numpy() ** 3)


def product(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return x * w


def path() -> tt.TaylorTensor:
    coefficients = [[0.5, -0.7], [1.0, 0.3], [0.2, -0.4], [-0.1, 0.6]]
    return tt.TaylorTensor.from_coeffs([torch.tensor(c, dtype=F64) for c in coefficients])


def same(result: Any, expected: Any) -> None:
    for got, want in zip(result.coeffs, expected.coeffs, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


# --- the five ways ------------------------------------------------------------------------------

WAYS = {
    "derivative": ({"derivative": lambda x: 3 * x**2}, lambda e: e**3, lambda x: x**3),
    "ode": ({"ode": (0, 0, -1)}, lambda e: 1 / e, lambda x: 1 / x),
    "form": ({"form": "x : x"}, lambda e: 2 * e, lambda x: 2 * x),
    "composite": ({"composite": lambda x: x * x}, lambda e: e * e, lambda x: x * x),
    "evaluate": (
        {"evaluate": lambda func, args, kwargs: args[0] + 1},
        lambda e: e + 1,
        lambda x: x + 1,
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_give_a_rule(way: str) -> None:
    keywords, entry, closed_form = WAYS[way]

    def plain(x: torch.Tensor) -> torch.Tensor:
        return opaque(entry)(x)

    served = tt.register_rule(plain, **keywords)
    same(served(path()), closed_form(path()))
    same(served(x=path()), closed_form(path()))
    value = path().value
    assert torch.equal(served(value), plain(value)), "plain tensors go to the function itself"
    same(served(tt.TaylorTensor(path())).coeffs[1], closed_form(tt.TaylorTensor(path())).coeffs[1])


def test_as_a_decorator() -> None:
    @tt.register_rule(derivative=lambda x: 3 * x**2)
    def cube(x: torch.Tensor) -> torch.Tensor:
        """Its own words."""
        return opaque(lambda a: a**3)(x)

    assert (cube.__name__, cube.__doc__) == ("cube", "Its own words.")
    same(cube(path()), path() ** 3)


def test_two_arguments() -> None:
    served = tt.register_rule(
        opaque(np.arctan2),
        derivative=(lambda y, x: x / (x * x + y * y), lambda y, x: -y / (x * x + y * y)),
    )
    other = path() + 2
    same(served(path(), other), torch.atan2(path(), other))
    same(served(path(), other.value), torch.atan2(path(), other.value))


def test_an_argument_without_a_derivative() -> None:
    def power(x: torch.Tensor, n: int) -> torch.Tensor:
        return x**n

    served = tt.register_rule(power, derivative=(lambda x, n: n * x ** (n - 1), None))
    same(served(path(), 3), path() ** 3)
    same(served(path(), n=3), path() ** 3)
    with pytest.raises(tt.UnsupportedFunction, match=r"power was registered without .* in n"):
        served(path(), path())
    first = tt.register_rule(power, derivative=lambda x, n: n * x ** (n - 1), replace=True)
    with pytest.raises(tt.UnsupportedFunction, match="power takes a TaylorTensor only as x"):
        first(path(), path())


def test_a_derivative_that_calls_the_function() -> None:
    """Higher derivatives by recursion; each of them opaque, its gradients of every order right."""

    def sine_derivative(x: torch.Tensor, n: int = 0) -> torch.Tensor:
        return torch.from_numpy(np.sin(x.numpy() + n * np.pi / 2))

    served: Any = tt.register_rule(sine_derivative, derivative=lambda x, n=0: served(x, n + 1))
    assert check_rule(served, [(X,), (X, 3)], order=4).error < 1e-6
    x = X.clone().requires_grad_()
    for order in (0, 1, 2):
        y = served(tt.TaylorTensor(x, order=order)).derivatives[order]
        (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), x)
        torch.testing.assert_close(first, torch.sin(x + (order + 1) * torch.pi / 2))
        torch.testing.assert_close(second, torch.sin(x + (order + 2) * torch.pi / 2))


def test_a_form_with_a_term_of_its_own() -> None:
    def affine(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return x @ w + b

    served = tt.register_rule(affine, form="x, w, b : x*w + b")
    report = check_rule(served, [(X, Y.mT.contiguous(), X[:, :2])])
    assert not report.refused
    scaled = tt.register_rule(_scaled, form="x, s, y : x*y")
    with pytest.raises(tt.UnsupportedFunction, match=r"_scaled does not differentiate s.*x\.value"):
        scaled(path(), path(), path())


def _scaled(x: torch.Tensor, s: float, y: torch.Tensor) -> torch.Tensor:
    return x * y * s


def test_a_form_with_several_results() -> None:
    def halves(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        array = x.numpy()
        return torch.from_numpy(array[:1] + 0), torch.from_numpy(array[1:] * 2)

    served = tt.register_rule(halves, form="x : x")
    assert "bundle, collapsed" in check_rule(served, [(X,)], gradients=False).checks


# --- gradients ----------------------------------------------------------------------------------


def test_an_opaque_function_in_a_network_is_trained() -> None:
    served = tt.register_rule(opaque(np.tanh), ode=(1, 0, -1))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1)).double()

    def loss(activation: Callable) -> torch.Tensor:
        y = net[1](activation(net[0](tt.TaylorTensor(X, order=3))))
        return sum(c.square().sum() for c in y.coeffs)  # type: ignore[return-value]

    got = torch.autograd.grad(loss(served), list(net.parameters()))
    want = torch.autograd.grad(loss(torch.tanh), list(net.parameters()))
    torch.testing.assert_close(got, want)


def test_what_the_function_closes_over_keeps_its_gradient() -> None:
    w = torch.tensor(0.7, dtype=F64, requires_grad=True)
    served = tt.register_rule(lambda x: w * x**3, derivative=lambda x: 3 * w * x**2)
    assert check_rule(served, [(X,)]).oracle == ("autograd",)


def test_what_it_closes_over_beside_numpy_is_refused() -> None:
    """The gradient of w is recorded, that of x is not: neither is complete."""
    w = torch.tensor(0.7, dtype=F64, requires_grad=True)
    served = tt.register_rule(
        lambda x: w * torch.from_numpy(x.numpy() ** 3), derivative=lambda x: 3 * w * x**2
    )
    assert served(tt.TaylorTensor(X)).value.requires_grad
    with pytest.raises(RuntimeError, match="numpy"):
        served(tt.TaylorTensor(X.clone().requires_grad_()))


@pytest.mark.parametrize("k", [0, 1, 2])
def test_transforms_of_torch_through_an_opaque_function(k: int) -> None:
    served = tt.register_rule(lambda x: x.detach() ** 3, derivative=lambda x: 3 * x**2)

    def coefficient(f: Callable, x: torch.Tensor) -> torch.Tensor:
        return f(tt.TaylorTensor(x, order=2)).coeffs[k]

    mine, theirs = (functools.partial(coefficient, f) for f in (served, lambda x: x**3))
    torch.testing.assert_close(torch.func.jacrev(mine)(X), torch.func.jacrev(theirs)(X))
    pushed = torch.func.jvp(mine, (X,), (Y,))[1]
    torch.testing.assert_close(pushed, torch.func.jvp(theirs, (X,), (Y,))[1])
    linear = tt.register_rule(lambda x: 2 * x.detach(), form="x : x")
    with pytest.raises(tt.UnsupportedFunction, match="autograd does not see through"):
        torch.func.jvp(functools.partial(coefficient, linear), (X,), (Y,))


def test_a_gradient_that_would_be_lost_is_refused() -> None:
    x, w = tt.TaylorTensor(X), Y.clone().requires_grad_()
    detached = tt.register_rule(lambda x: torch.from_numpy(x.detach().numpy() * 2), form="x : x")
    detached(x)
    with torch.no_grad():
        detached(x * w)
    with pytest.raises(tt.UnsupportedFunction, match=r"autograd does not see.*register_autograd"):
        detached(x * w)

    def times(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(x.numpy() * w.detach().numpy())

    first = tt.register_rule(times, derivative=lambda x, w: w)
    first(x, w.detach())
    with pytest.raises(tt.UnsupportedFunction, match="derivative in x, but another argument req"):
        first(x, w)
    without = tt.register_rule(times, derivative=(lambda x, w: w, None), replace=True)
    with pytest.raises(tt.UnsupportedFunction, match="without a derivative in w"):
        without(x, w).value.sum().backward()


# --- functions that torch dispatches ------------------------------------------------------------


@torch.library.custom_op("taylortorch_tests::product", mutates_args=())
def custom_product(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return x * y


@torch.library.custom_op("taylortorch_tests::cube", mutates_args=())
def custom_cube(x: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(x.numpy() ** 3)


@custom_cube.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("taylortorch_tests::flipped", mutates_args=())
def custom_flip(x: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(x.numpy()[::-1].copy())


custom_flip.register_autograd(lambda ctx, grad: grad.flip(0))
library = torch.library.Library("taylortorch_tests_own", "DEF")
library.define("cube(Tensor x, *, float scale=1.0) -> Tensor")
library.impl("cube", lambda x, *, scale=1.0: torch.from_numpy(scale * x.numpy() ** 3), "CPU")


def test_a_library_operator_by_all_its_names() -> None:
    with pytest.raises(tt.UnsupportedFunction, match="product"):
        custom_product(path(), path())
    tt.register_rule(custom_product, form="x, y : x*y")
    packet = torch.ops.taylortorch_tests.product
    for call in (custom_product, packet, packet.default):
        same(call(path(), path()), path() * path())
    assert "torch.ops.taylortorch_tests.product" in tt.supported()["multilinear"]


@pytest.mark.parametrize("which", ["packet", "overload"])
def test_an_operator_defined_by_hand(which: str) -> None:
    packet = torch.ops.taylortorch_tests_own.cube
    operator = packet if which == "packet" else packet.default
    tt.register_rule(operator, derivative=lambda x, *, scale=1.0: 3 * scale * x**2)
    for call in (packet, packet.default):
        same(call(path()), path() ** 3)
        same(call(path(), scale=2.0), 2 * path() ** 3)
    report = check_rule(packet, [(X,), tt.testing.call(X, scale=0.5)])
    assert report.oracle[0].startswith("finite differences (autograd")


def test_an_operator_without_an_autograd_formula_is_trained() -> None:
    tt.register_rule(custom_cube, derivative=lambda x: 3 * x**2)
    report = check_rule(custom_cube, [(X,)], compile=True)
    assert "torch.compile" in report.checks
    assert report.oracle[0].startswith("finite differences (autograd fails: ")
    with pytest.raises(RuntimeError, match="no autograd formula"):
        custom_cube(X.clone().requires_grad_()).sum().backward()


def test_an_operator_with_an_autograd_formula() -> None:
    tt.register_rule(custom_flip, form="x : x")
    assert check_rule(custom_flip, [(X,)]).oracle == ("autograd",)


def test_a_torch_function_without_a_rule() -> None:
    x = path().reshape(1, 2)
    # as if torch had just brought it
    del RULES[torch.t_copy]
    ROWS[:] = [rule for rule in ROWS if torch.t_copy not in rule.functions]
    with pytest.raises(tt.UnsupportedFunction, match=r"torch\.t_copy has no Taylor rule"):
        torch.t_copy(x)
    rows = len(ROWS)
    assert tt.register_rule(torch.t_copy, form="x : x") is torch.t_copy
    assert len(ROWS) == rows + 1
    same(torch.t_copy(x), x.t())


# --- torch.autograd.Function --------------------------------------------------------------------


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return 2 * grad


def test_an_autograd_function_is_refused_until_it_has_a_rule() -> None:
    x, w = path(), torch.tensor(0.3, dtype=F64, requires_grad=True)
    with pytest.raises(tt.UnsupportedFunction, match="Doubled"):
        Doubled.apply(w * x) + 1
    tt.register_rule(Doubled, form="x : x")
    y = Doubled.apply(w * x)
    same(y, 2 * w * x)
    (gradient,) = torch.autograd.grad(y.coeffs[2].sum(), w)
    torch.testing.assert_close(gradient, 2 * x.coeffs[2].sum())
    with pytest.raises(ValueError, match="Doubled has a rule already"):
        tt.register_rule(Doubled, form="x : x")
    tt.register_rule(Doubled, composite=lambda x: x + x, replace=True)
    same(Doubled.apply(x), 2 * x)
    assert Doubled.apply(X.requires_grad_()).grad_fn.name() == "DoubledBackward"
    X.requires_grad_(False)


class Steep(torch.autograd.Function):
    """The value is a step, the gradient that of a ramp."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        return torch.sign(x) * scale

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        ctx.scale = inputs[1] if len(inputs) > 1 else 1.0

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        return ctx.scale * grad, None


def compiled(f: Callable) -> Callable:
    torch.compiler.reset()
    return torch.compile(f, fullgraph=True, backend="aot_eager")


def test_a_function_keeps_its_rule_in_compiled_code() -> None:
    """Dynamo traces the forward of a Function, whose derivative is zero here."""
    tt.register_rule(Steep, derivative=(lambda x, scale=1.0: torch.ones_like(x) * scale, None))
    x = tt.TaylorTensor(X)
    assert torch.equal(Steep.apply(x, 3.0).coeffs[1], 3 * torch.ones_like(X))
    made_inside = compiled(lambda x0: Steep.apply(tt.TaylorTensor(x0), 3.0).coeffs[1])
    assert torch.equal(made_inside(X), 3 * torch.ones_like(X))
    passed_in = compiled(lambda x: Steep.apply(x, 3.0).coeffs[1])
    assert torch.equal(passed_in(x), 3 * torch.ones_like(X))
    leaf = X.clone().requires_grad_()
    compiled(lambda x0: Steep.apply(x0, 3.0))(leaf).sum().backward()
    assert torch.equal(leaf.grad, 3 * torch.ones_like(X))


def test_a_subclass_of_a_function_has_no_rule_of_its_own() -> None:
    class Base(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return 2 * x

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
            return 2 * grad

    tt.register_rule(Base, form="x : x")

    class Thrice(Base):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return 3 * x

    assert type(Thrice) is torch.autograd.function.FunctionMeta
    assert torch.equal(Thrice.apply(X), 3 * X)
    with pytest.raises(tt.UnsupportedFunction, match="Thrice"):
        Thrice.apply(path()) + 1
    tt.register_rule(Thrice, composite=lambda x: 3 * x)
    same(Thrice.apply(path()), 3 * path())
    same(Base.apply(path()), 2 * path())


# --- other callables ----------------------------------------------------------------------------


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = 2.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self.scale * x.numpy() ** 3)

    def act(self, x: torch.Tensor) -> torch.Tensor:
        return self.forward(x)


@dataclasses.dataclass
class Scale:
    by: float = 2.0

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.by * x


@torch.jit.script
def scripted(x: torch.Tensor):
    return 2.0 * x**3


def test_callables_of_every_kind() -> None:
    slope: Any = {"derivative": lambda x: 6 * x**2}
    layer, want = Layer(), 2 * path() ** 3
    served = {
        "a lambda": tt.register_rule(lambda x: 2 * x**3, **slope),
        "a method": tt.register_rule(layer.act, **slope),
        "a scripted function": tt.register_rule(scripted, **slope),
        "a partial": tt.register_rule(
            functools.partial(lambda x, s: s * x**3, s=2.0),
            derivative=lambda x, s=2.0: 3 * s * x**2,
        ),
    }
    for function in served.values():
        same(function(path()), want)
    same(tt.register_rule(Scale(), form="x : x")(path()), 2 * path())
    layer.forward = tt.register_rule(layer.forward, **slope)  # type: ignore[method-assign]
    same(layer(path()), want)
    Layer.act = tt.register_rule(Layer.act, derivative=(None, lambda self, x: 6 * x**2))  # type: ignore
    same(Layer().act(path()), want)


NO_FUNCTIONS = {
    "a number": (3, "takes a function, got 3"),
    "nothing": (None, "takes a function, got None"),
    "a name": ("sin", "takes a function, got 'sin'"),
    "a module": (nn.Tanh(), r"Tanh\(\) is a module.*module\.forward = taylortorch\.register_rule"),
    "a module class": (nn.Tanh, "Tanh is a module"),
    "a scripted module": (torch.jit.script(nn.Tanh()), "is a module"),
    "a class": (Scale, "Scale is a class: give a rule to the function"),
    "apply": (Doubled.apply, "give the rule to the class, Doubled"),
}


@pytest.mark.parametrize("what", NO_FUNCTIONS)
def test_what_is_no_function(what: str) -> None:
    function, why = NO_FUNCTIONS[what]
    with pytest.raises(TypeError, match=f"taylortorch.register_rule.*{why}"):
        tt.register_rule(function, composite=lambda x: x)


BAD_WAYS: dict[str, tuple[dict, type[Exception], str]] = {
    "none": ({}, TypeError, "exactly one of .* got 0"),
    "two": ({"ode": (0, 1, 0), "form": "x, w : x*w"}, TypeError, "exactly one of .* got 2"),
    "too many": (
        {"derivative": (torch.sin,) * 3},
        TypeError,
        r"3 derivatives for product, which takes \(x: 'torch.Tensor', w: 'torch.Tensor'\)",
    ),
    "no function": ({"derivative": 3}, TypeError, "derivative must be a function, got int"),
    "too few arguments": (
        {"derivative": (lambda x, w: w, lambda x: x)},
        TypeError,
        r"derivative 2 must take the arguments of product, .*; it takes \(x\): too many",
    ),
    "an argument too many": (
        {"derivative": lambda x, w, z: w},
        TypeError,
        r"derivative must take the arguments of product, .*; it takes \(x, w, z\): missing",
    ),
    "ode, two numbers": ({"ode": (1, 2)}, TypeError, r"numbers \(a, b, c\) of .*, got \(1, 2\)"),
    "ode, a function": ({"ode": lambda y: y}, TypeError, r"numbers \(a, b, c\) of "),
    "form, no text": ({"form": 3}, TypeError, "form must be a text, got int"),
    "form, no colon": ({"form": "x"}, ValueError, "'x' is no form of a multilinear function"),
    "form, a number": ({"form": "x, w : 2*x"}, ValueError, "is no form of a multilinear"),
    "form, a minus": ({"form": "x, w : x - w"}, ValueError, "is no form of a multilinear"),
    "form, a square": ({"form": "x, w : x*x"}, ValueError, "each named once"),
    "form, twice": ({"form": "x, w : x*w + x"}, ValueError, "each named once"),
    "form, two products": ({"form": "x, w, a, b : x*w + a*b"}, ValueError, "at most one product"),
    "form, unknown": ({"form": "x, w : x*v"}, ValueError, "is no form of a multilinear"),
    "form, other names": (
        {"form": "x, y : x*y"},
        ValueError,
        r"the form 'x, y : x\*y' names \(x, y\) what product calls \(x: 'torch.Tensor', w: ",
    ),
    "form, other order": ({"form": "w, x : x*w"}, ValueError, r"names \(w, x\) what product"),
    "form, too many": ({"form": "x, w, z : x*w"}, ValueError, r"names \(x, w, z\) what product"),
    "composite": (
        {"composite": lambda x: x},
        TypeError,
        r"composite must take the arguments of product.*it takes \(x\)",
    ),
    "composite, no function": ({"composite": 3}, TypeError, "composite must be a function"),
    "evaluate": ({"evaluate": 3}, TypeError, r"evaluate\(func, args, kwargs\), got int"),
}


@pytest.mark.parametrize("way", BAD_WAYS)
def test_a_way_that_is_none(way: str) -> None:
    keywords, error, why = BAD_WAYS[way]
    rows = list(ROWS)
    with pytest.raises(error, match=why):
        tt.register_rule(product, **keywords)
    assert rows == ROWS
    assert product not in RULES


def test_a_method_of_a_class() -> None:
    why = r"the first argument of Layer\.forward is self: give derivative=\(None, \.\.\.\)"
    with pytest.raises(TypeError, match=why):
        tt.register_rule(Layer.forward, derivative=lambda self, x: x)


def test_what_is_not_elementwise() -> None:
    total = tt.register_rule(lambda x: x.sum(), derivative=lambda x: torch.ones_like(x))
    why = r"registered as elementwise, but makes \(\) of \(2, 3\): give it a rule by form="
    with pytest.raises(ValueError, match=why):
        total(tt.TaylorTensor(X))
    array = tt.register_rule(lambda x: x.numpy(), form="x : x")
    with pytest.raises(TypeError, match="returned a ndarray; its rule is for a function that"):
        array(tt.TaylorTensor(X))


# --- twice --------------------------------------------------------------------------------------


def test_a_second_rule() -> None:
    served = tt.register_rule(cubed, derivative=lambda x: 3 * x**2)
    for function in (cubed, served):
        with pytest.raises(ValueError, match="cubed has a rule already: pass replace=True"):
            tt.register_rule(function, composite=lambda x: x)
    replaced = tt.register_rule(served, composite=lambda x: -(x**3), replace=True)
    same(replaced(path()), -(path() ** 3))
    same(served(path()), path() ** 3)
    rows = [row for row in ROWS if row.name == "cubed"]
    assert [row.kind for row in rows] == ["composite"]


def test_a_rule_of_torch_is_replaced_for_one_callable() -> None:
    with pytest.raises(ValueError, match=r"torch\.sin has a rule already: pass replace=True"):
        tt.register_rule(torch.sin, ode=(0, 1, 0))
    assert tt.register_rule(torch.sin, composite=lambda x: 2 * x, replace=True) is torch.sin
    same(torch.sin(path()), 2 * path())
    assert path().sin().coeffs[1][0] == pytest.approx(np.cos(0.5))
    assert [row.kind for row in ROWS if torch.sin in row.functions] == ["composite"]
    assert any(torch.Tensor.sin in row.functions for row in ROWS)
