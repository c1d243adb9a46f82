"""A config with every default filled in, checked against its method, task and backbone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ptv2_cli.backbones.families import Shape, shape_of
from ptv2_cli.backbones.files.locate import Located, locate
from ptv2_cli.backbones.files.remote_code import check_own_code
from ptv2_cli.config.fields import HeldDtype
from ptv2_cli.config.load import LoadedConfig, options_from
from ptv2_cli.config.schema import RunConfig, names_folder
from ptv2_cli.errors import ConfigError, Problem, gather
from ptv2_cli.kinds import KINDS
from ptv2_cli.methods.spec import MethodSpec, TrainDefaults
from ptv2_cli.plugins import sources
from ptv2_cli.registry import HEADS, METHODS, TASKS, Source
from ptv2_cli.runs.resolve.backbone_rules import backbone_problems, positions_taken
from ptv2_cli.runs.resolve.config_rules import config_problems, prompt_length
from ptv2_cli.runs.resolve.generation_rules import resolved_generate
from ptv2_cli.runs.resolve.method_rules import module_problems, package_problems
from ptv2_cli.runs.resolve.retention_rules import retention_problems
from ptv2_cli.runs.resolve.tracker_rules import tracker_problems
from ptv2_cli.runs.resolve.verbalizer_rules import VERBALIZER, resolved_head, settled_words
from ptv2_cli.tasks.base import Task
from ptv2_cli.tasks.catalog import load_task, task_class
from ptv2_cli.tasks.class_weights import weight_problems
from ptv2_cli.training.lr_curve import STEPS, rates_around

HOLDOUT = 0.1
"""Share of train that is held out where the data has no validation split."""
TRAINING = ("lr", "epochs", "steps", "warmup", "weight_decay", "average")
"""Keys of `train:` without effect where nothing trains."""


@dataclass(frozen=True)
class ResolvedConfig:
    """One run, decided: what `config.yaml` in its directory will say, and what its names mean."""

    config: RunConfig
    method: MethodSpec
    task: Task
    located: Located
    """The backbone's files; weights only where they were already there."""
    shape: Shape
    report_asked: bool = False
    """Whether the config itself says which splits to report."""
    notes: tuple[str, ...] = ()
    """What the user should know about how the config was read."""
    plugins: tuple[Source, ...] = ()
    """Code from outside the package that may change the result."""

    @property
    def prompt_sites(self) -> str:
        """One line that says where prompts enter."""
        stacks = self.shape.prompted(decodes=self.task.kind_spec.decodes)
        return self.method.describe(self.config.prompt_len, stacks)

    @property
    def room(self) -> int:
        """The greatest `max_len` that fits beside the prompt."""
        taken = positions_taken(self.config, self.method, self.task)
        return self.shape.max_text(taken)

    @property
    def verbalizes(self) -> bool:
        """Whether the backbone's own language-model head answers."""
        return self.config.head.name == VERBALIZER

    @property
    def default_lr(self) -> float | None:
        """The method's learning rate for the head kind; None: nothing trains."""
        return self.method.defaults(self.task.kind_spec).lr

    @property
    def finds_lr(self) -> bool:
        """Whether a range test chooses the learning rate."""
        return self.config.train.lr == "auto"

    @property
    def rate_line(self) -> str:
        """A few words that say what the learning rate is, or how it will be found."""
        lr = self.config.train.lr
        if lr == "auto" and self.default_lr is not None:
            rates = rates_around(self.default_lr)
            return (
                f"learning rate auto (a range test of {STEPS} steps from {rates[0]:.1e} to "
                f"{rates[-1]:.1e})"
            )
        return f"learning rate {lr:g}"

    def settled(self, task: Task) -> ResolvedConfig:
        """The same config with the options that `task` has read from the data.

        Raises:
            ConfigError: what it says of labels does not fit those of the data.
        """
        setting = self.config.train.class_weights
        gather(weight_problems(setting, task) if setting is not None else (), ConfigError)
        filled = self.config.model_dump()
        filled["task"] = {**filled["task"], **task.options.model_dump()}
        if self.verbalizes:
            filled["head"]["words"] = settled_words(self.config.head.words, task)
        return replace(self, config=RunConfig.model_validate(filled), task=task)

    def reporting(self, splits: tuple[str, ...]) -> ResolvedConfig:
        """The same config that reports other splits."""
        filled = {**self.config.model_dump(), "report": splits}
        return replace(self, config=RunConfig.model_validate(filled))


