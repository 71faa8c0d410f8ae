"""The Kuramoto-Sivashinsky equation, order 4 in x, window after window in time.

    u_t + u u_x + u_xx + u_xxxx = 0,    u periodic in x with period 22

is unstable at long wavelengths, damped at short ones, and chaotic after a while. A network is
trained on one window of time after the other. It is periodic by construction, since it sees x
through sines and cosines, and begins with the state at the end of the window before: training has
to solve the equation only. With Taylor its residual reads

    t, x = tt.variables(t=t, x=x, derivatives=["t", "xxxx"])
    u = model(t, x)
    residual = tt.d(u, t) + u * tt.d(u, x) + tt.d(u, x, x) + tt.d(u, x, order=4)

one forward pass; by nested autograd it takes four calls of torch.autograd.grad, each through the
graph of the one before. Both train a copy of the same network on the same points, step by step in
turn.

The reference is a Fourier spectral method with exponential time differencing (ETDRK4: Cox &
Matthews 2002, Kassam & Trefethen 2005), which is the method of choice for this equation: the
network has to be compared with something. The script asserts the error of the network over all
windows, and that the two ways have the same losses; it draws the waves, how the error grows, and
the losses over the seconds spent.

    python examples/kuramoto_sivashinsky.py            about a minute and a half
    python examples/kuramoto_sivashinsky.py --quick    a few seconds: one short window
    python examples/kuramoto_sivashinsky.py --full     twice as far in time, trained further
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import _frame as frame
import numpy as np
import torch
from torch import nn

import taylortorch as tt

torch.set_default_dtype(torch.float64)

PERIOD, POINTS = 22.0, 128
WAVENUMBER = 2 * math.pi / PERIOD
# of the state between two windows, and of the coordinates that the network sees
MODES, SEEN = 12, 4


class Window(nn.Module):
    """The solution for 0 < t < length: a Fourier series at t = 0, plus t times a network."""

    def __init__(self, start: torch.Tensor, length: float, width: int) -> None:
        super().__init__()
        self.length = length
        spectrum = torch.fft.rfft(start)[: MODES + 1] * 2 / len(start)
        self.register_buffer("mean", spectrum[0].real / 2)
        self.register_buffer("start", torch.cat([spectrum[1:].real, -spectrum[1:].imag]))
        self.register_buffer("wavenumbers", WAVENUMBER * torch.arange(1.0, MODES + 1))
        self.network = nn.Sequential(
            nn.Linear(1 + 2 * SEEN, width),
            nn.Tanh(),
            nn.Linear(width, width),
            nn.Tanh(),
            nn.Linear(width, 1),
        )

    def forward(self, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        phases = x * self.wavenumbers
        cosines, sines = torch.cos(phases), torch.sin(phases)
        start = self.mean + torch.cat([cosines, sines], dim=1) @ self.start[:, None]
        part = t / self.length
        seen = torch.cat([2 * part - 1, cosines[:, :SEEN], sines[:, :SEEN]], dim=1)
        return start + 2 * part * self.network(seen)


# --- the same residual in two ways --------------------------------------------------------------


def taylor_residual(model: nn.Module, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    t, x = tt.variables(t=t, x=x, derivatives=["t", "xxxx"])
    u = model(t, x)
    residual = tt.d(u, t) + u * tt.d(u, x) + tt.d(u, x, x) + tt.d(u, x, order=4)
    return residual.value


def nested_residual(model: nn.Module, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    t, x = t.clone().requires_grad_(True), x.clone().requires_grad_(True)
    u = model(t, x)
    u_t, u_x = torch.autograd.grad(u.sum(), (t, x), create_graph=True)
    (u_xx,) = torch.autograd.grad(u_x.sum(), x, create_graph=True)
    (u_xxx,) = torch.autograd.grad(u_xx.sum(), x, create_graph=True)
    (u_xxxx,) = torch.autograd.grad(u_xxx.sum(), x, create_graph=True)
    return u_t + u * u_x + u_xx + u_xxxx


# --- the reference ------------------------------------------------------------------------------


def initial(x: torch.Tensor) -> torch.Tensor:
    return 0.8 * torch.cos(2 * WAVENUMBER * x) + 0.4 * torch.sin(3 * WAVENUMBER * x)


def spectral(start: np.ndarray, step: float, count: int, inner: int = 20) -> np.ndarray:
    """The states after 0, 1, ..., ``count`` steps, each of ``inner`` steps of ETDRK4."""
    h, n = step / inner, len(start)
    k = WAVENUMBER * np.arange(n // 2 + 1)
    linear = h * (k**2 - k**4)
    half, whole = np.exp(linear / 2), np.exp(linear)
    # (e^z - 1) / z and the like, as means over a circle around z: no cancellation
    z = linear[:, None] + np.exp(1j * np.pi * (np.arange(32) + 0.5) / 32)
    e = np.exp(z)
    q = h * ((np.exp(z / 2) - 1) / z).mean(1).real
    f1 = h * ((-4 - z + e * (4 - 3 * z + z**2)) / z**3).mean(1).real
    f2 = h * ((2 + z + e * (z - 2)) / z**3).mean(1).real
    f3 = h * ((-4 - 3 * z - z**2 + e * (4 - z)) / z**3).mean(1).real

    def nonlinear(v: np.ndarray) -> np.ndarray:
        product = np.fft.rfft(np.fft.irfft(v, n) ** 2)
        product[n // 3 :] = 0  # aliases
        return -0.5j * k * product

    v, states = np.fft.rfft(start), [start]
    for _ in range(count):
        for _ in range(inner):
            at_v = nonlinear(v)
            a = half * v + q * at_v
            at_a = nonlinear(a)
            b = half * v + q * at_a
            at_b = nonlinear(b)
            c = half * a + q * (2 * at_b - at_v)
            v = whole * v + f1 * at_v + 2 * f2 * (at_a + at_b) + f3 * nonlinear(c)
        states.append(np.fft.irfft(v, n))
    return np.array(states)


# --- training, window by window -----------------------------------------------------------------


def states(model: nn.Module, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The solution on the grid of ``t`` times ``x``."""
    times, places = torch.meshgrid(t, x, indexing="ij")
    with torch.no_grad():
        return model(times.reshape(-1, 1), places.reshape(-1, 1)).reshape(times.shape)


