"""Damaged files of a backbone: a BackboneError that names the file, never a traceback."""

from __future__ import annotations

import contextlib
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file

from ptv2_cli.backbones.families import shape_of
from ptv2_cli.backbones.files.locate import locate
from ptv2_cli.backbones.language.lm_head import check_has_head
from ptv2_cli.backbones.tokenizer import load_tokenizer
from ptv2_cli.config.schema import BackboneSection
from ptv2_cli.errors import BackboneError


def shape(folder: Path) -> Any:
    """The shape that `ptv2 check` reads from config.json."""
    located = locate(BackboneSection.model_validate({"name": str(folder)}), offline=True)
    return shape_of(located.name, located.config)


def refusal(call: Any, folder: Path) -> str:
    with pytest.raises(BackboneError) as caught:
        call(folder)
    return str(caught.value)


def change(path: Path, **keys: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


# config.json

SIZES = {
    "bert": ["model_type", "hidden_size", "num_hidden_layers", "max_position_embeddings"],
    "roberta": ["pad_token_id", "max_position_embeddings"],
    "gpt2": ["n_embd", "n_layer", "n_positions"],
    "distilbert": ["dim", "n_layers"],
    "opt": ["word_embed_proj_dim"],
    "t5": ["d_model", "num_layers", "num_decoder_layers", "n_positions"],
    "bart": ["encoder_layers", "decoder_layers"],
    "bloom": ["seq_length"],
}


@pytest.mark.parametrize("value", ["x", [], {}, True, 1.5, -1, float("inf")])
@pytest.mark.parametrize(
    ("family", "key"), [(family, key) for family, keys in SIZES.items() for key in keys]
)
def test_sizes_of_another_type(family, key, value, folder_of, tmp_path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    shutil.copy(folder_of(family) / "config.json", folder)
    change(folder / "config.json", **{key: value})
    text = refusal(shape, folder)
    if (key, value) != ("model_type", "x"):
        assert f"config.json: {key} must be " in text
        assert "copy config.json again" in text


def test_more_layers_than_anybody_could_build(folder: Path) -> None:
    change(folder / "config.json", num_hidden_layers=10**30)
    text = refusal(shape, folder)
    assert "num_hidden_layers must be a whole number from 1 to 10000, not 1000" in text


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "max_position_embeddings"])
@pytest.mark.parametrize("gone", [True, False])
def test_sizes_that_are_missing(key: str, gone: bool, folder: Path) -> None:
    content = json.loads((folder / "config.json").read_text())
    if gone:
        del content[key]
    else:
        content[key] = None
    (folder / "config.json").write_text(json.dumps(content))
    text = refusal(shape, folder)
    assert "config.json has no " in text
    assert key in text


@pytest.mark.parametrize("content", ["", "{", "[]", "5", "null", "\xff", "[" * 20_000])
def test_a_config_that_is_no_mapping(content: str, folder: Path) -> None:
    (folder / "config.json").write_text(content, encoding="latin-1")
    assert f"{folder / 'config.json'}: is n" in refusal(shape, folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer_config.json"])
def test_a_folder_in_place_of_a_file(name: str, folder: Path) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()
    assert name in refusal(tiny.load, folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_size", 33),
        ("num_attention_heads", 0),
        ("num_attention_heads", -1),
        ("num_attention_heads", "x"),
        ("hidden_act", "x"),
        ("hidden_act", 5),
        ("layer_norm_eps", "x"),
        ("initializer_range", "x"),
        ("vocab_size", "x"),
        ("vocab_size", -1),
        ("type_vocab_size", None),
        ("hidden_dropout_prob", "x"),
        ("transformers_weights", 5),
        ("transformers_weights", "../model.safetensors"),
        ("transformers_weights", "gone.safetensors"),
    ],
)
def test_other_fields_that_cannot_be(key: str, value: Any, folder: Path) -> None:
    change(folder / "config.json", **{key: value})
    text = refusal(tiny.load, folder)
    assert str(folder) in text


@pytest.mark.parametrize("value", [{}, "x", []])
def test_a_setting_that_shows_at_the_first_text(value: Any, folder: Path) -> None:
    change(folder / "tokenizer_config.json", model_max_length=value)
    section = BackboneSection.model_validate({"name": str(folder)})
    located = locate(section, offline=True)
    text = refusal(lambda folder: load_tokenizer(located, section, words=False), folder)
    assert f"its tokenizer cannot be loaded from {folder}" in text


def test_bart_without_a_dropout(folder_of, tmp_path: Path) -> None:
    folder = shutil.copytree(folder_of("bart"), tmp_path / "model")
    change(folder / "config.json", dropout=None)
    text = refusal(lambda folder: tiny.load(folder, dropout=None), folder)
    assert "weights (model.safetensors) cannot be loaded" in text


def test_roberta_without_a_place_for_padding(folder_of, tmp_path: Path) -> None:
    folder = shutil.copytree(folder_of("roberta"), tmp_path / "model")
    change(folder / "config.json", pad_token_id=None)
    assert "cannot run on two tokens" in refusal(tiny.load, folder)


