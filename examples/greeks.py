"""Option greeks to third order of a neural pricer, trained on ladders of greeks.

A greek is a derivative of the price C of an option by the spot price S, the volatility sigma or the
time to expiry T. Banks use those of first order (delta, vega, theta), of second order (gamma,
vanna, volga, charm, veta) and of third order (speed, zomma, color, ultima). Here the price is a
network, as it is where a model has no closed form.

It learns European calls of Black and Scholes from their prices and two ladders of greeks, by S and
by sigma, to third order (differential machine learning: Huge and Savine 2020). One forward pass
along the two axes gives both ladders, and training is one backward() through it:

    x = tt.TaylorTensor(options, directions=axes, order=3)
    price, first, second, third = pricer(*x.unbind(-1)).derivatives

The six others, by time or mixed, it never sees. Afterwards all twelve are computed for a book of
options from one series in three variables, and compared with the closed form:

    S, sigma, T = tt.variables(S=s, V=v, T=t, derivatives=["SSS", "SSV", "SST", "VVV", ...])
    price = pricer(S, sigma, T)
    zomma = tt.d(price, S, S, sigma).value

By nested autograd a greek takes a gradient of the one below it. Along few axes and to high order,
as in the ladders, Taylor mode is faster. All twelve greeks at once, by three variables, nested
autograd gets as fast or faster: one gradient gives it the derivatives by all three.

Strike and interest are fixed: K = 1, r = 3 %; by T means d/dT, the opposite of calendar time.

    python examples/greeks.py            about a minute
    python examples/greeks.py --quick    a few seconds: a smaller network, less accuracy
    python examples/greeks.py --full     a larger network, trained further, a larger book
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import _frame as frame
import torch
from matplotlib.ticker import MaxNLocator
from torch import nn

import taylortorch as tt

torch.set_default_dtype(torch.float64)

INTEREST = 0.03
# the box of S, sigma and T
LOW, HIGH = torch.tensor([0.7, 0.2, 0.5]), torch.tensor([1.4, 0.5, 1.5])
FIRST = {"delta": "S", "vega": "V", "theta": "T"}
SECOND = {"gamma": "SS", "vanna": "SV", "volga": "VV", "charm": "ST", "veta": "VT"}
THIRD = {"speed": "SSS", "zomma": "SSV", "color": "SST", "ultima": "VVV"}
ALL = FIRST | SECOND | THIRD
LADDERS = (("delta", "gamma", "speed"), ("vega", "volga", "ultima"))  # by S and by sigma
LEARNED = {*LADDERS[0], *LADDERS[1]}
AXES = torch.eye(3)[:2].unsqueeze(1)  # of S and of sigma, the same for every option
Greeks = dict[str, torch.Tensor]


class Pricer(nn.Module):
    """A network of log-moneyness, total volatility and time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(3, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1)
        )

    def forward(self, S: torch.Tensor, sigma: torch.Tensor, T: torch.Tensor) -> torch.Tensor:
        inputs = [3 * torch.log(S), 4 * sigma * torch.sqrt(T) - 1.4, 2 * T - 2]
        return self.network(torch.stack(inputs, -1)).squeeze(-1)


# --- the closed form ----------------------------------------------------------------------------


def normal(z: torch.Tensor) -> torch.Tensor:
    return torch.special.erfc(-z / math.sqrt(2)) / 2


def black_scholes(S: torch.Tensor, sigma: torch.Tensor, T: torch.Tensor) -> torch.Tensor:
    total = sigma * torch.sqrt(T)
    d1 = (torch.log(S) + (INTEREST + sigma**2 / 2) * T) / total
    return S * normal(d1) - torch.exp(-INTEREST * T) * normal(d1 - total)


