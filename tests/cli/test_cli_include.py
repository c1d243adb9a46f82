"""A method and a tracker out of an included file, from `ptv2 train` to a run without the file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commandline import Material, Ptv2, only_run

from ptv2_cli import plugins
from ptv2_cli.registry import METHODS, TRACKERS

CODE = """\
from ptv2_cli.methods.ptuning_v2 import PTuningV2
from ptv2_cli.registry import METHODS, TRACKERS


class Mine(PTuningV2):
    \"\"\"Prompts of mine.\"\"\"


class Steps:
    \"\"\"Notes every event.\"\"\"

    def __init__(self, run, options):
        self.path = run.directory.path / "events.txt"

    def on(self, event):
        with self.path.open("a") as file:
            print(type(event).__name__, file=file)

    def close(self):
        self.on("closed")


METHODS.add("mine", Mine)
TRACKERS.add("steps", Steps)
"""


@pytest.fixture(autouse=True)
def registries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Registries as they were, whatever a test adds."""
    for registry in (METHODS, TRACKERS):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
        monkeypatch.setattr(registry, "_sources", dict(registry._sources))
    monkeypatch.setattr(plugins, "_ADDED", {})
    return


@pytest.fixture
def config(material: Material) -> Path:
    Path("mine.py").write_text(CODE)
    return material.write(Path("config.yaml"), method="mine", include="mine.py", track="steps")


def forget() -> None:
    """As in a new process."""
    plugins._ADDED.clear()
    for registry, name in ((METHODS, "mine"), (TRACKERS, "steps")):
        del registry._entries[name], registry._sources[name]


def metrics_of(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "metrics.json").read_text())
    return content


def test_a_run_keeps_a_copy_and_works_without_the_file(config: Path, ptv2: Ptv2) -> None:
    trained = ptv2("train")
    assert trained.code == 0, trained.err
    assert "runs the code of" in trained.err
    assert trained.err.count("mine.py (sha256 ") == 1
    run = only_run()
    assert (run / "include" / "mine.py").read_text() == CODE
    (plugin,) = metrics_of(run)["plugins"]
    assert (plugin["name"], len(plugin["sha256"])) == ("mine.py", 64)
    events = (run / "events.txt").read_text().split()
    assert (events[0], events[-2:]) == ("Started", ["Finished", "str"])
    Path("mine.py").unlink()
    forget()
    again = ptv2("eval")
    assert again.code == 0, again.err
    # The run's own config is the same run.
    assert ptv2("train", run / "config.yaml").code == 0
    assert len(list(Path("runs").iterdir())) == 1


def test_the_content_of_the_file_belongs_to_the_fingerprint(config: Path, ptv2: Ptv2) -> None:
    assert ptv2("train").code == 0
    Path("mine.py").rename("other.py")
    config.write_text(config.read_text().replace("mine.py", "other.py"))
    assert ptv2("train").code == 0
    assert len(list(Path("runs").iterdir())) == 1  # the name is of no matter
    Path("other.py").write_text(CODE + "# edited\n")
    assert ptv2("train").code == 0
    assert len(list(Path("runs").iterdir())) == 2


def test_a_file_that_only_tracks_is_the_same_run(material: Material, ptv2: Ptv2) -> None:
    material.write(Path("config.yaml"))
    assert ptv2("train").code == 0
    Path("track.py").write_text(CODE.replace('METHODS.add("mine", Mine)\n', ""))
    assert ptv2("train", "--include", "track.py", "--set", "track=steps").code == 0
    assert metrics_of(only_run())["plugins"] == []


def test_lanes_and_the_best_setting_of_a_sweep(config: Path, ptv2: Ptv2) -> None:
    swept = ptv2("sweep", "--seed", "1,2", "--lanes", "2")
    assert swept.code == 0, swept.err
    (best,) = Path("runs/sweeps").glob("*/best.yaml")
    assert ptv2("check", best).code == 0
    assert (best.parent / "include" / "mine.py").read_text() == CODE


def test_a_file_elsewhere_is_refused_and_the_flag_takes_it(config: Path, ptv2: Ptv2) -> None:
    elsewhere = Path("elsewhere")
    elsewhere.mkdir()
    moved = config.rename(elsewhere / "config.yaml")
    moved.write_text(moved.read_text().replace("include: mine.py", "include: ../mine.py"))
    refused = ptv2("check", moved)
    assert refused.code == 2
    assert "not below the config's folder" in " ".join(refused.err.split())
    assert "--include" in refused.err
    moved.write_text(moved.read_text().replace("include: ../mine.py\n", ""))
    assert ptv2("check", moved, "--include", "mine.py").code == 0


def test_names_are_listed_with_where_they_come_from(config: Path, ptv2: Ptv2) -> None:
    listed = ptv2("list", "methods", "--include", "mine.py")
    assert "Prompts of mine. (from mine.py)" in " ".join(listed.out.split())
    assert "Notes every event. (from mine.py)" in " ".join(ptv2("list", "trackers").out.split())


def test_a_tracker_that_nobody_has_is_refused(material: Material, ptv2: Ptv2) -> None:
    material.write(Path("config.yaml"), track="stepz")
    Path("mine.py").write_text(CODE)
    refused = ptv2("train", "--include", "mine.py")
    assert refused.code == 2
    assert "unknown tracker 'stepz'" in refused.err
    assert "did you mean 'steps'" in refused.err
