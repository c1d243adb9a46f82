"""`ptv2 check`: check a config and its data without loading weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ptv2_cli.cli import console
from ptv2_cli.cli.chosen import require_config
from ptv2_cli.cli.options import (
    BatchSizeOption,
    ConfigArgument,
    EpochsOption,
    IncludeOption,
    LrOption,
    OfflineOption,
    PromptLenOption,
    SeedOption,
    SetOption,
    UnsetOption,
    read_config,
    read_overrides,
    settle,
    shortcuts,
)

if TYPE_CHECKING:
    from ptv2_cli.config.load import LoadedConfig, Override
    from ptv2_cli.runs.resolve.resolved_config import ResolvedConfig
    from ptv2_cli.runs.rows.encoding import EncodedData
    from ptv2_cli.sweeps.trials import TrialCheck


def check(
    config: ConfigArgument = Path("config.yaml"),
    show: Annotated[
        int, typer.Option("--show", metavar="N", min=0, help="Print N rows as the model sees them.")
    ] = 0,
    prompt_len: PromptLenOption = None,
    lr: LrOption = None,
    seed: SeedOption = None,
    epochs: EpochsOption = None,
    batch_size: BatchSizeOption = None,
    sets: SetOption = None,
    unsets: UnsetOption = None,
    includes: IncludeOption = None,
    devices: Annotated[
        int,
        typer.Option("--devices", metavar="N", min=1, help="Tell the memory of each of N devices."),
    ] = 1,
    offline: OfflineOption = False,
) -> int:
    """Check a config and its data without loading weights."""
    require_config(config)
    short = shortcuts(prompt_len, lr, seed, epochs, batch_size)
    loaded = read_config(config, sets=sets, unsets=unsets, short=short, includes=includes)
    settle(offline)
    trials, searched = None, bool(loaded.config.sweep and "search" in loaded.config.sweep)
    if _lists_values(loaded) or searched:
        base = read_overrides(sets, unsets, short, includes)
        trials = _checked_trials(config, loaded, base, offline)
        # What follows is told of the first trial: the base itself need not be able to run.
        loaded = trials.able[0].loaded
    from ptv2_cli.runs.resolve.offline_rules import require_offline
    from ptv2_cli.runs.resolve.resolved_config import resolve_config
    from ptv2_cli.runs.rows.data import read_data
    from ptv2_cli.runs.rows.data_warnings import data_warnings, require_known
    from ptv2_cli.runs.rows.encoding import encode, tokenizer_of
    from ptv2_cli.runs.rows.preview import preview
    from ptv2_cli.runs.warm_start import require_inherited

    require_offline(loaded, offline=offline)
    resolved, data = read_data(resolve_config(loaded, offline=offline), offline=offline)
    require_inherited(resolved)
    tokenizer = tokenizer_of(resolved)
    encoded = encode(resolved, data, tokenizer)
    if trials is not None:
        head = "sweep:" if not searched else "search: the ends of its space are"
        console.say(f"{head} {_counted(trials)} of {trials.lists}; the first that can run:")
    memory, short_of = _memory(resolved, encoded, devices)
    _facts(resolved, encoded, memory)
    warnings = [*resolved.notes, *data_warnings(resolved, encoded), *short_of]
    for text in warnings:
        console.warn(text)
    if show:
        console.say()
        for line in preview(resolved, encoded, show):
            console.say(line)
    require_known(resolved, data.splits["train"], tokenizer)
    if trials is not None and trials.refused:
        return _refused(config, trials)
    found = f"{len(warnings)} warning{'s' if len(warnings) > 1 else ''}, no errors"
    console.say(f"{config}: {found if warnings else 'no problems found'}")
    return 0


def _lists_values(loaded: LoadedConfig) -> bool:
    """Whether the config's `sweep:` lists values, not only options such as `lanes:`.

    Raises:
        ConfigError: a key or a value of the section is wrong.
    """
    from ptv2_cli.sweeps.axes import from_section

    return bool(from_section(loaded))


def _checked_trials(
    config: Path, loaded: LoadedConfig, base: list[Override], offline: bool
) -> TrialCheck:
    """All trials of the config's `sweep:`, checked; of a search those at the ends of its space.

    Raises:
        InputError: a list or a value is wrong, or no trial can run.
    """
    from ptv2_cli.sweeps.axes import from_section
    from ptv2_cli.sweeps.grid import make_combinations
    from ptv2_cli.sweeps.options import requested_search
    from ptv2_cli.sweeps.search_options import check_search, search_options
    from ptv2_cli.sweeps.search_space import corners_of, without_seed
    from ptv2_cli.sweeps.trials import check_trials

    said = requested_search({}, [config], base)
    options = search_options(said)
    if options is not None:
        axes = from_section(loaded)
        check_search(options, said, axes, 1)
        corners = corners_of(config, base, *without_seed(axes))
        return check_trials(corners, offline=offline)
    return check_trials(make_combinations([config], base, []), offline=offline)


def _counted(trials: TrialCheck) -> str:
    count = len(trials.able) + len(trials.refused)
    merged = f" ({trials.merged} more are equal runs)" if trials.merged else ""
    return f"{count} trial{'s' if count > 1 else ''}{merged}"


def _refused(config: Path, trials: TrialCheck) -> int:
    """Report the trials that cannot run; returns the exit code."""
    from ptv2_cli.errors import EXIT_INPUT

    for values, problems in trials.refused:
        console.warn(f"{values} cannot run: {problems[0].what}", problems[0].hint)
    count = len(trials.refused)
    console.say(f"{config}: {count} of {len(trials.able) + count} trials cannot run")
    return EXIT_INPUT


def _memory(resolved: ResolvedConfig, encoded: EncodedData, devices: int) -> tuple[str, list[str]]:
    """The memory that a training step needs on a device, and a warning if there is less."""
    from ptv2_cli.memory import in_words
    from ptv2_cli.runs.environment import choose_device
    from ptv2_cli.runs.memory_levers import NAMED, levers, total_memory
    from ptv2_cli.runs.step_memory import step_memory

    device = choose_device("auto")
    need = step_memory(resolved, encoded, device, devices)
    if need is None:
        return "not known for this model", []
    parts = [
        f"{in_words(need.backbone)} backbone",
        f"{in_words(need.step)} activations and gradients",
        *([f"{in_words(need.trained)} optimizer"] if need.trained else []),
    ]
    whole = total_memory(device)
    each = f"each of {devices} devices" if devices > 1 else device
    line = f"about {in_words(need.total)} of {in_words(whole)} ({each}): {', '.join(parts)}"
    if need.offloaded:
        line += f", and {in_words(need.offloaded)} of main memory"
    if need.gathered:
        line += f"; a step gets {in_words(need.gathered)} from the others"
    if need.total < whole:
        return line, []
    helping = "".join(f"; {lever}" for lever in levers(resolved, encoded, device, devices)[:NAMED])
    return line, [f"a training step needs more memory than {device} has{helping}"]


def _facts(resolved: ResolvedConfig, encoded: EncodedData, memory: str) -> None:
    """Print what the run would be."""
    from ptv2_cli.runs.rows.data_warnings import unknown_tokens
    from ptv2_cli.runs.rows.preview import answer_lengths, lengths

    config, shape, train = resolved.config, resolved.shape, resolved.config.train
    length = f"{train.epochs} epochs" if train.epochs else f"{train.steps} steps"
    name = resolved.task.identity["name"]  # that of several tasks tells which
    rate = f"{length}, {resolved.rate_line}, " if train.lr else "none: evaluated once; "
    size = f"up to {train.batch_tokens:,} tokens" if train.batch_tokens else train.batch_size
    rows = [
        ("method", f"{config.method.name}: {resolved.prompt_sites}"),
        (
            "backbone",
            f"{config.backbone.name}: {shape.family.name}, {shape.layers} layers, hidden size "
            f"{shape.hidden_size}, {shape.limit} positions",
        ),
        ("task", f"{name}, {config.head.name} head, max_len {config.task.max_len}"),
        *([("label", resolved.task.found)] if resolved.task.found else []),
        (
            "training",
            f"{rate}batches of {size}, {train.precision}, seed {train.seed}",
        ),
        ("memory", memory),
        (
            "selection",
            f"{config.selection.metric} on {config.selection.split}; reported: "
            f"{', '.join(config.report or ())}",
        ),
    ]
    data = encoded.data
    for split in data.splits:
        features = encoded.features(split)
        windows = f" in {len(features)} windows" if len(features) > len(data.rows(split)) else ""
        found = unknown_tokens(encoded, split)
        unknown = f"; {found.share:.1%} unknown tokens" if found else ""
        rows.append((split, f"{len(data.rows(split))} rows{windows}, {lengths(features)}"))
        rows.append(("", f"{resolved.task.describe_gold(data.rows(split))}{unknown}"))
        if resolved.task.kind_spec.writes:
            rows.append(("", answer_lengths(features, encoded.encoder.answer_room)))
    console.table("", ("", ""), rows)
