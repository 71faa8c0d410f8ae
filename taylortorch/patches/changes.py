"""How something in torch is changed: a row says what, when, by what, and why."""

from __future__ import annotations

import dataclasses
import importlib.abc
import importlib.util
import sys
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from ..engine.private import private


@dataclasses.dataclass(frozen=True)
class Change:
    """One thing in torch that is replaced.

    ``make(original)`` gives what stands in the place of ``target``, a dotted path. ``when`` names a
    module that is loaded late, if ever: the change is made once it is there.
    """

    target: str
    make: Callable[[Any], Any]
    why: str
    when: str = ""

    def apply(self) -> None:
        """Make the change.

        Raises:
            MissingInTorch: this torch has no such thing.
        """
        owner, name = self.target.rsplit(".", 1)
        setattr(private(owner), name, self.make(private(self.target)))


def make(changes: Iterable[Change]) -> None:
    """Make these changes, each when the module that it waits for is loaded."""
    late: dict[str, list[Change]] = {}
    for change in changes:
        if not change.when or change.when in sys.modules:
            change.apply()
        else:
            late.setdefault(change.when, []).append(change)
    if late:
        sys.meta_path.insert(0, _WhenLoaded(late))


class _WhenLoaded(importlib.abc.MetaPathFinder):
    """Makes changes in modules as they are imported, by whomever."""

    def __init__(self, late: dict[str, list[Change]]) -> None:
        self.late = late

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> Any:
        if name not in self.late:
            return None
        changes = self.late.pop(name)
        spec = importlib.util.find_spec(name)
        loader: Any = spec.loader if spec else None
        if loader is not None:
            load = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                load(module)
                for change in changes:
                    change.apply()

            loader.exec_module = exec_module
        return spec
