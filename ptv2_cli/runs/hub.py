"""Runs on the model hub: `hub:OWNER/NAME`, or `hub:OWNER/NAME@REVISION`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ptv2_cli.config.yaml import read_yaml
from ptv2_cli.errors import RunError

PREFIX = "hub:"
FILES = ("config.yaml", "metrics.json", "history.jsonl", "checkpoints/best*")
"""What `ptv2 push` uploads of a run, and what is fetched to use it."""
CLIENTS = {"httpx", "httpx2", "huggingface_hub"}
_NAME = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([\w./-]+))?")
REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_on_hub(path: Path | str) -> bool:
    """Whether a run is named by its repository on the hub."""
    return str(path).startswith(PREFIX)


def fetched(path: Path | str) -> Path:
    """The folder of a run on the hub, in the hub's cache on this machine.

    Raises:
        RunError: there is no such repository, it holds no run, or its config would run code.
    """
    name = str(path)
    match = _NAME.fullmatch(name.removeprefix(PREFIX))
    if match is None:
        raise RunError.at(name, "names no repository", "write hub:OWNER/NAME")
    folder = _downloaded(name, match[1], match[2])
    if not (folder / "config.yaml").is_file() or not (folder / "metrics.json").is_file():
        hint = "ptv2 push RUN REPO uploads one; a model on the hub is a backbone: backbone: NAME"
        raise RunError.at(name, "holds no run of ptv2", hint)
    _check_code(name, read_yaml(folder / "config.yaml").data)
    return folder


def of_hub(error: Exception) -> bool:
    """Whether an error is of the hub or the way to it, and no defect of ptv2."""
    # By name: huggingface_hub 1 and 2 use different libraries for HTTP.
    client = any(kind.__module__.partition(".")[0] in CLIENTS for kind in type(error).__mro__)
    return client or isinstance(error, OSError | ValueError)


def failure(error: Exception) -> str:
    """What went wrong with the hub, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _downloaded(name: str, repo: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=list(FILES)))
    except LocalEntryNotFoundError:
        hint = f"check the network; hf download {repo} fetches it beforehand"
        raise RunError.at(name, "is not in the local cache of the hub", hint) from None
    except Exception as error:
        if not of_hub(error):
            raise
        hint = "check the name, and for a private repository the login: hf auth login"
        raise RunError.at(name, f"cannot be fetched: {failure(error)}", hint) from None


def _check_code(name: str, config: Mapping[str, Any]) -> None:
    """Check that using the run runs no code that comes with it.

    Raises:
        RunError: the config includes files, extends another one, or trusts a model's own code.
    """
    backbone = config.get("backbone")
    trusts = isinstance(backbone, dict) and backbone.get("trust_remote_code") not in (None, False)
    for key, said in (
        ("include", config.get("include") not in (None, [], ())),
        ("extends", config.get("extends") is not None),
        ("backbone.trust_remote_code", trusts),
    ):
        if said:
            hint = f"read it first: hf download {name.removeprefix(PREFIX).partition('@')[0]} "
            hint += "--local-dir DIR, then name DIR as the run"
            raise RunError.at(name, f"its config.yaml says {key}, which can run code", hint)
