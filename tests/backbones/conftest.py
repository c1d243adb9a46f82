from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def folder(folder_of: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of the tiny BERT that a test may damage."""
    return shutil.copytree(folder_of("bert"), tmp_path / "model")
