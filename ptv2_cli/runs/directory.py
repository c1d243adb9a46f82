"""The run directory: its name, its files, and finding runs."""

from __future__ import annotations

import errno
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptv2_cli.config.fingerprint import dump_yaml
from ptv2_cli.config.schema import RunConfig
from ptv2_cli.errors import InputError, MachineError, Problem, RunError
from ptv2_cli.files import DISK_FAILED, write_atomic
from ptv2_cli.plugins import keep_copies
from ptv2_cli.runs.hub import fetched, is_on_hub
from ptv2_cli.runs.run_files import read_history, read_metrics

DEFAULT_OUTPUT = Path("runs")
ELSEWHERE = "--output DIR writes runs elsewhere"
"""What to type if a run cannot be written."""
_UNWRITABLE = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
}
"""Errors that are about the folder, not a defect."""


@dataclass(frozen=True)
class RunDirectory:
    """One run's folder. The files in it appear as the run goes on."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved config, itself a config that trains the same run."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """Written once, when the run has ended."""
        return self.path / "metrics.json"

    @property
    def history(self) -> Path:
        """A line per evaluation."""
        return self.path / "history.jsonl"

    @property
    def lr_range(self) -> Path:
        """The curve from which `train.lr: auto` took the learning rate."""
        return self.path / "lr_range.json"

    @property
    def log(self) -> Path:
        """What the run said while it trained."""
        return self.path / "log.txt"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints `last` and `best`."""
        return self.path / "checkpoints"

    def clear(self) -> None:
        """Remove what an earlier start of the same run left."""
        stale = [self.metrics, self.history, self.log]
        stale += list(self.path.glob(self.lr_range.name))
        stale += list(self.checkpoints.glob("*"))
        stale += list(self.path.glob("predictions/*.jsonl"))
        stale += list(self.path.glob("*.bad.jsonl"))
        stale += list(self.path.glob("eval/*.json"))
        stale += list(self.path.glob("trackers/*.json"))
        for path in stale:
            path.unlink(missing_ok=True)

    def predictions(self, split: str) -> Path:
        """Predictions of a reported split, a line per row."""
        return self.path / "predictions" / f"{split}.jsonl"

    def bad_rows(self, split: str) -> Path:
        """The bad rows of a split that were left out, a line each."""
        return self.path / f"{split}.bad.jsonl"

    def evaluation(self, split: str) -> Path:
        """The scores that `ptv2 eval` wrote for a split, or for other data in its place."""
        return self.path / "eval" / f"{split}.json"

    @property
    def is_run(self) -> bool:
        """Whether a run has written files here; a config alone is not a run."""
        marks = (self.metrics, self.checkpoints, self.history, self.log)
        return self.config.is_file() and any(mark.exists() for mark in marks)

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders in it that a run writes."""
        names = ("predictions", "eval", "trackers", "tensorboard")
        return self.checkpoints, *(self.path / name for name in names)

    @property
    def finished(self) -> bool:
        """Whether the run has ended and written its metrics."""
        return self.metrics.exists()

    def read_metrics(self) -> dict[str, Any]:
        """The parsed metrics.json.

        Raises:
            RunError: there is none, it is broken, of another schema version, or has values of
                types that ptv2 does not write there.
        """
        try:
            return read_metrics(self.metrics, self.repeat_hint)
        except FileNotFoundError:
            raise RunError.at(
                str(self.path), "the run has not finished: it has no metrics.json", self.resume_hint
            ) from None

    def read_history(self) -> list[dict[str, Any]]:
        """The lines of history.jsonl.

        Raises:
            RunError: it is missing or broken.
        """
        try:
            return read_history(self.history, self.repeat_hint)
        except FileNotFoundError:
            raise RunError.at(
                str(self.history), "is missing: nothing says how it trained", self.repeat_hint
            ) from None

    @property
    def resume_hint(self) -> str:
        """The command that continues the run."""
        return f"{self._command} continues it"

    @property
    def repeat_hint(self) -> str:
        """The command that repeats a run whose files are damaged."""
        return f"{self.repeat_command} trains it again"

    @property
    def repeat_command(self) -> str:
        """The command that trains the run again from its config."""
        return f"{self._command} --resume never"

    @property
    def _command(self) -> str:
        """The command for this very run, which is looked up in the output folder."""
        output = self.path.parent
        where = "" if output == DEFAULT_OUTPUT else f" --output {shlex.quote(str(output))}"
        return f"ptv2 train {shlex.quote(str(self.config))}{where}"


def write_config(path: Path, config: Mapping[str, Any], heading: str = "") -> None:
    """Write a resolved config, beside it copies of the files that it includes."""
    included = keep_copies(config["include"], path.parent / "include")
    text = heading + dump_yaml({**config, "include": included})
    write_atomic(path, text.encode())


def directory_name(config: RunConfig, name: str, fingerprint: str) -> str:
    """`<config name>-<method>-p<prompt_len>-s<seed>-<fingerprint>`."""
    length = config.prompt_len or 0
    return f"{name}-{config.method.name}-p{length}-s{config.train.seed}-{fingerprint}"


def find_by_fingerprint(output: Path, fingerprint: str) -> RunDirectory | None:
    """The run of this fingerprint, whatever its name; a finished one before others."""
    found = [RunDirectory(path) for path in sorted(output.glob(f"*-{fingerprint}"))]
    runs = [run for run in found if run.config.exists()]
    return next((run for run in runs if run.finished), runs[0] if runs else None)


def open_run(path: Path) -> RunDirectory:
    """The run at `path`, or that of a repository on the hub: `hub:OWNER/NAME`.

    Raises:
        RunError: no such folder, or no run's folder; or it cannot be fetched.
    """
    if is_on_hub(path):
        return RunDirectory(fetched(path))
    if path.name == "config.yaml" and path.is_file():
        path = path.parent
    run = RunDirectory(path)
    if not path.is_dir():
        raise RunError.at(str(path), "there is no such run directory", _list_hint(path.parent))
    if not run.config.exists():
        raise RunError.at(str(path), "is no run directory: it has no config.yaml", _list_hint(path))
    if not run.is_run:
        what = "is no run directory: it has a config.yaml, but nothing that a run leaves"
        raise RunError.at(str(path), what, _list_hint(path))
    return run


def newest_finished(output: Path) -> RunDirectory:
    """The run under `output` whose metrics.json is youngest.

    Raises:
        RunError: there is none.
    """
    runs = list(finished_runs(output))
    if not runs:
        raise RunError.at(
            str(output), "holds no finished run", "ptv2 train CONFIG makes one, or name its folder"
        )
    return max(runs, key=lambda run: run.metrics.stat().st_mtime_ns)


def finished_runs(output: Path) -> Iterator[RunDirectory]:
    """All finished runs directly under `output`."""
    for path in sorted(output.glob("*/metrics.json")):
        run = RunDirectory(path.parent)
        if run.config.exists():
            yield run


@contextmanager
def writing(run: RunDirectory, hint: str) -> Iterator[None]:
    """Turn errors of the file system about a run's files into one that names the run.

    Args:
        run: the run that is written.
        hint: what to do where its folder cannot be written.

    Raises:
        MachineError: the disk is full or fails, or somebody has removed the folder.
        RunError: the folder cannot be written.
    """
    with writing_at(run.path, hint, "free some space; the same command continues", RunError):
        try:
            yield
        except FileNotFoundError as error:
            if all(folder.is_dir() for folder in (run.path, run.checkpoints)):
                raise
            what = "the run's folder was removed while it trained"
            hint = "the same command trains it again, from its last checkpoint if there is one"
            raise MachineError(Problem(str(run.path), what, hint)) from error


@contextmanager
def writing_at(path: Path, hint: str, full: str, kind: type[InputError]) -> Iterator[None]:
    """Turn errors of the file system about writing to `path` into one that names it.

    Args:
        path: the file or folder that is written.
        hint: what to do where it cannot be written.
        full: what to do where the disk is full.
        kind: the error for a place that cannot be written.

    Raises:
        MachineError: the disk is full or fails.
        InputError: of the kind asked for: the place cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise MachineError(Problem(str(path), "the disk is full", full)) from error
        if error.errno in DISK_FAILED:
            what = f"the disk or the network file system failed: {error.strerror}"
            again = "once it works, the same command continues from what is saved"
            raise MachineError(Problem(str(path), what, again)) from error
        if error.errno == errno.ELOOP:
            what = f"{error.filename} is a symbolic link, and ptv2 writes through none"
            raise kind.at(str(path), what, "remove the link") from error
        if error.errno in _UNWRITABLE:
            raise kind.at(str(path), f"cannot be written: {error.strerror}", hint) from error
        raise


def _list_hint(folder: Path) -> str:
    found = [*finished_runs(folder), *finished_runs(folder / DEFAULT_OUTPUT)][:5]
    names = [str(run.path.relative_to(folder)) for run in found]
    return f"runs there: {', '.join(names)}" if names else "ptv2 list runs shows the runs of runs/"