@pytest.mark.parametrize(("key", "value"), [("hidden_dropout_prob", "x"), ("hidden_size", 33)])
def test_a_config_that_a_verbalizer_cannot_use(key: str, value: Any, folder: Path) -> None:
    change(folder / "config.json", **{key: value})
    located = locate(BackboneSection.model_validate({"name": str(folder)}), offline=True)
    with pytest.raises(BackboneError, match=r"config\.json: cannot be used: .*hidden"):
        check_has_head(located, shape(folder).family)


# The index of weights in several files


@pytest.fixture
def sharded(folder: Path, folder_of) -> Path:
    """The same weights in several files."""
    tiny.stock(folder_of("bert")).save_pretrained(folder, max_shard_size="40KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    return folder


INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", "5", "null", "\xff", "[" * 20_000, "{}"),
        *(json.dumps({"weight_map": value}) for value in (5, None, [], {}, "x")),
    ],
)
def test_a_damaged_index(content: str, sharded: Path) -> None:
    (sharded / INDEX).write_text(content, encoding="latin-1")
    text = refusal(tiny.load, sharded)
    assert text.startswith(str(sharded / INDEX))
    assert "the file is damaged" in text


@pytest.mark.parametrize(
    "name", [5, None, [], {}, "", ".", "..", "../x.safetensors", "/etc/passwd", "a/../../x", "a\0b"]
)
def test_an_index_that_names_what_cannot_be(name: Any, sharded: Path) -> None:
    content = json.loads((sharded / INDEX).read_text())
    content["weight_map"]["pooler.dense.bias"] = name
    (sharded / INDEX).write_text(json.dumps(content))
    text = refusal(tiny.load, sharded)
    assert text.startswith(f"{sharded / INDEX}: weight_map names ")
    assert "which is not a file in its folder" in text


def test_a_shard_that_is_missing(sharded: Path) -> None:
    gone = sorted(sharded.glob("model-*.safetensors"))[1]
    gone.unlink()
    text = refusal(tiny.load, sharded)
    assert f"1 of its {len(list(sharded.glob('model-*'))) + 1} weights files are missing" in text
    assert str(gone) in text


# The weights themselves


def as_bin(folder: Path, state: Any) -> Path:
    (folder / "model.safetensors").unlink(missing_ok=True)
    torch.save(state, folder / "pytorch_model.bin")
    return folder / "pytorch_model.bin"


TENSOR = torch.zeros(2, 2)


@pytest.mark.parametrize(
    "state",
    [
        {0: TENSOR, 1: TENSOR},
        {"embeddings.word_embeddings.weight": TENSOR, 7: TENSOR},
        {(1, 2): TENSOR},
        {None: TENSOR},
        {"embeddings.word_embeddings.weight": 5},
        {"embeddings.word_embeddings.weight": "x"},
        {"embeddings.word_embeddings.weight": None},
        {"embeddings.word_embeddings.weight": [TENSOR]},
        {"embeddings.word_embeddings.weight": TENSOR},
        {"state_dict": {"embeddings.word_embeddings.weight": TENSOR}},
        {},
        [],
        [TENSOR],
        TENSOR,
        5,
        None,
        "text",
    ],
    ids=repr,
)
def test_a_bin_file_of_other_things(state: Any, folder: Path) -> None:
    as_bin(folder, state)
    text = refusal(tiny.load, folder)
    assert str(folder) in text


@pytest.mark.parametrize("zipped", [True, False])
def test_a_bin_file_with_damaged_bytes(zipped: bool, folder: Path, folder_of) -> None:
    path = as_bin(folder, load_file(folder_of("bert") / "model.safetensors"))
    if not zipped:
        state = {"embeddings.word_embeddings.weight": TENSOR}
        torch.save(state, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    places = [*range(0, 400, 37), *range(400, len(whole), max(len(whole) // 12, 1))]
    for at in places:
        data = bytearray(whole)
        data[at] ^= 0xFF
        path.write_bytes(data)
        with contextlib.suppress(BackboneError):  # some bytes are values, which may be any
            tiny.load(folder)


@pytest.mark.parametrize("content", [b"", b"\x80", pickle.dumps({}), b"version https://git-lfs"])
def test_a_bin_file_that_is_none(content: bytes, folder: Path) -> None:
    as_bin(folder, {}).write_bytes(content)
    assert "weights (pytorch_model.bin)" in refusal(tiny.load, folder)


def test_safetensors_with_damaged_bytes(folder: Path) -> None:
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    size = int.from_bytes(whole[:8], "little")
    for at in [*range(8), *range(8, 8 + size, 211)]:
        data = bytearray(whole)
        data[at] ^= 0x15
        path.write_bytes(data)
        with contextlib.suppress(BackboneError):  # some bytes are values, which may be any
            tiny.load(folder)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"{",
        b"[]",
        b'{"x": 5}',
        b'{"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 9000000]}}',
        b'{"x": {"dtype": "Q9", "shape": [1], "data_offsets": [0, 4]}}',
        b'{"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
        b'{"__metadata__": {"format": 5}}',
        b'{"__metadata__": {"format": "tf"}}',
    ],
)
def test_safetensors_with_another_header(header: bytes, folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 4)
    assert "model" in refusal(tiny.load, folder)
