"""`ptv2 serve`: answer rows over HTTP with finished runs."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from ptv2_cli.cli import complete, console
from ptv2_cli.cli.chosen import chosen_run, newest_run
from ptv2_cli.cli.options import DeviceOption, OfflineOption, ThreadsOption, settle

NEEDED = ("fastapi", "uvicorn", "h11", "prometheus_client")


def serve(
    run: Annotated[
        list[str] | None,
        typer.Option(
            "--run",
            metavar="RUN",
            help="A run, or a sweep (its best trial), or NAME=RUN to name it in paths; repeat it "
            "for several; default: the newest run.",
            autocompletion=complete.runs,
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            "--host", metavar="ADDRESS", help="Address to listen at; 0.0.0.0: all of this machine."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="0 takes a free port.")
    ] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            help="Requests must have the token in this file; default: that in PTV2_TOKEN, if any.",
        ),
    ] = None,
    add_from: Annotated[
        list[Path] | None,
        typer.Option(
            "--add-from",
            metavar="DIR",
            help="Allow POST /runs to add runs below this folder, and DELETE to remove runs.",
        ),
    ] = None,
    max_batch: Annotated[
        int, typer.Option("--max-batch", metavar="N", min=1, help="Rows of a batch.")
    ] = 64,
    max_wait_ms: Annotated[
        float,
        typer.Option(
            "--max-wait-ms", metavar="MS", min=0, help="Longest wait for others to join a batch."
        ),
    ] = 5.0,
    max_queue: Annotated[
        int,
        typer.Option(
            "--max-queue", metavar="N", min=1, help="Rows that may wait; then requests get 503."
        ),
    ] = 2048,
    max_rows: Annotated[
        int, typer.Option("--max-rows", metavar="N", min=1, help="Rows of a request.")
    ] = 256,
    max_chars: Annotated[
        int, typer.Option("--max-chars", metavar="N", min=1, help="Characters of a row.")
    ] = 20_000,
    max_body: Annotated[
        int, typer.Option("--max-body", metavar="BYTES", min=1, help="Body of a request.")
    ] = 1 << 20,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="S", min=0.1, help="Seconds for an answer.")
    ] = 60.0,
    client_timeout: Annotated[
        float,
        typer.Option(
            "--client-timeout",
            metavar="S",
            min=0.1,
            help="Seconds for a client to send its headers, to send its body, to read its answer.",
        ),
    ] = 10.0,
    drain: Annotated[
        float,
        typer.Option(
            "--drain", metavar="S", min=1, help="Seconds to answer what is left after SIGTERM."
        ),
    ] = 30.0,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    offline: OfflineOption = False,
) -> int:
    """Answer rows over HTTP with finished runs."""
    from ptv2_cli.errors import ConfigError

    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        what = f"needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not here"
        raise ConfigError.at("ptv2 serve", what, "pip install 'ptv2[serve]'")
    settle(offline, threads)
    from ptv2_cli.runs.directory import DEFAULT_OUTPUT
    from ptv2_cli.serve.access import Access, is_local, read_token
    from ptv2_cli.serve.limits import Limits
    from ptv2_cli.serve.server import bound_socket, check_changes_allowed
    from ptv2_cli.serve.server import serve as serve_runs
    from ptv2_cli.serve.service import Service
    from ptv2_cli.sweeps.store import open_named
    from ptv2_cli.threads import use_threads

    use_threads(threads)
    token, roots = read_token(token_file), add_from or []
    check_changes_allowed(host, token, roots)
    limits = Limits(
        max_batch=max_batch,
        max_wait=max_wait_ms / 1000,
        max_queue=max_queue,
        max_rows=max_rows,
        max_body=max_body,
        max_chars=max_chars,
        timeout=timeout,
        client_timeout=client_timeout,
        drain=drain,
    )
    named = [_named(text) for text in run or ()]
    runs = [(chosen_run(path).path, name) for path, name in named]
    runs = runs or [(newest_run(DEFAULT_OUTPUT, "--run").path, None)]
    listening = bound_socket(host, port)
    if token is None and not is_local(host):
        hint = "set a token: --token-file FILE or PTV2_TOKEN; put a server that encrypts before it"
        console.warn(f"anybody who reaches {host} can use this server", hint)
    service = Service(
        limits, open_directory=open_named, device=device, offline=offline, roots=roots
    )

    def ready(address: str) -> None:
        for served in service.runs.values():
            alone = served.model.unshared
            console.note(f"{served.name}: {served.model.run.directory}")
            if alone is not None and len(service.runs) > 1:
                console.note(f"  has a copy of the backbone for itself: {alone}")
        console.say(f"{address}/docs describes the interface; Ctrl-C stops")

    return serve_runs(service, runs, listening, Access(token), ready=ready, tell=console.note)


def _named(text: str) -> tuple[Path, str | None]:
    """The folder and the name in `NAME=RUN`; a folder whose own name has a `=` is one."""
    name, sign, path = text.partition("=")
    if not sign or Path(text).exists() or "/" in name:
        return Path(text), None
    return Path(path), name
