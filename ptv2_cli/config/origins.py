"""Where a config key was said: a line of a file, or an argument of the command line."""

from __future__ import annotations

from dataclasses import dataclass, field

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Place:
    """A line of a file; without a line, a whole file or a command-line argument."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Places:
    """Key paths to places; a path that nobody wrote has the place of what was written inside it.

    That is how the command line makes a section: `--set train.lr=1` writes `train.lr` alone. A
    path in which nobody wrote anything has the place of its nearest parent.
    """

    file: str
    entries: dict[KeyPath, Place] = field(default_factory=dict)

    def find(self, path: KeyPath) -> Place:
        """The place of `path`, of what lies in it, of its nearest parent, or of the whole file."""
        written = self.written(path)[0]
        while written and written not in self.entries:
            written = written[:-1]
        return self.entries[written] if written else Place(self.file)

    def written(self, path: KeyPath) -> list[KeyPath]:
        """`path`; or, if nobody wrote it but keys in it, those."""
        size = len(path)
        inner = [] if path in self.entries or not path else list(self.entries)
        found = [other for other in inner if len(other) > size and other[:size] == path]
        return [key for key in found if key[:-1] not in found] or [path]

    def where(self, *path: str | int) -> str:
        """`file:line` or `--set key`, as messages show it."""
        return str(self.find(path))

    def forget(self, path: KeyPath) -> None:
        """Drop the places of `path` and of all below it."""
        for other in [known for known in self.entries if known[: len(path)] == path]:
            del self.entries[other]

    def take(self, path: KeyPath, source: Places) -> None:
        """Copy the places that `source` has for `path` and for all below it."""
        for other, place in source.entries.items():
            if other[: len(path)] == path:
                self.entries[other] = place


def dotted(path: KeyPath) -> str:
    """`("report", 0)` as `report[0]`, `("train", "lr")` as `train.lr`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
