"""A tiny BERT and small data, made on the spot."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

WORDS = ["red", "green", "blue", "cat", "dog", "bird", "runs", "sits", "and", "the", "a"]
KINDS = {"colour": {"red", "green", "blue"}, "animal": {"cat", "dog", "bird"}}
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a BERT with two layers and random weights."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    vocabulary = [*SPECIALS, *WORDS]
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=40,
        initializer_range=0.3,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer = BertTokenizerFast(vocab={word: at for at, word in enumerate(vocabulary)})
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def rows() -> list[dict[str, Any]]:
    """Texts of three words, labelled by the kinds of words in them."""
    draws = random.Random(0)
    made = []
    while len(made) < 160:
        text = " ".join(draws.sample(WORDS, 3))
        labels = [name for name, words in KINDS.items() if words & {*text.split()}]
        if text not in [row["text"] for row in made]:
            made.append({"text": text, "labels": labels})
    return made


@pytest.fixture
def config(tmp_path: Path, backbone: Path, rows: list[dict[str, Any]]) -> Any:
    """`config(method="...")` writes a config beside its data and returns its path."""

    def write(**changes: Any) -> Path:
        for split, chosen in (("train", rows[:120]), ("validation", rows[120:])):
            lines = "".join(json.dumps(row) + "\n" for row in chosen)
            (tmp_path / f"{split}.jsonl").write_text(lines)
        content = {
            "method": "ptuning_v2",
            "backbone": {"name": str(backbone), "dropout": "off"},
            "task": {"name": "text/multilabel", "data": str(tmp_path)},
            "prompt_len": 4,
            "head": {"pooling": "mean"},
            "train": {"epochs": 15, "lr": 0.1, "batch_size": 8},
            **changes,
        }
        path = tmp_path / "config.yaml"
        path.write_text(json.dumps(content))
        return path

    return write
