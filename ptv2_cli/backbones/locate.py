"""From a backbone's name to the folder of its files: hub id, folder or package:NAME/FOLDER."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptv2_cli.config.fingerprint import file_sha256
from ptv2_cli.errors import BackboneError, Problem

if TYPE_CHECKING:
    from ptv2_cli.config.schema import BackboneSection

WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_SMALL = ("*.json", "*.txt", "*.model", "*.jinja", "*.vocab")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


@dataclass(frozen=True)
class Located:
    """The local folder of a backbone and where it came from."""

    name: str
    folder: Path
    commit: str | None = None
    """The hub's commit; None for folders and packages."""

    @cached_property
    def config(self) -> dict[str, Any]:
        """The parsed config.json.

        Raises:
            BackboneError: the file is missing or is no JSON mapping.
        """
        path = self.folder / "config.json"
        try:
            parsed = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise BackboneError.at(
                f"backbone {self.name}",
                f"{self.folder} has no config.json",
                "name the folder that save_pretrained wrote, with config.json and weights",
            ) from None
        except ValueError as error:
            raise BackboneError.at(str(path), f"is no JSON: {error}") from None
        if not isinstance(parsed, dict):
            raise BackboneError.at(str(path), "is no JSON mapping")
        return parsed

    @cached_property
    def weight_files(self) -> tuple[Path, ...]:
        """The files that hold the weights.

        Raises:
            BackboneError: the folder holds none.
        """
        index = next(
            (self.folder / name for name in WEIGHTS if (self.folder / name).exists()), None
        )
        if index is None:
            raise BackboneError.at(
                f"backbone {self.name}",
                f"{self.folder} holds no weights ({' or '.join(WEIGHTS[::2])})",
                "copy the weights beside config.json, or name another folder",
            )
        if index.suffix != ".json":
            return (index,)
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        return tuple(self.folder / shard for shard in shards)

    @cached_property
    def identity(self) -> str:
        """What the fingerprint knows the weights by: the hub's commit, or a sha256 of its files."""
        if self.commit is not None:
            return self.commit
        digest = hashlib.sha256()
        tokenizer = [self.folder / name for name in ("tokenizer.json", "vocab.txt")]
        code = sorted(self.folder.glob("*.py")) if "auto_map" in self.config else []
        for path in (self.folder / "config.json", *tokenizer, *self.weight_files, *code):
            if path.exists():
                digest.update(f"{path.name}:{file_sha256(path)}\n".encode())
        return digest.hexdigest()

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
        found = file_sha256(self.weight_files[0])
        if found != expected.lower():
            raise BackboneError.at(
                "backbone.sha256",
                f"{self.weight_files[0]} has sha256 {found}, the config says {expected}",
                "fetch the file again, or correct backbone.sha256",
            )


def locate(section: BackboneSection, *, offline: bool, weights: bool = True) -> Located:
    """Find the files of a backbone; only a hub id may use the network.

    Args:
        section: the config's `backbone:`.
        offline: never touch the network.
        weights: also fetch the weights of a hub id; without them only its small files.

    Raises:
        BackboneError: nothing by that name, or it cannot be fetched.
    """
    name = section.name
    if name.startswith("package:"):
        return Located(name, _package_folder(name))
    folder = Path(name).expanduser()
    if folder.is_dir():
        return Located(name, folder.resolve())
    if not _HUB_ID.fullmatch(name):
        raise BackboneError.at(
            f"backbone {name}",
            "no such folder, and no hub id (NAME or OWNER/NAME) either",
            "ptv2 list backbones shows the three ways to name a backbone",
        )
    return _from_hub(section, offline=offline, weights=weights)


def missing(section: BackboneSection) -> Problem | None:
    """What of a hub backbone is not on this machine, without touching the network."""
    try:
        locate(section, offline=True)
    except BackboneError as error:
        return error.problems[0]
    return None


def is_offline(flag: bool) -> bool:
    """Whether the flag or HF_HUB_OFFLINE forbids the network."""
    return flag or os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}


def _package_folder(name: str) -> Path:
    package, _, inside = name.removeprefix("package:").partition("/")
    roots = [*_import_roots(package), *_distribution_roots(package)]
    if not roots:
        raise BackboneError.at(
            f"backbone {name}",
            f"no installed package is called {package!r}",
            f"pip install {package.replace('_', '-')}",
        )
    for root in roots:
        if (root / inside).is_dir():
            return (root / inside).resolve()
    raise BackboneError.at(
        f"backbone {name}", f"{roots[0]} has no folder {inside!r}", "name a folder inside it"
    )


def _import_roots(package: str) -> list[Path]:
    try:
        spec = util.find_spec(package)
    except (ImportError, ValueError):
        return []
    return [Path(root) for root in (spec.submodule_search_locations or [])] if spec else []


def _distribution_roots(distribution: str) -> list[Path]:
    try:
        files = metadata.files(distribution) or []
    except metadata.PackageNotFoundError:
        return []
    tops = {file.parts[0] for file in files if len(file.parts) > 1 and "-info" not in file.parts[0]}
    return [root for top in sorted(tops) for root in _import_roots(top)]


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
        if weights and not _has_weights(located.folder):
            fetch("model*.safetensors")
        if weights and not _has_weights(located.folder):
            fetch("pytorch_model*.bin")
    except LocalEntryNotFoundError:
        raise BackboneError.at(
            f"backbone {section.name}", "is not in the local cache of the hub", command
        ) from None
    except (HfHubHTTPError, OSError) as error:
        raise BackboneError.at(
            f"backbone {section.name}",
            f"cannot be fetched: {str(error).splitlines()[0]}",
            f"check the name and the network; {command} fetches it beforehand",
        ) from None
    if weights and not _has_weights(located.folder):
        raise BackboneError.at(
            f"backbone {section.name}", "its weights are not in the local cache of the hub", command
        )
    # Fresh, because the folder has changed since the properties were first read.
    return _of_snapshot(section.name, located.folder)


def _of_snapshot(name: str, folder: Path) -> Located:
    if not (folder / "config.json").exists():
        raise BackboneError.at(
            f"backbone {name}", "has no config.json in the hub's cache", f"hf download {name}"
        )
    return Located(name, folder, commit=folder.name)


def _has_weights(folder: Path) -> bool:
    present = [name for name in WEIGHTS if (folder / name).exists()]
    if not present:
        return False
    return all(path.exists() for path in Located("", folder).weight_files)
