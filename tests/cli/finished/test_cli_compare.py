"""`ptv2 compare`: two real runs of the tiny model, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commandline import Material, Ptv2, Refused, only_run


@pytest.fixture
def pair(finished: Path, material: Material, ptv2: Ptv2) -> tuple[Path, Path]:
    """The finished run and one of another method, seed and rate."""
    other = Path("other")
    config = material.write(
        Path("other.yaml"), method="head_only", prompt_len=None, report=["validation", "test"],
        train={"steps": 3, "batch_size": 4, "lr": 0.5, "seed": 12},
    )  # fmt: skip
    assert ptv2("train", config, "--output", other).code == 0
    return finished, only_run(other)


def test_what_is_said(pair: tuple[Path, Path], ptv2: Ptv2) -> None:
    result = ptv2("compare", *pair)
    assert result.code == 0, result.err
    lines = [" ".join(line.split()) for line in result.out.splitlines()]
    assert lines[0].endswith(str(pair[0]))
    assert "train.lr 0.05 0.5" in lines
    assert "prompt_len 3 null" in lines
    assert "superglue/rte validation, 6 rows, scores times 100" in lines
    assert any(line.startswith("accuracy ") for line in lines)
    assert any("McNemar" in line for line in lines)
    assert max(map(len, result.out.splitlines()[3:])) <= 80


def test_figures_agree_with_the_runs(pair: tuple[Path, Path], ptv2: Ptv2) -> None:
    found = json.loads(ptv2("compare", *pair, "--json", "--split", "test", "--show", 99).out)
    logged = [json.loads((run / "metrics.json").read_text()) for run in pair]
    score = found["scores"]["accuracy"]
    assert [score["a"], score["b"]] == [m["metrics"]["test"]["accuracy"] for m in logged]
    assert score["p"] == found["mcnemar"]["p"]
    assert score["test"] == "mcnemar"
    lines = [
        [json.loads(x) for x in (run / "predictions" / "test.jsonl").read_text().splitlines()]
        for run in pair
    ]
    differ = [
        n + 1
        for n, (a, b) in enumerate(zip(*lines, strict=True))
        if a["prediction"]["label"] != b["prediction"]["label"]
    ]
    assert [row["number"] for row in found["shown"]] == differ
    assert found["rows_that_differ"] == len(differ)
    right = [sum(line["prediction"]["label"] == line["gold"] for line in side) for side in lines]
    assert found["mcnemar"]["only_b"] - found["mcnemar"]["only_a"] == right[1] - right[0]


def test_rows_that_differ(pair: tuple[Path, Path], ptv2: Ptv2) -> None:
    path = pair[1] / "predictions" / "validation.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    first = [
        json.loads(line)
        for line in (pair[0] / "predictions" / "validation.jsonl").read_text().splitlines()
    ]
    for row, other in zip(rows, first, strict=True):
        row["prediction"]["label"] = other["prediction"]["label"]
    label = rows[4]["prediction"]["label"]
    wrong = {"entailment": "not_entailment"}.get(label, "entailment")
    rows[4]["prediction"]["label"] = wrong
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = ptv2("compare", *pair, "--show", 3).out
    assert "the answers differ on 1 of 6 rows" in text
    assert "row 5, better: " in text
    assert f"  hypothesis: {rows[4]['row']['hypothesis']}\n" in text
    assert f"  B: {wrong}\n" in text
    assert "row 1," not in text


def test_a_run_with_itself(finished: Path, ptv2: Ptv2) -> None:
    text = ptv2("compare", finished, finished).out
    assert "the configs are equal" in text
    assert "differ on 0 of 6 rows" in text
    assert "1.000" in text


def test_several_seeds_a_side(
    pair: tuple[Path, Path], material: Material, ptv2: Ptv2, refused: Refused
) -> None:
    config = material.write(Path("config.yaml"), report=["validation", "test"])
    assert ptv2("train", config, "--seed", 12).code == 0
    first = sorted(Path("runs").iterdir())
    result = ptv2("compare", *first, "with", pair[1])
    assert result.code == 0, result.err
    assert [line.split(":")[0] for line in result.out.splitlines()[:3]] == ["A", "A", "B"]
    assert "means over 2 and 1 run" in result.out
    assert "give two or more runs for each side" in result.out
    assert max(map(len, result.out.splitlines()[4:])) <= 80
    found = json.loads(ptv2("compare", *first, "with", pair[1], "--json").out)
    assert (len(found["a"]), len(found["b"])) == (2, 1)
    assert found["scores"]["accuracy"]["p_seeds"] is None
    mixed = ptv2("compare", first[0], pair[1], "with", first[1])
    assert "warning: the runs of A are not one setting: they differ in " in mixed.err
    hint = "ptv2 compare RUN RUN, or ptv2 compare A1 A2 with B1 B2"
    refused("compare", *first, pair[1], says=["3 arguments", hint])
    refused("compare", *first, "with", says=[hint])
    refused("compare", *first, "with", pair[1], "--show", 1, says=["rows of two single runs only"])


def test_other_data(finished: Path, material: Material, ptv2: Ptv2, refused: Refused) -> None:
    config = material.write(Path("other.yaml"), task=material.task(limit={"validation": 4}))
    assert ptv2("train", config, "--output", "other").code == 0
    says = ["different data (validation): 6 rows of file", "and 4 rows of file", "task.limit"]
    refused("compare", finished, only_run(Path("other")), says=says)


def test_a_folder_with_a_config_is_no_run(finished: Path, refused: Refused) -> None:
    says = [
        ".: is no run directory: it has a config.yaml, but nothing that a run leaves",
        f"runs there: runs/{finished.name}",
    ]
    refused("compare", ".", finished, says=says)


def test_bad_arguments(finished: Path, refused: Refused) -> None:
    refused("compare", finished, "absent", says=["absent: there is no such run directory"])
    refused("compare", finished, finished, "--metric", "bleu", says=["has no metric 'bleu'"])
    refused("compare", finished, finished, "--split", "train", says=["has no predictions of split"])
    (finished / "metrics.json").unlink()
    refused("compare", finished, finished, says=["the run has not finished"])
