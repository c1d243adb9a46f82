"""Whether all processes that train a run mean the same run."""

from __future__ import annotations

import platform

import torch

from ptv2_cli.distributed.group import ProcessGroup
from ptv2_cli.errors import ConfigError
from ptv2_cli.runs.resolved_run import ResolvedRun
from ptv2_cli.version import __version__


def require_same_run(group: ProcessGroup, resolved_run: ResolvedRun) -> None:
    """Check that no process reads other data, weights or settings than rank 0.

    Raises:
        ConfigError: one does, or has another version of ptv2 or torch; it is raised in rank 0.
        RankEnded: the same, in the other ranks.
    """
    own = {
        **{name: identity[:16] for name, identity in resolved_run.identities.items()},
        "config": resolved_run.fingerprint,
        "ptv2": __version__,
        "torch": torch.__version__,
    }
    reports = group.gather((own, platform.node()))
    first, _ = reports[0]
    with group.together():
        for rank, (other, host) in enumerate(reports):
            names = [name for name in {**first, **other} if first.get(name) != other.get(name)]
            if names and group.first:
                name = names[0]
                raise ConfigError.at(
                    f"rank {rank} on {host}",
                    f"trains another run than rank 0: {name} is {other.get(name)} there and "
                    f"{first.get(name)} here",
                    "give all machines the same files and the same versions",
                )
