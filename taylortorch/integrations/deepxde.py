"""DeepXDE: ``dde.grad.jacobian`` and ``dde.grad.hessian`` from one Taylor pass.

One line in a script that is otherwise as it was, anywhere before training::

    import deepxde as dde
    import taylortorch.integrations.deepxde

    taylortorch.integrations.deepxde.enable()

or for a part of it, ``with taylortorch.integrations.deepxde.enable(): ...``; ``disable()`` goes
back. The PyTorch backend of DeepXDE is needed (``DDE_BACKEND=pytorch``).

From then on a network (``dde.nn.NN``) that is called on points ``(N, D)`` runs on a Taylor series
which carries the derivatives that the equation and the boundary conditions asked for in the calls
before, in training and in evaluation separately; ``jacobian`` and ``hessian``, nested to any order,
read them off. The first call, and whatever was not foreseen, as a new operator given to
``Model.predict``, is differentiated by DeepXDE's own reverse mode. So is the Jacobian of an
expression such as ``k(x) * dy_x``. An equation of order 2 with such Jacobians, or of order 1 in one
output, is left to DeepXDE as a whole, because reverse mode is cheaper. The losses are those of
DeepXDE to rounding; ``counts()`` tells what was served.

Input and output transforms, several outputs, external trainable variables, all boundary conditions,
regularisation and every optimizer work as before, since the script only ever sees ordinary tensors.
Not served, but left as they are: networks that take a tuple (DeepONet), forward mode
(``dde.config.set_default_autodiff("forward")``), ``deepxde.zcs``.

A network, or a transform, that uses a function without a Taylor rule raises
``taylortorch.UnsupportedFunction`` with the function's name.

Tested with DeepXDE 1.15.
"""

from __future__ import annotations

import types
from typing import Any

import torch

from ..engine.tensor import TaylorTensor
from .passes import Column, Counts, Host, Replaced, raised, requested

_host = Host("DeepXDE", "deepxde", tested="1.15.0")


def enable() -> Host:
    """Turn it on: ``dde.grad.jacobian`` and ``dde.grad.hessian`` are served from one Taylor pass.

    Returns:
        A context manager that turns it off again at the end of a ``with`` block.

    Raises:
        ImportError: DeepXDE is not installed.
        RuntimeError: DeepXDE runs on another backend than PyTorch.
    """
    return _host.enable(_replaced)


def counts() -> Counts:
    """How many requests were served from a series, and how many were left to DeepXDE, since
    ``enable()``; requests for derivatives of expressions, which are always left, are not counted.
    """
    return _host.counts


def disable() -> None:
    """Turn it off: DeepXDE is as it was. Without effect if it is not on."""
    _host.disable()


def _replaced() -> list[Replaced]:
    from deepxde.backend import backend_name
    from deepxde.gradients import gradients
    from deepxde.nn.pytorch.nn import NN

    if backend_name != "pytorch":
        raise RuntimeError(
            f"taylortorch.integrations.deepxde.enable: DeepXDE runs on the backend {backend_name}; "
            "set the environment variable DDE_BACKEND=pytorch before deepxde is imported"
        )
    return [(NN, "__call__", _evaluated), (gradients, "gradients_reverse", _differentiated)]


def _evaluated(call: Any) -> Any:
    def evaluated(self: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs or len(args) != 1 or not _is_points(args[0]):
            return call(self, *args, **kwargs)
        return _host.passes.evaluate(self, self.training, lambda x: call(self, x), args)

    return evaluated


def _differentiated(host: Any) -> Any:
    return types.SimpleNamespace(
        jacobian=lambda ys, xs, i=None, j=None: _jacobian(host, ys, xs, i, j),
        hessian=lambda ys, xs, component=0, i=0, j=0: _hessian(host, ys, xs, component, i, j),
        clear=host.clear,
    )


def _is_points(x: Any) -> bool:
    return (
        isinstance(x, torch.Tensor)
        and not isinstance(x, TaylorTensor)
        and x.ndim == 2
        and x.requires_grad
        and torch.is_grad_enabled()
    )


def _jacobian(host: Any, ys: Any, xs: Any, i: int | None, j: int | None) -> Any:
    mark = requested(ys, xs)
    if mark is None:
        return host.jacobian(ys, xs, i=i, j=j)
    rows, columns = len(mark.columns), xs.shape[1]
    row = 0 if i is None and rows == 1 else i
    if row is None or not 0 <= row < rows or not (j is None or 0 <= j < columns):
        # an argument that DeepXDE refuses
        return host.jacobian(ys, xs, i=i, j=j)
    along = range(columns) if j is None else [j]
    wanted = [raised(mark.columns[row], coordinate) for coordinate in along]
    return _served(mark.evaluation, wanted, lambda: host.jacobian(ys, xs, i=i, j=j))


def _hessian(host: Any, ys: Any, xs: Any, component: int, i: int, j: int) -> Any:
    mark = requested(ys, xs)
    if mark is None:
        return host.hessian(ys, xs, component=component, i=i, j=j)
    good = 0 <= component < len(mark.columns) and all(
        n is not None and 0 <= n < xs.shape[1] for n in (i, j)
    )
    if not good:
        # an argument that DeepXDE refuses
        return host.hessian(ys, xs, component=component, i=i, j=j)
    wanted = [raised(mark.columns[component], i, j)]
    return _served(
        mark.evaluation, wanted, lambda: host.hessian(ys, xs, component=component, i=i, j=j)
    )


def _served(evaluation: Any, wanted: list[Column], otherwise: Any) -> Any:
    found = evaluation.derivatives(wanted)
    if found is None:
        result = otherwise()
    else:
        result = found[0] if len(found) == 1 else torch.cat(found, 1)
    return evaluation.mark(result, wanted)
