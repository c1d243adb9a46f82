"""Initial keys and values of a prompt: drawn, computed by the frozen model, or from a run.

Only functions that compute import torch: the option is read without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import PlainValidator, WithJsonSchema
from pydantic_core import PydanticKnownError

from ptv2_cli.config.fields import impossible
from ptv2_cli.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from ptv2_cli.backbones.sites import KeysValues, Site
    from ptv2_cli.methods.base import Context

PUBLISHED_STD = 0.02
COMPUTED = ("vocab", "labels", "unused", "rows", "chunks", "matched")
"""Values of `init` that depend on keys and values of the frozen model."""
WORDS = ", ".join(("normal", "zero", *COMPUTED))
CHUNK = 8
"""Tokens of a chunk: several chunks fit into a prompt of ordinary length."""
MATCHED_TOKENS = 2048
"""Number of train tokens for the statistics of `matched`."""
FORMS = ("{normal: STD above 0}", "{text: WORDS}", "{run: DIR}")
KEY = "method.init"


def _check_init(value: Any) -> Any:
    if isinstance(value, str) and value in {"normal", "zero", *COMPUTED}:
        return value
    if isinstance(value, dict) and len(value) == 1:
        ((kind, given),) = value.items()
        if kind == "normal" and isinstance(given, int | float) and not isinstance(given, bool):
            if 0 < given < float("inf"):
                return value
            what = f"the STD of {{normal: STD}} must be a finite number above 0, not {given}"
            raise impossible(what, f"normal is {{normal: {PUBLISHED_STD}}}, as published")
        if kind in {"text", "run"} and str(given).strip():
            return {kind: str(getattr(given, "source", given))}
    if isinstance(value, str):  # a word: the message then proposes the nearest
        raise PydanticKnownError("literal_error", {"expected": f"{WORDS}, {', '.join(FORMS)}"})
    raise ValueError(f"must be {WORDS}, {', '.join(FORMS[:-1])} or {FORMS[-1]}")


def _one_key(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: schema},
        "required": [name],
        "additionalProperties": False,
    }


Init = Annotated[
    Any,
    PlainValidator(_check_init),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": ["normal", "zero", *COMPUTED]},
                _one_key("normal", {"type": "number", "exclusiveMinimum": 0}),
                _one_key("text", {"type": "string"}),
                _one_key("run", {"type": "string"}),
            ]
        }
    ),
]


def drawn_std(init: Any) -> float | None:
    """The standard deviation of `init`, 0 for zero; None: it is not drawn from N(0, STD)."""
    if init == "normal":
        return PUBLISHED_STD
    if init == "zero":
        return 0.0
    return float(init["normal"]) if isinstance(init, dict) and "normal" in init else None


def first_values(
    init: Any, length: int, sites: Mapping[int, Site], context: Context
) -> tuple[Tensor, str | None]:
    """Prompt values [P, W] at the chosen sites, and a note for the user, or None.

    Raises:
        ConfigError: the tokenizer has no unused tokens, the text or train has no token, or the run
            has no prompt for these sites.
        RunError: `{run: DIR}` is no finished run.
    """
    import torch

    from ptv2_cli.rng import normal_

    std = drawn_std(init)
    if std is not None:
        values = torch.empty(length, sum(site.width for site in sites.values()))
        normal_(values, std, context.init)
        return values, None
    if isinstance(init, dict) and "run" in init:
        return _of_run(init["run"], length, sites, context)
    if init == "matched":
        return _matched(length, sites, context), None
    ids, note = _tokens(init, length, context)
    return _flat(context.read(ids), sites), note


def _of_run(
    folder: str, length: int, sites: Mapping[int, Site], context: Context
) -> tuple[Tensor, str | None]:
    prompt = context.trained(folder)
    for number, site in sites.items():
        part = prompt.get(number)
        if part is None or (part[0].shape[1], part[0].shape[3]) != (site.heads, site.head_size):
            raise ConfigError.at(
                KEY,
                f"the prompt of {folder} has nothing that fits layer {site.layer + 1}",
                "name a run of ptuning_v2 on the same backbone with these layers and sites",
            )
    values = _flat(prompt, sites)
    trained = len(values)
    note = None
    if trained != length:
        done = "the first of them are used" if trained > length else "they are repeated"
        note = f"init: the prompt of {folder} has {trained} positions, this run {length}: {done}"
    return _fitted(values, length), note


def _matched(length: int, sites: Mapping[int, Site], context: Context) -> Tensor:
    """Normal draws with the mean and standard deviation of each value over train tokens."""
    import torch

    from ptv2_cli.rng import normal_

    read: list[Tensor] = []
    for ids in _train_texts(context):
        read.append(_flat(context.read(ids), sites))
        if sum(map(len, read)) >= MATCHED_TOKENS:
            break
    deviation, mean = torch.std_mean(torch.cat(read), dim=0, correction=0)
    values = torch.empty(length, len(mean))
    normal_(values, 1.0, context.init)
    return mean + deviation * values


def _train_texts(context: Context) -> Iterator[list[int]]:
    """The tokens of every train row, in random order.

    Raises:
        ConfigError: no row has a token.
    """
    import torch

    rows = context.train_inputs()
    if not len(rows.values):
        raise ConfigError.at(KEY, "no row of train has a token", "method.init: vocab needs no text")
    for row in torch.randperm(len(rows), generator=context.init).tolist():
        yield rows[row].tolist()


def _of_train(length: int, context: Context, *, chunks: bool) -> list[int]:
    """P tokens of train rows one after another: whole rows, or a random chunk of each."""
    import torch

    taken: list[int] = []
    while len(taken) < length:
        for ids in _train_texts(context):
            begin, end = 0, len(ids)
            if chunks:
                places = max(len(ids) - CHUNK, 0) + 1
                begin = int(torch.randint(places, (), generator=context.init))
                end = begin + CHUNK
            taken += ids[begin:end]
            if len(taken) >= length:
                break
    return taken[:length]


def _tokens(init: Any, length: int, context: Context) -> tuple[list[int], str | None]:
    """P token ids, and a note for the user, or None."""
    import torch

    if init in ("rows", "chunks"):
        return _of_train(length, context, chunks=init == "chunks"), None
    if init == "unused":
        unused = context.vocabulary.unused
        if len(unused) < length:
            raise ConfigError.at(
                KEY,
                f"the tokenizer has {len(unused)} unused tokens, the prompt {length} positions",
                "method.init: vocab draws ordinary words",
            )
        return list(unused[:length]), None
    if isinstance(init, dict):
        ids = context.vocabulary.tokenize(init["text"])
        if not ids:
            raise ConfigError.at(KEY, f"the text {init['text']!r} has no token")
        note = None
        if len(ids) != length:
            done = "the first of them are used" if len(ids) > length else "they are repeated"
            note = f"init: the text has {len(ids)} tokens, the prompt {length} positions: {done}"
        return _fitted(torch.tensor(ids), length).tolist(), note
    labels = [piece for pieces in context.label_pieces for piece in pieces]
    known = labels[:length] if init == "labels" else []
    words = torch.tensor(context.vocabulary.words)
    picked = torch.randint(len(words), (length - len(known),), generator=context.init)
    return [*known, *words[picked].tolist()], None


def _fitted(values: Tensor, length: int) -> Tensor:
    """The first `length` rows of `values`, repeated if there are too few."""
    times = -(-length // len(values))
    return values.repeat(times, *[1] * (values.dim() - 1))[:length]


def _flat(
    prompt: Mapping[int, KeysValues] | Sequence[KeysValues], sites: Mapping[int, Site]
) -> Tensor:
    """Keys and values [1, K, P, D] of the chosen sites as [P, W]."""
    import torch

    parts = [
        torch.stack([keys[0], values[0]]).permute(2, 0, 1, 3).flatten(1)
        for keys, values in (prompt[number] for number in sites)
    ]
    # On the CPU, where draws are made; a backbone that lanes share may be elsewhere by now.
    return torch.cat(parts, dim=1).float().cpu().clone()
