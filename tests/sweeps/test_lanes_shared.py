"""What lanes have in common: one copy of the weights, one pass, text that is tokenized once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import laned
import pytest
import tiny
import torch
from laned import assert_same

from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.runs import trainer
from ptv2_cli.sweeps import session_pool
from ptv2_cli.sweeps.session_pool import SessionPool
from ptv2_cli.tasks.classification import Classification

FolderOf = Callable[[str], Path]
LENGTHS = [{"prompt_len": length} for length in (2, 3, 4, 5)]
TRAIN = {"steps": 3, "eval_every": 3, "batch_size": 4, "eval_batch_size": 8}


@pytest.fixture(scope="module")
def rte(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_rte(tmp_path_factory.mktemp("data") / "rte", train=12, validation=16)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """Rows of every pass through a backbone, those of training and those of evaluations."""
    found: dict[str, list[int]] = {"train": [], "evaluate": []}
    really = Backbone.forward

    def forward(self: Backbone, batch: Any, *rest: Any) -> torch.Tensor:
        if getattr(batch, "features", None):  # the probe's batch is of no features
            found["train" if self.model.training else "evaluate"].append(len(batch.input_ids))
        return really(self, batch, *rest)

    monkeypatch.setattr(Backbone, "forward", forward)
    return found


def test_passes_are_shared(
    passes: dict[str, list[int]], folder_of: FolderOf, rte: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(trainer, "CPU_ROWS", 32)
    # With dropout, or they would be kept outputs of lower layers in part.
    configs = laned.write(tmp_path, folder_of("bert"), rte, *LENGTHS, train=TRAIN, dropout=0.1)
    laned.sweep(configs, tmp_path / "lanes", 4)
    assert passes["train"] == [16] * 3
    # Four lanes evaluate 16 rows each, once: the best evaluation is the last one and is kept.
    assert passes["evaluate"] == [8] * 8
    for rows in passes.values():
        rows.clear()
    laned.sweep(configs, tmp_path / "alone", 1)
    assert passes["train"] == [4] * 12
    assert passes["evaluate"] == [8] * 8


def test_evaluations_share_passes_on_other_devices(
    passes: dict[str, list[int]], folder_of: FolderOf, rte: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(trainer, "CPU_EVALUATED_ROWS", 32)
    configs = laned.write(tmp_path, folder_of("bert"), rte, *LENGTHS, train=TRAIN, dropout=0.1)
    laned.sweep(configs, tmp_path / "lanes", 4)
    assert passes["evaluate"] == [32] * 2


@pytest.mark.parametrize("limit", [1, 6, 9, 12])
def test_no_pass_has_more_rows_than_the_limit_but_for_one_lanes_batch(
    limit: int, passes: dict[str, list[int]], folder_of: FolderOf, rte: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(trainer, "CPU_ROWS", limit)
    configs = laned.write(tmp_path, folder_of("bert"), rte, *LENGTHS, train=TRAIN, dropout=0.1)
    laned.sweep(configs, tmp_path / "lanes", 4)
    assert sum(passes["train"]) == 48
    assert max(passes["train"]) == max(4, limit // 4 * 4)
    assert sum(passes["evaluate"]) == 4 * 16
    assert max(passes["evaluate"]) == 8


def test_one_copy_of_the_weights_whose_bits_stay(
    folder_of: FolderOf, rte: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: set[int] = set()
    seen: list[tuple[Backbone, dict[str, torch.Tensor]]] = []
    really = session_pool.open_session

    def opened(*args: Any) -> Any:
        session = really(*args)
        backbone = session.learner.backbone
        places.add(backbone.word_embeddings.data_ptr())
        state = {name: value.clone() for name, value in backbone.model.state_dict().items()}
        seen.append((backbone, state))
        return session

    monkeypatch.setattr(session_pool, "open_session", opened)
    methods = [*LENGTHS, {"method": "head_only", "prompt_len": None}]
    configs = laned.write(tmp_path, folder_of("bert"), rte, *methods, train=TRAIN)
    swept = laned.sweep(configs, tmp_path / "runs", 3)
    assert swept.statuses == ["finished"] * 5
    assert len(places) == 1
    assert len({id(backbone) for backbone, _ in seen}) == 5
    last = seen[-1][0].model.state_dict()
    assert all(torch.equal(value, last[name]) for name, value in seen[0][1].items())


def test_the_backbone_is_loaded_once(
    folder_of: FolderOf, rte: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    really = session_pool.load_for
    monkeypatch.setattr(session_pool, "load_for", lambda *args: loaded.append(1) or really(*args))
    configs = laned.write(tmp_path, folder_of("bert"), rte, *LENGTHS, train=TRAIN)
    laned.sweep(configs, tmp_path / "runs", 2)
    assert len(loaded) == 1


def test_a_pooler_that_is_not_there_is_each_trials_own(rte: Path, tmp_path: Path) -> None:
    backbone = tiny.save_model(tmp_path / "bert", "bert", pooler=False)
    head = {"head": {"pooling": "pooler"}}
    trials = [{**head, "prompt_len": 3}, {**head, "prompt_len": 2}, {"prompt_len": 4}]
    configs = laned.write(tmp_path, backbone, rte, *trials)
    alone = laned.sweep(configs, tmp_path / "alone", 1, seed="11,12")
    lanes = laned.sweep(configs, tmp_path / "lanes", 6, seed="11,12")
    for one, other in zip(alone.runs, lanes.runs, strict=True):
        assert_same(one, other)
    assert len({run.losses[0] for run in lanes.runs}) == 6
    drawn = []
    opener = SessionPool(tiny.CPU)
    for trial in lanes.plan.trials[:4]:
        assert trial.resolved_run is not None
        pooler = opener.open(trial.resolved_run).learner.backbone.pooler
        assert pooler is not None
        drawn.append(pooler.dense.weight)
    assert torch.equal(drawn[0], drawn[2])  # one seed
    assert not torch.equal(drawn[0], drawn[1])
    assert drawn[0].data_ptr() != drawn[2].data_ptr()


def test_text_is_tokenized_once(
    folder_of: FolderOf, rte: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    really = Classification.encode

    def encoding(task: Any, rows: Any, encoder: Any) -> Any:
        encoded.append(len(rows))
        return really(task, rows, encoder)

    monkeypatch.setattr(Classification, "encode", encoding)
    from_rows = {"method": {"name": "ptuning_v2", "init": "matched"}, "prompt_len": 3}
    trials = [*LENGTHS, from_rows, {"method": "ptuning_v1", "prompt_len": 6}]
    configs = laned.write(tmp_path, folder_of("bert"), rte, *trials, train=TRAIN)
    swept = laned.sweep(configs, tmp_path / "runs", 6)
    assert swept.statuses == ["finished"] * 6
    assert sorted(encoded) == [12, 12, 16, 16]  # a template is other text
    encoded.clear()
    laned.sweep(configs[:4], tmp_path / "few", 2)
    assert sorted(encoded) == [12, 16]
