"""What the package imports is what pyproject.toml declares."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
USED_BY_PTV2 = ("gguf", "peft", "plots", "quantize", "xlsx")
"""The extras whose packages ptv2 imports itself; `demo` is a backbone, found by its name."""
USED_BY_TRANSFORMERS = {"accelerate"}
"""Packages of these extras that transformers imports, to read GGUF files."""


def names(requirements: Iterable[str]) -> set[str]:
    found = (re.match(r"[\w.-]+", text) for text in requirements)
    return {re.sub(r"[-_.]+", "-", match[0]).lower() for match in found if match}


def imported() -> set[str]:
    modules: set[str] = set()
    for path in (ROOT / "ptv2_cli").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules.add(node.module.partition(".")[0])
    known = packages_distributions()
    others = modules - sys.stdlib_module_names - {"ptv2_cli"}
    return names(known[module][0] for module in others)


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    needed = names(PROJECT["dependencies"])
    optional = names(
        text for extra in USED_BY_PTV2 for text in PROJECT["optional-dependencies"][extra]
    )
    assert imported() == needed | (optional - USED_BY_TRANSFORMERS)
    assert not needed & optional


def test_every_dependency_has_a_tested_version() -> None:
    tested = names((ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines())
    extras = (text for texts in PROJECT["optional-dependencies"].values() for text in texts)
    assert names([*PROJECT["dependencies"], *extras]) - tested == {"ptv2"}
