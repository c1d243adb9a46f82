"""Runs whose answers are words of the backbone's own language-model head."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lm
import pytest
import tiny
import torch
from left_behind import read_checkpoint

from ptv2_cli.errors import InputError
from ptv2_cli.runs.directory import RunDirectory
from ptv2_cli.runs.prediction.predict import Run
from ptv2_cli.runs.rescore import open_for_rescoring
from ptv2_cli.training.events import StepDone

WORDS = {"right": "true", "wrong": "false"}
SWAPPED = {"right": "false", "wrong": "true"}
HEAD = {"name": "verbalizer", "template": lm.TEMPLATE, "words": WORDS}
TRAIN = {"lr": 0.05, "epochs": 4, "batch_size": 8, "seed": 11}


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lm.save_masked(tmp_path_factory.mktemp("masked"))


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lm.save_causal(tmp_path_factory.mktemp("causal"))


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Path]:
    """A zero-shot config; `changes` replace top-level keys, `task` adds to the task's."""

    def write(model: Path, task: dict[str, Any] | None = None, **changes: Any) -> Path:
        rows = lm.write_rows(tmp_path / "rows")
        section = {"name": "text/classification", "data": str(rows), "max_len": 32}
        content = {
            "method": "none",
            "prompt_len": None,
            "head": HEAD,
            "train": {"seed": 11},
            "task": {**section, **(task or {})},
        }
        return tiny.write_config(tmp_path / "c.yaml", model, rows, **{**content, **changes})

    return write


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_zero_shot_is_one_evaluation(
    config: Callable[..., Path], tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    backbone = request.getfixturevalue(kind)
    _, metrics = tiny.trained(config(backbone), tmp_path / "runs")
    assert metrics["metrics"]["validation"]["accuracy"] > 0.9
    assert metrics["parameters"]["trainable"] == 0
    assert (metrics["evaluations"], metrics["selection"]["step"]) == (1, 0)
    assert metrics["config"]["train"]["lr"] is None
    _, swapped = tiny.trained(config(backbone, head={**HEAD, "words": SWAPPED}), tmp_path / "runs")
    assert swapped["metrics"]["validation"]["accuracy"] < 0.1


def test_a_zero_shot_run_is_evaluated_and_predicted_again(
    config: Callable[..., Path], masked: Path, tmp_path: Path
) -> None:
    session, _ = tiny.trained(config(masked), tmp_path / "runs")
    directory = session.resolved_run.directory
    again = open_for_rescoring(directory, split=None, data=None, device=tiny.CPU, offline=True)
    lines = again.evaluate("validation")
    assert {line.verdict for line in lines} == {"equal"}
    (history,) = map(json.loads, directory.history.read_text().splitlines())
    assert 0 < history["validation_loss"] < 1
    assert history["train_loss"] is None
    assert read_checkpoint(directory.checkpoints, "best").tensors == {}
    (line,) = Run(directory, offline=True).predict([{"text": "now bob likes the dog"}])
    assert line["prediction"]["label"] == "wrong"
    # The written config is the same run.
    repeated = tiny.prepared(directory.config, tmp_path / "runs")
    assert repeated.fingerprint == session.resolved_run.fingerprint


SEPARATE = {"name": "ptuning_v2", "softmax": "separate", "dropout": 0.0, "init": {"normal": 1.0}}
METHODS: list[tuple[Any, int | None, bool]] = [
    ({"name": "ptuning_v2", "dropout": 0.0}, 4, False),
    ("prompt_tuning", 4, False),
    ({"name": "ptuning_v1", "template": "{p:2} {text} ? {p:2} {mask}"}, None, False),
    ("ptuning_v1", 4, False),
    (SEPARATE, 4, False),
    ({"name": "ptuning_v2", "gates": "apt", "dropout": 0.0}, 4, False),
    ("prefix_tuning_plus", None, False),
    ("finetune", None, False),
    ("head_only", None, True),
]


@pytest.mark.parametrize("kind", ["masked", "causal"])
@pytest.mark.parametrize(("method", "length", "trains"), METHODS)
def test_every_method_learns_against_what_the_words_meant(
    config: Callable[..., Path],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    kind: str,
    method: Any,
    length: int | None,
    trains: bool,
) -> None:
    """The words are swapped, so that the frozen model alone is wrong about every row."""
    v1 = "ptuning_v1" in str(method)
    head = {"name": "verbalizer", "words": SWAPPED, **({} if v1 else {"template": lm.TEMPLATE})}
    if trains:
        head["train"] = True
    rate = {"finetune": 3e-3, "head_only": 0.1}.get(str(method), 0.05 if not v1 else 1e-2)
    epochs = 8
    if method is SEPARATE:  # its gates have to open first
        rate, epochs = 0.2, 16
    path = config(
        request.getfixturevalue(kind),
        method=method,
        prompt_len=length,
        head=head,
        train={**TRAIN, "lr": rate, "epochs": epochs},
    )
    session, metrics = tiny.trained(path, tmp_path / "runs", "backbone.dropout=off")
    assert metrics["metrics"]["validation"]["accuracy"] >= 0.5
    parameters = metrics["parameters"]
    head_trains = [item.requires_grad for item in session.learner.head.parameters()]
    assert set(head_trains) == {trains}
    backbone = parameters["backbone"] if method == "finetune" else 0
    own = parameters["head"] if trains else 0
    expected = parameters["prompt"] + parameters["reparam"] + backbone + own
    assert parameters["trainable"] == expected
    if method == METHODS[0][0]:
        width = sum(site.width for site in session.learner.backbone.sites)
        assert parameters["prompt"] == 4 * width == 2 * 3 * 32 * 4
    directory = session.resolved_run.directory
    names = read_checkpoint(directory.checkpoints, "best").part("learner")
    assert any(name.startswith("head.") for name in names) == trains
    again = open_for_rescoring(directory, split=None, data=None, device=tiny.CPU, offline=True)
    assert {line.verdict for line in again.evaluate("validation")} == {"equal"}
    words = session.learner.backbone.word_embeddings
    if method != "finetune":
        assert torch.equal(words, again.session.learner.backbone.word_embeddings)


def test_demonstrations_are_drawn_by_the_seed_and_kept_with_the_run(
    config: Callable[..., Path], causal: Path, tmp_path: Path
) -> None:
    path = config(causal, {"demonstrations": 3, "max_len": 100})
    session, metrics = tiny.trained(path, tmp_path / "runs")
    data = session.resolved_run.data
    labels = [row["label"] for row in data.demonstrations]
    assert len(labels) == 3
    assert set(labels) == {"right", "wrong"}
    assert all(row in data.rows("train") for row in data.demonstrations)
    tokenizer, encoded = session.data.encoder.tokenizer, session.data
    shown = tokenizer.decode(encoded.features("validation")[0].input_ids).split("\n\n")
    expected = [f"{row['text']} ? {WORDS[row['label']]}" for row in data.demonstrations]
    assert shown == [*expected, f"{data.rows('validation')[0]['text']} ?"]
    assert metrics["warnings"] == []
    own = tokenizer.decode(encoded.features("train")[0].input_ids)
    assert own.count(data.rows("train")[0]["text"]) == 1
    # Another process, without the train file.
    (tmp_path / "rows" / "train.jsonl").unlink()
    directory = RunDirectory(session.resolved_run.directory.path)
    again = open_for_rescoring(
        directory, split="validation", data=None, device=tiny.CPU, offline=True
    )
    assert {line.verdict for line in again.evaluate("validation")} == {"equal"}
    assert again.session.resolved_run.data.demonstrations == data.demonstrations


def test_other_seeds_and_counts_are_other_runs(
    config: Callable[..., Path], causal: Path, tmp_path: Path
) -> None:
    path = config(causal, {"demonstrations": 4, "max_len": 100})
    first, again, other, more = (
        tiny.prepared(path, tmp_path / "runs", sets)
        for sets in ((), (), ("train.seed=12",), ("task.demonstrations=6",))
    )
    assert first.data.demonstrations == again.data.demonstrations
    assert first.data.demonstrations != other.data.demonstrations
    assert len({item.fingerprint for item in (first, again, other, more)}) == 3


def test_rows_without_room_are_counted(
    config: Callable[..., Path], causal: Path, tmp_path: Path
) -> None:
    path = config(causal, {"demonstrations": 4, "max_len": 40})
    _, metrics = tiny.trained(path, tmp_path / "runs")
    (train, validation) = metrics["warnings"]
    assert validation.startswith("20 of 20 validation rows have no room for all 4 demonstrations")
    assert "train rows" in train


@pytest.mark.parametrize("method", ["bitfit", "houlsby_adapter"])
def test_what_trains_inside_the_backbone_learns_other_words(
    config: Callable[..., Path], masked: Path, tmp_path: Path, method: str
) -> None:
    """Without any prompt, beside the frozen verbalizer."""
    head = {**HEAD, "words": SWAPPED}
    path = config(masked, method=method, head=head, train=TRAIN)
    losses: list[float] = []

    def note(event: Any) -> None:
        if isinstance(event, StepDone):
            losses.append(float(event.loss))

    _, metrics = tiny.trained(path, tmp_path / "runs", listen=note)
    assert metrics["parameters"]["trainable"] == metrics["parameters"]["adapter"] > 0
    assert losses[-1] < 0.8 * losses[0]


V2 = {"method": "ptuning_v2", "prompt_len": 4, "train": TRAIN}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"head": {**HEAD, "words": {"right": "untrue", "wrong": "false"}}}, "does not know the word"),
    ({"head": {**HEAD, "words": {"right": "true"}}}, "no word for the label 'wrong'"),
    ({"head": {**HEAD, "words": {**WORDS, "maybe": "it"}}}, "'maybe' is no label of the task"),
    ({"head": {**HEAD, "template": "{text} so"}}, "has no {mask} for the answer"),
    ({"head": {**HEAD, "template": "{title} {mask}"}}, "unknown {title}"),
    ({"head": {**HEAD, "template": "{p:2} {text} {mask}"}}, "a {p:N}, but the method gives"),
    ({"head": {**HEAD, "train": True}}, "none trains nothing"),
    ({"head": {**HEAD, "dropout": 0.1}}, "no dropout before it"),
    ({"head": {**HEAD, "pooling": "cls"}}, "reads {mask}, not cls"),
    ({"head": {**HEAD, "lr": 0.1}}, "the verbalizer is frozen"),
    ({"head": "sequence"}, "a new head would answer at random"),
    ({"method": "head_only", "train": TRAIN}, "nothing would train"),
    ({**V2, "head": {"words": WORDS}}, "only head: verbalizer reads it"),
    (
        {**V2, "head": None, "task": {"demonstrations": 2}},
        "only head: verbalizer reads demonstrations",
    ),
    ({"task": {"demonstrations": 99}}, "99 demonstrations of 24 train rows"),
    ({"method": "ptuning_v1", "prompt_len": 4, "train": TRAIN}, "has its own template"),
]


