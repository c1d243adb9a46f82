#!/usr/bin/env python3
"""`ptv2 serve` under load: requests a second and latencies of mixed runs; hostile clients; SIGTERM.

    benchmarks/serving.py --run RUN --run RUN... [--clients N] [--seconds S] [--threads N]

Clients with a connection each send one row after another, taken at random from the runs'
validation rows, and time each answer. First one server answers for all runs, then each run has a
server for itself; the threads are divided among the servers. The clients are one process on the
same machine and take processor time from the servers: their share is printed. *processor ms* is the
processor time of the servers for each answer, which does not depend on what else the machine does.

Then, against one server for all runs: clients that send a byte a second; bodies of 100 MB; and
SIGTERM while clients send, after which every request that was sent before must have its answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

Requests = Sequence[tuple[str, bytes]]
"""The run and the bytes of each."""
LARGE = 100_000_000
PART = b"x" * 65536
SLOW_SHARE = 5
"""One slow client for so many others."""


@dataclass
class Server:
    """A process of `ptv2 serve`."""

    process: subprocess.Popen[str]
    port: int

    @property
    def memory(self) -> psutil._common.pmem:
        """What it has taken."""
        return psutil.Process(self.process.pid).memory_info()

    @property
    def processor(self) -> float:
        """Seconds of processor time that it has taken."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def stop(self) -> int:
        """Stop it by SIGTERM; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(120)


@contextmanager
def serving(runs: dict[str, Path], threads: int, *words: str) -> Iterator[Server]:
    """A server of these runs."""
    command = [sys.executable, "-m", "ptv2_cli", "serve", "--port", "0", "--offline"]
    command += ["--threads", str(threads), *words]
    for name, path in runs.items():
        command += ["--run", f"{name}={path}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r":(\d+)/docs", process.stdout.readline())
        assert found, "the server did not start"
        yield Server(process, int(found[1]))
    finally:
        if process.poll() is None:
            process.kill()


@dataclass
class Load:
    """What clients have seen."""

    seconds: list[float] = field(default_factory=list)
    """Of each answer."""
    refused: int = 0
    """Answers 503."""
    failed: int = 0
    """Other answers than 200 and 503."""
    cut: int = 0
    """Requests sent before `stopped` whose connection ended without an answer."""
    late: int = 0
    """The same of requests sent after it, or that could not connect."""
    stopped: float = float("inf")

    def quantile(self, share: float) -> float:
        """In milliseconds."""
        ordered = sorted(self.seconds) or [float("nan")]
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def requests_of(paths: dict[str, Path]) -> list[tuple[str, bytes]]:
    """A request for each validation row of each run, and the run."""
    from ptv2_cli.runs.directory import RunDirectory
    from ptv2_cli.runs.prediction.predict import Run

    made = []
    for name, path in paths.items():
        run = Run(RunDirectory(path), offline=True)
        hidden = run.task.gold_columns
        for line in run.predictions():
            row = {key: value for key, value in line["row"].items() if key not in hidden}
            body = json.dumps({"rows": [row]}).encode()
            head = (
                f"POST /predict/{name} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            made.append((name, head.encode() + body))
    return made


async def answer(reader: asyncio.StreamReader) -> int:
    """The status of an answer, which is read to its end."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = re.search(r"content-length: (\d+)", head, re.I)
    await reader.readexactly(int(length[1]) if length else 0)
    return int(head.split(" ", 2)[1])


async def client(
    number: int, requests: Requests, ports: dict[str, int], end: float, load: Load
) -> None:
    """Send rows until `end`, or until the server is gone."""
    choose = random.Random(number)
    connections: dict[int, tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}
    while time.perf_counter() < end:
        run, request = choose.choice(requests)
        began = time.perf_counter()
        try:
            if ports[run] not in connections:
                connections[ports[run]] = await asyncio.open_connection("127.0.0.1", ports[run])
            reader, writer = connections[ports[run]]
            began = time.perf_counter()
            writer.write(request)
            status = await answer(reader)
        except (OSError, asyncio.IncompleteReadError):
            if began < load.stopped:
                load.cut += 1
            else:
                load.late += 1
                break
            connections.pop(ports[run], None)
            continue
        if status == 200:
            load.seconds.append(time.perf_counter() - began)
        elif status == 503:
            load.refused += 1
            await asyncio.sleep(choose.random())
        else:
            load.failed += 1
    for _, writer in connections.values():
        writer.close()


async def under_load(count: int, requests: Requests, ports: dict[str, int], seconds: float) -> Load:
    """What so many clients see in so many seconds."""
    load, end = Load(), time.perf_counter() + seconds
    await asyncio.gather(*(client(number, requests, ports, end, load) for number in range(count)))
    return load


async def slow_client(port: int) -> float:
    """Send a byte of headers a second; the seconds after which the server ends the connection."""
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with suppress(OSError):
        for byte in b"POST /predict/x HTTP/1.1\r\nHost: " + b"x" * 600:
            writer.write(bytes([byte]))
            with suppress(TimeoutError):
                await asyncio.wait_for(reader.read(1), 1)
                break
    writer.close()
    return time.perf_counter() - began


