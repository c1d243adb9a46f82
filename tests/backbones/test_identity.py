"""The identity of a backbone: all files that model and tokenizer read, and no others."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny

from ptv2_cli.backbones.files.locate import Located, locate
from ptv2_cli.backbones.tokenizer import load_tokenizer
from ptv2_cli.config.schema import BackboneSection

Change = Callable[[Path], None]


def located(folder: Path) -> Located:
    return locate(BackboneSection.model_validate({"name": str(folder)}), offline=True)


def identity(folder: Path) -> str:
    return located(folder).identity


def put(folder: Path, name: str, content: bytes = b"{}") -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def edit(folder: Path, name: str, **keys: object) -> None:
    path = folder / name
    before = json.loads(path.read_text()) if path.exists() else {}
    put(folder, name, json.dumps({**before, **keys}).encode())


READ = [
    "config.json",
    "config.4.0.0.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer.4.0.0.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "bpe.codes",
    "dict.txt",
    "tekken.json",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "tokenizer.model.v3",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/tool_use.jinja",
    "a_file_that_no_list_knows.xyz",
]


@pytest.mark.parametrize("name", READ)
def test_every_file_that_is_read_counts(name: str, folder: Path) -> None:
    path = folder / name
    if not path.exists():
        before = identity(folder)
        put(folder, name)
        assert identity(folder) != before, "a new file"
    before, content = identity(folder), path.read_bytes()
    put(folder, name, content + b" ")
    assert identity(folder) != before, "a changed file"
    put(folder, name, content)
    assert identity(folder) == before


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "LICENSE",
        "NOTICE.txt",
        ".gitattributes",
        ".git/config",
        ".cache/huggingface/download/config.json.metadata",
        "pytorch_model.bin",
        "model.fp16.safetensors",
        "tf_model.h5",
        "flax_model.msgpack",
        "onnx/config.json",
        "optimizer.pt",
        "rng_state.pth",
        "training_args.bin",
        "1_Pooling/config.json",
        "figure.png",
        "train.log",
        "config.yaml",
        "modeling_own.py",
        "runs/a/metrics.json",
    ],
)
def test_what_nothing_reads_does_not_count(name: str, folder: Path) -> None:
    before = identity(folder)
    put(folder, name)
    assert identity(folder) == before


def test_every_file_of_sharded_weights_counts(folder: Path, folder_of) -> None:
    tiny.stock(folder_of("bert")).save_pretrained(folder, max_shard_size="40KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    names = {"model.safetensors.index.json", *(path.name for path in located(folder).weight_files)}
    assert len(names) > 2
    for name in sorted(names):
        before, content = identity(folder), (folder / name).read_bytes()
        put(folder, name, content + b" ")
        assert identity(folder) != before, name
        put(folder, name, content)


def test_weights_that_config_json_names_count(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    edit(folder, "config.json", transformers_weights="other.safetensors")
    before = identity(folder)
    assert tiny.load(folder).state_dict().keys()
    put(folder, "other.safetensors", (folder / "other.safetensors").read_bytes() + b" ")
    assert identity(folder) != before


@pytest.mark.parametrize("name", ["own.py", "inner/part.py", "notes.md", "vocab.bin", "s.yaml"])
def test_a_model_with_code_of_its_own_may_read_every_file(name: str, folder: Path) -> None:
    edit(folder, "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Own", None]})
    put(folder, name)
    before = identity(folder)
    put(folder, name, b"other")
    assert identity(folder) != before


# The other way round: whatever changes the loaded tokenizer changes what it is known by.


def rewrite(name: str, old: str, new: str) -> Change:
    def change(folder: Path) -> None:
        text = (folder / name).read_text(encoding="utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new), encoding="utf-8")

    return change


def setting(name: str, **keys: object) -> Change:
    return lambda folder: edit(folder, name, **keys)


def slow(folder: Path) -> None:
    """Leave what older versions of transformers saved: vocabulary, merges, no tokenizer.json."""
    whole = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = whole["model"]["vocab"]
    (folder / "tokenizer.json").unlink()
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("added_tokens_decoder", None)
    put(folder, "tokenizer_config.json", json.dumps(settings).encode())
    if whole["model"]["type"] == "WordPiece":
        (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary))
        return
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    merges = "".join(f"{' '.join(pair)}\n" for pair in whole["model"]["merges"])
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}")


CHANGES: dict[str, tuple[str, bool, Change]] = {
    "case": ("bert", False, setting("tokenizer_config.json", do_lower_case=False)),
    "case, old files": ("bert", True, setting("tokenizer_config.json", do_lower_case=False)),
    "accents": ("bert", False, setting("tokenizer_config.json", strip_accents=False)),
    "padding side": ("bert", False, setting("tokenizer_config.json", padding_side="left")),
    "length": ("bert", False, setting("tokenizer_config.json", model_max_length=7)),
    "special token": ("bert", False, setting("tokenizer_config.json", sep_token="[MASK]")),
    "vocab.txt": ("bert", True, rewrite("vocab.txt", "ann\nbob\n", "bob\nann\n")),
    "tokenizer.json": ("bert", False, rewrite("tokenizer.json", '"ann"', '"eve"')),
    "special_tokens_map.json": (
        "bert",
        True,
        setting("special_tokens_map.json", sep_token="[MASK]"),
    ),
    "added_tokens.json": ("gpt2", True, setting("added_tokens.json", oslo_paris=390)),
    "vocab.json": ("gpt2", True, rewrite("vocab.json", '"~": ', '"new": ')),
    "merges.txt": ("gpt2", True, rewrite("merges.txt", "r e\n", "")),
    "chat template": (
        "gpt2",
        False,
        lambda folder: put(folder, "chat_template.jinja", b"{{ x }}"),
    ),
}


def serialized(folder: Path) -> str:
    """Everything that a loaded tokenizer does."""
    section = BackboneSection.model_validate({"name": str(folder)})
    tokenizer = load_tokenizer(located(folder), section, words=False)
    settings = {
        "specials": {key: str(value) for key, value in tokenizer.special_tokens_map.items()},
        "side": tokenizer.padding_side,
        "length": tokenizer.model_max_length,
        "template": tokenizer.chat_template,
    }
    return tokenizer.backend_tokenizer.to_str() + json.dumps(settings)


@pytest.mark.parametrize("case", CHANGES)
def test_another_tokenizer_is_another_backbone(case: str, folder_of, tmp_path: Path) -> None:
    family, old_files, change = CHANGES[case]
    folder = shutil.copytree(folder_of(family), tmp_path / "model")
    if old_files:
        slow(folder)
    before, known = serialized(folder), identity(folder)
    change(folder)
    assert serialized(folder) != before, "this changes nothing, and so tests nothing"
    assert identity(folder) != known


# Where the files lie does not count.


def test_a_hub_snapshot_is_known_as_a_copy_of_its_files_is(folder: Path) -> None:
    snapshot = Located("owner/model", folder, commit="0123456789abcdef0123456789abcdef01234567")
    assert snapshot.identity == identity(folder)


def test_links_count_as_what_they_lead_to(folder: Path, tmp_path: Path) -> None:
    linked = tmp_path / "snapshot"
    linked.mkdir()
    for path in folder.iterdir():
        (linked / path.name).symlink_to(path)
    (linked / "loop.json").symlink_to(linked / "loop.json")
    assert identity(linked) == identity(folder)


# What a run recorded, against what is there.


def test_changes_are_named(folder: Path) -> None:
    then = located(folder)
    recorded = {"identity": then.identity, "files": dict(then.files)}
    assert located(folder).changes(recorded) == []
    edit(folder, "tokenizer_config.json", do_lower_case=False)
    put(folder, "added_tokens.json")
    assert located(folder).changes(recorded) == ["added_tokens.json", "tokenizer_config.json"]


def test_runs_that_recorded_one_hash_alone_are_still_known(folder: Path) -> None:
    names = ("config.json", "tokenizer.json", "model.safetensors")
    lines = [
        f"{name}:{hashlib.sha256((folder / name).read_bytes()).hexdigest()}\n" for name in names
    ]
    old = {"identity": hashlib.sha256("".join(lines).encode()).hexdigest()}
    assert located(folder).changes(old) == []
    assert Located("owner/model", folder, commit="c0ffee").changes({"identity": "c0ffee"}) == []
    put(folder, "tokenizer.json", b"{}")
    assert located(folder).changes(old) == ["model.safetensors"]
