"""`ptv2 sweep` as a user meets it."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest
import yaml
from commandline import Material, Ptv2, Refused, tree
from killing import GRID, signalled, statuses, sweep_folder, sweep_results


def table(text: str) -> str:
    """The table of settings and the best of them, without the folder's name."""
    return text.split("\nsweep: ")[0]


@pytest.fixture
def config(material: Material) -> Path:
    return material.write(Path("config.yaml"))


def test_the_grid_its_table_and_its_best(config: Path, ptv2: Ptv2) -> None:
    result = ptv2("sweep", *GRID)
    assert result.code == 0, result.err
    assert "4 trials: 4 to do" in result.err
    assert re.search(r"about \d+ s: an estimate from a few timed steps", result.err)
    assert "trial 3 of 4: prompt_len 4, seed 11" in result.err
    lines = result.out.splitlines()
    assert lines[0].startswith("superglue/rte validation: accuracy")
    assert lines[1].split() == ["prompt_len", "mean", "sd", "seeds", "p"]
    assert re.match(r" *\d +\d+\.\d +\d+\.\d +2 +\S+ ", lines[2])
    assert lines[2].rstrip().endswith("best")
    assert len([path for path in Path("runs").iterdir() if path.name != "sweeps"]) == 4

    found = sweep_results()
    assert [trial["status"] for trial in found["trials"].values()] == ["finished"] * 4
    (board,) = found["boards"]
    values = {mark: trial["value"] for mark, trial in found["trials"].items()}
    plan = json.loads((sweep_folder() / "plan.json").read_text())
    for setting in board["settings"]:
        own = [
            values[record["fingerprint"]]
            for record in plan["trials"]
            if record["values"] == setting["values"]
        ]
        assert setting["mean"] == sum(own) / 2
        assert setting["seeds"] == 2

    best = sweep_folder() / "best.yaml"
    assert f"best setting: {best}" in result.out
    content = yaml.safe_load(best.read_text())
    assert content["sweep"] is None
    assert {"prompt_len": content["prompt_len"]} == board["settings"][0]["values"]
    again = ptv2("train", best)
    assert again.code == 0
    assert "this run is finished already" in again.err


def test_a_sweep_of_many_trials_only_shows_what_stands(config: Path, ptv2: Ptv2) -> None:
    first = ptv2("sweep", *GRID)
    before = tree(Path("runs"))
    second = ptv2("sweep", *GRID)
    assert second.out == first.out
    assert "4 trials: 4 finished" in second.err
    assert "training for" not in second.err
    assert "estimate" not in second.err
    assert tree(Path("runs")) == before


def test_new_values_extend_the_sweep(config: Path, ptv2: Ptv2) -> None:
    ptv2("sweep", "--prompt-len", "2,4")
    result = ptv2("sweep", "--prompt-len", "6")
    assert "1 trial: 1 to do" in result.err
    assert "plus 2 trials of earlier commands" in result.err
    assert result.err.count("training for") == 1
    assert sorted(line.split()[0] for line in result.out.splitlines()[2:5]) == ["2", "4", "6"]
    assert len(sweep_results()["trials"]) == 3


def test_trials_are_ordinary_runs(config: Path, ptv2: Ptv2) -> None:
    ptv2("train", "--prompt-len", "2")
    result = ptv2("sweep", "--prompt-len", "2,4")
    assert "2 trials: 1 finished, 1 to do" in result.err
    assert ptv2("eval").out.endswith("equal\n")


def test_the_section_says_the_same_as_the_flags(material: Material, ptv2: Ptv2) -> None:
    lists = {"prompt_len": [2, 4], "seed": [11, 12], "grid": {"train.batch_size": [2, 4]}}
    material.write(Path("config.yaml"), sweep=lists)
    plain = material.write(Path("plain/config.yaml"))
    one = ptv2("sweep", "--dry-run")
    other = ptv2("sweep", plain, *GRID, "--grid", "train.batch_size=2,4", "--dry-run")
    assert one.code == other.code == 0
    assert one.out == other.out
    assert "8 trials" in one.out
    assert "8      prompt_len 4, train.batch_size 4, seed 12  to do" in one.out
    fewer = ptv2("sweep", "--prompt-len", "2", "--dry-run")
    assert "4 trials" in fewer.out


def test_dry_run_writes_nothing(config: Path, ptv2: Ptv2) -> None:
    result = ptv2("sweep", *GRID, "--dry-run")
    assert result.code == 0
    assert "an estimate from a few timed steps" in result.err
    assert "dry run: nothing written" in result.err
    assert not Path("runs").exists()


