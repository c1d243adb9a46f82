"""Models that come with code of their own: refused unless the config asks for just that code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptv2_cli.errors import BackboneError

if TYPE_CHECKING:
    from ptv2_cli.backbones.locate import Located
    from ptv2_cli.config.schema import BackboneSection

FILES = ("config.json", "tokenizer_config.json")
"""Files whose `auto_map` names Python classes that transformers would import and run."""


def check_own_code(located: Located, section: BackboneSection) -> None:
    """Refuse a model that asks to run code that the config has not asked for; runs nothing.

    `trust_remote_code: true` allows code that lies beside the weights: of a hub id at a commit,
    of a folder as it is. Code of a further repository is never run, because no revision pins it.

    Raises:
        BackboneError: the model asks for code that may not be run.
    """
    asked = list(dict.fromkeys(_asked(located.folder)))
    if not asked:
        return
    where = f"backbone {located.name}"
    elsewhere = [name for name in asked if "--" in name]
    if not section.trust_remote_code:
        raise BackboneError.at(
            where,
            f"asks to run Python code of its own ({asked[0]}), which is refused: nothing was run",
            f"read that code first; then write {_section(located)}. Or take a copy of the "
            "files without auto_map, which transformers' own code loads",
        )
    if elsewhere:
        raise BackboneError.at(
            where,
            f"asks to run code of another repository ({elsewhere[0]}), which no revision pins",
            "copy that code beside the weights, and name it in auto_map without --",
        )
    if located.commit is not None and section.revision != located.commit:
        raise BackboneError.at(
            where,
            f"runs code of its own, and revision {section.revision} may mean other code tomorrow",
            f"read the code, then pin it: --set backbone.revision={located.commit}",
        )


def _section(located: Located) -> str:
    pin = f"revision: {located.commit}, " if located.commit else ""
    return f"backbone: {{name: {located.name}, {pin}trust_remote_code: true}}"


def _asked(folder: Path) -> Iterator[str]:
    """The classes that the model's files want imported, such as modeling_x.XModel."""
    for name in FILES:
        try:
            parsed = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # missing or broken files are reported by those who need them
        if isinstance(parsed, dict):
            yield from _texts(parsed.get("auto_map"))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)
