"""A sweep's folder that another `ptv2 sweep` is writing."""

from __future__ import annotations

import re
from pathlib import Path

import forked
import pytest
from commandline import Material, Ptv2, tree

from ptv2_cli.sweeps.engine import Forecast
from ptv2_cli.sweeps.engines.local import LocalEngine

# A sweep that stops where its engine would begin, until somebody closes its input.
WAITING = """
import sys
from ptv2_cli.sweeps.engines.local import LocalEngine
def run(*words):
    print("writing", flush=True)
    sys.stdin.read()
    yield
LocalEngine.run = run
from ptv2_cli.cli.app import main
main()
"""


def test_the_second_is_told_by_which_process(
    material: Material, ptv2: Ptv2, monkeypatch: pytest.MonkeyPatch
) -> None:
    material.write(Path("config.yaml"))
    with forked.begin("sweep", "--prompt-len", "2,4", code=WAITING) as other:
        assert other.stdout.readline() == "writing\n"
        (folder,) = Path("runs/sweeps").iterdir()
        before = tree(Path("runs"))
        timed: list[int] = []
        monkeypatch.setattr(LocalEngine, "forecast", lambda *words: timed.append(1) or Forecast())
        result = ptv2("sweep", "--prompt-len", "2,4", "--lanes", "2")
        told = re.sub(r"\s+", " ", result.err)
        assert result.code == 2
        assert f"error: {folder}: is being written by another process" in told
        assert f"(pid {other.pid})" in told
        assert "-> wait for it, or stop it; the same command then continues" in told
        assert "Traceback" not in told
        assert not timed  # nothing was loaded to find this out
        assert tree(Path("runs")) == before
        assert ptv2("sweep", "--prompt-len", "2,4", "--dry-run").code == 0  # it writes nothing
