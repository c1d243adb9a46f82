"""GPU hours of a sweep by a formula, before there are data, weights or a GPU."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ptv2_cli.backbones.families import shape_of
from ptv2_cli.backbones.files.locate import locate
from ptv2_cli.config.load import LoadedConfig
from ptv2_cli.config.schema import BackboneSection
from ptv2_cli.errors import InputError
from ptv2_cli.methods.spec import MethodSpec
from ptv2_cli.runs.resolve.resolved_config import resolve_names
from ptv2_cli.sweeps.grid import Combination
from ptv2_cli.sweeps.trials import check_names
from ptv2_cli.tasks.base import Task

FILE = Path(__file__).with_name("gpu_hours.yaml")


@dataclass(frozen=True)
class Work:
    """What one run reads and computes with."""

    layers: int
    hidden: int
    train: int
    """Texts of an epoch."""
    scored: int
    """Texts of one evaluation."""
    others: int
    """Texts of the other reported splits, which are scored twice."""
    tokens: float
    """Of a text."""
    epochs: float
    prompt: int
    in_input: bool
    """Whether the prompt lengthens the sequence itself."""
    backward: int
    """Matrix products of a training step for each one of forward: 0 where nothing below the head
    trains, 1 for a frozen backbone, 2 for one that trains."""
    trains: bool = True

    @property
    def flops(self) -> float:
        """Floating-point operations of the run.

        A forward pass over a text of T tokens and P prompt columns takes

            2 N T  +  4 L H T (T + P),   N = 12 L H^2,

        where N counts the weights of attention and feed-forward part (Kaplan et al. 2020, arXiv
        2001.08361, section 2.1): two operations for each weight and token, and the products of
        queries with keys and of weights with values. Backward costs the second term twice. It
        costs the first once for a frozen backbone, whose weights need no gradient, and twice for
        one that trains. Left out: embeddings, heads, reparameterization, padding, the optimizer.
        """
        length = self.tokens + (self.prompt if self.in_input else 0)
        columns = length + (0 if self.in_input else self.prompt)
        matrices = 2 * 12 * self.layers * self.hidden**2 * length
        attention = 4 * self.layers * self.hidden * length * columns
        read = matrices + attention
        step = read + self.backward * matrices + (2 * attention if self.backward else 0)
        trained = self.epochs * self.train * step if self.trains else 0
        evaluations = self.epochs if self.trains else 1
        return trained + (evaluations * self.scored + 2 * self.others) * read


@dataclass(frozen=True)
class ConfigHours:
    """The estimate of one config of a sweep."""

    config: str
    trials: int
    """Different trials, whether they have finished or not."""
    hours: float | None
    """GPU hours of all of them; None where a size is not known."""
    unknown: str = ""
    """The backbone or task whose size is not known."""


def default_tflops() -> float:
    """The throughput that an estimate assumes unless told, in 10^12 operations a second."""
    return float(_sizes()["tflops"])


def gpu_hours(combinations: Sequence[Combination], tflops: float) -> list[ConfigHours]:
    """The estimate of each config, in their order.

    Args:
        combinations: of all configs.
        tflops: sustained operations a second, times 10^12.

    Raises:
        ConfigError: the options of a method or task are wrong, with every problem of all trials.
    """
    check_names(combinations)
    groups: dict[str, dict[str, Combination]] = {}
    for item in combinations:
        groups.setdefault(item.name, {}).setdefault(_same_run(item.loaded), item)
    return [_hours(name, list(items.values()), tflops) for name, items in groups.items()]


def _hours(name: str, trials: Sequence[Combination], tflops: float) -> ConfigHours:
    total = 0.0
    for trial in trials:
        found = work_of(trial.loaded)
        if isinstance(found, str):
            return ConfigHours(name, len(trials), None, found)
        total += found.flops
    return ConfigHours(name, len(trials), total / (tflops * 1e12) / 3600)


def work_of(loaded: LoadedConfig) -> Work | str:
    """What a run will read and compute with; the name whose size is not known."""
    config = loaded.config
    method, task = resolve_names(loaded)
    shape = _shape(config.backbone)
    if shape is None:
        return config.backbone.name
    sizes = _sizes()["tasks"]
    parts = task.parts or (task,)
    unknown = [part.name for part in parts if part.name not in sizes]
    if unknown:
        return unknown[0]
    limit = config.task.limit.model_dump()
    rows = {
        split: sum(_rows(sizes[part.name], split, limit.get(split)) for part in parts)
        for split in ("train", "validation", "test")
    }
    total = sum(_rows(sizes[part.name], "train", limit["train"]) for part in parts)
    tokens = sum(
        sizes[part.name]["tokens"] * _rows(sizes[part.name], "train", limit["train"]) / total
        for part in parts
    )
    chosen = config.selection.split if config.selection.split in rows else "validation"
    report = config.report or task.report
    return Work(
        *shape,
        train=rows["train"],
        scored=rows[chosen],
        others=sum(rows.get(split, 0) for split in report if split != chosen),
        tokens=min(tokens, config.task.max_len or tokens),
        epochs=_epochs(loaded, method, task, rows["train"]),
        prompt=(config.prompt_len or 0) if method.uses_prompt else 0,
        in_input=method.in_input,
        backward=2 if method.trains_backbone else int(method.adds),
        trains=method.trains,
    )


def _rows(size: dict[str, Any], split: str, limit: int | None) -> int:
    count = int(size.get(split, 0))
    return count if limit is None else min(count, limit)


def _epochs(loaded: LoadedConfig, method: MethodSpec, task: Task, rows: int) -> float:
    train = loaded.config.train
    if train.steps is not None:
        return train.steps * train.batch_size * train.accumulate / rows
    return float(train.epochs or method.defaults(task.kind_spec).epochs or 0)


def _shape(section: BackboneSection) -> tuple[int, int] | None:
    """Layers and width; None where neither the file nor this machine knows the backbone."""
    known = _sizes()["backbones"].get(section.name.rpartition("/")[2])
    if known is not None:
        return int(known[0]), int(known[1])
    try:
        located = locate(section, offline=True, weights=False)
        shape = shape_of(located.name, located.config)
    except InputError:
        return None
    return sum(count for stack, count in shape.stacks.items() if stack != "cross"), (
        shape.hidden_size
    )


def _same_run(loaded: LoadedConfig) -> str:
    """Equal for combinations that train the same run: a method without prompt has no length."""
    method, _ = resolve_names(loaded)
    plain = loaded.config.model_dump(mode="json", exclude={"name", "extends"})
    return json.dumps(
        plain if method.uses_prompt else {**plain, "prompt_len": None}, sort_keys=True
    )


@cache
def _sizes() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return content
