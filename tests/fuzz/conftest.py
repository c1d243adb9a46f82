"""What the fuzzers share: their settings, a folder to work in, tiny models and data."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commanding import EFFORT, Commands
from hypothesis import HealthCheck, settings

# Equal examples in every run, unless PTV2_FUZZ asks for more and other ones.
settings.register_profile(
    "ptv2",
    derandomize=EFFORT == 1,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("ptv2")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The current folder of a file of tests; offline, 80 columns wide."""
    folder = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("COLUMNS", "80")
        patch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
        yield folder


@pytest.fixture(scope="module")
def ptv2(here: Path) -> Iterator[Commands]:
    """The command line, which may refuse but not break."""
    with pytest.MonkeyPatch.context() as patch:
        yield Commands(patch)


@pytest.fixture(scope="session")
def bert(folder_of: Callable[[str], Path]) -> Path:
    """A tiny backbone; not to be changed."""
    assert "OMP_NUM_THREADS" in os.environ
    return folder_of("bert")


@pytest.fixture(scope="session")
def rte(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few rows of RTE; not to be changed."""
    import tiny

    return tiny.write_rte(tmp_path_factory.mktemp("rte"), train=8, validation=4, test=2)
