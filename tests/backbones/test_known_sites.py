"""A model that passed the probe is not probed again; another one is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
import transformers

from ptv2_cli.backbones import known_sites
from ptv2_cli.errors import BackboneError


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The names of the models that were probed, with a cache of their own."""
    monkeypatch.setenv("PTV2_CACHE", str(tmp_path / "cache"))
    names: list[str] = []
    plain = known_sites.probe

    def spy(backbone: object, name: str) -> None:
        names.append(Path(name).name)
        plain(backbone, name)

    monkeypatch.setattr(known_sites, "probe", spy)
    return names


@pytest.mark.parametrize("family", ["bert", "albert", "t5", "deberta-v2"])
def test_an_equal_model_is_probed_once(
    family: str, probed: list[str], folder_of: Callable[[str], Path]
) -> None:
    first, second = (tiny.load(folder_of(family)) for _ in range(2))
    assert len(probed) == 1
    assert second.sites == first.sites
    assert second.injection.index == first.injection.index
    batch = tiny.text_batch([5, 3])
    prompts = tiny.random_prompts(first, 3)
    first.eval()
    second.eval()
    assert torch.equal(first(batch, prompts), second(batch, prompts))


def test_another_model_is_probed(
    probed: list[str], folder_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.load(folder_of("bert"))
    tiny.load(folder_of("electra"))
    tiny.load(folder_of("bert"), dtype="bf16")
    assert len(probed) == 3
    for module, name in ((torch, "__version__"), (transformers, "__version__")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, "0.0.1")
            tiny.load(folder_of("bert"))
    monkeypatch.setattr(known_sites, "_code", lambda: "other code")
    tiny.load(folder_of("bert"))
    assert len(probed) == 6


def test_a_damaged_entry_is_made_again(
    probed: list[str], folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    sites = tiny.load(folder_of("bert")).sites
    (entry,) = (tmp_path / "cache" / "probed-sites").iterdir()
    good = entry.read_text()
    content = good.partition("\n")[2]
    renamed = content.replace("layer.1", "layer.7")  # the model has no such module
    damaged = ["", good[:-5], good.replace('"call": 0', '"call": 1'), "[]"]
    damaged += [f"{known_sites._checksum(text)}\n{text}" for text in (renamed, "[1]", "{", "3")]
    for text in damaged:
        entry.write_text(text)
        assert tiny.load(folder_of("bert")).sites == sites
        assert entry.read_text() == good
    assert len(probed) == 1 + len(damaged)


def test_a_refusal_is_not_kept(
    probed: list[str], folder_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(backbone: object, name: str) -> None:
        raise BackboneError.at(name, "prompts do not change its output")

    with monkeypatch.context() as patch:
        patch.setattr(known_sites, "probe", refuse)
        with pytest.raises(BackboneError):
            tiny.load(folder_of("bert"))
    tiny.load(folder_of("bert"))
    assert len(probed) == 1
