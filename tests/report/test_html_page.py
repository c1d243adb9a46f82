"""The page of a report without a browser: what it holds, its size, and that texts stay texts."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from made import unfinished, write
from many_runs import HOSTILE, LABELS, a_few, cb, five_hundred, hostile, label_line

from ptv2_cli.errors import InputError
from ptv2_cli.report.build import build_report
from ptv2_cli.report.html import page as page_module
from ptv2_cli.report.html import row_cache
from ptv2_cli.report.html.charts import line_chart
from ptv2_cli.report.html.heat_maps import grid_maps
from ptv2_cli.report.html.page import page, require_jinja, to_json
from ptv2_cli.report.html.row_cache import RowCache
from ptv2_cli.report.html.rows import LEAST, row_sets, rows_of
from ptv2_cli.report.html.scales import Scale, linear_ticks, shown
from ptv2_cli.report.html.unfinished import history_so_far
from ptv2_cli.report.html.unfinished import unfinished as told
from ptv2_cli.report.predictions import task_of
from ptv2_cli.report.runs import ReportedRun, find_runs
from ptv2_cli.runs.directory import RunDirectory

CELL = "<t[hd].*?</t[hd]>"


class Elements(HTMLParser):
    """The elements of a page with their attributes, and their texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(folder: Path) -> str:
    found = find_runs([folder])
    return page(build_report(found), found.unfinished)


