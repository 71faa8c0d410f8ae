"""Everything that is changed in torch, and nowhere else: the rows of one table."""

from ..engine.registry import RULES
from . import dynamo, overridable, vmap, wrapped
from .changes import Change, make
from .members import give_members
from .probes import warn_of_newer

CHANGES: tuple[Change, ...] = (
    *overridable.CHANGES,
    *vmap.CHANGES,
    *wrapped.CHANGES,
    *dynamo.CHANGES,
)


def install() -> None:
    """Change torch, once all rules are there."""
    warn_of_newer()
    give_members(RULES)
    make(CHANGES)


__all__ = ["CHANGES", "Change", "install"]
