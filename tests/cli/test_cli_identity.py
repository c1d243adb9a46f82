"""A backbone whose files have changed since a run was trained on it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from commandline import Material, Ptv2, Refused, only_run

CONFIG = "bert/tokenizer_config.json"


@pytest.fixture
def run(material: Material, ptv2: Ptv2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run on a copy of the backbone, in `bert`."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(material.bert, "bert")
    material.write(Path("config.yaml"), backbone="bert")
    assert ptv2("train").code == 0
    return only_run()


def keep_case() -> None:
    """From now on the tokenizer leaves capital letters as they are."""
    content = json.loads(Path(CONFIG).read_text())
    Path(CONFIG).write_text(json.dumps({**content, "do_lower_case": False}))


def test_the_run_of_another_tokenizer_does_not_come_back(run: Path, ptv2: Ptv2) -> None:
    known = ptv2("train")
    assert "finished" in known.out + known.err
    assert only_run() == run
    keep_case()
    assert ptv2("train").code == 0
    (other,) = (path for path in Path("runs").iterdir() if path != run)
    then, now = (json.loads((path / "metrics.json").read_text()) for path in (run, other))
    assert then["fingerprint"] != now["fingerprint"]
    before, after = then["backbone"]["files"], now["backbone"]["files"]
    assert [name for name in before if before[name] != after[name]] == ["tokenizer_config.json"]


def test_eval_and_predict_name_the_file_that_changed(run: Path, refused: Refused) -> None:
    keep_case()
    says = ["was trained on other files of", "than are there now: tokenizer_config.json"]
    refused("eval", run, says=says)
    Path("new.jsonl").write_text('{"premise": "Ann sat", "hypothesis": "Ann ran"}\n')
    refused("predict", "new.jsonl", "--run", run, says=says)


def test_a_readme_beside_the_weights_changes_nothing(run: Path, ptv2: Ptv2) -> None:
    Path("bert/README.md").write_text("# The tiny one\n")
    assert ptv2("train").code == 0
    assert only_run() == run
    assert ptv2("eval", run).out.count(", equal") == 1
