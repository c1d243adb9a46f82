"""GGUF files that cannot be read: what is wrong, what to do, and nothing left in the cache."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable
from importlib import util
from pathlib import Path

import gguf_files
import pytest
import torch

from ptv2_cli.backbones.files.locate import locate
from ptv2_cli.backbones.gguf import checks as gguf_checks
from ptv2_cli.backbones.gguf import folder as gguf_folder
from ptv2_cli.config.schema import BackboneSection
from ptv2_cli.errors import BackboneError

Refusal = Callable[[object], str]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gguf_files.save_model(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The content of a good file."""
    return gguf_files.save_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", model).read_bytes()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.gguf"


@pytest.fixture
def refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Refusal:
    """`refusal(name)`: the error of a backbone; checks that nothing is left behind."""
    folder, temporary = tmp_path / "cache", tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("PTV2_CACHE", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setattr(gguf_folder, "_TEMPORARY", {})

    def get(name: object) -> str:
        with pytest.raises(BackboneError) as caught:
            locate(BackboneSection(name=str(name)), offline=True)
        assert [path for path in folder.glob("gguf/*")] == []  # noqa: C416
        assert list(temporary.iterdir()) == []
        assert "\n  -> " in str(caught.value)
        return str(caught.value)

    return get


# No GGUF file, or not all of one


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"hello world, this is a text\n", "is not a GGUF file: it begins with 'hello world, thi'"),
        (b"<!DOCTYPE html>", "is not a GGUF file: it begins with '<!DOCTYPE html>'"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
        (b"GGUF", "it ends inside its header, after 4 bytes"),
        (b"GGUF" + struct.pack("<I", 1), "is GGUF version 1, which cannot be read"),
        (b"GGUF" + struct.pack(">I", 3), "is a GGUF file for big-endian machines"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 1), "it ends inside its header"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 2**60), "it ends inside its header"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**63), "it ends inside its header"),
        (
            b"GGUF" + struct.pack("<IQQQ1sI", 3, 0, 1, 1, b"k", 77),
            "its metadata has a value of type 77",
        ),
        (
            b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"k", 9, 9, 5),
            "its metadata has a list of type 9",
        ),
        (
            b"GGUF" + struct.pack("<IQQQ1sIQ2s", 3, 0, 1, 1, b"k", 8, 2, b"\xff\xfe"),
            "that is not UTF-8",
        ),
        (
            b"GGUF" + struct.pack("<IQQQ1sIIQQ2s", 3, 0, 1, 1, b"k", 9, 8, 1, 2, b"\xff\xfe"),
            "that is not UTF-8",
        ),
    ],
)
def test_what_is_no_gguf_file(content: bytes, says: str, file: Path, refusal: Refusal) -> None:
    file.write_bytes(content)
    assert says in refusal(file)


def test_a_truncated_file(whole: bytes, file: Path, refusal: Refusal) -> None:
    for share in (0.1, 0.5, 0.999):
        file.write_bytes(whole[: int(share * len(whole))])
        text = refusal(file)
        assert "damaged" in text
        assert f"{file.stat().st_size:,} bytes" in text
        assert "fetch the file again" in text


def test_values_that_are_no_numbers(model: Path, file: Path, refusal: Refusal) -> None:
    gguf_files.save_gguf(file, model, tensors={"output_norm.weight": torch.full((32,), torch.nan)})
    assert "model.norm.weight has values that are infinite or no numbers" in refusal(file)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read(whole: bytes, file: Path, refusal: Refusal) -> None:
    file.write_bytes(whole)
    file.chmod(0)
    assert "cannot be read" in refusal(file)


# Files that are whole, and of another kind


@pytest.mark.parametrize("architecture", ["bert", "gemma3", "mamba", "no-such", ""])
def test_another_architecture(architecture: str, model: Path, file: Path, refusal: Refusal) -> None:
    keys = {"general.architecture": architecture}
    gguf_files.save_gguf(file, model, metadata=keys, without=("general.architecture",))
    content = file.read_bytes()
    name = b"general.architecture" + struct.pack("<IQ5s", 8, 5, b"llama")
    assert name in content
    other = b"general.architecture" + struct.pack("<IQ", 8, len(architecture))
    file.write_bytes(content.replace(name, other + architecture.encode()))
    text = refusal(file)
    assert f"has the architecture {architecture!r}, which ptv2 cannot read" in text
    assert "it reads gpt2, llama, qwen2, qwen3" in text


