from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import kinds
import lm
import pytest
import tiny

from ptv2_cli.runs.directory import RunDirectory
from ptv2_cli.runs.prediction.predict import Run

TRAIN = {"lr": 0.05, "epochs": 2, "batch_size": 8, "seed": 11}
WORDS = {"right": "true", "wrong": "false"}
VERBALIZER = {
    "name": "verbalizer",
    "template": lm.TEMPLATE,
    "words": WORDS,
    "calibrate": "contextual",
}


@pytest.fixture(scope="session")
def run_of(
    tmp_path_factory: pytest.TempPathFactory, folder_of: Callable[[str], Path]
) -> Callable[[str], Path]:
    """`run_of("tagging")`: the folder of a finished run, made on first use, not to be changed.

    The runs of tests/kinds.py have one backbone; those named here have others, or train theirs.
    """
    made: dict[str, Path] = {}

    def content(name: str, folder: Path) -> tuple[Path, dict[str, Any]]:
        if name in {"generation", "drawn"}:
            task = {"name": "text/generation", "data": str(lm.write_texts(folder / "data"))}
            drawn = {"do_sample": True, "num_beams": 2} if name == "drawn" else {}
            changes = {"generate": {"max_new_tokens": 6, **drawn}, "task": {**task, "max_len": 30}}
            return lm.save_writer(folder / "writer", "gpt2"), changes
        if name == "verbalizer":
            task = {"name": "text/classification", "data": str(lm.write_rows(folder / "data"))}
            changes = {"method": "none", "prompt_len": None, "head": VERBALIZER}
            changes |= {"train": {"seed": 11}, "task": {**task, "max_len": 32}}
            return lm.save_masked(folder / "masked"), changes
        if name == "multi":
            parts = []
            for part in ("own", "classification"):
                (folder / part).mkdir()
                section = kinds.KINDS[part](folder / part)
                parts.append({**section, "data": str(folder / part)})
            return folder_of("bert"), {"task": None, "tasks": parts}
        kind, _, method = name.partition("-")
        (folder / "data").mkdir()
        section = {**kinds.KINDS[kind](folder / "data"), "data": str(folder / "data")}
        changes = {"task": {**section, "max_len": 32}}
        if method:
            changes |= {"method": method, "prompt_len": None}
            changes |= {"train": {**TRAIN, "lr": 1e-3}}
        return folder_of("bert"), changes

    def get(name: str) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            backbone, changes = content(name, folder)
            changes = {"train": TRAIN, "report": ["validation"], "name": name, **changes}
            config = tiny.write_config(folder / "c.yaml", backbone, folder / "data", **changes)
            session, _ = tiny.trained(config, folder / "runs")
            made[name] = session.resolved_run.directory.path
        return made[name]

    return get


@pytest.fixture(scope="session")
def opened(run_of: Callable[[str], Path]) -> Callable[[str], Run]:
    """`opened("tagging")`: the same run as Python reads it."""
    return lambda name: Run(RunDirectory(run_of(name)), device="cpu", offline=True)


@pytest.fixture(scope="session")
def rows_of(opened: Callable[[str], Run]) -> Callable[[str], list[dict[str, Any]]]:
    """`rows_of("tagging")`: rows of the run's validation split."""

    def get(name: str) -> list[dict[str, Any]]:
        lines = opened(name).predictions("validation")
        return [{**line.get("row"), **_task(line)} for line in lines][:9]

    def _task(line: dict[str, Any]) -> dict[str, Any]:
        return {"task": line["task"]} if "task" in line else {}

    return get
