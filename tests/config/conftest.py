from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ptv2_cli.config.load import LoadedConfig, load_config, parse_set, parse_unset
from ptv2_cli.errors import ConfigError, Problem

BASE = """\
method: ptuning_v2
backbone: roberta-large
task: superglue/rte
prompt_len: 20
"""

Write = Callable[..., Path]
Load = Callable[..., LoadedConfig]
Fail = Callable[..., list[Problem]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a config, by default after the four names and a length."""

    def writer(text: str = "", name: str = "config.yaml", base: str = BASE) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(base + text, encoding="utf-8")
        return path

    return writer


@pytest.fixture
def load(write: Write) -> Load:
    """Load a config text with `--set` texts; `-key` means `--unset key`."""

    def loader(text: str = "", *sets: str, base: str = BASE) -> LoadedConfig:
        made = [parse_unset(s[1:]) if s.startswith("-") else parse_set(s) for s in sets]
        return load_config(write(text, base=base), made)

    return loader


@pytest.fixture
def fail(load: Load, tmp_path: Path) -> Fail:
    """The problems of a config; files are shown relative to its folder."""

    def failing(text: str = "", *sets: str, base: str = BASE) -> list[Problem]:
        with pytest.raises(ConfigError) as caught:
            load(text, *sets, base=base)
        return [
            replace(p, where=p.where.replace(f"{tmp_path}/", "")) for p in caught.value.problems
        ]

    return failing