def resolve_config(loaded: LoadedConfig, *, offline: bool) -> ResolvedConfig:
    """Fill in and check a config; of the backbone only the small files are fetched.

    Raises:
        ConfigError: with every problem.
        BackboneError: the backbone cannot be found, is of no known family, or asks to run code
            that the config does not ask for.
    """
    method, task = resolve_names(loaded)
    config = loaded.config
    gather([*package_problems(loaded, method), *config_problems(loaded, method, task)], ConfigError)
    located = locate(config.backbone, offline=offline, weights=False)
    check_own_code(located, config.backbone)
    shape = shape_of(located.name, located.config)
    method = method.suited_to(task.kind_spec, shape.family.causal)
    dtype = config.backbone.held_dtype(located.config)
    gather(
        [
            *backbone_problems(loaded, method, task, shape, dtype),
            *retention_problems(loaded, method, shape),
        ],
        ConfigError,
    )
    gather(module_problems(loaded, method, task, located), ConfigError)
    if config.head.name == VERBALIZER or task.kind_spec.writes or config.retention is not None:
        from ptv2_cli.backbones.language.lm_head import check_has_head

        check_has_head(located, shape.family)
    filled = _resolved(_with_dtype(config, dtype), method, task, shape)
    return ResolvedConfig(
        filled,
        method,
        task,
        located,
        shape,
        report_asked=config.report is not None,
        notes=tuple(_notes(config, method)),
        plugins=_plugins(loaded, task),
    )


def _plugins(loaded: LoadedConfig, task: Task) -> tuple[Source, ...]:
    names = [(METHODS, loaded.config.method.name)]
    for part in task.parts or (task,):
        names += [(KINDS, part.kind), (HEADS, loaded.config.head.name or part.kind_spec.head_name)]
        names += [(TASKS, part.name)] if part.name in TASKS.names() else []
    return tuple(sources(loaded.included, names))


def resolve_names(loaded: LoadedConfig) -> tuple[MethodSpec, Task]:
    """What `method:` and `task:` name, with their options.

    Raises:
        ConfigError: with all problems of both.
    """
    problems: list[Problem] = [*tracker_problems(loaded)]
    config = loaded.config
    method: MethodSpec | None = None
    task: Task | None = None
    try:
        spec: type[MethodSpec] = METHODS.load(
            METHODS.canonical(config.method.name, loaded.where("method"))
        )
    except ConfigError as error:
        problems += error.problems
    else:
        method, invalid = options_from(spec, config.method.options, loaded, section="method")
        problems += invalid
    try:
        model = task_class(config.task.name)
        task_options, invalid = options_from(
            model.options_model, config.task.options, loaded, section="task"
        )
        problems += invalid
        if task_options is not None:
            task = load_task(config.task.name, config.task.options)
            if config.selection.metric is not None:
                task = task.measuring(config.selection.metric)
    except ConfigError as error:
        where = loaded.where("task", "name")
        problems += [replace(problem, where=where) for problem in error.problems]
    gather(problems, ConfigError)
    assert method is not None
    assert task is not None
    return method, task


