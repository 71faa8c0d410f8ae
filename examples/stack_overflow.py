"""First and second derivatives of a custom layer for every sample, without the loop.

The question (https://stackoverflow.com/questions/66120904): a layer computes exp(-beta * x**2) with
a trainable beta, and its first and second derivatives with respect to x are wanted for every entry
of the vector x. The asker loops over the entries and calls torch.autograd.grad twice for each. The
results agree with finite differences, but "computation is very slow", and the asker, who would like
to vectorise it, does not see how for the second derivative.

Here the same numbers are computed in three ways from the same layer and the same x:

    loop     the asker's loop: two calls of torch.autograd.grad per sample
    nested   one call of torch.autograd.grad on the sum of f, another one on the sum of f'; this
             works because sample n of the result depends on sample n of x and on no other
    Taylor   one forward pass of the unchanged layer on a TaylorTensor

All keep the graph to beta, as training on the derivatives needs. The script then

1. checks that the three agree with one another, with the closed form and with finite differences,
   and that they give the same gradient to beta;
2. times them side by side, for the derivatives alone and for a whole training step;
3. recovers beta from noisy observations of f, f' and f'', with one ordinary backward() per step;
4. draws what happened.

    python examples/stack_overflow.py            about a minute
    python examples/stack_overflow.py --quick    a few seconds: small inputs, few rounds
    python examples/stack_overflow.py --full     more rounds, and a million samples
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import matplotlib
import torch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter
from torch import nn
from tqdm import tqdm

import taylortorch as tt

matplotlib.use("Agg")
import matplotlib.pyplot as plt

Three = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
Way = Callable[[nn.Module, torch.Tensor], Three]

TRUE_BETA = 0.9
# standard deviations of the noise on the observations of f, f' and f''
NOISE = (0.05, 0.1, 0.2)
# the standard error of beta from this many observations is about 0.007: three of them
OBSERVATIONS, BETA_TOLERANCE = 400, 0.02
# float64 rounding, for methods that are exact otherwise
EXACT_TOLERANCE = 1e-12
# central differences with step 1e-4: truncation about 1e-8, rounding of f'' about 4e-8
DIFFERENCE_STEP, DIFFERENCE_TOLERANCE = 1e-4, 1e-6


class Exponential(nn.Module):
    """The asker's layer."""

    def __init__(self) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.empty(1).uniform_(0.1, 2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.exp(-self.beta * x**2)


# --- the three ways -----------------------------------------------------------------------------


def by_loop(layer: nn.Module, x: torch.Tensor) -> Three:
    """As the asker does it: sample by sample, written into tensors made beforehand."""
    f, df, d2f = torch.zeros_like(x), torch.zeros_like(x), torch.zeros_like(x)
    for n in range(len(x)):
        sample = x[n].requires_grad_(True)
        y = layer(sample)
        f[n] = y
        df[n] = torch.autograd.grad(y, sample, create_graph=True)[0]
        d2f[n] = torch.autograd.grad(df[n], sample, create_graph=True)[0]
    return f, df, d2f


def by_loop_with_lists(layer: nn.Module, x: torch.Tensor) -> Three:
    """The same loop, kinder to autograd.

    Each write into a tensor lengthens that tensor's graph by a node, and each call of grad visits
    the whole graph: the asker's time grows as N**2. Lists, stacked at the end, grow as N.
    """
    rows = []
    for n in range(len(x)):
        sample = x[n].requires_grad_(True)
        f = layer(sample)
        (df,) = torch.autograd.grad(f, sample, create_graph=True)
        (d2f,) = torch.autograd.grad(df, sample, create_graph=True)
        rows.append(torch.stack([f.squeeze(), df, d2f]))
    f, df, d2f = torch.stack(rows, dim=1)
    return f, df, d2f


def by_nested_autograd(layer: nn.Module, x: torch.Tensor) -> Three:
    x = x.detach().requires_grad_(True)
    f = layer(x)
    (df,) = torch.autograd.grad(f.sum(), x, create_graph=True)
    (d2f,) = torch.autograd.grad(df.sum(), x, create_graph=True)
    return f, df, d2f


def by_taylor(layer: nn.Module, x: torch.Tensor) -> Three:
    y = layer(tt.TaylorTensor(x))
    f, df, d2f = y.derivatives
    return f, df, d2f


def closed_form(beta: float | torch.Tensor, x: torch.Tensor) -> Three:
    f = torch.exp(-beta * x**2)
    return f, -2 * beta * x * f, (4 * beta**2 * x**2 - 2 * beta) * f


# the keys of the tables and the picture
LOOP, LISTS, NESTED, TAYLOR = "asker's loop", "loop, lists", "nested autograd", "Taylor"
WAYS: dict[str, Way] = {
    LOOP: by_loop,
    LISTS: by_loop_with_lists,
    NESTED: by_nested_autograd,
    TAYLOR: by_taylor,
}


# --- 1. the same numbers ------------------------------------------------------------------------


def check(layer: Exponential, n: int) -> None:
    x = torch.linspace(-3, 3, n)
    exact = closed_form(layer.beta.detach(), x)
    h = DIFFERENCE_STEP
    with torch.no_grad():
        left, middle, right = layer(x - h), layer(x), layer(x + h)
    differences = (middle, (right - left) / (2 * h), (right - 2 * middle + left) / h**2)

    print(f"1. The same numbers: {n} samples, float64, beta = {layer.beta.item():.4f}")
    print(f"   largest error in {'f':>17} {'f-prime':>9} {'f-second':>9} {'d loss/d beta':>14}")
    beta = layer.beta.detach().clone().requires_grad_(True)
    (exact_slope,) = torch.autograd.grad(sum_of_squares(closed_form(beta, x)), beta)
    for name, way in WAYS.items():
        result = way(layer, x)
        (slope,) = torch.autograd.grad(sum_of_squares(result), layer.beta)
        errors = [largest_error(a, b) for a, b in zip(result, exact, strict=True)]
        slope_error = largest_error(slope, exact_slope)
        print(f"   {name:<24}" + "".join(f"{e:>10.1e}" for e in errors) + f"{slope_error:>15.1e}")
        assert max(*errors, slope_error) < EXACT_TOLERANCE, name
    errors = [largest_error(a, b) for a, b in zip(differences, exact, strict=True)]
    print(f"   {'finite differences':<24}" + "".join(f"{e:>10.1e}" for e in errors))
    assert max(errors) < DIFFERENCE_TOLERANCE
    print(
        f"   All within {EXACT_TOLERANCE:.0e} of the closed form, and so of one another; "
        f"finite differences within {DIFFERENCE_TOLERANCE:.0e}.\n"
    )


def largest_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a.detach() - b.detach()).abs().max().item()


