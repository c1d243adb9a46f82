"""What `ptv2 doctor` finds: one line each, and how to mend what is not well."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "missing"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `missing`: ptv2 cannot run without it."""

    name: str
    state: State
    value: str
    mend: str = ""
    """The command or the line that mends it; empty where all is well."""


def examine() -> list[Finding]:
    """Look at everything; what cannot be looked at is a finding too, never an exception."""
    return list(_all())


def _all() -> Iterator[Finding]:
    from ptv2_cli.setup import machine, packages, storage

    yield packages.itself()
    yield packages.python()
    found = packages.dependencies()
    yield from found
    yield packages.demo()
    if any(item.name == "torch" and item.state == "missing" for item in found):
        return  # nothing can be asked of a torch that is not there
    torch = machine.imported()
    yield torch
    if torch.state == "ok":
        yield machine.device()
        yield machine.threads()
        yield machine.bf16()
    yield from storage.caches()
    yield storage.offline()
    yield storage.disk()