def test_finetune_is_one_trial_whatever_the_prompt(config: Path, ptv2: Ptv2) -> None:
    result = ptv2(
        "sweep", "--prompt-len", "2,4", "--grid", "method=ptuning_v2,finetune", "--dry-run"
    )
    assert "3 trials (1 duplicate merged: equal runs)" in result.out
    assert result.out.count("prompt_len null, method finetune") == 1


def test_mappings_in_a_list(config: Path, ptv2: Ptv2) -> None:
    result = ptv2("sweep", "--grid", "task.limit={train: 4},{train: 8}", "--dry-run")
    assert "task.limit {train: 4}" in result.out
    assert "2 trials" in result.out


def test_several_configs_are_one_sweep(material: Material, ptv2: Ptv2) -> None:
    one = material.write(Path("one.yaml"))
    two = material.write(Path("two.yaml"), method="prompt_tuning")
    ner = {"name": "ner/conll2003", "data": str(material.ner), "max_len": 24}
    three = material.write(Path("three.yaml"), task=ner)
    result = ptv2("sweep", one, two, three, "--prompt-len", "2,4")
    assert result.code == 0, result.err
    assert "runs/sweeps/one+2-" in result.err
    assert "6 trials" in result.err
    assert "superglue/rte validation: accuracy" in result.out
    assert "ner/conll2003 validation: f1" in result.out
    assert {path.name for path in sweep_folder().glob("best*")} == {
        "best-rte.yaml",
        "best-conll2003.yaml",
    }
    assert ptv2("sweep", three, two, one, "--prompt-len", "2,4").out.count("best") >= 4


def test_a_failed_trial_is_shown_with_its_reason(config: Path, ptv2: Ptv2) -> None:
    result = ptv2("sweep", "--prompt-len", "200,1")
    assert result.code == 1
    assert "2 trials: 1 cannot run, 1 to do" in result.err
    assert "trial 1 of 2: failed: config.yaml:" in result.err
    assert "the same command tries again" in result.err
    assert re.search(r"^200 +- +- +0 +1 failed", result.out, re.M)
    assert "best: prompt_len 1" in result.out
    assert "the best prompt_len" not in result.err  # beyond it lies nothing
    assert sweep_results()["trials"][next(iter(sweep_results()["trials"]))]["hint"]


def test_a_diverged_trial_is_shown_and_not_repeated(config: Path, ptv2: Ptv2) -> None:
    result = ptv2("sweep", "--lr", "0.05,1e30")
    assert result.code == 0, result.err
    assert "lr 1e+30, seed 11 diverged: the loss is no longer finite" in result.err
    assert re.search(r"^1e\+30 +- +- +0 +1 diverged", result.out, re.M)
    assert "training for" not in ptv2("sweep", "--lr", "0.05,1e30").err


def scored(values: dict[int, float]) -> None:
    """Give the finished runs of each prompt length a score: those of two steps are no matter."""
    for length, value in values.items():
        for path in Path("runs").glob(f"*-p{length}-*/metrics.json"):
            metrics = json.loads(path.read_text())
            metrics["selection"]["value"] = value
            path.write_text(json.dumps(metrics))


def test_what_the_table_can_bear(config: Path, ptv2: Ptv2) -> None:
    ptv2("sweep", "--prompt-len", "2,4")
    for length, right in ((2, 0), (4, 6)):
        (run,) = Path("runs").glob(f"*-p{length}-*")
        path = run / "predictions" / "validation.jsonl"
        lines = [json.loads(text) for text in path.read_text().splitlines()]
        other = {"entailment": "not_entailment", "not_entailment": "entailment"}
        for at, line in enumerate(lines):
            line["prediction"]["label"] = line["gold"] if at < right else other[line["gold"]]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        metrics = json.loads((run / "metrics.json").read_text())
        metrics["selection"]["value"] = metrics["metrics"]["validation"]["accuracy"] = right / 6
        metrics["detail"]["validation"]["confusion"] = {
            "entailment": {"entailment": 3},
            "not_entailment": {"entailment" if length == 2 else "not_entailment": 3},
        }
        (run / "metrics.json").write_text(json.dumps(metrics))
    text = ptv2("sweep", "--prompt-len", "2,4").out
    # All of six rows are right in one alone: 2 / 2^6.
    assert re.search(r"^4 +100\.0 +- +1 +- +best", text, re.M)
    assert re.search(r"^2 +0\.0 +- +1 +0\.031 +1 stuck on one answer *$", text, re.M)
    assert "majority baseline " in text
    assert "best: prompt_len 4: accuracy 100.0; 0 of 1 other setting within its noise\n" in text
    (board,) = sweep_results()["boards"]
    assert [s["verdict"] for s in board["settings"]] == ["best", "worse"]
    assert board["settings"][1]["p"] == 2 / 2**6
    assert max(map(len, text.splitlines()[:6])) <= 80


