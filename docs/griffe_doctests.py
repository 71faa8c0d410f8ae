"""For the API pages: the code in docstrings as blocks of code. mkdocs.yml names this file."""

from __future__ import annotations

import re
from typing import Any

import griffe

# two colons announce an indented block of code; Markdown needs none
ANNOUNCED = re.compile(r"::$", re.M)
# an example begins with a prompt and goes on to the next empty line
EXAMPLE = re.compile(r"^>>> .*(?:\n.+)*", re.M)


class Doctests(griffe.Extension):
    """Put fences around examples, which griffe only does in a section of that name."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called for each module, class, function and attribute."""
        if obj.docstring is not None:
            text = ANNOUNCED.sub(":", obj.docstring.value)
            obj.docstring.value = EXAMPLE.sub(lambda found: f"```pycon\n{found[0]}\n```", text)
