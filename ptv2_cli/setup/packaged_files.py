"""Files that come with ptv2: in the installed package, or beside it in the source tree."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def schema_file() -> Path:
    """The written JSON Schema of a config."""
    inside = _PACKAGE / "docs" / "schema.json"
    return inside if inside.is_file() else _PACKAGE.parent / "docs" / "schema.json"


def shipped_configs() -> Path:
    """The folder of the configs that come with ptv2."""
    inside = _PACKAGE / "configs"
    return inside if inside.is_dir() else _PACKAGE.parent / "configs"


def shipped_names() -> list[str]:
    """Names of these configs, as `ptv2 list configs` shows them: `cb-minilm`, `paper/published`."""
    folder = shipped_configs()
    return sorted(
        path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")
    )
