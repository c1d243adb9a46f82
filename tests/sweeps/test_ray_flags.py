"""What is wrong with the flags of the Ray engine, before a cluster is needed."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from ptv2_cli.errors import ConfigError, MachineError, Ptv2Error
from ptv2_cli.sweeps.engine import EngineContext
from ptv2_cli.sweeps.engines import ray as ray_engine
from ptv2_cli.sweeps.engines.ray import RayEngine, mark_of
from ptv2_cli.sweeps.options import ClusterRequest, requested_cluster


def made(address: str | None = None, gpus: float = 0.0, device: str = "cpu") -> RayEngine:
    return RayEngine(EngineContext(device, cluster=ClusterRequest(address, gpus=gpus)))


def test_without_ray_the_command_that_brings_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_engine, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="not installed") as raised:
        made()
    assert raised.value.problems[0].hint == "pip install 'ptv2[ray]'"


@pytest.fixture
def needs_ray() -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install 'ptv2[ray]'")


@pytest.mark.usefixtures("needs_ray")
@pytest.mark.parametrize("address", ["ray://host:10001", "host", "host:port", ":6379"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ConfigError, match="no address of a cluster"):
        made(address)


@pytest.mark.usefixtures("needs_ray")
def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConfigError, match="no cluster: ") as raised:
        made(f"127.0.0.1:{port}")
    assert "ray start --head" in raised.value.problems[0].hint


@pytest.mark.usefixtures("needs_ray")
def test_nobody_listens_where_the_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ConfigError, match="no cluster: ") as raised:
        made()
    assert raised.value.problems[0].where == f"RAY_ADDRESS {address}"
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    made()


@pytest.mark.usefixtures("needs_ray")
def test_what_listens_is_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray
    from ray.exceptions import RpcError

    from ptv2_cli.sweeps.engines.ray_cluster import connect

    def no_answer(address: str) -> None:
        raise RpcError(f"nobody answers at {address}")

    begun: list[Any] = []
    monkeypatch.setattr(ray._raylet, "GcsClient", no_answer)
    monkeypatch.setattr(ray, "init", lambda **options: begun.append(options))
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ConfigError, match="nobody answers at host:8265") as raised:
        connect(ClusterRequest("host:8265"))
    assert raised.value.problems[0].where == "--address host:8265"
    assert not begun


@pytest.mark.usefixtures("needs_ray")
@pytest.mark.parametrize(
    ("address", "variable", "kind", "where"),
    [
        (None, "", MachineError, "--engine ray"),
        ("auto", "", ConfigError, "--address auto"),
        (None, "auto", ConfigError, "RAY_ADDRESS auto"),
    ],
)
def test_ray_that_does_not_start_is_no_bug(
    address: str | None,
    variable: str,
    kind: type[Ptv2Error],
    where: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ray

    from ptv2_cli.sweeps.engines.ray_cluster import connect

    def fails(**options: object) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", fails)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", variable)
    with pytest.raises(kind, match="timed out during startup") as raised:
        connect(ClusterRequest(address))
    assert raised.value.problems[0].where == where


@pytest.mark.usefixtures("needs_ray")
def test_a_gpu_has_to_be_asked_for() -> None:
    with pytest.raises(ConfigError, match="no GPU unless") as raised:
        made(device="cuda")
    assert raised.value.problems[0].hint == "add --gpus-per-trial 1"


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("local", "host:6379", None, None), "--address: the local engine"),
        (("local", None, 2.0, None), "--cpus-per-trial: the local engine"),
        (("ray", None, 0.0, None), "0 CPUs cannot train"),
        (("ray", None, -1.0, None), "-1 CPUs cannot train"),
        (("ray", None, float("nan"), None), "nan CPUs cannot train"),
        (("ray", None, None, -0.5), "-0.5 is no number of GPUs"),
        (("ray", None, None, 1.5), "1.5 is neither a part nor whole"),
    ],
)
def test_impossible_flags(flags: tuple[str, str | None, float, float], says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        requested_cluster(*flags)
    assert says in str(raised.value)
    assert raised.value.problems[0].hint


def test_the_mark_of_a_killed_driver_goes_after_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mark_of(tmp_path) as (path, content):
        assert Path(path).read_text() == content
        with mark_of(tmp_path):
            assert Path(path).exists()
        with monkeypatch.context() as patch:
            patch.setattr(ray_engine, "_ABANDONED_SECONDS", -1.0)
            with mark_of(tmp_path):
                assert not Path(path).exists()
    assert not list(tmp_path.iterdir())
