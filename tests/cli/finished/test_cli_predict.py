"""`ptv2 predict`: rows from files and standard input, to files and standard output."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import forked
import pytest
from commandline import Material, Ptv2, Refused, tree
from rich.console import Console

from ptv2_cli import load
from ptv2_cli.cli import console
from ptv2_cli.cli.app import run as run_command
from ptv2_cli.cli.views.progress import Counting
from ptv2_cli.runs.prediction import prediction_stream

Lines = list[dict[str, Any]]


def read(path: Path | str) -> Lines:
    return parsed(Path(path).read_text())


def parsed(text: str) -> Lines:
    return [json.loads(line) for line in text.splitlines()]


def write(path: str, rows: Lines) -> Path:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Path(path)


@pytest.fixture
def rows(finished: Path) -> Lines:
    """The validation rows of `finished`, without labels."""
    lines = read(finished / "predictions" / "validation.jsonl")
    return [{k: line["row"][k] for k in ("premise", "hypothesis", "idx")} for line in lines]


@pytest.fixture
def wanted(finished: Path, rows: Lines) -> Lines:
    """What the run itself predicted for them."""
    lines = read(finished / "predictions" / "validation.jsonl")
    return [
        {"row": row, "prediction": line["prediction"]}
        for row, line in zip(rows, lines, strict=True)
    ]


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`stdin(text)`: what the command reads from standard input."""

    def give(text: str) -> None:
        stream = SimpleNamespace(buffer=io.BytesIO(text.encode()), isatty=lambda: False)
        monkeypatch.setattr(sys, "stdin", stream)

    return give


def test_to_standard_output(finished: Path, rows: Lines, wanted: Lines, ptv2: Ptv2) -> None:
    before = tree(finished)
    result = ptv2("predict", write("new.jsonl", rows))
    assert result.code == 0, result.err
    assert parsed(result.out) == wanted
    assert f"newest finished run: runs/{finished.name}\n" in result.err
    assert "6 rows predicted, " in result.err
    assert tree(finished) == before


def test_to_a_file(finished: Path, rows: Lines, wanted: Lines, ptv2: Ptv2) -> None:
    Path("out.jsonl").write_text("older\n")
    result = ptv2("predict", write("new.jsonl", rows), "--run", finished, "--output", "out.jsonl")
    assert result.code == 0, result.err
    assert result.out == ""
    assert "newest" not in result.err
    assert "6 rows predicted to out.jsonl, " in result.err
    assert read("out.jsonl") == wanted
    assert not list(Path().glob("*.part"))


@pytest.mark.parametrize("size", [1, 64])
def test_to_a_table(finished: Path, rows: Lines, wanted: Lines, ptv2: Ptv2, size: int) -> None:
    rows[0] = {**rows[0], "premise": "=cmd"}
    result = ptv2("predict", write("new.jsonl", rows), "--output", "o.csv", "--batch-size", size)
    assert result.code == 0, result.err
    assert "6 rows predicted to o.csv, " in result.err
    with Path("o.csv").open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert list(found[0]) == [
        *("premise", "hypothesis", "idx"),
        *("prediction.label", "prediction.probabilities"),
    ]
    labels = [line["prediction"]["label"] for line in wanted]
    assert [row["prediction.label"] for row in found[1:]] == labels[1:]
    assert found[0]["premise"] == "'=cmd"
    told = json.loads(found[1]["prediction.probabilities"])
    assert told == pytest.approx(wanted[1]["prediction"]["probabilities"], abs=1e-6)


@pytest.mark.parametrize("piped", [True, False])
def test_a_file_is_read_ahead_and_a_pipe_is_not(
    finished: Path, rows: Lines, wanted: Lines, ptv2: Ptv2, stdin: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch, piped: bool,
) -> None:  # fmt: skip
    """A thread that waits for a pipe could not be ended."""
    threads: list[Any] = []
    really = prediction_stream.ReadAhead
    monkeypatch.setattr(
        prediction_stream, "ReadAhead", lambda items: threads.append(items) or really(items)
    )
    file = write("new.jsonl", rows)
    stdin(Path(file).read_text())
    result = ptv2("predict", "-" if piped else file, "--batch-size", 64)
    assert len(threads) == (0 if piped else 1)
    for line, known in zip(parsed(result.out), wanted, strict=True):
        assert line["row"] == known["row"]


def test_equal_from_python(finished: Path, rows: Lines, ptv2: Ptv2) -> None:
    result = ptv2("predict", write("new.jsonl", rows), "--batch-size", 2)
    assert parsed(result.out) == load(finished).predict(rows, batch_size=2)


