"""Prompts that begin as what the frozen model computes for rows of train."""

from __future__ import annotations

import pytest
import tiny
import torch

from ptv2_cli.errors import ConfigError
from ptv2_cli.inputs.ragged import Ragged
from ptv2_cli.methods import initial
from ptv2_cli.methods.ptuning_v2 import PTuningV2

ROWS = [[100 * row + place for place in range(1, 31)] for row in range(1, 6)]
"""Tokens that say their row and their place in it."""


def drawn(backbone, init: str, length: int, seed: int = 0, rows=ROWS) -> list[int]:
    """The tokens that the model is asked to read."""
    asked: list[list[int]] = []

    def read(ids):
        asked.append(list(ids))
        return backbone.read(torch.ones(1, len(ids), dtype=torch.int64))

    context = tiny.context(
        backbone, seed, prompt_len=length, read=read, train_inputs=lambda: Ragged.of(rows)
    )
    method = PTuningV2(init=init).build(context)
    assert method.counts()["prompt"] == length * 2 * 3 * 32
    (ids,) = asked
    assert len(ids) == length
    return ids


def test_rows_are_whole_and_in_a_drawn_order(backbone_of) -> None:
    backbone = backbone_of("bert")
    ids = drawn(backbone, "rows", 38)
    assert ids[:30] in ROWS
    assert ids[30:] in [row[:8] for row in ROWS]
    assert ids[0] // 100 != ids[30] // 100
    assert drawn(backbone, "rows", 38) == ids
    assert drawn(backbone, "rows", 38, seed=1) != ids