def sum_of_squares(derivatives: Three) -> torch.Tensor:
    f, df, d2f = derivatives
    return (f**2).mean() + (df**2).mean() + (d2f**2).mean()


# --- 2. the times -------------------------------------------------------------------------------


class Timings(NamedTuple):
    """Seconds by (way, N), and the same over the time of Taylor: medians of interleaved rounds."""

    seconds: dict[tuple[str, int], float]
    ratios: dict[tuple[str, int], float]


def measure(
    ways: dict[str, Callable[[], object]], n: int, rounds: int, slow_rounds: int
) -> Timings:
    """Time A B C A B C ..., so that a busy moment of the machine hits all of them alike."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()  # warm up
    for turn in range(rounds):
        for name, way in ways.items():
            slow = name in (LOOP, LISTS)
            if slow and turn >= slow_rounds:
                continue
            # enough calls per measurement that the clock does not matter
            calls = 1 if slow else max(1, 20_000 // n)
            start = time.perf_counter()
            for _ in range(calls):
                way()
            times[name].append((time.perf_counter() - start) / calls)
    seconds = {(name, n): statistics.median(values) for name, values in times.items()}
    ratios = {
        (name, n): statistics.median(
            a / b for a, b in zip(values, times[TAYLOR][: len(values)], strict=True)
        )
        for name, values in times.items()
    }
    return Timings(seconds, ratios)


def training_step(way: Way, layer: nn.Module, x: torch.Tensor) -> None:
    layer.zero_grad()
    sum_of_squares(way(layer, x)).backward()


def compare(
    layer: Exponential, sizes: list[int], loop_sizes: list[int], rounds: int, slow_rounds: int
) -> tuple[Timings, Timings]:
    forward, training = Timings({}, {}), Timings({}, {})
    print("2. The times, in milliseconds, and in brackets how many times that of Taylor")
    print(
        f"   torch {torch.__version__}, threads: {torch.get_num_threads()}, float64; medians of "
        f"{rounds} interleaved rounds (loops: {slow_rounds})"
    )
    print(f"   {'':>9} |{'f, its first and second derivative':^76} |{'training step':^37}")
    print(f"   {'N':>9} |" + "".join(f"{name:>20}" for name in (LOOP, LISTS, NESTED)), end="")
    print(f"{TAYLOR:>16} |{NESTED:>22}{TAYLOR:>15}")
    for n in sizes:
        x = torch.linspace(-3, 3, n)
        names = list(WAYS) if n in loop_sizes else [NESTED, TAYLOR]
        ways = {name: partial(WAYS[name], layer, x) for name in names}
        steps = {name: partial(training_step, WAYS[name], layer, x) for name in (NESTED, TAYLOR)}
        for timings, measured in (
            (forward, measure(ways, n, rounds, slow_rounds)),
            (training, measure(steps, n, rounds, slow_rounds)),
        ):
            timings.seconds.update(measured.seconds)
            timings.ratios.update(measured.ratios)
        print(
            f"   {n:>9,} |"
            + "".join(f"{cell(forward, name, n):>20}" for name in (LOOP, LISTS, NESTED))
            + f"{cell(forward, TAYLOR, n):>16} |{cell(training, NESTED, n):>22}"
            + f"{cell(training, TAYLOR, n):>15}"
        )
    print("   A training step is the derivatives, a loss on all three, and loss.backward().\n")
    return forward, training


def cell(timings: Timings, name: str, n: int) -> str:
    if (name, n) not in timings.seconds:
        return "not run"
    milliseconds = f"{1e3 * timings.seconds[name, n]:,.3g}"
    if timings.seconds[name, n] >= 1:
        milliseconds = f"{1e3 * timings.seconds[name, n]:,.0f}"
    return milliseconds if name == TAYLOR else f"{milliseconds} ({times(timings, name, n)})"


def times(timings: Timings, name: str, n: int) -> str:
    """A ratio, to two digits or so: more would be noise."""
    ratio = timings.ratios[name, n]
    if ratio < 10:
        return f"{ratio:.1f}x"
    digits = len(str(round(ratio))) - 2
    return f"{round(ratio, -digits):,.0f}x"


# --- 3. training --------------------------------------------------------------------------------


def observe(n: int) -> tuple[torch.Tensor, Three]:
    """Noisy observations of f, f' and f'' of the true layer at n random places."""
    x = 6 * torch.rand(n) - 3
    exact = closed_form(TRUE_BETA, x)
    f, df, d2f = (y + s * torch.randn(n) for y, s in zip(exact, NOISE, strict=True))
    return x, (f, df, d2f)


