"""Checkpoints: safetensors and JSON, never pickle; whole or not there at all.

A checkpoint is `ROLE.json`, which names its tensor file and that file's sha256. The JSON says whose
it is (the run's fingerprint) and what it is for: `last`, to go on from, `best`, the chosen
weights, or `scored`, their predictions, until the run has ended. A checkpoint that was written
before these were kept has neither; it counts as one of the run that it lies in, and its role shows
by what its state holds.

Checkpoints that are saved together, such as those of all lanes of a sweep, count together or not
at all. `Save.add` writes and syncs a tensor file and `ROLE.next.json` for each, beside the
checkpoint in use. `Save.commit` renames the first one's `ROLE.next.json` to `ROLE.json`: this one
rename decides for all, and the others are renamed after it. Every JSON holds the `save` it belongs
to and where the `first` one of that save lies. A kill may leave a `ROLE.next.json` behind;
`recover` puts it in place if the first one holds the same `save`, and removes it if not.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ptv2_cli.errors import CheckpointError
from ptv2_cli.files import make_folder, remove_temporary, replace_by, sync_folder

FORMAT = 1
Role = Literal["last", "best", "scored"]


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name and the JSON state beside them."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors below `prefix.`, without it."""
        start = f"{prefix}."
        return {
            name.removeprefix(start): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(start)
        }


class Save:
    """Checkpoints of one or several runs that are saved together."""

    def __init__(self) -> None:
        self._id = secrets.token_hex(8)
        self._added: list[tuple[Path, Role, str]] = []
        """Folder, role and tensor file of each."""

    def add(
        self,
        folder: Path,
        role: Role,
        fingerprint: str,
        tensors: Mapping[str, Tensor],
        state: Mapping[str, Any],
    ) -> None:
        """Write a checkpoint beside the one in use.

        Raises:
            RunError: the folder is a symbolic link.
            OSError: it cannot be written.
        """
        make_folder(folder)
        data = save({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()})
        digest = hashlib.sha256(data).hexdigest()
        file = f"{role}-{digest[:16]}.safetensors"
        self._added.append((folder, role, file))
        first_folder, first_role, _ = self._added[0]
        body = {
            "format": FORMAT,
            "fingerprint": fingerprint,
            "role": role,
            "file": file,
            "sha256": digest,
            "save": self._id,
            "first": os.path.relpath(_json(first_folder, first_role), folder),
            "state": dict(state),
        }
        body["checksum"] = _checksum(body)
        replace_by(folder / file, data)
        replace_by(_next(folder, role), json.dumps(body, indent=1).encode())

    def commit(self) -> None:
        """Let all that were added count from now on, and remove what they replace.

        Raises:
            OSError: a rename fails; before the first, all checkpoints are as they were.
        """
        for folder in dict.fromkeys(folder for folder, _, _ in self._added):
            sync_folder(folder)
        for number, (folder, role, _) in enumerate(self._added):
            _next(folder, role).replace(_json(folder, role))
            if number == 0:
                sync_folder(folder)
        for folder, role, file in self._added:
            _remove_others(folder, role, {file})


def save_checkpoint(
    folder: Path,
    role: Role,
    fingerprint: str,
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Any],
) -> Path:
    """Write one checkpoint and remove the files that it replaces; returns its JSON's path."""
    alone = Save()
    alone.add(folder, role, fingerprint, tensors, state)
    alone.commit()
    return _json(folder, role)


def recover(folder: Path) -> None:
    """Finish or undo what a killed process was saving in a folder, and remove what it left.

    Nobody else may be writing in it. Beside a damaged checkpoint all tensor files stay.

    Raises:
        OSError: a file cannot be renamed or removed.
    """
    remove_temporary(folder)
    for role in get_args(Role):
        waiting = _next(folder, role)
        if waiting.exists() and _committed(folder, waiting):
            waiting.replace(_json(folder, role))
        waiting.unlink(missing_ok=True)
    found = [_json(folder, role) for role in get_args(Role) if _json(folder, role).exists()]
    try:
        used = {_read_body(path)["file"] for path in found}
    except CheckpointError:
        return
    for role in get_args(Role):
        _remove_others(folder, role, used)


