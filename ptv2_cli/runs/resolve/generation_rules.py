"""Tasks whose answer is written: which keys go with them, and the defaults of `generate:`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ptv2_cli.backbones.families import Shape
from ptv2_cli.config.generate import GenerateSection
from ptv2_cli.config.load import LoadedConfig
from ptv2_cli.config.overrides import Override
from ptv2_cli.config.schema import RunConfig
from ptv2_cli.errors import Problem
from ptv2_cli.methods.spec import MethodSpec
from ptv2_cli.tasks.base import Task

DRAWS = ("temperature", "top_k", "top_p", "seed")
"""Keys that only do_sample reads."""
BEAMS = ("length_penalty", "early_stopping")
"""Keys that only a beam search reads."""
IDLE_HEAD = ("lr", "dropout", "pooling")
"""Keys of `head:` that the language-model head does not read."""


def generation_problems(loaded: LoadedConfig, method: MethodSpec, task: Task) -> Iterator[Problem]:
    """What is wrong with `generate:`, or with a task that writes."""
    config, section = loaded.config, loaded.config.generate
    if not task.kind_spec.writes:
        if section is not None:
            what = f"{task.name} has nothing to write: its answer is no text of its own"
            yield Problem(loaded.where("generate"), what, "leave generate out")
        return
    for key in IDLE_HEAD:
        if getattr(config.head, key) is not None:
            what = f"{task.name} is answered by the backbone's own language-model head"
            yield Problem(loaded.where("head", key), what, f"leave head.{key} out")
    if config.method.name == "head_only":
        what = "head_only trains a new head, and the answer is written by the backbone's own"
        yield Problem(loaded.where("method"), what, "write method: none to evaluate it as it is")
    yield from _template_problems(loaded, method)
    if section is None:
        return
    for keys, on, switch in (
        (DRAWS, section.do_sample, "do_sample: true"),
        (BEAMS, section.num_beams > 1, "num_beams: 4"),
    ):
        for key in keys:
            if getattr(section, key) is not None and not on:
                what = f"has no effect without {switch.partition(':')[0]}"
                yield Problem(loaded.where("generate", key), what, f"write {switch} beside it")
    if (section.min_new_tokens or 0) > section.max_new_tokens:
        what = f"{section.min_new_tokens} is more than max_new_tokens {section.max_new_tokens}"
        hint = "write a smaller min_new_tokens"
        yield Problem(loaded.where("generate", "min_new_tokens"), what, hint)


def without_idle(overrides: Sequence[Override]) -> list[Override]:
    """The overrides, and null for each key that only what they turn off reads.

    A finished run's config holds such keys; without draws or beams they would be errors.
    """
    given = {each.path[-1]: each for each in overrides if len(each.path) == 2}
    idle: list[Override] = []
    for keys, switch, off in ((DRAWS, "do_sample", False), (BEAMS, "num_beams", 1)):
        if switch in given and given[switch].value == off:
            origin = given[switch].origin
            idle += [Override(("generate", key), None, origin) for key in keys if key not in given]
    return [*overrides, *idle]


def _template_problems(loaded: LoadedConfig, method: MethodSpec) -> Iterator[Problem]:
    """Two templates for one text, and a conversation beside a template of the method."""
    options, name = loaded.config.task.options, loaded.config.method.name
    if method.uses_template:
        for key in ("messages", "template"):
            if options.get(key) is not None:
                what = f"{name} writes the text by its own template"
                yield Problem(loaded.where("task", key), what, f"leave {key} out of task")
        if "{mask}" in (method.given_template or "").replace(" ", ""):
            what = "has a {mask}, but the answer is written behind the whole text"
            yield Problem(loaded.where("method", "template"), what, "leave {mask} out")
    cut = loaded.config.task.truncation
    if options.get("messages") is not None and cut not in {None, "longest_first"}:
        what = f"{cut} speaks of two texts; of a conversation the oldest messages are left out"
        yield Problem(loaded.where("task", "truncation"), what, "leave truncation out")


def generation_misfits(
    loaded: LoadedConfig, task: Task, shape: Shape, taken: int
) -> Iterator[Problem]:
    """What the backbone's config.json forbids, beside a prompt that takes `taken` positions."""
    if not task.kind_spec.writes:
        return
    section = loaded.config.generate or GenerateSection()
    # A causal model has text and answer in `task.max_len`; a decoder has positions of its own.
    if shape.family.two_stacks and shape.positions is not None:
        room = shape.positions - taken
        if section.max_new_tokens > room:
            beside = f" beside the prompt's {taken}" if taken else ""
            yield Problem(
                loaded.where("generate", "max_new_tokens"),
                f"{section.max_new_tokens} tokens are more than the {room} positions of the "
                f"decoder{beside}",
                f"write generate: {{max_new_tokens: {room}}}, or less",
            )
    if shape.family.two_stacks and loaded.config.task.options.get("messages") is not None:
        yield Problem(
            loaded.where("task", "messages"),
            f"{shape.family.name} is an encoder-decoder, whose decoder does not go on from its "
            "input as a chat template means it",
            "name a causal model; or write input: and output: columns",
        )
    if not (shape.family.causal or shape.family.two_stacks):
        yield Problem(
            loaded.where("backbone"),
            f"{shape.family.name} is an encoder: it cannot write text",
            "name a causal model or an encoder-decoder (ptv2 list backbones)",
        )


def resolved_generate(config: RunConfig, task: Task) -> dict[str, Any] | None:
    """The resolved config's `generate:`."""
    if not task.kind_spec.writes:
        return None
    section = config.generate or GenerateSection()
    seed = config.train.seed if section.seed is None and section.do_sample else section.seed
    return {**section.model_dump(), "seed": seed}
