"""Completion: names and keys, through the shell's own protocol, without torch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ptv2_cli.cli import complete
from ptv2_cli.registry import METHODS
from ptv2_cli.setup.packaged_files import shipped_names
from ptv2_cli.tasks.catalog import task_names

ROOT = Path(__file__).parents[2]
CODE = (
    "import sys; sys.argv = ['ptv2']; from ptv2_cli.cli.app import main\n"
    "try: main()\n"
    "finally:\n"
    "    heavy = {'torch', 'transformers', 'numpy', 'datasets'} & set(sys.modules)\n"
    "    assert not heavy, heavy\n"
)


def completed(line: str) -> list[str]:
    """What zsh would be offered for a line that ends at the cursor."""
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "_PTV2_COMPLETE": "complete_fish",
             "_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    )  # fmt: skip
    assert "Error" not in done.stderr, done.stderr
    return [text.split("\t")[0] for text in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("ptv2 list me", ["methods"]),
        ("ptv2 init quick", ["quickstart"]),
        ("ptv2 eval --split t", ["train", "test"]),
        ("ptv2 train --set train.sch", ["train.schedule="]),
        ("ptv2 train --set train.schedule=", ["train.schedule=linear", "train.schedule=cosine",
                                              "train.schedule=constant",
                                              "train.schedule=exponential"]),
        ("ptv2 check --set method=prompt", ["method=prompt_tuning"]),
        ("ptv2 train --set task=superglue/r", ["task=superglue/rte"]),
        ("ptv2 train --set method.repa", ["method.reparam=", "method.reparam_hidden="]),
        ("ptv2 train --set task.null", ["task.null_threshold="]),
        ("ptv2 train --unset train.ep", ["train.epochs"]),
    ],
)  # fmt: skip
def test_through_the_shell(line: str, offered: list[str]) -> None:
    assert set(offered) <= set(completed(line))


def test_the_names_are_all_there() -> None:
    methods = [value.partition("=")[2] for value, _ in complete.settings("method=")]
    assert methods == METHODS.spellings()
    tasks = [value.partition("=")[2] for value, _ in complete.settings("task=")]
    assert tasks == task_names()
    assert [value for value, _ in complete.configs("")] == shipped_names()


def test_a_whole_key_shows_its_values() -> None:
    shown = [value for value, _ in complete.settings("train.precision")]
    assert shown == ["train.precision=fp32", "train.precision=bf16", "train.precision=fp16",
                     "train.precision="]  # fmt: skip


def test_without_the_schema_nothing_breaks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from ptv2_cli.setup import packaged_files

    complete._keys.cache_clear()
    monkeypatch.setattr(packaged_files, "schema_file", lambda: tmp_path / "absent.json")
    assert complete.keys("train") == []
    complete._keys.cache_clear()


def test_in_bash(tmp_path: Path) -> None:
    """The script that --show-completion prints, in a real bash."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    (tmp_path / "ptv2").write_text(f"#!{sys.executable}\n{CODE.replace(chr(34), chr(39))}")
    (tmp_path / "ptv2").chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SHELL": bash,
                   "PATH": f"{tmp_path}:{os.environ['PATH']}"}  # fmt: skip
    script = subprocess.run(
        [sys.executable, "-c", "from typer.completion import get_completion_script as s;"
         "print(s(prog_name='ptv2', complete_var='_PTV2_COMPLETE', shell='bash'))"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    ask = (
        f"{script}\nCOMP_WORDS=(ptv2 train --set train.war); COMP_CWORD=3\n"
        '_ptv2_completion ptv2 train.war --set; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run([bash, "-c", ask], capture_output=True, text=True, env=environment)
    assert done.stdout.split() == ["train.warmup="]
