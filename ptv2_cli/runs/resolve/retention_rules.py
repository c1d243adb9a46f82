"""`retention:` - which runs it can be measured for, and the text that it is measured on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ptv2_cli.backbones.families import Shape
from ptv2_cli.config.load import LoadedConfig
from ptv2_cli.config.retention import RetentionSection
from ptv2_cli.errors import ConfigError, Problem
from ptv2_cli.methods.spec import MethodSpec

SHIPPED = Path(__file__).parent.parent / "texts" / "plain_prose.txt"
"""Letters, news, a recipe and the like, written for ptv2: no model was trained on it."""
LEAST_WORDS = 16
"""Words of a text, the least from which figures come."""


@dataclass(frozen=True)
class RetentionText:
    """A text and where it comes from."""

    name: str
    """The file's path; of the shipped text its name."""
    sha256: str
    text: str


def retention_text(section: RetentionSection, where: str) -> RetentionText:
    """Read the text.

    Args:
        section: the config's.
        where: what errors name.

    Raises:
        ConfigError: the file is missing, no UTF-8, or has next to no text.
    """
    path = SHIPPED if section.text is None else Path(section.text)
    hint = "name a file of plain text in UTF-8, or leave text out"
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        what = f"{path} cannot be read: {error.strerror}"
        raise ConfigError.at(where, what, hint) from None
    except UnicodeDecodeError as error:
        what = f"{path} is no UTF-8: byte {error.start} is {data[error.start]:#04x}"
        raise ConfigError.at(where, what, hint) from None
    words = len(text.split())
    if words < LEAST_WORDS:
        what = f"{path} has {words} words, too few to measure anything on"
        raise ConfigError.at(where, what, f"name a text of {LEAST_WORDS} words or more")
    name = path.name if section.text is None else str(path)
    return RetentionText(name, hashlib.sha256(data).hexdigest(), text)


def retention_problems(loaded: LoadedConfig, method: MethodSpec, shape: Shape) -> Iterator[Problem]:
    """Why retention cannot be measured for this run."""
    section = loaded.config.retention
    if section is None:
        return
    where = loaded.where("retention")
    reason = retention_obstacle(method, shape)
    if reason is not None:
        yield Problem(where, reason, "leave retention out")
    try:
        retention_text(section, loaded.where("retention", "text") if section.text else where)
    except ConfigError as error:
        yield from error.problems


def retention_obstacle(method: MethodSpec, shape: Shape) -> str | None:
    """Why a run has no next-token distribution to compare; None: it has one."""
    family = shape.family
    if family.two_stacks:
        return (
            f"{family.name} models answer a text, and have no next-token distribution of a text "
            "by itself: retention is for causal models"
        )
    if not family.causal:
        return (
            f"{family.name} models fill in masked words, and have no next-token distribution: "
            "retention is for causal models"
        )
    return None
