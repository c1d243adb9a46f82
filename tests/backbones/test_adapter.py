"""A PEFT adapter in a backbone's folder, which transformers would silently add."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ptv2_cli.backbones.files.locate import locate
from ptv2_cli.config.schema import BackboneSection
from ptv2_cli.errors import BackboneError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def refusal(name: Path | str) -> str:
    with pytest.raises(BackboneError) as caught:
        locate(BackboneSection.model_validate({"name": str(name)}), offline=True)
    return str(caught.value)


@pytest.fixture
def folder(folder_of, tmp_path: Path) -> Path:
    """A copy of the tiny BERT with an adapter's config beside its weights."""
    copy = shutil.copytree(folder_of("bert"), tmp_path / "model")
    (copy / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": "owner/base"})
    )
    return copy


def test_an_adapter_beside_the_weights_is_refused(folder: Path) -> None:
    text = refusal(folder)
    assert text.startswith(f"backbone {folder}: has a PEFT adapter (adapter_config.json)")
    assert "use a copy without its files" in text
    assert "merge_and_unload" in text
    (folder / "adapter_config.json").unlink()
    locate(BackboneSection.model_validate({"name": str(folder)}), offline=True)


def test_an_adapter_alone_is_refused_and_its_base_named(folder: Path) -> None:
    (folder / "config.json").unlink()
    text = refusal(folder)
    assert "is a PEFT adapter (adapter_config.json), not a model" in text
    assert "name its base model: backbone: owner/base" in text


@pytest.mark.parametrize("content", ["", "[]", "{", '{"base_model_name_or_path": 5}', "\xff"])
def test_a_damaged_adapter_alone_is_refused(content: str, folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text(content, encoding="latin-1")
    assert "name its base model; ptv2 import takes" in refusal(folder)


def test_an_adapter_in_a_package_is_refused(folder: Path, tmp_path: Path, monkeypatch) -> None:
    root = tmp_path / "site"
    shutil.copytree(folder, root / "adapted_weights" / "model")
    monkeypatch.syspath_prepend(str(root))
    assert "has a PEFT adapter" in refusal("package:adapted_weights/model")


SCRIPT = """
from ptv2_cli.backbones.files.locate import locate
from ptv2_cli.config.schema import BackboneSection
from ptv2_cli.errors import BackboneError
for weights in (True, False):
    try:
        locate(BackboneSection(name="owner/model"), offline=True, weights=weights)
    except BackboneError as error:
        print(str(error).splitlines()[0])
"""


@pytest.mark.parametrize("alone", [False, True])
def test_an_adapter_in_the_hubs_cache_is_refused(alone: bool, folder, tmp_path) -> None:
    root = tmp_path / "home" / "hub" / "models--owner--model"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(COMMIT)
    snapshot = shutil.copytree(folder, root / "snapshots" / COMMIT)
    if alone:
        (snapshot / "config.json").unlink()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={"HF_HOME": str(tmp_path / "home"), "PATH": "", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    says = "is a PEFT adapter" if alone else "has a PEFT adapter"
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"backbone owner/model: {says}") for line in lines)