@pytest.mark.parametrize(("changes", "what"), WRONG, ids=lambda value: str(value)[:40])
def test_what_cannot_work_is_refused_before_anything_is_written(
    config: Callable[..., Path], masked: Path, tmp_path: Path, changes: dict[str, Any], what: str
) -> None:
    path = config(masked, changes.get("task"), **{k: v for k, v in changes.items() if k != "task"})
    with pytest.raises(InputError) as caught:
        tiny.opened(path, tmp_path / "runs")
    assert what in str(caught.value)
    assert all(problem.hint for problem in caught.value.problems)
    assert not (tmp_path / "runs").exists()


def test_a_causal_model_is_asked_for_what_comes_next(
    config: Callable[..., Path], causal: Path, tmp_path: Path
) -> None:
    path = config(causal, head={**HEAD, "template": "{mask} is {text}"})
    with pytest.raises(InputError, match="is not the end of template"):
        tiny.opened(path, tmp_path / "runs")


def test_tags_and_encoder_decoders_have_no_verbalizer(
    config: Callable[..., Path], folder_of: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="is an encoder-decoder"):
        tiny.opened(config(folder_of("t5")), tmp_path / "runs")
    ner = tiny.write_ner(tmp_path / "ner")
    task = {"name": "ner/conll2003", "data": str(ner)}
    with pytest.raises(InputError, match="needs another head"):
        tiny.opened(tiny.write_config(tmp_path / "n.yaml", folder_of("bert"), ner, task=task,
                                      head="verbalizer"), tmp_path / "runs")  # fmt: skip


def test_a_sentence_encoder_is_refused(
    config: Callable[..., Path], folder_of: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="have no language-model head"):
        tiny.prepared(config(folder_of("bert")), tmp_path / "runs")


def test_keys_that_mean_nothing_are_said(
    config: Callable[..., Path], masked: Path, tmp_path: Path
) -> None:
    path = config(masked, train={"lr": 0.1, "epochs": 3, "seed": 11})
    found = tiny.prepared(path, tmp_path / "runs")
    assert "train.lr 0.1 is ignored: none trains nothing" in found.resolved.notes
    assert found.resolved.config.train.epochs is None
    plain = tiny.prepared(config(masked), tmp_path / "runs")
    assert plain.resolved.notes == ()
    assert found.fingerprint == plain.fingerprint
