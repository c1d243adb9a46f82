"""Find the folder of a backbone's files from its name: hub id, folder, GGUF file or package:."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptv2_cli.backbones.files.model_files import ADAPTER, WEIGHTS, digests, named_weights, read_json
from ptv2_cli.backbones.files.package import PREFIX, gguf_files, packaged
from ptv2_cli.backbones.gguf.folder import converted_folder
from ptv2_cli.backbones.gguf.header import is_gguf
from ptv2_cli.config.file_hashes import known_sha256
from ptv2_cli.config.fingerprint import file_sha256
from ptv2_cli.errors import BackboneError, Problem

if TYPE_CHECKING:
    from ptv2_cli.config.schema import BackboneSection

_SMALL = ("*.json", "*.txt", "*.model", "*.jinja", "*.vocab")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


@dataclass(frozen=True)
class Located:
    """The local folder of a backbone and where it came from."""

    name: str
    folder: Path
    commit: str | None = None
    """The hub's commit; None for folders and packages."""
    source: Path | None = None
    """The GGUF file that the folder was converted from, if it was."""

    @cached_property
    def config(self) -> dict[str, Any]:
        """The parsed config.json.

        Raises:
            BackboneError: the file is missing or is no JSON mapping.
        """
        try:
            return read_json(self.folder / "config.json")
        except FileNotFoundError:
            raise self._no_config() from None

    def _no_config(self) -> BackboneError:
        where, what = f"backbone {self.name}", f"{self.folder} has no config.json"
        files = gguf_files(self.folder)
        if files:
            more = f" and {len(files) - 1} more" if len(files) > 1 else ""
            what += f", but GGUF files: {files[0].name}{more}"
            return BackboneError.at(where, what, f"name the file: backbone: {files[0]}")
        hint = "name the folder that save_pretrained wrote, with config.json and weights"
        return BackboneError.at(where, what, hint)

    @cached_property
    def weight_files(self) -> tuple[Path, ...]:
        """The files that hold the weights.

        Raises:
            BackboneError: the folder holds none, not all of them, or a damaged index.
        """
        paths = named_weights(self.folder, self.config)
        if not paths:
            raise BackboneError.at(
                f"backbone {self.name}",
                f"{self.folder} has no weights ({' or '.join(WEIGHTS[::2])})",
                "copy the weights beside config.json, or name another folder",
            )
        absent = [path for path in paths if not path.is_file()]
        if absent:
            raise BackboneError.at(
                f"backbone {self.name}",
                f"{len(absent)} of its {len(paths)} weights files are missing, such as {absent[0]}",
                "copy all files of the model beside config.json",
            )
        return paths

    @cached_property
    def files(self) -> Mapping[str, str]:
        """The sha256 of every file that model or tokenizer may read, by its name in the folder.

        A GGUF file holds all of both, and counts by its content wherever it lies.
        """
        if self.source is not None:
            return {"model.gguf": known_sha256(self.source)}
        return digests(self.folder, self.weight_files)

    @cached_property
    def identity(self) -> str:
        """The identity of the backbone for the fingerprint: one sha256 over `files`."""
        return hashlib.sha256(json.dumps(self.files, sort_keys=True).encode()).hexdigest()

    def changes(self, recorded: Mapping[str, Any]) -> list[str]:
        """Names of the files that differ from those in the `backbone` of a metrics.json."""
        files = recorded.get("files")
        if isinstance(files, dict):
            names = sorted({*files, *self.files})
            return [name for name in names if files.get(name) != self.files.get(name)]
        # Runs of earlier versions recorded a single hash over fewer files.
        known = recorded["identity"] in (self.commit, self._earlier_identity())
        return [] if known else [path.name for path in self.weight_files]

    def _earlier_identity(self) -> str:
        tokenizer = [name for name in ("tokenizer.json", "vocab.txt") if name in self.files]
        weights = [path.relative_to(self.folder).as_posix() for path in self.weight_files]
        code = sorted(name for name in self.files if name.endswith(".py") and "/" not in name)
        counted = [
            "config.json",
            *tokenizer,
            *weights,
            *(code if "auto_map" in self.config else []),
        ]
        lines = (f"{Path(name).name}:{self.files[name]}\n" for name in counted)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def check_sha256(self, expected: str | None) -> None:
        """Compare the weights file with the hash the config gives.

        Raises:
            BackboneError: the hashes differ, or the weights are more than one file.
        """
        if expected is None:
            return
        if len(self.weight_files) != 1:
            raise BackboneError.at(
                "backbone.sha256", f"{self.name} has {len(self.weight_files)} weights files, not 1"
            )
        checked = self.source or self.weight_files[0]
        _compare(checked, file_sha256(checked), expected)


class NotCached(BackboneError):
    """A hub id is not in the local cache, and the hub cannot be reached."""