def resumable(folder: Path) -> bool:
    """Whether a folder holds a checkpoint `last`, settled or not."""
    return _json(folder, "last").exists() or (
        _next(folder, "last").exists() and _committed(folder, _next(folder, "last"))
    )


def remove_checkpoint(folder: Path, role: Role) -> None:
    """Remove a checkpoint, if there is one: first its JSON, so that it is never half there."""
    _json(folder, role).unlink(missing_ok=True)
    _remove_others(folder, role, set())


def load_checkpoint(folder: Path, role: Role, fingerprint: str) -> Checkpoint:
    """Read a run's checkpoint.

    Raises:
        CheckpointError: it is missing, of another format, truncated or altered, of another run
            or another role.
    """
    body = _body_of(folder, role, fingerprint)
    tensors = folder / body["file"]
    try:
        data = tensors.read_bytes()
    except FileNotFoundError:
        raise _broken(tensors, "is missing") from None
    if hashlib.sha256(data).hexdigest() != body["sha256"]:
        raise _broken(tensors, "is truncated or altered: its checksum differs")
    try:
        return Checkpoint(load(data), body["state"])
    except SafetensorError as error:
        raise _broken(tensors, f"is no safetensors file: {error}") from None


def load_state(folder: Path, role: Role, fingerprint: str) -> dict[str, Any]:
    """The JSON state of a run's checkpoint, without its tensors.

    Raises:
        CheckpointError: as `load_checkpoint`.
    """
    state: dict[str, Any] = _body_of(folder, role, fingerprint)["state"]
    return state


def load_tensors(module: torch.nn.Module, tensors: Mapping[str, Tensor], where: Path) -> None:
    """Copy tensors into a module's state.

    Raises:
        CheckpointError: a name or a shape does not fit; nothing is copied then.
    """
    own = module.state_dict()
    for name, tensor in tensors.items():
        if name not in own or own[name].shape != tensor.shape:
            expected = tuple(own[name].shape) if name in own else "nothing of that name"
            raise _broken(where, f"holds {name} {tuple(tensor.shape)}, the model has {expected}")
    module.load_state_dict(dict(tensors), strict=False)


def _json(folder: Path, role: Role) -> Path:
    return folder / f"{role}.json"


def _next(folder: Path, role: Role) -> Path:
    return folder / f"{role}.next.json"


def _committed(folder: Path, waiting: Path) -> bool:
    """Whether the save that a waiting JSON belongs to has been committed."""
    try:
        body = _read_body(waiting)
        return bool(_read_body(folder / body["first"])["save"] == body["save"])
    except (CheckpointError, KeyError):
        return False


def _remove_others(folder: Path, role: Role, used: set[str]) -> None:
    """Remove the tensor files of a role but for those in use."""
    for stale in folder.glob(f"{role}-*.safetensors"):
        if stale.name not in used:
            stale.unlink(missing_ok=True)


def _body_of(folder: Path, role: Role, fingerprint: str) -> dict[str, Any]:
    """The content of `ROLE.json`, seen to be this run's and of this role."""
    path = _json(folder, role)
    body = _read_body(path)
    whose = body.get("fingerprint", fingerprint)
    if whose != fingerprint:
        raise _broken(path, f"is a checkpoint of the run {whose}, not of this run, {fingerprint}")
    kind = body.get("role") or ("last" if "tracker" in body["state"] else "best")
    if kind != role:
        raise _broken(path, f"holds the checkpoint {kind!r}, not {role!r}")
    return body


def _read_body(path: Path) -> dict[str, Any]:
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _broken(path, "is missing") from None
    except (IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise _broken(path, f"cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise _broken(path, "is truncated or altered: it is no JSON") from None
    if not isinstance(body, dict) or body.pop("checksum", None) != _checksum(body):
        raise _broken(path, "is truncated or altered: its checksum differs")
    if body["format"] != FORMAT:
        raise _broken(path, f"has format {body['format']}, this version reads {FORMAT}")
    return body


def _checksum(body: Mapping[str, Any]) -> str:
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _broken(path: Path, what: str) -> CheckpointError:
    return CheckpointError.at(
        str(path), what, "ptv2 train CONFIG --resume never trains the run again"
    )
