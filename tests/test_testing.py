"""``check_rule``: right rules pass, and every wrong one is caught, with the reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import taylortorch as tt
from taylortorch.algebra import series
from taylortorch.algebra.structures import Collapsed, Multivariate
from taylortorch.engine.frames import frame_of, join
from taylortorch.testing import call, check_rule, t
from taylortorch.testing.oracles import Differences, Opaque

F64 = torch.float64
X = torch.tensor([[0.4, 1.3, 0.7], [0.9, 0.6, 1.1]], dtype=F64)
Y = torch.tensor([[1.2, 0.5, 0.8], [0.7, 1.4, 0.6]], dtype=F64)


def opaque(f: Callable) -> Callable:
    """A numpy function as one of tensors, which autograd does not see through."""

    def of_arrays(*arguments: Any) -> torch.Tensor:
        return torch.from_numpy(np.asarray(f(*(a.numpy() for a in arguments))))

    return of_arrays


def cube(x: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(x.numpy() ** 3)


def product(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return x * w


# --- right rules --------------------------------------------------------------------------------


def sine_and_cosine(func: Callable, args: tuple, kwargs: dict) -> Any:
    (x,) = args
    frame = join(func, [x])
    blocks = frame.blocks(x)
    pair = series.rotate(frame.structure, *func(blocks[0]), blocks, -1)
    return tuple(frame.wrap(y) for y in pair)


RIGHT: dict[str, tuple[Callable, dict, list]] = {
    "derivative": (opaque(np.cbrt), {"derivative": lambda x: x ** (-2 / 3) / 3}, [(X,)]),
    "derivatives": (
        opaque(np.arctan2),
        {"derivative": (lambda y, x: x / (x * x + y * y), lambda y, x: -y / (x * x + y * y))},
        [(Y, X), (Y, X[0])],
    ),
    "derivative in torch": (lambda x: x**3, {"derivative": lambda x: 3 * x * x}, [(X,)]),
    "ode": (opaque(np.tanh), {"ode": (1, 0, -1)}, [(X,), (X[0, 0],)]),
    "form": (lambda x: x.flip(0).cumsum(1), {"form": "x : x"}, [(X,), (X + 1j * Y,)]),
    "form, a product": (
        lambda x, w: torch.einsum("ni,oi->no", x, w),
        {"form": "x, w : x*w"},
        [(X, Y), (X[0], Y)][:1],
    ),
    "form, a bias": (
        lambda x, w, b: x @ w.T + b,
        {"form": "x, w, b : x*w + b"},
        [(X, Y, Y[0, :2])],
    ),
    "composite": (
        lambda x, beta=1.0: F.softplus(x, beta),
        {"composite": lambda x, beta=1.0: torch.log(1 + torch.exp(beta * x)) / beta},
        [(X,), call(X, beta=2.0)],
    ),
    "evaluate": (lambda x: (x.sin(), x.cos()), {"evaluate": sine_and_cosine}, [(X,)]),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_rule(name: str) -> None:
    function, way, samples = RIGHT[name]
    report = check_rule(tt.register_rule(function, **way), samples)
    assert report.error < 1e-6
    assert not report.refused
    assert {"values", "coefficients", "gradients", "bundle, collapsed", "nested levels"} <= set(
        report.checks
    )
    numpy = "opaque" in getattr(function, "__qualname__", "")
    assert report.oracle[0].startswith("finite differences" if numpy else "autograd")


@pytest.mark.parametrize(
    ("function", "samples"),
    [
        (torch.sin, [(X,), (X.float(),), (X + 1j * Y,)]),
        (torch.cat, [([X, Y], 1)]),
        (torch.atan2, [(X, Y)]),
        (F.softmax, [call(t(2, 3), dim=1)]),
        (torch.linalg.svdvals, [(X,)]),
        (torch.where, [(X > Y, X, Y)]),
        (torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh()).double(), [(X,)]),
    ],
    ids=["sin", "cat", "atan2", "softmax", "svdvals", "where", "model"],
)
def test_rules_of_torch(function: Callable, samples: list) -> None:
    report = check_rule(function, samples)
    assert report.oracle == ("autograd",)
    assert report.error < 1e-12


def test_the_report() -> None:
    served = tt.register_rule(cube, derivative=lambda x: 3 * x**2)
    lines = repr(check_rule(served, [(X,), (Y,)], order=2)).splitlines()
    assert lines[0].startswith("cube: right to order 2 on 2 samples, to ")
    assert lines[1] == (
        "  oracle: finite differences (autograd fails: Can't call numpy() on Tensor that requires "
        "grad)"
    )
    assert lines[2].startswith("  checked: values, coefficients, gradients, orders, ")
    assert len(lines) == 3
    one = tt.register_rule(lambda x, w: x * w, derivative=lambda x, w: w)
    refused = check_rule(one, [(X, Y)]).refused
    assert [text.split(": ")[0] for text in refused] == [
        "argument 2, w",
        "argument 1, x and argument 2, w",
    ]
    assert "refused: argument 2, w: " in repr(check_rule(one, [(X, Y)]))


def test_broadcasting_is_tried_where_the_function_does_it() -> None:
    served = tt.register_rule(product, form="x, w : x*w")
    assert "broadcasting" in check_rule(served, [(X, Y)]).checks
    assert "broadcasting" not in check_rule(torch.matmul, [(X, Y.mT)]).checks


# --- wrong rules --------------------------------------------------------------------------------


def tampered(k: int, change: Callable, right: Callable) -> Callable:
    """An evaluator that is right but for the coefficient of degree ``k``."""

    def evaluate(func: Callable, args: tuple, kwargs: dict) -> Any:
        y = right(*args)
        blocks = [change(b) if n == k else b for n, b in enumerate(y._blocks)]
        return frame_of(y).wrap(blocks)

    return evaluate


def detached(x: Any) -> Any:
    """The same series, of coefficients that are constants for autograd."""
    return frame_of(x).wrap([b if b is None else b.detach() for b in x._blocks])


def derivatives_for_coefficients(func: Callable, args: tuple, kwargs: dict) -> Any:
    y = args[0] ** 3
    factors = (1, 1, 2, 6, 24)
    blocks = [b * f for b, f in zip(y._blocks, factors, strict=False)]
    return frame_of(y).wrap(blocks)


def without_mixed_terms(func: Callable, args: tuple, kwargs: dict) -> Any:
    x, w = args
    x0, w0 = (a.value if isinstance(a, tt.TaylorTensor) else a for a in args)
    return x * w0 + x0 * w - x0 * w0


def only_on_lines(func: Callable, args: tuple, kwargs: dict) -> Any:
    (x,) = args
    return tt.TaylorTensor.from_coeffs((x**3).coeffs) if x._structure.leads(1) else x**3


def as_one_line(func: Callable, args: tuple, kwargs: dict) -> Any:
    """The mean of the directions for each of them."""
    y = args[0] ** 3
    if not y._structure.leads(1):
        return y
    blocks = [
        b.mean(0, keepdim=True).expand_as(b) if y._structure.leads(k) and b is not None else b
        for k, b in enumerate(y._blocks)
    ]
    return frame_of(y).wrap(blocks)


def only_dense(func: Callable, args: tuple, kwargs: dict) -> Any:
    (x,) = args
    blocks = [b * 1.0 for b in x._blocks]  # None where a block is structurally zero
    return frame_of(x).wrap(blocks) ** 3


def by_order(func: Callable, args: tuple, kwargs: dict) -> Any:
    return args[0] ** 3 if args[0].order != 1 else args[0] * args[0].value ** 2


scale = torch.nn.Parameter(torch.tensor([1.5, 0.5, 2.0], dtype=F64))


def scaled_cube(x: torch.Tensor) -> torch.Tensor:
    return scale * x**3


WRONG: dict[str, tuple[Callable, dict, tuple, str]] = {
    "sign": (cube, {"derivative": lambda x: -3 * x**2}, (X,), r"c_1 at .*points to: the sign"),
    "factor": (
        cube,
        {"derivative": lambda x: 1.5 * x**2},
        (X,),
        "the derivative is off by the factor 0.5",
    ),
    "formula": (cube, {"derivative": lambda x: 3 * x}, (X,), r"c_1 at .*6 of 6 entries are wrong"),
    "swapped": (
        opaque(np.arctan2),
        {"derivative": (lambda y, x: -y / (x * x + y * y), lambda y, x: x / (x * x + y * y))},
        (Y, X),
        "it is the derivative in argument 2.*the derivatives are swapped",
    ),
    "one of two": (
        opaque(np.multiply),
        {"derivative": (lambda x, w: w, lambda x, w: 2 * x)},
        (X, Y),
        "series: argument 2\n.*off by the factor 2",
    ),
    "the derivative's own series": (
        cube,
        {"derivative": lambda x: 3 * x.value**2 if isinstance(x, tt.TaylorTensor) else 3 * x**2},
        (X,),
        "c_2 at .*the derivative does not vary along the path: its own series is lost",
    ),
    "gradient of the value": (
        lambda x: x**3,
        {"evaluate": tampered(0, torch.Tensor.detach, lambda x: x**3)},
        (X,),
        r"the gradient of c_0 with respect to argument 1, x \(c_0\).*the gradient is cut off",
    ),
    "gradient of the value, opaque": (
        cube,
        {"evaluate": tampered(0, torch.Tensor.detach, lambda x: x**3)},
        (X,),
        "the gradient of c_0 with respect to argument 1, x: .*the gradient is cut off",
    ),
    "gradient of c_2": (
        lambda x: x**3,
        {"evaluate": tampered(2, torch.Tensor.detach, lambda x: x**3)},
        (X,),
        r"the gradient of c_2 with respect to argument 1, x \(c_0\).*the gradient is cut off",
    ),
    "gradient of c_2, opaque": (
        cube,
        {"evaluate": tampered(2, torch.Tensor.detach, lambda x: x**3)},
        (X,),
        "the gradient of c_2 with respect to argument 1, x: .*the gradient is cut off",
    ),
    "half the gradient, opaque": (
        cube,
        {"composite": lambda x: x**3 - 0.5 * (x**3 - detached(x**3))},
        (X,),
        "the gradient of c_0 with respect to argument 1, x: .*is off by the factor 0.5",
    ),
    "gradient of a closed-over tensor": (
        scaled_cube,
        {"composite": lambda x: scale.detach() * x**3},
        (X,),
        r"with respect to a tensor \[3\] it closes over",
    ),
    "mixed term": (
        product,
        {"evaluate": without_mixed_terms},
        (X, Y),
        "c_2 at .*each argument alone is right, so the mixed terms are wrong",
    ),
    "order 3 only": (
        cube,
        {"evaluate": tampered(3, lambda b: None if b is None else b * 1.01, lambda x: x**3)},
        (X,),
        "c_3 at .*c_3 is off by the factor 1.01",
    ),
    "order 3 is missing": (
        cube,
        {"evaluate": tampered(3, lambda b: None, lambda x: x**3)},
        (X,),
        "c_3 at ",
    ),
    "derivatives for coefficients": (
        cube,
        {"evaluate": derivatives_for_coefficients},
        (X,),
        "derivatives where coefficients are meant: c_2 is the derivative / 2!",
    ),
    "second argument ignored": (
        product,
        {"evaluate": lambda func, args, kwargs: args[0] * getattr(args[1], "value", args[1])},
        (X, Y),
        "series: argument 2, w\n.*c_1.*lost",
    ),
    "second argument ignored, with the first a series": (
        product,
        {
            "evaluate": lambda func, args, kwargs: (
                args[0] * args[1]
                if not isinstance(args[0], tt.TaylorTensor)
                else args[0] * getattr(args[1], "value", args[1])
            )
        },
        (X, Y),
        "series: argument 1, x and argument 2, w\n.*the mixed terms are wrong",
    ),
    "plain": (
        cube,
        {"evaluate": lambda func, args, kwargs: func(args[0].value)},
        (X,),
        "a plain tensor came out: the series is lost",
    ),
    "value": (
        lambda x: x**3,
        {"composite": lambda x: x**3 + 1},
        (X,),
        "the value at .* by the function",
    ),
    "affine as a form": (
        lambda x: 2 * x + 1,
        {"form": "x : x"},
        (X,),
        "the function is affine, not linear: its value at zero is added",
    ),
    "quadratic as a form": (lambda x: x * x, {"form": "x : x"}, (X,), "c_1 at "),
    "bundles": (cube, {"evaluate": as_one_line}, (X,), "c_1 along direction 0 of a bundle"),
    "lines only": (cube, {"evaluate": only_on_lines}, (X,), "a bundle: raised ValueError"),
    "structural zeros": (
        cube,
        {"evaluate": only_dense},
        (X,),
        "with structural zeros: raised TypeError",
    ),
    "an order of its own": (cube, {"evaluate": by_order}, (X,), "c_1 at order 1"),
    "raises": (cube, {"composite": lambda x: x.tahn()}, (X,), "raised AttributeError"),
    "shape": (cube, {"composite": lambda x: (x**3).sum()}, (X,), "results of shapes"),
    "precision": (
        lambda x: x**3,
        {"composite": lambda x: x.double() ** 3},
        (X.float(),),
        "c_0 is torch.float64, where the function returns torch.float32",
    ),
    "conjugate": (
        lambda x: torch.exp(x.conj()),
        {
            "evaluate": lambda func, args, kwargs: (
                args[0].exp() - args[0].value.exp() + func(args[0].value)
            )
        },
        (X + 1j * Y,),
        "c_1 at ",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_rule(name: str) -> None:
    function, way, sample, why = WRONG[name]
    served = tt.register_rule(function, **way)
    with pytest.raises(AssertionError, match=f"(?s)the rule of .* is wrong\n  sample 1: .*{why}"):
        check_rule(served, [sample])


def only_where(wrong: Callable[[Any], bool]) -> Callable:
    """A rule for the cube whose highest coefficient is doubled in some frames."""

    def evaluate(func: Callable, args: tuple, kwargs: dict) -> Any:
        (x,) = args
        y = x**3
        if not wrong(x):
            return y
        blocks = list(y._blocks)
        blocks[-1] = None if blocks[-1] is None else 2 * blocks[-1]
        return frame_of(y).wrap(blocks)

    return evaluate


def is_shared(x: Any) -> bool:
    return x._blocks[-1] is None and tuple(x._blocks[1].shape) == (1, 1)


FRAMES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "collapsed": (lambda x: type(x._structure) is Collapsed, "c_3, collapsed"),
    "several variables": (lambda x: type(x._structure) is Multivariate, "in several variables"),
    "nested": (lambda x: x._level > 0, r"the coefficient of s\^0 t\^3 of nested levels"),
    "structural zero": (
        lambda x: x._blocks[-1] is None and x._structure.describe() == "line",
        "c_3 with structural zeros",
    ),
    "shared": (is_shared, "c_3 with one direction for all entries"),
    "order 2": (lambda x: x.order == 2 and x._structure.describe() == "line", "c_2 at order 2"),
    "compiled": (lambda x: torch.compiler.is_compiling(), "c_3, compiled.* by eager mode"),
}


@pytest.mark.parametrize("frame", FRAMES)
def test_a_rule_that_is_wrong_in_one_frame_only(frame: str) -> None:
    wrong, why = FRAMES[frame]
    served = tt.register_rule(lambda x: x**3, evaluate=only_where(wrong))
    with pytest.raises(AssertionError, match=f"(?s){why}"):
        check_rule(served, [(X,)], compile=frame == "compiled")


def test_a_rule_that_takes_no_series() -> None:
    served = tt.register_rule(product, derivative=(None, None))
    with pytest.raises(AssertionError, match=r"(?s)product takes no series.*derivative in x"):
        check_rule(served, [(X, Y)])
    served = tt.register_rule(
        lambda x: x**3, evaluate=lambda func, args, kwargs: refuse_bundles(args[0])
    )
    with pytest.raises(AssertionError, match="bundle, collapsed: no bundles here"):
        check_rule(served, [(X,)])


def refuse_bundles(x: Any) -> Any:
    if x._structure.leads(1):
        raise tt.UnsupportedFunction("no bundles here")
    return x**3


def test_a_lost_gradient_is_refused_and_said() -> None:
    flipped = tt.register_rule(
        lambda x: torch.from_numpy(x.detach().numpy()[::-1].copy()), form="x : x"
    )
    with pytest.raises(AssertionError, match=r"(?s)autograd does not see through.*gradients=False"):
        check_rule(flipped, [(X,)])
    report = check_rule(flipped, [(X,)], gradients=False)
    assert "gradients" not in report.checks
    assert report.oracle == ("finite differences (autograd does not see argument 1, x)",)


# --- which oracle -------------------------------------------------------------------------------


class Sign(torch.autograd.Function):
    """The straight-through estimator: the gradient is not that of the values."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.sign(x)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad


