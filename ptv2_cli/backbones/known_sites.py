"""The result of a probe, kept between commands: an equal model is not probed again.

What is kept are the sites of a model that passed. They depend on the backbone's files, the type of
its weights, the class that was loaded, its family, this package's code that lets prompts enter, and
the versions of torch and transformers: all of it is in the key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache as once
from pathlib import Path
from typing import Any, get_args

import torch
import transformers

from ptv2_cli import cache
from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.backbones.files.locate import Located
from ptv2_cli.backbones.probe import probe
from ptv2_cli.backbones.sites import Site, Stack

_KIND = "probed-sites"
_FORMAT = "1"
_TYPES = {"module": str, "call": int, "heads": int, "head_size": int, "layer": int, "causal": bool}


def probe_once(backbone: Backbone, located: Located, loaded_as: str) -> None:
    """As `probe`, but the sites of a model that passed it before come from the cache.

    Args:
        backbone: a model as it was loaded, not quantized yet.
        located: its files.
        loaded_as: how it was loaded: the class and the type of its weights.

    Raises:
        BackboneError: see `probe`.
    """
    how = (loaded_as, repr(backbone.shape))
    versions = (torch.__version__, transformers.__version__)
    key = (_FORMAT, located.identity, *how, _code(), *versions)
    entry = cache.find(_KIND, *key)
    if entry is not None:
        sites = _read(entry, backbone)
        if sites is not None:
            backbone.set_sites(sites)
            return
        cache.drop(entry)
    probe(backbone, located.name)
    text = _text(backbone.sites)

    def write(path: Path) -> None:
        path.write_text(text, encoding="utf-8")

    cache.keep(_KIND, *key, write=write)


def _text(sites: Sequence[Site]) -> str:
    content = json.dumps([asdict(site) for site in sites])
    return f"{_checksum(content)}\n{content}"


def _read(entry: Path, backbone: Backbone) -> tuple[Site, ...] | None:
    """The sites of an entry; None if it is damaged, or of another model."""
    try:
        checksum, _, content = entry.read_text(encoding="utf-8").partition("\n")
        if checksum != _checksum(content):
            return None
        return tuple(_site(fields, backbone) for fields in json.loads(content))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _site(fields: dict[str, Any], backbone: Backbone) -> Site:
    if any(type(fields[name]) is not kind for name, kind in _TYPES.items()):
        raise ValueError(f"no site: {fields}")
    if fields["stack"] not in get_args(Stack):
        raise ValueError(f"no stack: {fields}")
    backbone.model.get_submodule(fields["module"])  # AttributeError: the model has none
    return Site(**fields)


def _checksum(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


@once
def _code() -> str:
    """One sha256 over the code of this package."""
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        name, code = path.relative_to(folder).as_posix(), path.read_bytes()
        digest.update(f"{name}:{len(code)}\n".encode() + code)
    return digest.hexdigest()
