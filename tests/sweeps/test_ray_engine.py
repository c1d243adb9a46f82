"""The Ray engine on two raylets: one with the driver's disk, one with a disk of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forked
import laned
import psutil
import pytest
import tiny
from left_behind import assert_bit_equal

from ptv2_cli.errors import ConfigError, Interrupted
from ptv2_cli.sweeps.engine import EngineContext, SilentMonitor, TrialSpec
from ptv2_cli.sweeps.options import ClusterRequest, LaneRequest
from ptv2_cli.sweeps.run import ShouldStop, run_trials
from ptv2_cli.sweeps.store import Store
from ptv2_cli.training.events import EvalDone, Saved, Started, StepDone, Warned

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'ptv2[ray]'")

from ptv2_cli.sweeps.engines import ray_files, ray_supplies  # noqa: E402
from ptv2_cli.sweeps.engines.ray import RayEngine  # noqa: E402

# Every interpreter of the second node: what lies below HIDDEN is not there, and as long as a marker
# exists, its disk is full or its torch is another one.
OTHER_MACHINE = """
import errno, importlib.metadata, os, sys
hidden, own, markers = (os.environ[name] for name in ("HIDDEN", "TMPDIR", "MARKERS"))
stat, version = os.stat, importlib.metadata.version
def below(path, folder):
    try:
        path = os.fsdecode(path)
    except TypeError:
        return False
    return path == folder or path.startswith(folder + "/")
def has(marker):
    try:
        stat(markers + "/" + marker)
    except OSError:
        return False
    return True