def _notes(config: RunConfig, method: MethodSpec) -> Iterator[str]:
    if config.prompt_len is not None and not method.uses_prompt:
        yield f"prompt_len {config.prompt_len} is ignored: {config.method.name} has no prompt"
    if config.backbone.revision and names_folder(config.backbone.name):
        yield f"backbone.revision {config.backbone.revision} is ignored: the backbone is a folder"
    for key in () if method.trains else TRAINING:
        value = getattr(config.train, key)
        if value is not None:
            shown = value if isinstance(value, str) else f"{value:g}"
            yield f"train.{key} {shown} is ignored: {config.method.name} trains nothing"


def _resolved(config: RunConfig, method: MethodSpec, task: Task, shape: Shape) -> RunConfig:
    """The config with every default filled in, so that no other version chooses another."""
    defaults = method.defaults(task.kind_spec)
    train, selection = config.train, config.selection
    room = shape.max_text(positions_taken(config, method, task))
    filled: dict[str, Any] = {
        **config.model_dump(),
        "method": {"name": METHODS.canonical(config.method.name), **method.model_dump()},
        "task": {
            **config.task.model_dump(exclude=set(config.task.options)),
            **task.options.model_dump(),
            "max_len": config.task.max_len or min(task.max_len or room, room),
            "truncation": config.task.truncation or task.truncation,
        },
        "prompt_len": prompt_length(config, method, task) if method.uses_prompt else None,
        "head": {
            **config.head.model_dump(),
            "name": task.kind_spec.head_name,
            "lr": _head_rate(config, defaults, task),
            "pooling": _pooling(config, method, shape) if task.kind_spec.pooled else None,
            **(resolved_head(config, method, task) if config.head.name == VERBALIZER else {}),
        },
        "train": {
            **train.model_dump(),
            "lr": defaults.lr if train.lr is None else train.lr,
            "epochs": train.epochs or (None if train.steps else defaults.epochs),
            "warmup": _given(train.warmup, defaults.warmup),
            "weight_decay": _given(train.weight_decay, defaults.weight_decay),
            **({} if method.trains else dict.fromkeys(TRAINING)),
        },
        "selection": {
            **selection.model_dump(),
            "metric": selection.metric or task.metric,
            "fraction": (selection.fraction or HOLDOUT) if selection.split == "holdout" else None,
        },
        "generate": resolved_generate(config, task),
        "report": config.report or task.report,
    }
    return RunConfig.model_validate(filled)


def _head_rate(config: RunConfig, defaults: TrainDefaults, task: Task) -> float | None:
    """The head's own rate: what the config says, also null, else the method's for a new head."""
    head = config.head
    new = not task.kind_spec.writes and head.name != VERBALIZER
    said = "lr" in head.model_fields_set
    return defaults.head_lr if new and not said else head.lr


def _with_dtype(config: RunConfig, dtype: HeldDtype) -> RunConfig:
    """The config with what `backbone.dtype: auto` means."""
    return config.model_copy(
        update={"backbone": config.backbone.model_copy(update={"dtype": dtype})}
    )


def _pooling(config: RunConfig, method: MethodSpec, shape: Shape) -> str:
    """What the head reads: the {mask} of a template that has one, else the family's vector."""
    if config.head.pooling is not None:
        return config.head.pooling
    template = method.given_template
    if method.may_have_mask and not (template is None and not shape.family.masks):
        return "mask"
    return shape.family.pooling


def _given(value: float | None, default: float | None) -> float | None:
    return default if value is None else value


def with_holdout(resolved: ResolvedConfig) -> ResolvedConfig:
    """The config for data without a validation split: a tenth of train stands in for it."""
    filled: Mapping[str, Any] = resolved.config.model_dump()
    report = ["holdout" if split == "validation" else split for split in filled["report"]]
    filled = {
        **filled,
        "selection": {**filled["selection"], "split": "holdout", "fraction": HOLDOUT},
        "report": tuple(dict.fromkeys(report)),
    }
    purpose = "choose and report on" if "holdout" in report else "choose on"
    note = f"the data has no validation split: a tenth of train is held out to {purpose}"
    return replace(resolved, config=RunConfig.model_validate(filled), notes=(*resolved.notes, note))