def locate(section: BackboneSection, *, offline: bool, weights: bool = True) -> Located:
    """Find the files of a backbone; only a hub id may use the network.

    Args:
        section: the config's `backbone:`.
        offline: never touch the network.
        weights: also fetch the weights of a hub id; without them only its small files.

    Raises:
        BackboneError: nothing has this name, or it cannot be downloaded.
    """
    name = section.name
    if name.startswith(PREFIX):
        return _local(section, packaged(name))
    path = _path(name)
    if path is not None:
        return _local(section, path)
    if is_gguf(name):
        hint = "a relative path starts at the folder of the config"
        raise BackboneError.at(f"backbone {name}", "there is no such file", hint)
    if not _HUB_ID.fullmatch(name):
        raise BackboneError.at(
            f"backbone {name}",
            "is neither a folder nor a hub id (NAME or OWNER/NAME)",
            f"write backbone: {name[4:]}; hub: is for runs (--run hub:OWNER/NAME)"
            if name.startswith("hub:")
            else "ptv2 list backbones shows the ways to name a backbone",
        )
    return _from_hub(section, offline=offline, weights=weights)


def missing(section: BackboneSection) -> Problem | None:
    """The problem if a hub backbone is not on this machine; does not use the network."""
    try:
        locate(section, offline=True)
    except BackboneError as error:
        return error.problems[0]
    return None


def is_offline(flag: bool) -> bool:
    """Whether the flag or HF_HUB_OFFLINE forbids the network."""
    return flag or os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}


def _local(section: BackboneSection, path: Path) -> Located:
    """The backbone of a folder, or of a GGUF file, which is converted unless it has been."""
    if path.is_dir():
        return _without_adapter(Located(section.name, path))
    if section.sha256 is not None:
        _compare(path, known_sha256(path), section.sha256)
    return Located(section.name, converted_folder(path), source=path)


def _compare(path: Path, actual: str, expected: str) -> None:
    if actual != expected.lower():
        raise BackboneError.at(
            "backbone.sha256",
            f"{path} has sha256 {actual}, the config says {expected}",
            "fetch the file again, or correct backbone.sha256",
        )


def _path(name: str) -> Path | None:
    """The folder or GGUF file of that name, if it exists."""
    try:
        path = Path(name).expanduser()
        return path.resolve() if path.is_dir() or (is_gguf(name) and path.is_file()) else None
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, an unknown user's home
        return None


def _without_adapter(located: Located) -> Located:
    """Return the backbone, unless transformers would silently add an adapter to it.

    It does so only if PEFT is installed: the same files would be another model elsewhere.

    Raises:
        BackboneError: there is an adapter_config.json.
    """
    if not (located.folder / ADAPTER).exists():
        return located
    where = f"backbone {located.name}"
    if not (located.folder / "config.json").exists():
        raise BackboneError.at(
            where,
            f"is a PEFT adapter ({ADAPTER}), not a model",
            f"name its base model{_base_of(located.folder)}; "
            "ptv2 import takes prefix tuning adapters",
        )
    raise BackboneError.at(
        where,
        f"has a PEFT adapter ({ADAPTER}) beside its weights, which would change the model only on "
        "machines where PEFT is installed",
        "to train without the adapter, use a copy without its files; to train with it, "
        "merge them (PEFT: merge_and_unload, then save_pretrained)",
    )


def _base_of(folder: Path) -> str:
    """`: backbone: NAME`, if the adapter names the model that it was trained on."""
    try:
        name = read_json(folder / ADAPTER).get("base_model_name_or_path")
    except BackboneError:
        return ""
    return f": backbone: {name}" if isinstance(name, str) and name else ""


def _from_hub(section: BackboneSection, *, offline: bool, weights: bool) -> Located:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    def fetch(*patterns: str) -> Path:
        return Path(
            snapshot_download(
                section.name,
                revision=section.revision,
                allow_patterns=list(patterns),
                ignore_patterns=["*/*"],
                local_files_only=offline,
            )
        )

    revision = f" --revision {section.revision}" if section.revision else ""
    command = f"hf download {section.name}{revision}"
    try:
        code = ("*.py",) if section.trust_remote_code else ()
        located = _of_snapshot(section.name, fetch(*_SMALL, *code))
        if weights and not _has_weights(located):
            fetch("model*.safetensors")
        if weights and not _has_weights(located):
            fetch("pytorch_model*.bin")
    except LocalEntryNotFoundError:
        raise NotCached.at(
            f"backbone {section.name}", "is not in the local cache of the hub", command
        ) from None
    except (HfHubHTTPError, OSError, ValueError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BackboneError.at(
            f"backbone {section.name}",
            f"cannot be fetched: {first}",
            f"check the name and the network; {command} fetches it beforehand",
        ) from None
    if weights and not _has_weights(located):
        raise BackboneError.at(
            f"backbone {section.name}", "its weights are not in the local cache of the hub", command
        )
    # A new object, because the folder has changed since the cached properties were read.
    return _of_snapshot(section.name, located.folder)


def _of_snapshot(name: str, folder: Path) -> Located:
    located = _without_adapter(Located(name, folder, commit=folder.name))
    if not (folder / "config.json").exists():
        raise BackboneError.at(
            f"backbone {name}", "has no config.json in the hub's cache", f"hf download {name}"
        )
    return located


def _has_weights(located: Located) -> bool:
    paths = named_weights(located.folder, located.config)
    return bool(paths) and all(path.is_file() for path in paths)
