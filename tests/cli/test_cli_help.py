"""`ptv2 --help`, `ptv2 list`, the version: complete, narrow, quick."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from commandline import Ptv2

from ptv2_cli import __version__
from ptv2_cli.cli.app import app
from ptv2_cli.registry import METHODS

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
START = "import sys; from ptv2_cli.cli.app import main; sys.argv = ['ptv2', '--help']\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_help(ptv2: Ptv2, command: str) -> None:
    result = ptv2(command, "--help")
    assert result.code == 0
    text = " ".join(result.out.split())
    assert text.startswith(f"Usage: ptv2 {command} [OPTIONS]")
    for parameter in COMMANDS[command].params:
        assert parameter.help, parameter.name
        assert " ".join(parameter.help.split()) in text
        if parameter.param_type_name == "option":
            assert all(f" {name} " in text for name in parameter.opts)
    assert "[[" not in text
    assert max(map(len, result.out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (
            "train",
            "--prompt-len --lr --seed --epochs --batch-size --set --unset --resume "
            "--output --device --threads --offline --dry-run",
        ),
        (
            "sweep",
            "--prompt-len --lr --seed --epochs --batch-size --grid --set --unset "
            "--output --device --threads --offline --dry-run",
        ),
        ("eval", "--split --data --json --device --threads --offline"),
        ("predict", "--run --output --format --skip-bad --batch-size --device --threads --offline"),
        (
            "serve",
            "--run --host --port --token-file --add-from --max-batch --max-wait-ms --max-queue "
            "--max-rows --max-chars --max-body --timeout --client-timeout --drain --device "
            "--threads --offline",
        ),
        ("import", "--from --config --device --threads --offline"),
        ("export", "--to --threads --offline"),
        ("report", "--format --metric --split --detail --plots"),
        ("compare", "--split --metric --show --json"),
        ("check", "--show --set --unset --prompt-len --lr --seed --epochs --batch-size --offline"),
    ],
)
def test_the_options_that_are_promised(ptv2: Ptv2, command: str, options: str) -> None:
    text = ptv2(command, "--help").out
    assert [name for name in options.split() if f"{name} " not in text] == []


def test_the_commands(ptv2: Ptv2) -> None:
    result = ptv2("--help")
    assert result.code == 0
    listed = result.out.split("Commands:")[1].splitlines()
    named = [line.split()[0] for line in listed if line]
    assert named == list(COMMANDS)
    assert {"train", "eval", "check", "list", "init", "doctor", "schema"} <= set(named)
    assert "..." not in result.out.split("Commands:")[1]
    assert result.err == ""


def test_the_version(ptv2: Ptv2) -> None:
    assert ptv2("--version").out == f"ptv2 {__version__}\n"


def test_help_is_quick() -> None:
    times = []
    for _ in range(5):
        before = os.times()
        done = subprocess.run([sys.executable, "-c", f"{START}main()"], capture_output=True)
        after = os.times()  # processor time: other processes may take turns with this one
        times.append(
            after.children_user
            + after.children_system
            - before.children_user
            - before.children_system
        )
        assert done.returncode == 0
        assert b"Usage: ptv2" in done.stdout
    assert min(times) < 0.3


def test_help_imports_nothing_heavy() -> None:
    code = (
        f"{START}try: main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'datasets', 'numpy', 'huggingface_hub', 'pydantic'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr == "[]\n"


def test_the_installed_script() -> None:
    script = Path(sys.executable).with_name("ptv2")
    if not script.exists():
        pytest.skip("ptv2 is not installed here")
    done = subprocess.run([script, "train", "absent.yaml"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: absent.yaml: there is no such config file\n  -> ")


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("methods", METHODS.names()),
        (
            "tasks",
            ["superglue/rte", "superglue/boolq", "superglue/cb", "ner/conll2003", "qa/squad",
             "qa/squad_v2"],
        ),
        ("backbones", ["bert", "roberta", "albert", "gpt2", "llama"]),
        ("configs", []),
    ],
)  # fmt: skip
def test_lists(screen: None, ptv2: Ptv2, what: str, names: list[str]) -> None:
    result = ptv2("list", what)
    assert result.code == 0
    assert result.err == ""
    lines = result.out.splitlines()
    assert [line for line in lines if len(line) > 80] == []
    begins = [line.split()[0] for line in lines if line and not line.startswith(" ")]
    assert set(names) <= set(begins)


def test_methods_show_their_options(ptv2: Ptv2) -> None:
    text = ptv2("list", "methods").out
    for name in METHODS.names():
        for option in METHODS.load(name).model_fields:
            assert f"\n  {option} " in text


@pytest.mark.parametrize("what", ["methods", "tasks", "backbones", "configs"])
def test_a_list_in_a_pipe_is_whole_lines(ptv2: Ptv2, what: str) -> None:
    lines = ptv2("list", what).out.splitlines()
    assert [line for line in lines if line != line.rstrip()] == []
    assert max(map(len, lines)) > 80
    # No line goes on in another, which would begin with spaces.
    assert [line for line in lines if line.startswith("   ")] == []


def test_listed_configs_are_files(ptv2: Ptv2) -> None:
    from ptv2_cli.setup.packaged_files import shipped_configs

    text = ptv2("list", "configs").out
    for path in shipped_configs().glob("*.yaml"):
        assert f"\n{path.stem} " in text
        assert f" {path}\n" in text
