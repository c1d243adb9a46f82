"""`ptv2 check`: everything that can be found out without loading weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ptv2_cli.cli import console
from ptv2_cli.cli.options import (
    ConfigArgument,
    LrOption,
    OfflineOption,
    PromptLenOption,
    SeedOption,
    SetOption,
    UnsetOption,
    read_config,
    settle,
)

if TYPE_CHECKING:
    from ptv2_cli.run.data import RunData
    from ptv2_cli.run.recipe import Recipe


def check(
    config: ConfigArgument = Path("config.yaml"),
    show: Annotated[
        int, typer.Option("--show", metavar="N", min=0, help="Print N rows as the model sees them.")
    ] = 0,
    prompt_len: PromptLenOption = None,
    lr: LrOption = None,
    seed: SeedOption = None,
    sets: SetOption = None,
    unsets: UnsetOption = None,
    offline: OfflineOption = False,
) -> None:
    """Check a config and its data without loading weights."""
    loaded = read_config(config, sets=sets, unsets=unsets, prompt_len=prompt_len, lr=lr, seed=seed)
    settle(offline)
    from ptv2_cli.backbones.load import load_tokenizer
    from ptv2_cli.run.data import make_encoder, read_data
    from ptv2_cli.run.needs import require_offline
    from ptv2_cli.run.preview import preview
    from ptv2_cli.run.recipe import make_recipe

    require_offline(loaded, offline=offline)
    recipe, data = read_data(make_recipe(loaded, offline=offline), offline=offline)
    words = recipe.task.kind == "token"
    tokenizer = load_tokenizer(recipe.located, recipe.config.backbone, words=words)
    data.encoder = make_encoder(recipe, tokenizer)
    _facts(recipe, data)
    for text in (*recipe.notes, *data.truncation_warnings()):
        console.warn(text)
    if show:
        console.say()
        for line in preview(recipe, data, tokenizer, show):
            console.say(line)
    console.say(f"{config}: no problems found")


def _facts(recipe: Recipe, data: RunData) -> None:
    """What the run would be."""
    from ptv2_cli.run.preview import lengths

    config, shape, train = recipe.config, recipe.shape, recipe.config.train
    prompt = recipe.method.places(recipe.method_options, config.prompt_len, shape.layers)
    length = f"{train.epochs} epochs" if train.epochs else f"{train.steps} steps"
    rows = [
        ("method", f"{config.method.name}: {prompt}"),
        (
            "backbone",
            f"{config.backbone.name}: {shape.family.name}, {shape.layers} layers, hidden size "
            f"{shape.hidden_size}, {shape.positions} positions",
        ),
        ("task", f"{recipe.task.name}, {recipe.task.kind} head, max_len {config.task.max_len}"),
        (
            "training",
            f"{length}, learning rate {train.lr:g}, batches of {train.batch_size}, "
            f"{train.precision}, seed {train.seed}",
        ),
        (
            "selection",
            f"{config.selection.metric} on {config.selection.split}; reported: "
            f"{', '.join(config.report or ())}",
        ),
    ]
    for name in data.splits:
        features = data.features(name)
        windows = f" in {len(features)} windows" if len(features) > len(data.rows(name)) else ""
        rows.append((name, f"{len(data.rows(name))} rows{windows}, {lengths(features)}"))
    console.table("", ("", ""), rows)