async def large_body(port: int, chunked: bool) -> tuple[int, float, int]:
    """Send 100 MB: the status, the seconds until it came, and the bytes sent by then."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    how = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {LARGE}"
    began, sent = time.perf_counter(), 0
    writer.write(f"POST /predict/run0 HTTP/1.1\r\nHost: x\r\n{how}\r\n\r\n".encode())
    status = asyncio.ensure_future(answer(reader))
    with suppress(OSError):
        while sent < LARGE and not status.done():
            part = PART[: LARGE - sent]
            writer.write(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
            sent += len(part)
            await writer.drain()
    found = await status
    writer.close()
    return found, time.perf_counter() - began, sent


def report_load(
    name: str, load: Load, seconds: float, servers: Sequence[Server], before: float
) -> None:
    """Print a row of the table; `before` are the servers' seconds of processor time till then."""
    memory = sum(server.memory.rss for server in servers)
    processor = sum(server.processor for server in servers) - before
    cells = (
        f"{len(load.seconds) / seconds:,.0f}",
        f"{load.quantile(0.5):,.0f}",
        f"{load.quantile(0.99):,.0f}",
        f"{1000 * processor / max(1, len(load.seconds)):.1f}",
        f"{load.refused:,}",
        f"{load.failed:,}",
        f"{load.cut:,}",
        f"{memory / 1e6:,.0f}",
    )
    print(f"| {name} | {' | '.join(cells)} |")


def both_ways(paths: dict[str, Path], requests: Requests, chosen: argparse.Namespace) -> None:
    """One server for all runs, and one for each."""
    print(f"{chosen.clients:,} clients, {chosen.seconds:g} s, {chosen.threads} threads\n")
    seen = "requests/s | p50 ms | p99 ms | processor ms | 503 | failed | cut | resident MB"
    print(f"| servers | {seen} |\n| --- |{' ---: |' * 8}")
    began, clock = time.process_time(), 0.0
    with serving(paths, chosen.threads) as server:
        ports = dict.fromkeys(paths, server.port)
        asyncio.run(under_load(8, requests, ports, 2.0))  # what is first is slow
        before = server.processor
        load = asyncio.run(under_load(chosen.clients, requests, ports, chosen.seconds))
        report_load("one for all runs", load, chosen.seconds, [server], before)
        clock += chosen.seconds + 2
        server.stop()
    each = max(1, chosen.threads // len(paths))
    held = [serving({name: path}, each) for name, path in paths.items()]
    servers = [one.__enter__() for one in held]
    ports = {name: server.port for name, server in zip(paths, servers, strict=True)}
    asyncio.run(under_load(8, requests, ports, 2.0))
    before = sum(server.processor for server in servers)
    load = asyncio.run(under_load(chosen.clients, requests, ports, chosen.seconds))
    report_load("one a run", load, chosen.seconds, servers, before)
    clock += chosen.seconds + 2
    for one, server in zip(held, servers, strict=True):
        server.stop()
        one.__exit__(None, None, None)
    share = (time.process_time() - began) / clock
    print(f"\nThe clients took {share:.2f} of a core.")


async def hostile(server: Server, requests: Requests, ports: Any, few: int) -> None:
    """Slow clients beside others, then large bodies."""
    alone = await under_load(few, requests, ports, 10)
    slow = [asyncio.ensure_future(slow_client(server.port)) for _ in range(few * SLOW_SHARE)]
    beside = await under_load(few, requests, ports, 10)
    ends = await asyncio.gather(*slow)
    print(f"\n{few} clients alone: {len(alone.seconds) / 10:,.0f} requests/s,", end=" ")
    print(
        f"p99 {alone.quantile(0.99):,.0f} ms; beside {len(ends)} that send a byte a second:",
        end=" ",
    )
    print(f"{len(beside.seconds) / 10:,.0f} requests/s, p99 {beside.quantile(0.99):,.0f} ms.")
    print(f"The slow ones were closed after {min(ends):.1f} to {max(ends):.1f} s.")
    for chunked in (False, True):
        before = server.memory.rss
        status, seconds, sent = await large_body(server.port, chunked)
        grown = (server.memory.rss - before) / 1e6
        how = "chunks" if chunked else "a length"
        print(
            f"A body of 100 MB with {how}: {status} after {1000 * seconds:.0f} ms and "
            f"{sent / 1e6:.1f} MB; resident memory grew by {grown:.1f} MB."
        )


async def terminated(server: Server, requests: Requests, ports: dict[str, int], count: int) -> Load:
    """What clients see of a server that gets SIGTERM after five seconds."""
    load, end = Load(), time.perf_counter() + 60
    clients = [
        asyncio.ensure_future(client(number, requests, ports, end, load)) for number in range(count)
    ]
    await asyncio.sleep(5)
    # Before the signal: what is sent in this very moment may meet a connection that closes.
    load.stopped = time.perf_counter()
    server.process.send_signal(signal.SIGTERM)
    await asyncio.gather(*clients)
    return load


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, action="append", required=True)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--skip-load", action="store_true", help="only hostile clients, SIGTERM")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    chosen = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)
    with suppress(ImportError, ValueError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    paths = {f"run{number}": path for number, path in enumerate(chosen.run)}
    requests = requests_of(paths)
    if not chosen.skip_load:
        both_ways(paths, requests, chosen)
    few = max(2, chosen.clients // 25)
    with serving(paths, chosen.threads, "--client-timeout", "5") as server:
        ports = dict.fromkeys(paths, server.port)
        asyncio.run(hostile(server, requests, ports, few))
        load = asyncio.run(terminated(server, requests, ports, chosen.clients))
        code = server.process.wait(120)
        seconds = time.perf_counter() - load.stopped
        print(
            f"SIGTERM under {chosen.clients:,} clients: {len(load.seconds):,} requests answered, "
            f"{load.cut} of those sent before it without an answer, {load.late} sent after it; "
            f"exit code {code} after {seconds:.1f} s."
        )


if __name__ == "__main__":
    main()
