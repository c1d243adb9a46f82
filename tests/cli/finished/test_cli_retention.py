"""`retention:` at the command line: what train, eval and report say of it."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import lm
import pytest
import tiny
import yaml
from commandline import Material, Ptv2, Refused, only_run

from ptv2_cli.errors import EXIT_DEFECT


@pytest.fixture
def config(material: Material) -> Path:
    """A tiny GPT-2 with its own language-model head, and a text."""
    rows = lm.write_rows(Path("rows"))
    Path("elsewhere.txt").write_text("the cat sat on the mat and the dog ran " * 5)
    task = {"name": "text/classification", "data": str(rows), "max_len": 24}
    return material.write(
        Path("config.yaml"), backbone=str(lm.save_causal(Path("gpt2"))), task=task
    )


def test_train_eval_and_report(config: Path, ptv2: Ptv2) -> None:
    result = ptv2("train", config, "--set", "retention.text=elsewhere.txt")
    assert result.code == 0, result.err
    run = only_run()
    measured = json.loads((run / "metrics.json").read_text())["retention"]
    assert f": KL {measured['kl']:.3f} nats a token, perplexity " in result.out

    again = ptv2("eval", run)
    assert again.code == 0, again.err
    kl = f"{measured['kl']:.4f}"
    assert f"retention kl {kl}, logged {kl}, equal\n" in again.out
    content = json.loads(ptv2("eval", "--json").out)
    assert [line["verdict"] for line in content["retention"]] == ["equal"] * 3
    assert "retention" not in json.loads(ptv2("eval", "--json", "--split", "validation").out)

    assert ptv2("train", config, "--set", "method=head_only", "--unset", "prompt_len").code == 0
    report = ptv2("report")
    assert "elsewhere" in report.out
    rows = {line.split()[0]: line.split() for line in report.out.splitlines() if line}
    assert f"{measured['kl']:.3f}" in rows["ptuning_v2"]
    assert "KL elsewhere: from the bare model's" in report.out
    table = list(csv.DictReader(io.StringIO(ptv2("report", "--format", "csv").out)))
    assert {row["method"]: row["retention_kl"] for row in table} == {
        "ptuning_v2": str(measured["kl"]),
        "head_only": "",
    }
    rows_of = json.loads(ptv2("report", "--format", "json").out)["rows"]
    assert {row["retention_kl"] for row in rows_of} == {measured["kl"], None}


def test_measured_later(config: Path, ptv2: Ptv2) -> None:
    assert ptv2("train", config).code == 0
    run = only_run()
    assert "elsewhere" not in ptv2("report").out
    result = ptv2("train", config, "--set", "retention=true")  # the same run, finished already
    assert f"ptv2 eval {run} --retention measures it" in result.err
    assert ptv2("eval", run).out.count("retention") == 0
    result = ptv2("eval", run, "--retention")
    assert result.code == 0, result.err
    assert "retention kl " in result.out
    assert ", logged -, -\n" in result.out
    measured = json.loads((run / "eval" / "retention.json").read_text())["retention"]
    assert measured["text"] == "plain_prose.txt"
    assert f"{measured['kl']:.3f}" in ptv2("report").out
    other = ("--set", "method=head_only", "--unset", "prompt_len")
    assert ptv2("train", config, *other, "--set", "retention.text=elsewhere.txt").code == 0
    report = ptv2("report")
    assert "KL elsewhere was measured on 2 different texts" in report.err + report.out
    shutil.rmtree(next(Path("runs").glob("*head_only*")))
    (run / "eval" / "retention.json").write_text('{"retention": {"kl": []}}')
    assert "elsewhere" not in ptv2("report").out


def test_eval_compares_what_was_measured_on_the_same_text(config: Path, ptv2: Ptv2) -> None:
    assert ptv2("train", config, "--set", "retention.text=elsewhere.txt").code == 0
    file = only_run() / "metrics.json"
    metrics = json.loads(file.read_text())
    metrics["retention"]["kl"] *= 2
    file.write_text(json.dumps(metrics))
    result = ptv2("eval")
    assert result.code == EXIT_DEFECT
    assert ", differs\nretention perplexity " in result.out
    Path("elsewhere.txt").write_text("ann likes the cat and bob likes the dog " * 5)
    result = ptv2("eval")
    assert result.code == 0
    assert result.out.count(", logged -, -\n") == 3


def test_a_run_whose_text_is_gone(config: Path, ptv2: Ptv2, refused: Refused) -> None:
    """Only what measures retention needs the text."""
    assert ptv2("train", config, "--set", "retention.text=elsewhere.txt").code == 0
    Path("elsewhere.txt").unlink()
    says = ["retention cannot be measured: ", "elsewhere.txt cannot be read", "--split validation"]
    refused("eval", only_run(), says=says)
    for command in (("eval", "--split", "validation"), ("inspect",), ("predict", "--text", "ann")):
        result = ptv2(*command)
        assert result.code == 0, result.err


def test_weights_without_a_head_are_refused_before_anything_is_scored(
    config: Path, material: Material, ptv2: Ptv2, refused: Refused
) -> None:
    bare = tiny.save_model(Path("bare"), "llama")
    task = yaml.safe_load(config.read_text())["task"]
    assert ptv2("train", material.write(config, backbone=str(bare), task=task)).code == 0
    says = ["its weights have no language-model head", "retention need it"]
    refused("eval", only_run(), "--retention", says=says)
    assert not (only_run() / "eval").exists()


def test_refused(finished: Path, refused: Refused) -> None:
    says = ["bert models fill in masked words", "leave --retention out"]
    refused("eval", finished, "--retention", says=says)