def test_the_labels_of_a_labelled_file_mean_nothing(
    finished: Path, wanted: Lines, rows: Lines, ptv2: Ptv2
) -> None:
    labelled = [{**row, "label": "?"} for row in rows]
    lines = parsed(ptv2("predict", write("new.jsonl", labelled)).out)
    assert [line["prediction"] for line in lines] == [line["prediction"] for line in wanted]
    assert [line["row"] for line in lines] == labelled


@pytest.mark.parametrize("layout", ["csv", "tsv"])
def test_tables(finished: Path, rows: Lines, wanted: Lines, ptv2: Ptv2, layout: str) -> None:
    mark = "," if layout == "csv" else "\t"
    body = [mark.join(map(str, row.values())) for row in rows]
    Path(f"new.{layout}").write_text("\n".join([mark.join(rows[0]), *body]))
    result = ptv2("predict", f"new.{layout}")
    assert result.code == 0, result.err
    assert parsed(result.out) == [
        {**line, "row": {**line["row"], "idx": str(line["row"]["idx"])}} for line in wanted
    ]


@pytest.mark.usefixtures("finished")
def test_tables_as_people_have_them(ptv2: Ptv2, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "premise;hypothesis\nun été, là;ann big\n"
    wanted = [{"premise": "un été, là", "hypothesis": "ann big"}]

    def told(*words: object, data: bytes | None = None) -> Lines:
        stream = SimpleNamespace(buffer=io.BytesIO(data or b""), isatty=lambda: False)
        monkeypatch.setattr(sys, "stdin", stream)
        result = ptv2("predict", *words)
        assert result.code == 0, result.err
        return [{k: line["row"][k] for k in wanted[0]} for line in parsed(result.out)]

    for data in (text.encode("utf-16"), gzip.compress(text.encode("utf-8-sig"))):
        Path("new.csv").write_bytes(data)
        assert told("new.csv") == wanted
        assert told("-", "--format", "csv", data=data) == wanted
    Path("new.csv").write_bytes(text.encode("latin1"))
    assert told("new.csv", "--encoding", "latin1") == wanted
    Path("new.csv").write_text("premise|a,b|hypothesis\nun été, là|1|ann big\n")
    assert told("new.csv", "--delimiter", "|") == wanted
    Path("new.json.gz").write_bytes(gzip.compress(json.dumps(wanted, indent=1).encode()))
    assert told("new.json.gz") == wanted


@pytest.mark.usefixtures("finished")
def test_flags_of_the_input_that_cannot_be(refused: Refused, rows: Lines) -> None:
    write("new.jsonl", rows)
    refused(
        "predict", "new.jsonl", "--delimiter", "ab", says=["--delimiter: must be one character"]
    )
    refused("predict", "new.jsonl", "--encoding", "x", says=["--encoding: must be an encoding"])


@pytest.mark.usefixtures("finished")
def test_standard_input(
    rows: Lines, wanted: Lines, ptv2: Ptv2, stdin: Callable[[str], None]
) -> None:
    stdin("".join(json.dumps(row) + "\n" for row in rows))
    assert parsed(ptv2("predict", "-").out) == wanted
    stdin("hypothesis,premise\nann big,a dog\n")
    (line,) = parsed(ptv2("predict", "-", "--format", "csv").out)
    assert line["row"]["premise"] == "a dog"
    stdin("{}\n")
    result = ptv2("predict", "-")
    assert result.code == 2
    assert "error: standard input:1: no column 'premise'" in result.err


def test_a_named_pipe(finished: Path, rows: Lines, wanted: Lines) -> None:
    """As a shell's `<(zcat rows.gz)` gives one."""
    process = forked.begin("predict", "/dev/fd/0", "--format", "jsonl", "--run", str(finished))
    process.stdin.writelines(json.dumps(row) + "\n" for row in rows)
    out, err = process.communicate()
    assert parsed(out) == wanted, err


@pytest.fixture(scope="session")
def others(tmp_path_factory: pytest.TempPathFactory, material: Material) -> Path:
    """Finished runs of tagging and question answering, `ner` and `squad`."""
    folder = tmp_path_factory.mktemp("others")
    for name, task in (("ner", "ner/conll2003"), ("squad", "qa/squad")):
        section = {"name": task, "data": str(getattr(material, name)), "max_len": 24}
        config = material.write(folder / f"{name}.yaml", task=section, report=["validation"])
        assert run_command(["train", str(config), "--output", str(folder / name)]) == 0
    return folder


def other(folder: Path, name: str) -> Path:
    (found,) = (folder / name).iterdir()
    return found


@pytest.mark.parametrize("named", ["words.txt", "words.tsv", "words"])
@pytest.mark.parametrize("form", ["{}", "{} B-PER", "{}\tX\tO"])
def test_words(others: Path, material: Material, ptv2: Ptv2, form: str, named: str) -> None:
    path = other(others, "ner")
    wanted = read(path / "predictions" / "validation.jsonl")
    sentences = ["\n".join(form.format(word) for word in line["row"]["tokens"]) for line in wanted]
    Path(named).write_text("\n\n".join(sentences))
    result = ptv2("predict", named, "--run", path)
    assert result.code == 0, result.err
    assert parsed(result.out) == [
        {"row": {"tokens": x["row"]["tokens"]}, "prediction": x["prediction"]} for x in wanted
    ]


def test_sentences_as_text(others: Path, ptv2: Ptv2) -> None:
    path = other(others, "ner")
    Path("new.csv").write_text("text\nann sat in paris\n")
    (line,) = parsed(ptv2("predict", "new.csv", "--run", path).out)
    assert line["row"]["tokens"] == ["ann", "sat", "in", "paris"]
    assert len(line["prediction"]["tags"]) == 4


def test_a_sentence_per_line(others: Path, ptv2: Ptv2) -> None:
    path = other(others, "ner")
    Path("new.txt").write_text("ann sat in paris .\nbob ran .\n")
    first, second = parsed(ptv2("predict", "new.txt", "--run", path).out)
    assert first["row"]["tokens"] == ["ann", "sat", "in", "paris", "."]
    assert (second["row"]["text"], len(second["prediction"]["tags"])) == ("bob ran .", 3)


def test_lines_that_may_be_words_or_sentences(others: Path, ptv2: Ptv2, refused: Refused) -> None:
    path = other(others, "ner")
    Path("new.txt").write_text("ann sat\nbob ran\n")
    refused("predict", "new.txt", "--run", path, says=["new.txt: may hold words", "--format text"])
    words = parsed(ptv2("predict", "new.txt", "--run", path, "--format", "conll").out)
    assert [line["row"]["tokens"] for line in words] == [["ann", "bob"]]
    lines = parsed(ptv2("predict", "new.txt", "--run", path, "--format", "text").out)
    assert [line["row"]["tokens"] for line in lines] == [["ann", "sat"], ["bob", "ran"]]


def test_questions(others: Path, material: Material, ptv2: Ptv2) -> None:
    path = other(others, "squad")
    wanted = [
        {k: v for k, v in line.items() if k != "gold"}
        for line in read(path / "predictions" / "validation.jsonl")
    ]
    squad = ptv2("predict", material.squad / "dev.json", "--run", path)
    assert parsed(squad.out) == wanted
    rows = [line["row"] for line in wanted]
    assert parsed(ptv2("predict", write("new.jsonl", rows), "--run", path).out) == wanted


# Bad rows


@pytest.fixture
def spoilt(rows: Lines) -> Path:
    """A file whose lines 3 and 5 are bad."""
    lines = [json.dumps(row) for row in rows]
    lines[2], lines[4] = '{"premise": "a"}', "no json"
    Path("new.jsonl").write_text("\n".join(lines))
    return Path("new.jsonl")


@pytest.mark.usefixtures("finished")
def test_a_bad_row_stops(spoilt: Path, ptv2: Ptv2) -> None:
    result = ptv2("predict", spoilt)
    assert result.code == 2
    assert "error: new.jsonl:3: no column 'hypothesis'" in result.err
    assert "--skip-bad" in result.err
    assert [line["row"]["idx"] for line in parsed(result.out)] == [0, 1]
    assert not list(Path().glob("*.bad.jsonl*"))


@pytest.mark.usefixtures("finished")
def test_a_bad_row_leaves_the_output_of_before(spoilt: Path, ptv2: Ptv2) -> None:
    Path("out.jsonl").write_text("older\n")
    result = ptv2("predict", spoilt, "--output", "out.jsonl")
    assert result.code == 2
    assert Path("out.jsonl").read_text() == "older\n"
    assert [line["row"]["idx"] for line in read("out.jsonl.part")] == [0, 1]
    assert "the 2 rows predicted so far are in out.jsonl.part" in result.err


@pytest.mark.usefixtures("finished")
@pytest.mark.parametrize("size", [1, 64])
def test_bad_rows_are_skipped(spoilt: Path, wanted: Lines, ptv2: Ptv2, size: int) -> None:
    result = ptv2("predict", spoilt, "--skip-bad", "--output", "out.jsonl", "--batch-size", size)
    assert result.code == 0, result.err
    assert [line["row"] for line in read("out.jsonl")] == [wanted[at]["row"] for at in (0, 1, 3, 5)]
    bad = read("out.jsonl.bad.jsonl")
    assert [line["line"] for line in bad] == [3, 5]
    assert bad[0]["reason"] == "no column 'hypothesis'"
    assert bad[0]["row"] == {"premise": "a"}
    assert bad[1]["reason"].startswith("no JSON")
    assert bad[1]["row"] == "no json"
    assert "4 rows predicted to out.jsonl" in result.err
    assert "warning: 2 bad rows were left out: out.jsonl.bad.jsonl" in result.err
    assert not list(Path().glob("*.part"))


@pytest.mark.usefixtures("finished")
@pytest.mark.parametrize("layout", ["jsonl", "csv"])
def test_bytes_that_are_no_utf8_are_skipped_and_kept(ptv2: Ptv2, layout: str) -> None:
    path = Path(f"new.{layout}")
    if layout == "csv":
        path.write_bytes(b"premise,hypothesis\na,b\ncaf\xe9,b\n")
        row: Any = ["caf\\xe9", "b"]
    else:
        good = b'{"premise": "a", "hypothesis": "b"}\n'
        path.write_bytes(good + good.replace(b"a", b"\xe9", 1) + b'{"premise": "\\ud800"}\n')
        row = '{"premise": "\\xe9", "hypothesis": "b"}'
    result = ptv2("predict", path, "--skip-bad")
    assert result.code == 0, result.err
    assert len(parsed(result.out)) == 1
    bad = read(f"new.{layout}.bad.jsonl")
    assert "byte 0xe9" in bad[0]["reason"]
    assert bad[0]["row"] == row


@pytest.mark.usefixtures("finished")
def test_the_side_file_without_output(
    spoilt: Path, rows: Lines, ptv2: Ptv2, stdin: Callable[[str], None]
) -> None:
    assert len(parsed(ptv2("predict", spoilt, "--skip-bad").out)) == 4
    assert len(read("new.jsonl.bad.jsonl")) == 2
    stdin(spoilt.read_text())
    assert len(parsed(ptv2("predict", "-", "--skip-bad").out)) == 4
    assert read("stdin.bad.jsonl") == read("new.jsonl.bad.jsonl")
    assert ptv2("predict", write("new.jsonl", rows), "--skip-bad").code == 0
    assert not Path("new.jsonl.bad.jsonl").exists(), "it speaks of rows that were mended"


@pytest.mark.usefixtures("finished")
def test_nothing_but_bad_rows(ptv2: Ptv2) -> None:
    Path("new.jsonl").write_text("{}\n{}\n")
    result = ptv2("predict", "new.jsonl", "--skip-bad", "--output", "out.jsonl")
    assert result.code == 2
    assert "no row of 2 can be used" in result.err
    assert "out.jsonl.bad.jsonl has the reason for each row" in result.err
    assert len(read("out.jsonl.bad.jsonl")) == 2
    assert not Path("out.jsonl").exists()


# What cannot work


@pytest.mark.usefixtures("finished")
@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("new.csv", "premise\na\n", ["new.csv:1: no column 'hypothesis'", "columns here: premise"]),
        ("new.csv", "premise,hypothesis\n", ["new.csv: holds no row"]),
        ("new.csv", "", ["new.csv: holds no row"]),
        ("new.jsonl", "\n\n", ["new.jsonl: holds no row"]),
        ("new.json", "{}", ["new.json:1: no column 'premise'"]),
        ("new.json", "[1]", ["new.json: row 1: no JSON object: '1'"]),
        ("new.json", '{"a":\n1}', ["new.json: no list of rows"]),
        ("new.xls", "{}", ["new.xls: .xls says no format", "--format jsonl | csv | tsv"]),
        ("new.xlsx", "{}", ["new.xlsx: no .xlsx file that can be read"]),
        ("new", "{}", ["new: the name says no format"]),
    ],
)
def test_input_that_cannot_be_used(refused: Refused, name: str, text: str, says: list[str]) -> None:
    Path(name).write_text(text)
    refused("predict", name, "--output", "out.jsonl", says=says)


