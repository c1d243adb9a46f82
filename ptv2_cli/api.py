"""What the commands do, as functions: `train`, `sweep`, `evaluate` and `load`.

They raise `ptv2_cli.errors.Ptv2Error` where a command would print a message and exit, and print
nothing unless `progress=True`. This module imports nothing heavy until a function is called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ptv2_cli.config.load import ConfigSource
    from ptv2_cli.config.overrides import Override
    from ptv2_cli.config.schema import RunConfig
    from ptv2_cli.runs.directory import RunDirectory
    from ptv2_cli.runs.prediction.predict import Run
    from ptv2_cli.sweeps.leaderboard import Leaderboard

    Config = str | Path | Mapping[str, Any] | RunConfig


def train(
    config: Config,
    *,
    set: Mapping[str, Any] | None = None,  # noqa: A002
    unset: Sequence[str] = (),
    output: str | Path = "runs",
    resume: bool = True,
    device: str = "auto",
    threads: int | None = None,
    offline: bool = False,
    progress: bool = False,
    **keys: Any,
) -> Run:
    """Train a run as `ptv2 train` does, or continue it; a finished run is not trained again.

        run = train("config.yaml", prompt_len=20, lr=1e-2, method={"layers": "last:8"})
        run = train({"method": "ptuning_v2", "backbone": ..., "task": ...}, set={"train.epochs": 3})

    Args:
        config: a YAML file, the folder of a run, a dict with the same keys, or a `RunConfig`.
            Relative paths in a dict are relative to the working folder.
        set: dotted keys and their values, such as `{"train.lr": 1e-2}`.
        unset: dotted keys that return to their defaults.
        output: folder that holds the run directories.
        resume: False trains from the start, whatever was trained before.
        device: auto, cpu, cuda or cuda:N.
        threads: processor threads; None: `OMP_NUM_THREADS`, else as many as there are free cores.
        offline: never touch the network.
        progress: show progress on standard error, or in a notebook below the cell.
        keys: keys of the config, such as `prompt_len=20` or `train={"lr": 1e-2}`, which is merged
            into the config's `train`; also `lr`, `seed`, `epochs` and `batch_size`.

    Raises:
        InputError: the config, the data or the backbone is wrong, with everything that is.
        Interrupted: by Ctrl-C, after saving; the same call continues the run.
        MachineError: memory or disk gave out.
    """
    _settle(threads)
    from ptv2_cli.cli.options import unknown_task
    from ptv2_cli.config.load import load_config
    from ptv2_cli.errors import ConfigError

    loaded = load_config(_source(config), _overrides(set, unset, keys), also=unknown_task)
    if loaded.config.sweep:
        what = "the config lists values to sweep over, and train makes one run"
        hint = 'call sweep(...), or add unset=["sweep"] for one run without the lists'
        raise ConfigError.at(loaded.where("sweep"), what, hint)
    from ptv2_cli.backbones.quantize import check_machine
    from ptv2_cli.cli.views.progress import Progress
    from ptv2_cli.runs.directory import ELSEWHERE, writing
    from ptv2_cli.runs.environment import choose_device
    from ptv2_cli.runs.prediction.predict import Run
    from ptv2_cli.runs.resolved_run import prepare
    from ptv2_cli.runs.session import open_session
    from ptv2_cli.runs.trainer import train as train_run
    from ptv2_cli.threads import use_threads

    chosen = choose_device(device)
    use_threads(threads)
    check_machine(loaded.config.backbone, chosen)
    resolved_run = prepare(loaded, Path(output), offline=offline)
    directory = resolved_run.directory
    if not (directory.finished and resume):
        session = open_session(resolved_run, chosen)
        with writing(directory, ELSEWHERE):
            train_run(session, [Progress] if progress else [], resume=resume)
    return Run(directory, device=device, offline=offline)


def sweep(
    config: Config | list[str | Path] | tuple[str | Path, ...],
    grid: Mapping[str, Sequence[Any]] | None = None,
    *,
    lanes: int | Literal["auto"] | None = None,
    engine: str | None = None,
    set: Mapping[str, Any] | None = None,  # noqa: A002
    unset: Sequence[str] = (),
    output: str | Path = "runs",
    device: str = "auto",
    threads: int | None = None,
    offline: bool = False,
    progress: bool = False,
    **keys: Any,
) -> Sweep:
    """Train every combination of the values in `grid`, as `ptv2 sweep` does.

        found = sweep("config.yaml", {"prompt_len": [20, 100], "lr": [5e-3, 1e-2]}, lanes="auto")
        print(found.best, found.table)

    Runs that are finished are not trained again. A trial that fails does not stop the others. A
    search is described by the config's `sweep:`, such as `{"search": "tpe", "trials": 20, "space":
    {"train.lr": {"log": [1e-3, 1e-1]}}}`.

    Args:
        config: see `train`; or several YAML files.
        grid: keys and the values to try of each; `lr`, `seed`, `epochs` and `batch_size` stand for
            `train.lr` and so on. None: the lists of the config's own `sweep:`.
        lanes: how many trials share one backbone at once, as far as they can.
        engine: what runs the trials: `local`, `ray`, or an engine from a plug-in. `ray` takes the
            cluster that this process is connected to (`ray.init`), or that of RAY_ADDRESS.
        set: dotted keys that have one value in all trials.
        unset: see `train`.
        output: see `train`.
        device: see `train`.
        threads: see `train`.
        offline: see `train`.
        progress: see `train`.
        keys: keys of the config that have one value in all trials, see `train`.

    Raises:
        InputError: the config or the grid is wrong, or no trial can run.
        Interrupted: by Ctrl-C, after saving; the same call continues the sweep.
        MachineError: the disk is full.
    """
    _settle(threads)
    from ptv2_cli.registry import ENGINES
    from ptv2_cli.sweeps.axes import from_grid
    from ptv2_cli.sweeps.grid import make_combinations
    from ptv2_cli.sweeps.options import requested_engine, requested_lanes, requested_search
    from ptv2_cli.sweeps.search_options import search_options

    several = config if isinstance(config, list | tuple) else [config]
    sources = [_source(one) for one in several]
    base = _overrides(set, unset, keys)
    flags = from_grid(grid or {})
    said = requested_search({}, sources, base)
    options = search_options(said)
    combinations = [] if options else make_combinations(sources, base, flags)
    request = requested_lanes(None if lanes is None else str(lanes), sources, base)
    name = requested_engine(engine, sources, base)
    from ptv2_cli.cli.views.sweep_view import view
    from ptv2_cli.errors import RunError
    from ptv2_cli.runs.directory import ELSEWHERE, RunDirectory, writing_at
    from ptv2_cli.runs.prediction.predict import Run
    from ptv2_cli.sweeps.engine import EngineContext
    from ptv2_cli.sweeps.membership import writing_alone
    from ptv2_cli.sweeps.records import ENDED
    from ptv2_cli.sweeps.run import run_trials
    from ptv2_cli.sweeps.search import plan_search
    from ptv2_cli.sweeps.store import Store
    from ptv2_cli.sweeps.trials import plan_trials
    from ptv2_cli.threads import use_threads

    use_threads(threads)
    context = EngineContext(device=device, offline=offline, lanes=request, threads=threads)
    runner = ENGINES.load(name)(context)
    search = None
    if options is not None:
        search = plan_search(sources, base, flags, said, options, Path(output), context)
        plan = search.plan
    else:
        plan = plan_trials(combinations, Path(output), offline=offline, memo=context.memo)
    store = Store(plan, Path(output))
    if search is not None:
        search.require_database()
    runner.forecast(store.specs() if search is None else search.samples, timed=False)
    full = "free some space; the same call continues"
    with writing_at(store.folder, ELSEWHERE, full, RunError):
        store.begin()
        with writing_alone(store.folder), ExitStack() as stack:
            store.write_plan()
            if search is not None:
                search.begin(store)
            prefix = request.count != 1
            shown = stack.enter_context(view(store, None, prefix=prefix)) if progress else None
            run_trials(store, runner, shown, search=search)
            boards = store.leaderboards(tested=True)
            store.save(boards)
            store.write_best(boards)
    runs, failed = [], []
    for trial in store.plan.trials:
        outcome = store.outcomes[trial.record.fingerprint]
        if outcome.status in ENDED and outcome.run is not None:
            runs.append(
                Run(RunDirectory(store.output / outcome.run), device=device, offline=offline)
            )
        elif outcome.status == "failed":
            values = {**trial.record.values, "seed": trial.record.seed}
            failed.append({**values, "reason": outcome.reason, "hint": outcome.hint})
    best = "; ".join(board.best_line() for board in boards if board.best is not None)
    return Sweep(store.folder, runs, _table(boards), failed, best or "no trial has a score")


@dataclass(frozen=True, repr=False)
class Sweep:
    """What `sweep` returns."""

    directory: Path
    """The sweep's folder; `load` and the commands take it for its best trial."""
    runs: list[Run]
    """The runs that have ended, in the order of the grid."""
    table: list[dict[str, Any]]
    """A dict per setting (trials that differ only in their seed), the best first; earlier calls of
    the same sweep included. Keys: `task`, `split`, `metric`, `config`, the keys of the grid, `mean`
    and `deviation` over seeds, `seeds`, `best`, `verdict` and `p` of the test against the best,
    `failed`, `diverged`, `pruned`, `unfinished`, `stuck`. `pandas.DataFrame(table)` works."""
    failed: list[dict[str, Any]]
    """The trials that failed: their values, `seed`, `reason` and `hint`."""
    summary: str
    """The best setting and its score, in a line."""

    @cached_property
    def best(self) -> Run:
        """The run with the best score among the seeds of the best setting.

        Raises:
            RunError: no trial has a score, or the sweep is of several tasks.
        """
        from ptv2_cli.sweeps.store import best_trial

        name = best_trial(self.directory).path.name
        known = (run for run in self.runs if run.directory.name == name)
        return next(known, None) or load(self.directory)  # else one of an earlier call

    def __repr__(self) -> str:
        """The sweep in one line."""
        failed = f", {len(self.failed)} failed" if self.failed else ""
        count = "1 run" if len(self.runs) == 1 else f"{len(self.runs)} runs"
        return f"<Sweep of {count}{failed}; best: {self.summary}; {str(self.directory)!r}>"


def evaluate(
    run: Run | str | Path | None = None,
    *,
    split: str | None = None,
    data: str | Path | None = None,
    output: str | Path = "runs",
    device: str = "auto",
    threads: int | None = None,
    offline: bool = False,
) -> dict[str, dict[str, float]]:
    """Score a finished run again from its files, as `ptv2 eval` does: {split: {metric: value}}.

    `evaluate(run) == run.metrics["metrics"]` holds on the CPU that trained it. The scores are
    written into the run's folder, under `eval/`.

    Args:
        run: see `load`.
        split: one split; None: those that the run reports.
        data: another folder or file to score on; its split is validation unless given.
        output: see `load`.
        device: auto, cpu, cuda or cuda:N.
        threads: processor threads; None: `OMP_NUM_THREADS`, else as many as there are free cores.
        offline: never touch the network.

    Raises:
        InputError: the run, its backbone, its checkpoint or the data cannot be used.
    """
    _settle(threads)
    from ptv2_cli.runs.environment import choose_device
    from ptv2_cli.runs.rescore import open_for_rescoring
    from ptv2_cli.threads import use_threads

    use_threads(threads)
    directory = _directory(run, output)
    reloaded = open_for_rescoring(
        directory,
        split=split,
        data=None if data is None else Path(data),
        device=choose_device(device),
        offline=offline,
    )
    return {
        name: {line.metric: line.value for line in reloaded.evaluate(name)}
        for name in reloaded.session.resolved_run.data.splits
    }


def load(
    run: Run | str | Path | None = None,
    *,
    output: str | Path = "runs",
    device: str = "auto",
    threads: int | None = None,
    offline: bool = False,
    generate: Mapping[str, Any] | None = None,
) -> Run:
    """Open a finished run: its metrics, history, config and predictions; predict with it.

    Args:
        run: its folder, a sweep's for its best trial, or `hub:OWNER/NAME`; None: the newest
            finished run.
        output: the folder in which the newest run is looked for.
        device: auto, cpu, cuda or cuda:N.
        threads: processor threads; None: `OMP_NUM_THREADS`, else as many as there are free cores.
        offline: never touch the network.
        generate: keys of `generate:` that replace the run's own, such as `{"num_beams": 4}`.

    Raises:
        RunError: there is no such run, it has not finished, or its files are broken.
    """
    _settle(threads)
    from ptv2_cli.config.overrides import override_of
    from ptv2_cli.runs.prediction.predict import Run
    from ptv2_cli.threads import use_threads

    use_threads(threads)
    overrides = [
        override_of(f"generate.{key}", value, f"generate={{{key!r}: ...}}")
        for key, value in (generate or {}).items()
    ]
    return Run(_directory(run, output), device=device, offline=offline, overrides=overrides)


def _directory(run: Run | str | Path | None, output: str | Path) -> RunDirectory:
    from ptv2_cli.runs.directory import newest_finished
    from ptv2_cli.sweeps.store import open_named

    if run is None:
        return newest_finished(Path(output))
    return open_named(Path(run)) if isinstance(run, str | Path) else run.files


def _source(config: Config) -> ConfigSource:
    return Path(config) if isinstance(config, str) else config


def _overrides(
    set_: Mapping[str, Any] | None, unset: Sequence[str], keys: Mapping[str, Any]
) -> list[Override]:
    """What the arguments fix; keywords win, as flags such as --lr do on the command line."""
    from ptv2_cli.config.overrides import KEYWORDS, override_of, parse_unset

    fixed = [override_of(key, value, f"set {key}") for key, value in (set_ or {}).items()]
    returned = [parse_unset(key) for key in ([unset] if isinstance(unset, str) else unset)]
    named = [override_of(KEYWORDS.get(key, key), value, key) for key, value in keys.items()]
    return [*fixed, *returned, *named]


def _table(boards: Sequence[Leaderboard]) -> list[dict[str, Any]]:
    rows = []
    for board in boards:
        content = board.content()
        head = {key: content[key] for key in ("task", "split", "metric")}
        for setting in content["settings"]:
            config, values = setting.pop("config"), setting.pop("values")
            rows.append({**head, "config": config, **values, **setting})
    return rows


def _settle(threads: int | None) -> None:
    """Check the threads and keep libraries from printing; call it before they are imported.

    Raises:
        ConfigError: there is no such number of threads.
    """
    import warnings

    from ptv2_cli.cli.options import settle
    from ptv2_cli.threads import require_count

    require_count(threads, "threads")
    settle(offline=False)
    # tqdm's, in a notebook without widgets: no bar of it is shown.
    warnings.filterwarnings("ignore", "IProgress not found")
