"""The methods paragraph: figures from the runs, and correct English for one run or many."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from made import content, write

from ptv2_cli.report.baseline import against
from ptv2_cli.report.build import build_report
from ptv2_cli.report.describe import describe
from ptv2_cli.report.english import counted, listed, sentence, span
from ptv2_cli.report.runs import find_runs

TRAIN = {
    "train__batch_size": 16, "train__weight_decay": 0.0, "train__clip": 1.0,
    "train__schedule": "linear", "train__warmup": 0.0, "train__precision": "bf16",
}  # fmt: skip


def text_of(folder: Path, baseline: str | None = None, **asked: Any) -> str:
    report = build_report(find_runs([folder]), **asked)
    return "\n".join(describe(report, against(report, baseline) if baseline else None))


def correct(text: str) -> None:
    """What no sentence may have, whatever the figures are."""
    assert "  " not in text
    assert not re.search(r"\bone (?:runs|tasks|seeds|settings|rows|tokens)\b", text)
    nouns = "run|task|seed|setting|row|token|epoch|step|point"
    assert not re.search(rf"\b(?!1\.0)(?:two|three|[2-9]|\d+\d|\d+\.\d) (?:{nouns})\b(?!-)", text)
    assert not re.search(rf"\b1 (?:{nouns})s\b", text)
    assert not re.search(r"None|nan|\(\)|, ,|\{|\}|\.\.", text)
    for line in text.splitlines():
        assert line.endswith(".")
        for part in re.split(r"(?<=[a-z)\d])\. (?=[A-Z])", line):
            assert part[0].isupper()


def test_one_run(tmp_path: Path) -> None:
    write(tmp_path, train__epochs=1, **TRAIN)
    text = text_of(tmp_path)
    correct(text)
    assert text.splitlines() == [
        "We report one run on one task, CB. Training on CB uses 9 rows, and its validation split "
        "has 6. The backbone is tiny (10,000 parameters).",
        "For P-tuning v2 (Liu et al. 2022), we train 0.42 % of the parameters, with prompts of 20 "
        "tokens, at a learning rate of 0.01. The run trains for 1 epoch with AdamW (Loshchilov and "
        "Hutter 2019), batches of 16 rows, a weight decay of 0, gradients clipped at a norm of 1 "
        "and a linear schedule of the learning rate. There is no warm-up. Training computes in "
        "bf16.",
        "We report the run at the evaluation with the best accuracy on the validation split. "
        "Scores are reported on the same validation split, so they are a little too high by "
        "chance. The run has one seed (11). How far another seed would move a score is not known.",
        "On CB (accuracy times 100), P-tuning v2 with 20 tokens reaches 50.0; the majority "
        "baseline has 25.0.",
        "The run used PyTorch 2.13.0 on a CPU. Training took 60 seconds.",
    ]


def test_many_runs(tmp_path: Path) -> None:
    for seed in (11, 12, 13):
        for task in ("superglue/cb", "superglue/rte"):
            write(tmp_path, task=task, seed=seed, score=0.6 + seed / 1000, **TRAIN)
            for rate, score in ((1e-5, 0.7), (2e-5, 0.8)):
                made = {"train__lr": rate, "score": score + seed / 1000, "seed": seed}
                write(tmp_path, task=task, method="finetune", prompt_len=None, **made)
    metrics = content(method="head_only", prompt_len=None, rows=1, data="d" * 64)
    metrics["backbone"]["name"] = "other/large"
    write(tmp_path, metrics)
    text = text_of(tmp_path, "finetune")
    correct(text)
    assert text.startswith("We report 19 runs on three tasks, cb 6, cb 1 and RTE.")
    assert "The backbones are large (10,000 parameters) and tiny (10,000 parameters)." in text
    assert "at learning rates of 1e-05 and 2e-05" in text
    assert "fine-tuning on tiny reaches 81.2 ± 0.1 (the best of two settings; three runs)" in text
    assert "one to three seeds (11, 12 and 13)" in text
    assert "of a task are tested over seeds by Welch's t-test, with Holm's" in text
    assert "Over two pairs of task and backbone, P-tuning v2 with 20 tokens is on average" in text
    assert "with Holm's correction for one comparison" in text


def test_several_settings_and_one_seed(tmp_path: Path) -> None:
    for rate in (0.1, 0.2):
        write(tmp_path, train__lr=rate, train__warmup=rate / 2, prompt_len=int(100 * rate))
    text = text_of(tmp_path)
    correct(text)
    assert "Each setting has one seed (11)." in text
    assert "prompts of 10 or 20 tokens" in text
    assert "rises during up to the first 10 % of the steps" in text


@pytest.mark.parametrize("status", ["finished", "diverged"])
def test_what_a_run_may_lack(status: str, tmp_path: Path) -> None:
    write(tmp_path, task="own/things", status=status, score=None if status != "finished" else 0.4)
    write(tmp_path, task="own/things", method="gated_prompt", train__lr="auto", seed=12)
    write(tmp_path, task="own/things", origin={"kind": "imported from x", "sha256": "f" * 64})
    text = text_of(tmp_path)
    correct(text)
    assert "For gated_prompt, we train" in text
    assert "one that a range test chose" in text
    assert "One run was trained elsewhere." in text
    assert ("One run diverged and counts in no mean." in text) == (status == "diverged")


def test_test_scores_are_not_called_optimistic(tmp_path: Path) -> None:
    write(tmp_path, split="test")
    text = text_of(tmp_path)
    correct(text)
    assert "reported on the test split, which chose nothing" in text
    assert "by chance" not in text


def test_the_words() -> None:
    assert [counted(n, "run") for n in (0, 1, 2, 13)] == [
        "no runs", "one run", "two runs", "13 runs"
    ]  # fmt: skip
    assert [listed(x) for x in ("", "a", "ab", "abca")] == ["", "a", "a and b", "a, b and c"]
    assert span([2, 1, 2], unit=" %") == "1 to 2 %"
    assert sentence("a b") == "A b."