def closed_form(S: torch.Tensor, sigma: torch.Tensor, T: torch.Tensor) -> Greeks:
    """The textbook formulas (Haug, The Complete Guide to Option Pricing Formulas, 2007)."""
    root = torch.sqrt(T)
    total = sigma * root
    d1 = (torch.log(S) + (INTEREST + sigma**2 / 2) * T) / total
    d2 = d1 - total
    bell = torch.exp(-(d1**2) / 2) / math.sqrt(2 * math.pi)
    by_time = (INTEREST + sigma**2 / 2) / total - d1 / (2 * T)  # of d1
    vega, gamma = S * bell * root, bell / (S * total)
    return {
        "delta": normal(d1),
        "vega": vega,
        "theta": S * bell * sigma / (2 * root) + INTEREST * torch.exp(-INTEREST * T) * normal(d2),
        "gamma": gamma,
        "vanna": -bell * d2 / sigma,
        "volga": vega * d1 * d2 / sigma,
        "charm": bell * by_time,
        "veta": vega * (1 / (2 * T) - d1 * by_time),
        "speed": -gamma / S * (1 + d1 / total),
        "zomma": gamma * (d1 * d2 - 1) / sigma,
        "color": -gamma * (1 / (2 * T) + d1 * by_time),
        "ultima": -vega / sigma**2 * (d1 * d2 * (1 - d1 * d2) + d1**2 + d2**2),
    }


# --- the two ladders in two ways ----------------------------------------------------------------


def taylor_ladders(pricer: nn.Module, options: torch.Tensor) -> tuple[torch.Tensor, Greeks]:
    x = tt.TaylorTensor(options, directions=AXES, order=3)
    price, *orders = pricer(*x.unbind(-1)).derivatives
    return price, {
        name: order[axis]
        for axis, ladder in enumerate(LADDERS)
        for name, order in zip(ladder, orders, strict=True)
    }


def nested_ladders(pricer: nn.Module, options: torch.Tensor) -> tuple[torch.Tensor, Greeks]:
    S, sigma, T = (column.clone().requires_grad_(True) for column in options.unbind(1))
    price = pricer(S, sigma, T)
    greeks: Greeks = {}
    slopes = torch.autograd.grad(price.sum(), (S, sigma), create_graph=True)
    for x, slope, ladder in zip((S, sigma), slopes, LADDERS, strict=True):
        greeks[ladder[0]] = slope
        for below, name in pairwise(ladder):
            (greeks[name],) = torch.autograd.grad(greeks[below].sum(), x, create_graph=True)
    return price, greeks


# --- all twelve in two ways ---------------------------------------------------------------------


def taylor_greeks(pricer: Callable, options: torch.Tensor) -> Greeks:
    with torch.no_grad():
        s, v, t = options.unbind(1)
        S, sigma, T = tt.variables(S=s, V=v, T=t, derivatives=list(ALL.values()))
        price = pricer(S, sigma, T)
        along = {"S": S, "V": sigma, "T": T}
        return {
            name: tt.d(price, *(along[letter] for letter in letters)).value
            for name, letters in ALL.items()
        }


def nested_greeks(pricer: Callable, options: torch.Tensor) -> Greeks:
    inputs = [column.clone().requires_grad_(True) for column in options.unbind(1)]
    known = {"": pricer(*inputs)}

    def derivative(letters: str) -> torch.Tensor:
        """All three derivatives of what is one order lower, each of them once."""
        if letters not in known:
            below = derivative(letters[:-1])
            slopes = torch.autograd.grad(below.sum(), inputs, create_graph=True)
            for letter, slope in zip("SVT", slopes, strict=True):
                known.setdefault(letters[:-1] + letter, slope)
        return known[letters]

    return {name: derivative(letters).detach() for name, letters in ALL.items()}


# --- checks and times ---------------------------------------------------------------------------


def relative_errors(greeks: Greeks, exact: Greeks) -> dict[str, float]:
    return {name: frame.relative_l2(greek, exact[name]) for name, greek in greeks.items()}


def check_formula(options: torch.Tensor) -> None:
    """The formula of the price is a function like the network."""
    exact = closed_form(*options.T)
    for name, way in ((frame.TAYLOR, taylor_greeks), (frame.NESTED, nested_greeks)):
        worst = max(relative_errors(way(black_scholes, options), exact).values())
        print(f"   All twelve greeks of the formula itself, by {name}: {worst:.1e}")
        assert worst < 1e-11, name
    print()


