"""A config with every default filled in, checked against its method, task and backbone."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ptv2_cli.backbones.families import Shape, shape_of
from ptv2_cli.backbones.locate import Located, locate
from ptv2_cli.backbones.remote_code import check_own_code
from ptv2_cli.config.fields import HeldDtype, plain_name
from ptv2_cli.config.load import LoadedConfig, options_from
from ptv2_cli.config.schema import RunConfig
from ptv2_cli.errors import ConfigError, Problem, gather
from ptv2_cli.inputs.template import parse_template
from ptv2_cli.methods.spec import MethodSpec
from ptv2_cli.registry import METHODS
from ptv2_cli.runs.resolve.cache_rules import cache_problems
from ptv2_cli.runs.resolve.dtype_rules import dtype_problems
from ptv2_cli.runs.resolve.verbalizer_rules import (
    VERBALIZER,
    head_misfits,
    head_problems,
    resolved_head,
    settled_words,
)
from ptv2_cli.tasks.base import Task
from ptv2_cli.tasks.catalog import load_task, task_class
from ptv2_cli.tasks.class_weights import weight_problems

HOLDOUT = 0.1
"""Share of train that is held out where the data has no validation split."""
TRAINING = ("lr", "epochs", "steps", "warmup", "weight_decay")
"""Keys of `train:` that mean nothing where nothing trains."""
LEAST_TEXT = 8
"""Tokens, the least that a default `max_len` may leave for text."""


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

    @property
    def places(self) -> str:
        """One line that says where prompts enter."""
        stacks = self.shape.prompted(decodes=self.task.kind_spec.pooled)
        return self.method.describe(self.config.prompt_len, stacks)

    @property
    def room(self) -> int:
        """The greatest `max_len` that fits beside the prompt."""
        taken = _positions_taken(self.config, self.method, self.task)
        return self.shape.max_text(taken)

    @property
    def verbalizes(self) -> bool:
        """Whether the backbone's own language-model head answers."""
        return self.config.head.name == VERBALIZER

    def settled(self, task: Task) -> ResolvedConfig:
        """The same config with the options that `task` found in the data.

        Raises:
            ConfigError: what it says of labels does not fit those that were found.
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
        ConfigError: with every problem found.
        BackboneError: the backbone cannot be found, is of no known family, or asks to run code
            that the config does not ask for.
    """
    method, task = resolve_names(loaded)
    config = loaded.config
    gather(_clashes(loaded, method, task), ConfigError)
    located = locate(config.backbone, offline=offline, weights=False)
    check_own_code(located, config.backbone)
    shape = shape_of(located.name, located.config)
    held = config.backbone.held_dtype(located.config)
    gather(
        [
            *_misfits(loaded, method, task, shape),
            *head_misfits(loaded, method, task, shape),
            *dtype_problems(loaded, method, held),
            *cache_problems(loaded, method, task, shape),
        ],
        ConfigError,
    )
    if config.head.name == VERBALIZER:
        from ptv2_cli.backbones.lm_head import check_has_head

        check_has_head(located, shape.family)
    filled = _resolved(_holding(config, held), method, task, shape)
    return ResolvedConfig(
        filled,
        method,
        task,
        located,
        shape,
        report_asked=config.report is not None,
        notes=tuple(_notes(config, method)),
    )


def resolve_names(loaded: LoadedConfig) -> tuple[MethodSpec, Task]:
    """What `method:` and `task:` name, with their options.

    Raises:
        ConfigError: with all problems of both.
    """
    problems: list[Problem] = []
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
        method, found = options_from(spec, config.method.options, loaded, section="method")
        problems += found
    try:
        model = task_class(config.task.name)
        task_options, found = options_from(
            model.options_model, config.task.options, loaded, section="task"
        )
        problems += found
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


