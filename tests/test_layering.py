"""Which module may import which: the engine is built in floors, and nothing reaches up."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "taylortorch"

ALLOWED: dict[str, set[str]] = {
    "structures": set(),
    "streams": set(),
    "series": {"streams", "structures"},
    "registry": set(),
    "lifts": set(),
    "bodies": set(),
    "tensor": {"registry", "streams", "structures"},
    "members": {"tensor"},
    "writing": {"registry", "streams", "tensor"},
    "adjoints": {"structures"},
    "kinds": {
        "adjoints",
        "series",
        "streams",
        "structures",
        "registry",
        "tensor",
        "writing",
        "lifts",
    },
    "variables": {"structures", "tensor"},
    "operators": {"structures", "tensor", "variables"},
    "directions": {"structures", "tensor"},
    "func": {"directions", "structures", "tensor", "variables"},
    "distributed": {"func", "registry", "rules", "tensor", "writing"},
    "extend": {"kinds", "lifts", "members", "registry", "tensor"},
    "oracles": {"tensor"},
    "testing": {"extend", "oracles", "registry", "structures", "tensor", "variables"},
    "rules": {
        "adjoints",
        "bodies",
        "directions",
        "kinds",
        "lifts",
        "registry",
        "series",
        "streams",
        "structures",
        "tensor",
        "writing",
    },
    "integrate": {"streams", "tensor"},
    "polynomials": {"kinds", "series", "structures", "tensor"},
    "__init__": {
        "distributed",
        "extend",
        "func",
        "integrate",
        "operators",
        "polynomials",
        "registry",
        "rules",
        "tensor",
        "testing",
        "variables",
    },
    "__main__": set(),
}
WITHOUT_TORCH = {"structures", "series", "streams"}


def imports(path: Path) -> tuple[set[str], set[str], bool]:
    """The package's modules and the top-level packages a file imports; whether some of its own
    modules in a function."""
    own, foreign, nested = set(), set(), False
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            parts = [node.module] if node.module else [alias.name for alias in node.names]
            own |= {part.split(".")[0] for part in parts}
            nested = nested or node not in tree.body
        elif isinstance(node, ast.ImportFrom):
            foreign.add(str(node.module).split(".")[0])
        elif isinstance(node, ast.Import):
            foreign |= {alias.name.split(".")[0] for alias in node.names}
    return own, foreign, nested


ROOMS = ("rules", "func")
FILES = [path for room in ("", *ROOMS) for path in sorted((PACKAGE / room).glob("*.py"))]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    own, foreign, nested = imports(path)
    assert not nested, "an import inside a function hides a cycle"
    room = path.parent.name if path.parent.name in ROOMS else None
    floor = room or path.stem
    if room and path.stem == "__init__":
        return
    if room == "func":
        # the transforms share how a function is evaluated; rules do not import each other
        own -= {file.stem for file in path.parent.glob("*.py")}
    assert own <= ALLOWED[floor], f"{path.name} imports {own - ALLOWED[floor]}"
    if floor in WITHOUT_TORCH:
        assert "torch" not in foreign, "the algebra is free of torch"
