"""How something in torch is changed: a row says what, when, by what, and why."""

from __future__ import annotations

import dataclasses
import importlib.abc
import importlib.util
import sys
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from ..engine.private import MissingInTorch, private


@dataclasses.dataclass(frozen=True)
class Change:
    """One thing in torch that is replaced.

    ``make(original)`` gives what stands in the place of ``target``, a dotted path. ``when`` names a
    module that is loaded late, if ever: the change is made once it is there. ``optional``: not
    every torch has it, and one that has not needs no change.
    """

    target: str
    make: Callable[[Any], Any]
    why: str
    when: str = ""
    optional: bool = False

    def prepared(self) -> tuple[Any, str, Any]:
        """The owner, the name, and what is to stand there.

        Raises:
            MissingInTorch: this torch has no such thing.
        """
        owner, name = self.target.rsplit(".", 1)
        return private(owner), name, self.make(private(self.target))


MISSING: list[str] = []
"""What could not be changed where it was loaded late, for whoever is asked to do without."""


def make(changes: Iterable[Change]) -> None:
    """Make these changes, each when the module that it waits for is loaded."""
    late: dict[str, list[Change]] = {}
    for change in changes:
        if change.when:
            late.setdefault(change.when, []).append(change)
        else:
            setattr(*change.prepared())
    for module in [name for name in late if name in sys.modules]:
        _make_late(late.pop(module))
    if late:
        sys.meta_path.insert(0, _WhenLoaded(late))


def _make_late(changes: Iterable[Change]) -> None:
    """Changes of one module: whoever loads it may do without them, and is told when not."""
    prepared = []
    for change in changes:
        try:
            prepared.append(change.prepared())
        except MissingInTorch as missing:
            if not change.optional:
                MISSING.append(str(missing))
    for owner, name, new in prepared:
        setattr(owner, name, new)


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
                _make_late(changes)

            loader.exec_module = exec_module
        return spec
