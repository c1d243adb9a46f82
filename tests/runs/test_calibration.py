"""Zero-shot answers divided by the model's prior: contextual and batch calibration."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lm
import numpy as np
import numpy.typing as npt
import pytest
import tiny
import torch
import transformers

import ptv2_cli
from ptv2_cli.cli.views.summary import run_summary
from ptv2_cli.config.fingerprint import fingerprint
from ptv2_cli.errors import InputError
from ptv2_cli.inputs.encoder import Encoder
from ptv2_cli.inputs.template import parse_template
from ptv2_cli.runs.calibration import CONTENT_FREE, Calibration, calibrated, content_free_inputs
from ptv2_cli.runs.prediction.predict import Run
from ptv2_cli.runs.recorder import RunRecorder
from ptv2_cli.runs.rescore import open_for_rescoring
from ptv2_cli.tasks.catalog import load_task

HEAD = {"name": "verbalizer", "template": lm.TEMPLATE, "words": lm.WORDS}
KINDS = ("masked", "causal")
HOW = ("contextual", "batch")


@pytest.fixture(scope="module")
def skewed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a language model that says `true` to everything."""
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in KINDS}

    def get(kind: str) -> Path:
        folder = folders[kind]
        if not (folder / "config.json").exists():
            {"masked": lm.save_masked, "causal": lm.save_causal}[kind](folder)
            lm.prefer(folder, kind, "true", over="false")
        return folder

    return get


@pytest.fixture
def config(tmp_path: Path, skewed: Callable[[str], Path]) -> Callable[..., Path]:
    """A zero-shot config of a skewed model; `changes` replace top-level keys."""

    def write(kind: str, calibrate: str | None = None, **changes: Any) -> Path:
        rows = lm.write_rows(tmp_path / "rows")
        (rows / "test.jsonl").write_text((rows / "train.jsonl").read_text())
        content = {
            "method": "none",
            "prompt_len": None,
            "head": {**HEAD, **({} if calibrate is None else {"calibrate": calibrate})},
            "train": {"seed": 11},
            "task": {"name": "text/classification", "data": str(rows), "max_len": 32},
        }
        path = tmp_path / f"{kind}-{calibrate}.yaml"
        return tiny.write_config(path, skewed(kind), rows, **{**content, **changes})

    return write


def trained(config: Path, tmp_path: Path, *sets: str) -> Run:
    session, _ = tiny.trained(config, tmp_path / "runs", *sets)
    return Run(session.resolved_run.directory, offline=True)


def shares(run: Run, split: str = "validation") -> npt.NDArray[np.float64]:
    """The probabilities of `right` and `wrong` for each row [rows, 2]."""
    lines = [line["prediction"]["probabilities"] for line in run.predictions(split)]
    return np.array([[line["right"], line["wrong"]] for line in lines])


def priors(run: Run) -> npt.NDArray[np.float64]:
    state = run.metrics["selection"]["state"]
    assert list(state) == ["prior.right", "prior.wrong"]
    return np.array([state["prior.right"], state["prior.wrong"]])


