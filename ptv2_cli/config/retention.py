"""`retention:` - how far a run moves what its language model says elsewhere."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from ptv2_cli.config.fields import Text
from ptv2_cli.config.section import Section


class RetentionSection(Section):
    """`retention:` - the text on which the run's model is compared with the bare one."""

    text: Text | None = Field(
        None, description="file of plain text in UTF-8; default: a text that comes with ptv2"
    )
    max_tokens: int = Field(4096, ge=2, description="number of tokens to read from the text")


def _switched(value: Any) -> Any:
    """`true` is a section with its defaults, `false` is none."""
    return {True: {}, False: None}[value] if isinstance(value, bool) else value


Retention = Annotated[RetentionSection | None, BeforeValidator(_switched)]
