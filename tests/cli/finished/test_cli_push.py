"""`ptv2 push` to a hub on this machine, and `hub:OWNER/NAME` back from it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from commandline import Material, Ptv2, Refused, only_run, tree
from fake_hub import TOKEN, FakeHub, Repository, fake_hub

REPO = "ann/rte-tiny"
RUN_FILES = {"config.yaml", "history.jsonl", "metrics.json", "README.md", "checkpoints/best.json"}
ADAPTER = {"adapter_config.json", "adapter_model.safetensors"}


@pytest.fixture
def hub(tmp_path: Path, material: Material, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that has a backbone, bob/bert."""
    from huggingface_hub import constants

    with fake_hub() as served:
        template = served.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", served.address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        files = {path.name: path.read_bytes() for path in material.bert.iterdir()}
        served.repositories["bob/bert"] = Repository(False, files, {"license": "mit"}, 1)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        yield served
        assert served.unknown == []


@pytest.fixture
def on_hub(ptv2: Ptv2, material: Material, hub: FakeHub) -> Path:
    """A finished run whose backbone is a model on the hub."""
    config = material.write(Path("config.yaml"), backbone="bob/bert", report=["validation", "test"])
    result = ptv2("train", config)
    assert result.code == 0, result.err
    return only_run()


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    lines = [{"premise": "the cat sat", "hypothesis": f"{who} ran"} for who in ("ann", "bob")]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def front_matter(card: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return content


def code_of(card: str, heading: str) -> str:
    section = card.partition(f"## {heading}\n")[2]
    match = re.search(r"```python\n(.*?)```", section, flags=re.S)
    assert match is not None
    return match[1]


def test_a_run_goes_to_the_hub_and_comes_back(
    ptv2: Ptv2,
    on_hub: Path,
    hub: FakeHub,
    rows: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = ptv2("push", on_hub, REPO, "--private")
    assert result.code == 0, result.err
    assert f"{hub.address}/{REPO}" in result.out
    repository = hub.repositories[REPO]
    assert repository.private
    weights = {name for name in repository.files if name.startswith("checkpoints/best-")}
    assert set(repository.files) - {".gitattributes"} == RUN_FILES | ADAPTER | weights
    assert len(weights) == 1

    ours = ptv2("predict", rows, "--run", on_hub)
    theirs = ptv2("predict", rows, "--run", f"hub:{REPO}")
    assert theirs.code == 0, theirs.err
    assert theirs.out == ours.out != ""

    result = ptv2("eval", f"hub:{REPO}", "--data", yaml_of(on_hub)["task"]["data"])
    assert result.code == 0, result.err

    # The code of the card gives the same predictions.
    card = repository.files["README.md"].decode()
    code = code_of(card, "Use it")
    assert len(code.strip().splitlines()) <= 10
    capsys.readouterr()
    exec(compile(code, "README.md", "exec"), {})
    said = capsys.readouterr().out.splitlines()
    expected = [str(json.loads(line)["prediction"]) for line in ours.out.splitlines()]
    assert said == expected


def yaml_of(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text())
    return content


def test_the_card_says_what_was_measured(ptv2: Ptv2, on_hub: Path, hub: FakeHub) -> None:
    assert ptv2("push", on_hub, REPO).code == 0
    metrics = json.loads((on_hub / "metrics.json").read_text())
    card = hub.repositories[REPO].files["README.md"].decode()
    accuracy = f"{100 * metrics['metrics']['validation']['accuracy']:.2f}"
    error = f"{100 * metrics['standard_error']:.2f}"
    baseline = f"{100 * metrics['majority_baseline']['accuracy']:.2f}"
    assert f"| validation | accuracy | {accuracy} | {error} | {baseline} |" in card
    for split in ("train", "validation", "test"):
        about = metrics["data"][split]
        assert f"| {split} | {about['rows']} | `{about['sha256']}` |" in card
    front = front_matter(card)
    assert front["tags"] == ["ptv2", "ptuning_v2"]
    assert (front["license"], front["base_model"]) == ("mit", "bob/bert")
    (results,) = [each["results"] for each in front["model-index"]]
    assert {each["task"]["type"] for each in results} == {"text-classification"}
    assert {each["dataset"]["split"] for each in results} == {"validation", "test"}
    from huggingface_hub import ModelCardData  # the hub's own reader takes it

    assert ModelCardData(**front).to_dict()["library_name"] == "peft"


def test_the_code_for_peft_computes_the_runs_logits(
    ptv2: Ptv2, on_hub: Path, hub: FakeHub, rows: Path
) -> None:
    pytest.importorskip("peft")
    import torch

    assert ptv2("push", on_hub, REPO).code == 0
    card = hub.repositories[REPO].files["README.md"].decode()
    code = code_of(card, "With PEFT")
    assert f'folder = huggingface_hub.snapshot_download("{REPO}")' in code
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    texts = [json.loads(line) for line in rows.read_text().splitlines()]
    pairs = [[row[key] for row in texts] for key in ("premise", "hypothesis")]
    batch = names["tokenizer"](*pairs, return_tensors="pt", padding=True)
    probabilities = torch.softmax(names["logits"](batch), dim=-1)
    lines = ptv2("predict", rows, "--run", on_hub).out.splitlines()
    expected = [json.loads(line)["prediction"]["probabilities"] for line in lines]
    for found, wanted in zip(probabilities, expected, strict=True):
        by_label = dict(zip(names["labels"], found.tolist(), strict=True))
        assert by_label == pytest.approx(wanted, abs=1e-4)


def test_nothing_private_is_uploaded(
    ptv2: Ptv2, material: Material, hub: FakeHub, tmp_path: Path
) -> None:
    track = ["tensorboard"]
    pytest.importorskip("tensorboard")
    config = material.write(Path("config.yaml"), track=track, backbone="bob/bert")
    assert ptv2("train", config).code == 0
    assert ptv2("push", only_run(), REPO).code == 0
    files = hub.repositories[REPO].files
    everything = b"\n".join(files.values())
    assert str(material.rte).encode() not in everything
    assert str(tmp_path).encode() not in everything
    config = yaml.safe_load(files["config.yaml"])
    assert config["track"] == []
    assert config["task"]["data"].endswith("/rte") or config["task"]["data"] == "rte"
    metrics = json.loads(files["metrics.json"])
    assert "provenance" not in metrics
    row = json.loads((material.rte / "val.jsonl").read_text().splitlines()[0])
    assert row["hypothesis"].encode() not in everything
    assert not any("predictions" in name or "log" in name for name in files)


def test_a_dry_run_writes_the_folder_alone(ptv2: Ptv2, on_hub: Path, hub: FakeHub) -> None:
    result = ptv2("push", on_hub, REPO, "--dry-run")
    assert result.code == 0, result.err
    assert REPO not in hub.repositories
    folder = on_hub / "push"
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found >= RUN_FILES | ADAPTER
    assert f"next: ptv2 push {on_hub} {REPO}" in result.err.replace("\n  ", " ")
    again = ptv2("predict", "--text", "the cat", "--text", "ann ran", "--run", folder)
    assert again.code == 0, again.err
    assert len(ptv2("list", "runs").out.splitlines()) <= 2 + 1  # push/ is no run of its own


def test_a_second_push_replaces_the_first(ptv2: Ptv2, finished: Path, hub: FakeHub) -> None:
    assert ptv2("push", finished, REPO).code == 0
    hub.repositories[REPO].files["checkpoints/best-stale.safetensors"] = b"old"
    hub.repositories[REPO].files["notes.txt"] = b"the user's"
    assert ptv2("push", finished, REPO).code == 0
    files = hub.repositories[REPO].files
    assert "checkpoints/best-stale.safetensors" not in files
    assert files["notes.txt"] == b"the user's"
    assert hub.repositories[REPO].commits >= 2


def test_a_run_that_peft_cannot_hold_is_shared_without_an_adapter(
    ptv2: Ptv2, material: Material, hub: FakeHub, rows: Path
) -> None:
    config = material.write(Path("config.yaml"), method="finetune", backbone="bob/bert")
    assert ptv2("train", config).code == 0
    run = only_run()
    assert ptv2("push", run, REPO).code == 0
    files = hub.repositories[REPO].files
    assert not set(files) & ADAPTER
    assert "PEFT cannot represent this run: finetune" in files["README.md"].decode()
    ours, theirs = (ptv2("predict", rows, "--run", name) for name in (run, f"hub:{REPO}"))
    assert theirs.code == 0, theirs.err
    assert ours.out == theirs.out


def test_another_run_begins_with_a_prompt_from_the_hub(
    ptv2: Ptv2, finished: Path, hub: FakeHub, material: Material
) -> None:
    assert ptv2("push", finished, REPO).code == 0
    length = yaml_of(finished)["prompt_len"]
    method = {"name": "ptuning_v2", "init": {"run": f"hub:{REPO}"}}
    config = material.write(Path("other.yaml"), method=method, prompt_len=length)
    result = ptv2("train", config, "--output", "other")
    assert result.code == 0, result.err
    (run,) = Path("other").iterdir()
    assert yaml_of(run)["method"]["init"] == {"run": f"hub:{REPO}"}


def test_a_backbone_that_nobody_else_has_is_told(ptv2: Ptv2, finished: Path, hub: FakeHub) -> None:
    result = ptv2("push", finished, REPO)
    assert result.code == 0, result.err
    text = " ".join(result.err.split())
    assert "nobody else can use the run until its backbone is a model on the hub" in text
    assert "the licence of the backbone is unknown" in text
    files = hub.repositories[REPO].files
    assert not set(files) & ADAPTER
    assert "its backbone is not on the hub" in files["README.md"].decode()


@pytest.mark.parametrize(
    ("status", "says"), [(403, "hf auth login"), (500, "the hub refuses it"), (507, "refuses it")]
)
def test_a_hub_that_refuses_loses_nothing(
    status: int, says: str, ptv2: Ptv2, finished: Path, hub: FakeHub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    before = tree(finished)
    hub.status = status
    result = ptv2("push", finished, REPO)
    assert result.code == 2
    text = " ".join(result.err.split())
    assert says in text
    assert "the folder is kept" in text
    assert "Traceback" not in result.err
    after = tree(finished)
    assert {name: after[name] for name in before} == before
    assert (finished / "push/README.md").is_file()


def test_no_network(
    ptv2: Ptv2, finished: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    result = ptv2("push", finished, REPO)
    assert result.code == 2
    text = " ".join(result.err.split())
    assert "cannot be sent" in text
    assert "the folder is kept" in text
    result = ptv2("predict", "--text", "x", "--run", f"hub:{REPO}")
    assert result.code == 2
    assert "is not in the local cache of the hub" in " ".join(result.err.split())


def test_offline_a_run_that_was_fetched_is_used(
    ptv2: Ptv2, finished: Path, hub: FakeHub, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    assert ptv2("push", finished, REPO).code == 0
    first = ptv2("predict", rows, "--run", f"hub:{REPO}")
    assert first.code == 0, first.err
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    second = ptv2("predict", rows, "--run", f"hub:{REPO}", "--offline")
    assert second.code == 0, second.err
    assert second.out == first.out


@pytest.mark.parametrize(
    ("repo", "says"),
    [
        ("rte", ["write OWNER/NAME"]),
        ("a/b/c", ["write OWNER/NAME"]),
        ("../x", ["write OWNER/NAME"]),
    ],
)
def test_bad_names(repo: str, says: list[str], refused: Refused, finished: Path) -> None:
    refused("push", finished, repo, says=says)
    refused("push", "nowhere", REPO, "--dry-run", says=["there is no such run directory"])


def test_offline_push_is_refused(refused: Refused, finished: Path) -> None:
    refused("push", finished, REPO, says=["without the network", "--dry-run"])


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"include": ["evil.py"]}, "include"),
        ({"extends": "other.yaml"}, "extends"),
        ({"backbone": {"name": "x/y", "trust_remote_code": True}}, "backbone.trust_remote_code"),
    ],
)
def test_a_run_from_the_hub_runs_no_code(
    change: dict[str, Any], key: str, ptv2: Ptv2, finished: Path, hub: FakeHub, rows: Path
) -> None:
    assert ptv2("push", finished, REPO).code == 0
    files = hub.repositories[REPO].files
    files["config.yaml"] = yaml.safe_dump(
        {**yaml.safe_load(files["config.yaml"]), **change}
    ).encode()
    files["evil.py"] = b"open('owned', 'w').close()"
    hub.repositories[REPO].commits += 1
    result = ptv2("predict", rows, "--run", f"hub:{REPO}")
    assert result.code == 2
    assert f"says {key}, which can run code" in " ".join(result.err.split())
    assert not Path("owned").exists()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("hub:nobody/nothing", "cannot be fetched"),
        ("hub:nothing", "write hub:OWNER/NAME"),
        ("hub:ann/model", "holds no run of ptv2"),
    ],
)
def test_what_is_no_run(name: str, says: str, ptv2: Ptv2, hub: FakeHub, rows: Path) -> None:
    hub.repositories["ann/model"] = Repository(False, {"config.json": b"{}"})
    result = ptv2("predict", rows, "--run", name)
    assert result.code == 2
    assert says in " ".join(result.err.split())