EDGE = "warning: the best prompt_len, 4, is the highest that was tried"


def test_the_edge_of_the_grid(config: Path, ptv2: Ptv2) -> None:
    ptv2("sweep", "--prompt-len", "2,4")
    scored({2: 0.5, 4: 1.0})
    result = ptv2("sweep", "--prompt-len", "2,4")
    assert f"{EDGE}\n  -> try --prompt-len 8 too\n" in result.err


def test_the_edge_beside_other_lists(config: Path, ptv2: Ptv2) -> None:
    ptv2("sweep", *GRID)
    scored({2: 0.5, 4: 1.0})
    said = ptv2("sweep", *GRID).err
    assert f"{EDGE}\n  -> try --prompt-len 8 too, with the same seeds\n" in said
    assert said.count("that was tried") == 1  # the best seed is no edge of anything
    grid = ("--prompt-len", "2,4", "--grid", "train.clip=1")
    ptv2("sweep", *grid)
    scored({2: 0.5, 4: 1.0})
    other = f"{EDGE} with the best setting's other values\n  -> try --prompt-len 8 too, with"
    assert other in ptv2("sweep", *grid).err


def test_seeds_have_no_edge(config: Path, ptv2: Ptv2) -> None:
    for words in (["--seed", "11,12"], ["--grid", "train.seed=11,12,13"]):
        result = ptv2("sweep", *words)
        assert result.code == 0
        assert "tried" not in result.err


def test_killed_in_the_middle_of_a_trial_ends_with_the_same_table(
    material: Material, ptv2: Ptv2
) -> None:
    train = {"steps": 6, "batch_size": 4, "lr": 0.05, "eval_every": 2}
    material.write(Path("config.yaml"), train=train)
    whole = ptv2("sweep", *GRID, "--output", "whole")
    assert whole.code == 0, whole.err

    killed = signalled(9, signal.SIGKILL, *GRID)  # the third step of the second trial
    assert killed.returncode == -signal.SIGKILL
    assert statuses() == ["finished", "running", "waiting", "waiting"]

    again = ptv2("sweep", *GRID)
    assert again.code == 0
    assert "4 trials: 1 finished, 1 to continue, 2 to do" in again.err
    assert "resumed at step 3 of 6 steps" in again.err
    assert table(again.out) == table(whole.out)
    assert sweep_results()["boards"] == sweep_results(Path("whole"))["boards"]
    for run in Path("whole").glob("config-*"):
        twin = Path("runs") / run.name / "predictions" / "validation.jsonl"
        assert twin.read_bytes() == (run / "predictions" / "validation.jsonl").read_bytes()


def test_ctrl_c_saves_the_trial_and_the_sweep(material: Material, ptv2: Ptv2) -> None:
    train = {"steps": 6, "batch_size": 4, "lr": 0.05, "eval_every": 3}
    material.write(Path("config.yaml"), train=train)
    stopped = signalled(8, signal.SIGINT, *GRID)
    assert stopped.returncode == 130
    assert "interrupted; the run is saved" in stopped.stderr
    assert f"{sweep_folder()}: interrupted; 1 of 4 trials are done and kept" in stopped.stderr
    assert "-> the same command continues it" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert statuses() == ["finished", "interrupted", "waiting", "waiting"]
    again = ptv2("sweep", *GRID)
    assert again.code == 0
    assert "resumed at step" in again.err


def test_one_process_at_a_time(config: Path, ptv2: Ptv2) -> None:
    from ptv2_cli.runs.lock import locked

    assert ptv2("sweep", "--prompt-len", "2").code == 0
    with locked(sweep_folder()):
        result = ptv2("sweep", "--prompt-len", "2,4")
    assert result.code == 2
    assert "is being written by another process" in result.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], ["nothing to sweep", "type ptv2 sweep config.yaml --prompt-len 20,100"]),
        (["--prompt-len", ""], ["prompt_len has an empty list", "--prompt-len 20,100"]),
        (
            ["--prompt-len", "2,abc", "--lr", "x"],
            ['prompt_len must be a whole number, not the text "abc"', "type --prompt-len 20",
             'train.lr must be a number or the word auto, not the text "x"', "type --lr 5e-3"],
        ),
        (["--grid", "train.learning_rate=1,2"], ["learning_rate is train.lr", "type --lr 1,2"]),
        (
            ["--grid", "task.limt=1,2"],
            ["unknown key task.limt", "did you mean task.limit? type --grid task.limit=1,2"],
        ),
        (
            ["--grid", "tran.batch_size=1,2"],
            ["--grid tran.batch_size: unknown key tran.batch_size",
             "did you mean train.batch_size? type --batch-size 1,2"],
        ),
        (["--grid", "method.foo=1,2"], ["unknown key method.foo"]),
        (["--grid", "train.precision=bf16,bf17"], ["one of fp32, bf16, fp16", '"bf17"']),
        (["--prompt-len", "200,300"], ["prompt_len 200 plus", "prompt_len 300 plus"]),
        (["absent.yaml", "--seed", "1"], ["there is no such config file"]),
        (["--seed", "1,2", "--device", "abc"], ["'abc' is no device"]),
        (["--seed", "1,2", "--engine", "lokal"], ["unknown engine 'lokal'", "local"]),
    ],
)  # fmt: skip
def test_refused_before_anything_starts(
    words: list[str], says: list[str], config: Path, refused: Refused
) -> None:
    refused("sweep", *words, says=says)