def test_a_gradient_that_is_meant_to_differ() -> None:
    tt.register_rule(
        Sign, evaluate=lambda func, args, kwargs: args[0] + (func(args[0].value) - args[0].value)
    )
    why = (
        r"(?s)the gradient of .*Sign is not that of its values.*c_1 is .* by autograd, .* by finite"
    )
    with pytest.raises(AssertionError, match=why):
        check_rule(Sign, [(X,)])
    for function in (Sign, Sign.apply):
        report = check_rule(function, [(X,)], reference=lambda x: 1.0 * x)
        assert report.oracle == ("autograd of the reference",)


class Exp(torch.autograd.Function):
    """Its backward is right, but autograd does not see through it."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.exp(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        (y,) = ctx.saved_tensors
        return grad * y.detach()


def test_higher_derivatives_of_autograd_that_are_wrong() -> None:
    tt.register_rule(Exp, composite=torch.exp)
    report = check_rule(Exp, [(X,)])
    assert report.oracle == ("finite differences (autograd is wrong in c_2)",)


def test_a_kernel_in_single_precision() -> None:
    def single(x: torch.Tensor) -> torch.Tensor:
        assert x.dtype == torch.float32
        return torch.from_numpy(np.sin(x.numpy()))

    right = tt.register_rule(single, derivative=torch.cos)
    report = check_rule(right, [(X.float(),)], reference=torch.sin)
    assert report.oracle == ("autograd of the reference",)
    assert 1e-12 < report.error < 1e-5
    wrong = tt.register_rule(single, derivative=lambda x: 1.01 * torch.cos(x), replace=True)
    with pytest.raises(AssertionError, match=r"off by the factor 1\.01"):
        check_rule(wrong, [(X.float(),)], reference=torch.sin)


def test_what_finite_differences_cannot_tell() -> None:
    def rough(x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.round(x.numpy(), 3))

    served = tt.register_rule(rough, derivative=lambda x: 1.0)
    with pytest.raises(AssertionError, match=r"(?s)finite differences cannot tell c_.*reference="):
        check_rule(served, [(X,)])


def test_samples_outside_the_domain() -> None:
    with pytest.raises(ValueError, match=r"torch\.log is not finite for sample 1"):
        check_rule(torch.log, [(-X,)])
    with pytest.raises(AssertionError, match=r"c_1 is not finite by autograd.*another one"):
        check_rule(torch.sqrt, [(X * 0,)], reference=torch.sqrt)


def test_samples_that_are_none() -> None:
    with pytest.raises(TypeError, match="takes a list of samples"):
        check_rule(torch.sin, X)
    with pytest.raises(TypeError, match="a sample is a tuple of arguments"):
        check_rule(torch.sin, [{"input": X}])
    with pytest.raises(TypeError, match="no samples, so nothing would be checked"):
        check_rule(torch.sin, [])
    with pytest.raises(TypeError, match=r"sample 1: \(int64\[2\],\) has no floating-point tensor"):
        check_rule(torch.sin, [(torch.tensor([1, 2]),)])
    with pytest.raises(TypeError, match=r"torch\.argmax returns no floating-point tensor"):
        check_rule(torch.argmax, [(X,)])
    with pytest.raises(ValueError, match="order must be at least 1"):
        check_rule(torch.sin, [(X,)], order=0)


def test_tensors_in_lists_and_by_name() -> None:
    weighted_sum = tt.register_rule(
        lambda terms, *, weight: sum(terms) * weight,
        composite=lambda terms, *, weight: (terms[0] + terms[1]) * weight,
    )
    assert check_rule(weighted_sum, [call([X, Y], weight=X)]).error < 1e-12
    wrong = tt.register_rule(
        lambda terms, *, weight: sum(terms) * weight,
        composite=lambda terms, *, weight: (terms[0] + terms[1]) * weight.value,
    )
    with pytest.raises(AssertionError, match=r"\(\[float64\[2, 3\], float64\[2, 3\]\],\), weight="):
        check_rule(wrong, [call([X, Y], weight=X)])


@pytest.mark.parametrize("order", [1, 2, 5])
def test_differences_against_closed_forms(order: int) -> None:
    path = [X, Y, X * Y, *([X] * order)][: order + 1]
    values, errors = Opaque(lambda xs: [torch.exp(xs[0])]).entries([path], [X])
    expected = tt.TaylorTensor.from_coeffs(path).exp().coeffs
    for value, error, c in zip(values, errors, expected, strict=True):
        assert ((value[0] - c).abs() <= 10 * error[0] + 1e-9).all()
        assert (error[0] < 1e-5).all()


def test_the_interpolation_is_exact_for_polynomials() -> None:
    points = Differences(3)
    rows = [2 - p + 3 * p**2 - 5 * p**3 + p**9 for p in points.points[:, None]]
    got = points.scaled(0.5, rows)[:, 0]
    torch.testing.assert_close(got, torch.tensor([2.0, -2.0, 12.0, -40.0], dtype=F64))


@pytest.mark.parametrize("size", [1e-30, 1e-9, 1.0, 1e12])
def test_the_size_of_the_function_does_not_matter(size: float) -> None:
    def scaled(x: torch.Tensor) -> torch.Tensor:
        return size * x**3

    def in_numpy(x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(size * x.numpy() ** 3)

    for function in (scaled, in_numpy):
        right = tt.register_rule(function, derivative=lambda x: 3 * size * x**2)
        assert check_rule(right, [(X,)]).error < 1e-6
        wrong = tt.register_rule(function, derivative=lambda x: 3.001 * size * x**2, replace=True)
        with pytest.raises(AssertionError, match="c_1 at"):
            check_rule(wrong, [(X,)])


def test_exact_zeros() -> None:
    """Coefficients that are zero but for rounding."""
    one = tt.register_rule(
        lambda x: torch.sin(x) ** 2 + torch.cos(x) ** 2, composite=lambda x: torch.ones_like(x)
    )
    assert check_rule(one, [(X,)]).checks
    assert check_rule(one, [(X,)], reference=torch.ones_like).checks


def test_a_reference_closes_over_tensors_of_its_own() -> None:
    w = torch.tensor(2.0, dtype=F64, requires_grad=True)
    doubled = tt.register_rule(lambda x: 2 * x, form="x : x")
    report = check_rule(doubled, [(X,)], reference=lambda x: w.detach() * x)
    assert report.oracle == ("autograd of the reference",)
    with pytest.raises(AssertionError, match=r"with respect to a tensor \[\] it closes over"):
        check_rule(doubled, [(X,)], reference=lambda x: w * x)


def test_arguments_of_a_function_are_named() -> None:
    class Scaled(torch.autograd.Function):
        @staticmethod
        def forward(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
            return x * scale

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> Any:
            x, scale = ctx.saved_tensors
            return grad * scale, grad * x

    tt.register_rule(Scaled, derivative=(lambda x, scale: scale, lambda x, scale: 2 * x))
    with pytest.raises(AssertionError, match="series: argument 2, scale\n"):
        check_rule(Scaled, [(X, Y)])


def test_a_rule_that_is_wrong_where_arguments_broadcast() -> None:
    def evaluate(func: Callable, args: tuple, kwargs: dict) -> Any:
        x, w = args
        return x * w if x.shape == w.shape else 2 * x * w - func(*map(value_of, args))

    def value_of(x: Any) -> Any:
        return x.value if isinstance(x, tt.TaylorTensor) else x

    served = tt.register_rule(product, evaluate=evaluate)
    why = r"(?s)sample 1: .*, with \[0\] of argument 1, x\n  series: argument 1, x\n  c_1 at"
    with pytest.raises(AssertionError, match=why):
        check_rule(served, [(X, Y)])
