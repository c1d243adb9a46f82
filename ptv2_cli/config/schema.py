"""RunConfig: what one YAML file says, as frozen data. Knows no torch and opens no file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_serializer,
)

from ptv2_cli.config.fields import (
    HELD_DTYPES,
    ClassWeights,
    Count,
    Delimiter,
    Dropout,
    Encoding,
    EvalEvery,
    Flag,
    HeldDtype,
    Text,
    impossible,
    plain_name,
    registered,
    spelled,
)
from ptv2_cli.config.generate import GenerateSection
from ptv2_cli.config.retention import Retention
from ptv2_cli.config.section import Named, OpenNamed, Section
from ptv2_cli.registry import HEADS, METHODS, TRACKERS


def _listed(value: Any) -> Any:
    """One tracker, or none, as a list."""
    if value is None:
        return ()
    return value if isinstance(value, list | tuple) else (value,)


class MethodSection(OpenNamed):
    """`method:` - the rest of its keys is parsed by the method's own options model."""

    name: Annotated[Text, registered(METHODS), spelled(METHODS)] = Field(
        description="what trains; ptv2 list methods shows each"
    )


def names_folder(backbone: str) -> bool:
    """Whether a resolved backbone is a folder on this machine, and not on the hub."""
    return backbone.startswith(("/", "package:")) or Path(backbone).is_absolute()


class BackboneSection(Named):
    """`backbone:` - a hub id, a folder, a GGUF file or package:NAME, and how to load it."""

    name: Text = Field(description="hub id, folder, FILE.gguf, or package:IMPORT_NAME/FOLDER")
    revision: Text | None = Field(
        None, description="commit, tag or branch of a hub id; default: its main branch"
    )
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "fp32",
        description="type of the frozen weights in memory; auto: the type in their config.json",
    )
    quantize: Literal["int8", "int4"] | None = Field(
        None,
        description="keep the frozen Linear layers as integers (torchao); int4: GPUs, with bf16",
    )
    dropout: Dropout = Field(
        None,
        description="the backbone's dropout in training, or off; default: that of its config.json",
    )
    sha256: Text | None = Field(None, description="SHA-256 that the file of the weights must have")
    trust_remote_code: Flag = Field(
        False,
        description="run model code that comes with the weights; a hub id also needs revision",
    )

    @field_validator("trust_remote_code")
    @classmethod
    def _pinned(cls, value: bool, info: ValidationInfo) -> bool:
        # The code of a folder is what lies in it: nothing fetches other code behind its back.
        local = names_folder(str(info.data.get("name", "")))
        if value and not local and info.data.get("revision", "") is None:
            raise impossible(
                "runs code from the hub and needs revision: beside it, so that the code that "
                "runs is the code that you have read",
                "write backbone: {name: ..., revision: COMMIT, trust_remote_code: true}",
            )
        return value

    def held_dtype(self, model: Mapping[str, Any]) -> HeldDtype:
        """What `dtype` means for a model whose config.json is `model`.

        `auto` is the type that config.json names; fp32 if it names none of ours.
        """
        if self.dtype != "auto":
            return self.dtype
        named = str(model.get("dtype") or model.get("torch_dtype")).removeprefix("torch.")
        return HELD_DTYPES.get(named, "fp32")


