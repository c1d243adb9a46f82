"""Runs whose answers are texts that the language model writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lm
import pytest
import tiny
import torch
import transformers
from left_behind import assert_bit_equal, read_checkpoint
from safetensors.torch import load_file

from ptv2_cli.errors import ConfigError, InputError, UnfitRow
from ptv2_cli.inputs.batch import collate
from ptv2_cli.kinds import IGNORE
from ptv2_cli.runs import trainer
from ptv2_cli.runs.directory import RunDirectory
from ptv2_cli.runs.prediction.predict import Run
from ptv2_cli.runs.rescore import open_for_rescoring
from ptv2_cli.training.events import StepDone

TRAIN = {"lr": 0.05, "epochs": 2, "batch_size": 8, "seed": 11}
WIDE: dict[str, dict[str, Any]] = {"gpt2": {"n_positions": 120, "chat": lm.CHAT}}
"""Changes of a family's tiny model; the text of a chat is longer."""


@pytest.fixture(scope="module")
def writer_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def get(family: str) -> Path:
        if family not in made:
            changes = WIDE.get(family, {})
            made[family] = lm.save_writer(tmp_path_factory.mktemp(family), family, **changes)
        return made[family]

    return get


@pytest.fixture
def config(tmp_path: Path, writer_of: Callable[[str], Path]) -> Callable[..., Path]:
    """A config of two epochs; `changes` replace top-level keys, `task` adds to the task's."""

    def write(family: str, task: dict[str, Any] | None = None, **changes: Any) -> Path:
        rows = lm.write_texts(tmp_path / "rows")
        section = {"name": "text/generation", "data": str(rows), "max_len": 36}
        content = {
            "prompt_len": 3,
            "train": TRAIN,
            "generate": {"max_new_tokens": 8},
            "task": {**section, **(task or {})},
        }
        backbone = changes.pop("backbone", None) or writer_of(family)
        return tiny.write_config(tmp_path / "c.yaml", backbone, rows, **{**content, **changes})

    return write


V1 = {"name": "ptuning_v1", "template": "{p:2} {input} ? {p:1}"}
RUNS: list[tuple[str, Any, int | None]] = [
    ("gpt2", "ptuning_v2", 3),
    ("gpt2", "prompt_tuning", 3),
    ("gpt2", V1, None),
    ("gpt2", "finetune", None),
    ("llama", "finetune", None),
    ("llama", "none", None),
    ("t5", {"name": "ptuning_v2", "reparam": "mlp", "reparam_hidden": 8}, 3),
    ("t5", "finetune", None),
    ("gpt2", {"name": "ptuning_v2", "gates": "apt"}, 3),
    ("t5", {"name": "ptuning_v2", "gates": "apt", "softmax": "separate"}, 3),
    ("llama", "prefix_tuning_plus", None),
    ("bart", "prompt_tuning", 3),
]


