"""`ptv2 inspect`: what a run's prompt has learned, as far as numbers show it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ptv2_cli.cli import console
from ptv2_cli.cli.chosen import chosen_or_newest
from ptv2_cli.cli.options import (
    DeviceOption,
    OfflineOption,
    OutputOption,
    RunArgument,
    ThreadsOption,
    settle,
    split_option,
)

if TYPE_CHECKING:
    from ptv2_cli.runs.inspection.attention import KeyNorms, LayerAttention
    from ptv2_cli.runs.inspection.nearest_words import NearestWords
    from ptv2_cli.runs.session import Session

ROWS = 64
"""Rows over which attention is measured unless `--rows` says otherwise."""
OF_ATTENTION = (
    "share: of the softmax that falls on the prompt, mean over the tokens of the text; even: the "
    "prompt's share if every token and prompt position got the same. A share says where a head "
    "looks, not what it takes from there: small values change little (docs/inspect.md)."
)
OF_WORDS = (
    "Near words are not what a prompt means: prompts that work well can lie near unrelated words "
    "(arXiv 2112.08348), and the layers above may read a vector as no word at all."
)


class InspectFormat(StrEnum):
    """How the figures are written."""

    table = "table"
    json = "json"


def inspect(
    run: RunArgument = None,
    split: Annotated[
        str | None, split_option("Split whose rows are read; default: the one that chose.")
    ] = None,
    rows: Annotated[
        int, typer.Option("--rows", metavar="N", min=1, help="Rows of the split to read.")
    ] = ROWS,
    format_: Annotated[
        InspectFormat, typer.Option("--format", help="Tables for people, JSON for programs.")
    ] = InspectFormat.table,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw layers by heads (.png, .svg)."),
    ] = None,
    output: OutputOption = Path("runs"),
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    offline: OfflineOption = False,
) -> None:
    """Show attention on a run's prompt, and words near its vectors."""
    settle(offline, threads)
    from ptv2_cli.runs.environment import choose_device
    from ptv2_cli.runs.inspection.attention import attention_on_prompt
    from ptv2_cli.runs.inspection.opened import open_for_inspection
    from ptv2_cli.runs.rescore import canonical_split
    from ptv2_cli.threads import use_threads

    canonical_split(split)
    if plot is not None:
        from ptv2_cli.report.pictures.plots import require_drawable

        require_drawable(plot, "--plot")
    use_threads(threads)
    directory = chosen_or_newest(run, output, "ptv2 inspect")
    session, split = open_for_inspection(
        directory, split=split, rows=rows, device=choose_device(device), offline=offline
    )
    words = _words(session)
    layers = attention_on_prompt(session, session.data.features(split))
    read = len(session.resolved_run.data.rows(split))
    if format_ is InspectFormat.json:
        console.as_json(_content(session, split, read, layers, words))
    else:
        _show(session, split, read, layers, words)
    if plot is not None:
        if layers:
            from ptv2_cli.report.pictures.heat_map import draw_heads

            title = f"{directory.path.name}\n{read} rows of {split}"
            draw_heads(layers, title, plot)
            console.note(f"wrote {plot}")
        else:
            console.warn(f"{plot} is not drawn: the prompt has no share of the text's softmax")


def _words(session: Session) -> NearestWords | None:
    """The words near the prompt's vectors; None if it has none among the word embeddings."""
    import torch

    from ptv2_cli.runs.inspection.nearest_words import nearest_words

    learner = session.learner.eval()
    with torch.no_grad():
        inputs = learner.prompts().inputs
    if inputs is None:
        return None
    tokenizer = session.data.encoder.tokenizer
    return nearest_words(inputs.vectors, learner.backbone.word_embeddings, tokenizer)


def _show(
    session: Session,
    split: str,
    rows: int,
    layers: Sequence[LayerAttention],
    words: NearestWords | None,
) -> None:
    config = session.resolved.config
    console.say(f"{session.resolved_run.directory.path}")
    console.say(f"{config.method.name}: {session.resolved.prompt_sites}")
    if words is not None:
        console.say()
        _show_words(words)
    console.say()
    if not layers:
        console.say("attention: the prompt has a softmax of its own, so it has no share of one")
        return
    console.say(f"attention on the prompt, {rows} rows of {split}, {layers[0].tokens} tokens (%)")
    console.table(
        "",
        ["layer", "share", "least\nhead", "most\nhead", "even", *_norm_headings(layers)],
        [_row(layer) for layer in layers],
        right_from=1,
    )
    console.say()
    console.say(OF_ATTENTION)
    if layers[0].keys is not None:
        console.say("keys, values: mean norm of the prompt's by that of the text's own.")


def _show_words(words: NearestWords) -> None:
    console.say("nearest words of each vector, by the cosine")
    console.table(
        "",
        ["position", "norm", "farther\nthan (%)", "nearest words"],
        [
            [
                str(number),
                f"{position.norm:.2f}",
                f"{100 * position.farther_than:.0f}",
                ", ".join(f"{word.text} {word.cosine:.2f}" for word in position.words),
            ]
            for number, position in enumerate(words.positions, start=1)
        ],
    )
    console.say()
    console.say(
        f"typical word ({words.sample} words): norm {words.word_norm:.2f}, cosine "
        f"{words.word_cosine:.2f} to its nearest word; farther than: share of words that have a "
        "nearer neighbour than the vector has."
    )
    console.say(OF_WORDS)


def _norm_headings(layers: Sequence[LayerAttention]) -> list[str]:
    return ["keys", "values"] if layers[0].keys is not None else []


def _row(layer: LayerAttention) -> list[str]:
    shares = (layer.mean, min(layer.heads), max(layer.heads), layer.even)
    norms = [f"{part.ratio:.2f}" for part in (layer.keys, layer.values) if part is not None]
    return [layer.name, *(f"{100 * share:.1f}" for share in shares), *norms]


def _content(
    session: Session,
    split: str,
    rows: int,
    layers: Sequence[LayerAttention],
    words: NearestWords | None,
) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "run": str(session.resolved_run.directory.path),
        "method": session.resolved.config.method.name,
        "split": split,
        "rows": rows,
        "attention": [
            {
                "stack": layer.site.stack,
                "layer": layer.site.layer + 1,
                "share": layer.mean,
                "heads": list(layer.heads),
                "positions": list(layer.positions),
                "even": layer.even,
                "tokens": layer.tokens,
                "keys": _norms(layer.keys),
                "values": _norms(layer.values),
            }
            for layer in layers
        ],
        "nearest_words": None if words is None else asdict(words),
    }


def _norms(norms: KeyNorms | None) -> dict[str, Any] | None:
    return None if norms is None else {"prompt": list(norms.prompt), "text": norms.text}
