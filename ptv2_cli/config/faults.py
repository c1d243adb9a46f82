"""Pydantic's errors, each located at a key that the user wrote or left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import ErrorDetails

from ptv2_cli.config.places import KeyPath


@dataclass(frozen=True)
class Fault:
    """One error of pydantic's, its location reduced to keys that the user wrote or left out."""

    path: KeyPath
    union: KeyPath | None
    """Where a choice of types stands, of which this error is one branch's; else None."""
    branch: str
    details: ErrorDetails

    @property
    def kind(self) -> str:
        """Pydantic's name of the error."""
        return self.details["type"]

    @property
    def misfit(self) -> bool:
        """The value has not the shape of this branch at all."""
        return self.path == self.union or self.kind in ("missing", "extra_forbidden")


def read_fault(details: ErrorDetails, data: Any) -> Fault:
    """Walk the data along the location; what the data does not hold names a branch of a union."""
    path: list[str | int] = []
    union: KeyPath | None = None
    branch = ""
    last = len(details["loc"]) - 1
    for i, part in enumerate(details["loc"]):
        if isinstance(data, Mapping) and part in data:
            data = data[str(part)]
        elif isinstance(data, Sequence) and isinstance(part, int) and not isinstance(data, str):
            data = data[part]
        elif not (i == last and details["type"] == "missing"):
            union, branch = (tuple(path), str(part)) if union is None else (union, branch)
            continue
        path.append(part)
    return Fault(tuple(path), union, branch, details)


def grouped(faults: Sequence[Fault]) -> list[list[Fault]]:
    """One group per message: the branches of a union belong together."""
    groups: list[list[Fault]] = []
    unions: dict[KeyPath, list[Fault]] = {}
    for fault in faults:
        if fault.union is None:
            groups.append([fault])
        else:
            unions.setdefault(fault.union, []).append(fault)
    for members in unions.values():
        groups += _branch_meant(members)
    return groups


def _branch_meant(members: list[Fault]) -> list[list[Fault]]:
    """The faults of the branch that fits the value's shape, else all as one group."""
    branches: dict[str, list[Fault]] = {}
    for fault in members:
        branches.setdefault(fault.branch, []).append(fault)
    fitting = [group for group in branches.values() if not any(f.misfit for f in group)]
    inner = [group for group in branches.values() if all(f.path != f.union for f in group)]
    for choice in (fitting, inner):
        if choice:
            return [[fault] for fault in min(choice, key=len)]
    level = [fault for fault in members if fault.path == fault.union]
    return [level]
