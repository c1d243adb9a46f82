"""`ptv2 predict --text`: one row from the command line, for every kind of task."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lm
import pytest
import tiny
from commandline import Material, Ptv2, Refused, only_run

from ptv2_cli.cli.app import run as run_command
from ptv2_cli.cli.predict_text import predict_text
from ptv2_cli.tasks.catalog import load_task

TEXT = "ann likes the cat"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a run that writes, to be copied."""
    folder = tmp_path_factory.mktemp("written")
    model = lm.save_writer(folder / "model", "gpt2", n_positions=200)
    rows = lm.write_texts(folder / "rows")
    config = tiny.write_config(
        folder / "config.yaml",
        model,
        rows,
        task={"name": "text/generation", "data": str(rows), "max_len": 36},
        train={"steps": 2, "lr": 0.05, "batch_size": 8},
        generate={"max_new_tokens": 8},
    )
    assert run_command(["train", str(config), "--output", str(folder / "runs")]) == 0
    return folder


@pytest.fixture
def writer(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "runs", tmp_path / "runs")
    return only_run(tmp_path / "runs")


def test_a_text_is_written_and_nothing_else(writer: Path, ptv2: Ptv2) -> None:
    lines = (writer / "predictions" / "validation.jsonl").read_text().splitlines()
    for line in map(json.loads, lines[:3]):
        result = ptv2("predict", "--text", line["row"]["input"])
        assert result.code == 0, result.err
        assert result.out == line["prediction"]["text"] + "\n"
        assert f"newest finished run: runs/{writer.name}" in result.err


def test_beams_write_at_once(writer: Path, ptv2: Ptv2) -> None:
    plain = ptv2("predict", "--run", writer, "--text", TEXT)
    one = ptv2("predict", "--run", writer, "--text", TEXT, "--set", "generate.num_beams=2")
    assert (one.code, len(one.out.splitlines()) >= 1) == (0, True)
    short = ptv2("predict", "--run", writer, "--text", TEXT, "--set", "generate.max_new_tokens=1")
    assert len(short.out) < len(plain.out)


def test_only_writing_can_change(writer: Path, refused: Refused) -> None:
    refused(
        *("predict", "--run", writer, "--text", TEXT, "--set", "train.lr=1"),
        says=["error: --set train.lr: a finished run predicts as it was trained"],
    )
    refused(
        *("predict", "--run", writer, "--text", TEXT, "--set", "generate.beams=2"),
        says=["unknown key", "num_beams"],
    )


def test_a_file_beside_a_text(writer: Path, refused: Refused) -> None:
    refused("predict", "x.jsonl", "--text", TEXT, says=["INPUT: has no meaning beside --text"])
    refused("predict", "--skip-bad", "--text", TEXT, says=["--skip-bad: has no meaning"])
    refused("predict", "--run", writer, "--run", writer, "--text", TEXT, says=["name one run"])
    refused("predict", says=["there is nothing to predict", "or --text TEXT"])
    refused("predict", "--text", " ", says=["error: --text: column 'input' is empty"])
    says = ["error: --text: holds 2 texts", "reads 1 text: input"]
    refused("predict", "--text", "a", "--text", "b", says=says)
    refused("predict", "--text", "a\udcff", says=["--text: is no UTF-8 text", "--encoding"])


def test_labels_with_their_probabilities(finished: Path, ptv2: Ptv2) -> None:
    line = json.loads((finished / "predictions/validation.jsonl").read_text().splitlines()[0])
    texts = [line["row"][name] for name in ("premise", "hypothesis")]
    result = ptv2("predict", "--text", texts[0], "--text", texts[1])
    assert result.code == 0, result.err
    shares = [row.split("\t") for row in result.out.splitlines()]
    assert shares[0][0] == line["prediction"]["label"]
    assert float(shares[0][1]) >= float(shares[1][1])
    whole = json.dumps({"premise": texts[0], "hypothesis": texts[1]})
    assert ptv2("predict", "--text", whole).out == result.out


