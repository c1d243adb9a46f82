"""`ptv2 check`: all that can be found without weights, and rows as the model will see them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from commandline import Material, Ptv2, Refused, tree

ROW = {"premise": "ann sat on the mat .", "hypothesis": "ann sat .", "label": "entailment"}


@pytest.fixture
def rte(material: Material) -> Path:
    """A config whose first train row is ROW, on a backbone without weights."""
    shutil.copytree(material.rte, "rte")
    shutil.copytree(material.bert, "bert")
    Path("bert/model.safetensors").unlink()
    rows = Path("rte/train.jsonl").read_text()
    Path("rte/train.jsonl").write_text(f"{json.dumps(ROW)}\n{rows}")
    task = material.task(data="rte")
    return material.write(Path("config.yaml"), backbone="bert", task=task)


def test_a_config_without_problems(rte: Path, ptv2: Ptv2, tmp_path: Path) -> None:
    before = tree(tmp_path)
    result = ptv2("check")
    assert result.code == 0, result.err
    assert result.err == ""
    assert result.out.endswith("config.yaml: no problems found\n")
    for text in (
        "ptuning_v2: 3 keys and values",
        "bert, 3 layers, hidden size 32, 40 positions",
        "superglue/rte, sequence head, max_len 24",
        "2 steps, learning rate 0.05, batches of 4, fp32, seed 11",
        "memory",
        " backbone, ",
        "accuracy on validation; reported: validation",
        "9 rows, ",
        "6 rows, ",
    ):
        assert text in result.out
    assert [line for line in result.out.splitlines() if line != line.rstrip()] == []
    assert "row 1" not in result.out
    assert tree(tmp_path) == before


def test_too_little_memory_names_what_helps(
    rte: Path, ptv2: Ptv2, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptv2_cli.runs.memory_levers.total_memory", lambda device: 1000)
    result = ptv2("check")
    assert result.code == 0
    assert "needs more memory than cpu has; --set train." in " ".join(result.err.split())


@pytest.mark.parametrize(
    ("method", "where", "row"),
    [
        (
            "ptuning_v2",
            "prompts: 3 keys and values before the text's own in 3 of 3 layers",
            "[CLS] ann sat on the mat . [SEP] ann sat . [SEP]",
        ),
        (
            {"name": "ptuning_v2", "layers": "last:1", "position_offset": "keep"},
            "prompts: 3 keys and values before the text's own in 1 of 3 layers",
            "[CLS] ann sat on the mat . [SEP] ann sat . [SEP]",
        ),
        (
            "prompt_tuning",
            "prompts: 3 vectors beside the word embeddings, after the first token",
            "[CLS] <prompt 1-3> ann sat on the mat . [SEP] ann sat . [SEP]",
        ),
        (
            {"name": "prompt_tuning", "place": "before_cls"},
            "before the first token",
            "<prompt 1-3> [CLS] ann sat on the mat . [SEP] ann sat . [SEP]",
        ),
        (
            "ptuning_v1",
            "prompts: ",
            "<prompt 1-1> ann sat on the mat . <prompt 2-2> ann sat . <prompt 3-3> [MASK]",
        ),
        (
            {"name": "ptuning_v1", "template": "{p:2} {premise} likes {p:1} {hypothesis}"},
            "prompts: ",
            "<prompt 1-2> ann sat on the mat . likes <prompt 3-3> ann sat .",
        ),
        ("finetune", "prompts: no prompts", "[CLS] ann sat on the mat . [SEP] ann sat . [SEP]"),
    ],
)
def test_where_prompts_go(
    rte: Path, material: Material, ptv2: Ptv2, method: object, where: str, row: str
) -> None:
    material.write(rte, method=method, backbone="bert", task=material.task(data="rte"))
    result = ptv2("check", "--show", "3")
    assert result.code == 0, result.err
    assert where in result.out
    assert row in result.out
    assert "row 1 of train, gold: entailment" in result.out
    assert "row 3 of train" in result.out
    assert "row 4 of train" not in result.out


def test_what_is_cut_off(rte: Path, ptv2: Ptv2) -> None:
    result = ptv2("check", "--show", "1", "--set", "task.max_len=9")
    assert result.code == 0
    assert "  9 tokens:" in result.out
    assert "cut off at max_len 9: the last 3 of 12 tokens" in result.out
    assert "warning: " in result.err
    assert "are cut at max_len 9" in result.err


def test_tags_beside_first_pieces(material: Material, ptv2: Ptv2) -> None:
    shutil.copytree(material.ner, "ner")
    Path("ner/train.txt").write_text("ann B-PER\n.? O\nparis B-LOC\n")
    task = {"name": "ner/conll2003", "data": "ner", "max_len": 24}
    material.write(Path("config.yaml"), task=task)
    result = ptv2("check", "--show", "3")
    assert result.code == 0, result.err
    assert "row 1 of train, gold: B-PER O B-LOC" in result.out
    assert "[CLS] ann/B-PER ./O ? paris/B-LOC [SEP]" in result.out


def test_windows_of_a_long_sentence(material: Material, ptv2: Ptv2) -> None:
    shutil.copytree(material.ner, "ner")
    Path("ner/train.txt").write_text("ann B-PER\nsat O\n" * 5)
    task = {"name": "ner/conll2003", "data": "ner", "max_len": 8}
    material.write(Path("config.yaml"), task=task)
    result = ptv2("check", "--show", "1")
    assert "window 1 of " in result.out
    assert "1 rows in " in result.out
    shown = result.out.split("row 1 of train")[1].split("\n", 1)[1]
    assert shown.count("/B-PER") == 5


def test_answers_are_marked(material: Material, ptv2: Ptv2) -> None:
    shutil.copytree(material.squad, "squad")
    text = "the cat sat on ann red mat ."
    answers = [{"text": "ann red mat", "answer_start": text.index("ann")}]
    question = {"id": "q", "question": "who is it ?", "answers": answers}
    content = {"data": [{"title": "T", "paragraphs": [{"context": text, "qas": [question]}]}]}
    Path("squad/train.json").write_text(json.dumps(content))
    task = {"name": "qa/squad", "data": "squad", "max_len": 24}
    material.write(Path("config.yaml"), task=task)
    result = ptv2("check", "--show", "1")
    assert result.code == 0, result.err
    assert "the cat sat on ann/START red mat/END ." in result.out


def test_the_config_of_a_run(finished: Path, ptv2: Ptv2) -> None:
    assert ptv2("check", finished / "config.yaml").out.endswith("no problems found\n")


def test_overrides(rte: Path, ptv2: Ptv2) -> None:
    result = ptv2("check", "--prompt-len", "7", "--lr", "1e-3", "--seed", "5")
    assert "7 keys and values" in result.out
    assert "learning rate 0.001" in result.out
    assert "seed 5" in result.out


def test_what_is_ignored(rte: Path, ptv2: Ptv2) -> None:
    result = ptv2("check", "--set", "method=head_only")
    assert "warning: prompt_len 3 is ignored: head_only has no prompt" in result.err


# A config with lists to sweep over


def swept(rte: Path, lists: str) -> Path:
    rte.write_text(f"{rte.read_text()}sweep: {lists}\n")
    return rte


def test_every_trial_of_a_sweep_is_checked(rte: Path, ptv2: Ptv2, tmp_path: Path) -> None:
    swept(rte, "{prompt_len: [2, 4], seed: [11, 12], grid: {method: [ptuning_v2, head_only]}}")
    before = tree(tmp_path)
    result = ptv2("check")
    assert result.code == 0, result.err
    said = (
        "sweep: 6 trials (2 more are equal runs) of prompt_len 2, 4; "
        "method ptuning_v2, head_only; seed 11, 12; the first that can run:"
    )
    assert result.out.splitlines()[0] == said
    assert "ptuning_v2: 2 keys and values" in result.out
    assert result.out.endswith("config.yaml: no problems found\n")
    assert tree(tmp_path) == before
    assert "sweep" not in ptv2("check", "config.yaml", "--unset", "sweep").out


def test_the_base_of_a_sweep_need_not_run(rte: Path, ptv2: Ptv2) -> None:
    rte.write_text(rte.read_text().replace("prompt_len: 3", "prompt_len: 39"))
    assert "prompt_len 39" in ptv2("check").err
    swept(rte, "{prompt_len: [2, 4]}")
    assert ptv2("check").code == 0


@pytest.mark.parametrize(
    ("lists", "says"),
    [
        ("{prompt_len: []}", "config.yaml:12: sweep.prompt_len is an empty list"),
        ("{lr: [1, fast]}", 'train.lr must be a number or the word auto, not the text "fast"'),
        ("{grid: {tran.clip: [1]}}", "did you mean train.clip? write sweep: {grid: {train.clip"),
        ("{grid: {method.layrs: [1]}}", "did you mean method.layers?"),
        ("{prompt_len: [38, 39]}", "prompt_len 39"),
    ],
)
def test_a_sweep_that_cannot_be(lists: str, says: str, rte: Path, refused: Refused) -> None:
    refused("check", swept(rte, lists), says=[says])


def test_trials_that_cannot_run_are_told(rte: Path, ptv2: Ptv2) -> None:
    result = ptv2("check", swept(rte, "{prompt_len: [39, 2], seed: [1, 2]}"))
    assert result.code == 2
    assert "warning: prompt_len 39, seed 2 cannot run: prompt_len 39 plus" in result.err
    assert "  -> " in result.err
    assert "ptuning_v2: 2 keys and values" in result.out
    assert result.out.endswith("config.yaml: 2 of 4 trials cannot run\n")


def test_a_run_to_begin_with_that_is_not_there(rte: Path, ptv2: Ptv2) -> None:
    result = ptv2("check", "--set", "method.init={run: NOWHERE}")
    assert result.code == 2
    assert "NOWHERE: no such folder" in result.err


def test_an_init_that_means_nothing_is_said_once_with_the_nearest(rte: Path, ptv2: Ptv2) -> None:
    result = ptv2("check", "--set", "method.init=vocabulary")
    assert result.code == 2
    assert result.err.count("vocabulary") == 1
    assert "type --set method.init=vocab\n" in result.err


def test_several_tasks_are_named(material: Material, ptv2: Ptv2) -> None:
    tasks = [{"name": "ner/conll2003", "data": str(material.ner), "max_len": 24}] * 2
    material.write(Path("config.yaml"), task=None, tasks=tasks, report=["validation"])
    result = ptv2("check")
    assert result.code == 0, result.err
    assert "multi: conll2003-1 + conll2003-2, token head" in result.out