@pytest.mark.parametrize(
    ("lists", "says"),
    [
        ("{prompt_len: []}", "sweep.prompt_len is an empty list"),
        ("{prompt_len: [a]}", 'prompt_len must be a whole number, not the text "a"'),
        ("{promptlen: [1]}", "did you mean prompt_len? write sweep: {prompt_len: [1]}"),
        ("{grid: {train.clop: [1, 2]}}", "write sweep: {grid: {train.clip: [1, 2]}}"),
    ],
)
def test_bad_sections_are_refused(
    lists: str, says: str, material: Material, refused: Refused
) -> None:
    material.write(Path("config.yaml"), f"sweep: {lists}\n")
    refused("sweep", says=[says, "error: config.yaml:"])


def test_train_on_a_sweep_says_what_to_type(
    material: Material, ptv2: Ptv2, refused: Refused
) -> None:
    material.write(Path("config.yaml"), sweep={"prompt_len": [2, 4]})
    refused("train", says=["config.yaml:", "type ptv2 sweep config.yaml", "--unset sweep"])
    assert ptv2("train", "--unset", "sweep", "--dry-run").code == 0


def test_a_damaged_plan_is_named(config: Path, ptv2: Ptv2) -> None:
    ptv2("sweep", "--prompt-len", "2")
    (sweep_folder() / "plan.json").write_text("{")
    result = ptv2("sweep", "--prompt-len", "2")
    assert result.code == 2
    assert "is no file of a ptv2 sweep" in result.err
    assert f"rm {sweep_folder()}/plan.json" in result.err


def test_trials_of_a_section_are_runs_without_it(material: Material, ptv2: Ptv2) -> None:
    material.write(Path("config.yaml"), sweep={"prompt_len": [2]})
    assert ptv2("sweep").code == 0
    (run,) = Path("runs").glob("config-*")
    again = ptv2("train", run / "config.yaml")
    assert again.code == 0, again.err
    assert "this run is finished already" in again.err


def test_a_dry_run_shows_gpu_hours_before_it_needs_anything(ptv2: Ptv2) -> None:
    """Backbone and data are out of reach: the estimate comes first, then what is missing."""
    text = "method: ptuning_v2\nbackbone: roberta-large\ntask: superglue/rte\nprompt_len: 4\n"
    Path("config.yaml").write_text(text)
    command = ["sweep", "--lr", "1e-2,5e-3", "--dry-run", "--offline"]
    result = ptv2(*command)
    assert result.code == 2
    assert "is not in the local cache" in result.err
    lines = result.out.splitlines()
    assert lines[0].split() == ["config", "trials", "GPU", "hours"]
    name, trials, hours = lines[1].split()
    assert (name, trials) == ("config", "2")
    assert "94 TFLOP/s" in result.out
    slower = ptv2(*command, "--tflops", "9.4").out.splitlines()[1].split()[2]
    assert float(slower) == pytest.approx(10 * float(hours), rel=0.06)


def test_tflops_belongs_to_a_dry_run(material: Material, refused: Refused) -> None:
    material.write(Path("config.yaml"))
    says = ["--tflops: means nothing without --dry-run", "add --dry-run"]
    refused("sweep", "--seed", "1,2", "--tflops", "50", says=says)


def test_a_dry_run_still_names_every_wrong_option(material: Material, refused: Refused) -> None:
    material.write(Path("config.yaml"))
    for option in ("method.reparam=fancy", "method.colour=red"):
        says = ["fancy" if "fancy" in option else "colour"]
        refused("sweep", "--seed", "1,2", "--set", option, "--dry-run", says=says)
    both = ["--grid", "method.reparam=fancy,mlp", "--set", "method.colour=red"]
    refused("sweep", *both, "--dry-run", says=["fancy", "colour"])


def test_gpu_hours_of_own_tasks_are_not_known(material: Material, ptv2: Ptv2) -> None:
    material.write(Path("config.yaml"), backbone="nobody/knows")
    result = ptv2("sweep", "--seed", "1,2", "--dry-run", "--offline")
    assert "GPU hours" not in result.out
