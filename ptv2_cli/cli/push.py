"""`ptv2 push`: share a finished run on the model hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ptv2_cli.cli import complete, console
from ptv2_cli.cli.options import OfflineOption, ThreadsOption, settle


def push(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="Folder of a finished run, or a sweep (its best trial).",
            autocompletion=complete.runs,
        ),
    ],
    repo: Annotated[str, typer.Argument(metavar="REPO", help="Repository, OWNER/NAME.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write the folder, and upload nothing.")
    ] = False,
    private: Annotated[
        bool, typer.Option("--private", help="Make the repository private, if it is new.")
    ] = False,
    threads: ThreadsOption = None,
    offline: OfflineOption = False,
) -> None:
    """Upload a finished run, with a model card, to the model hub."""
    settle(offline, threads)
    from ptv2_cli.backbones.files.locate import is_offline
    from ptv2_cli.cli.chosen import chosen_run
    from ptv2_cli.errors import InputError
    from ptv2_cli.interop.opened import open_finished
    from ptv2_cli.interop.push import check_repo, prepare, upload
    from ptv2_cli.threads import use_threads

    use_threads(threads)
    check_repo(repo)
    if is_offline(offline) and not dry_run:
        hint = "--dry-run writes the folder, which hf upload sends later"
        raise InputError.at(repo, "cannot be sent without the network", hint)
    prepared = prepare(open_finished(chosen_run(run), offline=offline), repo, offline=offline)
    console.say(f"{prepared.folder}: {', '.join(prepared.files)}")
    for text in prepared.notes:
        console.note(text)
    if dry_run:
        console.note(f"nothing was uploaded; next: ptv2 push {run} {repo}")
        return
    console.say(upload(prepared, repo, private=private))
    console.note(f"next: ptv2 predict FILE --run hub:{repo}")
