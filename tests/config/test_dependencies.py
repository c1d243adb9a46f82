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
NOT_USED_BY_PTV2 = {"demo", "test", "docs", "dev"}
"""Extras whose packages ptv2 does not import; `demo` is a backbone, found by its name."""
USED_BY_OTHERS = {"accelerate", "h11", "tensorboard"}
"""Packages of extras that transformers (to read GGUF files), uvicorn and torch import."""
PARTS = {"markupsafe": "jinja2", "starlette": "fastapi"}
"""Packages that another one needs and shows to its users."""
NOT_INSTALLED = {"mlflow", "trackio", "wandb"}
"""Modules, named like their packages, that the extra `test` does not bring: they are large."""


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
    others = modules - sys.stdlib_module_names - {"ptv2_cli"} - NOT_INSTALLED
    found = names(known[module][0] for module in others)
    return NOT_INSTALLED & modules | {PARTS.get(name, name) for name in found}


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    needed = names(PROJECT["dependencies"])
    extras = PROJECT["optional-dependencies"]
    optional = names(text for extra in set(extras) - NOT_USED_BY_PTV2 for text in extras[extra])
    assert imported() == needed | (optional - USED_BY_OTHERS)
    assert not needed & optional


def test_every_dependency_has_a_tested_version() -> None:
    tested = names((ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines())
    extras = (text for texts in PROJECT["optional-dependencies"].values() for text in texts)
    assert names([*PROJECT["dependencies"], *extras]) - tested == {"ptv2"}
