"""`ptv2 serve` as its own process: signals, slow clients, and what it refuses to start with."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import forked
import pytest
from commandline import Ptv2

ROW = {"premise": "a", "hypothesis": "b"}
SLOW = f"""
import time
from ptv2_cli.serve.models import Models
predict = Models.predict
def slow(self, requests):
    print("predicting", flush=True)
    time.sleep({{seconds}})
    return predict(self, requests)
Models.predict = slow
{forked.MAIN}
"""
"""A server whose batches take so many seconds."""


@contextmanager
def server(run: Path, *words: str, code: str = forked.MAIN) -> Iterator[tuple[Any, int]]:
    """The process of a server and its port."""
    command = ("serve", "--run", f"r={run}", "--port", "0", "--offline", *words)
    process = forked.begin(*command, code=code)
    try:
        line = process.stdout.readline()
        assert line.startswith("http://"), (line, process.communicate())
        yield process, int(line.split(":")[2].partition("/")[0])
    finally:
        if process.returncode is None:
            process.kill()


def asked(port: int, rows: list[Any], path: str = "/predict/r") -> tuple[int, Any]:
    """Status and content of a request to predict."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("POST", path, json.dumps({"rows": rows}))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def test_a_command_line_imports_no_server() -> None:
    code = "import ptv2_cli.cli.app, sys; print([n for n in sys.modules if n in {names}])"
    names = ("fastapi", "starlette", "uvicorn", "h11", "prometheus_client", "torch")
    done = subprocess.run(
        [sys.executable, "-c", code.format(names=names)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_when_all_is_answered(number: signal.Signals, finished: Path) -> None:
    slow = SLOW.format(seconds=0.3)
    with server(finished, "--max-batch", "1", code=slow) as (process, port):
        found: list[tuple[int, Any]] = []
        clients = [
            threading.Thread(target=lambda: found.append(asked(port, [ROW]))) for _ in range(3)
        ]
        for client in clients:
            client.start()
        assert process.stdout.readline() == "predicting\n"
        with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as idle:
            idle.request("GET", "/health")
            while json.loads(idle.getresponse().read())["rows_waiting"] < 2:
                idle.request("GET", "/health")
            process.send_signal(number)
            for client in clients:
                client.join()
            out, err = process.communicate()
    assert process.returncode == 0, err
    assert [status for status, _ in found] == [200] * 3
    assert "stopping: 3 requests to answer" in err
    assert err.endswith("all requests are answered; stopped\n")
    assert out == "predicting\n" * 2
    with pytest.raises(OSError):  # noqa: PT011 - refused, or reset, as the system likes
        asked(port, [ROW])


def test_a_server_that_stops_waits_no_longer_than_it_may(finished: Path) -> None:
    with server(finished, "--drain", "1", code=SLOW.format(seconds=600)) as (process, port):
        body = json.dumps({"rows": [ROW]})
        with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            connection.request("POST", "/predict/r", body)
            assert process.stdout.readline() == "predicting\n"
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(60)
    assert process.returncode == 1
    assert "1 request was not answered in 1 s" in err


def test_a_second_signal_ends_it_at_once(finished: Path) -> None:
    slow = SLOW.format(seconds=600)
    with server(finished, "--drain", "600", code=slow) as (process, port):
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", "/predict/r", json.dumps({"rows": [ROW]}))
        assert process.stdout.readline() == "predicting\n"
        process.send_signal(signal.SIGTERM)
        assert any(line.startswith("stopping: ") for line in process.stderr)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(60)
        connection.close()
    assert process.returncode == 143
    assert err.splitlines()[-1] == "stopped at once"


def test_slow_clients_are_closed_and_others_are_answered(finished: Path) -> None:
    """Each gets its end: one that sends nothing, half its headers, or half its body."""
    with server(finished, "--client-timeout", "0.5") as (_, port):
        half = b"POST /predict/r HTTP/1.1\r\nHost: x\r\n"
        starts = [b"", half, half + b"Content-Length: 100\r\n\r\n{"]
        ends = []
        connections = [socket.create_connection(("127.0.0.1", port), 60) for _ in starts]
        for connection, start in zip(connections, starts, strict=True):
            connection.sendall(start)
        assert asked(port, [ROW])[0] == 200
        for connection in connections:
            with connection, connection.makefile("rb") as stream:
                try:
                    ends.append(stream.read().partition(b"\r\n")[0])
                except ConnectionResetError:
                    ends.append(b"")
        assert ends == [b"", b"", b"HTTP/1.1 408 Request Timeout"]
        assert asked(port, [ROW])[0] == 200


def test_a_client_that_sends_100_mb_reads_why_it_is_refused(finished: Path) -> None:
    part = b"x" * (1 << 20)
    with server(finished) as (process, port):
        before = _peak(process.pid)
        for headers in ({"Content-Length": str(100 << 20)}, {"Transfer-Encoding": "chunked"}):
            connection = HTTPConnection("127.0.0.1", port, timeout=60)
            chunked = "Transfer-Encoding" in headers
            body = iter([part] * 100)
            connection.request("POST", "/predict/r", body, headers, encode_chunked=chunked)
            answer = connection.getresponse()
            assert answer.status == 413
            assert "1,048,576 bytes" in json.loads(answer.read())["errors"][0]["what"]
            connection.close()
        assert _peak(process.pid) - before < 20 << 20
        assert asked(port, [ROW])[0] == 200


def _peak(pid: int) -> int:
    """The largest resident set of a process so far, in bytes."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("the system does not tell a process's memory")
    lines = status.read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def test_headers_have_a_limit(finished: Path) -> None:
    with server(finished) as (_, port):
        with socket.create_connection(("127.0.0.1", port), 60) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000)
            assert connection.makefile("rb").readline().startswith(b"HTTP/1.1 400 ")
        assert asked(port, [ROW])[0] == 200


def test_a_port_that_is_taken(finished: Path, ptv2: Ptv2) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        result = ptv2("serve", "--run", finished, "--port", port)
    assert result.code == 2
    assert f"--port {port}: 127.0.0.1: Address already in use" in result.err
    assert "-> --port 0 takes a free port" in result.err


def test_arguments_that_cannot_be(
    finished: Path, ptv2: Ptv2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty, spaced = tmp_path / "empty", tmp_path / "spaced"
    empty.write_text("\n")
    spaced.write_text("two words")
    cases: list[tuple[tuple[Any, ...], str]] = [
        (("--run", "gone"), "gone: there is no such run directory"),
        (("--run", finished, "--token-file", tmp_path / "none"), "cannot be read: No such file"),
        (("--run", finished, "--token-file", tmp_path), "cannot be read: Is a directory"),
        (("--run", finished, "--token-file", empty), "holds no token"),
        (("--run", finished, "--token-file", spaced), "holds spaces"),
        (("--run", finished, "--add-from", "gone"), "there is no such folder"),
        (("--run", finished, "--add-from", ".", "--host", "0.0.0.0"), "could add runs"),
        (("--run", finished, "--host", "no.such.host.invalid"), "--host no.such.host.invalid"),
        (("--run", finished, "--device", "tpu"), "'tpu' is no device"),
        (("--run", finished, "--run", finished), f"a run {finished.name} is served already"),
        (("--run", f"a b={finished}"), "'a b' cannot stand in a path"),
        (("--run", finished, "--port", "70000"), "less than or equal to 65535"),
        (("--run", finished, "--max-batch", "0"), "greater than or equal to 1"),
    ]
    for words, what in cases:
        result = ptv2("serve", "--offline", "--port", "0", *words)
        assert result.code == 2, words
        assert what in result.err, words
        assert "Traceback" not in result.err
    monkeypatch.setenv("PTV2_TOKEN", "")
    result = ptv2("serve", "--run", finished, "--port", "0")
    assert (result.code, "PTV2_TOKEN: holds no token" in result.err) == (2, True)


def test_no_memory_for_a_run(finished: Path, ptv2: Ptv2, monkeypatch: pytest.MonkeyPatch) -> None:
    from ptv2_cli.runs.prediction.predict import Run

    def failing(self: Any, shared: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(Run, "open", failing)
    result = ptv2("serve", "--run", finished, "--port", "0", "--offline")
    assert result.code == 1
    assert f"no memory to load {finished}" in result.err


def test_without_the_extra(ptv2: Ptv2, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ptv2_cli.cli import serve

    monkeypatch.setattr(serve, "NEEDED", ("fastapi", "not_a_module"))
    result = ptv2("serve", "--run", finished)
    assert result.code == 2
    assert "needs not_a_module, which is not here" in result.err
    assert "-> pip install 'ptv2[serve]'" in result.err


def test_a_server_for_others_wants_a_token(finished: Path, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("secret\n")
    for words, warned in (((), True), (("--token-file", str(secret)), False)):
        with server(finished, "--host", "0.0.0.0", *words) as (process, port):
            assert asked(port, [ROW])[0] == (200 if warned else 401)
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(60)
        assert process.returncode == 0
        assert ("warning: anybody who reaches 0.0.0.0 can use this server" in err) == warned
