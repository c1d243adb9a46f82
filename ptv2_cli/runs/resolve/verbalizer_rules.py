"""`head: verbalizer`: which keys go with it, and its defaults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ptv2_cli.backbones.families import Shape
from ptv2_cli.config.load import LoadedConfig
from ptv2_cli.config.schema import RunConfig
from ptv2_cli.errors import ConfigError, Problem, gather
from ptv2_cli.inputs.template import Literal, Mask, Template, parse_template
from ptv2_cli.inputs.verbalizer import TEMPLATE, WORDS, word_problems
from ptv2_cli.methods.spec import MethodSpec
from ptv2_cli.tasks.base import Task

VERBALIZER = "verbalizer"


def default_words(task: Task) -> dict[str, str] | None:
    """Label -> word: the definition's, or the labels themselves for the user's own data.

    None where the definition has none, or where the labels are not yet known.
    """
    section = task.definition.verbalizer
    if section is not None:
        return dict(section.words)
    own = not task.definition.labels and task.labels
    return {label: label for label in task.labels} if own else None


def default_question(task: Task) -> str | None:
    """The definition's template; for the user's own data the texts and `Answer:`."""
    section = task.definition.verbalizer
    if section is not None:
        return section.template
    if task.definition.labels:
        return None
    return " ".join([*(f"{{{name}}}" for name in task.columns), "Answer: {mask}"])


def head_problems(loaded: LoadedConfig, method: MethodSpec, task: Task) -> Iterator[Problem]:
    """What is wrong with `head: verbalizer`, or with its keys beside another head."""
    if loaded.config.head.name != VERBALIZER:
        yield from _without(loaded, method, task)
    elif task.kind_spec.answer != "label" or hasattr(task.options, "tasks"):
        yield Problem(
            loaded.where("head", "name"),
            f"{task.name} needs another head: the verbalizer answers a text or a pair with one "
            "label",
            "leave head out: the task chooses it",
        )
    else:
        yield from _idle(loaded, method)
        yield from _words(loaded, task)
        yield from _template(loaded, method, task)
        yield from _calibration(loaded, method, task)


def head_misfits(
    loaded: LoadedConfig, method: MethodSpec, task: Task, shape: Shape
) -> Iterator[Problem]:
    """What the backbone's config.json forbids."""
    if loaded.config.head.name != VERBALIZER:
        return
    if shape.family.two_stacks:
        yield Problem(
            loaded.where("head", "name"),
            f"{shape.family.name} is an encoder-decoder: it has no word at {{mask}}",
            "name an encoder or a causal model, or leave head out",
        )
    given = method.given_template
    text = given or loaded.config.head.template
    if shape.family.causal and text is not None:
        template = parse_template(text, task.columns, prompted=given is not None)
        if not isinstance(template.pieces[-1], Mask):
            yield Problem(
                loaded.where("method" if given else "head", "template"),
                f"{{mask}} is not the end of template {text!r}, and {shape.family.name} models "
                "read from left to right: their answer is the next word",
                "end the template in {mask}",
            )


def resolved_head(config: RunConfig, method: MethodSpec, task: Task) -> dict[str, Any]:
    """What the resolved config's `head:` says beside lr and dropout."""
    head = config.head
    own = not method.uses_template
    return {
        "name": VERBALIZER,
        "pooling": "mask",
        "words": head.words or default_words(task),
        "template": (head.template or default_question(task)) if own else None,
    }


def settled_words(words: Mapping[str, str] | None, task: Task) -> dict[str, str] | None:
    """The words, now that the labels are known.

    Raises:
        ConfigError: they are not the labels' words.
    """
    settled = dict(words) if words else default_words(task)
    gather(word_problems(settled or {}, task.labels, WORDS), ConfigError)
    return settled


def _without(loaded: LoadedConfig, method: MethodSpec, task: Task) -> Iterator[Problem]:
    """Keys that only the verbalizer reads."""
    config = loaded.config
    hint = "write name: verbalizer beside it, or leave it out"
    for key in ("words", "template", "train", "calibrate"):
        if getattr(config.head, key):
            what = "only head: verbalizer reads it"
            yield Problem(loaded.where("head", key), what, hint)
    if config.task.demonstrations is not None:
        yield Problem(
            loaded.where("task", "demonstrations"),
            "only head: verbalizer reads demonstrations",
            "write head: verbalizer, or leave demonstrations out",
        )
    if not method.trains and not task.kind_spec.writes:
        yield Problem(
            loaded.where("method"),
            f"{config.method.name} trains nothing, so a new head would answer at random",
            "write head: verbalizer, to use the backbone's own language-model head",
        )


