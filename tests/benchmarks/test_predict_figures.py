"""The comparison of `ptv2 predict` with transformers: it runs and compares equal work."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import forked
import pytest
import tiny

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Data sets where the script looks for them."""
    folder = tmp_path / "data"
    for name in ("sst2", "superglue/BoolQ"):
        (folder / name).mkdir(parents=True)
    lines = [f"{tiny.WORDS[at]} {tiny.WORDS[at + 1]}\t{at % 2}" for at in range(8)]
    for split in ("train", "dev"):
        table = "\n".join(["sentence\tlabel", *lines])
        (folder / "sst2" / f"{split}.tsv").write_text(f"{table}\n")
    rows = [
        {"question": tiny.WORDS[at], "passage": f"{tiny.WORDS[at]} dog", "label": at % 2 == 0}
        for at in range(8)
    ]
    for split in ("train", "val"):
        text = "".join(f"{json.dumps(row)}\n" for row in rows)
        (folder / "superglue" / "BoolQ" / f"{split}.jsonl").write_text(text)
    return folder


def test_every_side_predicts_every_row(folder_of: Any, data: Path, tmp_path: Path) -> None:
    script, figures = FOLDER / "predict.py", tmp_path / "figures.json"
    code = f"import runpy; runpy.run_path({str(script)!r}, {{}}, '__main__')"
    options = ["--data", data, "--backbone", folder_of("bert"), "--rows", 4, 4, "--rounds", 1]
    options += ["--precision", "fp32", "--threads", 1, "--max-len", 20, "--json", figures]
    done = forked.finish("steady", *map(str, options), code=code)
    assert done.returncode == 0, done.stderr
    written = json.loads(figures.read_text())
    assert [line["task"] for line in written] == ["SST-2"] * 4 + ["BoolQ"] * 4
    assert all(line["rows_per_second"] > 0 for line in written)
    assert "| fp32, 1 | pipeline, order of the file |" in done.stdout


def test_the_sorted_side_labels_rows_in_their_order(
    folder_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    script = importlib.import_module("predict")
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder_of("bert"), num_labels=2)
    tokenizer = AutoTokenizer.from_pretrained(folder_of("bert"))
    rows = [{"sentence": " ".join(tiny.WORDS[at : 2 * at + 1])} for at in range(1, 9)]
    by_length = script.sorted_side(model.eval(), tokenizer, rows, "SST-2", 20, "fp32")()
    pipeline = script.pipeline_side(model, tokenizer, rows, "SST-2", 20, "fp32")()
    assert [f"LABEL_{label}" for label in by_length] == [one["label"] for one in pipeline]
    assert len(pipeline) == 8
