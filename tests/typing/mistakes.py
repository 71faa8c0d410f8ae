"""What ``mypy --strict`` must refuse: every line marked ``# error`` and no other."""

from __future__ import annotations

import torch

import taylortorch as tt


def square(x: torch.Tensor) -> torch.Tensor:
    return x**2


def fall(t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return -y


def mistakes(x: torch.Tensor) -> None:
    tt.TaylorTensor(1.0)  # error: arg-type
    tt.TaylorTensor(x, order=1.5)  # error: arg-type
    tt.TaylorTensor(x, orders=2)  # error: call-arg
    tt.variables(1.0)  # error: call-overload
    tt.variables(x, order="2")  # error: arg-type
    tt.d(x, 0)  # error: arg-type
    tt.laplace(x, x)  # error: attr-defined
    tt.func.laplacian(square)(x, 1)  # error: call-arg
    tt.func.laplacian(square, chunk_size="2")  # error: arg-type
    tt.func.laplacian(x)  # error: arg-type
    _ = tt.func.derivatives(square, x)[0].coeffs  # error: attr-defined
    _ = tt.odeint_taylor(fall, x, x, dense_output=True).shape  # error: attr-defined
    tt.register_rule(square, ode=(0, 1))  # error: arg-type
    tt.register_rule(derivative=square)(square)("text")  # error: arg-type
    tt.testing.check_rule(square, x, order="3")  # error: arg-type
    _ = tt.supported()["ode"].shape  # error: attr-defined
