"""The contenders of one size of a workload, and how each of them becomes a step that is timed.

A ``Problem`` is a model, its inputs, and ways to get the same derivatives from them. A step is the
derivatives alone (``forward``: parameters need no gradient), or all of a training step
(``training``: derivatives, loss, gradients of all parameters).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .device import Device

FORWARD, TRAINING = "forward", "training"
STEPS = (FORWARD, TRAINING)
PLAIN = "plain"


class Unavailable(Exception):
    """This way cannot do this problem; ``word`` for the table, the message for its footnote."""

    def __init__(self, word: str, reason: str) -> None:
        super().__init__(reason)
        self.word = word


def mean_squares(derivatives: Sequence[Any]) -> Any:
    """The loss of all training steps: it uses every derivative."""
    total = 0
    for d in derivatives:
        total = total + (d * d).mean()
    return total


@dataclass
class Problem:
    """One size of a workload.

    Attributes:
        name: what the rows of the tables are called.
        sizes: the numbers behind the name: what targets, formulas and pictures select by.
        model: whose parameters are trained.
        inputs: what the model is evaluated on; ``batch`` of them.
        ways: the contenders by name.
        steps: which steps are measured.
        compiled: at which steps contenders are compiled.
        products: the matrix products of one derivative pass, as a multiple of those of the plain
            forward pass; None where no formula is claimed.
        reference: whose derivatives the others are compared with.
        loss: of the derivatives, for the training step.
    """

    name: str
    sizes: dict[str, Any]
    model: nn.Module
    inputs: tuple[torch.Tensor, ...]
    ways: Mapping[str, Way]
    batch: int
    steps: Sequence[str] = STEPS
    compiled: Sequence[str] = ()
    products: float | None = None
    reference: str = "nested autograd"
    loss: Callable[[Sequence[Any]], Any] = mean_squares

    def set_up(self, step: str) -> None:
        """Let the parameters need gradients, or not."""
        for p in self.model.parameters():
            p.requires_grad_(step == TRAINING)
            p.grad = None


@dataclass
class Step:
    """What is timed: ``run``, by ``seconds``; ``peak`` is what it holds in memory."""

    run: Callable[[], Any]
    seconds: Callable[[Callable[[], Any], int], float]
    peak: Callable[[], int]
    derivatives: Callable[[], Sequence[torch.Tensor]]


class Way:
    """A contender: a way to get the derivatives of a problem."""

    compiled = False

    def step(self, problem: Problem, step: str, device: Device) -> Step:
        """The step, or ``Unavailable``."""
        raise NotImplementedError


class Torch(Way):
    """``make(model, *inputs)`` returns what is called with the inputs, for the derivatives.

    It is made once for each step, so that what traces the model beforehand is not timed; while it
    runs, ``torch.is_grad_enabled()`` tells whether derivatives must be differentiable. ``loss``:
    instead of that of the problem.
    """

    def __init__(
        self, make: Callable[..., Callable], compiled: bool = False, loss: Callable | None = None
    ) -> None:
        self.make, self.compiled, self.loss = make, compiled, loss

    def step(self, problem: Problem, step: str, device: Device) -> Step:
        training, inputs = step == TRAINING, problem.inputs
        parameters = list(problem.model.parameters())
        f, measure = self.make(problem.model, *inputs), self.loss or problem.loss

        def loss(*inputs: torch.Tensor) -> torch.Tensor:
            return measure(f(*inputs))

        of = loss if training else f
        if self.compiled:
            of = device.compiled(of, problem.batch)

        def run() -> Any:
            if not training:
                with torch.no_grad():
                    return of(*inputs)
            forget()
            return of(*inputs).backward()

        def forget() -> None:
            for p in parameters:
                p.grad = None

        def peak() -> int:
            forget()
            return device.peak(run)

        def derivatives() -> Sequence[torch.Tensor]:
            result = run()
            if training:
                result = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
            return [d.detach().clone() for d in result]

        return Step(run, device.seconds, peak, derivatives)


class Cannot(Way):
    """A contender that cannot do this, and why."""

    def __init__(self, reason: str, word: str = "cannot") -> None:
        self.reason, self.word = reason, word

    def step(self, problem: Problem, step: str, device: Device) -> Step:
        raise Unavailable(self.word, self.reason)
