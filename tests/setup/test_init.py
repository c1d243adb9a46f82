"""`ptv2 init`: what it writes is a config, wherever it is written; it never writes over one."""

from __future__ import annotations

import gzip
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ptv2_cli.cli.app import run
from ptv2_cli.config.load import LoadedConfig, load_config, options_from
from ptv2_cli.data.source import FileSource
from ptv2_cli.errors import InputError
from ptv2_cli.methods.ptuning_v2 import PTuningV2
from ptv2_cli.setup import dialogue
from ptv2_cli.setup.draft import DEMO, copied, draft, scalar
from ptv2_cli.setup.packaged_files import shipped_configs, shipped_names
from ptv2_cli.setup.propose import propose
from ptv2_cli.tasks.catalog import load_task, task_class

CSV = "text,stars,label\n" + "".join(
    f'"{word} film, number {n}",{n % 5},{word}\n' for n in range(20) for word in ("good", "bad")
)
PAIRS = "id\tsentence1\tsentence2\tscore\n" + "".join(
    f"{n}\ta man rides {n}\ta woman rides {n}\t{n / 7:.2f}\n" for n in range(30)
)
CONLL = "Anna B-PER\nsings O\n\nLima B-LOC\n\n"
CHOICES = "".join(
    json.dumps({"id": n, "story": "Anna sat.", "ends": ["So", "No", "Oh"][: 2 + n % 2], "right": 1})
    + "\n"
    for n in range(9)
)
SQUAD = {
    "data": [{"paragraphs": [{"context": "Anna sings.", "qas": [
        {"id": "1", "question": "Who?", "answers": [{"text": "Anna", "answer_start": 0}]}
    ]}]}]
}  # fmt: skip


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with a file of every kind."""
    (tmp_path / "films.csv").write_text(CSV)
    (tmp_path / "pairs.tsv").write_text(PAIRS)
    (tmp_path / "names.conll").write_text(CONLL)
    (tmp_path / "asked.json").write_text(json.dumps(SQUAD))
    (tmp_path / "words.jsonl").write_text(json.dumps({"tokens": ["Anna"], "tags": ["B-PER"]}))
    (tmp_path / "asked.jsonl").write_text(CHOICES)
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text(json.dumps({"model_type": "no-such"}))
    return tmp_path


def checked(path: Path) -> LoadedConfig:
    """The config, with everything checked that needs no backbone."""
    loaded = load_config(path)
    task = loaded.config.task
    _, problems = options_from(task_class(task.name).options_model, task.options, loaded, "task")
    assert problems == []
    load_task(task.name, task.options)
    if loaded.config.method.name == "ptuning_v2":
        assert options_from(PTuningV2, loaded.config.method.options, loaded, "method")[0]
    for split in ("train", "validation", "test"):
        named = getattr(task, split)
        assert named is None or Path(named).is_file()
    return loaded


@pytest.mark.parametrize("name", shipped_names())
def test_a_shipped_config_says_the_same_elsewhere(name: str, tmp_path: Path) -> None:
    assert run(["init", name, "--output", "here.yaml"]) == 0
    written = checked(tmp_path / "here.yaml").config
    original = load_config(shipped_configs() / f"{name}.yaml").config
    assert written == original.model_copy(update={"name": None})
    text = (tmp_path / "here.yaml").read_text()
    assert "# ptv2 train here.yaml" in text.splitlines()[:3]
    assert "$schema=../docs" not in text


def test_paths_inside_the_folder_stay_relative(tmp_path: Path) -> None:
    from ptv2_cli.setup.draft import path_from

    assert path_from(tmp_path / "config.yaml", tmp_path / "data" / "x.csv") == "data/x.csv"
    assert path_from(tmp_path / "a" / "config.yaml", tmp_path / "x.csv") == str(tmp_path / "x.csv")
    assert str(shipped_configs()) in copied("quickstart", tmp_path / "config.yaml")


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("config.yaml").write_text("mine")
    assert run(["init", "quickstart"]) == 2
    assert "--force" in capsys.readouterr().err
    assert Path("config.yaml").read_text() == "mine"
    assert run(["init", "quickstart", "--force"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
    checked(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["init"], "ptv2 init quickstart, or ptv2 init --data FILE"),
        (["init", "quikstart"], "did you mean quickstart?"),
        (["init", "--data", "absent.csv"], "there is no such file or folder"),
        (["init", "quickstart", "--data", "x.csv"], "cannot be combined with NAME"),
        (["init", "quickstart", "--output", "a/b.yaml"], "mkdir -p a"),
        (["init", "quickstart", "--output", "."], "is a folder"),
    ],
)
def test_refusals(
    words: Sequence[str], says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(list(words)) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


def test_a_csv_is_looked_at(data: Path) -> None:
    found = propose(data / "films.csv")
    assert (found.task, found.text, found.label) == ("text/classification", ("text",), "label")
    found = propose(data / "pairs.tsv")
    assert found.task == "text/regression"
    assert (found.text, found.label) == (("sentence1", "sentence2"), "score")
    assert propose(data / "names.conll").task == "text/tagging"
    assert propose(data / "asked.json").task == "text/qa"
    assert propose(data / "words.jsonl").text == ("tokens",)
    found = propose(data / "asked.jsonl")
    assert (found.task, found.text, found.choices, found.label) == (
        "text/choice", ("story",), ("ends",), "right"
    )  # fmt: skip


def test_columns_without_telling_names(tmp_path: Path) -> None:
    rows = "".join(f"{n},{'ab'[n % 2]},some words of row {n}\n" for n in range(20))
    (tmp_path / "odd.csv").write_text(f"no,kind,what it says\n{rows}")
    found = propose(tmp_path / "odd.csv")
    assert (found.task, found.text, found.label) == (
        "text/classification", ("what it says",), "kind"
    )  # fmt: skip


def table(path: Path, header: str, *rows: str) -> Path:
    path.write_text("\n".join([header, *rows * 3]) + "\n")
    return path


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("question,A,B,C,answer", ["who?,x,y,z,A", "why?,u,v,w,C"]),
        ("question,A,B,C,answer", ["who?,x,y,z,0", "why?,u,v,w,2"]),
        ("question,A,B,C,answer", ["who?,x,y,z,x", "why?,u,v,w,w"]),
        ("question,A,B,C,answer", ["who?,x,y,,y", "why?,u,v,w,w"]),
    ],
)
def test_columns_of_choices(tmp_path: Path, header: str, rows: list[str]) -> None:
    found = propose(table(tmp_path / "asked.csv", header, *rows))
    assert (found.task, found.text, found.choices, found.label) == (
        "text/choice", ("question",), ("A", "B", "C"), "answer"
    )  # fmt: skip
    assert run(["init", "--data", "asked.csv"]) == 0
    written = checked(tmp_path / "config.yaml").config.task
    task = load_task(written.name, written.options)
    source = FileSource(tmp_path / "asked.csv")
    read = task.settle(source).read(source, "train")
    assert [row["label"] for row in read.rows[:2]] == [1 if ",y,,y" in rows[0] else 0, 2]


@pytest.mark.parametrize("stem", ["choice", "ending", "option_"])
def test_numbered_columns_are_choices_where_the_label_is_one(tmp_path: Path, stem: str) -> None:
    path = table(tmp_path / "x.csv", f"story,{stem}1,{stem}2,label", "s,a,b,1", "t,c,d,0")
    assert propose(path).choices == (f"{stem}1", f"{stem}2")


def test_lists_of_objects_are_no_choices(tmp_path: Path) -> None:
    row = {"text": "Anna sat.", "spans": [{"start": 0}, {"start": 5}], "label": "x"}
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{json.dumps(row)}\n" * 3)
    assert propose(path).choices == ()


def test_a_pair_of_texts_is_no_choice(tmp_path: Path) -> None:
    path = table(tmp_path / "x.csv", "sentence1,sentence2,label", "a b,c d,1", "e f,g h,0")
    assert propose(path).task == "text/classification"


def test_several_columns_of_0_and_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = table(tmp_path / "x.csv", "comment,toxic,insult", "you a,1,0", "hi b,0,0", "x c,1,1")
    found = propose(path)
    assert (found.text, found.label, found.flags) == (("comment",), "toxic", ("toxic", "insult"))
    asked: list[str] = []
    ask = answers("", "", "", "insult", "")

    def note(question: str, default: str) -> str:
        asked.append(question)
        return ask(question, default)

    assert dialogue.converse(note, path).options["label"] == "insult"
    assert "toxic, insult hold 0 and 1" in asked[3]
    assert "(multi-label) are not supported yet" in asked[3]
    assert run(["init", "--data", "x.csv"]) == 0
    assert "toxic, insult hold 0 and 1" in " ".join(capsys.readouterr().err.split())
    assert checked(tmp_path / "config.yaml").config.task.options["label"] == "toxic"


@pytest.mark.parametrize(
    "rows", [["a good film,1", "a bad one,0"], ["good,a film", "bad,an other", "good,x"]]
)
def test_a_table_without_a_header(
    tmp_path: Path, rows: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    table(tmp_path / "x.csv", rows[0], *rows[1:], rows[0])
    assert run(["init", "--data", "x.csv"]) == 2
    said = capsys.readouterr().err
    assert "x.csv:1: the first line looks like a row, not like the names of columns" in said
    command = said.split("such as ")[1].strip()
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    assert (tmp_path / "with-names.csv").read_text().startswith(f"text,label\n{rows[0]}\n")


@pytest.mark.parametrize("header", ["0,1", "comment,2019", "title,good", "name of it,kind"])
def test_headers_that_are_some(tmp_path: Path, header: str) -> None:
    text = "comment" if header == "comment,2019" else ""
    path = table(tmp_path / "x.csv", header, f"{text}a b,1", "c d,0")
    assert propose(path).label == header.split(",")[1]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("films.csv", CSV.replace(",", ";").encode()),
        ("films.csv", CSV.encode("utf-16")),
        ("films.csv.gz", gzip.compress(CSV.encode())),
        ("films.json", json.dumps([{"text": "a b", "label": n % 2} for n in range(9)]).encode()),
    ],
)
def test_files_as_people_have_them(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    found = propose(tmp_path / name)
    assert (found.task, found.text, found.label) == ("text/classification", ("text",), "label")


def test_bad_rows_are_all_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = "a,1\nb,2\n" * 2
    (tmp_path / "x.csv").write_text(f"text,label\n{good}" + "b\n" * 12)
    assert run(["init", "--data", "x.csv"]) == 0
    said = capsys.readouterr().err
    assert said.count("1 field, but the header names 2") == 10
    assert "x.csv: and 2 more bad rows" in said
    (tmp_path / "x.csv").write_text("text,label\nb\n")
    assert run(["init", "--data", "x.csv", "--force"]) == 2


def test_files_beside_train_are_found(tmp_path: Path) -> None:
    for name in ("train", "dev", "other"):
        (tmp_path / f"{name}.csv").write_text(CSV)
    found = propose(tmp_path / "train.csv")
    assert found.files == {"train": tmp_path / "train.csv", "validation": tmp_path / "dev.csv"}
    assert propose(tmp_path).files is None


@pytest.mark.parametrize("name", ["films.csv", "pairs.tsv", "names.conll", "asked.json",
                                  "words.jsonl", "asked.jsonl"])  # fmt: skip
def test_data_without_a_terminal(data: Path, name: str) -> None:
    assert run(["init", "--data", name]) == 0
    written = checked(data / "config.yaml").config.task
    assert written.train == str(data / name)


def test_data_without_a_label(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.csv").write_text("text\n" + "\n".join(f"row {n}" for n in range(9)))
    assert run(["init", "--data", "x.csv"]) == 2
    assert "its columns are text" in capsys.readouterr().err
    assert not Path("config.yaml").exists()


def answers(*typed: str) -> Callable[[str, str], str]:
    """Answers in order; an empty one is Enter."""
    left = list(typed)

    def ask(question: str, default: str) -> str:
        return left.pop(0) or default

    return ask


@pytest.mark.parametrize(
    ("typed", "task", "options"),
    [
        (["", "1", "films.csv", "", "", ""], "text/classification",
         {"text": ["text"], "label": "label"}),
        (["roberta-large", "text/classification", "films.csv", "text", "stars", ""],
         "text/classification", {"text": ["text"], "label": "stars"}),
        (["", "2", "pairs.tsv", "", "", ""], "text/regression",
         {"text": ["sentence1", "sentence2"], "label": "score"}),
        (["", "3", "names.conll", ""], "text/tagging", {}),
        (["", "3", "words.jsonl", "", "tags", ""], "text/tagging",
         {"token_column": "tokens", "tag_column": "tags"}),
        (["", "4", "asked.json", ""], "text/qa", {}),
        (["", "5", "asked.jsonl", "", "", "", ""], "text/choice",
         {"text": ["story"], "choices": ["ends"], "label": "right"}),
        (["1", "superglue/rte", ""], "superglue/rte", {}),
        (["my/own-model", "qa/squad", "."], "qa/squad", {}),
    ],
)  # fmt: skip
def test_every_way_through_the_dialogue(
    data: Path, typed: list[str], task: str, options: dict[str, object]
) -> None:
    ask = answers(*typed)
    text = draft(dialogue.converse(ask, None), data / "config.yaml")
    (data / "config.yaml").write_text(text)
    written = checked(data / "config.yaml").config
    assert written.task.name == task
    assert written.task.options == options
    assert written.prompt_len == 20
    with pytest.raises(IndexError):  # every answer was asked for
        ask("", "")


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (["", "nine"], "'nine' is no task of the list"),
        (["", "1", "gone.csv"], "there is no such file or folder"),
        (["", "1", "films.csv", "txt"], "no column 'txt'"),
        (["", "1", "films.csv", "text, stars, label"], "3 text columns"),
        (["", "1", "films.csv", "", "", "gone.csv"], "there is no such file"),
        (["7"], "'7' is no backbone"),
        (["./rob"], "backbone ./rob: is neither a folder nor a hub id"),
        (["package:no_such_package/x"], "no installed package has the name 'no_such_package'"),
        (["odd"], "backbone odd: model type .no-such. is unknown"),
    ],
)
def test_answers_that_cannot_be_used(data: Path, typed: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        dialogue.converse(answers(*typed, *typed[-1:] * 2), None)


def test_a_bad_answer_is_asked_again(data: Path) -> None:
    asked: list[str] = []
    ask = answers("rob erta", "", "nine", "1", "gone.csv", "films.csv", "", "txt", "label", "")

    def note(question: str, default: str) -> str:
        asked.append(question)
        return ask(question, default)

    found = dialogue.converse(note, None)
    assert found.options == {"text": ("text",), "label": "label"}
    assert asked[1].startswith("backbone rob erta: is neither a folder nor a hub id")
    assert asked[3].startswith("init: 'nine' is no task of the list\n  -> type a number")
    assert asked[3].endswith("\ntask (number or name)")
    assert "no column 'txt'" in asked[8]


@pytest.mark.parametrize(
    "text",
    ["text", "my column", "true", "null", "5", "1e-3", "a: b", "a #b", "#x", "it's", 'say "x"',
     "文本", "a,b", "[x]", "-", "~", "on", "C:\\x", "x ", "{p}", "/data/a b.csv", DEMO],
)  # fmt: skip
def test_scalars_come_back_as_they_were(text: str, tmp_path: Path) -> None:
    from ptv2_cli.config.yaml import read_yaml

    (tmp_path / "x.yaml").write_text(f"a: {scalar(text)}\nb: [{scalar(text)}]\n", encoding="utf-8")
    assert read_yaml(tmp_path / "x.yaml").data == {"a": text, "b": [text]}


def test_in_a_terminal(data: Path) -> None:
    """A real terminal: the command asks, Enter takes the proposals, the file is there."""
    master, slave = pty.openpty()
    code = "import sys; sys.argv[0] = 'ptv2'; from ptv2_cli.cli.app import main; main()"
    begun = subprocess.Popen(
        [sys.executable, "-c", code, "init", "--data", "films.csv"],
        stdin=slave, stdout=subprocess.PIPE, stderr=slave, cwd=data,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    os.close(slave)
    os.write(master, b"\n\n\n\n\n")
    out, _ = begun.communicate(timeout=60)
    shown = os.read(master, 65536).decode()
    os.close(master)
    assert begun.returncode == 0
    assert out == b"wrote config.yaml\n"
    assert "What is to be learned?" in shown
    assert "[label]" in shown
    assert checked(data / "config.yaml").config.task.options == {"text": ["text"], "label": "label"}


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


TEXTS = [f"the {word} is in the box" for word in ("cat", "dog", "mat", "sun")]


@pytest.mark.parametrize(
    ("rows", "text", "label"),
    [
        ([{"article": t, "summary": f"a {t}"} for t in TEXTS], ("article",), "summary"),
        (
            [{"instruction": t, "context": "x y", "response": f"a {t}"} for t in TEXTS],
            ("instruction", "context"),
            "response",
        ),
        ([{"mr": t, "references": [f"a {t}", "b c"]} for t in TEXTS], ("mr",), "references"),
    ],
)
def test_texts_to_write(
    tmp_path: Path, rows: list[dict[str, Any]], text: tuple[str, ...], label: str
) -> None:
    found = propose(written(tmp_path / "x.jsonl", rows))
    assert (found.task, found.text, found.label) == ("text/generation", text, label)
    answers = dialogue.accepted(tmp_path / "x.jsonl")
    assert answers.options == {"input": text, "output": label}
    assert answers.backbone in dialogue.backbones(writes=True)
    assert "generate: {max_new_tokens: 64}" in draft(answers, tmp_path / "config.yaml")


def test_few_answers_are_classes(tmp_path: Path) -> None:
    rows = [
        {"text": t, "answer": ("yes it is", "no it is not")[n % 2]} for n, t in enumerate(TEXTS)
    ]
    assert propose(written(tmp_path / "x.jsonl", rows * 3)).task == "text/classification"
    words = [{"text": t, "answer": t.split()[1]} for t in TEXTS]
    assert propose(written(tmp_path / "y.jsonl", words)).task == "text/classification"


def test_conversations(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "who ?"}, {"role": "assistant", "content": "ann"}]
    path = written(tmp_path / "x.jsonl", [{"id": 1, "messages": talk}])
    assert propose(path).messages == "messages"
    assert dialogue.accepted(path).options == {"messages": "messages"}
    cell = json.dumps(talk).replace('"', '""')
    (tmp_path / "x.csv").write_text(f'id,chat\n1,"{cell}"\n')
    assert propose(tmp_path / "x.csv").messages == "chat"
