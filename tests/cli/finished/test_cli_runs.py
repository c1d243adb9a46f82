"""`ptv2 list runs`, `ptv2 clean`, and what commands say where nothing is trained yet."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from commandline import Material, Ptv2, Refused, tree

from ptv2_cli.cli import complete, console
from ptv2_cli.runs.inventory import runs_in
from ptv2_cli.runs.lock import locked


@pytest.fixture
def unfinished(finished: Path) -> Path:
    """A run that was interrupted, beside the finished one, and newer."""
    path = finished.with_name("config-finetune-p0-s11-0123abcd")
    shutil.copytree(finished, path)
    (path / "metrics.json").unlink()
    aged(finished, 7200)
    return path


def aged(run: Path, seconds: float) -> None:
    """Make every file of a run so much older."""
    for path in [run, *run.rglob("*")]:
        at = path.stat().st_mtime - seconds
        os.utime(path, (at, at))


def names() -> list[str]:
    return sorted(path.name for path in Path("runs").iterdir())


# ptv2 list runs


def test_the_newest_comes_first(finished: Path, unfinished: Path, ptv2: Ptv2) -> None:
    result = ptv2("list", "runs")
    assert result.code == 0, result.err
    head, first, second, total = result.out.splitlines()
    assert head.split() == ["run", "score", "age", "size", "state"]
    assert first.split()[0] == unfinished.name
    assert first.split()[1] == "-"
    assert first.endswith("interrupted")
    value = json.loads((finished / "metrics.json").read_text())["selection"]["value"]
    assert f"{finished.name}  accuracy {100 * value:.1f}  2 h " in second
    assert second.endswith("finished")
    assert total.startswith("2 runs in runs, ")
    assert ptv2("list", "runs", "runs").out == result.out


def test_sizes_are_those_of_the_disk(finished: Path) -> None:
    (kept,) = runs_in(Path("runs"))
    files = [path for path in finished.rglob("*") if path.is_file()]
    assert kept.size == sum(path.stat().st_blocks * 512 for path in files)


def test_states(finished: Path, unfinished: Path, ptv2: Ptv2) -> None:
    with locked(unfinished):
        assert "  training\n" in ptv2("list", "runs").out
    metrics = json.loads((finished / "metrics.json").read_text())
    (finished / "metrics.json").write_text(json.dumps({**metrics, "status": "diverged"}))
    assert "  diverged\n" in ptv2("list", "runs").out
    (finished / "metrics.json").write_text("{")
    assert "  damaged\n" in ptv2("list", "runs").out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["runs", "absent"], "absent: there is no such folder"),
        (["methods", "runs"], "ptv2 list methods takes no folder"),
    ],
)
def test_refused(refused: Refused, words: list[str], says: str) -> None:
    refused("list", *words, says=[says])


def test_a_run_is_no_folder_of_runs(finished: Path, refused: Refused) -> None:
    here = Path("runs", finished.name)
    refused("list", "runs", here, says=["is a run, not a folder of runs", "holds it: runs\n"])


def test_no_runs(ptv2: Ptv2) -> None:
    Path("runs/mine").mkdir(parents=True)
    Path("runs/mine/config.yaml").touch()  # no run: nothing was ever trained there
    assert ptv2("list", "runs").out == "no runs in runs\n"


# ptv2 clean


def test_unfinished_and_duplicate_runs_go(finished: Path, unfinished: Path, ptv2: Ptv2) -> None:
    shutil.copytree(finished, finished.with_name(f"z-{finished.name}"))
    result = ptv2("clean", "--yes")
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert sorted(line.split()[0] for line in lines[1:3]) == [unfinished.name, f"z-{finished.name}"]
    assert f"the same run as {finished.name}" in result.out
    assert f"2 runs in {Path('runs').absolute()}, " in result.out
    assert lines[-1].startswith("removed 2 runs, ")
    assert names() == [finished.name]
    assert ptv2("eval").code == 0
    assert ptv2("clean").out.startswith("nothing to remove in runs: ")


def test_it_asks(
    finished: Path, unfinished: Path, ptv2: Ptv2, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(Path("runs"))
    monkeypatch.setattr(console, "can_ask", lambda: True)
    for answer in ("", "no", "what?"):
        monkeypatch.setattr(console, "ask", lambda question, default, said=answer: said or default)
        result = ptv2("clean")
        assert result.out.endswith("nothing removed\n")
        assert tree(Path("runs")) == before
    monkeypatch.setattr(console, "ask", lambda question, default: "yes")
    assert ptv2("clean").code == 0
    assert names() == [finished.name]


def test_without_a_terminal_nothing_goes(finished: Path, unfinished: Path, ptv2: Ptv2) -> None:
    before = tree(Path("runs"))
    result = ptv2("clean")
    assert result.code == 2
    assert unfinished.name in result.out
    assert "  -> add --yes to remove them" in result.err
    assert tree(Path("runs")) == before


def test_a_run_that_trains_stays(finished: Path, unfinished: Path, ptv2: Ptv2) -> None:
    before = tree(Path("runs"))
    with locked(unfinished):
        result = ptv2("clean", "--yes")
    assert result.out.startswith("nothing to remove")
    assert "1 run being trained now: kept" in result.err
    assert tree(Path("runs")) == before


def test_a_run_that_somebody_begins_to_train_meanwhile_stays(
    finished: Path, unfinished: Path, ptv2: Ptv2, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptv2_cli.runs.inventory.in_use", lambda folder: False)
    with locked(unfinished):
        result = ptv2("clean", "--yes")
    assert result.code == 1
    assert f"{unfinished.name}: is being written by another process" in result.err
    assert result.out.endswith("removed 0 runs, 0.0 MB\n")
    assert unfinished.is_dir()


def test_without_locks_an_unfinished_run_stays(
    finished: Path, unfinished: Path, ptv2: Ptv2, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can tell whether another machine trains it."""

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr("fcntl.flock", refuse)
    result = ptv2("clean", "--yes")
    assert result.code == 1
    assert "has no locks" in result.err
    assert unfinished.is_dir()


