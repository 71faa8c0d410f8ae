"""What the package is held to: ratios, and whether the latest run meets them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .ways import FORWARD, PLAIN, STEPS, TRAINING
from .workloads import NESTED, TAYLOR, TAYLOR_COMPILED

Results = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """``quantity`` of ``over`` divided by that of ``under`` is at most, or at least, ``bound``.

    It is met when every size that ``where`` selects meets it. ``per`` divides the ratio by
    something that depends on the size.
    """

    workload: str
    text: str
    over: str
    under: str
    bound: float
    at_most: bool = False
    steps: tuple[str, ...] = (FORWARD,)
    where: Callable[[dict[str, Any]], bool] = lambda sizes: True
    quantity: str = "median"
    per: Callable[[dict[str, Any]], float] = lambda sizes: 1.0

    def ratios(self, results: Results, quantity: str | None = None) -> Iterator[float]:
        """The ratio at each size at which both contenders were measured."""
        quantity = quantity or self.quantity
        for case in results.get(self.workload, {}).get("cases", ()):
            if self.where(case["sizes"]):
                for step in self.steps:
                    measured = case["steps"].get(step, {})
                    top, bottom = (
                        measured.get(name, {}).get(quantity) for name in (self.over, self.under)
                    )
                    if top and bottom:
                        yield top / bottom / self.per(case["sizes"])

    def met(self, ratio: float) -> bool:
        """Whether a ratio is within the bound."""
        return ratio <= self.bound if self.at_most else ratio >= self.bound


def _large(width: int | None = None) -> Callable[[dict[str, Any]], bool]:
    def where(sizes: dict[str, Any]) -> bool:
        return sizes["batch"] >= 1_000 and (width is None or sizes.get("width") == width)

    return where


def _of_order(order: int) -> Callable[[dict[str, Any]], bool]:
    return lambda sizes: sizes["order"] == order


def _network(sizes: dict[str, Any]) -> bool:
    return sizes["batch"] >= 1_000 and "width" in sizes


def _at_least(
    workload: str, text: str, over: str, eager: float | None, compiled: float | None, **more: Any
) -> list[Target]:
    """Faster than ``over`` by a factor, in eager mode and compiled."""
    pairs = [("eager", TAYLOR, eager), ("compiled", TAYLOR_COMPILED, compiled)]
    return [
        Target(workload, f"{text}, {mode}", over, under, bound, **more)
        for mode, under, bound in pairs
        if bound is not None
    ]


def _at_most(
    workload: str, text: str, under: str, eager: float | None, compiled: float | None, **more: Any
) -> list[Target]:
    """No more than a multiple of ``under``, in eager mode and compiled."""
    pairs = [("eager", TAYLOR, eager), ("compiled", TAYLOR_COMPILED, compiled)]
    return [
        Target(workload, f"{text}, {mode}", over, under, bound, at_most=True, **more)
        for mode, over, bound in pairs
        if bound is not None
    ]


_LATER: dict[str, Any] = {"per": lambda sizes: sizes["order"] + 1}
TARGETS: list[Target] = [
    *_at_most("a", "forward / plain, width 64, batch >= 1,000", PLAIN, 2.6, 1.9, where=_large(64)),
    *_at_most("a", "forward / plain, width 256, batch >= 1,000", PLAIN, 3, 1.9, where=_large(256)),
    *_at_most(
        "a",
        "training step / plain, networks, batch >= 1,000",
        PLAIN,
        3.0,
        2.2,
        steps=(TRAINING,),
        where=_network,
    ),
    *_at_least("a", "nested autograd / Taylor, both steps, every size", NESTED, 1, 1, steps=STEPS),
    *_at_least(
        "a",
        "nested autograd / Taylor, both steps, batch >= 1,000",
        NESTED,
        1.4,
        2,
        steps=STEPS,
        where=_large(),
    ),
    *_at_most("b", "forward / plain / (K + 1), every order K", PLAIN, 1.5, 1.0, **_LATER),
    *(
        target
        for order, eager, compiled in ((2, 1.3, 2), (3, 2, 3), (4, 4, 6))
        for target in _at_least(
            "c",
            f"training step, nested autograd / Taylor, order {order}",
            NESTED,
            eager,
            compiled,
            steps=(TRAINING,),
            where=_of_order(order),
        )
    ),
    *_at_least("d", "forward, torch-jet collapsed / Taylor", "torch-jet collapsed", 1.1, None),
    Target(
        "d",
        "forward, torch-jet collapsed compiled / Taylor, compiled",
        "torch-jet collapsed compiled",
        TAYLOR_COMPILED,
        1.2,
    ),
    *_at_least("d", "forward, vmap(hvp) / Taylor", "vmap(hvp)", 2, None),
    *_at_least("d", "forward, vmap(hessian) / Taylor", "vmap(hessian)", 2, None),
    *_at_most(
        "d", "forward, memory, Taylor / vmap(hvp)", "vmap(hvp)", 0.45, None, quantity="bytes"
    ),
    *_at_most(
        "d",
        "forward, memory, Taylor / vmap(hessian)",
        "vmap(hessian)",
        0.45,
        None,
        quantity="bytes",
    ),
    *_at_least("d", "forward, folx under jit / Taylor", "folx (jit)", None, 1.0),
    *_at_least(
        "e",
        "forward, exact, vmap(hessian(hessian)) / Taylor",
        "vmap(hessian(hessian))",
        4,
        6,
        where=lambda sizes: sizes["how"] == "exact",
    ),
    *_at_least(
        "f",
        "forward, batch 1, nested autograd / Taylor",
        NESTED,
        1.3,
        3,
        where=lambda sizes: sizes["batch"] == 1,
    ),
    *_at_most(
        "a",
        "training step, memory, Taylor / nested autograd, batch >= 1,000",
        NESTED,
        0.7,
        0.6,
        steps=(TRAINING,),
        where=_large(),
        quantity="bytes",
    ),
]
