"""Results that are kept, of functions that are traced too."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])


def _never() -> bool:
    return False


tracing: Callable[[], bool] = _never
"""Whether a compiler traces this code; set by those who know of one."""


def memoised(function: _F) -> _F:
    """Call the function once for the same arguments, and once for each trace.

    torch's compiler warns of ``functools.cache`` and traces the function behind it.
    """
    kept = functools.lru_cache(4096)(function)

    @functools.wraps(function)
    def result(*arguments: Any) -> Any:
        return function(*arguments) if tracing() else kept(*arguments)

    return result  # type: ignore[return-value]
