"""Text that a terminal would obey, or that rich would read as markup, is shown as it is."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import forked
import pytest
from commandline import Material, Ptv2, only_run

from ptv2_cli.safe_text import visible

TITLE = "\x1b]0;taken\x07"
LABELS = [f"a{TITLE}", "[/]:fire:", "\u202e[bold]\x9b2J"]
SHOWN = ["a\\u001b]0;taken\\u0007", "[/]:fire:", "\\u202e[bold]\\u009b2J"]
FORBIDDEN = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]|\U0001f525"
)
NAME = f"tr{TITLE}[x]"


def safe(*texts: str) -> None:
    for text in texts:
        assert FORBIDDEN.search(text) is None, text


@pytest.fixture
def config(material: Material) -> dict[str, Any]:
    """A config of own data whose labels, texts and file names attack the terminal."""
    Path(f"{NAME}.csv").write_text(_table(12), encoding="utf-8")
    Path("val.csv").write_text(_table(6), encoding="utf-8")
    task = {"name": "text/classification", "train": f"{NAME}.csv", "validation": "val.csv",
            "text": "text", "label": "label", "max_len": 12}  # fmt: skip
    material.write(Path("config.yaml"), task=task)
    return task


def _table(rows: int) -> str:
    text = io.StringIO()
    known = "the big old dog ran in the box on the mat"  # or the vocabulary knows too little of it
    lines = [[f"a cat [/red] {TITLE} sat {at} {known}", LABELS[at % 3]] for at in range(rows)]
    csv.writer(text).writerows([["text", "label"], *lines])
    return text.getvalue()


def test_what_is_spelled_out() -> None:
    assert visible("a\x1b\x07\n\x9b\u202e\udcff\U000e0041") == (
        "a\\u001b\\u0007\\n\\u009b\\u202e\\udcff\\udb40\\udc41"
    )
    assert visible("a\n\tb", keep="\n") == "a\n\\tb"
    for text in ("中文 é ✓", "\U0001f468\u200d\U0001f469", "می\u200cخواهم"):
        assert visible(text) == text


def test_json_stays_the_same_json() -> None:
    for text in (*LABELS, "\U000e0041", "\\u001b"):
        assert json.loads(visible(json.dumps(text, ensure_ascii=False), keep="\n")) == text


def test_a_run_from_check_to_comparison(config: dict[str, Any], ptv2: Ptv2) -> None:
    checked = ptv2("check", "--show", "3")
    assert checked.code == 0, checked.err
    safe(checked.out, checked.err)
    for shown in SHOWN:
        assert shown in checked.out
    done = ptv2("train")
    assert done.code == 0, done.err
    safe(done.out, done.err)
    run = only_run()
    safe((run / "log.txt").read_text(encoding="utf-8"))
    assert ptv2("train", "--seed", "12").code == 0
    runs = sorted(Path("runs").iterdir())
    for words in (["report", "--detail"], ["compare", *runs, "--show", "3"], ["eval"]):
        result = ptv2(*words)
        assert result.code == 0, result.err
        safe(result.out, result.err)
    text = ptv2("report", "--detail").out
    for shown in SHOWN:
        assert shown in text


def test_output_for_programs_is_exact(config: dict[str, Any], ptv2: Ptv2) -> None:
    assert ptv2("train").code == 0
    detail = json.loads(ptv2("report", "--detail", "--format", "json").out)["detail"]
    assert LABELS[0] in detail[0]["classes"]
    rows = [json.loads(line) for line in ptv2("predict", "val.csv").out.splitlines()]
    assert len(rows) == 6
    assert all(json.dumps(TITLE)[1:-1] in json.dumps(row) for row in rows)


def test_in_a_terminal_json_is_spelled_out(
    config: dict[str, Any], screen: None, ptv2: Ptv2
) -> None:
    assert ptv2("train").code == 0
    text = ptv2("report", "--detail", "--format", "json").out
    safe(text)
    assert LABELS[0] in json.loads(text)["detail"][0]["classes"]


@pytest.mark.parametrize(
    "words",
    [
        ["train", f"{NAME}.yaml"],
        ["train", "--set", f"train.{TITLE}=1"],
        ["train", "--set", f"method={LABELS[0]}"],
        ["train", "--set", "task.[/]:fire:=1"],
        ["train", "--set", f"backbone={LABELS[2]}"],
        ["train", "--set", f"task={TITLE}"],
        ["train", f"--{TITLE}"],
        ["list", LABELS[0]],
        [LABELS[0]],
        ["eval", f"runs/{LABELS[0]}"],
        ["predict", LABELS[0]],
        ["report", LABELS[1]],
        ["compare", LABELS[0], LABELS[1]],
        ["sweep", "--grid", f"{TITLE}=1,2"],
        ["sweep", "--lr", LABELS[0]],
        ["init", "--output", "new.yaml", "--data", LABELS[0]],
        ["train", "\udcff.yaml"],
        ["train", "a\nerror: forged.yaml"],
    ],
    ids=ascii,
)
def test_arguments(config: dict[str, Any], ptv2: Ptv2, words: list[str]) -> None:
    result = ptv2(*words)
    assert result.code == 2
    assert "Traceback" not in result.err
    safe(result.out, result.err)
    assert "\nerror: forged" not in result.err
    assert re.search(r"taken|fire|2J|udcff|forged", result.err)


def test_keys_of_a_file(ptv2: Ptv2, material: Material) -> None:
    material.write(Path("config.yaml"), text='"[/]\\e]0;x\\a:fire:": 1\n')
    result = ptv2("train")
    assert result.code == 2
    assert "unknown key [/]\\u001b]0;x\\u0007:fire:" in result.err


def test_a_defect_shows_its_traceback_without_escapes(
    monkeypatch: pytest.MonkeyPatch, ptv2: Ptv2
) -> None:
    def broken() -> Path:
        raise ZeroDivisionError(f"{TITLE}[/]")

    monkeypatch.setattr("ptv2_cli.cli.listing.shipped_configs", broken)
    result = ptv2("list", "configs")
    assert result.code == 1
    assert "ZeroDivisionError: \\u001b]0;taken\\u0007[/]\n" in result.err
    safe(result.err)


def test_lines_of_the_log(tmp_path: Path) -> None:
    from ptv2_cli.runs.sinks.log import LogFile
    from ptv2_cli.training.events import Warned

    LogFile(tmp_path / "log.txt").on(Warned(f"{LABELS[0]}\nforged"))
    text = (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert text.endswith(f" warning: {SHOWN[0]}\\nforged\n")


def test_progress_bars_take_no_markup() -> None:
    from rich.console import Console
    from rich.progress import Progress

    from ptv2_cli.cli.views.progress import PlainColumn

    text = io.StringIO()
    screen = Console(file=text, force_terminal=True, width=80, color_system=None)
    with Progress(PlainColumn("{task.description}"), console=screen) as bars:
        bars.add_task(f"[/] :fire: {TITLE}", total=1)
    assert "[/] :fire: \\u001b]0;taken\\u0007" in text.getvalue()


def test_a_split_of_that_name(finished: Path, ptv2: Ptv2) -> None:
    result = ptv2("eval", "--split", LABELS[1])
    assert result.code == 2
    assert "fire" in result.err
    safe(result.out, result.err)


# Streams that are closed, or that cannot say everything


def command(*words: str, shell: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, its streams as `shell` redirects them."""
    code = "import sys; from ptv2_cli.cli.app import main; main()"
    line = f'exec "$0" -c "{code}" "$@" {shell}'
    root = str(Path(__file__).parents[3])
    return subprocess.run(
        ["bash", "-c", line, sys.executable, *words],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": root, **environment},
    )