def data_of(text: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert found is not None
    return json.loads(found[1])


def run_at(path: Path) -> ReportedRun:
    directory = RunDirectory(path)
    return ReportedRun(directory, directory.read_metrics())


def test_the_tables_stand_in_the_file_itself(tmp_path: Path) -> None:
    a_few(tmp_path)
    text = page_of(tmp_path)
    elements = Elements(text)
    tables = {table["id"] for table in elements.all("table") if "id" in table}
    assert tables == {"table-settings", "table-runs"}
    assert sum("data-text" in row for row in elements.all("tr")) == 5 + 8
    assert "Report of 8 runs" in elements.texts
    best = [cell for cell in elements.all("td") if cell.get("class") == "figure best"]
    assert len(best) == 1  # of CB; the other task has one row, which is no contest
    assert " within the noise of the best" in elements.texts
    assert "killed" in elements.texts


def test_memory_stands_under_its_heading(tmp_path: Path) -> None:
    write(tmp_path, peak=3 * 2**29)
    text = page_of(tmp_path)
    table = text[text.index('id="table-settings"') : text.index('id="table-runs"')]
    headings, row, *_ = (
        [" ".join(re.sub("<[^>]*>", " ", cell).split()) for cell in re.findall(CELL, line, re.S)]
        for line in re.findall("<tr.*?</tr>", table, re.S)
    )
    assert headings[-1].startswith("memory")
    assert row[len(headings) - 1] == "1.5 GiB"


def test_every_link_leads_to_a_run(tmp_path: Path) -> None:
    a_few(tmp_path)
    elements = Elements(page_of(tmp_path))
    ids = {own["id"] for _, own in elements.elements if "id" in own}
    links = {str(own["href"]) for own in elements.all("a")}
    assert len(links) > 8
    assert {link.removeprefix("#") for link in links} <= ids


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    a_few(tmp_path)
    text = page_of(tmp_path)
    elements = Elements(text)
    assert [name for name, own in elements.elements if "src" in own] == []
    assert [link["href"] for link in elements.all("link")] == ["data:,"]
    addresses = set(re.findall(r"https?://[^\s'\"<]+", text))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert not [own for _, own in elements.elements if any(key.startswith("on") for key in own)]
    assert not [own for _, own in elements.elements if "style" in own]


def test_every_plot_is_there(tmp_path: Path) -> None:
    a_few(tmp_path)
    words = set(Elements(page_of(tmp_path)).texts)
    plots = {"Learning curves", "Loss (dotted: train)", "By prompt length", "By learning rate"}
    assert plots | {"By share that trains", "ptuning_v2: lr by prompt_len"} <= words
    assert any(word.startswith("Confusion of run-ptuning_v2-p100") for word in words)


def test_a_plot_by_train_rows(tmp_path: Path) -> None:
    for rows in (50, 500):
        write(tmp_path, task__limit={"train": rows})
    words = Elements(page_of(tmp_path)).texts
    assert {"By train rows", "train rows (log scale)"} <= set(words)


def test_the_data_of_runs(tmp_path: Path) -> None:
    a_few(tmp_path)
    data = data_of(page_of(tmp_path))
    runs = {run["name"]: run for run in data["runs"]}
    path = next(path for path in tmp_path.glob("run-finetune-*"))
    run = runs[path.name]
    assert run["command"] == (f"ptv2 train {path}/config.yaml --output {tmp_path} --resume never")
    assert (run["wrong"], run["count"], run["history"]) == (3, 6, [[1.0, 0.5, None, None]])
    facts = {data["keys"][at]: data["values"][v] for at, v in enumerate(run["facts"]) if v >= 0}
    assert facts["method.name"] == "finetune"
    assert facts["environment.torch"] == "2.13.0"
    assert ["validation", 6, "a" * 64, None] in run["data"]
    rows = data["sets"][run["set"]]
    assert [row["number"] for row in rows["rows"]] == [1, 2, 3, 4, 5]  # nobody got row 6 wrong
    assert rows["rows"][0]["columns"] == {
        "premise": "premise 0", "hypothesis": "hypothesis 0", "idx": "0",
    }  # fmt: skip
    text, sure, gold = run["answers"][0]
    assert (rows["answers"][text], rows["rows"][0]["gold"]) == ("contradiction", "entailment")
    assert (sure, gold) == (0.7, 0.15)
    assert run["answers"][3] == 0.7  # right, with its probability
    seeds = [runs[name] for name in runs if "-p20-" in name and runs[name]["wrong"] == 2]
    assert [own["seeds"] for own in seeds] == [[seeds[1]["mark"]], [seeds[0]["mark"]]]


@pytest.mark.parametrize("text", ["</script>", "<!--", "]]>", "&lt;", "\u2028", "\ud800"])
def test_json_ends_no_element(text: str) -> None:
    made = to_json({text: [text]})
    assert not set("<>&\u2028\ud800") & set(made)
    made.encode()


def test_markup_in_rows_names_and_labels_is_text(tmp_path: Path) -> None:
    hostile(tmp_path)
    text = page_of(tmp_path)
    elements = Elements(text)
    assert len(elements.all("script")) == 2
    assert elements.all("img") == elements.all("b") == []
    assert "run<b>11&amp;" in elements.texts
    assert any(HOSTILE in word for word in elements.texts)
    data = data_of(text)
    assert data["sets"][0]["rows"][0]["columns"]["premise"].startswith(f"{HOSTILE} \\u202e")


def test_only_the_pages_own_script_may_run(tmp_path: Path) -> None:
    a_few(tmp_path)
    text = page_of(tmp_path)
    policy = next(own["content"] for own in Elements(text).all("meta") if "http-equiv" in own)
    script = text.rpartition("<script>")[2].partition("</script>")[0]
    assert policy is not None
    assert page_module._hash(script) in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "connect-src" not in policy  # a file asks nobody


def test_equal_runs_give_an_equal_page(tmp_path: Path) -> None:
    a_few(tmp_path)
    assert page_of(tmp_path) == page_of(tmp_path)


def test_runs_without_predictions_or_history(tmp_path: Path) -> None:
    a_few(tmp_path)
    for path in tmp_path.glob("run-*"):
        (path / "history.jsonl").unlink()
        (path / "predictions" / "validation.jsonl").write_text("{}\n")
    text = page_of(tmp_path)
    assert "Not drawn: Learning curves" in text
    assert not any("set" in run for run in data_of(text)["runs"])


def test_rows_are_shared_and_the_worst_come_first(tmp_path: Path) -> None:
    made = []
    for seed in range(3):
        golds = [LABELS[0]] * 30
        lines = [label_line(at, gold, LABELS[1], 0.4 + 0.01 * at + 0.1 * seed)
                 for at, gold in enumerate(golds)]  # fmt: skip
        run = run_at(write(tmp_path, lines=lines, seed=seed))
        made.append(rows_of(run, "validation", task_of(run)))
    runs = [run for run in made if run is not None]
    assert len(runs) == 3
    (own,) = row_sets(runs).values()
    assert len(own.rows) == 30
    many = row_sets(runs * 2000)
    (own,) = many.values()
    assert len(own.rows) == LEAST
    assert {row.number for row in own.rows} == set(range(11, 31))


def test_runs_of_other_rows_share_nothing(tmp_path: Path) -> None:
    cb(tmp_path, (1,))
    write(tmp_path, lines=[label_line(9, LABELS[0], LABELS[1])], seed=12)
    runs = data_of(page_of(tmp_path))["runs"]
    assert [run["set"] for run in runs] == [0, 1]


def test_answers_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_at(cb(tmp_path, (1,)))
    read: list[str] = []
    monkeypatch.setattr(row_cache, "rows_of", lambda run, split, task: read.append(split))
    cache = RowCache()
    cache.rows(run, "validation")
    cache.rows(run, "validation")
    assert read == ["validation"]
    run.directory.predictions("validation").write_text("{}\n")
    cache.rows(run, "validation")
    assert read == ["validation"] * 2


def test_the_grid_of_a_sweep(tmp_path: Path) -> None:
    a_few(tmp_path)
    report = build_report(find_runs([tmp_path]))
    column = next(column for column in report.columns if column.task == "superglue/cb")
    (made,) = grid_maps(report, column)
    assert (made.down, made.across, [*made.columns]) == ("lr", "prompt_len", ["20", "100"])
    cells = {name: [cell.text.rstrip("~*?") for cell in own] for name, own in made.rows}
    assert cells == {"0.01": ["66.7", "33.3"], "0.03": ["50.0", "83.3"]}
    best = [cell for _, own in made.rows for cell in own if cell.best]
    assert [(cell.text, cell.shade) for cell in best] == [("83.3*", 7)]


def test_a_line_of_one_point_can_be_drawn(tmp_path: Path) -> None:
    from ptv2_cli.report.pictures.curves import learning_curves

    cb(tmp_path, (1,), history=[0.5])
    report = build_report(find_runs([tmp_path]))
    picture = learning_curves(report, report.columns[0])
    chart = line_chart(picture, "one", "epochs")
    assert [tick.label for tick in chart.x_ticks] == ["1"]
    assert len(chart.lines[0].points) == 1


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (63, 87, [65, 70, 75, 80, 85]), (5, 5, [5])],
)
def test_ticks_are_round(low: float, high: float, ticks: list[float]) -> None:
    assert linear_ticks(low, high) == pytest.approx(ticks)


