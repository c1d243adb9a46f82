"""`ptv2 watch`: it serves the page, says where, and ends cleanly; what is refused."""

from __future__ import annotations

import signal
import socket
import urllib.request
from pathlib import Path

import forked
import pytest
from commandline import Refused
from made import write


def test_it_serves_until_it_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    process = forked.begin("watch", "--port", "0")  # there is no runs/ yet
    try:
        line = process.stdout.readline()
        address = line.split()[0]
        assert line == f"{address} shows runs; Ctrl-C stops\n"
        with urllib.request.urlopen(address) as answer:
            assert b"No run has finished yet" in answer.read()
        write(Path("runs"), history=[0.5])
        with urllib.request.urlopen(address) as answer:
            assert b"Report of 1 run" in answer.read()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
        assert (out, err, process.returncode) == ("", "stopped\n", 0)
    finally:
        if process.returncode is None:
            process.kill()


def test_a_port_in_use(refused: Refused) -> None:
    Path("runs").mkdir()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        says = [f"port {port} is in use by another program", "--port 0 takes a free one"]
        refused("watch", "--port", port, says=says)


def test_a_folder_that_is_not_there(refused: Refused) -> None:
    refused("watch", "elsewhere", says=["elsewhere: there is no such folder", "--output"])


def test_without_jinja(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    from ptv2_cli.report.html import page

    monkeypatch.setattr(page, "find_spec", lambda name: None)
    refused("watch", says=["ptv2 watch", "pip install 'ptv2[html]'"])
