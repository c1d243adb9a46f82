"""Models that come with code of their own: refused unless the config asks for just that code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ptv2_cli.backbones.model_files import asked_code
from ptv2_cli.errors import BackboneError

if TYPE_CHECKING:
    from ptv2_cli.backbones.locate import Located
    from ptv2_cli.config.schema import BackboneSection


def check_own_code(located: Located, section: BackboneSection) -> None:
    """Refuse a model that asks to run code that the config has not asked for; runs nothing.

    `trust_remote_code: true` allows code that lies beside the weights: of a hub id at a commit,
    of a folder as it is. Code of a further repository is never run, because no revision pins it.

    Raises:
        BackboneError: the model asks for code that may not be run.
    """
    asked = asked_code(located.folder)
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
