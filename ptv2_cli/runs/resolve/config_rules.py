"""Combinations of keys that cannot work, whatever the backbone."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from ptv2_cli.config.fields import plain_name
from ptv2_cli.config.load import LoadedConfig
from ptv2_cli.config.schema import RunConfig
from ptv2_cli.errors import Problem
from ptv2_cli.inputs.template import parse_template
from ptv2_cli.methods.spec import MethodSpec
from ptv2_cli.runs.resolve.generation_rules import generation_problems
from ptv2_cli.runs.resolve.verbalizer_rules import VERBALIZER, head_problems
from ptv2_cli.tasks.base import Task
from ptv2_cli.tasks.class_weights import weight_problems


def config_problems(loaded: LoadedConfig, method: MethodSpec, task: Task) -> Iterator[Problem]:
    """Combinations of keys that cannot work, whatever the backbone."""
    config = loaded.config
    if method.uses_prompt and prompt_length(config, method, task) is None:
        yield Problem(
            loaded.where("method"),
            f"{config.method.name} needs a prompt_len",
            "add prompt_len: 20, or pass --prompt-len 20",
        )
    template = method.given_template
    if template is not None and config.prompt_len is not None:
        vectors = parse_template(template, task.columns).length
        if vectors != config.prompt_len:
            yield Problem(
                loaded.where("prompt_len"),
                f"prompt_len is {config.prompt_len}, the template has {vectors} prompt vectors",
                "prompt_len is the total over the template: correct one, or leave prompt_len out",
            )
    yield from head_problems(loaded, method, task)
    yield from generation_problems(loaded, method, task)
    if config.head.name not in {None, task.kind_spec.head_name, VERBALIZER}:
        yield Problem(
            loaded.where("head", "name"),
            f"{task.name} needs a {task.kind_spec.head_name} head, not {config.head.name!r}",
            "leave head.name out: the task chooses it",
        )
    masked = config.head.name == VERBALIZER or method.may_have_mask
    if config.head.pooling == "mask" and not masked:
        yield Problem(
            loaded.where("head", "pooling"),
            "pooling: mask reads a template's {mask}, but this method has no template with {mask}",
            "leave head.pooling out, or write method: ptuning_v1 with {mask} in its template",
        )
    clash = config.head.pooling not in {None, "mask"} and config.head.name != VERBALIZER
    if clash and "{mask}" in (template or ""):
        yield Problem(
            loaded.where("head", "pooling"),
            f"the template has {{mask}}, which the head reads, not {config.head.pooling}",
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
    yield from _batching(loaded)
    yield from _sharding(loaded, method)
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
    """A run's name that cannot be part of a folder's name."""
    try:
        plain_name(loaded.config.name or loaded.path.stem)
    except ValueError as error:
        what = f"the run takes its name from this file, and a name {error}"
        yield Problem(str(loaded.path), what, "type --set name=NAME, or write name: NAME into it")


def _batching(loaded: LoadedConfig) -> Iterator[Problem]:
    """A batch has so many rows or so many tokens, not both."""
    said = loaded.raw.get("train") or {}
    if said.get("batch_size") is not None and said.get("batch_tokens") is not None:
        yield Problem(
            loaded.where("train", "batch_tokens"),
            f"batch_tokens {said['batch_tokens']} stands beside batch_size {said['batch_size']}: a "
            "batch has one size",
            "keep train.batch_size or train.batch_tokens; --unset train.batch_size drops what a "
            "file says",
        )


def _sharding(loaded: LoadedConfig, method: MethodSpec) -> Iterator[Problem]:
    """What several devices cannot do while they share the backbone's weights."""
    config, where = loaded.config, loaded.where("train", "shard")
    if config.train.shard is None:
        if config.train.cpu_offload:
            what = "cpu_offload is about weights that devices share, and train.shard is not set"
            key = loaded.where("train", "cpu_offload")
            yield Problem(key, what, "add train.shard: full, or leave cpu_offload out")
        return
    if method.trains_backbone and config.train.precision == "fp16":
        what = "the loss of fp16 cannot be scaled where devices share weights that train"
        yield Problem(where, what, "write train.precision: bf16, or leave out train.shard")
    others = {
        "backbone.quantize": config.backbone.quantize is not None,
        "train.compile": config.train.compile,
        "train.cache": config.train.cache is not None,
    }
    for key, said in others.items():
        if said:
            what = f"weights that devices share do not work with {key}"
            yield Problem(where, what, f"leave out train.shard or {key}")
    if config.retention is not None:
        what = "retention is measured by one device, and shard leaves it a part of the backbone"
        yield Problem(where, what, "leave retention out; ptv2 eval RUN --retention measures it")


def _weighting(loaded: LoadedConfig, method: MethodSpec, task: Task) -> Iterator[Problem]:
    """Class weights where nothing trains, or for a task without classes."""
    setting, where = loaded.config.train.class_weights, loaded.where("train", "class_weights")
    if setting is None:
        return
    if not method.trains:
        what = f"{loaded.config.method.name} trains nothing, so class weights have no effect"
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
    """A sample without a size or a seed without a sample, and tasks that cannot be sampled."""
    limit = loaded.config.task.limit
    where = loaded.where("task", "limit")
    counts = [limit.train, limit.validation, limit.test]
    if limit.sample == "first" and limit.seed is not None:
        hint = "add sample: random or stratified, or leave seed out"
        yield Problem(where, "has a seed, but sample: first draws nothing", hint)
    if limit.sample != "first" and counts == [None] * 3:
        hint = f"say how many: limit: {{train: 32, sample: {limit.sample}}}"
        yield Problem(where, f"sample: {limit.sample} without a number of rows", hint)
    if limit.sample == "stratified" and not task.classed:
        what = f"{task.name} has no single label per row to stratify by"
        yield Problem(where, what, "write sample: random")
    for section in getattr(task.options, "tasks", ()):
        if section.limit.sample != "first":
            what = f"{section.name}: tasks that train together cannot be sampled"
            yield Problem(where, what, "write sample: first, or train the tasks in separate runs")


def prompt_length(config: RunConfig, method: MethodSpec, task: Task) -> int | None:
    """P: what `prompt_len` says, or else how many vectors the template has room for."""
    template = method.given_template
    if config.prompt_len is None and template is not None:
        return parse_template(template, task.columns).length
    return config.prompt_len