def compare(pricer: nn.Module, book: torch.Tensor, rounds: int) -> dict[str, float]:
    same = relative_errors(taylor_greeks(pricer, book), nested_greeks(pricer, book))
    assert max(same.values()) < 1e-9, same
    seconds = frame.side_by_side(
        {
            frame.TAYLOR: lambda: taylor_greeks(pricer, book),
            frame.NESTED: lambda: nested_greeks(pricer, book),
        },
        rounds,
    )
    taylor, nested = (1e3 * each for each in seconds.values())
    print(
        f"   All twelve greeks of {len(book):,} options, the same to 1e-9: Taylor {taylor:.0f} ms, "
        f"nested autograd {nested:.0f} ms.\n   {frame.verdict(seconds)}.\n"
    )
    return seconds


def report(errors: dict[str, float], claims: tuple[float, float, float]) -> None:
    for order, (greeks, claim) in enumerate(zip((FIRST, SECOND, THIRD), claims, strict=True), 1):
        listed = ", ".join(f"{name} {errors[name]:.2%}" for name in greeks)
        print(f"   Order {order}: {listed}; claimed: below {claim:.0%}")
        for name in greeks:
            assert errors[name] < claim, name


# --- the picture --------------------------------------------------------------------------------


def draw(
    pricer: nn.Module,
    runs: dict[str, frame.Run],
    errors: dict[str, float],
    seconds: dict[str, float],
    book: int,
    picture: Path,
) -> None:
    figure = frame.figure(15, 8.4)
    left, right = figure.subfigures(1, 2, width_ratios=(2.6, 1), wspace=0.02)
    draw_third_order(left, pricer)
    top, bottom = right.subplots(2, 1, height_ratios=(1.7, 1))
    names = sorted(ALL, key=lambda name: (name not in LEARNED, len(ALL[name])))
    for n, name in enumerate(names):
        colour = "#4c9be8" if name in LEARNED else "#f0a030"
        top.barh(n + (n >= len(LEARNED)) * 0.6, 100 * errors[name], color=colour, height=0.7)
        where = n + (n >= len(LEARNED)) * 0.6
        top.text(110 * errors[name], where, f"{100 * errors[name]:.2g} %", va="center")
    places = [n + (n >= len(LEARNED)) * 0.6 for n in range(len(names))]
    top.set_yticks(places, names)
    for text, colour, where in (("learned", "#4c9be8", 2.5), ("never seen", "#d08000", 9.1)):
        top.text(
            0.99,
            where,
            text,
            transform=top.get_yaxis_transform(),
            rotation=-90,
            ha="right",
            va="center",
            color=colour,
            weight="bold",
        )
    top.invert_yaxis()
    top.set_xscale("log")
    low, high = 100 * min(errors.values()), 100 * max(errors.values())
    top.set_xlim(low / 2, high * 12)
    top.set_xticks([])
    top.minorticks_off()
    top.spines["bottom"].set_visible(False)
    top.set_title("relative error of each greek")
    ratio = seconds[frame.NESTED] / seconds[frame.TAYLOR]
    training = frame.time_ratio(*runs.values())
    groups = (
        (f"12 greeks\nof {book:,}\noptions", ratio, 1e3 * seconds[frame.TAYLOR]),
        ("gradient\nin training", training, 1e3 / runs[frame.TAYLOR].per_second),
    )
    for n, (_, times, milliseconds) in enumerate(groups):
        for m, (name, length) in enumerate(((frame.TAYLOR, 1.0), (frame.NESTED, times))):
            where = 2.4 * n + m
            bottom.barh(where, length, color=frame.COLOURS[name], height=0.75)
            here = f"{length * milliseconds:.3g} ms"
            bottom.text(0.04, where, here, va="center", color="white", fontsize=9.5)
            text = f" {name}, {times:.2f}x" if m else f" {name}"
            bottom.text(length, where, text, va="center", fontsize=10)
    bottom.set_yticks([0.5, 2.9], [name for name, _, _ in groups])
    bottom.tick_params(left=False)
    bottom.invert_yaxis()
    bottom.set_xlim(0, 2.2 * max(1.0, ratio, training))
    bottom.set_title("time, in that of Taylor")
    bottom.set_xticks([])
    bottom.spines["bottom"].set_visible(False)
    frame.save(figure, picture)