def test_ticks_of_epochs_are_whole() -> None:
    assert linear_ticks(1, 3, whole=True) == [1, 2, 3]


def test_labels_that_would_touch_are_left_out() -> None:
    scale = Scale(1, 100, 0, 100)
    assert [tick.label for tick in shown(scale, [1, 2, 100], ["1000", "2000", "3"])] == [
        "1000",
        "3",
    ]


def test_how_far_an_unfinished_run_is(tmp_path: Path) -> None:
    path = unfinished(tmp_path)
    (path / "config.yaml").write_text(
        "method: finetune\nbackbone: x\ntask: superglue/cb\ntrain: {epochs: 8}\n"
    )
    whole = {"epoch": 2.0, "step": 4, "metrics": {"accuracy": 0.7}, "train_loss": 0.51}
    lines = [{**whole, "epoch": 1.0, "metrics": {"accuracy": 0.5}}, whole]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (path / "history.jsonl").write_text(text + '{"epoch": 3.0, "met')  # it is being written
    run = RunDirectory(path)
    assert [line["epoch"] for line in history_so_far(run)] == [1.0, 2.0]
    (one,) = told([run])
    assert (one.epoch, one.epochs, one.score, one.loss) == (2.0, 8.0, "accuracy 70.0", "0.51")
    assert (one.state, one.method, one.task) == ("interrupted", "finetune", "superglue/cb")
    assert one.spark.count(",") == 2
    assert one.command == f"ptv2 train {path}/config.yaml --output {tmp_path}"