@pytest.mark.usefixtures("finished")
def test_words_of_the_command_that_cannot_be(refused: Refused, rows: Lines) -> None:
    write("new.jsonl", rows)
    refused("predict", "absent.jsonl", says=["absent.jsonl: there is no such file"])
    refused("predict", "runs", says=["runs: is a folder"])
    there = ["no folder gone", "mkdir -p gone"]
    refused("predict", "new.jsonl", "--output", "gone/out.jsonl", says=there)
    refused("predict", "new.jsonl", "--output", "runs", says=["runs: is a folder"])
    ending = ["--output o.txt: .txt says no format", "--output o.jsonl; or .json, .csv or .tsv"]
    refused("predict", "new.jsonl", "--output", "o.txt", says=ending)
    same = ["new.jsonl: is the input, which it would replace"]
    refused("predict", "new.jsonl", "--output", "./new.jsonl", says=same)
    conll = ["--format: superglue/rte does not read conll", "--format jsonl | csv | tsv"]
    refused("predict", "new.jsonl", "--format", "conll", says=conll)
    refused("predict", "new.jsonl", "--format", "xml", says=["--format"])
    refused("predict", "new.jsonl", "--batch-size", "0", says=["--batch-size"])
    refused("predict", "new.jsonl", "--device", "tpu", says=["'tpu' is no device"])


