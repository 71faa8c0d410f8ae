"""The walls of the house: who may import whom, know what, and how large a room may be."""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import taylortorch as tt

ROOT = Path(tt.__file__).parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in sorted(ROOT.rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}

# wing: the wings that it may import
WINGS: dict[str, set[str]] = {
    "algebra": set(),
    "engine": {"algebra"},
    "rules": {"algebra", "engine"},
    "patches": {"algebra", "engine"},
    "operators": {"algebra", "engine"},
    "func": {"algebra", "engine", "operators"},
    "extend": {"algebra", "engine", "patches"},
    "testing": {"algebra", "engine", "extend", "operators"},
    "integrations": {"algebra", "engine", "operators"},
    "distributed": {"engine", "func"},
    "integrate": {"algebra", "engine"},
    "polynomials": {"algebra", "engine"},
}
PRIVATE = "engine.private"
LINES, LINES_OF_A_FUNCTION, ROOMS_AT_THE_TOP = 700, 80, 12


def wing(module: str) -> str:
    return module.split(".")[0]


def package(module: str) -> list[str]:
    return module.split(".")[:-1]


def imported(module: str) -> Iterator[tuple[ast.stmt, str]]:
    """The package's own modules that a module imports."""
    for node in ast.walk(TREES[module]):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = package(module)[: len(package(module)) - node.level + 1]
        target = ".".join([*base, *([node.module] if node.module else [])])
        for alias in node.names:
            inside = f"{target}.{alias.name}" if target else alias.name
            for candidate in (inside, f"{inside}.__init__", target, f"{target}.__init__"):
                if candidate in MODULES:
                    yield node, candidate
                    break


def foreign(module: str) -> Iterator[tuple[str, str]]:
    """The names that a module takes from other packages: what it calls them, their full path."""
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name.split(".")[0], alias.name
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def own_attributes() -> set[str]:
    """The underscored attributes that this package defines itself."""
    found: set[str] = set()
    for tree in TREES.values():
        for node in ast.walk(tree):
            stored = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
            if stored and ast.unparse(node.value) == "self":
                found.add(node.attr)
            if isinstance(node, ast.ClassDef):
                for item in node.body:
                    if isinstance(item, ast.FunctionDef):
                        found.add(item.name)
                    elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                        found.add(item.target.id)
                    elif isinstance(item, ast.Assign):
                        found |= {n.id for n in item.targets if isinstance(n, ast.Name)}
    return {name for name in found if is_private(name)}


OWN = own_attributes()
TENSORS = set(dir(torch.Tensor))

# --- who knows whom -------------------------------------------------------------------------------


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module: str) -> None:
    if module in ("__init__", "__main__"):
        return
    for node, target in imported(module):
        assert node in TREES[module].body, "an import inside a function hides a circle"
        assert wing(target) in {wing(module)} | WINGS[wing(module)], f"{module} imports {target}"


def test_no_circles() -> None:
    own = {module: {target for _, target in imported(module)} for module in MODULES}
    tuple(graphlib.TopologicalSorter(own).static_order())


@pytest.mark.parametrize("beside", ["accuracy", "benchmarks"])
def test_no_circles_beside_the_package(beside: str) -> None:
    """Imports in functions, and modules imported by a name in a string, count as well."""
    graph: dict[str, set[str]] = {}
    for path in (ROOT.parent / beside).glob("*.py"):
        text = path.read_text()
        own = set(re.findall(rf"[\"']{beside}\.(\w+)[\"']", text))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.level:
                own |= {node.module} if node.module else {alias.name for alias in node.names}
        graph[path.stem] = own
    graphlib.TopologicalSorter(graph).prepare()


def test_every_wing_has_a_floor() -> None:
    assert {wing(module) for module in MODULES} - {"__init__", "__main__"} == set(WINGS)


@pytest.mark.parametrize("module", [m for m in MODULES if wing(m) == "rules"])
def test_rules_do_not_import_each_other(module: str) -> None:
    if module == "rules.__init__":
        return
    room = package(module)
    for _, target in imported(module):
        same_room = len(room) > 1 and package(target) == room
        assert wing(target) != "rules" or same_room or target == "rules.bodies", target


