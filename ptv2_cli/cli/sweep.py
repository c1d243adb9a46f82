"""`ptv2 sweep`: a grid of runs, or a search, one after another or as lanes of one backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ptv2_cli.cli import complete, console
from ptv2_cli.cli.chosen import require_config
from ptv2_cli.cli.options import (
    DeviceOption,
    IncludeOption,
    OfflineOption,
    OutputOption,
    SetOption,
    ThreadsOption,
    UnsetOption,
    read_overrides,
    settle,
)
from ptv2_cli.cli.views.gpu_hours import show_gpu_hours
from ptv2_cli.errors import ConfigError, RunError


def sweep(
    configs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="CONFIG", help="YAML configs; default: config.yaml."),
    ] = None,
    prompt_len: Annotated[
        str | None, typer.Option("--prompt-len", metavar="N,N", help="Prompt lengths to try.")
    ] = None,
    lr: Annotated[
        str | None, typer.Option("--lr", metavar="X,X", help="Learning rates to try.")
    ] = None,
    seed: Annotated[
        str | None, typer.Option("--seed", metavar="N,N", help="Seeds to average over.")
    ] = None,
    epochs: Annotated[
        str | None, typer.Option("--epochs", metavar="N,N", help="Epoch counts to try.")
    ] = None,
    batch_size: Annotated[
        str | None, typer.Option("--batch-size", metavar="N,N", help="Batch sizes to try.")
    ] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            "--grid",
            metavar="KEY=A,B",
            help="Values to try for any other key.",
            autocompletion=complete.settings,
        ),
    ] = None,
    lanes: Annotated[
        str | None,
        typer.Option(
            "--lanes", metavar="N", help="Trials at once on one backbone: a number, or auto."
        ),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            "--engine", metavar="NAME", help="Engine that runs the trials; default: local."
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            metavar="HOST:PORT",
            help="Ray cluster; default: RAY_ADDRESS, or this machine alone.",
        ),
    ] = None,
    cpus: Annotated[
        float | None,
        typer.Option(
            "--cpus-per-trial", metavar="N", help="CPUs, and threads, of a task; default: 1."
        ),
    ] = None,
    gpus: Annotated[
        float | None,
        typer.Option(
            "--gpus-per-trial", metavar="X", help="GPUs of a task, such as 0.5; default: 0."
        ),
    ] = None,
    join: Annotated[
        bool,
        typer.Option("--join", help="Share the trials with other commands that have --join."),
    ] = False,
    search: Annotated[
        str | None,
        typer.Option(
            "--search", metavar="NAME", help="Let tpe, random or grid propose the settings."
        ),
    ] = None,
    trials: Annotated[
        str | None, typer.Option("--trials", metavar="N", help="Settings that a search tries.")
    ] = None,
    space: Annotated[
        list[str] | None,
        typer.Option(
            "--space", metavar="KEY=RANGE", help="A range to search, e.g. train.lr={log: [a, b]}."
        ),
    ] = None,
    prune: Annotated[
        str | None,
        typer.Option(
            "--prune", metavar="NAME", help="Give up settings that do badly: hyperband or median."
        ),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option("--time", metavar="T", help="Start no setting after this time, such as 2h."),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option("--storage", metavar="URL", help="Database of a search; default: a file."),
    ] = None,
    sets: SetOption = None,
    unsets: UnsetOption = None,
    includes: IncludeOption = None,
    output: OutputOption = Path("runs"),
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    offline: OfflineOption = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and a time estimate, then stop.")
    ] = False,
    tflops: Annotated[
        float | None,
        typer.Option(
            "--tflops",
            metavar="N",
            min=1e-3,
            help="Sustained TFLOP/s of a GPU, for --dry-run's GPU hours; default: 94.",
        ),
    ] = None,
) -> int:
    """Train every combination of values, or search for the best."""
    from ptv2_cli.sweeps.axes import from_flags
    from ptv2_cli.sweeps.grid import make_combinations
    from ptv2_cli.sweeps.options import (
        requested_cluster,
        requested_engine,
        requested_lanes,
        requested_search,
    )
    from ptv2_cli.sweeps.search_options import search_options

    base = read_overrides(sets, unsets, {}, includes)
    flags = from_flags(prompt_len, lr, seed, grid or [], epochs, batch_size, space or [])
    if tflops is not None and not dry_run:
        what = "means nothing without --dry-run, which prints GPU hours"
        raise ConfigError.at("--tflops", what, "add --dry-run, or leave --tflops out")
    paths = configs or [Path("config.yaml")]
    for path in paths:
        require_config(path)
    words = {"search": search, "trials": trials, "prune": prune, "time": time, "storage": storage}
    said = requested_search(words, paths, base)
    options = search_options(said)
    if join and options is not None:
        what = "shares trials that are planned before, and a search decides on them as it goes"
        hint = "leave --join out; several machines search together with --storage URL"
        raise ConfigError.at("--join", what, hint)
    combinations = [] if options else make_combinations(paths, base, flags)
    request = requested_lanes(lanes, paths, base)
    name = requested_engine(engine, paths, base)
    cluster = requested_cluster(name, address, cpus, gpus)
    settle(offline, threads)
    if dry_run:  # before planning, which needs the data and the backbones
        show_gpu_hours(combinations, tflops)
    from ptv2_cli.cli.views.search_table import show_search, show_search_end, show_search_forecast
    from ptv2_cli.cli.views.sweep_table import show_forecast, show_plan, show_results
    from ptv2_cli.cli.views.sweep_view import view
    from ptv2_cli.registry import ENGINES
    from ptv2_cli.runs.directory import ELSEWHERE, writing_at
    from ptv2_cli.runs.lock import unlocked_warning
    from ptv2_cli.sweeps.engine import EngineContext
    from ptv2_cli.sweeps.join import run_joined
    from ptv2_cli.sweeps.membership import refuse_writer, writing_alone
    from ptv2_cli.sweeps.run import run_trials
    from ptv2_cli.sweeps.search import plan_search
    from ptv2_cli.sweeps.store import Store
    from ptv2_cli.sweeps.trials import plan_trials
    from ptv2_cli.threads import use_threads

    context = EngineContext(device, offline, threads, request, cluster)
    use_threads(threads)
    runner = ENGINES.load(name)(context)
    proposer = None
    if options is not None:
        proposer = plan_search(paths, base, flags, said, options, output, context)
        plan = proposer.plan
    else:
        plan = plan_trials(combinations, output, offline=offline, memo=context.memo)
    store = Store(plan, output)
    if proposer is not None:
        show_search(proposer, store, every=dry_run)
    else:
        show_plan(store, every=dry_run)
    again = "free some space; the same command continues"
    # What follows is refused before the forecast loads anything.
    if not dry_run and proposer is not None:
        proposer.require_database()
    if not dry_run and store.folder.is_dir():
        with writing_at(store.folder, ELSEWHERE, again, RunError):
            if join:
                refuse_writer(store.folder)
            else:
                with writing_alone(store.folder):
                    pass
    forecast = runner.forecast(store.specs() if proposer is None else proposer.samples)
    if proposer is not None:
        show_search_forecast(forecast, proposer, store, every=dry_run)
    else:
        show_forecast(forecast, store, every=dry_run)
    if dry_run:
        console.note(f"dry run: nothing written; the sweep would be {store.folder}")
        return 0
    with writing_at(store.folder, ELSEWHERE, again, RunError):
        store.begin()
        if join:
            store.write_plan(alone=False)
            with view(store, None, prefix=True) as shown:
                run_joined(store, runner, shown, lanes=request.count)
            store.write_plan(alone=False)
            return show_results(store, offline=offline)
        with writing_alone(store.folder) as has_locks:
            if not has_locks:
                console.warn(unlocked_warning(store.folder))
            store.write_plan()
            several = request.count != 1 or name != "local"
            if proposer is not None:
                proposer.begin(store)
            seconds = None if proposer is not None else forecast.seconds
            with view(store, seconds, prefix=several) as shown:
                run_trials(store, runner, shown, search=proposer)
            code = show_results(store, offline=offline)
            if proposer is not None:
                show_search_end(proposer, store)
            return code
