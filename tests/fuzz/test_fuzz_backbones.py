"""Backbone folders whose files were altered, and names of any form."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import gguf_files
import pytest
import torch
import yaml
from commanding import Commands, examples
from hypothesis import given
from hypothesis import strategies as st
from odd import damaged, spoilt
from safetensors.torch import load
from test_fuzz_adapters import other_tensors

KEYS = (
    *("model_type", "architectures", "vocab_size", "num_hidden_layers", "num_attention_heads"),
    *("max_position_embeddings", "pad_token_id", "auto_map", "torch_dtype", "dtype", "weight_map"),
    *("hidden_act", "type_vocab_size", "quantization_config", "is_decoder", "x", "", "metadata"),
)
NAMES = (
    *("", ".", "..", "/", "~", "~nobody", "./x", "x/", "/x", "x//y", "x/y/z", "a b", "é", "\n"),
    *("package:", "package:/", "package:.", "package:..", "package:x", "package:.x/y", "package: "),
    *("package:ptv2_cli", "package:ptv2_cli/..", "package:ptv2_cli/../..", "package:ptv2-cli/x"),
    *("package:x.y/z", "package:torch.nn/x", "package:\\", "package:" + "x" * 5000, "http://x/y"),
    *("x.gguf", "./x.gguf", "a/b.gguf", ".gguf", "x" * 5000 + ".gguf", "package:ptv2_cli/x.gguf"),
    *("x" * 300, "x" * 5000, "file:///x", "C:\\x", "bert-base-uncased", "a/b", "-a", "a--b", "a.."),
)


def write_config(backbone: object, rte: Path) -> Path:
    path = Path("config.yaml")
    config = {
        "method": "ptuning_v2",
        "backbone": backbone,
        "task": {"name": "superglue/rte", "data": str(rte), "max_len": 12},
        "prompt_len": 2,
        "train": {"steps": 1, "batch_size": 4, "lr": 0.05},
    }
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


@given(
    name=st.sampled_from(NAMES) | st.text(max_size=9) | st.text(max_size=9).map("package:".__add__)
)
@examples(40)
def test_names(ptv2: Commands, rte: Path, name: str) -> None:
    ptv2("check", write_config({"name": name, "revision": "x"}, rte), "--offline")


@given(data=st.data())
@examples(40)
def test_folders(ptv2: Commands, bert: Path, rte: Path, data: st.DataObject) -> None:
    """Every small file with other values or damaged, and weights of every form."""
    files = {file.name: file.read_bytes() for file in sorted(bert.iterdir())}
    name = data.draw(st.sampled_from(sorted(files)))
    how = data.draw(st.integers(0, 6))
    if how < 2:
        files[name] = data.draw(damaged(files[name]))
    elif how == 2:
        stream = io.BytesIO()
        torch.save(dict(data.draw(other_tensors(load(files.pop("model.safetensors"))))), stream)
        files["pytorch_model.bin"] = stream.getvalue()
    elif how == 3:
        weights = files.pop("model.safetensors")
        shard = "model-00001-of-00001.safetensors"
        index = {"metadata": {}, "weight_map": dict.fromkeys(load(weights), shard)}
        tree = data.draw(spoilt(index, KEYS))
        files |= {shard: weights, "model.safetensors.index.json": json.dumps(tree).encode()}
    else:
        small = st.sampled_from([file for file in sorted(files) if file.endswith(".json")])
        name = data.draw(st.just("config.json") if how < 6 else small)
        files[name] = json.dumps(data.draw(spoilt(json.loads(files[name]), KEYS))).encode()
    shutil.rmtree("backbone", ignore_errors=True)
    Path("backbone").mkdir()
    for file, content in files.items():
        Path("backbone", file).write_bytes(content)
    path = write_config("./backbone", rte)
    if ptv2("check", path, "--offline") == 0:
        ptv2("train", path, "--offline", "--dry-run")


@pytest.fixture(scope="module")
def whole_gguf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A good file."""
    folder = tmp_path_factory.mktemp("gguf")
    model = gguf_files.save_model(folder / "model")
    return gguf_files.save_gguf(folder / "model.gguf", model, "Q8_0").read_bytes()


@given(data=st.data())
@examples(20)
def test_gguf_files(ptv2: Commands, rte: Path, whole_gguf: bytes, data: st.DataObject) -> None:
    Path("model.gguf").write_bytes(data.draw(damaged(whole_gguf)))
    path = write_config("model.gguf", rte)
    if ptv2("check", path, "--offline") == 0:
        ptv2("train", path, "--offline", "--dry-run")