def draw_third_order(figure, pricer: nn.Module) -> None:
    """Exact, predicted and error over S and T at a volatility of 30 %."""
    s, t = torch.linspace(0.7, 1.4, 81), torch.linspace(0.5, 1.5, 61)
    S, T = torch.meshgrid(s, t, indexing="ij")
    options = torch.stack([S, torch.full_like(S, 0.3), T], -1).reshape(-1, 3)
    exact = closed_form(*options.T)
    found = taylor_greeks(pricer, options)
    symbols = {
        "speed": "SSS",
        "zomma": "SS\\sigma",
        "color": "SST",
        "ultima": "\\sigma\\sigma\\sigma",
    }
    panels = figure.subplots(3, 4, sharex=True, sharey=True)
    for column, (name, symbol) in enumerate(symbols.items()):
        a, b = (values[name].reshape(S.shape) for values in (found, exact))
        limits = (b.min().item(), b.max().item())
        most = (a - b).abs().max().item()
        title = f"{name}: $C_{{{symbol}}}$"
        for axes, values, title_here, cmap, bounds in (
            (panels[0, column], b, title, "viridis", limits),
            (panels[1, column], a, "", "viridis", limits),
            (panels[2, column], a - b, "", "RdBu_r", (-most, most)),
        ):
            mesh = frame.field(axes, s, t, values, title_here, cmap=cmap, limits=bounds, bar=False)
            bar = figure.colorbar(mesh, ax=axes, pad=0.02, aspect=18)
            bar.outline.set_visible(False)
            bar.locator = MaxNLocator(4)
            bar.update_ticks()
        panels[2, column].set_xlabel("spot price S")
    for row, what in enumerate(("exact", "network", "error")):
        panels[row, 0].set_ylabel(f"{what}\n\ntime to expiry T")


def main() -> None:
    setting = frame.start(
        __doc__,
        __file__,
        quick={
            "width": 20,
            "options": 256,
            "lbfgs": 7,
            "nested": 7,
            "book": 2_000,
            "claims": (0.3, 0.4, 0.5),
        },
        default={
            "width": 32,
            "options": 1024,
            "lbfgs": 70,
            "nested": 15,
            "book": 16_000,
            "claims": (0.06, 0.05, 0.08),
        },
        full={
            "width": 64,
            "options": 4096,
            "lbfgs": 200,
            "nested": 30,
            "book": 100_000,
            "claims": (0.06, 0.05, 0.08),
        },
    )
    sobol = torch.quasirandom.SobolEngine(3, scramble=True, seed=0)
    options, fresh, book = (
        LOW + (HIGH - LOW) * sobol.draw(count).double()
        for count in (setting.options, 1_000, setting.book)
    )
    check_formula(fresh)
    price, learned = black_scholes(*options.T), closed_form(*options.T)
    exact = closed_form(*fresh.T)

    def loss_of(ladders: Callable) -> frame.Loss:
        def loss(pricer: nn.Module) -> torch.Tensor:
            found_price, found = ladders(pricer, options)
            loss = ((found_price - price) ** 2).mean() / price.var()
            for name, greek in found.items():
                loss = loss + ((greek - learned[name]) ** 2).mean() / learned[name].var()
            return loss

        return loss

    def errors_of(pricer: nn.Module) -> dict[str, float]:
        return relative_errors(taylor_greeks(pricer, fresh), exact)

    pricer = Pricer(setting.width)
    runs = frame.train(
        pricer,
        {frame.TAYLOR: loss_of(taylor_ladders), frame.NESTED: loss_of(nested_ladders)},
        [frame.lbfgs(setting.lbfgs)],
        error=lambda pricer: max(errors_of(pricer).values()),
        stop_after={frame.NESTED: setting.nested},
        checks=20,
    )
    errors = errors_of(pricer)
    report(errors, setting.claims)
    # a step of L-BFGS is twenty gradients, after which rounding has grown
    frame.summarise(runs, max(setting.claims), agree_for=2)
    seconds = compare(pricer, book, rounds=5)
    draw(pricer, runs, errors, seconds, setting.book, setting.picture)


if __name__ == "__main__":
    main()
