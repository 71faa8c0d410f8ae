"""Which module may import which: the engine is built in floors, and nothing reaches up."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "taylortorch"

ALLOWED: dict[str, set[str]] = {
    "structures": set(),
    "series": {"structures"},
    "registry": set(),
    "lifts": set(),
    "bodies": set(),
    "tensor": {"registry", "structures"},
    "members": {"tensor"},
    "writing": {"registry", "tensor"},
    "kinds": {"series", "structures", "registry", "tensor", "writing", "lifts"},
    "variables": {"structures", "tensor"},
    "extend": {"kinds", "members", "registry", "tensor"},
    "rules": {"bodies", "kinds", "lifts", "registry", "tensor", "writing", "series", "structures"},
    "__init__": {"rules", "extend", "registry", "tensor", "variables"},
}
WITHOUT_TORCH = {"structures", "series"}


def imports(path: Path) -> tuple[set[str], set[str], bool]:
    """The package's modules and the top-level packages a file imports; whether in a function."""
    own, foreign, nested = set(), set(), False
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            parts = [node.module] if node.module else [alias.name for alias in node.names]
            own |= {part.split(".")[0] for part in parts}
        elif isinstance(node, ast.ImportFrom):
            foreign.add(str(node.module).split(".")[0])
        elif isinstance(node, ast.Import):
            foreign |= {alias.name.split(".")[0] for alias in node.names}
        else:
            continue
        nested = nested or node not in tree.body
    return own, foreign, nested


FILES = sorted(PACKAGE.glob("*.py")) + sorted((PACKAGE / "rules").glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    own, foreign, nested = imports(path)
    assert not nested, "an import inside a function hides a cycle"
    inside_rules = path.parent.name == "rules"
    floor = "rules" if inside_rules else path.stem
    if inside_rules and path.stem == "__init__":
        return
    assert own <= ALLOWED[floor], f"{path.name} imports {own - ALLOWED[floor]}"
    if floor in WITHOUT_TORCH:
        assert "torch" not in foreign, "the algebra is free of torch"