class LimitSection(Section):
    """`task.limit:` - N rows of a split, the first or a sample."""

    train: Count | None = Field(None, description="train rows, of MultiRC questions; default: all")
    validation: Count | None = Field(None, description="rows of validation; default: all")
    test: Count | None = Field(None, description="rows of test; default: all")
    sample: Literal["first", "random", "stratified"] = Field(
        "first", description="which rows; stratified: random, with the label shares of the split"
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = Field(
        None, description="seed of the sample; default: train.seed"
    )


class TaskSection(OpenNamed):
    """`task:` - the rest of its keys is parsed by the task shape's own options model."""

    name: Text = Field(description="a task of ptv2 list tasks")
    data: Text | None = Field(
        None, description="folder of the data files, found by name; default: the hub's copy"
    )
    train: Text | None = Field(None, description="file of the train rows, instead of that in data")
    validation: Text | None = Field(None, description="file of the validation rows")
    test: Text | None = Field(None, description="file of the test rows")
    delimiter: Delimiter | None = Field(
        None,
        description="separator of the fields of csv and tsv files, a character or the word tab; "
        "default: read from the header",
    )
    encoding: Encoding | None = Field(
        None,
        description="encoding of the text files: latin1, cp1252, gb18030, ...; default: UTF-8, or "
        "UTF-16 if the first bytes show it",
    )
    skip_bad: Flag = Field(
        False,
        description="leave out rows that cannot be used, count them and list them in the run's "
        "folder (ptv2 train --skip-bad)",
    )
    max_len: Count | None = Field(
        None, description="most tokens of an input, without the prompt; default: the task's"
    )
    truncation: Literal["longest_first", "only_first", "only_second"] | None = Field(
        None, description="which text of a pair is cut when both are too long; default: the task's"
    )
    limit: LimitSection = Field(LimitSection(), description="only N rows of a split")
    demonstrations: Count | None = Field(
        None,
        description="number of train rows that are put before every text with their answers, drawn "
        "by the seed; needs head: verbalizer",
    )


class HeadSection(Named):
    """`head:` - kind, pooling, learning rate and dropout of the head."""

    name: Annotated[Text, registered(HEADS), spelled(HEADS)] | None = Field(
        None,
        description="sequence, regression, choice, token or span, or verbalizer: the backbone's "
        "language-model head answers in words; default: the head that the task needs",
    )
    pooling: Literal["pooler", "cls", "mean", "last", "mask"] | None = Field(
        None, description="vector that a head of whole inputs reads; default: by model family"
    )
    lr: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="learning rate of the head, null: train.lr; default: the method's, or train.lr",
    )
    dropout: Dropout = Field(
        None, description="dropout before the head, or off; default: the backbone's hidden dropout"
    )
    words: dict[Text, Text] | None = Field(
        None,
        description="verbalizer: the word of each label, {entailment: yes}; default: the task's",
    )
    template: Text | None = Field(
        None,
        description="verbalizer: the text that the model reads, {premise} so {hypothesis}? {mask}; "
        "causal models need {mask} at the end; default: the task's",
    )
    train: Flag = Field(
        False, description="verbalizer: train a copy of the language-model head too"
    )
    calibrate: Literal["contextual", "batch"] | None = Field(
        None,
        description="verbalizer with method: none: divide the probability of each label by the "
        "model's prior for it, measured on inputs without content (contextual) or on the rows of "
        "the selection split, without their labels (batch); default: no calibration",
    )


class TrackerSection(OpenNamed):
    """One tracker of `track:` - the rest of its keys is parsed by its own options model."""

    name: Annotated[Text, registered(TRACKERS)] = Field(
        description="tensorboard, mlflow, trackio, wandb, or a tracker from a plug-in"
    )


class EarlyStopping(Section):
    """`train.early_stopping:` - stop after `patience` evaluations without a better score."""

    patience: Count = Field(description="evaluations without a better score before it stops")