def hook(event, arguments):
    if event in ("open", "os.listdir", "os.scandir") and arguments:
        if below(arguments[0], hidden):
            raise FileNotFoundError(errno.ENOENT, "hidden", os.fsdecode(arguments[0]))
        if event == "open" and below(arguments[0], own) and "checkpoints" in str(arguments[0]):
            if arguments[2] & os.O_CREAT and has("full"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
def hidden_stat(path, *rest, **options):
    if below(path, hidden):
        raise FileNotFoundError(errno.ENOENT, "hidden", os.fsdecode(path))
    return stat(path, *rest, **options)
os.stat = hidden_stat
importlib.metadata.version = lambda name: "0.1" if has(name) else version(name)
sys.addaudithook(hook)
"""
SMALL = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
STEPS = {"steps": 12, "eval_every": 3}
GRID = "prompt_len=2,3,4,5"


@dataclass
class Machines:
    """The cluster, and what lies on its disks."""

    cluster: Any
    other: Any
    """The node with a disk of its own."""
    hidden: Path
    """What this node does not see."""
    disk: Path
    """The node's own."""
    markers: Path

    def add_other(self) -> None:
        folder = self.disk.parent / "code"
        folder.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(OTHER_MACHINE)
        environment = {
            "HIDDEN": str(self.hidden),
            "TMPDIR": str(self.disk),
            "MARKERS": str(self.markers),
            "PTV2_CACHE": str(self.disk / "cache"),
            "PYTHONPATH": os.pathsep.join([str(folder), *os.sys.path]),  # type: ignore[attr-defined]
        }
        self.other = self.cluster.add_node(**SMALL, env_vars=environment)


def first_machine() -> Any:
    """A cluster of one node; Ray gives it half a minute to start, too little on a busy machine."""
    from ray.cluster_utils import Cluster

    for _ in range(4):
        try:
            return Cluster(initialize_head=True, head_node_args=SMALL)
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
    return Cluster(initialize_head=True, head_node_args=SMALL)


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # 15 starves beside other tests
        patch.setenv("PYTHONPATH", os.pathsep.join(os.sys.path))  # type: ignore[attr-defined]
        folder = tmp_path_factory.mktemp("machines")
        for name in ("hidden", "disk", "markers"):
            (folder / name).mkdir()
        cluster = first_machine()
        there = Machines(cluster, None, folder / "hidden", folder / "disk", folder / "markers")
        try:
            there.add_other()
            ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
            yield there
        finally:
            ray.shutdown()
            cluster.shutdown()


@pytest.fixture(scope="module")
def configs(machines: Machines, folder_of: Callable[[str], Path]) -> list[Path]:
    import shutil

    backbone = machines.hidden / "bert"
    shutil.copytree(folder_of("bert"), backbone)
    data = tiny.write_rte(machines.hidden / "rte", train=12, validation=6)
    return laned.write(machines.hidden, backbone, data, {"prompt_len": 2}, train=STEPS)


@pytest.fixture(scope="module")
def whole(configs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> laned.Swept:
    """The sweep that no cluster has seen."""
    return laned.sweep(configs, tmp_path_factory.mktemp("here"), 1, grid=GRID)


@pytest.fixture
def output(machines: Machines, tmp_path: Path) -> Path:
    return machines.hidden / tmp_path.name


def sweep(
    configs: list[Path],
    output: Path,
    watch: laned.Watch,
    lanes: LaneRequest | None = None,
    should_stop: ShouldStop | None = None,
) -> laned.Swept:
    plan = laned.plan(configs, output, grid=GRID)
    swept = laned.Swept(plan, Store(plan, output), watch)
    swept.store.begin()
    swept.store.write_plan()
    context = EngineContext("cpu", True, 1, lanes or LaneRequest(), ClusterRequest("auto"))
    run_trials(swept.store, RayEngine(context), watch, should_stop)
    return swept


def same(swept: laned.Swept, whole: laned.Swept) -> None:
    """Every trial has left what it leaves without a cluster."""
    assert swept.statuses == ["finished"] * 4
    for one, other in zip(swept.runs, whole.runs, strict=True):
        assert_bit_equal(one.folder, other.folder)
        assert not list(one.folder.glob("**/.*.tmp"))


def at_step(step: int, act: Callable[[str], None]) -> laned.Watch:
    """A watch that acts once, when a trial has taken that step."""
    watch, done = laned.Watch(), False

    def told(name: str, event: Any) -> None:
        nonlocal done
        if isinstance(event, EvalDone | StepDone) and event.step >= step and not done:
            done = True
            act(name)

    watch.told = told
    return watch


def resumed(watch: laned.Watch) -> list[int]:
    """Where trials went on that had begun before."""
    starts = [e.resumed_at for events in watch.events.values() for e in events
              if isinstance(e, Started)]  # fmt: skip
    return sorted(start for start in starts if start)


def test_two_machines_leave_what_one_process_leaves(
    machines: Machines, configs: list[Path], whole: laned.Swept, output: Path
) -> None:
    watch = laned.Watch()
    swept = sweep(configs, output, watch)
    same(swept, whole)
    assert list(machines.disk.glob("ptv2-trials-*/*"))  # some were trained there
    (kept,) = (machines.disk / "cache/from-driver").glob("*/train.jsonl")  # once, for all trials
    assert kept.is_file()
    for run in swept.runs:
        assert str(machines.disk) not in (run.folder / "config.yaml").read_text()
        assert str(machines.disk) not in (run.folder / "metrics.json").read_text()
        assert watch.of(run.folder.name, EvalDone)[-1].step == 12
        assert watch.of(run.folder.name, Saved)[-1].path.is_relative_to(run.folder)
    assert not list(output.glob(".*"))


def processes(machines: Machines) -> list[psutil.Process]:
    """Those that train, on both machines."""
    caches = {os.environ["PTV2_CACHE"], str(machines.disk / "cache")}
    return [p for p in psutil.process_iter(["cmdline"])
            if (p.info["cmdline"] or [""])[0].startswith("ray::train_trials")
            and p.environ().get("PTV2_CACHE") in caches]  # fmt: skip


def test_lanes_are_tasks(
    machines: Machines, configs: list[Path], whole: laned.Swept, output: Path
) -> None:
    watch = laned.Watch()
    swept = sweep(configs, output, watch, LaneRequest(4, "--lanes 4"))
    assert swept.statuses == ["finished"] * 4
    assert [run.metrics["lanes"] for run in swept.runs] == [2] * 4  # two tasks of two lanes
    for one, other in zip(swept.runs, whole.runs, strict=True):
        laned.assert_same(other, one)


def test_a_killed_process_goes_on_from_its_checkpoint(
    machines: Machines, configs: list[Path], whole: laned.Swept, output: Path
) -> None:
    killed: list[int] = []

    def kill(name: str) -> None:
        for process in processes(machines):
            killed.append(process.pid)
            process.kill()

    watch = at_step(6, kill)
    swept = sweep(configs, output, watch)
    assert killed
    same(swept, whole)
    assert any(start in {3, 6} for start in resumed(watch))
    for run in swept.runs:  # what had finished was not trained again
        starts = watch.of(run.folder.name, Started)
        assert len(starts) <= 2
        assert starts[0].resumed_at == 0


def test_a_killed_machine_loses_no_trial(
    machines: Machines, configs: list[Path], whole: laned.Swept, output: Path
) -> None:
    lost: list[str] = []

    def pull_the_plug(name: str) -> None:
        lost.append(name)
        machines.cluster.remove_node(machines.other, allow_graceful=False)

    watch = at_step(6, pull_the_plug)
    try:
        swept = sweep(configs, output, watch)
    finally:
        machines.add_other()
        machines.cluster.wait_for_nodes(120)  # until Ray knows that the other one is gone
    assert lost
    same(swept, whole)


def test_a_full_disk_of_one_machine_stops_no_other(
    machines: Machines, configs: list[Path], whole: laned.Swept, output: Path
) -> None:
    told: list[str] = []
    (machines.markers / "full").touch()
    try:
        for number in range(5):  # a node that has just joined may come too late for a trial
            watch = laned.Watch()
            same(sweep(configs, output / str(number), watch), whole)
            told = [event.text for events in watch.events.values() for event in events
                    if isinstance(event, Warned)]  # fmt: skip
            if told:
                break
    finally:
        (machines.markers / "full").unlink()
    assert any("the disk is full; it goes on on another node" in text for text in told)


def test_stopped_by_a_key_all_are_saved_and_go_on(
    machines: Machines, configs: list[Path], whole: laned.Swept, output: Path
) -> None:
    watch = at_step(4, lambda name: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Interrupted, match="saved") as raised:
        sweep(configs, output, watch)
    assert raised.value.exit_code == 130
    assert not processes(machines)
    after = laned.Watch()
    swept = sweep(configs, output, after)
    same(swept, whole)
    assert max(resumed(after)) >= 4


def test_the_sweep_decides_when_to_stop(
    machines: Machines, configs: list[Path], output: Path
) -> None:
    asked: list[tuple[int, int]] = []

    def should_stop(trial: Any, evaluation: EvalDone) -> bool:
        asked.append((trial.number, evaluation.step))
        return trial.number % 2 == 0 and evaluation.step == 6

    swept = sweep(configs, output, laned.Watch(), should_stop=should_stop)
    assert "finished" not in swept.statuses[1::2]
    assert swept.statuses[::2] == ["finished"] * 2
    assert [len(run.history) for run in swept.runs] == [4, 2, 4, 2]
    assert (2, 6) in asked
    assert (2, 9) not in asked


def test_trials_of_a_search_are_taken_when_there_is_room(
    machines: Machines, configs: list[Path], output: Path
) -> None:
    taken: list[str] = []
    ended: list[str] = []

    def search() -> Iterator[TrialSpec]:
        for trial in laned.plan(configs, output, grid=GRID).trials:
            assert len(taken) - len(ended) < 2  # two nodes with one slot each
            taken.append(trial.record.fingerprint)
            yield trial.spec

    context = EngineContext("cpu", True, 1, LaneRequest(4, "--lanes 4"), ClusterRequest("auto"))
    for result in RayEngine(context).run(search(), SilentMonitor()):
        assert result.outcome.status == "finished"
        ended.append(result.fingerprint)
    assert sorted(taken) == sorted(ended)
    assert len(ended) == 4


def test_other_versions_are_named(machines: Machines, configs: list[Path], output: Path) -> None:
    (machines.markers / "torch").touch()
    try:
        with pytest.raises(ConfigError, match=r"torch 0\.1 \(here 2") as raised:
            sweep(configs, output, laned.Watch())
    finally:
        (machines.markers / "torch").unlink()
    (problem,) = raised.value.problems
    assert machines.other.node_id[:6] in problem.where
    assert "transformers" not in problem.what


def test_a_machine_without_data_that_cannot_be_sent(
    machines: Machines, configs: list[Path], output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_supplies, "materials_of", lambda run: ray_files.materials_of(run)[:1])
    watch = laned.Watch()
    with pytest.raises(ConfigError, match="cannot run") as raised:
        sweep(configs, output, watch)
    assert str(machines.hidden / "rte") in str(raised.value)
    assert "copy the data" in raised.value.problems[0].hint
    assert not watch.order


def test_the_forecast_says_what_is_sent(
    machines: Machines, configs: list[Path], output: Path
) -> None:
    plan = laned.plan(configs, output, grid=GRID)
    engine = RayEngine(EngineContext("cpu", True, cluster=ClusterRequest("auto")))
    forecast = engine.forecast([trial.spec for trial in plan.trials])
    assert forecast.lines[0] == "Ray cluster of 2 nodes: 2 tasks at once"
    assert len(forecast.lines) == 2
    assert "is sent data and backbone" in forecast.lines[1]
    assert not output.exists()


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (ClusterRequest("auto", cpus=3.0), "needs 3 CPUs, and the largest node has 1"),
        (ClusterRequest("auto", gpus=1.0), "needs 1 GPUs, and the largest node has 0"),
    ],
)
def test_a_trial_that_fits_on_no_machine(
    request_: ClusterRequest, says: str, machines: Machines, configs: list[Path], output: Path
) -> None:
    plan = laned.plan(configs, output, grid=GRID)
    engine = RayEngine(EngineContext("cpu", True, cluster=request_))
    with pytest.raises(ConfigError, match=says):
        engine.forecast([plan.trials[0].spec])


# A driver that is killed when it has taken note of two trials that have ended.
KILLED = """
import os
from ptv2_cli.sweeps.engines import ray_tasks
end, ended = ray_tasks.Driver._end, []
def end_and_die(self, result, files):
    known = end(self, result, files)
    ended.append(result)
    if len(ended) == 2:
        os.kill(os.getpid(), 9)
    return known
ray_tasks.Driver._end = end_and_die
from ptv2_cli.cli.app import main
main()
"""


def test_a_killed_driver_and_the_same_command_again(
    machines: Machines, configs: list[Path], whole: laned.Swept, output: Path
) -> None:
    words = ["sweep", str(configs[0]), "--grid", GRID, "--output", str(output), "--offline"]
    words += ["--engine", "ray", "--address", machines.cluster.address, "--device", "cpu"]
    done = forked.finish(*words, "--threads", "1", code=KILLED)
    assert done.returncode == -signal.SIGKILL, done.stderr
    finished = {path: path.stat().st_mtime_ns for path in output.glob("*/metrics.json")}
    assert len(finished) >= 2
    after = laned.Watch()
    swept = sweep(configs, output, after)
    same(swept, whole)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert len(after.order) == 4 - len(finished)