def _idle(loaded: LoadedConfig, method: MethodSpec) -> Iterator[Problem]:
    """Keys without effect, and runs that train nothing although they should."""
    head, name = loaded.config.head, loaded.config.method.name
    if not method.trains and head.train:
        hint = "write method: head_only, or leave head.train out"
        yield Problem(loaded.where("head", "train"), f"{name} trains nothing", hint)
    if method.trains and not method.adds and not head.train:
        yield Problem(
            loaded.where("method"),
            f"{name} trains only the head, and the verbalizer is frozen: nothing would train",
            "write method: none to evaluate it as it is, or head.train: true",
        )
    if head.lr is not None and not head.train:
        hint = "add head.train: true, or leave head.lr out"
        yield Problem(loaded.where("head", "lr"), "the verbalizer is frozen", hint)
    if head.dropout is not None:
        what = "the language-model head has no dropout before it"
        yield Problem(loaded.where("head", "dropout"), what, "leave head.dropout out")
    if head.pooling not in {None, "mask"}:
        what = f"the verbalizer reads {{mask}}, not {head.pooling}"
        yield Problem(loaded.where("head", "pooling"), what, "leave head.pooling out")


def _words(loaded: LoadedConfig, task: Task) -> Iterator[Problem]:
    words, where = loaded.config.head.words or default_words(task), loaded.where("head", "words")
    if words is not None and task.labels:
        yield from word_problems(words, task.labels, where)
    elif task.labels:
        hint = ", ".join(f"{label}: WORD" for label in task.labels)
        what = f"{task.name} has no default words for its labels"
        yield Problem(where, what, f"write head: {{name: verbalizer, words: {{{hint}}}}}")


def _template(loaded: LoadedConfig, method: MethodSpec, task: Task) -> Iterator[Problem]:
    given, where = loaded.config.head.template, loaded.where("head", "template")
    places = " ".join(f"{{{name}}}" for name in task.columns)
    if method.uses_template:
        own = method.given_template
        if given is not None:
            what = f"{loaded.config.method.name} has its own template"
            yield Problem(where, what, "write it as method.template, with {p:N} and {mask}")
        elif own is not None and "{mask}" not in own:
            what = f"template {own!r} has no {{mask}}, which the verbalizer reads"
            hint = f"write method.template: {own} {{mask}}"
            yield Problem(loaded.where("method", "template"), what, hint)
        return
    text = given or default_question(task)
    if text is None:
        what = f"{task.name} has no default template for the verbalizer"
        yield Problem(where, what, f'write head.template: "{places} {{mask}}"')
        return
    try:
        template = parse_template(text, task.columns, TEMPLATE, prompted=False)
    except ConfigError as error:
        yield from (replace(problem, where=where) for problem in error.problems)
        return
    yield from _incomplete(template, task, where)


def _incomplete(template: Template, task: Task, where: str) -> Iterator[Problem]:
    if not template.has_mask:
        what = f"template {template.source!r} has no {{mask}} for the answer"
        yield Problem(where, what, f"write head.template: {template.source} {{mask}}")
    for name in task.columns:
        if name not in template.columns:
            what = f"template {template.source!r} leaves out {{{name}}}"
            shown = ", ".join(f"{{{column}}}" for column in task.columns)
            yield Problem(where, what, f"a template shows {shown}")


def _calibration(loaded: LoadedConfig, method: MethodSpec, task: Task) -> Iterator[Problem]:
    """Calibration of a model that trains, or with a template that is nothing without the text."""
    how, where = loaded.config.head.calibrate, loaded.where("head", "calibrate")
    if how is None:
        return
    if method.trains:
        what = f"{loaded.config.method.name} trains on labels, which corrects the prior already"
        hint = "write method: none, or leave head.calibrate out"
        yield Problem(where, what, hint)
        return
    text = loaded.config.head.template or default_question(task)
    if how == "batch" or text is None or loaded.config.task.demonstrations is not None:
        return
    try:
        pieces = parse_template(text, task.columns, TEMPLATE, prompted=False).pieces
    except ConfigError:
        return  # `_template` says what is wrong with it
    if not any(isinstance(piece, Literal) for piece in pieces):
        yield Problem(
            where,
            f"template {text!r} has no words of its own: without the text nothing would be asked",
            "add words to head.template, such as Answer: before {mask}, or write calibrate: batch",
        )
