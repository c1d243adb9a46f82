"""What every section of a config is."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from ptv2_cli.config.fields import Text


class Section(BaseModel):
    """A mapping of the config: strict types, no unknown keys, immutable, finite numbers.

    The options models of methods and tasks derive from it too (see `load.options_from`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _empty_section(cls, value: Any) -> Any:
        """A section whose lines are all commented out reads as null."""
        return {} if value is None else value


class Named(Section):
    """A section that may be given as its bare name."""

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return value if isinstance(value, dict | list | None) else {"name": value}


class OpenNamed(Named):
    """A named section whose further keys belong to the thing named (its own options model)."""

    model_config = ConfigDict(extra="allow")

    name: Text

    @property
    def options(self) -> dict[str, Any]:
        """The keys beside the fields declared here."""
        return dict(self.model_extra or {})
