"""What an unknown key was meant to be: names from elsewhere, other sections, near spellings."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel

from ptv2_cli.config.merge import NAMED
from ptv2_cli.config.origins import KeyPath
from ptv2_cli.config.schema import RunConfig
from ptv2_cli.errors import Fix

_FOREIGN = {
    "prompt_len": "pre_seq_len num_virtual_tokens prompt_length prefix_length num_prompt_tokens",
    "method.reparam": "prefix_projection reparameterization",
    "method.reparam_hidden": "prefix_hidden_size encoder_hidden_size",
    "train.lr": "learning_rate",
    "train.epochs": "num_train_epochs num_epochs max_epochs",
    "train.steps": "max_steps",
    "train.batch_size": "per_device_train_batch_size train_batch_size",
    "train.eval_batch_size": "per_device_eval_batch_size",
    "train.accumulate": "gradient_accumulation_steps",
    "train.clip": "max_grad_norm gradient_clipping",
    "train.schedule": "lr_scheduler_type",
    "train.warmup": "warmup_ratio",
    "train.eval_every": "eval_steps eval_strategy evaluation_strategy",
    "train.precision": "fp16 bf16",
    "task.max_len": "max_seq_length max_length model_max_length",
    "task": "dataset_name task_name",
    "generate.max_new_tokens": "generate.max_length max_target_length max_gen_length",
    "generate.min_new_tokens": "generate.min_length",
    "backbone.dropout": "hidden_dropout_prob",
    "backbone": "model_name_or_path model_name base_model",
}
FOREIGN = {name: key for key, names in _FOREIGN.items() for name in names.split()}
"""Names of the reference code, PEFT and transformers -> the key that means the same.

One that means it in a single section alone is `section.name`.
"""

_OPTIONS = {
    "r": "rank lora_r lora_rank",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "target_modules": "targets modules layers",
    "feedforward_modules": "feedforward",
}
OPTIONS = {name: option for option, names in _OPTIONS.items() for name in names.split()}
"""Other names of options, which count where the section knows the option."""

SPLITS = {"val": "validation", "valid": "validation", "dev": "validation", "testa": "validation"}
SPLITS |= {"testb": "test"}
_FIXED = {"prefix_projection": "mlp", "reparameterization": "mlp", "fp16": "fp16", "bf16": "bf16"}
_FORMS = {"method.reparam": "method: {{name: ptuning_v2, reparam: {value}}}"}


@dataclass(frozen=True)
class Suggestion:
    """The keys that an unknown one may stand for, the likeliest first, and a hint."""

    keys: tuple[str, ...]
    hint: str
    fix: Fix | None = None
    """What the hint proposes, if that is to set one of the keys."""


def foreign(name: str) -> str | None:
    """The key that a name from elsewhere stands for, e.g. `train.lr` for `learning_rate`."""
    return FOREIGN.get(_plain(name))


def suggest(
    name: str,
    value: Any = None,
    known: Sequence[str] = (),
    section: str = "",
    argument: bool = False,
) -> Suggestion:
    """What the unknown key `name` with `value` may have meant in a section with `known` keys.

    `argument`: the key was an argument of the command line, and so the hint is one.
    """
    key = foreign(f"{section}.{name}") or foreign(name)
    if key and value is False and _plain(name) in _FIXED:
        return Suggestion((key,), f"{name} is {key} here, and off by default: leave {name} out")
    if key:
        fixed = _FIXED.get(_plain(name), value)
        return _suggested((key,), f"{name} is {key} here: ", fixed, argument)
    keys = _meant(name, known, section)
    if keys:
        return _suggested(keys, f"did you mean {' or '.join(keys)}? ", value, argument)
    if value is None and not _plain(name).isidentifier():
        return Suggestion((), 'text with a comma needs quotes inside { }: layers: "1,3,5"')
    place = f"{section} knows" if section else "a config knows"
    return Suggestion((), f"{place} these keys: {', '.join(known)}")


def suggest_within(
    path: Sequence[str], at: int, value: Any = None, known: Sequence[str] = ()
) -> Suggestion:
    """What the argument `path` may have meant of which the `at`-th word is no key: `tran.lr`.

    `known` are the keys that could stand there. The words behind it are kept where they fit.
    """
    before, wrong, rest = tuple(path[:at]), path[at], tuple(path[at + 1 :])
    near = difflib.get_close_matches(_plain(wrong), known, n=1, cutoff=0.6)
    section = (*before, *near, *rest[:-1]) if near else ()
    if near and possible(RunConfig, (*section, rest[-1])):
        key = ".".join((*section, rest[-1]))
        return _suggested((key,), f"did you mean {key}? ", value, argument=True)
    model = model_at(RunConfig, section) if near else None
    fields = tuple(model.model_fields) if model else tuple(RunConfig.model_fields)
    return suggest(rest[-1], value, fields, ".".join(section) if model else "", argument=True)


def shown(value: Any) -> str | None:
    """A scalar as YAML writes it; None for what takes more than a word."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, int | float | str):
        text = "null" if value is None else str(getattr(value, "source", value))
        return text if 0 < len(text) <= 60 else None
    return None


