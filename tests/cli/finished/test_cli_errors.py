"""`ptv2 errors`: wrong rows for people and for programs, the matrix as a picture."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from commandline import Material, Ptv2, Refused, only_run

OTHER = {"entailment": "not_entailment", "not_entailment": "entailment"}


@pytest.fixture
def wrong(finished: Path) -> Path:
    """A run whose rows 2 and 5 are wrong, the fifth more surely so, with one long text."""
    path = finished / "predictions" / "validation.jsonl"
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    for number, line in enumerate(lines, 1):
        right = number not in (2, 5)
        label = line["gold"] if right else OTHER[line["gold"]]
        sure = 0.6 if number == 2 else 0.9
        chances = {label: sure, OTHER[label]: 1 - sure}
        line["prediction"] = {"label": label, "probabilities": chances}
    lines[1]["row"]["premise"] = "word " * 200
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return finished


def test_worst_first(wrong: Path, ptv2: Ptv2) -> None:
    result = ptv2("errors", wrong)
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert lines[1].startswith("superglue/rte validation: 2 of 6 rows are wrong; accuracy ")
    rows = [line for line in lines if line.startswith("row ")]
    assert [row.split(":")[0] for row in rows] == ["row 5", "row 2"]
    assert rows[0].endswith("(0.90)")
    assert "  hypothesis: " in result.out
    assert "label:" not in result.out
    assert " ...\n" in result.out  # a long text is cut
    assert result.err == ""


def test_the_newest_run_and_a_limit(wrong: Path, ptv2: Ptv2) -> None:
    result = ptv2("errors", "--limit", 1, "--sort", "row")
    assert "row 2:" in result.out
    assert "row 5:" not in result.out
    assert f"newest finished run: runs/{wrong.name}" in result.err
    assert "1 of 2 shown; --limit 2 shows all" in result.err


def test_one_cell(wrong: Path, ptv2: Ptv2) -> None:
    rows = [
        json.loads(line) for line in ptv2("errors", wrong, "--format", "jsonl").out.splitlines()
    ]
    assert [row["number"] for row in rows] == [5, 2]
    assert len(rows[1]["row"]["premise"]) == 1000  # programs get all of it
    cells = {(row["gold"], row["predicted"]) for row in rows}
    for gold, guess in cells:
        told = ptv2("errors", wrong, "--cell", gold, guess).out
        count = sum((row["gold"], row["predicted"]) == (gold, guess) for row in rows)
        assert f"{count} of 6 rows: {gold} taken for {guess}" in told


def test_the_matrix_as_a_picture(wrong: Path, ptv2: Ptv2) -> None:
    pytest.importorskip("matplotlib")
    for name in ("out/matrix.svg", "out/matrix.png"):
        result = ptv2("errors", wrong, "--plot", name)
        assert result.code == 0, result.err
        assert f"wrote {name}\n" in result.err
    texts = [item.text for item in ElementTree.parse("out/matrix.svg").iter() if item.text]
    shown = {text.strip() for text in texts}
    assert {"entailment", "not_entailment", "gold", "predicted"} <= shown
    assert Path("out/matrix.png").read_bytes().startswith(b"\x89PNG")


def test_a_tagger(material: Material, ptv2: Ptv2) -> None:
    ner = {"name": "ner/conll2003", "data": str(material.ner), "max_len": 24}
    config = material.write(Path("config.yaml"), task=ner, report=["validation"])
    assert ptv2("train", config).code == 0
    path = only_run() / "predictions" / "validation.jsonl"
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    for line in lines:
        line["prediction"] = {"tags": ["O"] * len(line["row"]["tokens"]), "entities": []}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = ptv2("errors").out
    assert ", predicted O\n" in text
    assert "tags:" not in text


def test_refused(wrong: Path, refused: Refused) -> None:
    refused("errors", wrong, "--split", "train", says=["the run reports no predictions of this"])
    refused("errors", wrong, "--cell", "x", "y", says=["no class 'x'", "entailment"])
    refused("errors", wrong, "--plot", "a.pdf", says=["--plot: a.pdf does not end in .png or .svg"])
    refused("errors", "absent", says=["there is no such run directory"])