def _clashes(loaded: LoadedConfig, method: MethodSpec, task: Task) -> Iterator[Problem]:
    """Combinations that cannot work, whatever the backbone."""
    config = loaded.config
    if method.uses_prompt and _prompt_len(config, method, task) is None:
        yield Problem(
            loaded.where("method"),
            f"{config.method.name} needs a prompt_len",
            "add prompt_len: 20, or pass --prompt-len 20",
        )
    template = method.given_template
    if template is not None and config.prompt_len is not None:
        places = parse_template(template, task.columns).length
        if places != config.prompt_len:
            yield Problem(
                loaded.where("prompt_len"),
                f"prompt_len is {config.prompt_len}, the template has places for {places}",
                "prompt_len is the total over the template: correct one, or leave prompt_len out",
            )
    yield from head_problems(loaded, method, task)
    if config.head.name not in {None, task.kind_spec.head_name, VERBALIZER}:
        yield Problem(
            loaded.where("head", "name"),
            f"{task.name} needs a {task.kind_spec.head_name} head, not {config.head.name!r}",
            "leave head.name out: the task chooses it",
        )
    asked = config.head.name == VERBALIZER or method.may_have_mask
    if config.head.pooling == "mask" and not asked:
        yield Problem(
            loaded.where("head", "pooling"),
            "pooling: mask reads a template's {mask}, which this method has not",
            "leave head.pooling out, or write method: ptuning_v1 with {mask} in its template",
        )
    clash = config.head.pooling not in {None, "mask"} and config.head.name != VERBALIZER
    if clash and "{mask}" in (template or ""):
        yield Problem(
            loaded.where("head", "pooling"),
            f"the template's {{mask}} is what the head reads, not {config.head.pooling}",
            "leave head.pooling out, or {mask} out of the template",
        )
    metric = config.selection.metric
    if metric is not None and metric not in task.metrics:
        yield Problem(
            loaded.where("selection", "metric"),
            f"{task.name} has no metric {metric!r}",
            _metric_hint(metric, task),
        )
    if config.selection.fraction is not None and config.selection.split != "holdout":
        yield Problem(
            loaded.where("selection", "fraction"),
            "fraction says how much of train to hold out, but nothing is held out",
            "write selection: {split: holdout, fraction: 0.1}",
        )
    yield from _weighting(loaded, method, task)
    yield from _naming(loaded)
    yield from _tuning(loaded, task)
    yield from _sampling(loaded, task)


def _metric_hint(metric: str, task: Task) -> str:
    near = difflib.get_close_matches(metric, [*task.metrics, *task.further_metrics], n=1)
    guess = f"did you mean {near[0]}? " if near else ""
    further = [name for name in task.further_metrics if name not in task.metrics]
    others = f"; by name also {', '.join(further)}" if further else ""
    return f"{guess}its metrics are {', '.join(task.metrics)}{others}"


def _naming(loaded: LoadedConfig) -> Iterator[Problem]:
    """A file whose name cannot begin that of a run's folder."""
    try:
        plain_name(loaded.config.name or loaded.path.stem)
    except ValueError as error:
        what = f"the run takes its name from this file, and a name {error}"
        yield Problem(str(loaded.path), what, "type --set name=NAME, or write name: NAME into it")


def _weighting(loaded: LoadedConfig, method: MethodSpec, task: Task) -> Iterator[Problem]:
    """Class weights where nothing trains, or of a task that has no such classes."""
    setting, where = loaded.config.train.class_weights, loaded.where("train", "class_weights")
    if setting is None:
        return
    if not method.trains:
        what = f"{loaded.config.method.name} trains nothing that labels could count in"
        yield Problem(where, what, "leave class_weights out")
    yield from weight_problems(setting, task, where)


def _tuning(loaded: LoadedConfig, task: Task) -> Iterator[Problem]:
    """Numbers tuned on a split must not be reported on it."""
    selection = loaded.config.selection.split
    report = loaded.config.report or task.report
    if task.tunes and selection in report:
        yield Problem(
            loaded.where("task"),
            f"null_threshold: tuned would be tuned on {selection}, which is also reported",
            "add selection: {split: holdout}, so that a part of train chooses",
        )


def _sampling(loaded: LoadedConfig, task: Task) -> Iterator[Problem]:
    """A sample of nothing, by labels that rows have not, or where the first rows are taken."""
    limit = loaded.config.task.limit
    where = loaded.where("task", "limit")
    counts = [limit.train, limit.validation, limit.test]
    if limit.sample == "first" and limit.seed is not None:
        hint = "add sample: random or stratified, or leave seed out"
        yield Problem(where, "a seed, but the first rows are no sample", hint)
    if limit.sample != "first" and counts == [None] * 3:
        hint = f"say how many: limit: {{train: 32, sample: {limit.sample}}}"
        yield Problem(where, f"a {limit.sample} sample of no size", hint)
    if limit.sample == "stratified" and not task.classed:
        what = f"{task.name} has no single label per row to stratify by"
        yield Problem(where, what, "write sample: random")
    for section in getattr(task.options, "tasks", ()):
        if section.limit.sample != "first":
            hint = "take the first rows, or train the tasks apart"
            yield Problem(where, f"tasks that train together: a sample of {section.name}", hint)


