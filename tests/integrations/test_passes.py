"""What all integrations rest on, on networks of plain torch; needs no host."""

from __future__ import annotations

import copy
import gc
import io
import itertools
import warnings
import weakref

import pytest
import torch
from torch import nn

from taylortorch.integrations.passes import (
    Column,
    Differentiated,
    Host,
    Passes,
    expression_of,
    known,
    raised,
)

INDEX_SETS = [
    [(1, 0)],
    [(0, 3)],
    [(2, 0), (0, 2)],
    [(2, 0), (0, 1)],
    [(1, 1)],
    [(4, 0), (0, 4), (2, 2)],
    [(3, 0), (0, 3)],
    [(1, 2), (3, 0)],
]


def network(last: nn.Module | None = None) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 3), *([last] if last else []))


def points() -> torch.Tensor:
    return torch.rand(5, 2).requires_grad_()


def by_autograd(y: torch.Tensor, x: torch.Tensor, degrees: tuple[int, ...]) -> torch.Tensor:
    for i, times in enumerate(degrees):
        for _ in range(times):
            (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
            y = slope[:, i : i + 1]
    return y


def evaluated(passes: Passes, model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return passes.evaluate(model, None, model, [x])


def asked_before(model: nn.Module, wanted: list[tuple[int, ...]]) -> Passes:
    passes = Passes()
    mark = known(evaluated(passes, model, points()))
    assert mark is not None
    columns = [Column(n, index) for n in range(2) for index in wanted]
    assert mark.evaluation.derivatives(columns) is None
    return passes


@pytest.mark.parametrize("wanted", INDEX_SETS, ids=str)
def test_what_was_asked_of_a_pass_is_served_by_the_next(wanted: list[tuple[int, ...]]) -> None:
    model, x = network(), points()
    passes = asked_before(model, wanted)
    y = evaluated(passes, model, x)
    assert torch.equal(y, model(x))
    mark = known(y)
    for component, index in itertools.product(range(3), wanted):
        found = mark.evaluation.derivatives([Column(component, index)])
        expected = by_autograd(model(x)[:, component], x, index)
        torch.testing.assert_close(found[0], expected, rtol=1e-10, atol=1e-12)
        leaves = [x, *model.parameters()]
        seen, right = (
            torch.autograd.grad(
                (u**2).sum(), leaves, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            for u in (found[0], expected)
        )
        torch.testing.assert_close(seen, right)
    assert passes.counts == (3 * len(wanted), 1)


def test_inputs_may_come_as_columns() -> None:
    model = network()
    columns = [torch.rand(5, 1).requires_grad_() for _ in range(2)]
    joined = lambda *xs: model(torch.cat(xs, 1))  # noqa: E731
    for wanted in INDEX_SETS:
        passes = Passes()
        for _ in range(2):
            mark = known(passes.evaluate(model, None, joined, columns))
            mark.evaluation.derivatives([Column(0, wanted[0])])
            found = mark.evaluation.derivatives([Column(1, index) for index in wanted])
        x = torch.cat(columns, 1).detach().requires_grad_()
        for column, index in zip(found, wanted, strict=True):
            expected = by_autograd(model(x)[:, 1], x, index)
            torch.testing.assert_close(column, expected, rtol=1e-10, atol=1e-12)


def test_a_pass_carries_what_the_two_before_were_asked_and_no_more() -> None:
    model = network()
    passes = asked_before(model, [(2, 0)])
    for carried in (True, True, False):
        mark = known(evaluated(passes, model, points()))
        assert ((2, 0) in mark.evaluation.places) is carried


def test_slices_of_columns_are_recognised() -> None:
    model = network()
    y = evaluated(asked_before(model, [(1, 0)]), model, points())
    zero = (0, 0)
    assert known(y[:, 1:2]).columns == (Column(1, zero),)
    assert known(y[:, 1:]).columns == (Column(1, zero), Column(2, zero))
    assert known(y[:, ::2]).columns == (Column(0, zero), Column(2, zero))
    for other in (y[1:], y[:, 0], y[:, 0:1] * 1, y.detach(), y.T, y[:, :0], y[::2, 0:1]):
        assert known(other) is None
    with torch.no_grad():
        assert known(y[:, 1:2]) is None
    square = evaluated(Passes(), nn.Linear(2, 5), points())
    assert known(square.T) is None
    assert known(square.T[:, 0:1]) is None


def test_what_was_written_to_is_not_recognised() -> None:
    y = evaluated(Passes(), network(), points())
    column = y[:, 0:1]
    assert known(y) is not None
    y.mul_(2)
    assert known(y) is None
    assert known(column) is None


def test_autograd_takes_over_from_the_series() -> None:
    model, x = network(), points()
    y = evaluated(asked_before(model, [(1, 1)]), model, x)
    (slope,) = known(y).evaluation.derivatives([Column(0, (1, 0))])
    expression = (1 + x[:, 1:2] ** 2) * slope
    plain = (1 + x[:, 1:2] ** 2) * by_autograd(model(x)[:, 0], x, (1, 0))
    for index in [(1, 0), (0, 1), (1, 1)]:
        torch.testing.assert_close(by_autograd(expression, x, index), by_autograd(plain, x, index))


def test_tensors_are_copied_and_saved_without_their_notes() -> None:
    model, x = network(), points()
    y = evaluated(asked_before(model, [(2, 0)]), model, x)
    file = io.BytesIO()
    torch.save([x, y], file)
    file.seek(0)
    for tensor, original in zip(torch.load(file, weights_only=True), (x, y), strict=True):
        assert torch.equal(tensor, original)
        assert known(tensor) is None
    again = copy.deepcopy(x)
    expression_of(again)
    evaluated(Passes(), model, again)
    assert not known(y).evaluation.asked.expressions
    expression_of(x)
    assert known(y).evaluation.asked.expressions


@pytest.mark.parametrize(("order", "served"), [(2, False), (3, True)])
def test_where_expressions_are_differentiated_series_are_used_from_order_3_on(
    order: int, served: bool
) -> None:
    model, passes = network(), Passes()
    for _ in range(3):
        x = points()
        mark = known(evaluated(passes, model, x))
        expression_of(x)
        found = mark.evaluation.derivatives([Column(0, (order, 0))])
    assert (found is not None) is served


def test_one_gradient_is_left_to_reverse_mode() -> None:
    for components, served in (([0], False), ([0, 2], True)):
        model, passes = network(), Passes()
        for _ in range(3):
            mark = known(evaluated(passes, model, points()))
            columns = [Column(n, index) for n in components for index in ((1, 0), (0, 1))]
            found = mark.evaluation.derivatives(columns)
        assert (found is not None) is served


def test_what_is_asked_aside_is_not_asked() -> None:
    model, passes = network(), Passes()
    mark = known(evaluated(passes, model, points()))
    ask = lambda: mark.evaluation.derivatives([Column(0, (2, 0))])  # noqa: E731
    assert mark.evaluation.aside(ask) is None
    assert passes.counts == (0, 0)
    assert (2, 0) not in known(evaluated(passes, model, points())).evaluation.places


@pytest.mark.parametrize("last", [nn.Tanh(), nn.Softmax(-1), None])
def test_a_pass_is_gone_with_its_output(last: nn.Module | None) -> None:
    """Without the garbage collector: it does not see a cycle through autograd's graph."""
    model = network(last)
    passes = asked_before(model, [(2, 0), (0, 1)])
    gc.disable()
    try:
        y = evaluated(passes, model, points())
        mark = known(y)
        columns = mark.evaluation.derivatives([raised(mark.columns[0], 0, 0)])
        mark.evaluation.mark(columns[0], [raised(mark.columns[0], 0, 0)])
        residual = columns[0] + y[:, 0:1] ** 2
        gone = weakref.ref(mark.evaluation)
        del y, mark, columns, residual
        assert gone() is None
    finally:
        gc.enable()


def test_a_function_that_differentiates_runs_as_it_is() -> None:
    model, calls = network(), []

    def function(x: torch.Tensor) -> torch.Tensor:
        calls.append(type(x).__name__)
        if type(x) is not torch.Tensor:
            raise Differentiated
        return model(x)

    passes = Passes()
    for _ in range(3):
        mark = known(passes.evaluate(model, None, function, [points()]))
        assert mark.evaluation.derivatives([Column(0, (2, 0))]) is None
    assert calls == ["Tensor", "TaylorTensor", "Tensor", "Tensor"]


@pytest.mark.parametrize("wanted", [[(0, 2)], [(2, 0), (0, 2)], [(1, 1)]])
def test_a_network_that_mixes_samples_is_left_to_the_host(wanted: list[tuple[int, ...]]) -> None:
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
    mixed = lambda x: model(x) - model(x).mean(0).square()  # noqa: E731
    passes, x = Passes(), points()
    columns = [Column(0, index) for index in wanted]
    known(passes.evaluate(model, None, mixed, [x])).evaluation.derivatives(columns)
    with pytest.warns(UserWarning, match="this Sequential .* mixes the"):
        y = passes.evaluate(model, None, mixed, [x])
    for _ in range(2):
        assert torch.equal(y, mixed(x))
        assert known(y).evaluation.derivatives(columns) is None
        y = passes.evaluate(model, None, mixed, [x])


def test_an_output_that_is_no_function_of_the_points() -> None:
    passes, model = Passes(), network()
    for _ in range(2):
        y = passes.evaluate(
            model, None, lambda x: model[0].weight.sum().expand(5, 3) * 1, [points()]
        )
        assert known(y).evaluation.derivatives([Column(0, (2, 0))]) is None


def test_a_host_is_as_it_was() -> None:
    class Base:
        def f(self) -> int:
            return 1

    class Library(Base):
        g = 2

    def raised(old):
        return lambda self: old(self) + 2

    host = Host("PyTorch", "torch", tested=torch.__version__)
    with host.enable(lambda: [(Library, "f", raised), (Library, "g", lambda g: 2 * g)]) as same:
        assert same is host
        assert host.is_on
        host.enable(lambda: [(Library, "g", lambda g: 5)])
        assert (Library().f(), Library.g) == (3, 4)
    assert not host.is_on
    assert (Library().f(), Library.g) == (1, 2)
    assert "f" not in vars(Library)
    host.off()


def test_what_a_host_was_asked_is_counted_until_it_is_disabled() -> None:
    host, model = Host("PyTorch", "torch", tested=torch.__version__), network()
    with host.enable(lambda: []):
        known(evaluated(host.passes, model, points())).evaluation.derivatives([Column(0, (2, 0))])
    assert host.counts == (0, 1)
    host.disable()
    assert host.counts == (0, 0)
    assert not known(evaluated(host.passes, model, points())).evaluation.places


def test_a_host_that_is_refused_stays_as_it_is() -> None:
    class Library:
        g = 2

    def replaced():
        yield Library, "g", lambda g: 4
        raise RuntimeError("no backend")

    host = Host("PyTorch", "torch", tested=torch.__version__)
    with pytest.raises(RuntimeError, match="no backend"):
        host.enable(replaced)
    assert not host.is_on
    assert Library.g == 2
    with pytest.raises(ImportError, match="no_such_library"):
        Host("None", "no_such_library", tested="1.0.0").enable(replaced)


def test_an_untested_version_warns() -> None:
    def enable() -> Host:
        return host.enable(lambda: [])

    host = Host("PyTorch", "torch", tested="0.1.0")
    with pytest.warns(
        UserWarning, match=r"torch\.enable was tested with PyTorch 0\.1\.0"
    ) as caught:
        enable()
    assert caught[0].filename == __file__
    series = ".".join(torch.__version__.split(".")[:2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Host("PyTorch", "torch", tested=f"{series}.99").enable(lambda: [])
