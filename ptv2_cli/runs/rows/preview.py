"""Rows as the model will see them: tokens, prompts, labels, and what is cut off."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from typing import Any

from ptv2_cli.inputs.feature_table import FeatureTable
from ptv2_cli.inputs.features import Feature
from ptv2_cli.kinds import IGNORE
from ptv2_cli.runs.resolve.resolved_config import ResolvedConfig
from ptv2_cli.runs.rows.encoding import EncodedData

UNCUT = 1_000_000
"""A max_len that cuts nothing."""


def preview(resolved: ResolvedConfig, encoded: EncodedData, count: int) -> Iterator[str]:
    """Lines about the first `count` train rows."""
    encoder = encoded.encoder
    task, rows = resolved.task, encoded.data.rows("train")[:count]
    yield f"prompts: {resolved.prompt_sites}"
    whole = encoder.unlimited(UNCUT)
    full = task.encode(rows, whole)
    windows = task.encode(rows, encoder)
    for index, row in enumerate(rows):
        own = [feature for feature in windows if feature.row == index]
        uncut = next(feature for feature in full if feature.row == index)
        yield ""
        yield f"row {index + 1} of train, gold: {_short(task.gold(row))}"
        shown = [item for feature in own for item in feature.inputs]
        chosen_from = own[0].choices is not None
        for number, item in enumerate(shown):
            place = _place(number, len(shown), chosen_from, task.part(item.task).piece)
            if task.kind_spec.writes:
                item, answer = _answered(item, continued=encoder.causal)
            yield f"  {place}{_size(item)}:"
            yield "    " + " ".join(_pieces(resolved, item, encoder.tokenizer))
            if task.kind_spec.writes and answer:
                yield f"  {len(answer)} tokens to write, which alone count in the loss:"
                yield "    " + " ".join(encoder.tokenizer.convert_ids_to_tokens(answer))
        for item, entire in zip(own[0].inputs, uncut.inputs, strict=True):
            if item.truncated:
                lost = len(entire.input_ids) - len(item.input_ids)
                limit = encoder.max_len
                which = "last" if encoder.chat is None else "oldest"
                yield f"  cut off at max_len {limit}: the {which} {lost} of {_size(entire)}"


def _answered(feature: Feature, *, continued: bool) -> tuple[Feature, list[int]]:
    """A text without the answer, which of a causal model is in the same input, and the answer."""
    labels = feature.label if isinstance(feature.label, list) else []
    answer = [int(token) for token in labels if token != IGNORE]
    if not continued or not answer:
        return feature, answer
    length = len(feature.input_ids) - len(answer) + 1
    slots = feature.slots and feature.slots[:length]
    return replace(feature, input_ids=feature.input_ids[:length], slots=slots), answer


def answer_lengths(features: FeatureTable, room: int) -> str:
    """Mean and longest answer to write, in tokens, and the room that answers have."""
    labels = [label for label in (each.label for each in features) if isinstance(label, list)]
    sizes = [sum(token != IGNORE for token in label) for label in labels]
    if not sizes:
        return "no answers"
    mean = sum(sizes) / len(sizes)
    return f"answers of {mean:.0f} tokens on average, {max(sizes)} at most, room for {room}"


def _place(number: int, count: int, chosen_from: bool, piece: str) -> str:
    """Windows count from 1; a choice has the name that answers use."""
    if chosen_from:
        return f"choice {number}, "
    return f"{piece} {number + 1} of {count}, " if count > 1 else ""


def lengths(features: FeatureTable) -> str:
    """Mean and longest length of the features' inputs, in tokens."""
    sizes = features.ids.lengths
    return f"{sizes.mean():.0f} tokens on average, {sizes.max()} at most"


def _size(feature: Feature) -> str:
    return f"{len(feature.input_ids)} tokens"


def _short(gold: Any) -> str:
    return " ".join(gold) if isinstance(gold, list) else str(gold)


def _pieces(resolved: ResolvedConfig, feature: Feature, tokenizer: Any) -> Iterator[str]:
    """Tokens with the prompts among them and the label each is trained with."""
    marked = list(_marked(resolved, feature, tokenizer))
    column = resolved.method.input_column
    if column is not None:
        marked.insert(column, f"<prompt 1-{resolved.config.prompt_len}>")
    yield from marked


def _marked(resolved: ResolvedConfig, feature: Feature, tokenizer: Any) -> Iterator[str]:
    tokens = tokenizer.convert_ids_to_tokens(feature.input_ids)
    slots = feature.slots or [-1] * len(tokens)
    for is_slot, group in groupby(range(len(tokens)), lambda at: slots[at] >= 0):
        places = list(group)
        if is_slot:
            yield f"<prompt {slots[places[0]] + 1}-{slots[places[-1]] + 1}>"
            continue
        for at in places:
            yield f"{tokens[at]}{_mark(resolved, feature, at)}"


def _mark(resolved: ResolvedConfig, feature: Feature, at: int) -> str:
    """The label of a position: its tag, or that the answer starts or ends there."""
    label = feature.label
    tags = resolved.task.kind_spec.answer == "tags"
    if tags and isinstance(label, list) and label[at] != IGNORE:
        return f"/{resolved.task.part(feature.task).labels[int(label[at])]}"
    if isinstance(label, tuple):
        return ("/START" if at == label[0] else "") + ("/END" if at == label[1] else "")
    return ""
