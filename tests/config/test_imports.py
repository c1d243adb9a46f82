from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "datasets", "sklearn", "numpy", "rich", "typer")


@pytest.mark.parametrize(
    "module",
    [
        "ptv2_cli",
        "ptv2_cli.registry",
        "ptv2_cli.kinds",
        "ptv2_cli.config.load",
        "ptv2_cli.config.fingerprint",
        "ptv2_cli.methods.spec",
    ],
)
def test_no_heavy_imports(module: str) -> None:
    assert imported(f"import {module}", HEAVY) == []


@pytest.mark.parametrize(
    "line",
    [
        "from ptv2_cli.registry import METHODS; [METHODS.load(name)() for name in METHODS.names()]",
        "from ptv2_cli.setup.schema import config_schema; config_schema()",
        "from ptv2_cli.runs.resolve.resolved_config import resolve_config",
    ],
)
def test_specs_are_read_without_torch(line: str) -> None:
    assert imported(line, ("torch", "transformers", "datasets")) == []


def imported(line: str, heavy: tuple[str, ...]) -> list[str]:
    """Which of `heavy` a line of Python imports."""
    code = f"{line}\nimport sys\nprint(*(name for name in {heavy!r} if name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.split()
