"""Where a config key was written: a line of a file, or an argument of the command line."""

from __future__ import annotations

from dataclasses import dataclass, field

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Origin:
    """A line of a file; without a line, a whole file or a command-line argument."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Origins:
    """The origin of each key path that was written.

    A section of which only keys were written, as `--set train.lr=1` does, has the origin of its
    first key; a path in which nothing was written that of its nearest parent.
    """

    file: str
    entries: dict[KeyPath, Origin] = field(default_factory=dict)

    def find(self, path: KeyPath) -> Origin:
        """The origin of `path`, of what lies in it, of its nearest parent, or of the whole file."""
        written = self.written(path)[0]
        while written and written not in self.entries:
            written = written[:-1]
        return self.entries[written] if written else Origin(self.file)

    def written(self, path: KeyPath) -> list[KeyPath]:
        """`path`; if only keys below it were written, those."""
        size = len(path)
        others = [] if path in self.entries or not path else list(self.entries)
        below = [other for other in others if len(other) > size and other[:size] == path]
        return [key for key in below if key[:-1] not in below] or [path]

    def where(self, *path: str | int) -> str:
        """`file:line` or `--set key`, as messages show it."""
        return str(self.find(path))

    def forget(self, path: KeyPath) -> None:
        """Drop the origins of `path` and of all below it."""
        for other in [known for known in self.entries if known[: len(path)] == path]:
            del self.entries[other]

    def take(self, path: KeyPath, source: Origins) -> None:
        """Copy the origins that `source` has for `path` and for all below it."""
        for other, origin in source.entries.items():
            if other[: len(path)] == path:
                self.entries[other] = origin


def dotted(path: KeyPath) -> str:
    """`("report", 0)` as `report[0]`, `("train", "lr")` as `train.lr`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
