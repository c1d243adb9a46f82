"""Shared fixtures: tiny random backbones, made once for the whole session."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Runs are bit-equal for one thread count; it has to be set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# Equal examples in every run; PTV2_FUZZ asks for other and more ones, see scripts/fuzz.
settings.register_profile(
    "ptv2",
    derandomize=not os.environ.get("PTV2_FUZZ"),
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("ptv2")


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`folder_of("bert")`: the folder of that family's tiny model; made on first use."""
    import tiny

    made: dict[str, Path] = {}

    def get(family: str) -> Path:
        if family not in made:
            made[family] = tiny.save_model(tmp_path_factory.mktemp(family), family)
        return made[family]

    return get


@pytest.fixture(scope="session")
def backbone_of(folder_of: Callable[..., Path]) -> Callable[..., Any]:
    """`backbone_of("bert")`: a loaded backbone in eval mode, shared: not to be changed."""
    import tiny

    made: dict[str, Any] = {}

    def get(family: str) -> Any:
        if family not in made:
            made[family] = tiny.load(folder_of(family)).eval()
        return made[family]

    return get