def train(layer: Exponential, x: torch.Tensor, observed: Three, steps: int) -> None:
    print(f"3. Training beta on {len(x)} noisy observations of f, f' and f''")
    start = layer.beta.item()
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    with tqdm(range(steps), unit=" steps", desc="   training", ncols=100) as progress:
        for _ in progress:
            optimizer.zero_grad()
            derivatives = layer(tt.TaylorTensor(x)).derivatives
            # squared residuals in units of the noise: near 1 each once beta is right
            loss = sum(
                ((y - target) ** 2).mean() / s**2
                for y, target, s in zip(derivatives, observed, NOISE, strict=True)
            )
            loss.backward()
            optimizer.step()
            beta = layer.beta.item()
            error = abs(beta - TRUE_BETA)
            progress.set_postfix_str(
                f"loss {loss.item():.3f}, beta {beta:.4f}, error {error:.4f}", refresh=False
            )
    print(
        f"   beta went from {start:.4f} to {beta:.4f}; the truth is {TRUE_BETA}: "
        f"error {error:.4f}, tolerance {BETA_TOLERANCE}\n"
    )
    assert error < BETA_TOLERANCE


# --- 4. the picture -----------------------------------------------------------------------------

COLOURS = {LOOP: "#e4704f", LISTS: "#eb9f5f", NESTED: "#8a7cc9", TAYLOR: "#1f9e89"}
DERIVATIVE_COLOURS = ("#4c9be8", "#f0a030", "#4fb477")


def draw(
    layer: Exponential,
    x: torch.Tensor,
    observed: Three,
    forward: Timings,
    training: Timings,
    path: Path,
) -> None:
    plt.rcParams.update(
        {
            "font.size": 11,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": "#888888",
            "axes.titlesize": 13,
        }
    )
    figure = plt.figure(figsize=(13, 6.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.15), wspace=0.03)
    draw_derivatives(left, layer, x, observed)
    draw_times(right, forward, training)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    print(f"4. The picture: {path}")


