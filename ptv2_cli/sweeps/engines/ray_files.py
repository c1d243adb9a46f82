"""Files that travel through Ray's object store: data and backbone to nodes, runs back from them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from ptv2_cli import cache
from ptv2_cli.config.file_hashes import known_sha256
from ptv2_cli.errors import MachineError, Problem
from ptv2_cli.files import make_folder, replace_by
from ptv2_cli.runs.resolved_run import ResolvedRun

CHUNK = 8 << 20
"""Bytes of an object: a node needs memory for a few of them only, however large the file is."""
_CACHE = "from-driver"
"""The kind of cache entry that holds what the driver has sent."""
_DATA_KEYS = ("data", "train", "validation", "test")
_LAST = ("checkpoints/best.json", "checkpoints/scored.json", "checkpoints/last.json")
"""Written after the tensor files that they name; `last`, from which a run goes on, after `best`."""

Files = Sequence[tuple[str, Sequence[Any]]]
"""Name inside the folder -> references of the chunks of its content."""


@dataclass(frozen=True)
class Material:
    """A file or a folder of the driver that trials read."""

    named: str
    """As configs name it: a path, or a backbone's name."""
    root: Path
    """The folder of the files."""
    names: tuple[str, ...]
    """Those of its files that trials read."""
    is_file: bool = False
    """Whether configs name its one file, and not the folder."""

    @property
    def bytes(self) -> int:
        """The size of all its files."""
        return sum((self.root / name).stat().st_size for name in self.names)

    def sent(self) -> SentMaterial:
        """The material with its content in the object store."""
        digest = hashlib.sha256()
        for name in self.names:
            digest.update(f"{name}\0{known_sha256(self.root / name)}\n".encode())
        files = pack(self.root, self.names)
        return SentMaterial(self.named, self.is_file, digest.hexdigest(), files)


@dataclass(frozen=True)
class SentMaterial:
    """A material whose content any node can fetch."""

    named: str
    is_file: bool
    sha256: str
    """Of the names and the content of its files."""
    files: Files

    def fetch(self) -> Path:
        """Where it lies on this node; taken out of the object store once.

        Raises:
            MachineError: the node's cache is off, full or not writable.
        """
        folder = cache.find(_CACHE, self.sha256)
        if folder is None:
            folder = cache.keep_folder(_CACHE, self.sha256, fill=lambda to: unpack(self.files, to))
        if folder is None:
            where = str(cache.cache_folder() or "PTV2_CACHE=off")
            what = f"the cache cannot take {self.named}: it is off, full or not writable"
            raise MachineError(Problem(where, what, "set PTV2_CACHE to a folder on this node"))
        return folder / self.files[0][0] if self.is_file else folder


def materials_of(run: ResolvedRun) -> list[Material]:
    """What a run reads on the driver, so that a node without these files can be sent them."""
    config = run.resolved.config
    located = run.resolved.located
    if located.source is not None:
        found = [_file(config.backbone.name, located.source)]
    else:
        found = [Material(config.backbone.name, located.folder, tuple(sorted(located.files)))]
    content = config.model_dump(mode="json")
    task = content["task"]
    named = [
        section[key]
        for section in (task, *(task.get("tasks") or ()))
        for key in _DATA_KEYS
        if section.get(key)
    ]
    read = [file for split in run.data.splits.values() for file in split.files]
    found += [_data(path, read) for path in dict.fromkeys(named)]
    found += [_file(path, Path(path)) for path in content["include"]]
    found += [_earlier_run(path) for path in _runs_to_begin_with(content["method"])]
    return found


def pack(root: Path, names: Iterable[str]) -> Files:
    """Put files into the object store."""
    return [(name, [ray.put(chunk) for chunk in _chunks(root / name)]) for name in names]


def unpack(files: Files, folder: Path) -> None:
    """Write files from the object store, each in one rename.

    A run's checkpoints are whole at every moment: the files that name others are written last, and
    then what no file names any more is removed.

    Raises:
        OSError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    contents = dict(files)
    order = sorted(contents, key=lambda name: (name == "metrics.json", _rank(name), name))
    for name in order:
        path = folder / name
        for parent in reversed(Path(name).parents[:-1]):
            make_folder(folder / parent)
        if len(contents[name]) == 1:
            replace_by(path, ray.get(contents[name][0]))
        else:
            _write_chunks(path, contents[name])
    for path in folder.glob("checkpoints/*"):
        if path.relative_to(folder).as_posix() not in contents:
            path.unlink()


def run_files(folder: Path) -> list[str]:
    """Names of the files of a run directory, without its lock and what is being written."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    names = (path.relative_to(folder) for path in paths)
    return sorted(name.as_posix() for name in names if not name.name.startswith("."))


def moved(value: Any, places: Mapping[str, str]) -> Any:
    """Plain data in which paths, and paths below them, have become others."""
    if isinstance(value, Mapping):
        return {key: moved(inner, places) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [moved(inner, places) for inner in value]
    if isinstance(value, str):
        for before, after in places.items():
            if value == before or value.startswith(f"{before}/"):
                return after + value[len(before) :]
    return value


def _rank(name: str) -> int:
    return 1 + _LAST.index(name) if name in _LAST else 0


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        chunk = file.read(CHUNK)
        yield chunk
        while len(chunk) == CHUNK:
            chunk = file.read(CHUNK)
            yield chunk


def _write_chunks(path: Path, chunks: Sequence[Any]) -> None:
    """Write a large file chunk by chunk: it may not fit into memory."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        for chunk in chunks:
            file.write(ray.get(chunk))
    temporary.replace(path)


def _file(named: str, path: Path) -> Material:
    return Material(named, path.parent, (path.name,), is_file=True)


def _data(named: str, read: Sequence[Path]) -> Material:
    """A path of the data: a file, or a folder with the files that were read from it."""
    path = Path(named)
    if path.is_file():
        return _file(named, path)
    names = {file.relative_to(path).as_posix() for file in read if file.is_relative_to(path)}
    note = {"NOTE.txt"} if (path / "NOTE.txt").is_file() else set()
    return Material(named, path, tuple(sorted(names | note)))


def _earlier_run(named: str) -> Material:
    """A finished run whose prompt another one begins with."""
    names = ("config.yaml", "metrics.json")
    kept = ("checkpoints/", "include/")
    more = [name for name in run_files(Path(named)) if name.startswith(kept)]
    return Material(named, Path(named), (*names, *more))


def _runs_to_begin_with(value: Any) -> list[str]:
    """The folders that `init: {run: DIR}` names, in the method and in its parts."""
    if isinstance(value, list):
        return [path for inner in value for path in _runs_to_begin_with(inner)]
    if not isinstance(value, Mapping):
        return []
    init = value.get("init")
    own = [str(init["run"])] if isinstance(init, Mapping) and init.get("run") else []
    return own + [path for inner in value.values() for path in _runs_to_begin_with(inner)]