def test_output_that_is_ascii_alone(material: Material) -> None:
    material.write(Path("中文.yaml"), 北京=1)
    for environment in ({"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0",
                         "PYTHONCOERCECLOCALE": "0"}):  # fmt: skip
        result = command("check", "中文.yaml", **environment)
        assert result.returncode == 2
        assert "unknown key" in result.stderr
        assert "Traceback" not in result.stderr


def test_results_on_output_that_is_ascii_alone(config: dict[str, Any], material: Material) -> None:
    Path("val.csv").write_text(
        "text,label\n北京 the big old dog,好\n上海 a cat sat there,坏\n", encoding="utf-8"
    )
    shutil.copy("val.csv", f"{NAME}.csv")
    code = f"import sys; sys.stdout.reconfigure(encoding='ascii'); {forked.MAIN}"
    result = forked.finish("check", "--show", "2", code=code)
    assert result.returncode == 0, result.stderr
    assert "gold: \\u597d" in result.stdout


@pytest.mark.parametrize(
    ("closed", "words", "code"),
    [
        (">&-", "list methods", 0),
        ("2>&-", "--version", 0),
        ("<&- >&- 2>&-", "list methods", 0),
        ("<&-", "init", 2),
        ("<&- >&- 2>&-", "init", 2),
    ],
)
def test_closed_streams(closed: str, words: str, code: int) -> None:
    result = command(*words.split(), shell=closed)
    assert result.returncode == code
    assert "Traceback" not in result.stderr


def test_predict_from_a_closed_stdin(finished: Path) -> None:
    code = f"import os, sys; os.close(0); sys.stdin = None; {forked.MAIN}"
    result = forked.finish("predict", "-", code=code)
    assert result.returncode == 2
    assert "error: standard input: holds no row" in result.stderr


@pytest.mark.parametrize("words", ["check", "train", "list methods", "eval"])
def test_a_working_folder_that_is_gone(words: str) -> None:
    code = f"from pathlib import Path; Path.cwd().rmdir(); {forked.MAIN}"
    result = forked.finish(*words.split(), code=code)
    assert result.returncode == 2
    assert "error: the working folder was deleted\n  -> cd " in result.stderr
    assert "Traceback" not in result.stderr
