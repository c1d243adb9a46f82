"""Models with their own code, and weights that would run code."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest
import tiny
import torch

from ptv2_cli.backbones.files.locate import Located, locate
from ptv2_cli.backbones.files.remote_code import check_own_code
from ptv2_cli.config.schema import BackboneSection
from ptv2_cli.errors import BackboneError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CODE = """
from pathlib import Path
from transformers import BertModel

Path({mark!r}).write_text("ran")

class OwnModel(BertModel):
    pass
"""


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """The file that foreign code writes when it runs."""
    return tmp_path / "ran.txt"


@pytest.fixture
def coded(folder: Path, mark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that asks for its own model class."""
    monkeypatch.setattr(
        "transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules")
    )
    (folder / "modeling_own.py").write_text(CODE.format(mark=str(mark)))
    change(folder / "config.json", auto_map={"AutoModel": "modeling_own.OwnModel"})
    return folder


def change(path: Path, **keys) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


def refusal(folder: Path, **section) -> str:
    with pytest.raises(BackboneError) as caught:
        tiny.load(folder, **section)
    return str(caught.value)


def test_own_code_is_refused_and_not_run(coded, mark) -> None:
    text = refusal(coded)
    assert text.startswith(f"backbone {coded}: asks to run its own Python code")
    assert "modeling_own.OwnModel" in text
    assert "nothing was run" in text
    assert "trust_remote_code: true" in text
    assert not mark.exists()


def test_own_code_of_a_folder_runs_when_it_is_asked_for(coded, mark) -> None:
    backbone = tiny.load(coded, trust_remote_code=True)
    assert type(backbone.model).__name__ == "OwnModel"
    assert mark.exists()


def test_code_of_a_tokenizer_is_refused_too(folder) -> None:
    change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tok.Slow", None]})
    assert "tok.Slow" in refusal(folder)


def test_code_of_another_repository_is_always_refused(folder) -> None:
    change(folder / "config.json", auto_map={"AutoModel": "who/else--modeling_x.X"})
    text = refusal(folder, trust_remote_code=True)
    assert "code of another repository (who/else--modeling_x.X), which no revision pins" in text


def section(**fields) -> BackboneSection:
    return BackboneSection.model_validate({"name": "who/model", **fields})


def test_a_hub_model_wants_its_commit_as_revision(coded) -> None:
    located = Located("who/model", coded, commit=COMMIT)
    with pytest.raises(BackboneError) as caught:
        check_own_code(located, section())
    assert f"revision: {COMMIT}, trust_remote_code: true" in str(caught.value)
    with pytest.raises(BackboneError) as caught:
        check_own_code(located, section(revision="main", trust_remote_code=True))
    assert "revision main may mean other code tomorrow" in str(caught.value)
    assert f"--set backbone.revision={COMMIT}" in str(caught.value)
    check_own_code(located, section(revision=COMMIT, trust_remote_code=True))


def test_the_code_is_part_of_what_the_model_is(coded) -> None:
    before = locate(section(name=str(coded)), offline=True).identity
    (coded / "modeling_own.py").write_text("# other code\n")
    assert locate(section(name=str(coded)), offline=True).identity != before


class Malicious:
    """A call that pickle would make when it loads this object."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00001.bin"])
def test_a_malicious_pickle_is_refused_and_runs_nothing(name, zipped, folder, mark) -> None:
    state = {"embeddings.word_embeddings.weight": torch.zeros(42, 32), "x": Malicious(mark)}
    (folder / "model.safetensors").unlink()
    if zipped:
        torch.save(state, folder / name)
    else:
        (folder / name).write_bytes(pickle.dumps(state))
    if name != "pytorch_model.bin":
        index = {"metadata": {}, "weight_map": dict.fromkeys(state, name)}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    text = refusal(folder)
    assert f"its weights ({name})" in text
    assert "nothing of it was run" in text
    assert "safetensors" in text
    assert not mark.exists()


def test_a_plain_pytorch_file_loads(folder, folder_of) -> None:
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    own, whole = tiny.load(folder).state_dict(), tiny.load(folder_of("bert")).state_dict()
    assert all(torch.equal(own[name], value) for name, value in whole.items())
