"""From a config to predictions and back, for families with ways and tokenizers of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import transformers

from ptv2_cli import load
from ptv2_cli.backbones.files.locate import locate
from ptv2_cli.backbones.tokenizer import load_tokenizer
from ptv2_cli.cli.app import run as ptv2
from ptv2_cli.config.schema import BackboneSection
from ptv2_cli.inputs.encoder import Encoder
from ptv2_cli.inputs.ragged import Ragged

V1 = {"name": "ptuning_v1", "template": "{p:2} {premise} {p:2} {hypothesis} {p:2} {mask}"}
TASKS = {
    "sequence": ("superglue/rte", tiny.write_rte, "accuracy"),
    "token": ("ner/conll2003", tiny.write_ner, "f1"),
    "span": ("qa/squad", tiny.write_squad, "f1"),
    "choice": ("text/choice", tiny.write_choice, "accuracy"),
}
RUNS: list[tuple[str, str, Any, int | None]] = [
    ("t5", "sequence", "ptuning_v2", 3),
    ("t5", "sequence", {"name": "ptuning_v2", "sites": "cross", "layers": "last:2"}, 3),
    ("t5", "span", "ptuning_v2", 3),
    ("t5", "token", "prompt_tuning", 3),
    ("t5", "choice", "finetune", None),
    ("bart", "token", "ptuning_v2", 3),
    ("bart", "sequence", "finetune", None),
    ("deberta-v2", "span", "ptuning_v2", 3),
    ("deberta", "token", "ptuning_v2", 3),
    ("gpt2", "choice", "ptuning_v2", 3),
    ("bloom", "sequence", {"name": "ptuning_v2", "position_offset": "keep"}, 3),
    ("llama", "token", "prompt_tuning", 3),
    ("mpnet", "sequence", V1, 6),
    ("mpnet", "choice", "ptuning_v2", 3),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("data")
    return {kind: write(root / kind, 24, 12) for kind, (_, write, _) in TASKS.items()}


@pytest.fixture(scope="module")
def unigram(folder_of, tmp_path_factory) -> Path:
    """The tiny T5 with a tokenizer of its own kind: pieces that begin with the word's space."""
    folder = tmp_path_factory.mktemp("unigram")
    tiny.save_model(folder, "t5", tokenizer=False)
    letters = sorted({letter for word in tiny.WORDS for letter in word})
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), ("▁", -4.0)]
    # Some words only in two pieces, so that a word's first token is not its last.
    pieces += [(f"▁{word}", -3.0) for word in tiny.WORDS if word not in {"paris", "dora"}]
    pieces += [("▁pa", -3.0), ("ris", -3.0), ("▁do", -3.0), ("ra", -3.0)]
    pieces += [(letter, -6.0) for letter in letters]
    transformers.T5Tokenizer(vocab=pieces, extra_ids=0).save_pretrained(folder)
    return folder


def finished(backbone: Path, kind: str, data: Path, tmp_path: Path, method: Any, length: Any):
    """Train a few steps; its folder and metrics.json."""
    task, _, metric = TASKS[kind]
    config = tiny.write_config(
        tmp_path / "config.yaml",
        backbone,
        data,
        method=method,
        prompt_len=length,
        task={"name": task, "data": str(data), "max_len": 24},
        train={"lr": 0.01, "epochs": 2, "batch_size": 8, "eval_batch_size": 5, "seed": 11},
    )
    session, _ = tiny.trained(config, tmp_path / "out")
    folder = session.resolved_run.directory.path
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["status"] == "finished"
    assert 0 <= metrics["metrics"]["validation"][metric] <= 1
    assert metrics["evaluations"] == 2
    assert metrics["parameters"]["trainable"] > 0
    return folder, metrics


def assert_predicts_the_same(folder: Path, capsys) -> None:
    """In a model built anew from the run's files: the scores, and every line of predictions."""
    assert ptv2(["eval", str(folder)]) == 0
    assert "equal" in capsys.readouterr().out
    lines = (folder / "predictions" / "validation.jsonl").read_text().splitlines()
    expected = [json.loads(line) for line in lines]
    rows = [line["row"] for line in expected]
    for found, line in zip(load(folder, device="cpu").predict(rows), expected, strict=True):
        assert found["row"] == line["row"]
        for key in {"label", "tags", "answer"} & found["prediction"].keys():
            assert found["prediction"][key] == line["prediction"][key]


@pytest.mark.parametrize(
    ("family", "kind", "method", "length"),
    RUNS,
    ids=[f"{f}-{k}-{m if isinstance(m, str) else m['name']}" for f, k, m, _ in RUNS],
)
def test_trained_and_loaded_again(
    family, kind, method, length, folder_of, data, tmp_path, capsys
) -> None:
    folder, metrics = finished(folder_of(family), kind, data[kind], tmp_path, method, length)
    decoded = family in {"t5", "bart"} and kind in {"sequence", "choice"}
    pooling = metrics["config"]["head"]["pooling"]
    if decoded:
        assert pooling == "cls"
    if method is V1:
        assert pooling == "mask"
    assert_predicts_the_same(folder, capsys)


@pytest.mark.parametrize("kind", ["token", "span", "sequence"])
def test_pieces_that_begin_with_their_space(kind, unigram, data, tmp_path, capsys) -> None:
    folder, _ = finished(unigram, kind, data[kind], tmp_path, "ptuning_v2", 3)
    lines = (folder / "predictions" / "validation.jsonl").read_text().splitlines()
    for line in map(json.loads, lines):
        if kind == "span":
            start, answer = line["prediction"]["start"], line["prediction"]["answer"]
            assert line["row"]["context"][start : start + len(answer)] == answer
            assert answer == answer.strip()
    assert_predicts_the_same(folder, capsys)


def test_words_offsets_and_the_frame_of_a_unigram_tokenizer(unigram) -> None:
    section = BackboneSection.model_validate({"name": str(unigram)})
    tokenizer = load_tokenizer(locate(section, offline=True), section, words=True)
    encoder = Encoder(tokenizer, 24)
    words = encoder.tokenize_words(["ann", "paris", "7"])
    shown = [tokenizer.convert_ids_to_tokens(words[at].tolist()) for at in range(len(words))]
    assert shown == [["▁ann"], ["▁pa", "ris"], ["▁", "<unk>"]]
    pieces = encoder.tokenize_with_offsets(["ann likes paris ."], spaced=True)
    text = "ann likes paris ."
    assert [text[a:b] for a, b in pieces.offsets] == ["ann", "likes", "pa", "ris", "."]
    layout = encoder.layout(["text"])
    built = layout.build({"text": pieces.ids})
    assert built.ids[0].tolist() == [*pieces.ids[0], tokenizer.eos_token_id]
    assert (layout.overhead, built.starts["text"][0], built.cls_at[0]) == (1, 0, 0)
    pair = encoder.layout(["a", "b"]).build(
        {name: Ragged.of([pieces.ids[0][at : at + 1]]) for at, name in enumerate("ab")}
    )
    assert pair.ids[0].tolist() == tokenizer("ann", "likes")["input_ids"]
