"""What the pictures show, and that they are drawn."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from made import write

from ptv2_cli.errors import InputError, RunError
from ptv2_cli.report.build import build_report
from ptv2_cli.report.cells import Report
from ptv2_cli.report.pictures import plots
from ptv2_cli.report.pictures.curves import (
    by_depth,
    by_learning_rate,
    by_prompt_length,
    by_train_rows,
    learning_curves,
    loss_curves,
)
from ptv2_cli.report.runs import find_runs


def report_of(folder: Path, *runs: dict[str, Any]) -> Report:
    for run in runs:
        write(folder, **run)
    return build_report(find_runs([folder]))


def test_learning_curves_are_means_over_the_seeds(tmp_path: Path) -> None:
    report = report_of(
        tmp_path,
        {"history": [0.1, 0.5, 0.7]},
        {"history": [0.3, 0.5], "seed": 12},  # stopped early: later epochs have no common mean
        {"history": [0.2], "method": "finetune", "prompt_len": None},
    )
    picture = learning_curves(report, report.columns[0])
    first, second = picture.series
    assert first.label == "ptuning_v2 p20"
    assert first.x == (1.0, 2.0)
    assert first.mean == pytest.approx((0.2, 0.5))
    assert first.sd[0] == pytest.approx(0.1 * 2**0.5)
    assert second.sd == (None,)
    assert picture.levels == (("majority baseline", 0.25),)


def test_curves_are_of_the_split_that_chose_the_epoch(tmp_path: Path) -> None:
    report = report_of(tmp_path, {"selection__split": "holdout", "history": [0.1]})
    assert learning_curves(report, report.columns[0]).split == "holdout"


def test_depth_counts_the_first_and_the_last_layers_apart(tmp_path: Path) -> None:
    report = report_of(
        tmp_path,
        {"method__layers": "first:1", "score": 0.3},
        {"method__layers": "first:4", "score": 0.5},
        {"method__layers": "last:1", "score": 0.6},
        {"method__layers": "last:4", "score": 0.7},
        {"method__layers": "last:4", "score": 0.9, "seed": 12},
        {"method__layers": "1,3", "score": 0.2},
    )
    picture = by_depth(report, report.columns[0])
    assert picture is not None
    first, last = picture.series
    assert (first.label, first.x, first.mean) == ("the first k layers", (1.0, 4.0), (0.3, 0.5))
    assert (last.label, last.x) == ("the last k layers", (1.0, 4.0))
    assert last.mean == pytest.approx((0.6, 0.8))
    names = {path.name for path in plots.draw(report, tmp_path / "plots")}
    assert "depth-cb.png" in names


def test_one_depth_is_no_picture(tmp_path: Path) -> None:
    report = report_of(tmp_path, {"method__layers": "last:2"}, {"method__layers": None})
    assert by_depth(report, report.columns[0]) is None


def test_prompt_lengths_one_line_per_method(tmp_path: Path) -> None:
    report = report_of(
        tmp_path,
        {"prompt_len": 100, "score": 0.8, "train__lr": 0.02},
        {"prompt_len": 20, "score": 0.6},
        {"prompt_len": 20, "score": 0.7, "seed": 12},
        {"method": "finetune", "prompt_len": None, "score": 0.9},
    )
    picture = by_prompt_length(report, report.columns[0])
    assert picture is not None
    (line,) = picture.series
    assert (line.label, line.x) == ("ptuning_v2", (20.0, 100.0))
    assert line.mean == pytest.approx((0.65, 0.8))
    assert picture.levels == (("finetune", 0.9), ("majority baseline", 0.25))


def test_prompt_lengths_of_a_full_grid_are_a_line_per_rate(tmp_path: Path) -> None:
    grid = [
        {"prompt_len": length, "train__lr": rate} for length in (20, 100) for rate in (0.01, 0.1)
    ]
    report = report_of(tmp_path, *grid)
    picture = by_prompt_length(report, report.columns[0])
    assert picture is not None
    assert [one.label for one in picture.series] == ["ptuning_v2, lr 0.01", "ptuning_v2, lr 0.1"]


def test_prompt_lengths_of_unlike_grids_show_the_best(tmp_path: Path) -> None:
    report = report_of(
        tmp_path,
        {"prompt_len": 20, "train__lr": 0.01, "score": 0.5},
        {"prompt_len": 20, "train__lr": 0.1, "score": 0.6},
        {"prompt_len": 100, "score": 0.7},
    )
    picture = by_prompt_length(report, report.columns[0])
    assert picture is not None
    (line,) = picture.series
    assert line.label == "ptuning_v2, best setting"
    assert line.mean == pytest.approx((0.6, 0.7))


def test_learning_rates(tmp_path: Path) -> None:
    report = report_of(
        tmp_path,
        {"train__lr": 0.1, "score": 0.7},
        {"train__lr": 0.01, "score": 0.6},
        {"train__lr": 1e-5, "method": "finetune", "prompt_len": None},
    )
    picture = by_learning_rate(report, report.columns[0])
    assert picture is not None
    assert [(one.label, one.x) for one in picture.series] == [
        ("ptuning_v2 p20", (0.01, 0.1)),
        ("finetune", (1e-5,)),
    ]
    assert picture.series[0].mean == pytest.approx((0.6, 0.7))


def test_train_rows(tmp_path: Path) -> None:
    report = report_of(
        tmp_path,
        {"task__limit": {"train": 50}, "score": 0.6},
        {"task__limit": {"train": 500}, "score": 0.7},
        {"task__limit": {"train": 50}, "method": "finetune", "prompt_len": None, "score": 0.5},
        {"method": "finetune", "prompt_len": None, "score": 0.8},
    )
    picture = by_train_rows(report, report.columns[0])
    assert picture is not None
    assert [(one.label, one.x) for one in picture.series] == [
        ("ptuning_v2 p20", (50.0, 500.0)),
        ("finetune", (50.0,)),
    ]
    assert picture.series[0].mean == pytest.approx((0.6, 0.7))


def test_train_rows_are_drawn(tmp_path: Path) -> None:
    runs = [{"task__limit": {"train": rows}} for rows in (50, 500)]
    drawn = {path.name for path in plots.draw(report_of(tmp_path / "runs", *runs), tmp_path / "to")}
    assert {"train-rows-cb.png", "train-rows-cb.svg"} <= drawn


def test_nothing_to_show_by_length_or_rate(tmp_path: Path) -> None:
    report = report_of(tmp_path, {}, {"method": "finetune", "prompt_len": None})
    assert by_prompt_length(report, report.columns[0]) is None
    assert by_learning_rate(report, report.columns[0]) is None
    assert by_train_rows(report, report.columns[0]) is None


def test_of_too_many_lines_the_best_are_shown(tmp_path: Path) -> None:
    runs = [{"train__lr": 0.01 * (n + 1), "history": [0.05 * n]} for n in range(11)]
    report = report_of(tmp_path, *runs)
    picture = learning_curves(report, report.columns[0])
    assert (len(picture.series), picture.left_out) == (8, 3)
    assert min(one.best for one in picture.series) == pytest.approx(0.15)


@pytest.fixture
def drawn(tmp_path: Path) -> Any:
    pytest.importorskip("matplotlib")
    report = report_of(
        tmp_path / "runs",
        {"history": [0.2, 0.5], "train__lr": 0.1},
        {"history": [0.3, 0.6], "train__lr": 0.1, "seed": 12},
        {"history": [0.3, 0.7], "train__lr": 0.01},
        {"history": [0.3, 0.7], "train__lr": 0.01, "prompt_len": 100},
    )
    return report, tmp_path


def test_files(drawn: Any) -> None:
    report, folder = drawn
    files = list(plots.draw(report, folder / "out"))
    kinds = ("learning-curves", "prompt-length", "learning-rate")
    assert [file.name for file in files] == [
        f"{kind}-cb.{end}" for kind in kinds for end in ("png", "svg")
    ]
    for file in files[::2]:
        assert file.read_bytes().startswith(b"\x89PNG")
    text = [
        "".join(node.itertext())
        for node in ElementTree.parse(files[1]).iter("{http://www.w3.org/2000/svg}text")
    ]
    assert "training (epochs)" in text
    assert "accuracy on validation (%)" in text
    assert "ptuning_v2 p20, lr 0.1" in text


def test_the_same_runs_give_the_same_bytes(drawn: Any) -> None:
    report, folder = drawn
    first, second = (list(plots.draw(report, folder / name)) for name in ("one", "two"))
    for a, b in zip(first, second, strict=True):
        assert a.read_bytes() == b.read_bytes()


def test_lines_differ_in_more_than_colour() -> None:
    looks = [(n % len(plots.DASHES), plots.MARKERS[n]) for n in range(len(plots.COLOURS))]
    assert len(set(looks)) == len(set(plots.COLOURS)) == len(set(plots.MARKERS)) == 8


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'ptv2\[plots\]'"):
        plots.require_matplotlib()


def test_a_folder_that_cannot_be_written(drawn: Any) -> None:
    report, folder = drawn
    (folder / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        list(plots.draw(report, folder / "file" / "out"))


@pytest.mark.parametrize(("text", "says"), [(None, "is missing"), ("{]\n", "is no history")])
def test_damaged_histories(tmp_path: Path, text: str | None, says: str) -> None:
    run = write(tmp_path, history=[0.5])
    if text is None:
        (run / "history.jsonl").unlink()
    else:
        (run / "history.jsonl").write_text(text)
    report = build_report(find_runs([tmp_path]))
    with pytest.raises(RunError, match=says):
        learning_curves(report, report.columns[0])


def test_labels_of_close_rates_do_not_overlap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    rates = (5e-5, 1e-4, 2e-4, 0.001, 0.003, 0.005, 0.006, 0.01, 0.03, 0.1)
    runs = [{"train__lr": rate, "score": 0.5, "prompt_len": 20} for rate in rates]
    report = report_of(tmp_path / "runs", *runs)
    drawn: dict[str, Any] = {}
    save = Figure.savefig

    def keep(figure: Figure, file: Path, **how: Any) -> None:
        save(figure, file, **how)
        drawn[file.name] = figure

    monkeypatch.setattr(Figure, "savefig", keep)
    list(plots.draw(report, tmp_path / "plots"))
    figure = drawn["learning-rate-cb.png"]
    labels = figure.axes[0].get_xticklabels()
    assert [label.get_text().strip() for label in labels] == [
        *("5e-5", "1e-4", "2e-4", "0.001", "0.003", "0.005", "0.006", "0.01", "0.03", "0.1")
    ]
    figure.draw_without_rendering()
    texts = [label for label in labels if label.get_text()]
    rows: dict[int, list[Any]] = {}
    for label in texts:
        rows.setdefault(label.get_text().count("\n"), []).append(label.get_window_extent())
    assert len(rows) > 1
    for boxes in rows.values():
        for left, right in pairwise(boxes):
            assert left.x1 < right.x0


def test_losses_of_train_and_validation_stand_beside_each_other(tmp_path: Path) -> None:
    losses = [(0.9, 1.0), (0.5, 0.8), (0.2, 1.1)]
    worse = [(1.9, 2.0), (1.5, 1.8)]
    report = report_of(
        tmp_path,
        {"history": [0.1, 0.5, 0.7], "losses": losses},
        {"history": [0.3, 0.5], "losses": worse, "seed": 12},
        {"history": [0.3], "method": "finetune", "prompt_len": None},  # of an earlier version
    )
    picture = loss_curves(report, report.columns[0])
    assert picture is not None
    validation, train = picture.series
    assert (validation.label, train.label) == (
        "ptuning_v2 p20, validation",
        "ptuning_v2 p20, train",
    )
    assert (validation.beside, train.beside) == (False, True)
    assert validation.x == train.x == (1.0, 2.0)
    assert validation.mean == pytest.approx((1.5, 1.3))
    assert train.mean == pytest.approx((1.4, 1.0))
    names = {path.name for path in plots.draw(report, tmp_path / "plots")}
    assert {"loss-cb.png", "loss-cb.svg"} <= names


def test_no_picture_of_losses_that_nobody_wrote_down(tmp_path: Path) -> None:
    report = report_of(tmp_path, {"history": [0.1]})
    assert loss_curves(report, report.columns[0]) is None


def test_one_seed_shows_the_standard_error_over_rows(tmp_path: Path) -> None:
    report = report_of(
        tmp_path,
        {"prompt_len": 20, "score": 0.6, "standard_error": 0.05, "history": [0.5, 0.6],
         "selection__epoch": 2.0},
        {"prompt_len": 100, "score": 0.7, "standard_error": 0.04},
        {"prompt_len": 100, "score": 0.7, "standard_error": 0.04, "seed": 12},
    )  # fmt: skip
    picture = by_prompt_length(report, report.columns[0])
    assert picture is not None
    assert picture.series[0].error == (0.05, None)  # two seeds have a spread of their own
    curve = learning_curves(report, report.columns[0]).series[0]
    assert curve.error == (None, 0.05)  # at the chosen epoch, of which alone it is known
    svg = tmp_path / "plots" / "prompt-length-cb.svg"
    assert svg in list(plots.draw(report, tmp_path / "plots"))
    assert "one seed: ± standard error over rows" in svg.read_text()


@pytest.mark.parametrize(
    ("rows", "error", "span"),
    [
        (56, 0.06, 0.36),  # six standard errors
        (10_000, 0.001, 0.02),
        (56, None, 3 / 56**0.5),  # of a share at its most uncertain
    ],
)
def test_a_step_within_the_noise_is_no_cliff(
    tmp_path: Path, rows: int, error: float | None, span: float
) -> None:
    matplotlib = pytest.importorskip("matplotlib.figure")
    runs = [
        {"prompt_len": length, "score": score, "standard_error": error, "rows": rows}
        for length, score in ((5, 0.500), (20, 0.505), (100, 0.502))
    ]
    report = report_of(tmp_path, *runs)
    picture = by_prompt_length(report, report.columns[0])
    assert picture is not None
    assert picture.least_span == pytest.approx(span)
    axes = matplotlib.Figure().subplots()
    axes.plot(picture.series[0].x, [100 * value for value in picture.series[0].mean])
    plots._span(axes, picture)
    low, high = axes.get_ylim()
    assert high - low == pytest.approx(100 * span, rel=0.02)
    assert low < 50.0 < high
    files = list(plots.draw(report, tmp_path / "plots"))
    svg = next(path for path in files if path.name == "prompt-length-cb.svg")
    texts = [item.text or "" for item in ElementTree.parse(svg).iter()]
    ticks = [float(text) for text in texts if re.fullmatch(r"\d+\.\d+|[3-7]\d", text)]
    assert max(ticks) - min(ticks) > 50 * span


def test_no_axis_leaves_what_a_share_can_be(tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib.figure")
    for name, score in (("high", 0.99), ("low", 0.01)):
        scores = [{"prompt_len": at, "score": score, "standard_error": 0.05} for at in (5, 20)]
        report = report_of(tmp_path / name, *scores)
        picture = by_prompt_length(report, report.columns[0])
        assert picture is not None
        axes = matplotlib.Figure().subplots()
        axes.plot(picture.series[0].x, [100 * value for value in picture.series[0].mean])
        plots._span(axes, picture)
        low, high = axes.get_ylim()
        assert low >= 0.0
        assert high <= 101.0
        assert high - low == pytest.approx(30, rel=0.02)


def test_a_dollar_sign_in_a_name_is_no_formula(tmp_path: Path) -> None:
    report = report_of(tmp_path, {"history": [0.1, 0.5], "task": "own/$x_{"})
    assert len(list(plots.draw(report, tmp_path / "plots"))) == 2
