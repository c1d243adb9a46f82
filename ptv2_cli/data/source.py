"""The files of a data set: in the user's folder, named one by one, or in a hub snapshot."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ptv2_cli.data.rows import AS_FOUND, DataSource, Reading, RowReader
from ptv2_cli.errors import DataError

WORDS = {
    "train": ("train",),
    "validation": ("validation", "val", "valid", "dev", "testa"),
    "test": ("test", "testb"),
}
"""Words of a file name that mean a split."""
_DATA_SUFFIX = re.compile(r"\.(jsonl?|parquet|txt|conll|bio|iob2?|tsv|csv|xlsx)|\..*_conll")
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")
_SPELLINGS = {"devel": "validation", "development": "validation"}
"""Words of official releases that mean a split too."""
_CORPORA = ("wsj", "brown")
"""Words of a file name that distinguish the test sets of CoNLL-2005."""
_TREES = ("*.parquet", "**/*gold_conll")
"""What a folder named for a split may hold: parquet shards, or CoNLL-2012's tree of documents."""
_FOREIGN = {"arabic", "chinese"}
"""Folders of CoNLL-2012's tree with languages other than English."""


def split_of(path: Path) -> str | None:
    """The split that a file's name says: its first or last word, without suffix and shard.

    `val.jsonl`, `dev-v2.0.json`, `eng.testa`, `train-00000-of-00001.parquet`, `test.csv.gz`.
    """
    path = _unzipped(path)
    suffix = path.suffix.lower()
    if _DATA_SUFFIX.fullmatch(suffix):
        stem = _SHARD.sub("", path.stem)
    elif path.suffix == "" or suffix[1:] in _CORPORA or _split_word(path.suffix[1:]):
        stem = path.name
    else:
        return None
    words = [word for word in _words(stem) if word not in _CORPORA]
    return (_split_word(words[0]) or _split_word(words[-1])) if words else None


def data_suffix(path: Path) -> str:
    """The suffix that says a file's format, in lower case; `.gz` after it is ignored."""
    return _unzipped(path).suffix.lower()


def _unzipped(path: Path) -> Path:
    """The name without `.gz`."""
    return Path(path.stem) if path.suffix.lower() == ".gz" else path


def corpus_of(path: Path) -> str | None:
    """`wsj` or `brown` if a file's name says it: `test.wsj`, `test_brown.txt`."""
    return next((word for word in _CORPORA if word in _words(path.name)), None)


def split_files(folder: Path, split: str) -> tuple[Path, ...]:
    """Files of a split in a folder, or in its subfolder of that name (see `_TREES`).

    Several files are one split if they are parquet shards, or name different corpora.

    Raises:
        DataError: two files claim the split.
    """
    entries = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    files = [path for path in entries if path.is_file() and split_of(path) == split]
    for path in entries:
        if path.is_dir() and _split_word(path.name.lower()) == split:
            files += _files_below(path)
    if len(files) > 1 and not _are_one(files, folder):
        names = " and ".join(path.name for path in files)
        raise DataError.at(
            str(folder), f"{names} both claim to be the {split} data", "keep one of them there"
        )
    return tuple(files)


def _files_below(folder: Path) -> list[Path]:
    """The files of a folder named for a split."""
    # In a hub cache a shard is a link, whose target may be gone.
    files = sorted(path for tree in _TREES for path in folder.glob(tree) if path.is_file())
    return [path for path in files if not _FOREIGN & set(path.relative_to(folder).parts)]


def _are_one(files: Sequence[Path], folder: Path) -> bool:
    """Whether files are parts of one split: shards, a tree's documents, or different corpora."""
    corpora = [corpus_of(path) for path in files]
    return (
        all(path.suffix == ".parquet" for path in files)
        or all(path.name.endswith("gold_conll") and path.parent != folder for path in files)
        or (None not in corpora and len(set(corpora)) == len(corpora))
    )


@dataclass(frozen=True)
class FolderSource:
    """A folder whose files say their split by name."""

    path: Path
    reading: Reading = AS_FOUND

    def files(self, split: str) -> tuple[Path, ...]:
        """Files of a split, see `split_files`.

        Raises:
            DataError: there is no such folder, or two files claim the split.
        """
        if not self.path.is_dir():
            what = "is a file" if self.path.exists() else "does not exist"
            raise DataError.at(
                str(self.path),
                f"the data folder {what}",
                f"task.data names a folder with a {split} file: {self._names(split)}",
            )
        return split_files(self.path, split)

    def describe(self, split: str) -> str:
        """The folder and the names looked for."""
        return f"{self.path} (looked for {self._names(split)})"

    def _names(self, split: str) -> str:
        return ", ".join(f"{word}.*" for word in WORDS[split])


@dataclass(frozen=True)
class FileSource:
    """One file, whatever its name, as any split that is asked for (`ptv2 eval --data FILE`)."""

    path: Path
    reading: Reading = AS_FOUND

    def files(self, split: str) -> tuple[Path, ...]:
        """The file, if it exists."""
        return (self.path,) if self.path.is_file() else ()

    def describe(self, split: str) -> str:
        """The path looked for."""
        return str(self.path)