def main() -> None:
    sizes = ("windows", "length", "width", "points", "adam", "lbfgs", "claim")
    setting = frame.start(
        __doc__,
        __file__,
        quick=dict(zip(sizes, (1, 2.0, 16, 150, 20, 4, 5e-2), strict=True)),
        default=dict(zip(sizes, (5, 2.0, 24, 300, 30, 14, 2e-2), strict=True)),
        full=dict(zip(sizes, (10, 2.0, 24, 400, 30, 24, 3e-2), strict=True)),
    )
    per_window = 20
    x = torch.arange(POINTS) * (PERIOD / POINTS)
    within = torch.linspace(0, setting.length, per_window + 1)
    count = per_window * setting.windows
    exact = torch.from_numpy(spectral(initial(x).numpy(), setting.length / per_window, count))

    drawn = torch.quasirandom.SobolEngine(2, scramble=True, seed=0).draw(setting.points).double()
    points = setting.length * drawn[:, :1], PERIOD * drawn[:, 1:]
    found, runs = [initial(x)[None]], []
    for window in range(setting.windows):
        print(f"   Window {window + 1} of {setting.windows}")
        model = Window(found[-1][-1], setting.length, setting.width)
        first = per_window * window
        truth = exact[first : first + per_window + 1]

        def error(model: nn.Module, truth: torch.Tensor = truth) -> float:
            return frame.relative_l2(states(model, within, x), truth)

        runs.append(
            frame.train(
                model,
                {
                    frame.TAYLOR: lambda m: (taylor_residual(m, *points) ** 2).mean(),
                    frame.NESTED: lambda m: (nested_residual(m, *points) ** 2).mean(),
                },
                [frame.adam(setting.adam, lr=1e-2), frame.lbfgs(setting.lbfgs)],
                error,
            )
        )
        found.append(states(model, within, x)[1:])
    joined = frame.joined(runs)
    u = torch.cat(found)
    frame.summarise(joined, setting.claim, agree_for=min(setting.adam, 50))
    total = frame.relative_l2(u, exact)
    print(f"   Over all windows: {total:.2e}; claimed: below {setting.claim:.0e}.\n")
    assert total < setting.claim
    draw(x, setting.length * torch.arange(count + 1) / per_window, u, exact, joined, setting)


# --- the picture --------------------------------------------------------------------------------


def draw(
    x: torch.Tensor,
    t: torch.Tensor,
    u: torch.Tensor,
    exact: torch.Tensor,
    runs: dict[str, frame.Run],
    setting: SimpleNamespace,
) -> None:
    figure = frame.figure(13, 7.4)
    top, bottom = figure.subplots(2, 3)
    # closed where the period ends
    x = torch.cat([x, x.new_tensor([PERIOD])])
    u, exact = (torch.cat([a, a[:, :1]], dim=1) for a in (u, exact))
    limits = (-exact.abs().max().item(), exact.abs().max().item())
    frame.field(top[0], t, x, u, "u, network", cmap="RdBu_r", limits=limits)
    frame.field(top[1], t, x, exact, "u, spectral reference", cmap="RdBu_r", limits=limits)
    difference = u - exact
    most = difference.abs().max().item()
    frame.field(top[2], t, x, difference, "difference", cmap="RdBu_r", limits=(-most, most))
    for axes in top:
        axes.set_xlabel("t")
        axes.set_ylabel("x", rotation=0, labelpad=8)
        axes.set_yticks([0, 5, 10, 15, 20])

    axes = bottom[0]
    growing = (difference.norm(dim=1) / exact.norm(dim=1))[1:]
    axes.plot(t[1:], growing, color="#4c9be8", linewidth=2)
    axes.set_ylim(growing.min().item() / 10, growing.max().item() * 10)
    for window in range(1, setting.windows):
        axes.axvline(window * setting.length, color="#bbbbbb", linewidth=1, linestyle=":")
    axes.set_yscale("log")
    axes.set_xlim(0, t[-1])
    axes.set_xlabel("t (dotted: between windows)")
    axes.set_title("relative error of the state at time t")
    axes.grid(True, axis="y", color="#eeeeee")
    axes.minorticks_off()
    frame.loss_over_time(bottom[1], runs)
    frame.loss_over_time(bottom[2], runs, what="error", title="relative error in the window")
    frame.save(figure, setting.picture)


if __name__ == "__main__":
    main()
