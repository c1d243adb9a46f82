"""No two modules of the package import each other, directly or around corners, types included."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import ptv2_cli

ROOT = Path(ptv2_cli.__file__).parent


def imports(root: Path) -> dict[str, set[str]]:
    """Module -> modules of the package that it imports anywhere, also inside functions."""
    files = {
        ".".join(path.relative_to(root.parent).with_suffix("").parts): path
        for path in root.rglob("*.py")
        if path.name != "__init__.py"
    }
    found: dict[str, set[str]] = {}
    for module, path in files.items():
        found[module] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = {node.module, *(f"{node.module}.{item.name}" for item in node.names)}
            elif isinstance(node, ast.Import):
                names = {item.name for item in node.names}
            else:
                continue
            found[module] |= names & files.keys()
    return found


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one circle, empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_there_is_no_import_circle() -> None:
    graph = imports(ROOT)
    assert len(graph) > 100
    assert circle(graph) == []


def test_a_circle_that_only_types_make_is_found(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "one.py").write_text("from package.two import x\n")
    guarded = "if TYPE_CHECKING:\n    from package import one\n"
    (package / "two.py").write_text(f"from typing import TYPE_CHECKING\n{guarded}")
    assert {*circle(imports(package))} == {"package.one", "package.two"}
