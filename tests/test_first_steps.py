"""The likeliest mistakes of a newcomer: the message says what to write instead."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable

import numpy as np
import pytest
import torch

import taylortorch as tt
from taylortorch import TaylorTensor, UnsupportedFunction

X = torch.linspace(0.1, 0.9, 15).reshape(5, 3)
NETWORK = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))


def series() -> TaylorTensor:
    return TaylorTensor(torch.linspace(0.1, 0.9, 5))


def variable() -> TaylorTensor:
    return tt.variables(torch.rand(5, 1))


# what is written, the error, what it says, and what it proposes
MISTAKES: dict[str, tuple[Callable, type, str, str]] = {
    "a number": (lambda: TaylorTensor(2.0), TypeError, "got float", "torch.as_tensor(x)"),
    "a numpy array": (
        lambda: TaylorTensor(np.ones(3)),
        TypeError,
        "got ndarray",
        "torch.as_tensor(x)",
    ),
    "integers": (
        lambda: TaylorTensor(torch.arange(3)),
        TypeError,
        "got torch.int64",
        "x.to(torch.get_default_dtype())",
    ),
    "the order by position": (
        lambda: TaylorTensor(X, 2),
        TypeError,
        "direction must be a tensor, got int",
        "TaylorTensor(x, order=2)",
    ),
    "directions without the axis of samples": (
        lambda: TaylorTensor(X, directions=torch.eye(3)),
        ValueError,
        "must have shape (R, *(5, 3)), got (3, 3)",
        "an axis of size 1",
    ),
    "another precision than the model's": (
        lambda: NETWORK(TaylorTensor(X.double())),
        RuntimeError,
        "dtype",
        "Double and Float",
    ),
    "x.numpy()": (lambda: series().numpy(), UnsupportedFunction, "lose", "x.value.numpy()"),
    "x.item()": (lambda: series()[0].item(), UnsupportedFunction, "lose", "x.value.item()"),
    "backward of a series": (
        lambda: series().sum().backward(),
        UnsupportedFunction,
        "torch.Tensor.backward",
        "x.coeffs[k] or x.derivatives[k]",
    ),
    "torch.tensor of a list of series": (
        lambda: torch.tensor([x**2 for x in series()]),
        TypeError,
        "plain numbers only",
        "torch.stack",
    ),
    "writing into a row of zeros": (
        lambda: torch.zeros(5, 2)[:, 0].copy_(series()),
        UnsupportedFunction,
        "memory other tensors",
        "torch.zeros_like(x)",
    ),
    "variables made one by one": (
        lambda: variable() * variable(),
        UnsupportedFunction,
        "mixes two different expansions",
        "one call of taylortorch.variables",
    ),
    "d by a TaylorTensor": (
        lambda: tt.d(series() ** 2, series()),
        TypeError,
        "a TaylorTensor made otherwise",
        "what taylortorch.variables returned",
    ),
    "d by a name": (
        lambda: tt.d(variable() ** 2, "x"),
        TypeError,
        "a str is not a variable",
        "what taylortorch.variables returned",
    ),
    "d of a mean": (
        lambda: (lambda x: tt.d((x**2).mean(), x))(variable()),
        ValueError,
        "not per sample",
        "before reducing",
    ),
    "d beyond the order": (
        lambda: (lambda x: tt.d(x**5, x, order=3))(variable()),
        ValueError,
        "only 2 can be taken",
        "order=3",
    ),
    "a transform of a function and its argument": (
        lambda: tt.func.laplacian(NETWORK, X),
        TypeError,
        "argnums must be an int, got Tensor",
        "laplacian(f)(x)",
    ),
    "a traced module": (
        lambda: torch.jit.trace(NETWORK, X)(TaylorTensor(X)),
        UnsupportedFunction,
        "scripted or traced module",
        "the module that it was made from",
    ),
    "a scripted module": (
        lambda: torch.jit.script(NETWORK)(TaylorTensor(X)),
        UnsupportedFunction,
        "scripted or traced module",
        "torch.compile",
    ),
}


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_explained(name: str) -> None:
    mistake, error, says, proposes = MISTAKES[name]
    with pytest.raises(error, match=re.escape(says)) as raised:
        mistake()
    assert proposes in str(raised.value)


def test_what_looks_like_a_mistake_and_is_none() -> None:
    assert TaylorTensor(X, order=0).derivatives[0] is not None
    assert torch.compile(NETWORK, backend="eager")(TaylorTensor(X)).derivatives[2].shape == (5, 1)
    out = torch.zeros(5)
    for i, x in enumerate(series()):
        out[i] = x**2
    assert isinstance(out, TaylorTensor)
    assert torch.allclose(out.derivatives[1], 2 * series().value)


PUBLIC = [
    *((tt, name) for name in tt.__all__ if name != "__version__"),
    *((tt.func, name) for name in tt.func.__all__),
    *((tt.func.stochastic, name) for name in tt.func.stochastic.__all__),
    *((tt.distributed, name) for name in tt.distributed.__all__),
    *((tt.testing, name) for name in tt.testing.__all__),
    *((TaylorTensor, name) for name in vars(TaylorTensor) if not name.startswith("_")),
]


@pytest.mark.parametrize(
    ("owner", "name"), PUBLIC, ids=lambda part: getattr(part, "__name__", part)
)
def test_every_public_name_says_what_it_is(owner: object, name: str) -> None:
    thing = getattr(owner, name)
    if owner is TaylorTensor:
        thing = vars(TaylorTensor)[name]
    assert len((inspect.getdoc(thing) or "").split()) >= 4
    if inspect.isfunction(thing):
        hints = typing.get_type_hints(thing)
        assert set(hints) == {*inspect.signature(thing).parameters, "return"} - {"self"}
