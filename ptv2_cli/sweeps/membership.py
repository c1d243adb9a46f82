"""The processes that share the trials of a sweep, and who trains which trial.

Everything is a file in `join/` of the sweep's folder, so that it works on any shared file system,
also on one without locks:

- `MEMBER.alive`: a process takes part. It touches the file again and again; where the file was not
  touched for `STALE_SECONDS`, or is gone, the process is dead. Times are compared with those of the
  process's own file, which the same file system has set: clocks of machines may differ.
- `FINGERPRINT.N.json`: a trial is taken, by the process that could make the file. To take it over
  from a dead process, make the file of the next N: only one process can. So nobody deletes these
  files while a trial is left, and none is ever taken twice.
"""

from __future__ import annotations

import json
import os
import platform
import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from ptv2_cli.errors import MachineError, Problem, RunError
from ptv2_cli.files import make_folder, write_atomic
from ptv2_cli.runs.lock import locked
from ptv2_cli.sweeps.records import Outcome

FOLDER = "join"
BEAT_SECONDS = 10.0
"""Between two signs of life."""
STALE_SECONDS = 60.0
"""Age of the last sign of life from which a process counts as dead."""
_ALIVE = ".alive"
_CLAIM = re.compile(r"(.+)\.(\d+)\.json")
_OUTCOME = TypeAdapter(Outcome)


@dataclass(frozen=True)
class Claim:
    """The last word on who trains a trial."""

    number: int
    member: str
    """Empty where the file is being written at this moment."""
    outcome: Outcome | None
    """How the trial ended; None: it has not."""


class Membership:
    """This process as one of those that share a sweep; a context manager."""

    def __init__(self, folder: Path) -> None:
        self._sweep = folder
        self._folder = folder / FOLDER
        self._name = secrets.token_hex(8)
        self._alive = self._folder / f"{self._name}{_ALIVE}"
        self._taken: dict[str, int] = {}
        """Fingerprint -> number of this process's claim."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        """Take part.

        Raises:
            RunError: a process that shares with nobody writes the folder.
        """
        make_folder(self._folder)
        content = {"pid": os.getpid(), "host": platform.node()}
        write_atomic(self._alive, json.dumps(content).encode())
        try:
            # After the sign of life: of two processes that start at once, one sees the other.
            refuse_writer(self._sweep)
        except RunError:
            self._alive.unlink(missing_ok=True)
            raise
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Leave; what this process has taken and not ended is free for others at once."""
        self._stop.set()
        self._thread.join()
        self._alive.unlink(missing_ok=True)

    def take(self, fingerprint: str) -> bool:
        """Take a trial, unless a living process has it or it has ended."""
        claim = self.claims().get(fingerprint)
        if claim is not None and (claim.outcome is not None or self._lives(claim, fingerprint)):
            return False
        number = 0 if claim is None else claim.number + 1
        return self._make(fingerprint, number)

    def take_again(self, fingerprint: str, failed: Claim) -> bool:
        """Take a trial that had failed before this process began."""
        return self._make(fingerprint, failed.number + 1)

    def end(self, fingerprint: str, outcome: Outcome) -> None:
        """Tell the others how a trial of this process has ended."""
        number = self._taken.pop(fingerprint, None)
        if number is not None:
            content = {"member": self._name, "outcome": asdict(outcome)}
            write_atomic(self._path(fingerprint, number), json.dumps(content).encode())

    def claims(self) -> dict[str, Claim]:
        """The last claim of each trial."""
        last: dict[str, int] = {}
        for path in self._folder.iterdir():
            match = _CLAIM.fullmatch(path.name)
            if match:
                last[match[1]] = max(last.get(match[1], -1), int(match[2]))
        return {mark: self._read(mark, number) for mark, number in last.items()}

    def count(self) -> int:
        """How many living processes take part, this one included."""
        return len(living(self._sweep)) or 1

    def require_own(self) -> None:
        """See that this process still has the trials that it trains.

        Raises:
            MachineError: it stood still so long that another one has taken them over.
        """
        for fingerprint, number in self._taken.items():
            if self._path(fingerprint, number + 1).exists():
                what = "this process stood still, and another one has taken its trials over"
                hint = "the same command with --join takes part again"
                raise MachineError(Problem(str(self._sweep), what, hint))

    def clear(self) -> None:
        """Remove all files, once every trial is done: nobody needs them any more."""
        for path in self._folder.iterdir():
            if _CLAIM.fullmatch(path.name):
                path.unlink(missing_ok=True)
        self._alive.unlink(missing_ok=True)
        with suppress(OSError):  # another process is still here
            self._folder.rmdir()

    def _make(self, fingerprint: str, number: int) -> bool:
        content = json.dumps({"member": self._name, "outcome": None})
        try:
            with self._path(fingerprint, number).open("x") as file:
                file.write(content)
        except FileExistsError:
            return False
        self._taken[fingerprint] = number
        return True

    def _lives(self, claim: Claim, fingerprint: str) -> bool:
        """Whether the process of a claim is alive."""
        if not claim.member:  # the file is as old as the claim
            path = self._path(fingerprint, claim.number)
            return _age(path, self._alive) < STALE_SECONDS
        return _age(self._folder / f"{claim.member}{_ALIVE}", self._alive) < STALE_SECONDS

    def _read(self, fingerprint: str, number: int) -> Claim:
        try:
            content = json.loads(self._path(fingerprint, number).read_text())
            outcome = content["outcome"]
            known = None if outcome is None else _OUTCOME.validate_python(outcome)
            return Claim(number, str(content["member"]), known)
        except (OSError, ValueError, TypeError, KeyError, ValidationError):
            return Claim(number, "", None)

    def _path(self, fingerprint: str, number: int) -> Path:
        return self._folder / f"{fingerprint}.{number}.json"

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            with suppress(OSError):  # the next beat may succeed
                os.utime(self._alive)


def living(sweep: Path) -> list[dict[str, Any]]:
    """The host and pid of each living process that shares a sweep.

    The clock of this machine decides: a process that only looks has no file of its own there.
    """
    found = []
    for path in (sweep / FOLDER).glob(f"*{_ALIVE}"):
        if _age(path, None) < STALE_SECONDS:
            with suppress(OSError, ValueError):
                found.append(json.loads(path.read_text()))
    return found


def refuse_writer(sweep: Path) -> None:
    """See that no process writes a sweep alone.

    Raises:
        RunError: one does.
    """
    try:
        with locked(sweep, looking=True):
            pass
    except RunError as error:
        problem = error.problems[0]
        hint = "start both with --join, or wait for the other one"
        raise RunError.at(problem.where, problem.what, hint) from None


@contextmanager
def writing_alone(sweep: Path) -> Iterator[bool]:
    """Hold the lock of a sweep that this process writes alone, which nobody may share.

    Yields False where the file system has no locks.

    Raises:
        RunError: another process holds the lock, or some share the sweep's trials.
    """
    with locked(sweep) as has_locks:
        _refuse_others(sweep)
        yield has_locks


def _refuse_others(sweep: Path) -> None:
    others = living(sweep)
    if others:
        named = ", ".join(f"pid {other['pid']} on {other['host']}" for other in others)
        what = f"is being written by processes that share its trials ({named})"
        raise RunError.at(str(sweep), what, "add --join to take part, or wait for them")


def _age(path: Path, own: Path | None) -> float:
    """Seconds since a file was touched, by the clock of its file system; infinite: it is gone."""
    try:
        touched = path.stat().st_mtime
        if own is None:
            return time.time() - touched
        os.utime(own)
        return own.stat().st_mtime - touched
    except OSError:
        return float("inf")