def _misfits(
    loaded: LoadedConfig, method: MethodSpec, task: Task, shape: Shape
) -> Iterator[Problem]:
    """What the backbone's config.json forbids."""
    config = loaded.config
    for key, what in method.problems(config, shape.prompted(decodes=task.kind_spec.pooled)):
        yield Problem(loaded.where("method", key), what, "ptv2 list methods shows the options")
    taken = _positions_taken(config, method, task)
    room = shape.max_text(taken)
    where = loaded.where("task", "max_len") if config.task.max_len else loaded.where("prompt_len")
    limit = config.task.max_len or LEAST_TEXT
    if limit > shape.limit:
        yield Problem(
            where,
            f"max_len {limit} is longer than the {shape.limit} positions of {config.backbone.name}",
            _fitting(shape, room),
        )
    elif limit > room:
        keep = "; method.position_offset: keep needs none" if not method.in_input else ""
        yield Problem(
            where,
            f"prompt_len {taken} plus {limit} tokens of text are more than the "
            f"{shape.positions} positions of {config.backbone.name}",
            _fitting(shape, room) + (" or a shorter prompt" if room >= LEAST_TEXT else "") + keep,
        )
    pooling = config.head.pooling
    if shape.family.two_stacks and task.kind_spec.pooled:
        template = method.given_template or ""
        if pooling not in {None, "cls"} or "{mask}" in template:
            yield Problem(
                loaded.where("head", "pooling") if pooling else loaded.where("method"),
                "an encoder-decoder's head reads the decoder's first position, not "
                + (f"pooling: {pooling}" if pooling else "the template's {mask}"),
                "leave head.pooling out, and {mask} out of the template",
            )


def _fitting(shape: Shape, room: int) -> str:
    """What to change where prompt and text are too long: `room` tokens of text fit now."""
    if room >= LEAST_TEXT or shape.positions is None:
        return f"use a max_len of at most {room}"
    return f"use a prompt_len of at most {shape.positions - LEAST_TEXT}, and leave max_len out"


def _positions_taken(config: RunConfig, method: MethodSpec, task: Task) -> int:
    """Positions of the backbone that the prompt uses up."""
    if method.takes_positions:
        return _prompt_len(config, method, task) or 0
    return 0


def _prompt_len(config: RunConfig, method: MethodSpec, task: Task) -> int | None:
    template = method.given_template
    if config.prompt_len is None and template is not None:
        return parse_template(template, task.columns).length
    return config.prompt_len


def _notes(config: RunConfig, method: MethodSpec) -> Iterator[str]:
    if config.prompt_len is not None and not method.uses_prompt:
        yield f"prompt_len {config.prompt_len} means nothing to {config.method.name}: ignored"
    if config.backbone.revision and config.backbone.name.startswith(("/", "package:")):
        yield f"backbone.revision {config.backbone.revision} means nothing to a folder: ignored"
    for key in () if method.trains else TRAINING:
        value = getattr(config.train, key)
        if value is not None:
            yield f"train.{key} {value:g} means nothing to {config.method.name}: ignored"


def _resolved(config: RunConfig, method: MethodSpec, task: Task, shape: Shape) -> RunConfig:
    """The config with nothing left to defaults that another version could choose otherwise."""
    defaults = method.defaults(task.kind_spec)
    train, selection = config.train, config.selection
    room = shape.max_text(_positions_taken(config, method, task))
    filled: dict[str, Any] = {
        **config.model_dump(),
        "method": {"name": METHODS.canonical(config.method.name), **method.model_dump()},
        "task": {
            **config.task.model_dump(exclude=set(config.task.options)),
            **task.options.model_dump(),
            "max_len": config.task.max_len or min(task.max_len or room, room),
            "truncation": config.task.truncation or task.truncation,
        },
        "prompt_len": _prompt_len(config, method, task) if method.uses_prompt else None,
        "head": {
            **config.head.model_dump(),
            "name": task.kind_spec.head_name,
            "pooling": _pooling(config, method, shape) if task.kind_spec.pooled else None,
            **(resolved_head(config, method, task) if config.head.name == VERBALIZER else {}),
        },
        "train": {
            **train.model_dump(),
            "lr": _given(train.lr, defaults.lr),
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
        "report": config.report or task.report,
    }
    return RunConfig.model_validate(filled)


def _holding(config: RunConfig, held: HeldDtype) -> RunConfig:
    """The config with what `backbone.dtype: auto` means."""
    return config.model_copy(
        update={"backbone": config.backbone.model_copy(update={"dtype": held})}
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