@pytest.mark.parametrize(("family", "method", "length"), RUNS)
def test_a_run_is_evaluated_and_predicted_again(
    config: Callable[..., Path], tmp_path: Path, family: str, method: Any, length: int | None
) -> None:
    train = {**TRAIN, "lr": 1e-3} if method == "finetune" else TRAIN
    train = {"seed": 11} if method == "none" else train
    path = config(family, method=method, prompt_len=length, train=train)
    session, metrics = tiny.trained(path, tmp_path / "runs")
    directory = session.resolved_run.directory
    again = open_for_rescoring(directory, split=None, data=None, device=tiny.CPU, offline=True)
    assert {line.verdict for line in again.evaluate("validation")} == {"equal"}
    assert metrics["detail"]["validation"]["perplexity"] > 0
    lines = Run(directory, offline=True).predictions()
    found = Run(directory, offline=True).predict([line["row"] for line in lines])
    for line, new in zip(lines, found, strict=True):
        assert new["row"] == line["row"]
        assert new["prediction"]["text"] == line["prediction"]["text"]
        assert new["prediction"]["log_probability"] == pytest.approx(
            line["prediction"]["log_probability"], abs=1e-4
        )
        assert "gold_log_probability" in line["prediction"]
        assert "gold_log_probability" not in new["prediction"]
    parts: list[str] = []
    Run(directory, offline=True).stream(lines[0]["row"], parts.append)
    assert "".join(parts) == lines[0]["prediction"]["text"]
    names = read_checkpoint(directory.checkpoints, "best").part("learner")
    own_head = family == "llama" and method == "finetune"  # the others' is the word embeddings
    heads = [value for name, value in names.items() if name.startswith("head.")]
    assert bool(heads) == own_head
    if own_head:  # which trains with the backbone
        stock = load_file(
            Path(session.resolved_run.resolved.config.backbone.name) / "model.safetensors"
        )
        assert not torch.equal(heads[0], stock["lm_head.weight"])
    if method == "finetune":
        history = [json.loads(line) for line in directory.history.read_text().splitlines()]
        assert history[-1]["train_loss"] < history[0]["train_loss"]


def stock_loss(family: str, folder: Path, features: Any) -> float:
    """The mean loss of all answers' tokens under transformers' own model."""
    two = family == "t5"
    kind = transformers.AutoModelForSeq2SeqLM if two else transformers.AutoModelForCausalLM
    model = kind.from_pretrained(folder).eval()
    total, count = 0.0, 0
    for feature in features:
        answer = [token for token in feature.label if token != IGNORE]
        if two:
            ids, labels = feature.input_ids, answer
        else:
            ids = [*feature.input_ids, answer[-1]]
            labels = [IGNORE] * (len(ids) - len(answer)) + answer
        with torch.no_grad():
            loss = model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss
        total, count = total + float(loss) * len(answer), count + len(answer)
    return total / count


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_the_loss_is_that_of_the_answers_alone(
    config: Callable[..., Path], writer_of: Callable[[str], Path], tmp_path: Path, family: str
) -> None:
    path = config(family, method="none", prompt_len=None, train={"seed": 11})
    session = tiny.opened(path, tmp_path / "runs")
    features = session.data.features("validation")
    batch = collate(list(features), session.predictor.pad_id, "generation")
    with torch.no_grad():
        loss = session.learner.eval()(batch).loss
    assert loss is not None
    assert float(loss) == pytest.approx(stock_loss(family, writer_of(family), features), rel=1e-5)


