"""DeepXDE's own examples give the same losses, step by step, from Taylor passes."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from taylortorch import UnsupportedFunction
from taylortorch.integrations import deepxde as integration

pytestmark = pytest.mark.integrations

# what is served: all that is asked, or not derivatives of expressions, or nothing
NAMES = {
    "poisson_neumann_1d": "all",
    "poisson_robin_lbfgs": "all",
    "burgers": "all",
    "heat": "all",
    "allen_cahn": "all",
    "euler_beam": "all",
    "helmholtz_hard_2d": "all",
    "laplace_disk": "all",
    "schroedinger": "all",
    "beltrami_flow": "all",
    "lorenz_inverse": "all",
    "kuramoto_sivashinsky": "all",
    "korteweg_de_vries": "known",
    "conductivity": "nothing",
}


@pytest.fixture(scope="module")
def problems() -> ModuleType:
    return importlib.import_module(".deepxde_problems", __package__)


@pytest.fixture(autouse=True)
def _off() -> Iterator[None]:
    yield
    integration.disable()


@pytest.fixture
def reversed_by_host(problems: ModuleType, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """How often DeepXDE's own reverse mode was called."""
    from deepxde.gradients.gradients_reverse import JacobianReverse

    seen, call = SimpleNamespace(count=0), JacobianReverse.__call__

    def counted(self, *args, **kwargs):
        seen.count += 1
        return call(self, *args, **kwargs)

    monkeypatch.setattr(JacobianReverse, "__call__", counted)
    return seen


def test_all_problems_are_tested(problems: ModuleType) -> None:
    assert list(NAMES) == [problem.__name__ for problem in problems.PROBLEMS]


@pytest.mark.parametrize("name", NAMES)
def test_same_losses(name: str, problems: ModuleType, reversed_by_host: SimpleNamespace) -> None:
    problem = getattr(problems, name)
    expected, _ = problems.train(problem, 25)
    by_reverse = reversed_by_host.count
    assert by_reverse > 25 or name == "poisson_robin_lbfgs"
    with integration.enable():
        found, _ = problems.train(problem, 25)
        counts = integration.counts()
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-14)
    if NAMES[name] == "nothing":
        assert counts.served == 0
    else:
        # training and evaluation learn what is asked in one call each
        assert counts.served > 10 * counts.left > 0
    if NAMES[name] == "all":
        assert reversed_by_host.count - by_reverse < 0.2 * by_reverse


def test_off_means_off(problems: ModuleType, reversed_by_host: SimpleNamespace) -> None:
    import deepxde as dde
    from deepxde.gradients import gradients

    call, host = dde.nn.NN.__call__, gradients.gradients_reverse
    with integration.enable() as switch:
        assert switch is integration.enable()
        assert dde.nn.NN.__call__ is not call
    assert dde.nn.NN.__call__ is call
    assert gradients.gradients_reverse is host
    problems.train(problems.heat, 2)
    assert reversed_by_host.count > 0
    assert integration.counts() == (0, 0)


def test_regularised_parallel_network_on_points_that_change(problems: ModuleType) -> None:
    import deepxde as dde

    def run():
        model = problems.schroedinger()
        net = dde.nn.PFNN([2, [12, 12], [12, 12], 2], "tanh", "Glorot uniform")
        net.regularizer = ("l2", 1e-4)
        model = dde.Model(model.data, net)
        model.compile("adam", lr=1e-3, decay=("step", 5, 0.5), verbose=0)
        resampler = dde.callbacks.PDEPointResampler(period=3)
        model.train(iterations=12, display_every=1, verbose=0, callbacks=[resampler])
        return np.array([model.losshistory.loss_train, model.losshistory.loss_test])

    expected = run()
    with integration.enable():
        found = run()
        assert integration.counts().served > 10 * integration.counts().left
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def written_out(x):
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + 1e-5)


def normalised(x):
    return torch.nn.functional.layer_norm(x, (12,))


def test_layer_normalisation_trains_on_right_gradients(problems: ModuleType) -> None:
    """torch's backward of the double backward of layer_norm is wrong; of its formula it is not."""
    import deepxde as dde

    def losses(norm):
        model = problems.heat()

        class Network(dde.nn.NN):
            def __init__(self):
                super().__init__()
                torch.manual_seed(0)
                self.first, self.last = torch.nn.Linear(2, 12), torch.nn.Linear(12, 1)

            def forward(self, x):
                return self.last(torch.tanh(norm(self.first(x))))

        model = dde.Model(model.data, Network())
        model.compile("adam", lr=1e-3, verbose=0)
        model.train(iterations=10, display_every=1, verbose=0)
        return np.array(model.losshistory.loss_train)

    expected = losses(written_out)
    assert np.abs(losses(normalised) / expected - 1).max() > 1e-4
    with integration.enable():
        np.testing.assert_allclose(losses(normalised), expected, rtol=1e-8)


