"""PINA: ``grad``, ``div``, ``laplacian`` and ``advection`` from one Taylor pass.

One line in a program that is otherwise as it was, anywhere before training::

    import taylortorch.integrations.pina

    taylortorch.integrations.pina.enable()

or for a part of it, ``with taylortorch.integrations.pina.enable(): ...``; ``disable()`` goes back.

From then on, where a condition with an equation is evaluated, the solver's model runs on a Taylor
series of the sampled points which carries the derivatives that the equation asked for before; the
operators, nested to any order, read them off. The first evaluation is left to PINA's own reverse
mode. So are derivatives of expressions. An equation of order 2 with such derivatives, or of order 1
in one output, is left to PINA as a whole, because reverse mode is cheaper. The losses are those of
PINA to rounding; ``counts()`` tells what was served.

In the model the points have ``labels`` and ``extract``, so that hard constraints written with
``x.extract(["x"])`` work; other methods of ``LabelTensor``, and ``isinstance(x, LabelTensor)``, do
not. Not served, but left as they are: models whose output has more than two axes (ensembles,
neural operators on graphs), and ``fast_grad`` if it was imported by name before ``enable()``.

A model that uses a function without a Taylor rule raises ``taylortorch.UnsupportedFunction`` with
the function's name.

Tested with PINA 0.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..engine.tensor import TaylorTensor
from .passes import Counts, Host, Replaced, known, raised, requested

_host = Host("PINA", "pina", tested="0.3.2", distribution="pina-mathlab")


def enable() -> Host:
    """Turn it on: the operators of ``pina.operator`` are served from one Taylor pass.

    Returns:
        A context manager that turns it off again at the end of a ``with`` block.

    Raises:
        ImportError: PINA is not installed.
    """
    return _host.enable(_replaced)


def counts() -> Counts:
    """How many requests were served from a series, and how many were left to PINA, since
    ``enable()``; requests for derivatives of expressions, which are always left, are not counted.
    """
    return _host.counts


def disable() -> None:
    """Turn it off: PINA is as it was. Without effect if it is not on."""
    _host.disable()


def _replaced() -> list[Replaced]:
    from pina import LabelTensor
    from pina._src.condition.input_equation_condition import InputEquationCondition
    from pina._src.core import operator

    return [
        (InputEquationCondition, "evaluate", _evaluated),
        (LabelTensor, "extract", _extracted),
        (operator, "fast_grad", _gradient),
        (operator, "_scalar_laplacian", _laplacian),
    ]


def _evaluated(evaluate: Any) -> Any:
    from pina import LabelTensor

    def evaluated(self: Any, batch: Any, solver: Any) -> Any:
        points = batch["input"]
        if not isinstance(points, LabelTensor) or points.ndim != 2 or not torch.is_grad_enabled():
            return evaluate(self, batch, solver)
        points = points.requires_grad_(True)
        names, outputs = solver.problem.input_variables, solver.problem.output_variables

        def forward(x: Any) -> Any:
            if not isinstance(x, TaylorTensor):
                return solver.forward(x)
            places = [points.labels.index(name) for name in names]
            if places != list(range(len(points.labels))):
                x = x[:, places]
            return type(solver).forward(solver, _labelled(x, names))

        key = (id(solver), solver.training)
        result = _host.passes.evaluate(self, key, forward, [points])
        if not isinstance(result, LabelTensor):
            mark = known(result)
            result = result.as_subclass(LabelTensor)
            result.labels = outputs
            if mark is not None:
                mark.evaluation.mark(result, mark.columns)
        return self.equation.residual(points, result, solver._params)

    return evaluated


def _extracted(extract: Any) -> Any:
    def extracted(self: Any, labels: Any) -> Any:
        result, mark = extract(self, labels), known(self)
        if mark is not None and not isinstance(labels, dict) and result.ndim == 2:
            wanted = [labels] if isinstance(labels, (str, int)) else labels
            columns = [mark.columns[self.labels.index(label)] for label in wanted]
            mark.evaluation.mark(result, columns)
        return result

    return extracted


def _gradient(fast_grad: Any) -> Any:
    from pina import LabelTensor

    def gradient(output_: Any, input_: Any, components: Any, d: Any) -> Any:
        mark = requested(output_, input_)
        if mark is None:
            return fast_grad(output_, input_, components, d)
        names = output_.labels[:1] if output_.shape[-1] == 1 else components
        along = [input_.labels.index(i) for i in d]
        wanted = [raised(mark.columns[output_.labels.index(c)], i) for c in names for i in along]
        found = mark.evaluation.derivatives(wanted)
        if found is None:
            result = fast_grad(output_, input_, components, d)
        else:
            labels = [f"d{c}d{i}" for c in names for i in d]
            result = LabelTensor(torch.cat(found, 1), labels=labels)
        return mark.evaluation.mark(result, wanted)

    return gradient


def _laplacian(scalar_laplacian: Any) -> Any:
    def laplacian(output_: Any, input_: Any, d: Any) -> Any:
        mark = requested(output_, input_)
        if mark is None:
            return scalar_laplacian(output_, input_, d)
        along = [input_.labels.index(i) for i in d]
        wanted = [raised(mark.columns[0], i, i) for i in along]
        found = mark.evaluation.derivatives(wanted)
        if found is None:
            # on its way PINA forms all second derivatives
            return mark.evaluation.aside(lambda: scalar_laplacian(output_, input_, d))
        return sum(found[1:], found[0])

    return laplacian


def _labelled(x: Any, names: Sequence[str]) -> Any:
    """The series with what models use of a LabelTensor."""
    names = list(names)

    def extract(labels: Any) -> Any:
        wanted = [labels] if isinstance(labels, str) else list(labels)
        places = [names.index(label) for label in wanted]
        column = x[:, places[0] : places[0] + 1] if len(places) == 1 else x[:, places]
        return _labelled(column, wanted)

    x.labels, x.extract = names, extract
    return x
