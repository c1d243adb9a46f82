"""Tokenizers made on the spot: WordPiece with [CLS], byte-level BPE with and without specials."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

TEXT = (
    "a b x y the cat dog mat sat on who where is it not in big red new york ann bob lives "
    "likes . , ? ! ' - 1 2 3"
)
PIECES = ["##s", "##ly", "##ing", "un", "##afford", "##able", "play", "##ed", *"cdefgh"]
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture(scope="session")
def wordpiece() -> Any:
    from transformers import BertTokenizerFast

    tokens = [*SPECIALS, *TEXT.split(), *PIECES]
    vocab = {token: index for index, token in enumerate(tokens)}
    return BertTokenizerFast(vocab=vocab)


def _bpe() -> dict[str, Any]:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    text = "the cat sat on the mat . who sat on the mat ? Ann lives in New York . it is big"
    tokenizer.train_from_iterator([text] * 4, trainer)
    model: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    return {"vocab": model["vocab"], "merges": [tuple(pair) for pair in model["merges"]]}


@pytest.fixture(scope="session")
def roberta() -> Any:
    from transformers import RobertaTokenizerFast

    return RobertaTokenizerFast(**_bpe())


@pytest.fixture(scope="session")
def gpt2() -> Any:
    from transformers import GPT2TokenizerFast

    return GPT2TokenizerFast(**_bpe())


@pytest.fixture
def shelf(tmp_path: Path) -> Any:
    """`shelf.put(name, text)` writes a file of a data folder; `shelf.source` reads the folder."""
    from ptv2_cli.tasks.source import FolderSource

    def put(name: str, content: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
        return path

    return SimpleNamespace(put=put, source=FolderSource(tmp_path), path=tmp_path)


def squad_json(context: str, *questions: dict[str, Any]) -> str:
    article = {"title": "T", "paragraphs": [{"context": context, "qas": list(questions)}]}
    return json.dumps({"version": "x", "data": [article]})
