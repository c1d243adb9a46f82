"""The cluster: connect to it, see that its nodes can run trials as this machine would."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ptv2_cli.errors import ConfigError, MachineError, Problem, gather
from ptv2_cli.sweeps.engines import ray_probe
from ptv2_cli.sweeps.options import ClusterRequest

ADDRESS = "--address"
VARIABLE = "RAY_ADDRESS"
"""Ray's own: the address of the cluster where no other is given."""
ANSWER_SECONDS = 10.0
"""How long a cluster may take to accept a connection."""
NODE_SECONDS = 300.0
"""How long a node may take to start a process and answer."""


@dataclass(frozen=True)
class Node:
    """A machine of the cluster that can run trials."""

    id: str
    name: str
    slots: int
    """Trials at once."""

    def __str__(self) -> str:
        return f"node {self.name} ({self.id[:6]})"

    @property
    def strategy(self) -> NodeAffinitySchedulingStrategy:
        """Run a task there and nowhere else."""
        return NodeAffinitySchedulingStrategy(self.id, soft=False)


def check_address(given: str | None) -> None:
    """See that something listens at the address given, or else at that of `RAY_ADDRESS`.

    Raises:
        ConfigError: the address cannot be used, or nobody answers.
    """
    where = ADDRESS if given else VARIABLE
    address = given or os.environ.get(VARIABLE)
    if not address or address in {"auto", "local"} or (not given and ray.is_initialized()):
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        raise ConfigError.at(
            where,
            f"{address!r} is no address of a cluster",
            f"type {ADDRESS} HOST:PORT, or {ADDRESS} auto on a machine that belongs to the cluster",
        )
    try:
        socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        reason = str(getattr(error, "strerror", None) or error)
        raise _no_cluster(f"{where} {address}", reason) from None


def connect(request: ClusterRequest) -> None:
    """Connect to the cluster, or start one on this machine, unless this process is connected.

    Raises:
        ConfigError: there is no such cluster, or its versions of Python or Ray differ.
        MachineError: Ray does not start on this machine.
    """
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {"address": request.address} if request.address else {}
    variable = os.environ.get(VARIABLE)
    starts = not request.address and not variable
    if starts:
        options["include_dashboard"] = False
    # Ray prints there that a process has died, among the results; a warning says it anyway.
    ray._private.worker.print_to_stdstream = lambda *words, **options: None
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    address = request.address or variable
    try:
        if address and ":" in address:  # else `ray.init` tries again for a quarter of an hour
            ray._raylet.GcsClient(address=address)
        ray.init(**options, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # Ray raises bare ones too
        reason = str(error).strip()
        if starts:
            hint = (
                "try again when the machine has less to do; /tmp/ray/session_latest has Ray's log"
            )
            problem = Problem("--engine ray", f"Ray does not start here: {reason}", hint)
            raise MachineError(problem) from error
        given = f"{ADDRESS} {request.address}" if request.address else f"{VARIABLE} {variable}"
        raise _no_cluster(given, reason) from error
    finally:
        if main and before is not None:  # Ray's own would leave without saving
            signal.signal(signal.SIGTERM, before)


def nodes(request: ClusterRequest, without: Container[str] = ()) -> list[Node]:
    """The nodes that are alive and large enough for a trial, but for some."""
    found = []
    for node in ray.nodes():
        resources = node["Resources"]
        fits = [
            int(resources.get(name, 0.0) / need + 1e-6)
            for name, need in (("CPU", request.cpus), ("GPU", request.gpus))
            if need
        ]
        if node["Alive"] and node["NodeID"] not in without and min(fits) > 0:
            found.append(Node(node["NodeID"], node["NodeManagerHostname"], min(fits)))
    return found


def require_nodes(request: ClusterRequest) -> list[Node]:
    """The nodes that can run a trial.

    Raises:
        ConfigError: no node is large enough.
    """
    able = nodes(request)
    if able:
        return able
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for flag, name, need in (
        ("--gpus-per-trial", "GPU", request.gpus),
        ("--cpus-per-trial", "CPU", request.cpus),
    ):
        most = max((resources.get(name, 0.0) for resources in alive), default=0.0)
        if need > most:
            what = f"a trial needs {need:g} {name}s, and the largest node has {most:g}"
            raise ConfigError.at(f"{flag} {need:g}", what, f"type {flag} {most:g} or less")
    what = f"no node has {request.cpus:g} CPUs and {request.gpus:g} GPUs"
    raise ConfigError.at("--engine ray", what, "lower --cpus-per-trial or --gpus-per-trial")


def check_versions(able: Sequence[Node]) -> None:
    """See that all nodes compute with the same code and libraries as this machine.

    Raises:
        ConfigError: with every node that differs.
    """
    here = ray_probe.installed()
    ray.cloudpickle.register_pickle_by_value(ray_probe)
    try:
        probe = ray.remote(num_cpus=0, max_retries=0)(ray_probe.installed)
        answers = on_nodes(able, probe)
    finally:
        ray.cloudpickle.unregister_pickle_by_value(ray_probe)
    problems = []
    for node, there in zip(able, answers, strict=True):
        differing = [name for name in here if there[name] != here[name]]
        told = [f"{name} {there[name] or 'missing'} (here {here[name]})" for name in differing]
        if told:
            hint = "install the same versions and the same ptv2 on every node"
            what = f"differs from this machine: {', '.join(told)}"
            problems.append(Problem(str(node), what, hint))
    gather(problems, ConfigError)


def on_nodes(able: Sequence[Node], task: Any, *arguments: Any) -> list[Any]:
    """What a task answers on each of the nodes.

    Raises:
        ConfigError: a node does not answer.
    """
    references = [
        task.options(scheduling_strategy=node.strategy).remote(*arguments) for node in able
    ]
    ray.wait(references, num_returns=len(references), timeout=NODE_SECONDS)
    answers, problems = [], []
    for node, reference in zip(able, references, strict=True):
        try:
            answers.append(ray.get(reference, timeout=0))
        except RayError as error:
            late = isinstance(error, ray.exceptions.GetTimeoutError)
            reason = str(error).strip().splitlines()[-1]
            what = f"no answer in {NODE_SECONDS:g} s" if late else f"cannot run a task: {reason}"
            problems.append(Problem(str(node), what, "ray status shows the nodes of the cluster"))
    gather(problems, ConfigError)
    return answers


def _no_cluster(where: str, reason: str) -> ConfigError:
    return ConfigError.at(
        where,
        f"no cluster: {reason}",
        "start one with ray start --head, and join other machines with ray start --address "
        f"HOST:PORT; without {ADDRESS}, ptv2 starts one on this machine alone",
    )