def test_trials_of_a_sweep_under_way_stay(material: Material, ptv2: Ptv2) -> None:
    material.write(Path("config.yaml"))
    assert ptv2("sweep", "--prompt-len", "2,3").code == 0
    (sweep,) = Path("runs/sweeps").iterdir()
    one, other = sorted(path for path in Path("runs").glob("config-*"))
    (one / "metrics.json").unlink()
    with locked(sweep):
        assert ptv2("clean", "--yes").out.startswith("nothing to remove")
    assert ptv2("clean", "--yes").out.endswith("MB\n")
    assert names() == [other.name, "sweeps"]


def test_links_are_not_followed(finished: Path, unfinished: Path, ptv2: Ptv2) -> None:
    outside = Path("outside")
    shutil.move(unfinished, outside)
    (outside / "keep.txt").touch()
    unfinished.symlink_to(outside.absolute())
    inner = finished.with_name("config-finetune-p0-s11-0123abce")
    shutil.copytree(outside, inner)
    shutil.rmtree(inner / "checkpoints")
    (inner / "checkpoints").symlink_to((outside / "checkpoints").absolute())
    before = tree(outside)
    assert unfinished.name not in ptv2("list", "runs").out
    result = ptv2("clean", "--yes")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[-1].startswith("removed 1 run, ")
    assert tree(outside) == before
    assert names() == sorted([finished.name, unfinished.name])


def test_a_folder_of_another_name_is_somebodys_own(
    finished: Path, unfinished: Path, ptv2: Ptv2
) -> None:
    unfinished.rename("runs/kept")
    Path("runs/project-0123abcd").mkdir()
    Path("runs/project-0123abcd/config.yaml").touch()
    assert ptv2("clean", "--yes").out.startswith("nothing to remove")
    assert names() == sorted([finished.name, "kept", "project-0123abcd"])


# Where nothing is trained yet


def test_an_empty_folder(refused: Refused) -> None:
    for command in ("train", "check", "sweep"):
        says = ["config.yaml: there is no such config file", "ptv2 init writes a config.yaml"]
        refused(command, says=says)
    refused("eval", says=["runs: holds no finished run", "ptv2 init writes a config.yaml"])


def test_a_config_that_was_never_trained(material: Material, refused: Refused) -> None:
    material.write(Path("config.yaml"))
    refused("eval", says=["holds no finished run", "ptv2 train trains config.yaml"])


def test_an_interrupted_run_is_named(
    finished: Path, unfinished: Path, ptv2: Ptv2, refused: Refused
) -> None:
    command = f"ptv2 train runs/{unfinished.name}/config.yaml continues it"
    found = ptv2("eval")
    assert found.code == 0
    assert f"interrupted since then: runs/{unfinished.name}; {command}\n" in found.err
    aged(unfinished, 9000)
    assert "interrupted" not in ptv2("eval").err
    Path("config.yaml").unlink()
    refused("train", says=[f"{command} (it was interrupted)", "ptv2 init"])
    (finished / "metrics.json").unlink()
    shutil.rmtree(finished)
    refused("eval", says=[f"{command} (it was interrupted)", "ptv2 init"])


# What the Tab key offers


def offered(typed: str) -> list[str]:
    return [name for name, _ in complete.runs(typed)]


def test_runs_are_completed_the_newest_first(finished: Path, unfinished: Path) -> None:
    newer = finished.with_name("a-newer-one")
    shutil.copytree(finished, newer)
    aged(newer, -7200)
    (finished.parent / "sweeps").mkdir()
    done = [f"runs/{newer.name}", f"runs/{finished.name}"]
    assert offered("") == offered("runs/") == [*done, "runs/sweeps/"]
    assert offered("runs/config") == done[1:]
    assert offered("./runs/a") == [f"./runs/{newer.name}"]
    assert offered("ru")[0] == done[0]
    assert offered("no/such/folder") == []
    shutil.move("runs", "kept")
    assert offered("ke") == ["kept/"]
    assert offered("kept/a") == ["kept/a-newer-one"]
    (newer.parent.parent / "kept" / newer.name).rename("kept/b\x1b]0;x")
    assert offered("kept/b") == []


def test_commands_complete_runs() -> None:
    import typer

    from ptv2_cli.cli.app import app

    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, word in {"eval": "run", "predict": "run", "compare": "runs", "export": "run",
                       "report": "folders", "errors": "run"}.items():  # fmt: skip
        (parameter,) = [p for p in commands[name].params if p.name == word]
        assert parameter._custom_shell_complete is not None