def test_an_interrupted_run_continues_bit_for_bit(
    config: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = config("gpt2")
    whole, _ = tiny.trained(path, tmp_path / "whole")
    monkeypatch.setattr(trainer, "SAVE_SECONDS", 0.0)
    steps = 0

    def stop(event: Any) -> None:
        nonlocal steps
        steps += isinstance(event, StepDone)
        if steps == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiny.trained(path, tmp_path / "cut", listen=stop)
    cut, _ = tiny.trained(path, tmp_path / "cut", resume=True)
    assert_bit_equal(*(each.resolved_run.directory.path for each in (whole, cut)))


def prompt_after(config: Path, output: Path, *sets: str) -> torch.Tensor:
    if not any("batch_size" in text or "batch_tokens" in text for text in sets):
        sets = (*sets, "train.batch_size=24")
    session, _ = tiny.trained(config, output, "train.steps=1", "backbone.dropout=off", *sets)
    tensors = read_checkpoint(session.resolved_run.directory.checkpoints, "last").part("learner")
    return next(value for name, value in tensors.items() if name.endswith("prompt"))


@pytest.mark.parametrize(
    "sets",
    [
        ("train.batch_size=12", "train.accumulate=2"),
        ("train.gradient_checkpointing=true",),
        ("train.batch_tokens=100000",),
    ],
)
def test_one_step_is_the_same_however_it_is_computed(
    config: Callable[..., Path], tmp_path: Path, sets: tuple[str, ...]
) -> None:
    """A whole epoch in one step: parts of it, and activations computed anew, give its gradient."""
    train = {"lr": 0.05, "seed": 11}
    method = {"name": "ptuning_v2", "dropout": 0.0}
    path = config("gpt2", method=method, train=train)
    plain = prompt_after(path, tmp_path / "plain")
    assert torch.allclose(prompt_after(path, tmp_path / "other", *sets), plain, atol=1e-5)


# Conversations


def talk(folder: Path, count: int) -> Path:
    folder.mkdir()
    for name, seed in (("train", 1), ("val", 2)):
        lines = []
        for text, right in lm.pairs(count, seed):
            answer = {"role": "assistant", "content": "true" if right else "false"}
            lines.append(json.dumps({"talk": [{"role": "user", "content": text}, answer]}) + "\n")
        (folder / f"{name}.jsonl").write_text("".join(lines))
    return folder


def test_conversations_train_and_answer(config: Callable[..., Path], tmp_path: Path) -> None:
    task = {"data": str(talk(tmp_path / "talk", 16)), "messages": "talk", "max_len": 80}
    session, _ = tiny.trained(config("gpt2", task), tmp_path / "runs")
    directory = session.resolved_run.directory
    again = open_for_rescoring(directory, split=None, data=None, device=tiny.CPU, offline=True)
    assert {line.verdict for line in again.evaluate("validation")} == {"equal"}
    run = Run(directory, offline=True)
    (line, *_) = run.predictions()
    messages = line["row"]["talk"]
    asked = [messages[0]["content"], {"talk": messages}, {"talk": messages[:1]}]
    texts = {run.predict(row)["prediction"]["text"] for row in asked}
    assert texts == {line["prediction"]["text"]}
    repeated = tiny.prepared(directory.config, tmp_path / "runs")
    assert repeated.fingerprint == session.resolved_run.fingerprint


def test_an_encoder_decoder_takes_no_conversation(
    config: Callable[..., Path], tmp_path: Path
) -> None:
    task = {"data": str(talk(tmp_path / "talk", 4)), "messages": "talk"}
    assert "t5 is an encoder-decoder" in tiny.problems(config("t5", task))


def test_ptuning_v1_has_its_own_template(config: Callable[..., Path]) -> None:
    for task in ({"messages": "talk"}, {"template": "{input} ?"}):
        path = config("gpt2", task, method="ptuning_v1")
        assert "ptuning_v1 writes the text by its own template" in tiny.problems(path)
    masked = {"name": "ptuning_v1", "template": "{p:2} {input} {mask}"}
    path = config("gpt2", method=masked, prompt_len=None)
    assert "has a {mask}, but the answer is written behind" in tiny.problems(path)


def test_a_model_without_a_chat_template(config: Callable[..., Path], tmp_path: Path) -> None:
    task = {"data": str(talk(tmp_path / "talk", 4)), "messages": "talk"}
    with pytest.raises(ConfigError, match="has no chat template"):
        tiny.opened(config("llama", task), tmp_path / "runs")


# What cannot work


@pytest.mark.parametrize("method", ["none", "ptuning_v2"])
def test_a_run_that_writes_nothing_says_so(
    config: Callable[..., Path], writer_of: Callable[[str], Path], tmp_path: Path, method: str
) -> None:
    mute = tmp_path / "mute"
    model: Any = transformers.GPT2LMHeadModel.from_pretrained(writer_of("gpt2"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(writer_of("gpt2"))
    end = model.lm_head.weight[tokenizer.eos_token_id].detach()
    with torch.no_grad():
        model.transformer.ln_f.bias += 40 * end / end.square().sum()
    model.save_pretrained(mute)
    tokenizer.save_pretrained(mute)
    train = {"seed": 11} if method == "none" else {"lr": 1e-6, "steps": 1}
    length = None if method == "none" else 3
    path = config("gpt2", backbone=mute, method=method, prompt_len=length, train=train)
    _, metrics = tiny.trained(path, tmp_path / "runs")
    (warning,) = (text for text in metrics["warnings"] if text.startswith("every"))
    assert warning.startswith("every text that the run writes is empty: try ")
    assert ("learning rate (now 1e-06)" in warning) == (method != "none")


def test_a_row_that_does_not_fit_is_named(config: Callable[..., Path], tmp_path: Path) -> None:
    path = config("gpt2", generate={"max_new_tokens": 4}, task={"limit": {"train": 20}})
    file = tmp_path / "rows" / "train.jsonl"
    lines = file.read_text().splitlines()
    lines[6] = json.dumps({"input": "ann sees", "output": "the old red cat sat on the mat"})
    file.write_text("\n\n".join(lines) + "\n")
    with pytest.raises(UnfitRow) as caught:
        tiny.opened(path, tmp_path / "runs").data.features("train")
    message = str(caught.value)
    assert f"({file}:13)" in message
    assert "write generate: {max_new_tokens: 9}, or more; or shorten the text" in message


def test_weights_without_a_language_model_head(config: Callable[..., Path], tmp_path: Path) -> None:
    bare = tiny.save_model(tmp_path / "bare", "llama")
    with pytest.raises(InputError, match="its weights have no language-model head") as caught:
        tiny.resolved(config("gpt2", backbone=bare))
    assert "choose a backbone whose weights were saved with one" in str(caught.value)


def test_an_encoder_cannot_write(
    config: Callable[..., Path], folder_of: Callable[[str], Path]
) -> None:
    assert "bert is an encoder: it cannot write text" in tiny.problems(
        config("gpt2", backbone=folder_of("bert"))
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"head": "sequence"}, "needs a generation head, not 'sequence'"),
        ({"head": {"lr": 0.1}}, "answered by the backbone's own language-model head"),
        ({"method": "head_only", "prompt_len": None}, "write method: none to evaluate it"),
        ({"generate": {"temperature": 0.5}}, "has no effect without do_sample"),
        ({"generate": {"max_new_tokens": 2, "min_new_tokens": 3}}, "is more than max_new_tokens"),
    ],
)
def test_keys_that_contradict_each_other(
    config: Callable[..., Path], changes: dict[str, Any], says: str
) -> None:
    assert says in tiny.problems(config("gpt2", **changes))


