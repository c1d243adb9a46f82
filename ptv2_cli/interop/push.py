"""`ptv2 push`: a finished run as a folder for the model hub, and its upload."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from ptv2_cli.backbones.files.locate import is_offline
from ptv2_cli.backbones.files.package import PREFIX as PACKAGE
from ptv2_cli.errors import InputError, Problem, RunError, gather
from ptv2_cli.interop.model_card import card, code_of, licence_of
from ptv2_cli.interop.opened import FinishedRun, new_folder
from ptv2_cli.interop.to_peft import CONFIG_FILE, export_peft
from ptv2_cli.runs.directory import RunDirectory, write_config
from ptv2_cli.runs.hub import REPO, failure, of_hub
from ptv2_cli.runs.results import write_json
from ptv2_cli.training.checkpoint import load_checkpoint, save_checkpoint

FOLDER = "push"
"""Name of the folder in the run's own."""
_PRIVATE = ("provenance", "warnings")
"""Parts of metrics.json that name the user's machine, folders and files."""


@dataclass(frozen=True)
class Prepared:
    """A folder that is ready for the hub."""

    folder: Path
    files: tuple[str, ...]
    notes: tuple[str, ...]
    """What the user should know before it is shared."""


def check_repo(repo: str) -> None:
    """Check the name of a repository.

    Raises:
        InputError: it is not OWNER/NAME.
    """
    if not REPO.fullmatch(repo) or "--" in repo or ".." in repo:
        what = "is not the name of a repository"
        raise InputError.at(repo, what, "write OWNER/NAME, such as ann/rte-ptuning")


def prepare(run: FinishedRun, repo: str, *, offline: bool) -> Prepared:
    """Write the folder `push/` in the run's own, in place of an earlier one.

    It holds what `ptv2 predict --run hub:REPO` reads: config.yaml, metrics.json, history.jsonl and
    the best checkpoint, without paths of this machine and without rows of the data; README.md, the
    model card; and the run as a PEFT adapter, where PEFT can represent it and load its backbone.

    Raises:
        RunError: the run uses code from a file, or its checkpoint is damaged.
        InputError: the folder cannot be written.
    """
    gather(_obstacles(run), RunError)
    target = run.directory.path / FOLDER
    if target.is_symlink():
        raise RunError.at(str(target), "is a symbolic link", "remove the link")
    shutil.rmtree(target, ignore_errors=True)
    licence = licence_of(run.resolved.located) or _licence_on_hub(run, offline=offline)
    with new_folder(target) as partial:
        peft, notes = _adapter(run, partial, repo)
        _write_run(run, RunDirectory(partial))
        text = card(run, repo, licence, peft, adapter=(partial / CONFIG_FILE).is_file())
        (partial / "README.md").write_text(text, encoding="utf-8")
        paths = sorted(path for path in partial.rglob("*") if path.is_file())
        files = tuple(path.relative_to(partial).as_posix() for path in paths)
    if licence is None:
        notes.append("the licence of the backbone is unknown: add it to README.md before you share")
    return Prepared(target, files, tuple(notes))


def upload(prepared: Prepared, repo: str, *, private: bool) -> str:
    """Make the repository, unless it exists, and upload the folder; returns its address.

    Raises:
        RunError: the hub cannot be reached, or refuses it. The folder is kept.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(library_name="ptv2")
    kept = f"the folder is kept: hf upload {repo} {prepared.folder} sends it too"
    try:
        address = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo,
            folder_path=prepared.folder,
            commit_message="Upload a run of ptv2",
            delete_patterns=["checkpoints/*", "adapter_*", "head.safetensors"],
        )
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        login = "hf auth login, with a token that may write; " if status in {401, 403} else ""
        raise RunError.at(repo, f"the hub refuses it: {failure(error)}", login + kept) from None
    except Exception as error:
        if not of_hub(error):
            raise
        hint = f"check the network; {kept}"
        raise RunError.at(repo, f"cannot be sent: {failure(error)}", hint) from None
    return str(address)


def _obstacles(run: FinishedRun) -> Iterator[Problem]:
    where = str(run.directory.path)
    if run.resolved.config.include:
        what = "uses code from a file (include), which cannot run from the hub"
        yield Problem(where, what, "make it a package with entry points: docs/extend.md")
    if run.resolved.config.backbone.trust_remote_code:
        what = "has a backbone with code of its own (trust_remote_code)"
        yield Problem(where, what, "ptv2 export RUN DIR --to peft writes a folder to share by hand")


def _adapter(run: FinishedRun, folder: Path, repo: str) -> tuple[str, list[str]]:
    """Write the PEFT adapter, if there can be one; what the card says of it, and notes."""
    located = run.resolved.located
    if located.commit is None:
        notes = []
        if not located.name.startswith(PACKAGE):
            notes.append(
                "the backbone is a folder of this machine, which config.yaml names by its path: "
                "nobody else can use the run until its backbone is a model on the hub"
            )
        return "PEFT cannot load this run, because its backbone is not on the hub.", notes
    inner = folder / "adapter"
    try:
        written = export_peft(run, inner, repo)
    except RunError as error:
        reasons = "; ".join(problem.what for problem in error.problems)
        return f"PEFT cannot represent this run: {reasons}.", []
    text = code_of(inner / "README.md")
    for name in written.files:
        if name != "README.md":
            (inner / name).rename(folder / name)
    shutil.rmtree(inner)
    return text, list(written.notes)


def _write_run(run: FinishedRun, target: RunDirectory) -> None:
    fingerprint = str(run.metrics["fingerprint"])
    best = load_checkpoint(run.directory.checkpoints, "best", fingerprint)
    config = without_paths({**run.metrics["config"], "track": [], "sweep": None})
    config["backbone"]["name"] = run.metrics["backbone"]["name"]
    write_config(target.config, config, "# A run of ptv2 from the model hub.\n")
    metrics = {key: value for key, value in run.metrics.items() if key not in _PRIVATE}
    write_json(target.metrics, {**metrics, "config": config, "warnings": []})
    shutil.copyfile(run.directory.history, target.history)
    save_checkpoint(target.checkpoints, "best", fingerprint, best.tensors, best.state)


def without_paths(value: Any) -> Any:
    """Plain data with the last part of every absolute path in its place."""
    if isinstance(value, Mapping):
        return {key: without_paths(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(inner) for inner in value]
    if isinstance(value, str) and "\n" not in value and PurePath(value).is_absolute():
        return PurePath(value).name
    return value


def _licence_on_hub(run: FinishedRun, *, offline: bool) -> str | None:
    """What the page of the backbone says; None: nothing, or it cannot be asked."""
    if run.resolved.located.commit is None or is_offline(offline):
        return None
    from huggingface_hub import HfApi

    try:
        data = HfApi().model_info(run.resolved.located.name, timeout=10).card_data
    except Exception:  # the card says that it is unknown
        return None
    found = None if data is None else data.get("license")
    return found if isinstance(found, str) else None
