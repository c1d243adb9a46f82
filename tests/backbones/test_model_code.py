"""What a command does and does not do while it imports libraries, and at its end."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from ptv2_cli.cli import app
from ptv2_cli.importing import uncollected

WATCH = """
import gc, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in {names!r}:
            print(name, gc.isenabled())

sys.meta_path.insert(0, Watch())
import ptv2_cli.runs.trainer
print(gc.get_freeze_count() > 100_000, gc.isenabled(), "scipy.stats" in sys.modules)
"""


def test_no_garbage_is_looked_for_while_transformers_is_imported() -> None:
    names = ("transformers.modeling_utils", "torch._dynamo")
    code = WATCH.format(names=names)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    *imported, after = done.stdout.splitlines()
    assert sorted(imported) == ["torch._dynamo False", "transformers.modeling_utils False"]
    assert after == "True True False"


def test_an_import_that_fails_leaves_the_collector_on(monkeypatch: pytest.MonkeyPatch) -> None:
    states: list[bool] = []
    freezes: list[None] = []
    monkeypatch.setattr(gc, "freeze", lambda: freezes.append(None))

    @uncollected()
    def fail() -> None:
        states.append(gc.isenabled())
        raise ImportError

    with pytest.raises(ImportError):
        fail()
    assert states == [False]
    assert gc.isenabled()
    assert not freezes


def test_the_end_of_a_command_looks_through_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(app.gc, "freeze", lambda: calls.append("freeze"))
    monkeypatch.setattr(app, "run", lambda arguments, debug: calls.append("run") or 0)
    with pytest.raises(SystemExit):
        app.main()
    assert calls == ["run", "freeze"]


LATER = ("scipy", "torchao", "sklearn", "datasets", "pyarrow", "pandas", "evaluate", "seqeval")
"""Imported at the first evaluation, or by other tasks and settings, or never."""


def test_training_starts_without_what_it_does_not_use() -> None:
    code = f"""
import sys
import ptv2_cli.runs.trainer
print([name for name in {LATER!r} if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout.split("\n")[-2] == "[]"


def test_packages_that_were_left_out_are_there_afterwards() -> None:
    code = (
        "import ptv2_cli.runs.trainer; from transformers import utils; "
        "from transformers.loss import loss_for_object_detection as losses; "
        "print(utils.is_scipy_available(), losses.is_scipy_available())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout.split() == ["True", "True"]