@pytest.mark.parametrize(
    ("task", "data", "text", "says"),
    [
        ("ner/conll2003", "ner", "ann sat in paris", "\t"),
        ("qa/squad", "squad", '{"question": "who is it ?", "context": "the cat dora"}', ""),
    ],
)
def test_other_kinds(
    material: Material, ptv2: Ptv2, tmp_path: Path, task: str, data: str, text: str, says: str
) -> None:
    section = {"name": task, "data": str(getattr(material, data)), "max_len": 24}
    config = material.write(tmp_path / "c.yaml", task=section)
    assert ptv2("train", config).code == 0
    result = ptv2("predict", "--text", text)
    assert result.code == 0, result.err
    assert all(says in line for line in result.out.splitlines())
    if data == "squad":
        assert result.out.strip() in "the cat dora"


def printed(task: str, texts: list[str], prediction: Any, **options: Any) -> tuple[Any, str]:
    """The row that a run of the task is asked for, and what is printed of its prediction."""
    rows: list[Any] = []

    def stream(row: Any, show: Any) -> dict[str, Any]:
        rows.append(row)
        return {"prediction": prediction}

    run: Any = SimpleNamespace(task=load_task(task, options), stream=stream)
    with pytest.MonkeyPatch.context() as patch:
        out: list[str] = []
        patch.setattr("ptv2_cli.cli.console.part", out.append)
        predict_text(run, texts)
    return rows[0], "".join(out)


def test_entities_and_numbers() -> None:
    entities = [{"text": "ann", "type": "PER"}, {"text": "paris", "type": "LOC"}]
    tagged = {"tags": ["B-PER", "O", "O", "B-LOC"], "entities": entities}
    row, out = printed("ner/conll2003", ["ann sat in paris"], tagged)
    assert (row, out) == ("ann sat in paris", "ann\tPER\nparis\tLOC\n")
    assert printed("text/regression", ["a"], 2.5)[1] == "2.5\n"


def test_messages_are_a_row() -> None:
    talk = [{"role": "user", "content": "who ?"}]
    row, out = printed("text/generation", [json.dumps(talk)], {"text": ""}, messages="talk")
    assert (row, out) == ({"talk": talk}, "\n")
    row, _ = printed("text/generation", ["[1]"], {"text": "x"})
    assert row == "[1]"  # no messages: a text


def test_ctrl_c_ends_it(writer: Path, tmp_path: Path) -> None:
    """A signal while it writes: what has come stays, on a line of its own, and the code is 130."""
    code = (
        "import signal, os, sys\n"
        "from ptv2_cli.cli import console\n"
        "part = console.part\n"
        "def show(text):\n"
        "    part(text)\n"
        "    if text != '\\n': os.kill(os.getpid(), signal.SIGINT)\n"
        "console.part = show\n"
        "from ptv2_cli.cli.app import main\n"
        f"sys.argv = ['ptv2', 'predict', '--run', {str(writer)!r}, '--text', {TEXT!r}]\n"
        "main()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert ended.returncode == 130, ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout.endswith("\n")


def test_check_shows_what_counts_in_the_loss(made: Path, ptv2: Ptv2) -> None:
    result = ptv2("check", made / "config.yaml", "--show", 1)
    assert result.code == 0, result.err
    assert "answers of 3 tokens on average, 3 at most, room for 8" in result.out
    assert (
        "row 1 of train, gold: ann dog\n"
        "  5 tokens:\n"
        "    here Ġann Ġlikes Ġthe Ġdog\n"
        "  3 tokens to write, which alone count in the loss:\n"
        "    Ġann Ġdog </s>\n"
    ) in result.out


def test_a_dry_run_shows_how_long_answers_are(made: Path, ptv2: Ptv2) -> None:
    result = ptv2("train", made / "config.yaml", "--dry-run")
    assert result.code == 0, result.err
    assert (
        "train: 24 rows, 8 tokens on average, 9 at most; answers of 3 tokens on average, 3 at "
        "most, room for 8\n"
    ) in result.out


def test_several_runs_cannot_write(writer: Path, refused: Refused) -> None:
    Path("x.jsonl").write_text('{"task": "config", "input": "a"}\n')
    refused(
        *("predict", "x.jsonl", "--run", writer, "--run", writer),
        says=["a text is written by the backbone's own LM head", "each run by itself"],
    )


def test_what_to_train_next_can_be_trained(made: Path, ptv2: Ptv2) -> None:
    result = ptv2("train", made / "config.yaml", "--output", made / "runs")
    assert "--set method=none --unset train.lr" in result.err