@pytest.mark.parametrize("module", [m for m in MODULES if wing(m) == "algebra"])
def test_the_algebra_is_free_of_tensors(module: str) -> None:
    assert not {path.split(".")[0] for _, path in foreign(module)} & {"torch", "numpy"}


# --- what is known of torch -----------------------------------------------------------------------

# what blocks are made of, joined by and moved with, in the engine as in any code on tensors; the
# engine knows no other function of torch, and of none of these what its rule is
VOCABULARY = {"broadcast_to", "diag_embed", "matmul", "ones_like", "stack", "where", "zeros_like"}


def functions_of_torch() -> set[str]:
    spaces = (torch, torch.nn.functional, torch.special, torch.linalg, torch.fft)
    overridable = torch.overrides.get_overridable_functions()
    known = {id(f) for functions in overridable.values() for f in functions}
    return {name for space in spaces for name, f in vars(space).items() if id(f) in known}


FUNCTIONS = functions_of_torch()


def path_of(node: ast.AST, names: dict[str, str]) -> list[str]:
    """The dotted path of an attribute, from the name that it begins with, where that is foreign."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name) and node.id in names:
        return [*names[node.id].split("."), *reversed(parts)]
    return []


@pytest.mark.parametrize("module", [m for m in MODULES if wing(m) == "engine"])
def test_the_engine_names_no_function(module: str) -> None:
    names, named = dict(foreign(module)), set()
    documentation = {
        node.body[0].value
        for node in ast.walk(TREES[module])
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(TREES[module]):
        path = path_of(node, names)
        if path[:1] == ["torch"] and path[-1] in FUNCTIONS:
            named.add(path[-1])
        if isinstance(node, ast.Constant) and node not in documentation:
            text = str(node.value)
            assert "aten::" not in text, text
    assert named <= VOCABULARY, named - VOCABULARY


@pytest.mark.parametrize("module", [m for m in MODULES if m != PRIVATE])
def test_private_names_of_torch_are_read_in_one_place(module: str) -> None:
    names = dict(foreign(module))
    for path in names.values():
        assert path.split(".")[0] != "torch" or not any(map(is_private, path.split("."))), path
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            inside = path_of(node, names)[:1] == ["torch"]
            # an integration may read what its own host does not promise
            known = node.attr in OWN - TENSORS or wing(module) == "integrations"
            known = known and node.attr not in TENSORS and not inside
            assert known, f"line {node.lineno}: {ast.unparse(node)}"
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            is_module = node.value.startswith("torch.") and " " not in node.value
            if wing(module) not in ("rules", "patches"):
                assert not (is_module and "._" in node.value), node.value


@pytest.mark.parametrize("module", [m for m in MODULES if wing(m) != "patches"])
def test_torch_is_changed_in_one_place(module: str) -> None:
    names = {name: path for name, path in foreign(module) if path.split(".")[0] == "torch"}
    for node in ast.walk(TREES[module]):
        targets: list[ast.AST] = []
        if isinstance(node, ast.Assign):
            targets = list(node.targets)
        elif isinstance(node, (ast.AugAssign, ast.AnnAssign)):
            targets = [node.target]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("setattr", "delattr"):
            targets = [node.args[0]]
        for target in targets:
            if isinstance(target, ast.Name):
                continue
            while isinstance(target, (ast.Attribute, ast.Subscript, ast.Call)):
                if isinstance(target, ast.Call):
                    target = target.args[0] if target.args else target.func
                else:
                    target = target.value
            changed = isinstance(target, ast.Name) and target.id in names
            assert not changed, f"line {node.lineno}: {ast.unparse(node)}"


# --- how large a room may be ----------------------------------------------------------------------


@pytest.mark.parametrize("module", MODULES)
def test_rooms_are_small(module: str) -> None:
    assert len(MODULES[module].read_text().splitlines()) <= LINES
    for node in ast.walk(TREES[module]):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < LINES_OF_A_FUNCTION, node.name


def test_few_rooms_at_the_top() -> None:
    assert len({wing(module) for module in MODULES} - {"__init__", "__main__"}) <= ROOMS_AT_THE_TOP
