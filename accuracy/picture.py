"""docs/accuracy.png: how errors grow with the degree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .high_order import HIGH

LABELLED = ("exp", "tanh", "tanh network", "gelu", "bessel_j0", "erfcx", "log_ndtr", "sinc")


def draw_errors(errors: Mapping[str, tuple[Sequence[float], Sequence[float]]], path: Path) -> None:
    """Both kinds of error of each function, by degree."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    style: Any = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
    colours = dict(zip(LABELLED, map(pyplot.colormaps["tab10"], range(10)), strict=False))
    with pyplot.rc_context(style):
        figure, panels = pyplot.subplots(1, 2, figsize=(11, 4.6), sharey=True, layout="constrained")
        titles = ("relative to its scale (Cauchy's estimate)", "relative to $|c_k|$")
        degrees = range(HIGH + 1)
        for panel, which, title in zip(panels, (1, 0), titles, strict=True):
            for name, both in errors.items():
                heights = [max(e, 0.1) for e in both[which]]
                marked = name in colours
                panel.plot(
                    degrees,
                    heights,
                    color=colours.get(name, "0.78"),
                    linewidth=1.8 if marked else 1.0,
                    zorder=2 if marked else 1,
                    label=name if marked else None,
                )
            panel.set_yscale("log")
            panel.set_xticks(range(0, HIGH + 1, 4))
            panel.set_xlabel("degree k")
            panel.set_title(title, fontsize=11, loc="left")
            panel.grid(axis="y", color="0.9", linewidth=0.6)
        others = f"{len(errors) - len(colours)} others"
        panels[0].plot([], [], color="0.78", linewidth=1.0, label=others)
        panels[0].set_ylabel(r"largest error of $c_k$, in multiples of $2^{-52}$")
        # in the order in which the lines end
        handles, names = panels[0].get_legend_handles_labels()
        ends = [errors[name][1][HIGH] if name in errors else 0 for name in names]
        order = sorted(range(len(names)), key=lambda n: -ends[n])
        panels[0].legend(
            [handles[n] for n in order],
            [names[n] for n in order],
            frameon=False,
            fontsize=9,
            loc="upper left",
        )
        figure.savefig(path, dpi=130, facecolor="white")
