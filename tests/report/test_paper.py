"""The seed paper's tables and figures, filled from runs, with published scores that say so."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from latex_check import tables
from made import content, write

from ptv2_cli.errors import InputError
from ptv2_cli.report.build import build_report
from ptv2_cli.report.paper import text as paper_table
from ptv2_cli.report.paper.figures import depth_picture, draw_figures, size_figure
from ptv2_cli.report.paper.published import published
from ptv2_cli.report.paper.tables import HERE, PaperTable, paper_tables
from ptv2_cli.report.runs import find_runs
from ptv2_cli.tasks.catalog import load_task

CONFIGS = Path(__file__).parents[2] / "configs"
BERT = "bert-large-cased"


def run(folder: Path, backbone: str = BERT, **made: Any) -> None:
    metrics = content(**made)
    metrics["backbone"]["name"] = backbone
    metrics["parameters"]["backbone"] = 335_000_000 if backbone == BERT else 22_000_000
    name = f"{backbone.replace('/', '-')}-{metrics['fingerprint']}"
    write(folder, metrics, name=name)


def filled(folder: Path) -> list[PaperTable]:
    return paper_tables(find_runs([folder]))


def row(table: PaperTable, backbone: str, key: str, source: str = HERE) -> dict[str, Any]:
    (found,) = [r for r in table.rows if (r.backbone, r.key, r.source) == (backbone, key, source)]
    return dict(zip([column.name for column in table.columns], found.cells, strict=True))


def test_every_published_row_has_a_score_or_nothing_for_each_column() -> None:
    for table in published().tables:
        for item in table.rows:
            assert len(item.scores) == len(table.columns)
            assert all(score is None or 0 < score <= 1 for score in item.scores)
            assert item.source in published().sources
            assert item.backbone in published().parameters
            assert item.method in published().methods
        for column in table.columns:
            assert column.metric in load_task(column.task, {}).metrics
        assert set(table.figure) <= {column.name for column in table.columns}


def test_the_repositorys_scores_are_those_of_the_shipped_configs() -> None:
    """Each shipped recipe of the reference quotes its score in a comment."""
    quoted = {}
    for path in CONFIGS.glob("*-ptuning_v2.yaml"):
        text = path.read_text(encoding="utf-8")
        line = re.search(r"# Reference repository.*", text)
        if line:
            backbone = yaml.safe_load(text)["backbone"]["name"]
            task = yaml.safe_load(text)["task"]
            name = task if isinstance(task, str) else task["name"]
            figures = re.findall(r"\b(?:accuracy|F1|EM) (\d+\.\d)|and (\d+\.\d) on Brown", line[0])
            quoted[published().names[backbone], name] = [float(a or b) for a, b in figures]
    assert len(quoted) > 15
    for table in published().tables:
        for item in table.rows:
            if item.source != "repository":
                continue
            scores: dict[str, list[float]] = {}
            for column, score in zip(table.columns, item.scores, strict=True):
                if score is not None:
                    scores.setdefault(column.task, []).append(round(100 * score, 1))
            for task, values in scores.items():
                assert quoted.pop((item.backbone, task)) == values
    assert not quoted


def test_runs_stand_beside_the_published_scores(tmp_path: Path) -> None:
    for seed, score in ((11, 0.70), (12, 0.74)):
        run(tmp_path, task="superglue/rte", score=score, seed=seed)
    run(tmp_path, task="superglue/rte", score=0.6, method="finetune", prompt_len=None)
    (table,) = filled(tmp_path)
    cells = row(table, "BERT-large", "ptuning_v2")
    assert cells["RTE"].mean == pytest.approx(0.72)
    assert cells["RTE"].sd == pytest.approx(0.028284, abs=1e-6)
    assert len(cells["RTE"].runs) == 2
    assert cells["CB"] is None
    paper = row(table, "BERT-large", "ptuning_v2", "paper")
    assert (paper["RTE"].mean, paper["RTE"].runs) == (0.783, ())
    order = [(r.backbone, r.key, r.source) for r in table.rows]
    assert order[:3] == [
        ("BERT-large", "finetune", "paper"),
        ("BERT-large", "finetune", HERE),
        ("BERT-large", "prompt_tuning", "paper"),
    ]


def test_the_setting_is_chosen_by_the_selection_split(tmp_path: Path) -> None:
    """Not by the reported one: that would choose on the test split."""
    for rate, chosen, tested in ((0.1, 0.9, 0.5), (0.2, 0.8, 0.7)):
        metrics = content(task="ner/conll2003", score=chosen, train__lr=rate)
        metrics["backbone"]["name"] = BERT
        metrics["metrics"]["test"] = {"f1": tested}
        metrics["data"]["test"] = {"rows": 6, "sha256": "e" * 64}
        folder = write(tmp_path, metrics | {"metrics": {"validation": {"f1": chosen}}})
        (folder / "metrics.json").write_text(json.dumps(metrics))
    (table,) = filled(tmp_path)
    assert row(table, "BERT-large", "ptuning_v2")["CoNLL03"].mean == 0.5
    assert table.notes == ()


def test_another_split_than_the_published_one_is_said(tmp_path: Path) -> None:
    run(tmp_path, task="ner/conll2003", score=0.8)
    (table,) = filled(tmp_path)
    assert row(table, "BERT-large", "ptuning_v2")["CoNLL03"].mean == 0.8
    assert "published scores are on test" in table.notes[0]


def test_the_largest_set_of_rows_counts(tmp_path: Path) -> None:
    run(tmp_path, score=0.9, rows=6)
    run(tmp_path, score=0.7, rows=56, data="d" * 64)
    (table,) = filled(tmp_path)
    assert row(table, "BERT-large", "ptuning_v2")["CB"].mean == 0.7


def test_other_methods_and_backbones_have_rows_of_their_own(tmp_path: Path) -> None:
    run(tmp_path, "package:mini/model", score=0.7, method="lora", prompt_len=None)
    (table,) = filled(tmp_path)
    assert table.rows[-1].backbone == "mini"
    assert row(table, "mini", "lora")["CB"].mean == 0.7


def test_runs_of_other_tasks_alone_are_refused(tmp_path: Path) -> None:
    run(tmp_path, task="glue/sst2")
    with pytest.raises(InputError, match=r"the runs are of glue/sst2"):
        filled(tmp_path)


def test_published_scores_say_so_in_every_output(tmp_path: Path) -> None:
    run(tmp_path, score=0.7)
    found = filled(tmp_path)
    (table,) = found
    grid = paper_table.grid(table)
    assert {cells[2] for cells in grid.rows} == {
        "here", "published (paper)", "published (repository)"
    }  # fmt: skip
    lines = "\n".join(paper_table.caption(table))
    assert "published (paper): Liu et al. 2022" in lines
    assert "not checked" in lines
    assert "GLM-xlarge and GLM-xxlarge are not known here" in lines
    records = list(csv.DictReader(io.StringIO(paper_table.csv_text(found))))
    assert all((r["scores"] == "here") == bool(r["seeds"]) for r in records)
    plain = paper_table.content(found)
    for item in plain["tables"][0]["rows"]:
        assert item["published"] == all(not c or not c["runs"] for c in item["cells"])
    assert "| published (paper) |" in paper_table.markdown(table)
    text = paper_table.latex(found)
    (rows,) = tables(text)
    for cells in rows:
        if cells[2].startswith("published"):
            assert all(c == "--" or c.startswith(r"\textit{") for c in cells[3:])
    assert r"\textit{\textbf{94.6}}" in text
    assert "Italic: published" in text


def test_figure_1_is_a_mean_of_the_same_tasks_for_all(tmp_path: Path) -> None:
    for task, score in (("rte", 0.6), ("boolq", 0.7), ("cb", 0.8), ("wic", 0.1)):
        run(tmp_path, task=f"superglue/{task}", score=score)
    figure = size_figure(filled(tmp_path))
    assert figure is not None
    assert figure.tasks == ("BoolQ", "CB", "RTE")
    points = {(p.method, p.source, p.backbone): p.score for p in figure.points}
    assert points["P-tuning v2", HERE, "BERT-large"] == pytest.approx(0.7)
    mean = (0.758 + 0.946 + 0.783) / 3
    assert points["P-tuning v2", "paper", "BERT-large"] == pytest.approx(mean)
    # The repository has no CB: no mean of all three.
    assert ("P-tuning v2", "repository", "BERT-large") not in points
    run(tmp_path, "mini", task="superglue/rte", score=0.5)
    figure = size_figure(filled(tmp_path))
    assert figure is not None
    assert figure.tasks == ("RTE",)


def test_figure_3_joins_ends_and_intervals(tmp_path: Path) -> None:
    layers = {"1-8": 0.5, "1-16": 0.6, "17-24": 0.7, "9-24": 0.75, "first:4": 0.4, "5-20": 0.9}
    for name, score in layers.items():
        run(tmp_path, task="superglue/rte", score=score, method__layers=name)
    run(tmp_path, task="superglue/rte", score=0.8, method__layers=None)
    report = build_report(find_runs([tmp_path]))
    picture = depth_picture(report, report.columns[0], BERT)
    assert picture is not None
    lines = {one.label: dict(zip(one.x, one.mean, strict=True)) for one in picture.series}
    assert lines == {
        "the first k layers": {4: 0.4, 8: 0.5, 16: 0.6},
        "the last k layers": {8: 0.7, 16: 0.75},
    }
    assert picture.levels[0] == ("all layers", 0.8)
    assert depth_picture(report, report.columns[0], "other") is None


def test_the_figures_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name, score in (("first:1", 0.5), ("first:2", 0.6)):
        run(tmp_path / "runs", task="superglue/rte", score=score, method__layers=name)
    found = find_runs([tmp_path / "runs"])
    files = list(draw_figures(build_report(found), paper_tables(found), tmp_path / "out"))
    assert [file.name for file in files] == [
        "figure-1.png", "figure-1.svg", "figure-3-rte-BERT-large.png",
        "figure-3-rte-BERT-large.svg",
    ]  # fmt: skip
    assert "published (paper)" in files[1].read_text(encoding="utf-8")
