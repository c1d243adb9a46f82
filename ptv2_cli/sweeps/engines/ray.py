"""The engine that runs trials on a Ray cluster: many processes, on one machine or on several.

A task is a lane group: trials that share a backbone, or a single trial. It trains them with the
local engine (`ray_worker.py`) and talks to the driver (`ray_tasks.py`) through an actor
(`ray_board.py`). A task whose process or node dies is begun again by Ray, and its trials go on from
their checkpoints.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from ptv2_cli.errors import ConfigError, InputError
from ptv2_cli.runs.resolved_run import ResolvedRun
from ptv2_cli.sweeps.compatibility import groups, require_one_group
from ptv2_cli.sweeps.engine import (
    EngineContext,
    Forecast,
    Monitor,
    TrialResult,
    TrialSpec,
    prepare_spec,
)

if TYPE_CHECKING:  # these import Ray
    from ptv2_cli.sweeps.engines.ray_supplies import Supplies

INSTALL = "pip install 'ptv2[ray]'"
_MARK = ".ptv2-here-"
"""Beginning of the name of the file by which nodes know the driver's output folder."""
_ABANDONED_SECONDS = 86400.0
"""Age from which the mark of a driver that was killed is removed."""


class RayEngine:
    """Runs trials as tasks of a Ray cluster; see `Engine`."""

    def __init__(self, context: EngineContext) -> None:
        if find_spec("ray") is None:
            raise ConfigError.at("--engine ray", "needs Ray, which is not installed", INSTALL)
        from ptv2_cli.sweeps.engines.ray_cluster import check_address

        self._context = context
        self._request = context.cluster
        self._known: Supplies | None = None
        """The nodes that were checked."""
        if context.device.startswith("cuda") and not self._request.gpus:
            what = "tasks have no GPU unless they ask the cluster for one"
            raise ConfigError.at(f"--device {context.device}", what, "add --gpus-per-trial 1")
        check_address(self._request.address)

    def forecast(self, trials: Sequence[TrialSpec], *, timed: bool = True) -> Forecast:
        """Connect and check the nodes; how long the trials take is not measured."""
        if not trials:
            return Forecast()
        supplies = self._supplies()
        slots = sum(node.slots for node in supplies.able)
        count = len(supplies.able)
        machines = "1 node" if count == 1 else f"{count} nodes"
        lines = [f"Ray cluster of {machines}: {slots} task{'s' if slots > 1 else ''} at once"]
        lacking = supplies.lacking(trials)
        size = supplies.bytes(trials) / 2**20 if lacking else 0.0
        lines += [
            f"{node} is sent data and backbone ({size:.0f} MiB): {problem}"
            for node, problem in lacking.items()
        ]
        return Forecast(tuple(lines))

    def run(
        self, trials: Iterable[TrialSpec], monitor: Monitor
    ) -> Generator[TrialResult, None, None]:
        """Train the trials on the cluster."""
        known = trials if isinstance(trials, Sequence) else ()
        coming = iter(trials)
        first = next(coming, None)
        if first is None:
            return
        supplies = self._supplies()
        from ptv2_cli.sweeps.engines.ray_tasks import Driver

        tasks = (
            self._groups(known, supplies) if known else ([one] for one in chain([first], coming))
        )
        with (
            mark_of(Path(first.output)) as mark,
            Driver(self._context, supplies, self._prepare, monitor, mark) as driver,
        ):
            yield from driver.results(tasks)

    def _supplies(self) -> Supplies:
        """Connect, and check the nodes, once.

        Raises:
            ConfigError: no such cluster, no node is large enough, or versions differ.
        """
        if self._known is None:
            from ptv2_cli.sweeps.engines import ray_cluster
            from ptv2_cli.sweeps.engines.ray_supplies import Supplies

            ray_cluster.connect(self._request)  # until the process ends
            able = ray_cluster.require_nodes(self._request)
            ray_cluster.check_versions(able)
            self._known = Supplies(able, self._prepare, offline=self._context.offline)
        return self._known

    def _groups(self, trials: Sequence[TrialSpec], supplies: Supplies) -> Iterator[list[TrialSpec]]:
        """The trials of each task: those of a lane group, split so that all slots have work.

        Raises:
            ConfigError: the runs cannot share a backbone, and a number of lanes was asked for.
        """
        slots = sum(node.slots for node in supplies.able)
        request = self._context.lanes
        if request.count == 1:
            yield from ([trial] for trial in trials)
            return
        able: dict[str, tuple[TrialSpec, ResolvedRun]] = {}
        for trial in trials:
            try:
                able[trial.fingerprint] = trial, self._prepare(trial)
            except InputError:  # its own task reports it
                yield [trial]
        runs = [run for _, run in able.values()]
        if request.count != "auto":
            require_one_group(runs, request)
        for group in groups(runs):
            share = -(-len(group) // slots)
            size = share if request.count == "auto" else min(share, request.count)
            specs = [able[run.fingerprint][0] for run in group]
            yield from (specs[start : start + size] for start in range(0, len(specs), size))

    def _prepare(self, trial: TrialSpec) -> ResolvedRun:
        return prepare_spec(trial, offline=self._context.offline, memo=self._context.memo)


@contextmanager
def mark_of(output: Path) -> Iterator[tuple[str, str]]:
    """A file in the output folder by which nodes know that they share it; its path and content."""
    output.mkdir(parents=True, exist_ok=True)
    for path in output.glob(f"{_MARK}*"):  # of drivers that were killed
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                path.unlink()
    content = secrets.token_hex(8)
    path = output / f"{_MARK}{content}"
    path.write_text(content)
    try:
        yield str(path), content
    finally:
        path.unlink(missing_ok=True)
