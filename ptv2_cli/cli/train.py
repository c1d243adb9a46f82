"""`ptv2 train`: one config, one run directory."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ptv2_cli.cli import console, ranks
from ptv2_cli.cli.chosen import require_config
from ptv2_cli.cli.options import (
    BatchSizeOption,
    ConfigArgument,
    DeviceOption,
    EpochsOption,
    IncludeOption,
    LrOption,
    OfflineOption,
    OutputOption,
    PromptLenOption,
    Resume,
    SeedOption,
    SetOption,
    ThreadsOption,
    UnsetOption,
    read_config,
    same_command,
    settle,
    shortcuts,
)
from ptv2_cli.distributed.rank import rank_of_process
from ptv2_cli.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from ptv2_cli.distributed.group import ProcessGroup
    from ptv2_cli.runs.resolved_run import ResolvedRun


def train(
    config: ConfigArgument = Path("config.yaml"),
    prompt_len: PromptLenOption = None,
    lr: LrOption = None,
    seed: SeedOption = None,
    epochs: EpochsOption = None,
    batch_size: BatchSizeOption = None,
    sets: SetOption = None,
    unsets: UnsetOption = None,
    includes: IncludeOption = None,
    resume: Annotated[
        Resume,
        typer.Option("--resume", help="auto: continue an unfinished run; never: start over."),
    ] = Resume.auto,
    output: OutputOption = Path("runs"),
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out bad rows; RUN/SPLIT.bad.jsonl lists them.")
    ] = False,
    device: DeviceOption = "auto",
    devices: Annotated[
        int | None,
        typer.Option(
            "--devices",
            metavar="N",
            min=1,
            help="Train on N GPUs, or with N processes of a CPU; the result stays the same.",
        ),
    ] = None,
    threads: ThreadsOption = None,
    offline: OfflineOption = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check everything and show what would train, then stop."),
    ] = False,
) -> int:
    """Train a run or continue it; show the score if it is finished."""
    require_config(config)
    if skip_bad:
        sets = [*(sets or []), "task.skip_bad=true"]
    short = shortcuts(prompt_len, lr, seed, epochs, batch_size)
    loaded = read_config(config, sets=sets, unsets=unsets, short=short, includes=includes)
    if loaded.config.sweep:
        raise ConfigError.at(
            loaded.where("sweep"),
            "the config lists values to sweep over, and ptv2 train makes one run",
            f"type ptv2 sweep {shlex.quote(str(config))}, or add --unset sweep for one run "
            "without the lists",
        )
    rank = rank_of_process()
    rows = None if loaded.config.train.batch_tokens else loaded.config.train.batch_size
    where = loaded.where("train", "batch_size")
    count = ranks.check_devices(devices, rank, rows, where)
    if count > 1 and rank is None and not dry_run:
        from ptv2_cli.distributed.launch import launch

        return launch(sys.argv[1:], count)
    settle(offline, threads)
    from ptv2_cli.backbones.quantize import check_machine
    from ptv2_cli.distributed.group import joined
    from ptv2_cli.distributed.launch import watch_launcher
    from ptv2_cli.runs.environment import choose_device
    from ptv2_cli.runs.resolved_run import prepare
    from ptv2_cli.threads import use_threads

    watch_launcher()
    command = same_command(
        config,
        sets=sets,
        unsets=unsets,
        short=short,
        output=output,
        offline=offline,
        includes=includes,
        threads=threads,
    )
    command += [] if devices is None else ["--devices", str(devices)]
    chosen = choose_device(device, rank)
    use_threads(threads, 1 if rank is None else rank.local_size)
    check_machine(loaded.config.backbone, chosen)
    with joined(rank, chosen) as group:
        ranks.joined()
        with group.together():
            resolved_run = prepare(loaded, output, offline=offline)
        if dry_run:
            _dry_run(resolved_run, chosen)
        elif group.from_first(resolved_run.directory.finished and resume is Resume.auto):
            _show_finished(resolved_run, command)
        else:
            _train(resolved_run, chosen, group, command, resume=resume is Resume.auto)
    return 0


def _train(
    resolved_run: ResolvedRun,
    device: torch.device,
    group: ProcessGroup,
    command: list[str],
    *,
    resume: bool,
) -> None:
    """Train the run, and show its score."""
    from ptv2_cli.cli.views.progress import Progress
    from ptv2_cli.cli.views.summary import run_summary
    from ptv2_cli.runs.agreement import require_same_run
    from ptv2_cli.runs.directory import ELSEWHERE, writing
    from ptv2_cli.runs.memory_levers import memory_explained
    from ptv2_cli.runs.session import open_session
    from ptv2_cli.runs.trainer import train as train_run

    require_same_run(group, resolved_run)
    with memory_explained(resolved_run, device, group.size):
        with group.together():
            session = open_session(resolved_run, device, group=group)
        with writing(resolved_run.directory, ELSEWHERE):
            train_run(session, [Progress], resume=resume)
    if group.first:
        run_summary(resolved_run.directory, command)


def _show_finished(resolved_run: ResolvedRun, command: list[str]) -> None:
    """Say that the run has ended before, and show its score."""
    from ptv2_cli.cli.views.summary import run_summary

    console.note("this run is finished already (--resume never trains it again)")
    metrics = resolved_run.directory.read_metrics()
    for text in dict.fromkeys((*resolved_run.resolved.notes, *metrics["warnings"])):
        console.warn(text)
    if resolved_run.resolved.config.retention and not metrics.get("retention"):
        path = shlex.quote(str(resolved_run.directory.path))
        console.note(f"it has no retention: ptv2 eval {path} --retention measures it")
    run_summary(resolved_run.directory, command)


def _dry_run(resolved_run: ResolvedRun, device: torch.device) -> None:
    """Print what is wrong with the data and which parameters would train."""
    from ptv2_cli.runs.rows.data_warnings import data_warnings
    from ptv2_cli.runs.rows.encoding import encode, tokenizer_of
    from ptv2_cli.runs.rows.preview import answer_lengths, lengths

    resolved, data = resolved_run.resolved, resolved_run.data
    encoded = encode(resolved, data, tokenizer_of(resolved))
    for split in data.splits:
        encoded.features(split)
    for text in (*resolved.notes, *data_warnings(resolved, encoded)):
        console.warn(text)
    if resolved.task.kind_spec.writes:
        for split, features in encoded.by_split.items():
            found = answer_lengths(features, encoded.encoder.answer_room)
            console.say(f"{split}: {len(data.rows(split))} rows, {lengths(features)}; {found}")
    # Neither is needed with the other: a million rows' tokens, the model and its code.
    encoded.by_split.clear()
    from ptv2_cli.cli.views.summary import parameter_table
    from ptv2_cli.runs.session import open_session

    parameter_table(open_session(resolved_run, device))
    if resolved.finds_lr:
        console.say(resolved.rate_line)
    console.note(f"dry run: nothing written; the run would be {resolved_run.directory.path}")