def test_runs_that_cannot_be_used(finished: Path, refused: Refused, rows: Lines) -> None:
    write("new.jsonl", rows)
    refused("predict", "new.jsonl", "--run", "absent", says=["there is no such run directory"])
    refused("predict", "new.jsonl", "--run", "runs", says=["is no run directory", finished.name])
    (finished / "metrics.json").unlink()
    refused("predict", "new.jsonl", says=["runs: holds no finished run"])
    refused("predict", "new.jsonl", "--run", finished, says=["the run has not finished"])


@pytest.mark.parametrize("command", ["predict", "eval"])
def test_the_backbone_is_gone(
    finished: Path, material: Material, refused: Refused, rows: Lines, command: str
) -> None:
    config = finished / "config.yaml"
    gone = Path("gone").absolute()
    config.write_text(config.read_text().replace(str(material.bert), str(gone)))
    write("new.jsonl", rows)
    words = ["predict", "new.jsonl", "--run"] if command == "predict" else ["eval"]
    says = [f"{finished}: its backbone is gone", str(gone), "bring it back"]
    refused(*words, finished, says=says)


def test_another_backbone_now(
    finished: Path, material: Material, refused: Refused, rows: Lines
) -> None:
    shutil.copytree(material.bert, "bert")
    with Path("bert/model.safetensors").open("r+b") as file:
        file.seek(-9, 2)
        file.write(b"\x01")
    config = finished / "config.yaml"
    here = str(Path("bert").absolute())
    config.write_text(config.read_text().replace(str(material.bert), here))
    refused("predict", write("new.jsonl", rows), says=["was trained on other files of"])


