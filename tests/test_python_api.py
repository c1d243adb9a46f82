"""`from ptv2_cli import train, sweep, evaluate, load`: the commands as functions."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

import ptv2_cli
from ptv2_cli import RunConfig, evaluate, load, sweep, train
from ptv2_cli.cli.app import run as run_command
from ptv2_cli.errors import ConfigError, DataError, InputError, Interrupted, Ptv2Error, RunError

Content = dict[str, Any]


@pytest.fixture(scope="module")
def config(
    tmp_path_factory: pytest.TempPathFactory, folder_of: Callable[[str], Path]
) -> Callable[[], Content]:
    """A fresh config of RTE as a dict."""
    data = tiny.write_rte(tmp_path_factory.mktemp("rte") / "data")

    def make() -> Content:
        return {
            "method": "ptuning_v2",
            "backbone": folder_of("bert"),
            "task": {"name": "superglue/rte", "data": data, "max_len": 24},
            "prompt_len": 3,
            "train": {"lr": 0.05, "epochs": 2, "batch_size": 4, "seed": 11},
            "report": ["validation"],
        }

    return make


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, config: Callable[[], Content]) -> Any:
    """A finished run, not to be changed."""
    return train(config(), output=tmp_path_factory.mktemp("runs"), device="cpu", offline=True)


def problems(error: pytest.ExceptionInfo[Ptv2Error]) -> str:
    return str(error.value)


def test_a_run_says_what_it_is(trained: Any) -> None:
    written = json.loads((trained.directory / "metrics.json").read_text())
    assert isinstance(trained.directory, Path)
    assert trained.metrics == written
    assert [line["epoch"] for line in trained.history] == [1.0, 2.0]
    assert trained.config.train.lr == 0.05
    score = f"{100 * written['selection']['value']:.1f}"
    expected = rf"<Run ptuning_v2 on \S+bert\S*, superglue/rte validation: accuracy {score}, "
    assert re.match(expected, repr(trained))
    lines = (trained.directory / "predictions" / "validation.jsonl").read_text().splitlines()
    assert trained.predictions() == trained.predictions("dev") == [*map(json.loads, lines)]
    with pytest.raises(RunError, match="reports no predictions of test\n  -> it reports: valid"):
        trained.predictions("test")


def test_the_command_writes_the_same_directory(
    trained: Any, config: Callable[[], Content], tmp_path: Path
) -> None:
    """The same files, with the same content where that holds no times."""
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(config(), default=str))
    words = ["train", str(path), "--output", str(tmp_path / "runs"), "--device", "cpu"]
    assert run_command([*words, "--offline"]) == 0
    (other,) = (tmp_path / "runs").iterdir()
    assert other.name == trained.directory.name

    def files(folder: Path) -> dict[str, bytes]:
        found = (file for file in sorted(folder.rglob("*")) if file.is_file())
        return {str(file.relative_to(folder)): file.read_bytes() for file in found}

    one, two = files(trained.directory), files(other)
    one = {name: content for name, content in one.items() if not name.startswith("eval/")}
    assert one.keys() == two.keys()
    assert {"config.yaml", "history.jsonl", "log.txt", "metrics.json"} <= one.keys()
    for name in ("config.yaml", "predictions/validation.jsonl"):
        assert one[name] == two[name]

    def said(log: bytes) -> list[str]:
        """The lines without times, seconds and folders."""
        text = re.sub(r"^\S+ \S+ |eval [\d.]+ s|/\S+", "", log.decode(), flags=re.M)
        return text.splitlines()

    assert said(one["log.txt"]) == said(two["log.txt"])
    assert len(said(one["log.txt"])) >= 4


def test_nothing_is_printed_unless_asked(
    config: Callable[[], Content], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = train(config(), output=tmp_path, device="cpu")
    run.predict(("ann sat", "ann"))
    evaluate(run, device="cpu")
    found = sweep(config(), {"lr": [0.05, 0.1]}, output=tmp_path, device="cpu")
    assert len(found.runs) == 2
    assert capfd.readouterr() == ("", "")
    train(config(), output=tmp_path, device="cpu", seed=12, progress=True)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "training for 12 steps" in shown.err
    assert "epoch 2, step 12: accuracy" in shown.err


def test_a_finished_run_is_not_trained_again(trained: Any, config: Callable[[], Content]) -> None:
    before = (trained.directory / "metrics.json").stat().st_mtime_ns
    output = trained.directory.parent
    assert train(trained.config, output=output).directory == trained.directory
    again = train(trained.directory / "config.yaml", output=output, epochs=2)
    assert again.directory == trained.directory
    assert (trained.directory / "metrics.json").stat().st_mtime_ns == before
    assert load(trained).metrics == load(str(trained.directory)).metrics == trained.metrics
    assert load(output=output).directory == trained.directory


def test_every_way_to_fix_a_key(config: Callable[[], Content], tmp_path: Path) -> None:
    run = train(
        config(),
        output=tmp_path,
        prompt_len=np.int64(5),
        lr=1e-2,
        train={"epochs": 1},
        set={"method.layers": "last:2", "name": "other"},
        unset=["report"],
    )
    assert run.config.prompt_len == 5
    assert (run.config.train.lr, run.config.train.epochs, run.config.train.seed) == (0.01, 1, 11)
    assert run.metrics["config"]["method"]["layers"] == "last:2"
    assert run.directory.name.startswith("other-ptuning_v2-p5-s11-")
    plain = RunConfig.model_validate(run.config.model_dump(mode="json"))
    assert train(plain, output=tmp_path).directory == run.directory


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"promt_len": 3}, "promt_len: unknown key promt_len\n  -> did you mean prompt_len"),
        ({"lr": "fast"}, "lr: train.lr must be a number or the word auto, not the text"),
        ({"train": {"lr": "x"}}, "train: train.lr must be a number"),
        (
            {"set": {"train.lr": "x"}},
            'set train.lr: train.lr must be a number or the word auto, not the text "x"',
        ),
        ({"set": {"track": 1}}, "set track"),
        ({"set": {"a b": 1}}, "'a b' does not start with a key"),
        ({"unset": ["train.lrr"]}, "--unset train.lrr: unknown key train.lrr"),
        ({"prompt_len": object()}, "prompt_len: a value of the type object cannot be in a config"),
        ({"task": "superglue/rt"}, "task: "),
        ({"sweep": {"lr": [1, 2]}}, "sweep: the config lists values to sweep over, and train"),
        ({"device": "gpu"}, "gpu"),
        ({"prompt_len": 400}, "400"),
    ],
)
def test_bad_arguments(
    config: Callable[[], Content], tmp_path: Path, arguments: Content, message: str
) -> None:
    with pytest.raises(InputError) as error:
        train(config(), output=tmp_path, **arguments)
    assert message in problems(error)
    assert "  -> " in problems(error)
    assert not [*tmp_path.iterdir()]


def test_a_bad_config_names_all_that_is_wrong(config: Callable[[], Content]) -> None:
    content = {**config(), "prompt_len": "long", "trian": 1, "head": {1: 2}}
    with pytest.raises(ConfigError, match="config: a mapping whose keys are not text"):
        train(content)
    del content["head"]
    with pytest.raises(ConfigError) as error:
        train(content)
    assert "config: prompt_len must be a whole number" in problems(error)
    assert "config: unknown key trian\n  -> did you mean train" in problems(error)
    with pytest.raises(ConfigError, match="there is no such config file"):
        train("nowhere.yaml")


def test_a_dict_may_extend_a_file(
    config: Callable[[], Content], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.yaml").write_text(json.dumps(config(), default=str))
    run = train({"extends": "base.yaml", "train": {"epochs": 1}})
    assert run.directory.parent == Path("runs")
    assert run.config.train.lr == 0.05
    assert len(run.history) == 1


def test_one_row_gives_one_prediction(trained: Any) -> None:
    rows = [("ann sat", "bob ran"), ("a dog", "a cat")]
    dicts = [{"premise": premise, "hypothesis": text} for premise, text in rows]
    one = trained.predict(dicts[0])
    assert one["prediction"]["label"] in one["prediction"]["probabilities"]
    assert trained.predict(rows[0]) == one
    assert trained.predict([dicts[0]]) == [one]
    both = trained.predict(dicts)
    assert trained.predict(rows) == both
    assert len(both) == 2
    lazy = trained.predict(iter(rows))
    assert next(lazy) == both[0]
    assert [*lazy] == both[1:]
    assert trained.predict([]) == []
    with pytest.raises(DataError) as error:
        trained.predict("ann sat")
    assert problems(error) == (
        "rows:1: holds 1 text, and superglue/rte reads 2 texts: premise, hypothesis\n"
        "  -> give (premise, hypothesis), or a dict of these columns"
    )
    with pytest.raises(DataError, match="rows:2: is of the type int"):
        trained.predict([rows[0], 3])


def test_text_and_tagged_rows(tmp_path: Path, config: Callable[[], Content]) -> None:
    table = tmp_path / "data"
    table.mkdir()
    for name in ("train", "validation"):
        lines = [f"{text},{label}" for text, label in zip(tiny.WORDS, "yn" * 20, strict=False)]
        (table / f"{name}.csv").write_text("\n".join(["text,label", *lines]))
    one = train(
        config(), output=tmp_path / "runs", task={"name": "text/classification", "data": table}
    )
    assert one.predict("ann sat")["row"] == {"text": "ann sat"}
    assert [line["row"]["text"] for line in one.predict(["ann", "bob"])] == ["ann", "bob"]
    assert one.predict(("ann",)) == one.predict("ann") == one.predict({"text": "ann"})
    data = tiny.write_ner(tmp_path / "ner")
    tagged = train(
        config(), output=tmp_path / "runs", task={"name": "ner/conll2003", "data": data}, epochs=1
    )
    assert tagged.predict("ann sat in paris")["row"]["tokens"] == ["ann", "sat", "in", "paris"]
    with pytest.raises(DataError, match="holds 2 texts, and ner/conll2003 reads 1 text"):
        tagged.predict(("ann", "sat"))


def test_evaluate_finds_the_same_scores(trained: Any) -> None:
    assert evaluate(trained, device="cpu") == trained.metrics["metrics"]
    written = json.loads((trained.directory / "eval" / "validation.json").read_text())
    assert written["equal"] is True
    assert [*evaluate(trained.directory, split="train", device="cpu")] == ["train"]
    data = trained.config.task.data
    assert [*evaluate(trained, data=data, device="cpu")] == ["validation"]
    with pytest.raises(InputError, match="unknown split 'tset'"):
        evaluate(trained, split="tset")
    with pytest.raises(RunError, match="there is no such run directory"):
        evaluate("nowhere")


def test_sweep(config: Callable[[], Content], tmp_path: Path) -> None:
    grid = {"prompt_len": [2, 3], "seed": range(11, 13)}
    found = sweep(config(), grid, output=tmp_path, device="cpu", epochs=1, lanes="auto")
    assert [(r.config.prompt_len, r.config.train.seed) for r in found.runs] == [
        (2, 11),
        (2, 12),
        (3, 11),
        (3, 12),
    ]
    assert found.directory.parent == tmp_path / "sweeps"
    first, second = found.table
    assert {first["prompt_len"], second["prompt_len"]} == {2, 3}
    assert first["best"]
    assert first["mean"] >= second["mean"]
    assert first["seeds"] == 2
    scores = [
        run.metrics["selection"]["value"]
        for run in found.runs
        if run.config.prompt_len == first["prompt_len"]
    ]
    assert first["mean"] == pytest.approx(sum(scores) / 2)
    assert found.best.metrics["selection"]["value"] == max(scores)
    assert load(found.directory).directory == found.best.directory
    assert f"<Sweep of 4 runs; best: prompt_len {first['prompt_len']}: accuracy" in repr(found)
    logs = [run.directory / "log.txt" for run in found.runs]
    assert all("training for 6 steps" in log.read_text() for log in logs)
    before = [log.stat().st_mtime_ns for log in logs]
    again = sweep(config(), grid, output=tmp_path, device="cpu", train={"epochs": 1})
    assert again.directory == found.directory
    assert [log.stat().st_mtime_ns for log in logs] == before


def test_a_search(config: Callable[[], Content], tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    space = {"train.lr": {"log": [1e-3, 1e-1]}, "prompt_len": [2, 3]}
    content = {**config(), "sweep": {"search": "tpe", "trials": 3, "space": space}}
    found = sweep(content, output=tmp_path, device="cpu", epochs=1)
    assert len(found.runs) == 3
    assert [row["pruned"] for row in found.table] == [0, 0, 0]
    assert all(1e-3 <= row["train.lr"] <= 1e-1 for row in found.table)
    assert found.best.config.train.lr == found.table[0]["train.lr"]


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({}, "nothing to sweep"),
        ({"lr": 0.1}, "grid lr: must be a list of values, not 0.1\n  -> give [5e-3, 1e-2]"),
        ({"prompt_len": []}, "grid prompt_len: must be a list of values, not an empty list"),
        ({"lr": ["x", 1]}, "grid lr: train.lr must be a number"),
        ({"lr": [1e-2], "train.lr": [1e-3]}, "train.lr is swept twice, first by grid lr"),
        ({"promt_len": [1, 2]}, "grid promt_len: unknown key promt_len"),
    ],
)
def test_bad_grids(
    config: Callable[[], Content], tmp_path: Path, grid: Content, message: str
) -> None:
    with pytest.raises(InputError) as error:
        sweep(config(), grid, output=tmp_path)
    assert message in problems(error)
    assert not [*tmp_path.iterdir()]


def test_a_trial_that_fails_is_listed(config: Callable[[], Content], tmp_path: Path) -> None:
    found = sweep(config(), {"prompt_len": [3, 1000]}, output=tmp_path, device="cpu", epochs=1)
    assert [run.config.prompt_len for run in found.runs] == [3]
    (failed,) = found.failed
    assert failed["prompt_len"] == 1000
    assert failed["seed"] == 11
    assert failed["hint"]
    assert "<Sweep of 1 run, 1 failed; best: prompt_len 3" in repr(found)


def test_ctrl_c_saves_and_raises(config: Callable[[], Content], tmp_path: Path) -> None:
    def interrupt() -> None:
        while not any(path.stat().st_size for path in tmp_path.glob("*/history.jsonl")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Interrupted, match="interrupted; the run is saved") as error:
        train(config(), output=tmp_path, device="cpu", epochs=400)
    thread.join()
    assert isinstance(error.value, Ptv2Error)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    (folder,) = tmp_path.iterdir()
    assert not (folder / "metrics.json").exists()
    with pytest.raises(RunError, match="has not finished"):
        load(folder)
    step = json.loads((folder / "history.jsonl").read_text().splitlines()[-1])["step"]
    assert 0 < step < 2400
    assert "stopping" in (folder / "log.txt").read_text()
    assert [*(folder / "checkpoints").glob("last*")]


def test_the_functions_stay_what_they_are() -> None:
    """No module of the package takes the name of a function when it is imported."""
    code = (
        "import ptv2_cli, ptv2_cli.cli.app, ptv2_cli.runs.trainer\n"
        "print([callable(getattr(ptv2_cli, n)) for n in ('train', 'sweep', 'evaluate', 'load')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[True, True, True, True]"


def test_the_import_takes_milliseconds() -> None:
    code = "import time; t = time.process_time(); import ptv2_cli; print(time.process_time() - t)"
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(times) < 0.05


def test_python_m() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ptv2_cli", "--version"], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == f"ptv2 {ptv2_cli.__version__}\n"


SCRIPT = """
from pathlib import Path
from ptv2_cli import Run, RunConfig, Sweep, evaluate, load, sweep, train

run: Run = train("config.yaml", prompt_len=20, lr=1e-2, train={"epochs": 3}, progress=True)
again: Run = train({"method": "ptuning_v2"}, set={"train.lr": 1e-2}, output=Path("runs"))
config: RunConfig = run.config
folder: Path = run.directory
label: str = run.predict("one text")["prediction"]["label"]
labels = [line["prediction"]["label"] for line in run.predict([("a", "b"), {"text": "c"}])]
lazily = next(run.predict(text for text in "abc"))
scores: dict[str, dict[str, float]] = evaluate(run)
found: Sweep = sweep(config, {"lr": [1e-2, 2e-2]}, lanes="auto")
best: Run = found.best
print(load().history[0]["metrics"], run.predictions("validation")[0], found.table[0]["mean"])
"""


def test_a_script_is_typed(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    root = Path(ptv2_cli.__file__).parent.parent
    command = [sys.executable, "-m", "mypy", "--config-file", str(root / "pyproject.toml")]
    # Beside the cache of the project, which knows torch already.
    cache = ["--cache-dir", str(root / ".mypy_cache")]
    done = subprocess.run(
        [*command, *cache, str(script)],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=root,
        env={**os.environ, "MYPYPATH": str(root)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
