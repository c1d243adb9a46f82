"""`ptv2 schema`: the config's JSON Schema, for editors and other programs."""

from __future__ import annotations

from ptv2_cli.cli import console


def schema() -> None:
    """Print a config's JSON Schema, by which editors complete it."""
    from ptv2_cli.setup.schema import config_schema

    console.as_json(config_schema())
