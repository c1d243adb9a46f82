"""What the fuzzers share: a folder to work in, the command line, a tiny model and data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commanding import Commands


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
    return folder_of("bert")


@pytest.fixture(scope="session")
def rte(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few rows of RTE; not to be changed."""
    import tiny

    return tiny.write_rte(tmp_path_factory.mktemp("rte"), train=8, validation=4, test=2)
