"""Checkpoints: safetensors and JSON, never pickle; whole or not there at all.

A checkpoint is `NAME.json`, which names its tensor file and that file's sha256. The tensor file
is written and synced first under a name of its own, then the JSON replaces the old one in one
rename: a kill at any moment leaves the old checkpoint or the new one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ptv2_cli.errors import CheckpointError

FORMAT = 1


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


def write_atomic(path: Path, data: bytes) -> None:
    """Replace `path` by `data` in one rename, after both are on the disk."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def save_checkpoint(
    folder: Path, name: str, tensors: Mapping[str, Tensor], state: Mapping[str, Any]
) -> Path:
    """Write checkpoint `name` and remove the tensor files that it replaces."""
    folder.mkdir(parents=True, exist_ok=True)
    data = save({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()})
    digest = hashlib.sha256(data).hexdigest()
    file = f"{name}-{digest[:16]}.safetensors"
    write_atomic(folder / file, data)
    body = {"format": FORMAT, "file": file, "sha256": digest, "state": dict(state)}
    body["checksum"] = _checksum(body)
    path = folder / f"{name}.json"
    write_atomic(path, json.dumps(body, indent=1).encode())
    for stale in folder.glob(f"*{name}-*.safetensors*"):
        if stale.name != file:
            stale.unlink()
    return path


def load_checkpoint(folder: Path, name: str) -> Checkpoint:
    """Read checkpoint `name`.

    Raises:
        CheckpointError: it is missing, of another format, truncated or altered.
    """
    path = folder / f"{name}.json"
    body = _read_body(path)
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


def load_state(folder: Path, name: str) -> dict[str, Any]:
    """The JSON state of checkpoint `name`, without its tensors.

    Raises:
        CheckpointError: it is missing, of another format, truncated or altered.
    """
    state: dict[str, Any] = _read_body(folder / f"{name}.json")["state"]
    return state


def fit_into(module: torch.nn.Module, tensors: Mapping[str, Tensor], where: Path) -> None:
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


def _read_body(path: Path) -> dict[str, Any]:
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _broken(path, "is missing") from None
    except ValueError:
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
