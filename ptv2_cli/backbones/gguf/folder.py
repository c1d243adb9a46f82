"""The folder of a GGUF file's model: converted once, and kept in the cache for later commands."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from ptv2_cli import cache
from ptv2_cli.config.file_hashes import known_sha256

if TYPE_CHECKING:
    from ptv2_cli.backbones.gguf.header import Header

_KIND = "gguf"
_FORMAT = "2"
_LIST = "sha256.json"
"""The hash of every other file of a converted folder."""
_TEMPORARY: dict[tuple[str, ...], Path] = {}
"""Folders that this process has made beside the cache, by their keys."""


def _silent(text: str) -> None:
    """Print nothing."""


announce: Callable[[str], None] = _silent
"""Called with a line when a file is converted; the command line prints it."""


def converted_folder(path: Path) -> Path:
    """The folder with the model and the tokenizer of a GGUF file; converts it unless that is done.

    It is kept in the cache; without a cache it is made again by every process, which deletes it
    at its end.

    Raises:
        BackboneError: the file cannot be read or converted.
    """
    # The file's bytes decide what is made of it, and transformers how its config is written.
    key = (_FORMAT, known_sha256(path), metadata.version("transformers"))
    entry = cache.find(_KIND, *key)
    if entry is not None:
        if _whole(entry):
            return entry
        cache.drop(entry)
    return _TEMPORARY.get(key) or _convert(path, key)


def is_temporary(folder: Path) -> bool:
    """Whether a converted folder ends with this process."""
    return folder in _TEMPORARY.values()


def _convert(path: Path, key: tuple[str, ...]) -> Path:
    from ptv2_cli.backbones.gguf.checks import check_header, check_packages

    header = check_header(path)
    check_packages(path)
    size = f"{header.file_bytes / 1e6:.0f} MB"
    where = "for this command (PTV2_CACHE is off)"
    if cache.cache_folder() is not None:
        where = f"once; {cache.cache_folder()} keeps the result"
    announce(f"converting {path.name} ({size}) to safetensors, {where}")
    fill = partial(_fill, path, header)
    return cache.keep_folder(_KIND, *key, fill=fill) or _temporary(key, fill)


def _temporary(key: tuple[str, ...], fill: Callable[[Path], None]) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="ptv2-gguf-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        fill(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    _TEMPORARY[key] = folder
    return folder


def _fill(path: Path, header: Header, folder: Path) -> None:
    from ptv2_cli.backbones.gguf.conversion import convert

    convert(path, header, folder)
    hashes = {file.name: known_sha256(file) for file in sorted(folder.iterdir())}
    (folder / _LIST).write_text(json.dumps(hashes), encoding="utf-8")


def _whole(folder: Path) -> bool:
    """Whether all files of a converted folder are as they were written."""
    try:
        hashes = json.loads((folder / _LIST).read_text(encoding="utf-8"))
        return bool(hashes) and all(
            known_sha256(folder / name) == digest for name, digest in hashes.items()
        )
    except Exception:  # of any type: a damaged list may be anything
        return False
