"""Validation errors in plain words: where, what is wrong with the value, what to type."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from ptv2_cli.config import suggestions
from ptv2_cli.config.faults import RAISED, Fault, better, grouped, read_fault, seen, wanted
from ptv2_cli.config.origins import KeyPath, Origin, Origins, dotted
from ptv2_cli.config.overrides import FLAGS, Override
from ptv2_cli.config.schema import RunConfig
from ptv2_cli.config.yaml import Document
from ptv2_cli.errors import Fix, Problem

_EXAMPLES = {
    "method": "write method: ptuning_v2 (ptv2 list methods shows all)",
    "backbone": "write backbone: roberta-large (a hub id, a folder or package:NAME/FOLDER)",
    "task": "write task: superglue/rte (ptv2 list tasks shows all)",
}
_SAMPLES = {"prompt_len": "20", "train.lr": "5e-3"}
_RANGE = re.compile(r"(\d+) *(?:-|:|\.\.+) *(\d+)")
_LIST = re.compile(r"[-+.\deE]+(?: *[, ] *[-+.\deE]+)+")


@dataclass(frozen=True)
class _Scene:
    """What messages need: the origins, the model and the data below `prefix`."""

    origins: Origins
    prefix: KeyPath
    model: type[BaseModel]
    data: Mapping[str, Any]

    def key(self, fault: Fault) -> str:
        return dotted((*self.prefix, *fault.path))

    def origin(self, fault: Fault) -> Origin:
        return self.origins.find((*self.prefix, *fault.path))

    def argument(self, fault: Fault) -> bool:
        return str(self.origin(fault)).startswith("--")


def problems_from(
    error: ValidationError,
    origins: Origins,
    prefix: KeyPath = (),
    *,
    model: type[BaseModel] = RunConfig,
    data: Mapping[str, Any],
) -> list[Problem]:
    """Problems in the order of their origins, each with key, plain words and hint.

    `data` is what `model` was validated from, at `prefix` of the config.
    """
    scene = _Scene(origins, prefix, model, data)
    groups = grouped([read_fault(details, data) for details in error.errors(include_url=False)])
    meant = {key for group in groups for key in _suggested(group[0], scene)}
    problems = [
        problem
        for group in groups
        if not (group[0].kind == "missing" and scene.key(group[0]) in meant)
        for problem in _problems(group, scene)
    ]
    return ordered(problems)


def foreign_problems(document: Document) -> list[Problem]:
    """Names from elsewhere in the sections whose keys are otherwise open."""
    problems = []
    for section in ("method", "task"):
        keys = document.data.get(section)
        for key, value in keys.items() if isinstance(keys, dict) else ():
            if suggestions.foreign(key):
                origin = str(document.origins.find((section, key)))
                suggestion = suggestions.suggest(key, value, argument=origin.startswith("--"))
                what = f"unknown key {section}.{key}"
                problems.append(Problem(origin, what, suggestion.hint, suggestion.fix))
    return problems


def unset_problems(overrides: Iterable[Override]) -> list[Problem]:
    """`--unset` of keys that no config has. Options of open sections: see `options_from`."""
    return [
        unknown_unset(override, known_keys(override.path[:-1]), override.path[:-1])
        for override in overrides
        if not suggestions.possible(RunConfig, override.path)
    ]


def ordered(problems: Iterable[Problem]) -> list[Problem]:
    """Problems by file and line, those of the command line last, otherwise as they come."""

    def rank(problem: Problem) -> tuple[bool, str, int]:
        file, _, line = problem.where.rpartition(":")
        argument = problem.where.startswith("--")
        if argument or not line.isdigit():
            return (argument, "" if argument else problem.where, 0)
        return (False, file, int(line))

    return sorted(problems, key=rank)


def unknown_unset(override: Override, known: Sequence[str], parents: KeyPath) -> Problem:
    """An unknown key after `--unset`, with the known one that was probably meant."""
    suggestion = suggestions.suggest(override.path[len(parents)], "", known, dotted(parents))
    hint = f"type --unset {suggestion.keys[0]}" if suggestion.keys else suggestion.hint
    return Problem(override.origin, f"unknown key {dotted(override.path)}", hint)


def known_keys(path: KeyPath) -> tuple[str, ...]:
    """The keys that the schema declares for the section at `path`."""
    model = suggestions.model_at(RunConfig, path)
    return tuple(model.model_fields) if model else ()


def _suggested(fault: Fault, scene: _Scene) -> tuple[str, ...]:
    """The keys that an unknown key may have meant: they are not reported as missing too."""
    if fault.kind != "extra_forbidden":
        return ()
    return tuple(key for _, suggestion in _suggestions(fault, scene) for key in suggestion.keys)


def _suggestions(fault: Fault, scene: _Scene) -> list[tuple[KeyPath, suggestions.Suggestion]]:
    """The keys that cause a fault, as they were written, and what each may have meant.

    It is one key, except where arguments set several keys of a section that does not exist.
    """
    *parents, last = fault.path
    model = suggestions.model_at(scene.model, tuple(parents))
    path, section = (*scene.prefix, *fault.path), dotted((*scene.prefix, *parents))
    known = tuple(model.model_fields) if model else ()
    if not parents and scene.prefix:
        known += tuple(key for key in known_keys(scene.prefix) if key not in known)
    value = fault.details["input"]
    written = scene.origins.written(path)
    if written == [path]:
        suggestion = suggestions.suggest(str(last), value, known, section, scene.argument(fault))
        return [(path, suggestion)]
    return [(key, _within(key, len(path), value, known)) for key in written]


def _within(key: KeyPath, size: int, value: Any, known: Sequence[str]) -> suggestions.Suggestion:
    """What the argument `key` may have meant; its first `size` words name no section."""
    for part in key[size:]:
        value = value[part]
    return suggestions.suggest_within([str(part) for part in key], size - 1, value, known)


def _problems(group: list[Fault], scene: _Scene) -> list[Problem]:
    if group[0].kind != "extra_forbidden":
        return [_problem(group, scene)]
    return [
        Problem(
            str(scene.origins.find(key)),
            f"unknown key {dotted(key)}",
            suggestion.hint,
            suggestion.fix,
        )
        for key, suggestion in _suggestions(group[0], scene)
    ]


def _problem(group: list[Fault], scene: _Scene) -> Problem:
    fault = group[0]
    key, origin = scene.key(fault), str(scene.origin(fault))
    if fault.kind == "missing":
        hint = _EXAMPLES.get(key.removesuffix(".name"), f"write {suggestions.in_file(key, '...')}")
        return Problem(origin, f"{key} is missing", hint)
    context = fault.details.get("ctx", {})
    if "what" in context:
        return Problem(origin, _of(key, origin) + context["what"], str(context.get("hint", "")))
    parts = list(dict.fromkeys(wanted(member) for member in group))
    value = fault.details["input"]
    if fault.kind in RAISED and not parts[0].startswith("must be "):
        return _with_advice(origin, _of(key, origin) + parts[0], group, scene)
    text = " or ".join(part.removeprefix("must be ") for part in parts)
    what = f"{key or 'the config'} must be {text}, not {seen(value, text)}"
    return _with_advice(origin, what, group, scene)


def _of(key: str, origin: str) -> str:
    """What begins a message about a key: the key, unless its origin ends with it."""
    return "" if origin.endswith(f" {key}") else f"{key}: "


def _with_advice(origin: str, what: str, group: list[Fault], scene: _Scene) -> Problem:
    advice = _advice(group, scene, group[0].details["input"])
    if isinstance(advice, str):
        return Problem(origin, what, advice)
    return Problem(origin, what, suggestions.worded(advice, scene.argument(group[0])), advice)


def _advice(group: list[Fault], scene: _Scene, value: Any) -> Fix | str:
    """The change of a key, or else what to type next."""
    fault = group[0]
    key = scene.key(fault)
    if fault.path == ("prompt_len",) and not scene.prefix and fault.kind == "greater_than":
        return Fix("method", "head_only", after="; head_only is the run without prompts")
    if isinstance(value, list) and fault.kind not in ("list_type", "tuple_type"):
        flag = FLAGS.get(key)
        return "to try several, type ptv2 sweep " + (f"{flag} A,B" if flag else f"--grid {key}=A,B")
    several = _several(key, str(value)) if key in FLAGS else None
    if several:
        return f"several values have commas between them: ptv2 sweep {FLAGS[key]} {several}"
    meant = next(filter(None, (better(member, value) for member in group)), _SAMPLES.get(key))
    if meant:
        return Fix(key, meant)
    model = suggestions.model_at(scene.model, fault.path)
    if model:
        return f"the keys of {key} are: {', '.join(model.model_fields)}"
    return _default(fault, scene)


def _several(key: str, text: str) -> str | None:
    """The values that a list or a range such as `20-100` may have meant, as a sweep takes them."""
    ends = _RANGE.fullmatch(text)
    if ends is None:
        return ",".join(re.split(r"[, ]+", text)) if _LIST.fullmatch(text) else None
    first, last = int(ends[1]), int(ends[2])
    every = key == "train.seed" and 0 < last - first < 20
    return ",".join(map(str, range(first, last + 1) if every else (first, last)))


def _default(fault: Fault, scene: _Scene) -> Fix | str:
    """How to return to the default, or to give a value where there is none."""
    key = scene.key(fault)
    holder = suggestions.model_at(scene.model, fault.path[:-1])
    field = holder.model_fields.get(str(fault.path[-1])) if holder and fault.path else None
    if field is None or field.is_required():
        return _EXAMPLES.get(key.removesuffix(".name"), f"edit {key} in {scene.origins.file}")
    default = None if field.default_factory else suggestions.shown(field.default)
    value = f" ({default})" if default not in (None, "null") else ""
    return Fix(key, None, after=value)
