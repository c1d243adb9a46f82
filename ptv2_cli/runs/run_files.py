"""A run's own files read back: parsed, and seen to hold what ptv2 writes there.

Whoever reads a run may then index and compute with the values without looking at their types.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from ptv2_cli.errors import RunError
from ptv2_cli.kinds import Kind, KindSpec

SCHEMA_VERSION = 1
PREDICTIONS_SCHEMA = 2
"""Of predictions/<split>.jsonl; 1 had row and prediction in one flat object."""
SHOWN = 40
"""Most characters of a wrong value that a message shows."""
_T = TypeVar("_T")
Scores = dict[str, float | None]
"""None: not a number, such as a correlation of equal values."""
Tables = dict[str, Scores]
PredictionLine = dict[str, Any]
"""`row` and `prediction`; in a run's own files `gold`, and of several tasks `task`."""


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


def _rate(value: Any) -> Any:
    """`auto` is checked with the config."""
    return None if value == "auto" else value


class _Train(_Part):
    lr: Annotated[float | None, BeforeValidator(_rate)]


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


class _Retention(_Part):
    kl: float | None
    kl_standard_error: float | None
    perplexity: float | None
    bare_perplexity: float | None
    tokens: int
    text: str
    sha256: str


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
    predictions_schema: int = 1
    retention: _Retention | None = None

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


class _PredictionLine(_Part):
    row: dict[str, Any]
    prediction: Any
    gold: Any


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


_METRICS = TypeAdapter(_Metrics)
_PREDICTION_LINE = TypeAdapter(_PredictionLine)
_PREDICTION = TypeAdapter(_Prediction)
_NUMBER = TypeAdapter(Annotated[float, Strict()])
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


def predictions_schema(metrics: Mapping[str, Any]) -> int:
    """The schema of a run's files of predictions; metrics.json of earlier versions has none."""
    return int(metrics.get("predictions_schema", 1))


def read_predictions(
    path: Path, metrics: Mapping[str, Any], kind: KindSpec, several: bool, hint: str
) -> list[dict[str, Any]]:
    """The lines of a predictions/<split>.jsonl: `row`, `prediction`, `gold`, of several `task`.

    Lines of schema 1 come back as those of schema 2. Their rows lack the columns that schema 1
    lost: those named like a key of the prediction, and the one of the gold answer.

    Args:
        path: the file.
        metrics: the content of the run's metrics.json.
        kind: the kind of the run's task.
        several: whether the run is one of several tasks.
        hint: what to type if the file is damaged.

    Raises:
        FileNotFoundError: there is none.
        RunError: it cannot be read, is empty, broken, or of an unknown schema.
    """
    schema = predictions_schema(metrics)
    what = "holds no predictions of a ptv2 run"
    if schema not in (1, PREDICTIONS_SCHEMA):
        raise RunError.at(
            str(path),
            f"has predictions of schema {schema}, this ptv2 reads 1 to {PREDICTIONS_SCHEMA}",
            "use the ptv2 that wrote it",
        )
    lines: list[Any] = _parsed(path, what, hint, _json_lines)
    if not lines:
        raise RunError.at(str(path), what, hint)
    for number, line in enumerate(lines, start=1):
        place = path.with_name(f"{path.name}:{number}")
        if schema == 1 and isinstance(line, dict) and "gold" in line:
            line = lines[number - 1] = _of_schema_1(line, kind.name, several)
        check(_PREDICTION_LINE, line, place, what, hint)
        types: TypeAdapter[Any] = _NUMBER if kind.answer == "number" else _PREDICTION
        check(types, line["prediction"], place, what, hint)
    return lines


_LABEL = ("label", "probabilities")
_ANSWER = ("answer", "start", "probability", "nbest", "null_score")
_KEYS_OF_SCHEMA_1: dict[Kind, tuple[str, ...]] = {
    "sequence": _LABEL,
    "choice": _LABEL,
    "token": ("tags", "entities"),
    "span": _ANSWER,
}


def _of_schema_1(line: dict[str, Any], kind: Kind, several: bool) -> dict[str, Any]:
    """A flat line, its keys divided into those of the row and those of the prediction."""
    row = {key: value for key, value in line.items() if key != "gold"}
    task = {"task": row.pop("task", None)} if several else {}
    if kind == "regression":
        number = row.pop("prediction", None)
        return {**task, "row": row, "prediction": number, "gold": line["gold"]}
    # The answers of a cloze are entities, although its head is that of a sequence.
    keys = _KEYS_OF_SCHEMA_1[kind] if "probabilities" in row or kind != "sequence" else _ANSWER
    prediction = {key: row.pop(key) for key in keys if key in row}
    return {**task, "row": row, "prediction": prediction, "gold": line["gold"]}


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