def divided(p: npt.NDArray[np.float64], prior: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """softmax(log p - log prior) [rows, 2]."""
    scores = np.exp(np.log(p) - np.log(prior))
    return scores / scores.sum(axis=1, keepdims=True)


def stock_shares(folder: Path, kind: str, text: str) -> npt.NDArray[np.float64]:
    """What transformers' own model gives the two words after `text ?`."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    asked = f"{text} ? [MASK]" if kind == "masked" else f"{text} ?"
    ids = tokenizer(asked, return_tensors="pt")["input_ids"]
    classes = {"masked": transformers.BertForMaskedLM, "causal": transformers.GPT2LMHeadModel}
    with torch.no_grad():
        logits = classes[kind].from_pretrained(folder)(ids).logits[0]
    at = int((ids[0] == tokenizer.mask_token_id).nonzero()[-1]) if kind == "masked" else -1
    words = [lm.word_id(tokenizer, kind, word) for word in ("true", "false")]
    return logits[at, words].double().softmax(0).numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_a_skewed_model_answers_right_once_calibrated(
    config: Callable[..., Path], tmp_path: Path, kind: str
) -> None:
    plain = trained(config(kind), tmp_path)
    assert {line["prediction"]["label"] for line in plain.predictions()} == {"right"}
    assert plain.metrics["metrics"]["validation"]["accuracy"] == 0.5
    assert plain.metrics["selection"]["state"] == {}
    (warning,) = plain.metrics["warnings"]
    assert "try head.calibrate: contextual" in warning
    for how in HOW:
        run = trained(config(kind, how), tmp_path)
        assert run.metrics["metrics"]["validation"]["accuracy"] > 0.9, how
        assert run.metrics["warnings"] == []
        assert run.metrics["parameters"]["trainable"] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_contextual_is_the_formula(
    config: Callable[..., Path], skewed: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    plain, run = (trained(config(kind, how), tmp_path) for how in (None, "contextual"))
    free = [stock_shares(skewed(kind), kind, text) for text in ("N/A", "[MASK]", "")]
    np.testing.assert_allclose(priors(run), np.mean(free, axis=0), rtol=1e-4)
    np.testing.assert_allclose(shares(run), divided(shares(plain), priors(run)), rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_batch_is_the_formula(config: Callable[..., Path], tmp_path: Path, kind: str) -> None:
    plain, run = (trained(config(kind, how), tmp_path) for how in (None, "batch"))
    np.testing.assert_allclose(priors(run), shares(plain).mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(shares(run), divided(shares(plain), priors(run)), rtol=1e-4)


def test_the_batch_is_the_selection_split_whatever_is_reported(
    config: Callable[..., Path], tmp_path: Path
) -> None:
    changes = {"selection": {"split": "holdout", "fraction": 0.5}, "report": ["holdout", "test"]}
    plain, run = (trained(config("masked", how, **changes), tmp_path) for how in (None, "batch"))
    prior = shares(plain, "holdout").mean(axis=0)
    assert len(shares(plain, "holdout")) == 12
    np.testing.assert_allclose(priors(run), prior, rtol=1e-5)
    np.testing.assert_allclose(
        shares(run, "test"), divided(shares(plain, "test"), prior), rtol=1e-4
    )
    assert not np.allclose(prior, shares(plain, "test").mean(axis=0), rtol=1e-3)


@pytest.mark.parametrize("how", HOW)
def test_a_row_is_answered_alike_alone_and_in_a_file(
    config: Callable[..., Path], tmp_path: Path, how: str
) -> None:
    run = trained(config("causal", how, train={"seed": 11, "eval_batch_size": 1}), tmp_path)
    rows = [{"text": line["row"]["text"]} for line in run.predictions()]
    among = run.predict(rows)
    assert [line["prediction"] for line in among] == [
        line["prediction"] for line in run.predictions()
    ]
    for row, line in zip(rows, among, strict=True):
        assert run.predict(row) == line
    again = open_for_rescoring(run.files, split=None, data=None, device=tiny.CPU, offline=True)
    assert {line.verdict for line in again.evaluate("validation")} == {"equal"}


def test_demonstrations_stand_before_nothing_too(
    config: Callable[..., Path], tmp_path: Path
) -> None:
    path = config("causal", "contextual")
    sets = ("task.demonstrations=2", "task.max_len=100")
    session = tiny.opened(path, tmp_path / "runs", *sets)
    encoder, task = session.data.encoder, session.resolved.task
    shown = [encoder.tokenizer.decode(one.input_ids) for one in content_free_inputs(task, encoder)]
    first = [
        f"{row['text']} ? {lm.WORDS[row['label']]}"
        for row in session.resolved_run.data.demonstrations
    ]
    assert [text.split("\n\n") for text in shown] == [
        [*first, "N/A ?"],
        [*first, "[MASK] ?"],
        [*first, " ?"],
    ]
    with_two, without = (priors(trained(path, tmp_path, *each)) for each in (sets, ()))
    assert not np.allclose(with_two, without, rtol=1e-3)


def test_every_column_of_a_tasks_own_template_is_without_content() -> None:
    task = load_task("superglue/wic", {})
    assert set(task.columns) != set(task.definition.text)
    text = " ".join(f"{{{name}}}" for name in task.columns) + " ? {mask}"
    template = parse_template(text, task.columns, "head.template", prompted=False)
    encoder = Encoder(tiny.byte_level("GPT2TokenizerFast"), 40, template=template, ahead=True)
    shown = [encoder.tokenizer.decode(one.input_ids) for one in content_free_inputs(task, encoder)]
    assert shown == [
        " ".join([text] * len(task.columns)) + " ?" if text else " ?" for text in CONTENT_FREE
    ]


def test_the_prior_is_measured_once_for_a_run_that_is_continued(
    config: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []
    really, conclude = Calibration.prior, RunRecorder.conclude

    def prior(self: Calibration, *given: Any) -> dict[str, float]:
        measured.append(1)
        return really(self, *given)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Calibration, "prior", prior)
    path = config("masked", "contextual", report=["validation", "test"])
    whole = trained(path, tmp_path / "whole")
    monkeypatch.setattr(RunRecorder, "conclude", killed)
    with pytest.raises(KeyboardInterrupt):
        tiny.trained(path, tmp_path / "runs")
    monkeypatch.setattr(RunRecorder, "conclude", conclude)
    session, _ = tiny.trained(path, tmp_path / "runs", resume=True)
    run = Run(session.resolved_run.directory, offline=True)
    assert run.metrics["selection"]["state"] == whole.metrics["selection"]["state"]
    for split in ("validation", "test"):
        assert run.predictions(split) == whole.predictions(split)
    assert len(measured) == 2  # by the whole run, and before the kill


def test_a_sweep_has_all_three(config: Callable[..., Path], tmp_path: Path) -> None:
    found = ptv2_cli.sweep(
        config("masked"),
        {"head.calibrate": [None, "contextual", "batch"]},
        lanes="auto",
        output=tmp_path / "runs",
        offline=True,
    )
    scores = [run.metrics["metrics"]["validation"]["accuracy"] for run in found.runs]
    assert len(scores) == 3
    assert min(scores) == 0.5
    assert sum(score > 0.9 for score in scores) == 2


def test_another_calibration_is_another_run(config: Callable[..., Path], tmp_path: Path) -> None:
    plain, none, contextual, batch = (
        tiny.prepared(config("masked"), tmp_path / "runs", sets).fingerprint
        for sets in (
            (),
            ("head.calibrate=null",),
            ("head.calibrate=contextual",),
            ("head.calibrate=batch",),
        )
    )
    assert plain == none
    assert len({plain, contextual, batch}) == 3
    resolved = tiny.prepared(config("masked"), tmp_path / "runs").resolved.config.model_dump()
    earlier = {**resolved, "head": {**resolved["head"]}}
    assert earlier["head"].pop("calibrate") is None
    assert fingerprint(earlier, {}) == fingerprint(resolved, {})


def test_the_summary_gives_the_prior(
    config: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(config("masked", "batch"), tmp_path)
    run_summary(run.files, [])
    (line,) = (one for one in capsys.readouterr().out.splitlines() if "calibrated" in one)
    assert line.startswith("calibrated (batch): divided by the prior right ")
    assert f"right {100 * priors(run)[0]:.1f} %, wrong" in line


def test_a_prior_of_few_rows_is_warned_about(config: Callable[..., Path], tmp_path: Path) -> None:
    run = trained(config("masked", "batch"), tmp_path, "task.limit.validation=4")
    (warning,) = run.metrics["warnings"]
    assert warning.startswith("head.calibrate: batch measures the prior on 4 rows of validation")
    assert trained(config("masked", "batch"), tmp_path).metrics["warnings"] == []


TRAINS = {"method": "head_only", "train": {"lr": 0.1, "epochs": 1}}
BARE = {**HEAD, "template": "{text} {mask}"}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"head": {**HEAD, "calibrate": "context"}}, "contextual"),
    ({"head": {"calibrate": "batch"}, **TRAINS}, "only head: verbalizer reads it"),
    (
        {"head": {**HEAD, "calibrate": "batch", "train": True}, **TRAINS},
        "head_only trains on labels",
    ),
    (
        {"head": {**BARE, "calibrate": "contextual"}},
        "'{text} {mask}' has no words of its own",
    ),
]


@pytest.mark.parametrize(("changes", "what"), WRONG)
def test_what_cannot_be_calibrated_is_refused(
    config: Callable[..., Path], tmp_path: Path, changes: dict[str, Any], what: str
) -> None:
    path = config("masked", **changes)
    lines = path.read_text().splitlines()
    (line,) = (number for number, text in enumerate(lines, 1) if "calibrate: " in text)
    with pytest.raises(InputError) as caught:
        tiny.opened(path, tmp_path / "runs")
    (problem,) = caught.value.problems
    assert problem.where.endswith(f"{path}:{line}")
    assert what in str(problem)
    assert problem.hint
    assert not (tmp_path / "runs").exists()


def test_a_template_without_words_may_have_demonstrations_or_a_batch(
    config: Callable[..., Path], tmp_path: Path
) -> None:
    for how, sets in (("batch", ()), ("contextual", ("task.demonstrations=2",))):
        path = config("causal", head={**BARE, "calibrate": how})
        session = tiny.opened(path, tmp_path / "runs", "task.max_len=100", *sets)
        assert session.request("validation").calibration is not None


def test_a_label_without_any_probability_breaks_nothing() -> None:
    state = {"prior.a": 1.0, "prior.b": 0.0}
    outputs = [{"probabilities": np.array([1.0, 0.0], np.float32)}]
    (line,) = calibrated(outputs, ("a", "b"), state)
    assert line["probabilities"].tolist() == [1.0, 0.0]
    assert line["probabilities"].dtype == np.float32
    assert calibrated(outputs, ("a", "b"), {}) is outputs


def test_state_is_plain_json(config: Callable[..., Path], tmp_path: Path) -> None:
    run = trained(config("masked", "contextual"), tmp_path)
    written = json.loads(run.files.metrics.read_text())["selection"]["state"]
    assert sum(written.values()) == pytest.approx(1.0)
