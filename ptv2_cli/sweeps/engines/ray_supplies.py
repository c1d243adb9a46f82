"""Which nodes lack the data or the backbone of trials, and what they are sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence

import ray

from ptv2_cli.errors import ConfigError, InputError, Problem, gather
from ptv2_cli.runs.resolved_run import ResolvedRun
from ptv2_cli.sweeps.engine import TrialSpec
from ptv2_cli.sweeps.engines.ray_cluster import Node, on_nodes
from ptv2_cli.sweeps.engines.ray_files import Material, SentMaterial, materials_of
from ptv2_cli.sweeps.engines.ray_worker import missing_here

Prepare = Callable[[TrialSpec], ResolvedRun]


class Supplies:
    """Looks on every node for what trials read; sends what is not there, once."""

    def __init__(self, able: Sequence[Node], prepare: Prepare, *, offline: bool) -> None:
        self.able = able
        self._prepare = prepare
        self._offline = offline
        self._lacking: dict[str, dict[Node, str]] = {}
        """What trials read -> nodes that lack some of it, with the problem of each."""
        self._sent: dict[str, tuple[SentMaterial, ...]] = {}

    def lacking(self, trials: Iterable[TrialSpec]) -> dict[Node, str]:
        """Nodes that lack something that a trial reads, and the first problem of each."""
        found: dict[Node, str] = {}
        for trial in {self._key(trial): trial for trial in trials}.values():
            found = {**self._nodes_without(trial), **found}
        return found

    def bytes(self, trials: Iterable[TrialSpec]) -> int:
        """The size of all that the trials read."""
        materials = {
            (material.named, material.root): material
            for trial in trials
            for material in self._materials(trial)
        }
        return sum(material.bytes for material in materials.values())

    def sent_for(self, trial: TrialSpec) -> tuple[SentMaterial, ...]:
        """What nodes can fetch that lack something; nothing where all of them have it.

        Raises:
            ConfigError: a node cannot run the trial with that either.
        """
        key = self._key(trial)
        if key not in self._sent:
            without = self._nodes_without(trial)
            sent = tuple(material.sent() for material in self._materials(trial)) if without else ()
            if sent:
                nodes = list(without)
                hint = "copy the data and the backbone's files there, to the same paths"
                gather(
                    [
                        Problem(str(node), f"cannot run {trial.name}: {problem}", hint)
                        for node, problem in self._problems(nodes, trial, sent)
                    ],
                    ConfigError,
                )
            self._sent[key] = sent
        return self._sent[key]

    def _nodes_without(self, trial: TrialSpec) -> dict[Node, str]:
        key = self._key(trial)
        if key not in self._lacking:
            self._lacking[key] = dict(self._problems(self.able, trial, ()))
        return self._lacking[key]

    def _problems(
        self, nodes: Sequence[Node], trial: TrialSpec, sent: Sequence[SentMaterial]
    ) -> list[tuple[Node, str]]:
        check = ray.remote(num_cpus=0, max_retries=0)(missing_here)
        answers = on_nodes(nodes, check, trial, sent, self._offline)
        return [(node, answer) for node, answer in zip(nodes, answers, strict=True) if answer]

    def _materials(self, trial: TrialSpec) -> list[Material]:
        try:
            return materials_of(self._prepare(trial))
        except InputError:  # it cannot run here either, which its task reports
            return []

    def _key(self, trial: TrialSpec) -> str:
        """Equal for trials that read the same files."""
        config = dict(trial.config)
        paths = [config["backbone"]["name"], config["task"], config["include"]]
        splits = [config["selection"]["split"], config["report"]]
        init = config["method"].get("init")
        return json.dumps([paths, splits, init], sort_keys=True, default=str)
