"""A backbone whose tokenizer is missing, damaged, or another model's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny

from ptv2_cli.backbones.files.locate import locate
from ptv2_cli.backbones.tokenizer import load_tokenizer
from ptv2_cli.config.schema import BackboneSection
from ptv2_cli.errors import BackboneError

HINT = "copy all of the tokenizer's files (tokenizer.json and the like) beside config.json"


def loaded(folder: Path) -> Any:
    section = BackboneSection.model_validate({"name": str(folder)})
    return load_tokenizer(locate(section, offline=True), section, words=False)


def refusal(folder: Path) -> str:
    with pytest.raises(BackboneError) as caught:
        loaded(folder)
    text = str(caught.value)
    assert text.startswith(f"backbone {folder}: ")
    return text


def resize(folder: Path, rows: int) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "vocab_size": rows}))


@pytest.mark.parametrize("left", ["nothing", "tokenizer_config.json"])
@pytest.mark.parametrize("family", sorted(tiny.CONFIGS))
def test_no_family_is_used_without_its_tokenizer(family, left, folder_of, tmp_path) -> None:
    whole = folder_of(family)
    folder = tmp_path / "model"
    folder.mkdir()
    for name in {"config.json", "model.safetensors", left} - {"nothing"}:
        shutil.copy(whole / name, folder)
    assert HINT in refusal(folder)


def test_what_is_missing_is_said(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    assert f"{folder} has no tokenizer: its vocabulary has no words" in refusal(folder)


@pytest.mark.parametrize("content", ["", "\n", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"])
def test_an_emptied_vocabulary_is_a_missing_one(content: str, folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text(content)
    assert HINT in refusal(folder)


def test_a_token_without_a_row_is_refused(folder: Path) -> None:
    resize(folder, 20)
    text = refusal(folder)
    assert "token '.' has id 41, and the embeddings have 20 rows (vocab_size" in text
    assert "from the same checkpoint" in text


def test_an_added_token_without_a_row_is_refused(folder: Path) -> None:
    tokenizer = loaded(folder)
    tokenizer.add_tokens(["unheard"])
    tokenizer.save_pretrained(folder)
    assert "token 'unheard' has id 42, and the embeddings have 42 rows" in refusal(folder)


def test_a_padded_table_of_embeddings_fits(folder: Path) -> None:
    resize(folder, 64)
    assert len(loaded(folder)) == 42


DAMAGES = ["", "{", "[]", "null", "\xff", "[" * 20_000, '{"model": 5}', '{"unk_token": 5}']


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", DAMAGES)
def test_damaged_tokenizer_files(name: str, content: str, folder: Path) -> None:
    (folder / name).write_text(content, encoding="latin-1")
    refusal(folder)