def test_a_type_that_cannot_be_dequantized(whole: bytes, file: Path, refusal: Refusal) -> None:
    """The type of the token embeddings is rewritten in the table of tensors."""
    at = whole.index(b"token_embd.weight") + len(b"token_embd.weight") + 4 + 2 * 8
    assert struct.unpack_from("<I", whole, at) == (0,)
    for type_id, name in ((27, "I64"), (9, "Q8_1"), (4000, "type 4000")):
        file.write_bytes(whole[:at] + struct.pack("<I", type_id) + whole[at + 4 :])
        text = refusal(file)
        assert f"stores token_embd.weight as {name}, which cannot be dequantized" in text
        assert "such as Q8_0" in text


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"split.count": 3, "split.no": "x"}, "is one of the 3 parts of a split GGUF file"),
        ({"general.type": "adapter"}, "its general.type is 'adapter'"),
        ({"llama.rope.scaling.type": "yarn"}, "scales its rotary positions (yarn)"),
        ({"llama.rope.scaling.factor": 4.0}, "scales its rotary positions (linear)"),
        ({"llama.rope.scale_linear": 2.0}, "scales its rotary positions (linear)"),
        ({"tokenizer.ggml.model": "rwkv"}, "Cannot build a tokenizer"),
        ({"tokenizer.ggml.pre": "deepseek-llm"}, "does not know: 'deepseek-llm' (tokenizer.ggml.p"),
        ({"tokenizer.ggml.pre": "default"}, "does not say how its tokenizer cuts texts into words"),
        (
            {"tokenizer.ggml.model": "llama", "tokenizer.ggml.add_space_prefix": False},
            "has a tokenizer that puts no space before a text",
        ),
        ({"llama.embedding_length": 64}, "does not fit together: its tensors have 2"),
        ({"llama.embedding_length": 2**30}, "does not fit together: its tensors have 2"),
        ({"llama.feed_forward_length": 2**31 - 1}, "does not fit together: its tensors have 2"),
        ({"llama.vocab_size": 2**31 - 1}, "does not fit together: its tensors have 2"),
        ({"llama.block_count": 3}, "it has tensors of 2 layers, and its metadata says 3"),
        ({"llama.block_count": 2**31}, "it has tensors of 2 layers"),
        ({"llama.attention.head_count": 0}, "cannot be converted"),
    ],
)
def test_metadata_of_another_model(
    keys: dict[str, object], says: str, model: Path, file: Path, refusal: Refusal
) -> None:
    gguf_files.save_gguf(file, model, metadata=keys)
    assert says in refusal(file)


def test_a_split_file_says_how_to_join_it(model: Path, file: Path, refusal: Refusal) -> None:
    gguf_files.save_gguf(file, model, metadata={"split.count": 2})
    assert "llama-gguf-split --merge" in refusal(file)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("rope_freqs.weight", "scales its rotary positions (rope_freqs.weight)"),
        ("blk.0.attn_q.bias", "does not fit together"),
        ("blk.2.attn_q.weight", "it has tensors of 3 layers, and its metadata says 2"),
    ],
)
def test_tensors_that_would_be_left_out(
    name: str, says: str, model: Path, file: Path, refusal: Refusal
) -> None:
    gguf_files.save_gguf(file, model, tensors={name: torch.ones(32)})
    assert says in refusal(file)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("tokenizer.ggml.model", "has no tokenizer in its metadata"),
        ("blk.1.ffn_up.weight", "does not fit together"),
    ],
)
def test_parts_that_are_missing(
    name: str, says: str, model: Path, file: Path, refusal: Refusal
) -> None:
    gguf_files.save_gguf(file, model, without=(name,))
    assert says in refusal(file)


def test_another_tensor_of_the_same_size(model: Path, file: Path, refusal: Refusal) -> None:
    """transformers would draw the missing one at random."""
    name = "blk.1.ffn_up.weight"
    gguf_files.save_gguf(file, model)
    file.write_bytes(file.read_bytes().replace(name.encode(), b"blk.1.ffn_xp.weight"))
    assert "such as model.layers.1.mlp.up_proj.weight" in refusal(file)


# Names and packages


@pytest.mark.parametrize("absent", gguf_checks.NEEDED)
def test_without_the_packages_that_read_it(
    absent: str, whole: bytes, file: Path, refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name: None if name == absent else find(name))
    file.write_bytes(whole)
    text = refusal(file)
    assert f"reading it needs {absent}, not installed here" in text
    assert "-> pip install 'ptv2[gguf]'" in text


def test_a_folder_of_gguf_files_says_to_name_one(
    whole: bytes, tmp_path: Path, refusal: Refusal
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("a.gguf", "b.gguf"):
        (folder / name).write_bytes(whole)
    located = locate(BackboneSection(name=str(folder)), offline=True)
    with pytest.raises(BackboneError) as caught:
        located.config  # noqa: B018
    assert "has no config.json, but GGUF files: a.gguf and 1 more" in str(caught.value)
    assert f"backbone: {folder / 'a.gguf'}" in str(caught.value)
    shutil.rmtree(folder)


def test_a_file_that_is_not_there(file: Path, refusal: Refusal) -> None:
    assert "there is no such file" in refusal(file)
