"""What is sent to nodes and back, without a cluster: objects are in this process."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf_files
import laned
import pytest
import tiny
import yaml
from left_behind import read_checkpoint

from ptv2_cli.registry import TRACKERS

pytest.importorskip("ray", reason="needs Ray: pip install 'ptv2[ray]'")

from ptv2_cli.sweeps.engines import ray_files
from ptv2_cli.sweeps.engines.ray_files import materials_of, moved, pack, run_files, unpack
from ptv2_cli.sweeps.engines.ray_worker import missing_here


@pytest.fixture(autouse=True)
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every object that was taken out of the store."""
    out: list[bytes] = []

    def get(reference: Any) -> bytes:
        out.append(reference)
        return bytes(reference)

    monkeypatch.setattr(ray_files, "ray", SimpleNamespace(put=bytes, get=get))
    return out


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 16, 20])
def test_files_of_any_size(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_files, "CHUNK", 8)
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "a/b").mkdir(parents=True)
    (here / "a/b/c").write_bytes(bytes(range(size)))
    (here / ".lock").touch()
    files = pack(here, run_files(here))
    assert all(len(chunk) <= 8 for _, chunks in files for chunk in chunks)
    unpack(files, there)
    assert (there / "a/b/c").read_bytes() == bytes(range(size))
    assert run_files(there) == ["a/b/c"]
    assert not list(there.rglob(".*"))


def test_paths_in_plain_data() -> None:
    places = {"/data/rte": "/cache/1", "/data/x.csv": "/cache/2/x.csv"}
    data = {"a": ["/data/rte", "/data/rte/train.jsonl", "/data/rte2", 3], "/data/rte": None}
    assert moved(data, places) == {
        "a": ["/cache/1", "/cache/1/train.jsonl", "/data/rte2", 3],
        "/data/rte": None,
    }


def config_of(case: str, folder: Path, folder_of: Callable[[str], Path]) -> dict[str, Any]:
    """The sections that differ from RTE in a folder, with everything below `folder`."""
    rte = folder / "rte"
    if case == "files":
        named = {"train": str(rte / "train.jsonl"), "validation": str(rte / "val.jsonl")}
        return {"task": {"name": "superglue/rte", "max_len": 24, **named}}
    if case == "include":
        code = "from ptv2_cli.registry import TRACKERS\nTRACKERS.add('rays', dict)\n"
        (folder / "mine.py").write_text(code)
        return {"include": ["mine.py"]}
    if case == "several tasks":
        tasks = [
            {"name": "superglue/rte", "data": str(rte), "max_len": 24},
            {"name": "superglue/boolq", "data": str(folder / "boolq"), "max_len": 24},
        ]
        (folder / "boolq").mkdir()
        for name in ("train", "validation"):
            rows = [f'{{"question": "a", "passage": "x {n}", "label": {str(n % 2 == 0).lower()}}}\n'
                    for n in range(8)]  # fmt: skip
            (folder / "boolq" / f"{name}.jsonl").write_text("".join(rows))
        return {"task": {"name": "multi", "tasks": tasks}}
    if case == "earlier run":
        config = tiny.write_config(folder / "first.yaml", folder / "bert", rte)
        tiny.trained(config, folder / "earlier", "train.epochs=1")
        (run,) = (folder / "earlier").iterdir()
        return {"method": {"name": "ptuning_v2", "init": {"run": str(run)}}}
    if case == "gguf":
        model = gguf_files.save_model(folder / "llama")
        return {"backbone": str(gguf_files.save_gguf(folder / "model.gguf", model))}
    return {}


@pytest.mark.parametrize(
    "case", ["folder", "files", "include", "several tasks", "earlier run", "gguf"]
)
def test_a_machine_without_any_of_the_files(
    case: str, tmp_path: Path, folder_of: Callable[[str], Path], taken: list[bytes]
) -> None:
    folder = tmp_path / "driver"
    shutil.copytree(folder_of("bert"), folder / "bert")
    tiny.write_rte(folder / "rte", train=12, validation=6)
    (folder / "rte" / "unrelated.bin").write_bytes(b"0" * 100)
    path = tiny.write_config(folder / "c.yaml", folder / "bert", folder / "rte")
    content = yaml.safe_load(path.read_text()) | config_of(case, folder, folder_of)
    path.write_text(yaml.safe_dump(content))
    (trial,) = laned.plan([path], tmp_path / "runs", grid="prompt_len=3").trials
    assert trial.resolved_run is not None
    spec = trial.spec
    sent = [material.sent() for material in materials_of(trial.resolved_run)]
    assert missing_here(spec, sent, True) is None
    assert not taken  # the files are here
    folder.rename(tmp_path / "away")
    try:
        assert str(folder) in (missing_here(spec, (), True) or "")
        assert missing_here(spec, sent, True) is None
        count = len(taken)
        assert missing_here(spec, sent, True) is None
        assert len(taken) == count  # once
        assert b"0" * 100 not in taken
    finally:
        TRACKERS._entries.pop("rays", None)
        TRACKERS._sources.pop("rays", None)


def test_without_a_cache_the_node_says_so(
    tmp_path: Path, folder_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tiny.write_rte(tmp_path / "rte", train=12, validation=6)
    path = tiny.write_config(tmp_path / "c.yaml", folder_of("bert"), data)
    (trial,) = laned.plan([path], tmp_path / "runs", grid="prompt_len=3").trials
    assert trial.resolved_run is not None
    sent = [material.sent() for material in materials_of(trial.resolved_run)]
    data.rename(tmp_path / "away")
    monkeypatch.setenv("PTV2_CACHE", "off")
    assert "it is off, full or not writable" in (missing_here(trial.spec, sent, True) or "")


def test_a_run_that_is_sent_can_go_on_whenever_its_writing_stops(
    tmp_path: Path, folder_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tiny.write_rte(tmp_path / "rte", train=12, validation=6)
    path = tiny.write_config(tmp_path / "c.yaml", folder_of("bert"), data)
    packed = []
    for steps in (2, 4):  # two moments of a run; equal but for how far it is
        sets = ("train.epochs=null", f"train.steps={steps}", "train.eval_every=2")
        session, _ = tiny.trained(path, tmp_path / f"{steps}", *sets)
        folder = session.resolved_run.directory.path
        packed.append(pack(folder, run_files(folder)))
    written = ray_files.replace_by
    for most in range(len(packed[1])):
        folder = tmp_path / f"copy{most}"
        unpack(packed[0], folder)
        count = 0

        def stopping(path: Path, data: bytes, most: int = most) -> None:
            nonlocal count
            count += 1
            if count > most:
                raise OSError("killed")
            written(path, data)

        with monkeypatch.context() as patch:
            patch.setattr(ray_files, "replace_by", stopping)
            with pytest.raises(OSError, match="killed"):
                unpack(packed[1], folder)
        for role in ("last", "best"):
            read_checkpoint(folder / "checkpoints", role)
        old = (folder / "metrics.json").read_bytes() == packed[0][
            [name for name, _ in packed[0]].index("metrics.json")
        ][1][0]
        assert old or most == len(packed[1])
