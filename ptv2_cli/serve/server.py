"""The process of a server: its socket, its signals and its end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import uvicorn

from ptv2_cli.errors import EXIT_DEFECT, ConfigError, InputError, Ptv2Error, StoppedAtOnce
from ptv2_cli.runs.interrupts import SIGNALS
from ptv2_cli.serve.access import Access, is_local
from ptv2_cli.serve.app import build_app
from ptv2_cli.serve.connections import TimedConnection
from ptv2_cli.serve.refusal import Refusal
from ptv2_cli.serve.service import Service

Tell = Callable[[str], None]


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one.

    Raises:
        ConfigError: the address or the port cannot be used.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        what = getattr(error, "strerror", None) or str(error)
        raise ConfigError.at(f"--host {host}", what, "--host 127.0.0.1") from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(4096)
    except OSError as error:
        bound.close()
        hint = "--port 0 takes a free port"
        raise ConfigError.at(f"--port {port}", f"{host}: {error.strerror}", hint) from None
    return bound


def check_changes_allowed(host: str, token: str | None, roots: Sequence[Path]) -> None:
    """Check that no stranger can add runs: a run may bring code, which is executed.

    Raises:
        ConfigError: the server listens elsewhere than here, has folders to add from and no token;
            or such a folder does not exist.
    """
    for root in roots:
        if not root.is_dir():
            raise ConfigError.at(f"--add-from {root}", "there is no such folder", "name a folder")
    if roots and token is None and not is_local(host):
        what = f"anybody who reaches {host} could add runs"
        raise ConfigError.at("--add-from", what, "set a token: --token-file FILE or PTV2_TOKEN")


def serve(
    service: Service,
    runs: Sequence[tuple[Path, str | None]],
    listening: socket.socket,
    access: Access,
    *,
    ready: Callable[[str], None],
    tell: Tell,
) -> int:
    """Load runs and answer requests until a signal comes; returns the exit code.

    SIGTERM, Ctrl-C and a closed terminal: no further connection is taken, requests that are under
    way are answered, and the code is 0; it is 1 if some were not in `Limits.drain` seconds. A
    second signal, and one while runs are loaded, ends the process at once.

    Args:
        service: without runs.
        runs: the folder of each run and its name; None: the folder's.
        listening: see `bound_socket`.
        access: who may use it.
        ready: gets the address when the server answers.
        tell: gets lines for people.

    Raises:
        InputError: a run cannot be served.
        MachineError: there is no memory for one.
    """
    _more_files()
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # the application reports
    with listening:
        try:
            return asyncio.run(_serve(service, runs, listening, access, ready, tell))
        except StoppedAtOnce as error:
            tell("stopped at once")
            os._exit(128 + error.signum)  # torch may compute on, see _serve


async def _serve(
    service: Service,
    runs: Sequence[tuple[Path, str | None]],
    listening: socket.socket,
    access: Access,
    ready: Callable[[str], None],
    tell: Tell,
) -> int:
    limits = service.limits

    class Connection(TimedConnection):
        seconds = limits.client_timeout

    config = uvicorn.Config(
        build_app(service, access),
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=max(1, round(limits.client_timeout)),
        timeout_graceful_shutdown=max(1, round(limits.drain)),
    )
    server = _Server(config, service, lambda: ready(_address(listening)), tell)
    with _signals(server):
        for path, name in runs:
            try:
                await service.add(path, name)
            except Refusal as error:
                cause = error.__cause__
                known = cause if isinstance(cause, Ptv2Error) else InputError(*error.problems)
                raise known from error
        server.loaded = True
        await server.serve(sockets=[listening])
    ended = service.batcher.close(limits.drain if not server.left else 0.0)
    if server.left or not ended:
        count = "1 request was" if server.left == 1 else f"{server.left} requests were"
        tell(f"{count} not answered in {limits.drain:g} s")
        if not ended:  # torch computes on: the interpreter cannot end in order
            os._exit(EXIT_DEFECT)
        return EXIT_DEFECT
    tell("all requests are answered; stopped")
    return 0


class _Server(uvicorn.Server):
    """uvicorn's server, which leaves signals to us and says when it is ready.

    Attributes:
        loaded: all runs are; a signal before that ends the process.
        signum: the signal that stopped it.
        left: requests that were not answered at the end.
    """

    def __init__(
        self, config: uvicorn.Config, service: Service, ready: Callable[[], None], tell: Tell
    ) -> None:
        super().__init__(config)
        self._service, self._ready, self._tell = service, ready, tell
        self.loaded = False
        self.signum: int | None = None
        self.left = 0

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone, see `_signals`."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take nothing more, wait for requests under way, count those that are left."""
        waiting = len(self.server_state.tasks)
        self._tell(f"stopping: {waiting} request{'' if waiting == 1 else 's'} to answer")
        await super().shutdown(sockets)
        self.left = len(self.server_state.tasks)

    def note(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if self.signum is not None or not self.loaded:
            raise StoppedAtOnce(number)
        self.signum = number
        self._service.draining = True
        self.should_exit = True


@contextmanager
def _signals(server: _Server) -> Iterator[None]:
    """Let a server handle the signals that end processes; those that are ignored stay so."""
    before = {}
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, server.note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _more_files() -> None:
    """Allow as many open connections as the system does; the usual limit is 1,024."""
    with suppress(ImportError, ValueError, OSError):  # Windows has no such limit
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
