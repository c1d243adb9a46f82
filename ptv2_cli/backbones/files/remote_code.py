"""Models with their own code: an error, unless the config allows exactly that code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ptv2_cli.backbones.files.model_files import requested_code
from ptv2_cli.errors import BackboneError

if TYPE_CHECKING:
    from ptv2_cli.backbones.files.locate import Located
    from ptv2_cli.config.schema import BackboneSection


def check_own_code(located: Located, section: BackboneSection) -> None:
    """Check that the config allows the code that a model asks for; runs none of it.

    `trust_remote_code: true` allows code beside the weights: for a hub id at a commit, for a
    folder as it is. Code from another repository never runs, because no revision pins it.

    Raises:
        BackboneError: the model asks for code that is not allowed.
    """
    requested = requested_code(located.folder)
    if not requested:
        return
    where = f"backbone {located.name}"
    elsewhere = [name for name in requested if "--" in name]
    if not section.trust_remote_code:
        raise BackboneError.at(
            where,
            f"asks to run its own Python code ({requested[0]}); nothing was run",
            f"read that code first, then write {_section(located)}; or use a copy of the files "
            "without auto_map, which transformers' own code loads",
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
            f"runs its own code, and revision {section.revision} may mean other code tomorrow",
            f"read the code, then pin it: --set backbone.revision={located.commit}",
        )


def _section(located: Located) -> str:
    pin = f"revision: {located.commit}, " if located.commit else ""
    return f"backbone: {{name: {located.name}, {pin}trust_remote_code: true}}"