def test_an_unfinished_run_whose_config_is_damaged(tmp_path: Path) -> None:
    path = unfinished(tmp_path)
    (path / "config.yaml").write_text("method: [\n")
    (one,) = told([RunDirectory(path)])
    assert (one.name, one.method, one.epoch) == ("killed", "", None)


def test_500_runs_fit_into_5_megabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    five_hundred(tmp_path)
    # What the marks are does not change the size; 100 bootstraps a column would take a minute.
    monkeypatch.setattr("ptv2_cli.report.noise.NEAREST", 0)
    text = page_of(tmp_path)
    assert len(data_of(text)["runs"]) == 500
    assert len(text.encode()) < 5_000_000
    # What a browser has to lay out before the first paint.
    assert len(Elements(text).elements) < 40_000


def test_without_jinja(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'ptv2\[html\]'"):
        require_jinja("--html")


def test_the_page_draws_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_few(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "By share that trains" in page_of(tmp_path)


@pytest.mark.parametrize(
    ("made", "lines", "gold", "answer", "columns"),
    [
        (
            {"task": "ner/conll2003"},
            [
                {"tokens": ["Ann", "Lee", "left"], "tags": ["B-LOC", "O", "O"], "entities": [],
                 "gold": ["B-PER", "I-PER", "O"]},
            ],
            "PER “Ann Lee”", ["LOC “Ann”", None, None], {"tokens": "Ann Lee left"},
        ),
        (
            {"task": "qa/squad_v2", "selection__metric": "f1"},
            [{"id": "1", "answer": "", "probability": 0.5, "nbest": [], "gold": ["a dog", "dog"]}],
            "a dog | dog", ["(no answer)", 0.5, None], {"id": "1"},
        ),
        (
            {"task": "text/generation"},
            [{"input": "x", "written": {"text": "no", "log_probability": -2.5}, "gold": "a mat"}],
            "a mat", ["no", -2.5, None], {"input": "x"},
        ),
        (
            {"task": "text/regression", "selection__metric": "pearson", "task__text": ["text"],
             "task__label": "label", "task__mean": 2.5, "task__deviation": 1.0},
            [{"text": "x", "prediction": 2.5, "label": 2.0, "gold": 2.0}],
            "2", ["2.5", None, None], {"text": "x"},
        ),
        (
            {"task": "text/choice", "task__choices": ["choices"], "task__label_is": "index"},
            [{"text": "x", "choices": ["a", "b"], "probabilities": {"0": 0.1, "1": 0.9},
              "label": 1, "gold": 0}],
            "0", ["1", 0.9, 0.1], {"text": "x", "choices": '["a", "b"]'},
        ),
    ],
    ids=["tags", "text", "writing", "number", "choice"],
)  # fmt: skip
def test_a_wrong_row_of_each_kind(
    tmp_path: Path, made: Any, lines: Any, gold: str, answer: list[Any], columns: dict[str, str]
) -> None:
    write(tmp_path, lines=lines, rows=1, **made)
    data = data_of(page_of(tmp_path))
    ((row,), texts) = (data["sets"][0]["rows"], data["sets"][0]["answers"])
    assert (row["gold"], row["columns"]) == (gold, columns)
    ((place, *chances),) = data["runs"][0]["answers"]
    assert [texts[place], *chances] == answer