def test_a_decoder_has_positions_for_the_answer(
    config: Callable[..., Path], tmp_path: Path
) -> None:
    model = lm.save_writer(tmp_path / "bart", "bart", max_position_embeddings=40)
    task, train = {"max_len": 20}, {**TRAIN, "epochs": 1}
    path = config("bart", task, backbone=model, train=train, generate={"max_new_tokens": 38})
    assert "38 tokens are more than the 37 positions of the decoder beside the prompt's 3" in (
        tiny.problems(path)
    )
    longest = {"max_new_tokens": 37, "min_new_tokens": 37}
    path = config("bart", task, backbone=model, train=train, generate=longest)
    tiny.trained(path, tmp_path / "runs")


def test_truncation_of_a_conversation(config: Callable[..., Path]) -> None:
    path = config("gpt2", {"messages": "talk", "truncation": "only_first"})
    assert "of a conversation the oldest messages are left out" in tiny.problems(path)


def test_several_tasks_cannot_write(config: Callable[..., Path], tmp_path: Path) -> None:
    rte = tiny.write_rte(tmp_path / "rte")
    tasks = [
        {"name": "text/generation", "data": str(tmp_path / "rows")},
        {"name": "superglue/rte", "data": str(rte)},
    ]
    path = config("gpt2", task=None, generate=None)
    text = path.read_text().partition("task:")[0]
    path.write_text(f"{text}task: {{name: multi, tasks: {json.dumps(tasks)}}}\nprompt_len: 3\n")
    assert "train text/generation in a run of its own" in tiny.problems(path)


