from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "datasets", "sklearn", "numpy", "rich", "typer")


@pytest.mark.parametrize(
    "module",
    ["ptv2_cli", "ptv2_cli.registry", "ptv2_cli.config.load", "ptv2_cli.config.fingerprint"],
)
def test_no_heavy_imports(module: str) -> None:
    code = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
