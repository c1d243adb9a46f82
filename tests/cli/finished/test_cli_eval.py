"""`ptv2 eval`: the same scores again, or the reason why not."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from commandline import Material, Ptv2, Refused, tree

LINE = re.compile(r"(\w+) (\w+) (\d+\.\d{4}), logged (\d+\.\d{4}|-), (equal|differs|-)")


def lines(text: str) -> list[tuple[str, ...]]:
    found = [LINE.fullmatch(line) for line in text.splitlines()]
    assert all(found), text
    return [match.groups() for match in found if match]


def change(run: Path, **scores: float) -> None:
    """Change the logged scores of the validation split."""
    content: dict[str, Any] = json.loads((run / "metrics.json").read_text())
    content["metrics"]["validation"].update(scores)
    (run / "metrics.json").write_text(json.dumps(content))


def test_a_run_without_a_holdout(finished: Path, refused: Refused) -> None:
    says = ["--split holdout: the run held no rows out of train", "--split validation"]
    refused("eval", finished, "--split", "holdout", says=says)


def test_the_newest_run(finished: Path, ptv2: Ptv2) -> None:
    older = finished.with_name(f"older-{finished.name}")
    shutil.copytree(finished, older)
    os.utime(older / "metrics.json", (1, 1))
    result = ptv2("eval")
    assert result.code == 0
    assert f"newest finished run: runs/{finished.name}\n" in result.err
    assert not (older / "eval").exists()
    found = lines(result.out)
    assert [line[:2] for line in found] == [("validation", "accuracy"), ("test", "accuracy")]
    assert all(line[2] == line[3] and line[4] == "equal" for line in found)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_what_it_writes(finished: Path, ptv2: Ptv2, split: str) -> None:
    before = tree(finished)
    result = ptv2("eval", finished)
    assert result.code == 0
    assert "newest" not in result.err
    written = json.loads((finished / "eval" / f"{split}.json").read_text())
    logged = json.loads((finished / "metrics.json").read_text())
    assert written["split"] == split
    assert written["metrics"] == written["logged"] == logged["metrics"][split]
    assert written["equal"] is True
    assert written["data"]["path"] is None
    assert written["data"]["sha256"] == logged["data"][split]["sha256"]
    after = {name: data for name, data in tree(finished).items() if not name.startswith("eval")}
    assert after == before


def test_json_alone_on_stdout(finished: Path, ptv2: Ptv2) -> None:
    result = ptv2("eval", "--json")
    assert result.code == 0
    content = json.loads(result.out)
    assert content["run"] == f"runs/{finished.name}"
    assert [score["split"] for score in content["scores"]] == ["validation", "test"]
    for score in content["scores"]:
        assert score["metric"] == "accuracy"
        assert 0 <= score["value"] == score["logged"] <= 1
        assert score["verdict"] == "equal"
    assert "newest finished run" in result.err


@pytest.mark.parametrize(
    ("asked", "split"), [("test", "test"), ("validation", "validation"), ("dev", "validation")]
)
def test_one_split(finished: Path, ptv2: Ptv2, asked: str, split: str) -> None:
    found = lines(ptv2("eval", finished, "--split", asked).out)
    assert [(line[0], line[4]) for line in found] == [(split, "equal")]
    assert [path.name for path in (finished / "eval").iterdir()] == [f"{split}.json"]


def test_a_split_that_was_not_reported(finished: Path, ptv2: Ptv2) -> None:
    (line,) = lines(ptv2("eval", finished, "--split", "train").out)
    assert line[0] == "train"
    assert line[3:] == ("-", "-")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_other_data(finished: Path, material: Material, ptv2: Ptv2, kind: str) -> None:
    Path("mine").mkdir()
    rows = (material.rte / "train.jsonl").read_text().splitlines(keepends=True)[:3]
    path = Path("mine/rows.jsonl" if kind == "file" else "mine/dev.jsonl")
    path.write_text("".join(rows))
    named = path if kind == "file" else path.parent
    result = ptv2("eval", finished, "--data", named)
    assert result.code == 0, result.err
    (line,) = lines(result.out.partition("\n")[2])
    assert line[0] == "validation"
    assert line[3:] == ("-", "-")
    (file,) = (finished / "eval").iterdir()
    written = json.loads(file.read_text())
    mark = written["data"]["sha256"]
    assert file.name == f"validation-{mark[:8]}.json"
    assert result.out.startswith(f"validation of {path}: 3 rows, sha256 {mark}\n")
    assert f"written: {file}\n" in result.err
    assert written["data"]["path"] == str(named.absolute())
    assert written["data"]["files"] == [str(path.absolute())]
    assert written["data"]["rows"] == 3
    assert written["logged"] is None
    assert written["equal"] is None


def test_other_data_as_another_split(finished: Path, material: Material, ptv2: Ptv2) -> None:
    data = material.rte / "val.jsonl"
    assert ptv2("eval", finished, "--data", data, "--split", "test").code == 0
    (file,) = (finished / "eval").iterdir()
    assert file.name.startswith("test-")


def test_other_data_leaves_the_evaluation_of_the_run(
    finished: Path, material: Material, ptv2: Ptv2
) -> None:
    """Its own rows by name, too: eval/validation.json is what the run itself reports."""
    assert ptv2("eval", finished).code == 0
    before = tree(finished / "eval")
    for name in ("train", "val"):
        assert ptv2("eval", finished, "--data", material.rte / f"{name}.jsonl").code == 0
    after = tree(finished / "eval")
    assert len(after) == len(before) + 2
    assert {name: after[name] for name in before} == before


def test_json_names_the_data(finished: Path, material: Material, ptv2: Ptv2) -> None:
    path = material.rte / "train.jsonl"
    found = json.loads(ptv2("eval", "--data", path, "--json").out)["data"]["validation"]
    assert found["path"] == str(path)
    assert found["rows"] == 8
    assert len(found["sha256"]) == 64
    assert json.loads(ptv2("eval", "--json").out)["data"]["validation"]["path"] is None


@pytest.mark.parametrize("json_", [False, True])
def test_scores_that_differ(finished: Path, ptv2: Ptv2, json_: bool) -> None:
    change(finished, accuracy=0.123)
    result = ptv2("eval", finished, *(["--json"] if json_ else []))
    assert result.code == 1
    assert "warning: the scores differ from the logged ones" in result.err
    if json_:
        verdicts = [score["verdict"] for score in json.loads(result.out)["scores"]]
    else:
        verdicts = [line[4] for line in lines(result.out)]
        assert ", logged 12.3000, differs" in result.out
    assert verdicts == ["differs", "equal"]
    assert json.loads((finished / "eval" / "validation.json").read_text())["equal"] is False


def test_data_that_changed_is_not_compared(material: Material, ptv2: Ptv2) -> None:
    shutil.copytree(material.rte, "data")
    material.write(Path("config.yaml"), task=material.task(data="data"))
    assert ptv2("train").code == 0
    with Path("data/val.jsonl").open("a") as file:
        file.write((material.rte / "train.jsonl").read_text())
    result = ptv2("eval")
    assert result.code == 0
    (line,) = lines(result.out)
    assert line[3:] == ("-", "-")


def test_a_run_that_was_moved(finished: Path, ptv2: Ptv2, tmp_path: Path) -> None:
    shutil.move(finished, "kept")
    assert lines(ptv2("eval", "kept").out)[0][4] == "equal"
