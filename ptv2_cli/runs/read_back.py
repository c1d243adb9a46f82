"""A run's own files read back: parsed, and seen to hold what ptv2 writes there.

Whoever reads a run may then index and compute with the values without looking at their types.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from ptv2_cli.errors import RunError

SCHEMA_VERSION = 1
SHOWN = 40
"""Most characters of a wrong value that a message shows."""
_T = TypeVar("_T")
Scores = dict[str, float | None]
"""None: not a number, such as a correlation of equal values."""
Tables = dict[str, Scores]


class _Part(BaseModel):
    """Keys that are not named here may hold anything."""

    model_config = ConfigDict(strict=True, extra="allow")


class _Task(_Part):
    name: str


class _TaskOfSeveral(_Task):
    own_name: str = Field(alias="as")
    metric: str


class _Tasks(_Task):
    tasks: list[_TaskOfSeveral] | None = None


class _Backbone(_Part):
    name: str
    identity: str


class _Selection(_Part):
    split: str
    metric: str
    mode: str
    value: float | None
    epoch: float | None
    step: int | None


class _Detail(_Part):
    classes: Tables | None = None
    choices: Tables | None = None
    types: Tables | None = None
    roles: Tables | None = None
    corpora: Tables | None = None
    questions: Tables | None = None
    has_answer: Scores | None = None
    no_answer: Scores | None = None
    confusion: dict[str, dict[str, int]] | None = None


class _Data(_Part):
    rows: int
    sha256: str
    tasks: dict[str, int] | None = None


class _Train(_Part):
    lr: float | None


class _Named(_Part):
    name: str


class _Config(_Part):
    method: _Named
    head: _Named
    train: _Train
    task: dict[str, Any]
    selection: dict[str, Any]


class _Environment(_Part):
    device: str


class _Parameters(_Part):
    prompt: float
    reparam: float
    backbone: float
    trainable: float
    trainable_percent: float
    prompt_percent: float


class _Timing(_Part):
    train_seconds: float
    examples_per_second: float | None


class _Metrics(_Part):
    fingerprint: str
    status: Literal["finished", "early_stopped", "diverged"]
    task: _Tasks
    method: str
    prompt_len: int | None
    backbone: _Backbone
    selection: _Selection
    metrics: dict[str, Scores]
    majority_baseline: Scores | None
    standard_error: float | None
    detail: dict[str, _Detail]
    parameters: _Parameters
    timing: _Timing
    data: dict[str, _Data]
    data_note: str | None
    seed: int
    config: _Config
    environment: _Environment
    warnings: list[str]

    @model_validator(mode="after")
    def _whole(self) -> _Metrics:
        if "train" not in self.data:
            raise ValueError("data has no train")
        if self.metrics and self.selection.epoch is None:
            raise ValueError("selection.epoch is null")
        if self.task.tasks:
            self._check_tasks([task.own_name for task in self.task.tasks])
        return self

    def _check_tasks(self, names: list[str]) -> None:
        """What a run of several tasks says of each."""
        sections = self.config.task.get("tasks")
        if not isinstance(sections, list) or [type(one) for one in sections] != [dict] * len(names):
            raise ValueError("config.task.tasks are not those of task.tasks")
        for split, data in self.data.items():
            if not set(names) <= set(data.tasks or ()) or data.sha256.count("+") + 1 != len(names):
                raise ValueError(f"data.{split} is not of the tasks of task.tasks")
        for split, detail in self.detail.items():
            for name in set(names) & set(detail.model_extra or {}):
                try:
                    _Detail.model_validate((detail.model_extra or {})[name])
                except ValidationError:
                    raise ValueError(f"detail.{split}.{name} has other types") from None


class _Line(_Part):
    step: int
    epoch: float
    metrics: Scores
    train_loss: float | None = None
    validation_loss: float | None = None
    validation_losses: Scores = {}


class _Prediction(_Part):
    label: str | int | float | bool | None = None
    probabilities: Scores | None = None
    tags: list[str] | None = None
    entities: list[dict[str, Any]] | None = None
    answer: str | None = None
    start: int | None = None
    probability: float | None = None
    nbest: list[dict[str, Any]] | None = None
    null_score: float | None = None
    prediction: str | float | None = None


_METRICS = TypeAdapter(_Metrics)
_PREDICTION = TypeAdapter(_Prediction)
_HISTORY = TypeAdapter(list[_Line])


def read_metrics(path: Path, hint: str) -> dict[str, Any]:
    """The content of a metrics.json.

    Args:
        path: the file.
        hint: what to type if it is damaged.

    Raises:
        FileNotFoundError: there is none.
        RunError: it cannot be read, is broken, or of another schema version.
    """
    what = "is no metrics.json of a ptv2 run"
    content = read_json(path, SCHEMA_VERSION, what, hint)
    check(_METRICS, content, path, what, hint)
    return content


def read_json(path: Path, version: int, what: str, hint: str) -> dict[str, Any]:
    """The content of a JSON file with a `schema_version`, which must be this one.

    Args:
        path: the file.
        version: the version that is read.
        what: what to say of a file that is damaged.
        hint: what to type then.

    Raises:
        FileNotFoundError: there is none.
        RunError: it cannot be read, is broken, or of another schema version.
    """
    content = _parsed(path, what, hint, json.loads)
    found = content.get("schema_version") if isinstance(content, dict) else None
    if type(found) is not int:
        raise RunError.at(str(path), what, hint)
    if found != version:
        raise RunError.at(
            str(path),
            f"has schema version {found}, this ptv2 reads {version}",
            "use the ptv2 that wrote it, or train the run again with another --output",
        )
    return dict(content)


def read_history(path: Path, hint: str) -> list[dict[str, Any]]:
    """The lines of a history.jsonl.

    Raises:
        FileNotFoundError: there is none.
        RunError: it cannot be read or is broken.
    """
    what = "is no history of a ptv2 run"
    lines: list[dict[str, Any]] = _parsed(path, what, hint, _json_lines)
    check(_HISTORY, lines, path, what, hint)
    return lines


def read_predictions(
    path: Path, hint: str, written: Callable[[dict[str, Any]], Iterable[str]]
) -> list[dict[str, Any]]:
    """The lines of a predictions/<split>.jsonl.

    Args:
        path: the file.
        hint: what to type if it is damaged.
        written: the keys of a line that the model wrote; the others may hold anything.

    Raises:
        FileNotFoundError: there is none.
        RunError: it cannot be read, is empty or broken.
    """
    what = "holds no predictions of a ptv2 run"
    lines: list[Any] = _parsed(path, what, hint, _json_lines)
    if not lines:
        raise RunError.at(str(path), what, hint)
    for number, line in enumerate(lines, start=1):
        place = path.with_name(f"{path.name}:{number}")
        if not isinstance(line, dict) or "gold" not in line:
            raise RunError.at(str(place), what, hint)
        check(_PREDICTION, {key: line[key] for key in written(line)}, place, what, hint)
    return lines


def check(types: TypeAdapter[_T], content: Any, path: Path, what: str, hint: str) -> _T:
    """The content as these types.

    Raises:
        RunError: it has others; the first wrong value is named after `what`.
    """
    try:
        return types.validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "it"
    if first["type"] == "missing":
        wrong = f"it has no {place}"
    elif first["type"] == "value_error":
        wrong = str(first["ctx"]["error"])
    else:
        value = json.dumps(first["input"], ensure_ascii=False, default=str)
        short = value if len(value) <= SHOWN else f"{value[:SHOWN]}..."
        wrong = f"{place} is {short}"
    raise RunError.at(str(path), f"{what}: {wrong}", hint)


def _json_lines(text: str) -> Any:
    return [json.loads(line) for line in text.split("\n") if line]


def _parsed(path: Path, what: str, hint: str, parse: Any) -> Any:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise RunError.at(str(path), f"cannot be read: {error.strerror}", hint) from None
    except (ValueError, RecursionError):
        raise RunError.at(str(path), what, hint) from None