class TrainSection(Section):
    """`train:` - optimisation. None means: the method's default for the head kind."""

    lr: Annotated[float, Field(gt=0)] | Literal["auto"] | None = Field(
        None,
        description="learning rate, or auto: a short range test before training chooses it (arXiv "
        "1506.01186); default: the method's for the head kind",
    )
    epochs: Count | None = Field(
        None, description="passes over the train rows, instead of steps; default: by head kind"
    )
    steps: Count | None = Field(None, description="optimizer steps, instead of epochs")
    batch_size: Count = Field(32, description="rows of one forward pass")
    batch_tokens: Count | None = Field(
        None,
        description="most tokens of one forward pass, with padding and prompt, instead of "
        "batch_size: many short rows or few long ones",
    )
    eval_batch_size: Count | None = Field(
        None,
        description="rows of one forward pass in an evaluation; default: as many as a fixed "
        "number of tokens allows",
    )
    accumulate: Count = Field(
        1, description="forward passes whose gradients are added up for one step"
    )
    class_weights: ClassWeights = Field(
        None,
        description="weight of each label in the loss, {spam: 5, ham: 1}, others have 1; "
        "balanced: labels that are rare in train have more; default: equal weights",
    )
    clip: Annotated[float, Field(gt=0)] | None = Field(
        1.0, description="gradient clipping: largest norm of a step's gradient; null: no limit"
    )
    weight_decay: Annotated[float, Field(ge=0)] | None = Field(
        None, description="weight decay of AdamW; default: the method's, 0.01 for finetune, else 0"
    )
    schedule: Literal["linear", "cosine", "constant", "exponential"] = Field(
        "linear",
        description="learning rate over time; linear and cosine (half a period, arXiv 1608.03983) "
        "fall to 0 at the end; exponential: times 0.95 after each epoch",
    )
    warmup: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None,
        description="share of the steps in which the learning rate rises; default: the method's, "
        "0.06 for finetune and the methods of PEFT, else 0",
    )
    average: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description="average the weights over this share of the steps, at the end; evaluations and "
        "the saved run use the mean (arXiv 1803.05407); default: no averaging",
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="precision of the forward pass; bf16 and fp16 use autocast"
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        11, description="seed of all random draws: initial values, data order, dropout, holdout"
    )
    eval_every: EvalEvery = Field(
        "epoch", description="when to evaluate: epoch, or a number of steps"
    )
    early_stopping: EarlyStopping | None = Field(
        None, description="stop when the score no longer improves; default: never"
    )
    gradient_checkpointing: Flag = Field(
        False, description="recompute activations in the backward pass: less memory, more time"
    )
    cache: Literal["memory", "disk"] | None = Field(
        None,
        description="keep the outputs of the layers below the lowest prompt for the whole run, in "
        "main memory or in a temporary file; needs backbone.dropout: off; default: for one epoch, "
        "if lanes share them",
    )

    shard: Literal["full"] | None = Field(
        None,
        description="full: several devices share the weights of every layer between them, and of a "
        "backbone that trains its gradients and optimizer states too (FSDP2, arXiv 2304.11277), "
        "for models that are larger than one device; default: each device holds the whole backbone",
    )
    cpu_offload: Flag = Field(
        False,
        description="with shard: full, keep each device's part of the weights, and of a backbone "
        "that trains its gradients and optimizer states, in main memory, and copy layer by layer "
        "to the device; no effect on a CPU",
    )
    compile: Flag = Field(
        False,
        description="compile the backbone's layers with torch.compile, for long runs on a GPU; the "
        "first steps take longer",
    )

    @model_serializer(mode="wrap")
    def _one_size(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """All keys, but no batch_size that has no effect: the two are not said together."""
        content: dict[str, Any] = handler(self)
        if self.batch_tokens is not None:
            content.pop("batch_size", None)
        return content

    @field_validator("steps")
    @classmethod
    def _one_length(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("epochs") is not None:
            raise impossible(
                "stands beside epochs; a run has one length",
                "keep train.epochs or train.steps; --unset train.epochs drops what a file says",
            )
        return value


class SelectionSection(Section):
    """`selection:` - which split, metric and direction choose the epoch."""

    split: Literal["validation", "test", "holdout"] = Field(
        "validation", description="split that chooses the epoch; holdout: a part of train"
    )
    metric: Text | None = Field(
        None, description="score that chooses the epoch; default: the task's main metric"
    )
    mode: Literal["max", "min"] = Field(
        "max", description="whether the highest or the lowest score is best"
    )
    fraction: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="share of train held out for split: holdout; default: 0.1"
    )


class RunConfig(Section):
    """One run: four names and a length; everything else has a default."""

    name: Annotated[Text, AfterValidator(plain_name)] | None = Field(
        None, description="first part of the run directory's name; default: the file's name"
    )
    extends: Text | None = Field(
        None, description="config that this one extends, a path relative to this file"
    )
    include: tuple[Text, ...] = Field(
        (),
        strict=False,
        description="Python files that add methods, heads, tasks or trackers; they must be below "
        "this file's folder, or be named by --include too",
    )
    method: MethodSection = Field(description="what trains; a name, or a section with options")
    backbone: BackboneSection = Field(description="the pretrained model, a name or a section")
    task: TaskSection = Field(description="the data set and its metrics, a name or a section")
    prompt_len: Count | None = Field(
        None, description="number of prompt positions; methods without a prompt ignore it"
    )
    head: HeadSection = Field(
        HeadSection(), description="what turns hidden states into predictions"
    )
    train: TrainSection = Field(TrainSection(), description="optimisation")
    selection: SelectionSection = Field(
        SelectionSection(), description="how the epoch is chosen whose scores are reported"
    )
    generate: GenerateSection | None = Field(
        None, description="how the model writes, for tasks whose answer is a written text"
    )
    report: tuple[Literal["validation", "test", "holdout"], ...] | None = Field(
        None, strict=False, description="splits whose scores are reported; default: the task's"
    )
    retention: Retention = Field(
        None,
        description="causal models: true, or a section: measure at the chosen epoch how much the "
        "run has changed the model's predictions on a text that is unrelated to the task",
    )
    sweep: dict[str, Any] | None = Field(
        None,
        description="values to try, for ptv2 sweep: {prompt_len: [20, 100], seed: [11, 12]}; "
        "variants: {NAME: {KEY: VALUE, ...}} names settings of several keys; "
        "lanes: N or auto trains several trials on one backbone; engine: NAME runs the trials; "
        "search: tpe, random or grid proposes settings from space: {KEY: {log: [A, B]}, ...} "
        "(log, uniform, int, choice), up to trials: N and time: 2h, and prune: hyperband or median "
        "gives up bad ones; storage: URL of a database for the search",
    )
    track: Annotated[
        tuple[TrackerSection, ...],
        BeforeValidator(_listed),
        Field(strict=False),
        WithJsonSchema({"type": ["string", "object", "array"]}),
    ] = Field(
        (),
        description="trackers that follow the run: tensorboard, mlflow, trackio, wandb, or one "
        "from a plug-in; a name, a section with options, or a list of both",
    )

    @field_validator("report", mode="before")
    @classmethod
    def _no_retention(cls, report: Any) -> Any:
        if isinstance(report, list | tuple) and "retention" in report:
            what = "names retention, which is measured on a text of its own and is no split"
            raise impossible(what, "leave it out of report, and write retention: true")
        return report

    @field_validator("report")
    @classmethod
    def _names_a_split(cls, report: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if report == ():
            raise impossible("names no split", "write report: [validation]")
        return report
