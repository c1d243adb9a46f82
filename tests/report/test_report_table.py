"""Runs as a table: which runs share a cell, and what stands in it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from made import content, unfinished, write

from ptv2_cli.errors import InputError, RunError
from ptv2_cli.report import export
from ptv2_cli.report.build import build_report
from ptv2_cli.report.cells import Report
from ptv2_cli.report.runs import find_runs, plain
from ptv2_cli.report.table import caption, grid
from ptv2_cli.report.text_table import Grid, blocks, escaped, markdown_table, seconds


@pytest.fixture
def report_of(tmp_path: Path) -> Any:
    """`report_of({...}, {...})`: the report of runs made with these values."""

    def make(*runs: dict[str, Any], **asked: str) -> Report:
        for run in runs:
            write(tmp_path, **run)
        return build_report(find_runs([tmp_path]), **asked)

    return make


def cells(report: Report) -> list[list[str]]:
    """The rows of runs, without marks and without what stands below them."""
    rows = grid(report).rows[: len(report.lines)]
    return [[text.rstrip(" *~?!") for text in row] for row in rows]


def test_mean_and_sample_sd_over_seeds(report_of: Any) -> None:
    scores = (0.70, 0.74, 0.81)
    report = report_of(*({"seed": 11 + n, "score": s} for n, s in enumerate(scores)))
    (cell,) = report.lines[0].cells.values()
    # Mean 0.75; deviations -5, -1, 6 hundredths: sqrt(62 / 2) = 5.568.
    assert cell.mean == pytest.approx(0.75)
    assert cell.sd == pytest.approx(math.sqrt(31) / 100)
    assert cells(report) == [["ptuning_v2", "20", "75.0±5.6", "0.42", "60 s"]]
    assert "over 3 seeds" in caption(report)[0]


def test_one_seed_has_no_spread(report_of: Any) -> None:
    report = report_of({})
    assert cells(report)[0][2] == "50.0"
    assert "one seed each" in caption(report)[0]


def test_counts_are_shown_where_they_differ(report_of: Any) -> None:
    report = report_of({}, {"seed": 12}, {"method": "head_only", "prompt_len": None})
    assert [row[2] for row in cells(report)] == ["50.0±0.0 (2)", "50.0 (1)"]
    assert "(seeds)" in caption(report)[0]


def test_average_over_the_tasks_that_every_row_has(report_of: Any) -> None:
    other = {"method": "head_only", "prompt_len": None}
    report = report_of(
        {"score": 0.6},
        {"score": 0.8, "task": "superglue/rte"},
        {"score": 0.1, "task": "superglue/boolq"},
        {"score": 0.2, **other},
        {"score": 0.5, "task": "superglue/rte", **other},
    )
    assert grid(report).headings == [
        "method", "prompt", "boolq\naccuracy", "cb\naccuracy", "rte\naccuracy", "average",
        "trainable\n%", "time",
    ]  # fmt: skip
    assert [row[2:6] for row in cells(report)] == [
        ["10.0", "60.0", "80.0", "70.0"],
        ["-", "20.0", "50.0", "35.0"],
    ]
    assert "every row has (cb, rte)" in caption(report)[1]


def test_no_average_over_a_single_common_task(report_of: Any) -> None:
    report = report_of({}, {"task": "superglue/rte", "method": "finetune", "prompt_len": None})
    assert "average" not in grid(report).headings


def test_a_key_that_differs_within_a_cell_makes_rows(report_of: Any) -> None:
    report = report_of(
        {"score": 0.5, "train__lr": 0.1},
        {"score": 0.7, "train__lr": 0.02},
        {"score": 0.9, "train__lr": 0.02, "seed": 12},
        {"method": "finetune", "prompt_len": None, "train__lr": 1e-5},
    )
    # Values in the order of numbers; finetune has one rate and needs none named.
    assert [row[:4] for row in cells(report)] == [
        ["ptuning_v2", "20", "lr 0.02", "80.0±14.1 (2)"],
        ["ptuning_v2", "20", "lr 0.1", "50.0 (1)"],
        ["finetune", "-", "-", "50.0 (1)"],
    ]


def test_rates_chosen_per_task_do_not_split_a_row(report_of: Any) -> None:
    report = report_of({"train__lr": 0.1}, {"train__lr": 0.02, "task": "superglue/rte"})
    assert len(report.lines) == 1
    assert report.lines[0].key.keys == ()


def test_keys_that_go_together_are_named_once(report_of: Any) -> None:
    report = report_of(
        {"train__lr": 0.1, "train__epochs": 5}, {"train__lr": 0.2, "train__epochs": 9}
    )
    assert [line.key.setting for line in report.lines] == ["lr 0.1", "lr 0.2"]


def test_the_rate_of_the_head_keeps_its_section(report_of: Any) -> None:
    report = report_of({"head__lr": 0.1}, {"head__lr": 0.2})
    assert [line.key.setting for line in report.lines] == ["head.lr 0.1", "head.lr 0.2"]


def test_another_train_set_is_another_row(report_of: Any) -> None:
    report = report_of({}, {"seed": 12, "task__limit__train": 100})
    assert [line.key.setting for line in report.lines] == ["limit.train 100", "limit.train null"]


def test_a_limit_of_a_split_that_nobody_read_is_no_difference(report_of: Any) -> None:
    assert len(report_of({}, {"seed": 12, "task__limit__test": 100}).lines) == 1


def test_the_same_task_on_other_rows_is_another_column(report_of: Any) -> None:
    report = report_of(
        {"task__data": "/x/small"}, {"seed": 12, "data": "d" * 64, "task__data": "/x/large"}
    )
    assert sorted(report.names.values()) == ["cb large", "cb small"]
    assert [len(line.cells) for line in report.lines] == [2]


def test_holdouts_of_several_seeds_share_a_column(report_of: Any) -> None:
    runs = [{"split": "holdout", "seed": seed, "rows": 5 + seed} for seed in (11, 12)]
    report = report_of(*runs)
    assert len(report.columns) == 1
    assert report.columns[0].split == "holdout"


def test_unequal_conditions_are_said(report_of: Any) -> None:
    report = report_of({}, {"method": "finetune", "prompt_len": None, "train__epochs": 9})
    assert report.notes == ("rows of cb differ in train.epochs (3, 9)",)


def test_methods_own_choices_are_not_unequal(report_of: Any) -> None:
    report = report_of(
        {"method__reparam": "mlp"}, {"method": "finetune", "prompt_len": None, "train__lr": 1e-5}
    )
    assert report.notes == ()


def test_metric_and_split(report_of: Any) -> None:
    report = report_of({"score": 0.8}, {"task": "ner/conll2003"}, metric="f1_macro")
    assert [column.metric for column in report.columns] == ["f1_macro", "f1_macro"]
    assert cells(report)[0][3] == "40.0"


def test_runs_without_the_metric_are_left_out_and_named(tmp_path: Path) -> None:
    write(tmp_path)
    named = write(tmp_path, task="ner/conll2003")
    report = build_report(find_runs([tmp_path]), metric="accuracy")
    assert len(report.columns) == 1
    assert report.notes == (f"without accuracy, left out: {named.name}",)


def test_a_metric_that_no_run_has(report_of: Any) -> None:
    with pytest.raises(InputError) as caught:
        report_of({}, metric="bleu", split="test")
    text = str(caught.value)
    assert "--split test --metric bleu" in text
    assert "splits: validation; metrics: accuracy, f1_macro" in text


def test_diverged_runs_are_in_no_mean(report_of: Any) -> None:
    report = report_of(
        {"score": 0.6},
        {"score": 0.1, "seed": 12, "status": "diverged"},
        {"score": None, "method": "finetune", "prompt_len": None, "status": "diverged"},
    )
    assert [row[2] for row in cells(report)] == ["60.0 (1)", "diverged"]
    assert any(note.startswith("diverged, in no mean: 2: ") for note in report.notes)


def imported(mark: str) -> dict[str, Any]:
    return {"kind": "imported from peft", "file": f"/x/{mark}", "sha256": mark * 64}


def test_an_imported_run_is_no_further_seed(report_of: Any) -> None:
    report = report_of(
        {"score": 0.6}, {"score": 0.8, "seed": 12}, {"score": 0.2, "origin": imported("1")}
    )
    assert [row[:3] + row[4:] for row in cells(report)] == [
        ["ptuning_v2", "20", "70.0±14.1 (2)", "60 s"],
        ["ptuning_v2, imported", "20", "20.0 (1)", "-"],
    ]
    assert report.notes == ()


def test_memory_is_the_largest_peak(report_of: Any) -> None:
    report = report_of(
        {"peak": 3 * 2**29},
        {"peak": 2**29, "seed": 12},
        {"peak": 2**33, "task": "superglue/rte"},
        {"peak": 2**28, "method": "head_only", "prompt_len": None},
        {"peak": 2**28, "origin": imported("1")},
    )
    table = grid(report, wide=True)
    assert table.headings[-1] == "memory"
    assert [row[-1] for row in table.rows[:3]] == ["1.5 GiB", "-", "256 MiB"]
    assert [row["peak_bytes"] for row in export.content(report)["rows"]] == [3 * 2**29, None, 2**28]
    lines = export.csv_text(report).splitlines()
    assert lines[0].endswith(",peak_bytes")
    assert [line.split(",")[-1] for line in lines[1:]] == [str(3 * 2**29), "", str(2**28)]
    assert "memory: its peak" in " ".join(caption(report, wide=True))
    assert "memory" not in " ".join([*grid(report).headings, *caption(report)])


def test_two_imported_runs_are_two_rows(report_of: Any) -> None:
    report = report_of({"origin": imported("1")}, {"origin": imported("2"), "seed": 12})
    assert [row[2] for row in cells(report)] == ["checkpoint 11111111", "checkpoint 22222222"]


def test_a_folded_run_counts_for_the_run_that_it_was_made_of(tmp_path: Path) -> None:
    made = content()
    folded = {**made, "origin": {"kind": "folded", "run": "x"}}
    first = write(tmp_path, folded, name="a")
    assert [row[0] for row in cells(build_report(find_runs([first])))] == ["ptuning_v2, folded"]
    run = write(tmp_path, made, name="b")
    found = find_runs([tmp_path])
    assert [one.directory.path for one in found.runs] == [run]
    assert [one.path for one in found.copies] == [first]


def test_runs_are_found_below_a_folder_that_has_a_config(tmp_path: Path) -> None:
    project = tmp_path / "project"
    run = write(project / "runs")
    (project / "config.yaml").write_text("method: finetune\n")
    (project / "configs").mkdir()
    (project / "configs" / "config.yaml").write_text("method: finetune\n")
    for folder in (tmp_path, project):
        found = find_runs([folder])
        assert [one.directory.path for one in found.runs] == [run]
        assert found.unfinished == ()


def test_folders_and_runs_and_copies(tmp_path: Path) -> None:
    run = write(tmp_path / "one")
    write(tmp_path / "one", seed=12)
    copy = write(tmp_path / "two", content(), name="copied")
    killed = unfinished(tmp_path / "two")
    found = find_runs([tmp_path / "one", run, tmp_path / "two"])
    assert [one.seed for one in found.runs] == [11, 12]
    assert [one.path for one in found.copies] == [copy]
    assert [one.path for one in found.unfinished] == [killed]
    notes = build_report(found).notes
    assert notes == ("unfinished, not counted: killed", "copies of runs already counted: copied")


@pytest.mark.parametrize(
    ("version", "says"),
    [(99, "has schema version 99, this ptv2 reads 1"), (None, "is no metrics.json")],
)
def test_metrics_of_another_version_are_all_named(
    tmp_path: Path, version: int | None, says: str
) -> None:
    write(tmp_path)
    bad = [write(tmp_path, {**content(seed=seed), "schema_version": version}) for seed in (12, 13)]
    if version is None:
        for folder in bad:
            (folder / "metrics.json").write_text("{")
    with pytest.raises(RunError) as caught:
        find_runs([tmp_path])
    assert [problem.where for problem in caught.value.problems] == [
        str(folder / "metrics.json") for folder in sorted(bad)
    ]
    assert says in str(caught.value)


def test_only_unfinished_runs(tmp_path: Path) -> None:
    killed = unfinished(tmp_path)
    with pytest.raises(RunError, match="holds no finished run; 1 unfinished: killed") as caught:
        find_runs([tmp_path])
    assert f"ptv2 train {killed / 'config.yaml'}" in str(caught.value)


def test_a_wide_table_is_cut_between_columns() -> None:
    table = Grid(["method", "aaaa\nbb", "cccc", "dddd"], [["tuning", "1", "2", "3"]], 1)
    assert [block.headings for block in blocks(table, 18)] == [
        ["method", "aaaa\nbb", "cccc"],
        ["method", "dddd"],
    ]
    assert blocks(table, 80) == [table]
    assert [len(block.headings) for block in blocks(table, 3)] == [2, 2, 2]


def test_markdown_escapes_what_would_end_a_cell() -> None:
    table = Grid(["a", "b\nc"], [["x|y", "1"]], 1)
    assert markdown_table(table) == "| a | b c |\n| --- | ---: |\n| x\\|y | 1 |"


def test_markdown_shows_text_as_it_stands() -> None:
    assert escaped("ptuning_v2, lr 0.01") == "ptuning_v2, lr 0.01"
    assert escaped("a\nb\t`c` *d* ~~e~~") == r"a b \`c\` \*d\* \~\~e\~\~"
    assert escaped("<b> & [x](y) \\") == r"&lt;b> &amp; \[x\](y) \\"
    assert escaped("__init__ _a_ a__b") == r"\_\_init\_\_ \_a\_ a\_\_b"


def test_times() -> None:
    assert [seconds(x) for x in (4.6, 153, 7200)] == ["5 s", "2.5 min", "2.0 h"]


def test_parts_of_a_method_are_written_as_in_a_config() -> None:
    parts = [{"name": "lora", "r": 8, "layers": None}, {"name": "bitfit", "lr_factor": 2.0}]
    assert plain(parts) == "{name: lora, r: 8}, {name: bitfit, lr_factor: 2}"
