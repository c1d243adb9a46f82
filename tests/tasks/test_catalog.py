from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ptv2_cli.errors import ConfigError
from ptv2_cli.registry import TASKS
from ptv2_cli.tasks.catalog import FOLDER, load_definition, load_task, task_class, task_names

FILES_ALONE = ("ner/conll2004", "ner/ontonotes", "srl/conll2005", "srl/conll2012")
"""Data sets that no copy on the hub has as they are scored, or that may not be copied."""


def test_every_definition_loads_and_is_consistent() -> None:
    assert task_names() == [
        "glue/sst2",
        "ner/conll2003",
        "ner/conll2004",
        "ner/ontonotes",
        "qa/squad",
        "qa/squad_v2",
        "srl/conll2005",
        "srl/conll2012",
        "superglue/boolq",
        "superglue/cb",
        "superglue/copa",
        "superglue/multirc",
        "superglue/record",
        "superglue/rte",
        "superglue/wic",
        "superglue/wsc",
        "text/choice",
        "text/classification",
        "text/generation",
        "text/qa",
        "text/regression",
        "text/tagging",
    ]
    for name in task_names():
        task = load_task(name)
        assert task.name == name
        assert task.metric in task.metrics
        if name.startswith("text/"):  # a person's own: nowhere but where the config says
            assert task.hub is None
            assert task.labels == ()
            continue
        if name in FILES_ALONE:
            assert task.hub is None
            assert (task.labels == ()) == name.startswith("srl/")  # those of train
            continue
        assert task.hub is not None
        assert task.hub.revision == "refs/convert/parquet"
        assert (task.kind in {"span", "choice"}) == (task.labels == ())


@pytest.mark.parametrize(
    ("name", "max_len", "report", "truncation"),
    [
        ("superglue/boolq", 128, ("validation",), "only_second"),
        ("superglue/rte", 128, ("validation",), "longest_first"),
        ("superglue/copa", 128, ("validation",), "longest_first"),
        ("superglue/multirc", 512, ("validation",), "only_first"),
        ("superglue/record", 512, ("validation",), "only_first"),
        ("ner/conll2003", 128, ("validation", "test"), "longest_first"),
        ("ner/ontonotes", 128, ("validation", "test"), "longest_first"),
        ("srl/conll2005", None, ("validation", "test"), "longest_first"),
        ("qa/squad", 384, ("validation",), "only_second"),
        ("text/choice", 256, ("validation",), "only_first"),
    ],
)
def test_defaults(name: str, max_len: int | None, report: tuple[str, ...], truncation: str) -> None:
    task = load_task(name)
    assert (task.max_len, task.report, task.truncation) == (max_len, report, truncation)


def test_boolq_asks_of_the_passage() -> None:
    task = load_task("superglue/boolq")
    assert task.columns == ("question", "passage")
    assert task.labels == ("false", "true")


@pytest.mark.parametrize(
    ("name", "guess"),
    [("superglue/rt", "superglue/rte"), ("rte", "superglue/rte"), ("qa/squad2", "qa/squad")],
)
def test_unknown_task_suggests_the_nearest(name: str, guess: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_task(name)
    text = str(caught.value)
    assert f"unknown task {name!r}" in text
    assert f"did you mean '{guess}" in text
    assert "ptv2 list tasks" in text


def test_a_name_like_none_gets_the_list() -> None:
    with pytest.raises(ConfigError) as caught:
        load_definition("zzzzzz")
    assert "did you mean" not in str(caught.value)
    assert "ner/conll2003" in str(caught.value)


def test_unknown_option_names_the_key_and_what_there_is() -> None:
    with pytest.raises(ConfigError) as caught:
        load_task("ner/conll2003", {"schema": "bio", "stride": -1})
    text = str(caught.value)
    assert "task.schema" in text
    assert "task.stride" in text
    assert "stride, scheme" in text


def test_options_model_is_known_without_making_the_task() -> None:
    assert set(task_class("qa/squad").options_model.model_fields) == {
        "stride",
        "null_threshold",
        "n_best",
        "max_answer_len",
    }
    assert set(task_class("superglue/cb").options_model.model_fields) == {"metrics"}


def test_a_threshold_needs_unanswerable_questions() -> None:
    assert load_task("qa/squad_v2", {"null_threshold": "tuned"}).metric == "f1"
    with pytest.raises(ConfigError, match="qa/squad_v2"):
        load_task("qa/squad", {"null_threshold": 0.0})
    with pytest.raises(ConfigError, match="null_threshold"):
        load_task("qa/squad_v2", {"null_threshold": "tune"})


def test_loading_a_task_imports_no_heavy_library() -> None:
    code = (
        "import sys; from ptv2_cli.tasks.catalog import load_task, task_names\n"
        "[load_task(name) for name in task_names()]\n"
        "heavy = {'torch', 'transformers', 'datasets', 'evaluate', 'seqeval'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_task_from_outside_is_a_yaml_file_or_a_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for table in ("_entries", "_sources"):
        monkeypatch.setattr(TASKS, table, {})
    text = (FOLDER / "text" / "classification.yaml").read_text(encoding="utf-8")
    file = tmp_path / "tweets.yaml"
    file.write_text(text.replace("max_len: 256", "max_len: 64"), encoding="utf-8")
    TASKS.add("mine/tweets", file)

    class Mine(task_class("superglue/rte")):
        definition = load_definition("superglue/rte")

    TASKS.add("mine/rte", Mine)
    assert {"mine/tweets", "mine/rte", "superglue/rte"} <= {*task_names()}
    tweets = load_task("mine/tweets", {"labels": ["good", "bad"]})
    assert (tweets.name, tweets.max_len, tweets.labels) == ("mine/tweets", 64, ("good", "bad"))
    assert type(load_task("mine/rte")) is Mine
    with pytest.raises(ConfigError, match="did you mean 'mine/tweets'"):
        load_definition("mine/tweet")