def test_chunks_come_from_any_place_of_a_row(backbone_of, monkeypatch) -> None:
    monkeypatch.setattr(initial, "CHUNK", 4)
    backbone = backbone_of("bert")
    ids = drawn(backbone, "chunks", 38)
    chunks = [ids[first : first + 4] for first in range(0, 38, 4)]
    for chunk in chunks:
        assert chunk == list(range(chunk[0], chunk[0] + len(chunk)))  # neighbours, of one row
        assert 1 <= chunk[0] % 100 <= 27
    assert len({chunk[0] % 100 for chunk in chunks}) > 5
    # Each row once, then all of them again.
    assert {chunk[0] // 100 for chunk in chunks[:5]} == {1, 2, 3, 4, 5}
    assert drawn(backbone, "chunks", 38) == ids
    assert drawn(backbone, "chunks", 38, seed=1) != ids


def test_few_and_short_rows_are_taken_again(backbone_of) -> None:
    for init in ("rows", "chunks"):
        assert drawn(backbone_of("bert"), init, 7, rows=[[5, 6], []]) == [5, 6, 5, 6, 5, 6, 5]


@pytest.mark.parametrize("init", ["rows", "chunks", "matched"])
def test_rows_without_a_token(init, backbone_of) -> None:
    context = tiny.context(backbone_of("bert"), train_inputs=lambda: Ragged.of([[], []]))
    with pytest.raises(ConfigError, match=r"method\.init: no row of train has a token"):
        PTuningV2(init=init).build(context)


def test_matched_draws_have_the_statistics_of_each_key_and_value(backbone_of) -> None:
    backbone = backbone_of("bert")
    context = tiny.context(
        backbone, prompt_len=4000, train_inputs=lambda: Ragged.of([[7, 9, 8], [12, 20]])
    )
    method = PTuningV2(init="matched").build(context)
    parts = [backbone.read(torch.tensor([ids])) for ids in ([7, 9, 8], [12, 20])]
    for number in range(3):
        for half in (0, 1):
            seen = torch.cat([part[number][half] for part in parts], dim=2)  # [1, K, 5, D]
            found = method.eval()().keys_values[number][half]
            assert found.shape == (1, 4, 4000, 8)
            deviation, mean = torch.std_mean(seen, dim=2, correction=0)
            torch.testing.assert_close(
                found.mean(2), mean, atol=0.1 * float(deviation.max()), rtol=0
            )
            torch.testing.assert_close(found.std(2), deviation, atol=1e-3, rtol=0.1)
    assert not torch.equal(found[:, :, 0], found[:, :, 1])


def test_matched_reads_no_more_rows_than_it_needs(backbone_of, monkeypatch) -> None:
    monkeypatch.setattr(initial, "MATCHED_TOKENS", 40)
    backbone, lengths = backbone_of("bert"), []

    def read(ids):
        lengths.append(len(ids))
        return backbone.read(torch.ones(1, len(ids), dtype=torch.int64))

    context = tiny.context(backbone, read=read, train_inputs=lambda: Ragged.of(ROWS))
    PTuningV2(init="matched").build(context)
    assert lengths == [30, 30]


@pytest.mark.parametrize("init", ["rows", "chunks", "matched"])
def test_a_run_begins_with_its_own_train_rows_and_predicts_without_them(
    init, folder_of, tmp_path
) -> None:
    from ptv2_cli import load

    data = tiny.write_rte(tmp_path / "rte")
    method = {"name": "ptuning_v2", "init": init}
    config = tiny.write_config(tmp_path / "c.yaml", folder_of("bert"), data, method=method)
    begun = [
        tiny.opened(config, tmp_path / "runs", *sets).learner.method.source.prompt
        for sets in ((), (), ("train.seed=12",), ("task.limit.train=3",))
    ]
    assert torch.equal(begun[0], begun[1])
    assert not torch.equal(begun[0], begun[2])
    assert not torch.equal(begun[0], begun[3])
    session, _ = tiny.trained(config, tmp_path / "runs")
    (data / "train.jsonl").unlink()
    run = session.resolved_run.directory.path
    (answer,) = load(run, offline=True).predict([{"premise": "ann ran", "hypothesis": "it sat"}])
    assert set(answer["prediction"]["probabilities"]) == {"entailment", "not_entailment"}


def test_rows_of_the_splits_that_are_held_out_are_not_read(folder_of, tmp_path) -> None:
    """The rows are those of the features that the run trains on."""
    data = tiny.write_rte(tmp_path / "rte")
    config = tiny.write_config(
        tmp_path / "c.yaml",
        folder_of("bert"),
        data,
        method={"name": "ptuning_v2", "init": "rows"},
        selection={"split": "holdout", "fraction": 0.5},
        report=["holdout"],
    )
    session = tiny.opened(config, tmp_path / "runs")
    used = session.data.by_split
    assert set(used) == {"train"}
    assert len(used["train"]) == len(session.resolved_run.data.rows("train"))


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_prompt_that_is_longer_than_the_positions(family, backbone_of) -> None:
    """With `position_offset: keep` it takes none of them."""
    backbone = backbone_of(family)
    most = backbone.shape.positions
    ids = [5 + place % 20 for place in range(most + 3)]
    whole = backbone.read(torch.tensor([ids]))
    for first, last in ((0, most), (most, most + 3)):
        part = backbone.read(torch.tensor([ids[first:last]]))
        for (key, value), (own_key, own_value) in zip(whole, part, strict=True):
            assert torch.equal(key[:, :, first:last], own_key)
            assert torch.equal(value[:, :, first:last], own_value)
    method = tiny.make_method(backbone, "ptuning_v2", most + 3, init="rows", position_offset="keep")
    assert method().keys_values[0][0].shape[2] == most + 3


@pytest.mark.parametrize(
    ("family", "task", "write", "fields"),
    [
        ("bert", "text/choice", tiny.write_choice, {"text": "text", "choices": "choices"}),
        ("t5", "ner/conll2003", tiny.write_ner, {}),
        ("bart", "superglue/rte", tiny.write_rte, {}),
        ("llama", "qa/squad", tiny.write_squad, {}),
    ],
)
@pytest.mark.parametrize("init", ["chunks", "matched"])
def test_kinds_of_task(family, task, write, fields, init, folder_of, tmp_path) -> None:
    data = write(tmp_path / "data")
    section = {"name": task, "data": str(data), "max_len": 24, **fields}
    method = {"name": "ptuning_v2", "init": init}
    config = tiny.write_config(
        tmp_path / "c.yaml", folder_of(family), data, task=section, method=method
    )
    session, metrics = tiny.trained(config, tmp_path / "runs", "train.epochs=1")
    assert metrics["status"] == "finished"
    assert session.learner.method.source.prompt.isfinite().all()
