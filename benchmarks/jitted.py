"""How a function of ``in_jax`` becomes a step that is timed; importable without JAX."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import torch

from .device import Device, wall
from .ways import TRAINING, Problem, Step, Unavailable, Way


class Jax(Way):
    """The function of this name in ``in_jax.py``, made for the problem, under ``jax.jit``."""

    compiled = True

    def __init__(self, name: str, needs: str = "jax", **sizes: Any) -> None:
        self.name, self.needs, self.sizes = name, needs, sizes

    def step(self, problem: Problem, step: str, device: Device) -> Step:
        for module in ("jax", self.needs):
            if importlib.util.find_spec(module) is None:
                raise Unavailable("not installed", f"{module} is not installed.")
        # not above: not everybody has JAX
        import jax

        from . import in_jax

        if (jax.default_backend() == "cpu") == device.is_cuda:
            raise Unavailable(
                "not installed", f"JAX is installed for another kind of device than {device.name}."
            )
        parameters = in_jax.parameters_of(problem.model)
        inputs = tuple(map(in_jax.array, problem.inputs))
        f = in_jax.WAYS[self.name](in_jax.function_of(problem.model), *inputs, **self.sizes)

        def loss(parameters: Any, *inputs: Any) -> Any:
            return problem.loss(f(parameters, *inputs))

        of = jax.grad(loss) if step == TRAINING else f
        lowered = jax.jit(of).lower(parameters, *inputs)
        of = lowered.compile()

        def run() -> Any:
            return jax.block_until_ready(of(parameters, *inputs))

        def peak() -> int:
            program = of
            if "ynn_fusion" in of.as_text():
                # what a fusion of the library YNNPACK holds, XLA does not know
                without = {"xla_cpu_experimental_ynn_fusion_type": ""}
                program = lowered.compile(compiler_options=without)
            need = program.memory_analysis()
            return need.temp_size_in_bytes + need.output_size_in_bytes

        def derivatives() -> Sequence[torch.Tensor]:
            result = run()
            return [in_jax.tensor(d, device) for d in result]

        return Step(run, wall, peak, derivatives)