def test_batch_normalisation_is_left_to_deepxde(problems: ModuleType) -> None:
    import deepxde as dde

    def losses():
        model = problems.heat()

        class Network(dde.nn.NN):
            def __init__(self):
                super().__init__()
                torch.manual_seed(0)
                self.first, self.last = torch.nn.Linear(2, 12), torch.nn.Linear(12, 1)
                self.norm = torch.nn.BatchNorm1d(12)

            def forward(self, x):
                return self.last(torch.tanh(self.norm(self.first(x))))

        model = dde.Model(model.data, Network())
        model.compile("adam", lr=1e-3, verbose=0)
        model.train(iterations=6, display_every=1, verbose=0)
        return np.array(model.losshistory.loss_train)

    expected = losses()
    with integration.enable(), pytest.warns(UserWarning, match=r"this Network .* left to the host"):
        np.testing.assert_allclose(losses(), expected, rtol=1e-8)


def test_single_precision(problems: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    import deepxde as dde

    double = dde.config.set_default_float
    try:
        monkeypatch.setattr(dde.config, "set_default_float", lambda _: double("float32"))
        expected, _ = problems.train(problems.euler_beam, 5)
        with integration.enable():
            found, model = problems.train(problems.euler_beam, 5)
        assert next(model.net.parameters()).dtype == torch.float32
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
    finally:
        double("float64")


def test_forward_mode_is_left_alone(problems: ModuleType) -> None:
    import deepxde as dde

    net, x = problems.heat().net, torch.rand(4, 2).requires_grad_()

    def derivatives():
        dde.grad.clear()
        y = (net(x), net)
        first = dde.grad.jacobian(y, x, i=0, j=1)
        return first[0], dde.grad.hessian(y, x, i=0, j=0)[0]

    try:
        dde.config.set_default_autodiff("forward")
        expected = derivatives()
        with integration.enable():
            for _ in range(3):
                torch.testing.assert_close(derivatives(), expected, rtol=0, atol=0)
            assert integration.counts() == (0, 0)
    finally:
        dde.config.set_default_autodiff("reverse")


def test_predict_with_another_operator(problems: ModuleType) -> None:
    import deepxde as dde

    _, model = problems.train(problems.heat, 2)
    x = np.random.default_rng(0).random((7, 2))

    def third(x, y):
        return dde.grad.jacobian(dde.grad.hessian(y, x, i=0, j=0), x, i=0, j=0)

    expected = model.predict(x, operator=third)
    with integration.enable():
        for _ in range(3):
            np.testing.assert_allclose(model.predict(x, operator=third), expected, rtol=1e-9)
        assert integration.counts().served == 4
        np.testing.assert_array_equal(model.predict(x), model.predict(x))


def test_the_callback_that_prints_derivatives(problems: ModuleType, capsys) -> None:
    import deepxde as dde

    def first(x, y):
        return dde.grad.jacobian(y, x, i=0, j=1)

    def run():
        model = problems.burgers()
        callback = dde.callbacks.OperatorPredictor(np.full((2, 2), 0.5), first, period=1)
        capsys.readouterr()
        model.train(iterations=5, verbose=0, callbacks=[callback])
        return capsys.readouterr().out

    expected = run()
    assert len(expected.splitlines()) >= 5
    with integration.enable():
        assert run() == expected


def test_an_output_transform_that_differentiates(problems: ModuleType) -> None:
    """Velocities from a stream function: the transform itself calls ``jacobian``."""
    import deepxde as dde

    def problem():
        model = problems.schroedinger()

        def velocities(x, y):
            return torch.cat(
                [dde.grad.jacobian(y, x, i=0, j=1), -dde.grad.jacobian(y, x, i=0, j=0)], 1
            )

        model.net.apply_output_transform(velocities)
        return model

    expected, _ = problems.train(problem, 5)
    with integration.enable():
        found, _ = problems.train(problem, 5)
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_arguments_that_deepxde_refuses(problems: ModuleType) -> None:
    import deepxde as dde

    model = problems.schroedinger()
    with integration.enable():
        for _ in range(2):
            x = torch.rand(4, 2).requires_grad_()
            y = model.net(x)
            dde.grad.jacobian(y, x, i=0, j=0)
            with pytest.raises(ValueError, match="i=2 is not valid"):
                dde.grad.jacobian(y, x, i=2, j=0)
            with pytest.raises(ValueError, match="j=-1 is not valid"):
                dde.grad.jacobian(y, x, i=0, j=-1)
            with pytest.raises(NotImplementedError, match="column"):
                dde.grad.jacobian(y, x, j=0)
            with pytest.raises(ValueError, match="component of ys=2"):
                dde.grad.hessian(y, x, component=2)


def test_a_function_without_a_rule_is_named(problems: ModuleType) -> None:
    def problem():
        model = problems.heat()
        model.net.apply_feature_transform(
            lambda x: torch.fake_quantize_per_tensor_affine(x, 0.1, 0, 0, 255)
        )
        return model

    with integration.enable(), pytest.raises(UnsupportedFunction, match="fake_quantize"):
        problems.train(problem, 3)


def test_another_backend_is_refused(problems: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    import deepxde.backend

    monkeypatch.setattr(deepxde.backend, "backend_name", "jax")
    with pytest.raises(RuntimeError, match="DDE_BACKEND=pytorch"):
        integration.enable()
