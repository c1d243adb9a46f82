"""Damaged folders of runs and sweeps: every command reads them, or says what is wrong with them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from commanding import Commands, examples
from corpora import TOKENS, as_bytes
from hypothesis import given
from hypothesis import strategies as st
from odd import damaged, spliced, spoilt
from test_fuzz_configs import KEYS

RUN_KEYS = (
    *("schema_version", "status", "metrics", "data", "config", "state", "detail", "selection"),
    *("step", "epoch", "value", "trials", "fingerprint", "checksum", "file", "sha256", "gold"),
)
COMMANDS = (
    "eval RUN --offline",
    "eval RUN --split train --json --offline",
    "eval --offline",
    "report",
    "report runs --detail",
    "report RUN --format csv",
    "report --format markdown --detail",
    "report --format json --detail",
    "report --plots plots",
    "compare RUN other --show 2",
    "compare other RUN --json",
    "errors RUN",
    "errors RUN --sort confidence --format jsonl",
    "list runs",
    "clean --yes",
    "predict rte/val.jsonl --run RUN --output out.jsonl --offline",
    "train config.yaml --offline",
    "train RUN/config.yaml --offline",
    "check RUN --offline",
    "export RUN exported --to peft --offline",
)
SWEEPS = (
    "sweep config.yaml --prompt-len 2,3 --offline",
    "sweep config.yaml --prompt-len 2,3 --offline --dry-run",
    "eval runs/sweeps/SWEEP --offline",
    "report",
    "list runs",
    "clean --yes",
    "train runs/sweeps/SWEEP/best.yaml --offline",
)
FOLDER, LOOP, NOWHERE = "a folder", "a link to itself", "a link to nothing"


def files_of(folder: Path) -> dict[str, bytes]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def config(ptv2: Commands, bert: Path, rte: Path) -> Path:
    """A config of two steps, and beside it a run of another seed, which stays whole."""
    import tiny

    shutil.copytree(rte, "rte")
    task = {"name": "superglue/rte", "data": "rte", "max_len": 24}
    train = {"steps": 2, "batch_size": 4, "lr": 0.05}
    path = tiny.write_config(Path("config.yaml"), bert, rte, task=task, train=train)
    assert ptv2("train", path, "--offline", "--seed", 12, "--output", "others") == 0
    (other,) = Path("others").iterdir()
    other.rename("other")
    return path


@pytest.fixture(scope="module")
def run(ptv2: Commands, config: Path) -> dict[str, bytes]:
    """The files of a finished run."""
    assert ptv2("train", config, "--offline", "--output", "made") == 0
    return files_of(Path("made"))


@pytest.fixture(scope="module")
def sweep(ptv2: Commands, config: Path) -> dict[str, bytes]:
    """The files of a finished sweep of two trials."""
    words = ["sweep", config, "--prompt-len", "2,3", "--offline", "--output", "swept"]
    assert ptv2(*words) == 0
    return files_of(Path("swept"))


@st.composite
def spoilt_content(draw: st.DrawFn, name: str, data: bytes) -> Any:
    """What stands at a file's place: bytes altered as its kind suggests, something else, None."""
    how = draw(st.integers(0, 7))
    if how == 0:
        return draw(st.sampled_from([None, FOLDER, LOOP, NOWHERE]))
    if how == 1 or name.endswith(".safetensors"):
        return draw(damaged(data))
    if how == 2 or name.endswith((".yaml", ".txt")):
        return as_bytes(name, draw(spliced(data.decode(), TOKENS)))
    keys = (*KEYS, *RUN_KEYS)
    if name.endswith(".jsonl"):
        return as_bytes(name, draw(spoilt([json.loads(row) for row in data.splitlines()], keys)))
    return json.dumps(draw(spoilt(json.loads(data), keys))).encode()


def lay_out(draw: st.DrawFn, files: dict[str, bytes]) -> None:
    """`runs/` with these files, one or two of them spoilt."""
    for folder in ("runs", "exported"):
        shutil.rmtree(folder, ignore_errors=True)
    contents: dict[str, Any] = dict(files)
    for name in draw(st.lists(st.sampled_from(sorted(files)), min_size=1, max_size=2)):
        contents[name] = draw(spoilt_content(name, files[name]))
    for name, content in contents.items():
        path = Path("runs", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if content == FOLDER:
            path.mkdir()
        elif content in (LOOP, NOWHERE):
            path.symlink_to(path.name if content == LOOP else "nowhere")
        elif content is not None:
            path.write_bytes(content)


@given(data=st.data())
@examples(50)
def test_run(ptv2: Commands, run: dict[str, bytes], data: st.DataObject) -> None:
    lay_out(data.draw, run)
    place = Path("runs", next(iter(run)).split("/")[0])
    command = data.draw(st.sampled_from(COMMANDS))
    ptv2(*command.replace("RUN", str(place)).split())


@given(data=st.data())
@examples(20)
def test_sweep(ptv2: Commands, sweep: dict[str, bytes], data: st.DataObject) -> None:
    lay_out(data.draw, sweep)
    (place,) = {name.split("/")[1] for name in sweep if name.startswith("sweeps/")}
    command = data.draw(st.sampled_from(SWEEPS))
    code = ptv2(*command.replace("SWEEP", place).split())
    if command == SWEEPS[0] and code != 2:  # what breaks in a trial is kept there
        results = json.loads(Path("runs/sweeps", place, "results.json").read_text())
        assert not any(trial["traceback"] for trial in results["trials"].values()), results
