"""The one exception family: every error says where, what is wrong and what to type next."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

EXIT_DEFECT = 1
EXIT_INPUT = 2
EXIT_RANK_ENDED = 3
"""Of a process that ends because another one of the same run has ended, which tells why."""


@dataclass(frozen=True)
class Fix:
    """The change of one key that a hint proposes, for code that words the hint in its own way."""

    key: str
    """Dotted."""
    value: str | None
    """As YAML writes it; None: the key's default."""
    before: str = ""
    """What the hint says before the change."""
    after: str = ""
    """What it says after it."""
    renames: bool = False
    """Whether the key replaces an unknown one."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where it is, what was seen there and how to fix it."""

    where: str
    what: str
    hint: str = ""
    fix: Fix | None = None
    """What the hint proposes, if that is to change one key."""

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n  -> {self.hint}" if self.hint else text


class Ptv2Error(Exception):
    """Base of all errors that reach the user as a message instead of a traceback."""

    exit_code = EXIT_DEFECT

    def __init__(self, *problems: Problem) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))

    def __reduce__(self) -> tuple[Any, ...]:
        """What pickle needs to send it to another process; subclasses take other arguments."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[Ptv2Error], args: tuple[Any, ...], fields: dict[str, Any]) -> Ptv2Error:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(fields)
    return error


class InputError(Ptv2Error):
    """The user's input is at fault: config, data, arguments, files. Exit code 2."""

    exit_code = EXIT_INPUT

    @classmethod
    def at(cls, where: str, what: str, hint: str = "") -> Self:
        """An error of one problem, of the class it is called on."""
        return cls(Problem(where, what, hint))


class ConfigError(InputError):
    """A config key or a command-line override is unknown, mistyped or impossible."""


class DataError(InputError):
    """A data file, or a row of one, cannot be used."""


class UnfitRow(InputError):
    """A row of the data is good by itself, but does not fit the model or the config."""

    row: Any
    """The row."""

    @classmethod
    def of(cls, row: Any, where: str, what: str, hint: str) -> Self:
        """The error of a row; its file and line are told by whoever knows them."""
        error = cls(Problem(where, what, hint))
        error.row = row
        return error

    def beside(self, line: str | None) -> UnfitRow:
        """The same error with the row's `file:line`."""
        (problem,) = self.problems
        what = problem.what if line is None else f"{problem.what} ({line})"
        return UnfitRow.of(self.row, problem.where, what, problem.hint)


class BackboneError(InputError):
    """The backbone cannot be found, loaded or prompted."""


class RunError(InputError):
    """A run directory is missing, incomplete or of another version."""


class CheckpointError(RunError):
    """A checkpoint file is truncated, altered or does not fit the model."""


class MachineError(Ptv2Error):
    """The machine failed: no memory, no disk. Exit code 1."""


class RankEnded(Ptv2Error):
    """Another process that trains the same run has ended, and says the reason itself."""

    def __init__(self, rank: int | None, code: int = EXIT_RANK_ENDED) -> None:
        """Name the rank that has ended and its exit code, where they are known."""
        super().__init__()
        self.rank = rank
        self.exit_code = code


class Interrupted(Ptv2Error):
    """Stopped by a signal after saving; exit code 128 + signal number."""

    def __init__(self, signum: int, *problems: Problem) -> None:
        super().__init__(*problems)
        self.exit_code = 128 + signum


class StoppedAtOnce(BaseException):
    """Stopped by a second signal, without saving again; exit code 128 + signal number.

    No Exception, so that no `except Exception` catches it; and no KeyboardInterrupt, for which the
    command line's library exits with 130.
    """

    def __init__(self, signum: int) -> None:
        super().__init__()
        self.signum = signum


def gather(problems: Iterable[Problem], error: type[InputError] = InputError) -> None:
    """Raise one `error` that holds all `problems`, or return if there are none."""
    problems = tuple(problems)
    if problems:
        raise error(*problems)


LESS_MEMORY = (
    "halve train.batch_size (or batch_tokens) and double train.accumulate: same result, less memory"
)
"""What to do when memory gave out in training."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device or the machine has no memory left."""
    # Compared by name: importing torch to look at its exception class would cost seconds.
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"OutOfMemoryError", "MemoryError"}) or "can't allocate memory" in str(
        error
    )
