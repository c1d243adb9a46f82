"""Data files of any content: what `check` lets pass can be trained on, evaluated and predicted."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from commanding import Commands, examples
from corpora import Corpus, as_bytes, corpora, spoilt_file
from hypothesis import given
from hypothesis import strategies as st
from odd import damaged

from ptv2_cli.config.load import load_config

CORPORA = corpora()


def write(corpus: Corpus, bert: Path, name: str = "", data: bytes = b"", **task: Any) -> Path:
    """The data set with one of its files replaced, and its config."""
    shutil.rmtree("data", ignore_errors=True)
    Path("data").mkdir()
    for file, content in corpus.files.items():
        Path("data", file).write_bytes(as_bytes(file, content))
    if name:
        Path("data", name).write_bytes(data)
    config = {
        "method": "head_only",
        "backbone": str(bert),
        "task": {**corpus.task, "data": "data", "max_len": 24, **task},
        "train": {"steps": 1, "batch_size": 2, "lr": 0.01},
    }
    path = Path("config.yaml")
    path.write_text(yaml.safe_dump(config))
    return path


@given(data=st.data())
@examples(100)
def test_files(ptv2: Commands, bert: Path, data: st.DataObject) -> None:
    corpus = CORPORA[data.draw(st.sampled_from(sorted(CORPORA)))]
    name = data.draw(st.sampled_from(sorted(corpus.files)))
    path = write(corpus, bert, name, data.draw(spoilt_file(name, corpus.files[name])))
    if ptv2("check", path, "--offline") == 0:
        shutil.rmtree("runs", ignore_errors=True)
        assert ptv2("train", path, "--offline") == 0, ptv2.said
        assert ptv2("eval", "--offline") == 0, ptv2.said


@given(data=st.data())
@examples(40)
def test_init(ptv2: Commands, data: st.DataObject) -> None:
    """The config that `init` writes of a file can be read; its data may not be."""
    corpus = CORPORA[data.draw(st.sampled_from(sorted(CORPORA)))]
    name = data.draw(st.sampled_from(sorted(corpus.files)))
    write(corpus, Path(), name, data.draw(spoilt_file(name, corpus.files[name])))
    given = data.draw(st.sampled_from([Path("data"), Path("data", name)]))
    if ptv2("init", "--data", given, "--output", "made.yaml", "--force") == 0:
        load_config(Path("made.yaml"))


@given(note=st.binary(max_size=12) | damaged(b"A caveat.\nMore.\n"))
@examples(6)
def test_note(ptv2: Commands, bert: Path, note: bytes) -> None:
    """A NOTE.txt beside the data says no more than it can."""
    path = write(CORPORA[min(CORPORA)], bert, "NOTE.txt", note)
    shutil.rmtree("runs", ignore_errors=True)
    assert ptv2("check", path, "--offline") in (0, 2)
    code = ptv2("check", path, "--offline")
    assert ptv2("train", path, "--offline") == code


@pytest.fixture(scope="module")
def runs(ptv2: Commands, bert: Path) -> dict[str, Path]:
    """A finished run of every task, which serves files of all formats."""
    found: dict[str, Path] = {}
    for corpus in CORPORA.values():
        task = str(corpus.task)
        if task not in found:
            output = Path("trained", str(len(found)))
            assert ptv2("train", write(corpus, bert), "--offline", "--output", output) == 0
            (found[task],) = output.iterdir()
    return found


@given(data=st.data())
@examples(30)
def test_predict(ptv2: Commands, runs: dict[str, Path], data: st.DataObject) -> None:
    """New rows: answered, refused by name, or put aside with --skip-bad."""
    kind = data.draw(st.sampled_from(sorted(CORPORA)))
    name, content = min(CORPORA[kind].files.items())
    file = Path(f"new{''.join(Path(name).suffixes)}")
    file.write_bytes(data.draw(spoilt_file(name, content)))
    output = data.draw(st.sampled_from(["out.jsonl", "out.csv", "out.tsv", "out.json", "new.bad"]))
    words = [
        "predict",
        file,
        "--run",
        runs[str(CORPORA[kind].task)],
        "--output",
        output,
        "--offline",
    ]
    code = ptv2(*words)
    if data.draw(st.booleans()):
        skipped = ptv2(*words, "--skip-bad")
        assert skipped == 0 or code == 2
