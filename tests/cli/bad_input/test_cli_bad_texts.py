"""Rows, keys and models with which no text can be learned: refused before anything is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lm
import pytest
import tiny
from commandline import Ptv2, Refused, only_run


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lm.save_writer(tmp_path_factory.mktemp("writer"), "gpt2", n_positions=120)


@pytest.fixture
def config(tmp_path: Path, model: Path) -> Callable[..., Path]:
    """A config of two steps; `task` adds to the task's keys."""

    def write(**task: Any) -> Path:
        rows = lm.write_texts(tmp_path / "rows")
        return tiny.write_config(
            tmp_path / "config.yaml",
            model,
            rows,
            task={"name": "text/generation", "data": str(rows), "max_len": 36, **task},
            train={"steps": 2, "lr": 0.05, "batch_size": 8},
            generate={"max_new_tokens": 4},
        )

    return write


def change(path: Path, line: int, **values: Any) -> None:
    """Change a row of a file; None drops a key."""
    rows = [json.loads(text) for text in path.read_text().splitlines()]
    row = {**rows[line - 1], **values}
    rows[line - 1] = {key: value for key, value in row.items() if value is not None}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


LONG = "the old red cat sat on the mat"


@pytest.mark.parametrize("split", ["train", "val"])
def test_an_answer_that_is_too_long(
    config: Callable[..., Path], refused: Refused, split: str
) -> None:
    path = config()
    change(Path(f"rows/{split}.jsonl"), 7, output=LONG)
    for command in ("train", "check"):
        refused(
            *(command, path),
            says=[
                "generate.max_new_tokens: the text 'the old red cat sat on the mat' to write has 9 "
                "tokens with its end",
                f"rows/{split}.jsonl:7",
                "write generate: {max_new_tokens: 9}, or more",
            ],
        )


def test_rows_without_a_text(config: Callable[..., Path], refused: Refused, ptv2: Ptv2) -> None:
    path = config()
    change(Path("rows/train.jsonl"), 3, output=" ")
    change(Path("rows/train.jsonl"), 5, output=None)
    refused(
        *("train", path),
        says=[
            "rows/train.jsonl:3: column 'output' is empty: no text to write",
            "rows/train.jsonl:5: no column 'output'",
            "--skip-bad leaves bad rows out",
        ],
    )
    result = ptv2("train", path, "--skip-bad")
    assert result.code == 0, result.err
    left_out = (only_run() / "train.bad.jsonl").read_text().splitlines()
    assert [json.loads(line)["line"] for line in left_out] == [3, 5]


def test_messages_and_columns(config: Callable[..., Path], refused: Refused) -> None:
    refused("check", config(messages="talk", input=["x"]), says=["no meaning beside messages"])
    refused("check", config(template="{input} \\n"), says=["no line break", "double quotes"])


def test_no_chat_template(config: Callable[..., Path], refused: Refused, model: Path) -> None:
    path = config(messages="talk")
    talk = [{"role": "user", "content": "who ?"}, {"role": "assistant", "content": "ann"}]
    other = [talk[0], {"role": "assistant", "content": "bob"}]
    for split in ("train", "val"):
        rows = [{"talk": talk}, {"talk": other}]
        Path(f"rows/{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    refused("train", path, says=[f"the tokenizer of {model} has no chat", "input: and output:"])


STRICT = (
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}" + lm.CHAT
)


def test_new_rows_that_the_chat_template_refuses(tmp_path: Path, ptv2: Ptv2) -> None:
    """They are bad rows: the others are predicted."""
    model = lm.save_writer(tmp_path / "strict", "gpt2", n_positions=120, chat=STRICT)
    user = {"role": "user", "content": "who ?"}
    answers = [{"role": "assistant", "content": name} for name in ("ann", "bob")]
    rows = tmp_path / "rows"
    rows.mkdir()
    for split in ("train", "val"):
        lines = [json.dumps({"talk": [user, answer]}) + "\n" for answer in answers * 2]
        (rows / f"{split}.jsonl").write_text("".join(lines))
    path = tiny.write_config(
        tmp_path / "config.yaml",
        model,
        rows,
        task={"name": "text/generation", "data": str(rows), "max_len": 80, "messages": "talk"},
        train={"steps": 1, "lr": 0.05, "batch_size": 2},
        generate={"max_new_tokens": 4},
    )
    assert ptv2("train", path).code == 0
    new = [[user], [user, user], [user], [user, {**user, "role": "usr"}], [user, user]]
    Path("new.jsonl").write_text("".join(json.dumps({"talk": talk}) + "\n" for talk in new))
    stopped = ptv2("predict", "new.jsonl")
    assert (stopped.code, len(stopped.out.splitlines())) == (2, 1)
    assert f"new.jsonl:2: the chat template of {model} refuses" in stopped.err
    assert "roles must alternate" in stopped.err
    assert "--skip-bad leaves such rows out" in stopped.err
    result = ptv2("predict", "new.jsonl", "--skip-bad", "--output", "written.jsonl")
    assert result.code == 0, result.err
    assert len(Path("written.jsonl").read_text().splitlines()) == 2
    bad = [json.loads(line) for line in Path("written.jsonl.bad.jsonl").read_text().splitlines()]
    assert [line["line"] for line in bad] == [2, 4, 5]
    assert [line["row"]["talk"] for line in bad] == [new[1], new[3], new[4]]