def in_file(key: str, value: str) -> str:
    """The line that gives `key` its value: `train: {lr: 5e-3}`."""
    if key in _FORMS:
        return _FORMS[key].format(value=value)
    *sections, last = key.split(".")
    line = f"{last}: {value}"
    if len(sections) == 1 and sections[0] in NAMED and last != "name":
        line = f"name: ..., {line}"
    for section in reversed(sections):
        line = f"{section}: {{{line}}}"
    return line


def submodel(annotation: Any) -> type[BaseModel] | None:
    """The section class that a field's annotation holds, if any."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(submodel, get_args(annotation))), None)


def model_at(model: type[BaseModel] | None, path: KeyPath) -> type[BaseModel] | None:
    """The section class at `path` inside `model`, None where there is none."""
    for part in path:
        field = model.model_fields.get(str(part)) if model else None
        model = submodel(field.annotation) if field else None
    return model


def possible(model: type[BaseModel], path: KeyPath) -> bool:
    """Whether a config can have the key `path`, as far as the schema knows."""
    name, *rest = path
    field = model.model_fields.get(str(name))
    if field is None:
        return model.model_config.get("extra") == "allow"
    below = submodel(field.annotation)
    if below is not None and rest:
        return possible(below, tuple(rest))
    return not rest or "dict" in str(field.annotation)


def worded(fix: Fix, argument: bool) -> str:
    """The hint that proposes a change, to a file or on the command line."""
    if fix.value is None:
        change = f"{'type --unset ' if argument else 'leave '}{fix.key}"
        change += " for its default" if argument else " out for its default"
    else:
        value = fix.value
        change = f"type --set {fix.key}={value}" if argument else f"write {in_file(fix.key, value)}"
    return f"{fix.before}{change}{fix.after}"


def _suggested(keys: tuple[str, ...], before: str, value: Any, argument: bool) -> Suggestion:
    """The first of the keys, with the value that was given to the unknown one."""
    key, text = keys[0], shown(value)
    if text is None:
        change = f"write it under {key}" if "." in key else f"write {key}: ..."
        return Suggestion(keys, before + change)
    fix = Fix(key, text, before, renames=True)
    return Suggestion(keys, worded(fix, argument), fix)


def _meant(name: str, known: Sequence[str], section: str) -> tuple[str, ...]:
    plain, here = _plain(name), f"{section}." if section else ""
    for exact in (plain, OPTIONS.get(plain, ""), SPLITS.get(plain, "")):
        if exact in known:
            return (here + exact,)
    table = _everywhere()
    if plain in table:
        return table[plain]
    near = difflib.get_close_matches(plain, known, n=1, cutoff=0.6)
    if near:
        return (here + near[0],)
    far = difflib.get_close_matches(plain, table, n=1, cutoff=0.75)
    return table[far[0]] if far else ()


@cache
def _everywhere() -> dict[str, tuple[str, ...]]:
    """Every key of every section except `name`, by its last word; `train` comes first."""
    keys: dict[str, tuple[str, ...]] = {}
    sections = sorted(RunConfig.model_fields.items(), key=lambda item: item[0] != "train")
    for section, field in sections:
        model = submodel(field.annotation)
        for key in model.model_fields if model else ():
            if key != "name":
                keys[key] = (*keys.get(key, ()), f"{section}.{key}")
    for section in RunConfig.model_fields:
        keys.setdefault(section, (section,))
    return keys


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_")