class HubSource:
    """A folder of a data set repository on the Hugging Face hub, as a snapshot.

    Offline (`offline`, or HF_HUB_OFFLINE=1) only the local cache is used.
    """

    def __init__(
        self,
        repo: str,
        revision: str,
        folder: str,
        offline: bool = False,
        reading: Reading = AS_FOUND,
    ) -> None:
        from huggingface_hub import constants

        self.reading = reading
        self.repo = repo
        self.revision = revision
        self.folder = folder
        by_variable = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
        self.offline = offline or by_variable or constants.HF_HUB_OFFLINE

    @property
    def command(self) -> str:
        """The command that downloads the data into the cache."""
        return (
            f"hf download --repo-type dataset {self.repo} --revision {self.revision} "
            f"--include '{self.folder}/*'"
        )

    def missing(self) -> str | None:
        """What the cache lacks, which `command` downloads; never uses the network."""
        snapshot = self._cached()
        folder = snapshot / self.folder if snapshot else None
        what = f"data set {self.repo} ({self.folder}, revision {self.revision})"
        if folder is None or not folder.is_dir():
            return f"{what} is not in the cache"
        lost = [split for split in ("train", "validation") if not split_files(folder, split)]
        return f"{what} is cached without {' and '.join(lost)}" if lost else None

    def files(self, split: str) -> tuple[Path, ...]:
        """Parquet files of a split, downloaded on first use.

        Raises:
            DataError: the data is not in the cache, and the hub cannot be reached.
        """
        folder = self._snapshot / self.folder
        return split_files(folder, split) if folder.is_dir() else ()

    def describe(self, split: str) -> str:
        """The repository, folder and revision."""
        return f"{self.repo}/{self.folder}/{split} at {self.revision}"

    @cached_property
    def _snapshot(self) -> Path:
        if self.offline:
            lacking = self.missing()
            cached = self._cached()
            if lacking or cached is None:
                raise DataError.at(self.repo, f"offline, and {lacking}", self._advice)
            return cached
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        try:
            return self._downloaded(allow_patterns=f"{self.folder}/*.parquet")
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            reason = str(error).strip().split("\n")[0]
            raise DataError.at(self.repo, f"cannot be downloaded: {reason}", self._advice) from None

    @property
    def _advice(self) -> str:
        return f"{self.command}, or give the official files: task.data: FOLDER"

    def _cached(self) -> Path | None:
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            return self._downloaded(local_files_only=True)
        except LocalEntryNotFoundError:
            return None

    def _downloaded(self, **options: Any) -> Path:
        from huggingface_hub import snapshot_download

        kind = "dataset"
        return Path(snapshot_download(self.repo, repo_type=kind, revision=self.revision, **options))


@dataclass(frozen=True)
class NamedSource:
    """Files given one by one; `rest` has the other splits, if anything has."""

    named: Mapping[str, Path]
    rest: DataSource | None = None
    reading: Reading = AS_FOUND

    def files(self, split: str) -> tuple[Path, ...]:
        """The file given for a split, else the files of `rest`.

        Raises:
            DataError: there is no such file.
        """
        path = self.named.get(split)
        if path is None:
            return self.rest.files(split) if self.rest else ()
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "there is no such file"
            raise DataError.at(str(path), what, self._advice(split, path))
        return (path,)

    def describe(self, split: str) -> str:
        """The file, or where `rest` looks."""
        if split in self.named or self.rest is None:
            return str(self.named.get(split, f"task.{split}"))
        return self.rest.describe(split)

    def _advice(self, split: str, path: Path) -> str:
        if path.is_dir():
            return f"task.{split} names one file; task.data names a folder"
        beside = [file.name for file in path.parent.glob("*")] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, beside, n=1)
        return f"did you mean {near[0]}?" if near else f"task.{split} names the {split} file"


def open_source(
    task: RowReader,
    data: Path | None,
    offline: bool = False,
    named: Mapping[str, Path] | None = None,
    reading: Reading = AS_FOUND,
) -> DataSource:
    """The files `named` by split, then the user's folder `data`, else the task's data on the hub.

    If the user names a train file, the hub does not provide the other splits.

    Raises:
        DataError: there is none of these.
    """
    rest: DataSource | None = None
    if data is not None:
        rest = FolderSource(data, reading)
    elif task.hub is not None and "train" not in (named or {}):
        hub = task.hub
        rest = HubSource(hub.repo, hub.revision, hub.folder, offline, reading)
    if rest is None and not named:
        raise DataError.at(
            "task",
            f"{task.name} needs to know where the data is",
            f"write task: {{name: {task.name}, data: FOLDER}}, or train: FILE, validation: FILE",
        )
    return NamedSource(named, rest, reading) if named else rest  # type: ignore[return-value]


def _words(name: str) -> list[str]:
    return re.split(r"[-_.]", name.lower())


def _split_word(word: str) -> str | None:
    known = (split for split, words in WORDS.items() if word in words)
    return _SPELLINGS.get(word) or next(known, None)
