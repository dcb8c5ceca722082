"""The shape of the code: imports point down only, nothing below the command line talks, functions stay short."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "stemforge"
LAYERS = (
    {"errors", "types"},
    {"audio", "devices", "hub", "remembered", "storage"},
    {"models", "tables"},
    {"inference", "wheels"},
    {"separators"},
    {"checkpoints", "convert", "tasks", "train", "data"},
    {"embedders", "flows", "prompts", "report"},
    {"ui"},
    {"cli"},
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
BESIDE = {("train", "data")}  # of one layer, and still allowed: the trainer reads what was rendered
MOST_LINES = 50
MODULES = sorted(path for path in SRC.rglob("*.py") if "vendor" not in path.parts)


def name_of(path: Path) -> str:
    return str(path.relative_to(SRC))


def layer_of(path: Path) -> str:
    return path.relative_to(SRC).with_suffix("").parts[0]


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names of all imports, those inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_every_module_has_a_layer() -> None:
    """A new folder or file must be given its place among the layers."""
    assert {layer_of(path) for path in MODULES} - {"__init__", "__main__"} <= set(LEVEL)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_down(path: Path) -> None:
    """A module imports from its own folder and from the layers below it."""
    layer = layer_of(path)
    if layer in ("__init__", "__main__"):
        return
    for name in imported(parse(path)):
        top, _, rest = name.partition(".")
        if top != "stemforge" or not rest or rest.split(".")[0] not in LEVEL:
            continue
        other = rest.split(".")[0]
        allowed = other == layer or LEVEL[other] < LEVEL[layer] or (layer, other) in BESIDE
        assert allowed, f"{name_of(path)} imports {name}"


def test_no_files_import_each_other() -> None:
    """Not inside a folder either, not lazily and not for types alone: every file can be read after those it needs."""
    files = {".".join(("stemforge", *path.relative_to(SRC).with_suffix("").parts)): path for path in MODULES}
    needs = {
        name: {
            other for found in imported(parse(path)) for other in (found, found.rpartition(".")[0]) if other in files
        }
        for name, path in files.items()
    }
    TopologicalSorter({name: others - {name} for name, others in needs.items()}).prepare()


@pytest.mark.parametrize("path", [p for p in MODULES if layer_of(p) != "cli"], ids=name_of)
def test_only_the_command_line_talks(path: Path) -> None:
    """Below cli there is no typer, no rich, no print, no sys.argv and no exit."""
    tree = parse(path)
    if layer_of(path) != "__main__":
        assert not {name.split(".")[0] for name in imported(tree)} & {"typer", "rich", "click", "argparse"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"print", "input", "exit"}, f"line {node.lineno}"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sys":
            assert node.attr not in {"argv", "exit", "stdout", "stderr"}, f"line {node.lineno}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_click_is_never_imported(path: Path) -> None:
    """Typer brings its own click; another one would only be there by accident."""
    assert "click" not in {name.split(".")[0] for name in imported(parse(path))}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_functions_are_short(path: Path) -> None:
    """No function has more than 50 lines, its decorators, signature and docstring left out."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            assert length <= MOST_LINES, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_commands_are_thin(path: Path) -> None:
    """A command reads, loads, runs and writes: at most 15 lines of body."""
    for node in parse(path).body:
        if layer_of(path) == "cli" and isinstance(node, ast.FunctionDef) and is_command(node):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            assert sum(statement.end_lineno - statement.lineno + 1 for statement in body) <= 15, node.name


def is_command(node: ast.FunctionDef) -> bool:
    """Options are written as Annotated[..., typer.Option(...)] or typer.Argument."""
    return any("typer." in ast.unparse(arg.annotation) for arg in node.args.args if arg.annotation)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_files_are_short(path: Path) -> None:
    """No file has more than 400 lines."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
