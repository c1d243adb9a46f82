"""RunConfig: what one YAML file says, as frozen data. Knows no torch and opens no file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from ptv2_cli.errors import ConfigError
from ptv2_cli.registry import HEADS, METHODS, Registry


def _source_text(value: Any) -> Any:
    """Numbers and booleans read from YAML remember their source; a text field takes that."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return getattr(value, "source", value)


def _flag(value: Any) -> Any:
    """Python's and YAML 1.2's other spellings of the two booleans, which arrive as words."""
    return {"True": True, "TRUE": True, "False": False, "FALSE": False}.get(str(value), value)


def _registered(registry: Registry) -> AfterValidator:
    """A name of `registry`, its aliases replaced by the canonical name."""

    def canonical(name: str) -> str:
        try:
            return registry.canonical(name)
        except ConfigError as error:
            problem = error.problems[0]
            context = {"what": problem.what, "hint": problem.hint}
            raise PydanticCustomError("unknown_name", "{what}", context) from None

    return AfterValidator(canonical)


def _plain_name(name: str) -> str:
    if not name or name.startswith(".") or set(name) & set("/\\") or not name.isprintable():
        raise ValueError("must be usable as part of a folder's name: no / or \\, no leading dot")
    return name


Text = Annotated[str, BeforeValidator(_source_text)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Count = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]


def _off_or_fraction(value: Any) -> float | Literal["off"] | None:
    if value is None or value == "off":
        return value  # type: ignore[no-any-return]
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1:
        return float(value)
    raise ValueError("must be a number from 0 to below 1, or the word off")


Dropout = Annotated[float | Literal["off"] | None, PlainValidator(_off_or_fraction)]


class Section(BaseModel):
    """A mapping of the config: strict types, no unknown keys, immutable, finite numbers.

    The options models of methods and tasks derive from it too (see `explain.options_from`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _empty_section(cls, value: Any) -> Any:
        """A section whose lines are all commented out reads as null."""
        return {} if value is None else value


class Named(Section):
    """A section that may be given as its bare name."""

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return value if isinstance(value, dict | list | None) else {"name": value}


class OpenNamed(Named):
    """A named section whose further keys belong to the thing named (its own options model)."""

    model_config = ConfigDict(extra="allow")

    name: Text

    @property
    def options(self) -> dict[str, Any]:
        """The keys beside the fields declared here."""
        return dict(self.model_extra or {})


class MethodSection(OpenNamed):
    """`method:` - the rest of its keys is parsed by the method's own options model."""

    name: Annotated[Text, _registered(METHODS)]


class BackboneSection(Named):
    """`backbone:` - a hub id, a folder or package:NAME/FOLDER, and how to load it."""

    name: Text
    revision: Text | None = None
    dtype: Literal["fp32"] = "fp32"
    dropout: Dropout = None
    sha256: Text | None = None
    trust_remote_code: Flag = False

    @field_validator("trust_remote_code")
    @classmethod
    def _pinned(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("revision", "") is None:
            context = {
                "what": "runs code from the hub and wants revision: beside it, so that the code "
                "which runs is the code which was read",
                "hint": "write backbone: {name: ..., revision: COMMIT, trust_remote_code: true}",
            }
            raise PydanticCustomError("impossible", "{what}", context)
        return value


class LimitSection(Section):
    """`task.limit:` - the first N rows of a split."""

    train: Count | None = None
    validation: Count | None = None
    test: Count | None = None


class TaskSection(OpenNamed):
    """`task:` - the rest of its keys is parsed by the task shape's own options model."""

    data: Text | None = None
    max_len: Count | None = None
    truncation: Literal["longest_first", "only_first", "only_second"] | None = None
    limit: LimitSection = LimitSection()


class HeadSection(Named):
    """`head:` - kind, pooling, its own learning rate and dropout."""

    name: Annotated[Text, _registered(HEADS)] | None = None
    pooling: Literal["pooler", "cls", "mean", "last", "mask"] | None = None
    lr: Annotated[float, Field(gt=0)] | None = None
    dropout: Dropout = None


_ONE_LENGTH = "keep train.epochs or train.steps; --unset train.epochs drops what a file says"


class EarlyStopping(Section):
    """`train.early_stopping:` - stop after `patience` evaluations without a better score."""

    patience: Count


def _eval_every(value: Any) -> int | Literal["epoch"]:
    if value == "epoch":
        return "epoch"
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return int(value)
    raise ValueError("must be the word epoch or a number of steps, 1 or more")


class TrainSection(Section):
    """`train:` - optimisation. None means: the method's default for the head kind."""

    lr: Annotated[float, Field(gt=0)] | None = None
    epochs: Count | None = None
    steps: Count | None = None
    batch_size: Count = 32
    eval_batch_size: Count = 64
    accumulate: Count = 1
    clip: Annotated[float, Field(gt=0)] | None = 1.0
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    schedule: Literal["linear", "constant", "exponential"] = "linear"
    warmup: Annotated[float, Field(ge=0, lt=1)] | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 11
    eval_every: Annotated[int | Literal["epoch"], PlainValidator(_eval_every)] = "epoch"
    early_stopping: EarlyStopping | None = None
    gradient_checkpointing: Flag = False

    @field_validator("steps")
    @classmethod
    def _one_length(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("epochs") is not None:
            context = {"what": "stands beside epochs; a run has one length", "hint": _ONE_LENGTH}
            raise PydanticCustomError("impossible", "{what}", context)
        return value


class SelectionSection(Section):
    """`selection:` - which split, metric and direction choose the epoch."""

    split: Literal["validation", "test", "holdout"] = "validation"
    metric: Text | None = None
    mode: Literal["max", "min"] = "max"
    fraction: Annotated[float, Field(gt=0, lt=1)] | None = None


class RunConfig(Section):
    """One run: four names and a length; everything else has a default."""

    name: Annotated[Text, AfterValidator(_plain_name)] | None = None
    extends: Text | None = None
    method: MethodSection
    backbone: BackboneSection
    task: TaskSection
    prompt_len: Count | None = None
    head: HeadSection = HeadSection()
    train: TrainSection = TrainSection()
    selection: SelectionSection = SelectionSection()
    report: tuple[Literal["validation", "test", "holdout"], ...] | None = Field(
        default=None, strict=False
    )
    sweep: dict[str, Any] | None = None
    track: dict[str, Any] | None = None

    @field_validator("report")
    @classmethod
    def _names_a_split(cls, report: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if report == ():
            raise PydanticCustomError(
                "report", "{what}", {"what": "names no split", "hint": "write report: [validation]"}
            )
        return report