@pytest.mark.parametrize(("given", "top_k"), [({}, 0), ({"top_k": 5}, 5)])
def test_beams_draw_among_all_tokens(
    config: Callable[..., Path], tmp_path: Path, given: dict[str, Any], top_k: int
) -> None:
    """Without the key transformers would take the 50 likeliest."""
    generate = {"max_new_tokens": 8, "num_beams": 2, "do_sample": True, **given}
    writer = tiny.opened(config("gpt2", generate=generate), tmp_path / "runs").predictor.writer
    assert writer is not None
    assert (writer.config.do_sample, writer.config.top_k) == (True, top_k)


# One text at a time


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, writer_of: Callable[[str], Path]
) -> RunDirectory:
    folder = tmp_path_factory.mktemp("trained")
    rows = lm.write_texts(folder / "rows")
    path = tiny.write_config(
        folder / "c.yaml",
        writer_of("gpt2"),
        rows,
        task={"name": "text/generation", "data": str(rows), "max_len": 36},
        train=TRAIN,
        generate={"max_new_tokens": 8},
    )
    session, _ = tiny.trained(path, folder / "runs")
    return session.resolved_run.directory


def test_a_text_comes_word_by_word(trained: RunDirectory) -> None:
    run = Run(trained, offline=True)
    for line in run.predictions()[:4]:
        parts: list[str] = []
        found = run.stream(line["row"]["input"], parts.append)
        assert "".join(parts) == found["prediction"]["text"] == line["prediction"]["text"]


def test_how_to_write_can_change(trained: RunDirectory) -> None:
    from ptv2_cli import load

    plain = load(trained.path, offline=True)
    short = load(trained.path, offline=True, generate={"max_new_tokens": 2})
    beams = load(trained.path, offline=True, generate={"num_beams": 3})
    text = "ann likes the cat"
    assert plain.predict(text)["prediction"]["text"].startswith(
        short.predict(text)["prediction"]["text"]
    )
    assert "log_probability" not in beams.predict(text)["prediction"]
    drawn = [
        load(trained.path, offline=True, generate={"do_sample": True, "seed": seed}).predict(text)
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    other = load(trained.path, offline=True, generate={"do_sample": True, "seed": 1})
    texts = ["now bob sees the mat", text, "there there here ann likes the dog"]
    for size in (1, 3):
        found = other.predict(texts, batch_size=size)[1]
        assert found["prediction"]["text"] == drawn[0]["prediction"]["text"]
    with pytest.raises(ConfigError, match="has no effect without do_sample"):
        load(trained.path, offline=True, generate={"temperature": 0.5}).predict(text)


@pytest.mark.parametrize(
    ("trained_with", "off"),
    [
        ({"do_sample": True, "temperature": 0.7, "top_k": 5}, {"do_sample": False}),
        ({"num_beams": 2, "length_penalty": 0.5}, {"num_beams": 1}),
    ],
)
def test_a_way_of_writing_can_be_turned_off(
    config: Callable[..., Path],
    tmp_path: Path,
    trained_with: dict[str, Any],
    off: dict[str, Any],
) -> None:
    """The run's own config then holds keys that nothing reads."""
    from ptv2_cli import load

    path = config("gpt2", generate={"max_new_tokens": 4, **trained_with})
    session, _ = tiny.trained(path, tmp_path / "runs", "train.epochs=1")
    run = session.resolved_run.directory.path
    plain = load(run, offline=True, generate=off).predict("ann likes the cat")["prediction"]
    assert "log_probability" in plain
    key = next(key for key in trained_with if key not in off)
    again = load(run, offline=True, generate={**off, key: trained_with[key]})
    with pytest.raises(ConfigError, match="has no effect without"):
        again.predict("ann")