# As a process


def test_a_closed_pipe(finished: Path, rows: Lines) -> None:
    """`ptv2 predict ... | head -n 1` ends without a word."""
    write("new.jsonl", rows * 300)
    code = "import sys; from ptv2_cli.cli.app import main; main()"
    words = ["predict", "new.jsonl", "--run", str(finished), "--batch-size", "64"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read().decode()
    assert process.wait(timeout=120) == 1
    assert "Traceback" not in said
    assert "error" not in said


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_an_interrupt_keeps_whole_lines(finished: Path, rows: Lines) -> None:
    import signal

    words = ["predict", "-", "--run", str(finished), "--output", "out.jsonl", "--batch-size", "1"]
    process = forked.begin(*words)
    for row in rows * 4:  # 24 rows: three chunks of eight, and the pipe stays open
        process.stdin.write(json.dumps(row) + "\n")
    process.stdin.flush()
    part = Path("out.jsonl.part")
    while not part.exists() or part.read_text().count("\n") < 24:
        assert process.returncode is None, process.stderr.read()
    time.sleep(0.5)  # until it has counted what it wrote, and waits for rows
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert "the 24 rows predicted so far are in out.jsonl.part" in said
    assert len(read(part)) == 24
    assert not Path("out.jsonl").exists()


def test_python_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys, ptv2_cli\n"
        "heavy = {'torch', 'transformers', 'numpy', 'pydantic', 'yaml'}\n"
        "assert callable(ptv2_cli.load)\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_types_are_shipped() -> None:
    import ptv2_cli

    assert (Path(ptv2_cli.__file__).parent / "py.typed").is_file()


@pytest.mark.parametrize("bar", [True, False])
def test_a_bar_only_where_no_rows_are_printed(bar: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=screen, force_terminal=True))
    with Counting(io.BytesIO(b"{}"), 2, bar=bar) as counting:
        counting.tick(1)
    assert ("predict" in screen.getvalue()) == bar