def draw_derivatives(figure, layer: Exponential, x: torch.Tensor, observed: Three) -> None:
    grid = torch.linspace(-3, 3, 400)
    with torch.no_grad():
        trained = by_taylor(layer, grid)
    exact = closed_form(TRUE_BETA, grid)
    panels = figure.subplots(3, 1, sharex=True)
    names = ("$f$", "$f\\,'$", "$f\\,''$")
    for panel, name, colour, data, curve, truth in zip(
        panels, names, DERIVATIVE_COLOURS, observed, trained, exact, strict=True
    ):
        panel.axhline(0, color="#dddddd", linewidth=1, zorder=0)
        panel.plot(x, data, ".", color=colour, alpha=0.35, markersize=5, label="noisy data")
        panel.plot(grid, curve, color=colour, linewidth=4, label="trained layer")
        panel.plot(grid, truth, "--", color="#222222", linewidth=1.2, label="closed form")
        panel.set_ylabel(name, rotation=0, fontsize=15, labelpad=14, va="center")
        panel.set_xlim(-3, 3)
    panels[0].legend(loc="upper right", frameon=False, fontsize=10)
    panels[0].set_title(
        f"exp(−βx²) and its derivatives: β trained to {layer.beta.item():.3f}, truth {TRUE_BETA}",
        pad=12,
    )
    panels[2].set_xlabel("x")
    figure.align_ylabels(panels)


def draw_times(figure, forward: Timings, training: Timings) -> None:
    panel = figure.subplots()
    for name, colour in COLOURS.items():
        sizes = sorted(n for way, n in forward.seconds if way == name)
        seconds = [forward.seconds[name, n] for n in sizes]
        panel.plot(sizes, seconds, "o-", color=colour, linewidth=2.5, markersize=7)
    labels = {
        LOOP: "the asker's loop",
        LISTS: "the same loop,\nresults in a list",
        NESTED: "nested autograd on the whole vector",
        TAYLOR: "one TaylorTensor forward",
    }
    largest = max(n for _, n in forward.seconds)
    for name in (LOOP, LISTS):
        n = max(n for way, n in forward.seconds if way == name)
        panel.annotate(
            f"{labels[name]}\n{times(forward, name, n)} the time of Taylor",
            (n, forward.seconds[name, n]),
            xytext=(12, 0),
            textcoords="offset points",
            color=COLOURS[name],
            va="center",
        )
    # these two start at the same sizes, far below the loops: above the one, below the other
    smallest = min(n for _, n in forward.seconds)
    for name, text, offset in (
        (
            NESTED,
            f"{labels[NESTED]}\nat N = {largest:,}: {times(forward, NESTED, largest)} the time of "
            f"Taylor\n(training step: {times(training, NESTED, largest)})",
            36,
        ),
        (TAYLOR, labels[TAYLOR], -14),
    ):
        panel.annotate(
            text,
            (smallest, forward.seconds[name, smallest]),
            xytext=(-4, offset),
            textcoords="offset points",
            color=COLOURS[name],
            va="bottom" if offset > 0 else "top",
            weight="bold" if name == TAYLOR else "normal",
            # legible where a line runs through it
            path_effects=[withStroke(linewidth=3, foreground="white")],
        )
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlabel("number of samples N")
    panel.set_title("time for f, f′ and f″ of every sample", pad=12)
    panel.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.0f}"))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda s, _: duration(s)))
    panel.grid(True, color="#eeeeee")
    low, high = panel.get_ylim()
    panel.set_ylim(low / 2, high * 1.5)
    panel.minorticks_off()


def duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= 0.999 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0e} s"


# --- all of it ----------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    how_long = parser.add_mutually_exclusive_group()
    how_long.add_argument("--quick", action="store_true", help="a few seconds, for CI")
    how_long.add_argument("--full", action="store_true", help="more rounds and a million samples")
    parser.add_argument("--threads", type=int, help="threads of torch; 1 is best on a busy machine")
    parser.add_argument("--out", type=Path, help="folder for the picture (default: this one)")
    arguments = parser.parse_args()
    sizes, loop_sizes = [100, 1_000, 10_000, 100_000], [100, 1_000]
    rounds, slow_rounds, steps = 31, 3, 200
    picture = "stack_overflow.png"
    if arguments.quick:
        picture = "stack_overflow-quick.png"
        sizes, loop_sizes = [100, 1_000, 10_000], [100]
        rounds, slow_rounds, steps = 5, 2, 100
    elif arguments.full:
        picture = "stack_overflow-full.png"
        sizes = [*sizes, 1_000_000]
        rounds, slow_rounds, steps = 101, 5, 500

    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    start = time.perf_counter()
    layer = Exponential()
    check(layer, n=60)
    forward, training = compare(layer, sizes, loop_sizes, rounds, slow_rounds)
    x, observed = observe(OBSERVATIONS)
    train(layer, x, observed, steps)
    folder = arguments.out or Path(__file__).parent
    draw(layer, x, observed, forward, training, folder / picture)
    print(f"   Done in {time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    main()
