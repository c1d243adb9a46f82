"""GPU hours by a formula: worked by hand, and what is counted once, limited or unknown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ptv2_cli.config.load import load_config
from ptv2_cli.sweeps import gpu_hours as module
from ptv2_cli.sweeps.gpu_hours import Work, default_tflops, gpu_hours, work_of
from ptv2_cli.sweeps.grid import make_combinations
from ptv2_cli.tasks.catalog import task_names

BASE: dict[str, Any] = {
    "method": "ptuning_v2",
    "backbone": "bert-large-cased",
    "task": "superglue/cb",
    "prompt_len": 10,
    "train": {"epochs": 2},
}


@pytest.fixture
def config(tmp_path: Path) -> Any:
    def make(name: str = "config", **changes: Any) -> Path:
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**BASE, **changes}))
        return path

    return make


def work(path: Path) -> Work:
    found = work_of(load_config(path))
    assert isinstance(found, Work)
    return found


def test_flops_worked_by_hand() -> None:
    # L 1, H 2: N = 48. 3 tokens, 5 columns of prompt: 2 * 48 * 3 = 288, 4 * 1 * 2 * 3 * 8 = 192.
    facts = {"layers": 1, "hidden": 2, "tokens": 3.0, "prompt": 5, "epochs": 2.0}
    counts = {"train": 10, "scored": 4, "others": 1}
    frozen = Work(**facts, **counts, in_input=False, backward=1)
    read = 288 + 192
    assert frozen.flops == 2 * 10 * (2 * 288 + 3 * 192) + (2 * 4 + 2 * 1) * read
    whole = Work(**{**facts, "prompt": 0}, **counts, in_input=False, backward=2)
    assert whole.flops == 2 * 10 * 3 * (288 + 72) + 10 * (288 + 72)
    # In the input: 8 tokens, 2 * 48 * 8 = 768 and 4 * 2 * 8 * 8 = 512.
    longer = Work(**facts, **counts, in_input=True, backward=1)
    assert longer.flops == 2 * 10 * (2 * 768 + 3 * 512) + 10 * (768 + 512)
    head = Work(**facts, **counts, in_input=False, backward=0)
    assert head.flops == (2 * 10 + 10) * read


def test_what_a_config_computes_with(config: Any) -> None:
    found = work(config())
    assert (found.layers, found.hidden, found.prompt, found.epochs) == (24, 1024, 10, 2)
    assert (found.train, found.scored, found.others, found.tokens) == (250, 56, 0, 78)
    assert (found.backward, found.in_input) == (1, False)
    found = work(config(method="finetune", prompt_len=None))
    assert (found.backward, found.prompt) == (2, 0)
    assert work(config(method="prompt_tuning")).in_input
    found = work(config(task={"name": "ner/conll2004", "limit": {"train": 100}}))
    assert (found.train, found.scored, found.others) == (100, 231, 288)
    assert work(config(task={"name": "superglue/cb", "max_len": 50})).tokens == 50
    assert work(config(train={"steps": 25, "batch_size": 20})).epochs == 2


def test_several_tasks_are_added(config: Any) -> None:
    changes = {**BASE, "tasks": ["superglue/cb", "superglue/rte"]}
    del changes["task"]
    path = config()
    path.write_text(yaml.safe_dump(changes))
    found = work(path)
    assert found.train == 250 + 2490
    assert found.tokens == pytest.approx((250 * 78 + 2490 * 67) / 2740)


def test_equal_runs_count_once(config: Any) -> None:
    sweep = {"prompt_len": [4, 8], "grid": {"method": ["ptuning_v2", "finetune"]}}
    combinations = make_combinations([config(sweep=sweep)], [], [])
    (found,) = gpu_hours(combinations, 94)
    assert (len(combinations), found.trials) == (4, 3)
    (half,) = gpu_hours(combinations, 188)
    assert found.hours == pytest.approx(2 * (half.hours or 0))


def test_what_is_not_known_has_no_hours(config: Any) -> None:
    seeds = {"sweep": {"seed": [1, 2]}}
    paths = [config("a", **seeds), config("b", backbone="nobody/knows", **seeds)]
    known, unknown = gpu_hours(make_combinations(paths, [], []), 94)
    assert known.hours is not None
    assert (unknown.hours, unknown.unknown) == (None, "nobody/knows")


def test_a_backbone_on_this_machine_says_its_size(config: Any, folder_of: Any) -> None:
    found = work(config(backbone=str(folder_of("bert"))))
    assert found.layers < 24


def test_the_sizes_are_of_tasks_that_exist() -> None:
    sizes = module._sizes()["tasks"]
    assert set(sizes) <= set(task_names())
    assert default_tflops() == 94
