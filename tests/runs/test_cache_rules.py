"""`train.cache`: where it can keep something, and where it is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
import torch
from tiny import problems, resolved

from ptv2_cli.backbones.frozen_cache import activation_store
from ptv2_cli.backbones.frozen_cache.activation_store import (
    free_memory,
    needed_bytes,
    require_space,
)
from ptv2_cli.backbones.frozen_cache.lower_layers import LowerStates
from ptv2_cli.config.fingerprint import fingerprint
from ptv2_cli.errors import ConfigError
from ptv2_cli.inputs.features import Feature
from ptv2_cli.runs.resolve.backbone_rules import require_cache_room

UPPER = "method={name: ptuning_v2, layers: last:2}"
SETS = ("train.cache=memory", "backbone.dropout=off", UPPER)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    tiny.write_rte(root / "rte")
    tiny.write_ner(root / "ner")
    return root


@pytest.fixture
def config_of(folder_of, data, tmp_path):
    def write(family: str, kind: str = "rte") -> Path:
        task = {"rte": "superglue/rte", "ner": "ner/conll2003"}[kind]
        return tiny.write_config(
            tmp_path / f"{family}-{kind}.yaml",
            folder_of(family),
            data / kind,
            task={"name": task, "data": str(data / kind), "max_len": 24},
        )

    return write


@pytest.mark.parametrize("cache", ["memory", "disk", "null"])
@pytest.mark.parametrize(
    "method", [UPPER, "method={name: ptuning_v2, layers: 2}", "method=head_only"]
)
def test_where_something_can_be_kept(cache, method, config_of) -> None:
    found = resolved(config_of("bert"), f"train.cache={cache}", "backbone.dropout=off", method)
    assert found.config.train.cache == (None if cache == "null" else cache)


def test_it_is_no_other_run(config_of) -> None:
    marks = {
        fingerprint(
            resolved(config_of("bert"), *SETS, f"train.cache={cache}").config.model_dump(), {}
        )
        for cache in ("memory", "disk", "null")
    }
    content = resolved(config_of("bert"), *SETS).config.model_dump()
    del content["train"]["cache"]
    assert marks == {fingerprint(content, {})}


@pytest.mark.parametrize("dropout", ["null", "0.1", "0.0"])
def test_it_wants_no_dropout(dropout, config_of) -> None:
    text = problems(config_of("bert"), *SETS, f"backbone.dropout={dropout}")
    assert "--set train.cache: with the backbone's dropout, lower layers compute" in text
    assert "dropout: off" in text


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("ptuning_v2", "ptuning_v2 changes what the lowest layer computes"),
        ("{name: ptuning_v2, layers: '1,3'}", "ptuning_v2 changes what the lowest"),
        ("prompt_tuning", "prompt_tuning changes what the lowest layer computes"),
        ("ptuning_v1", "ptuning_v1 changes what the lowest layer computes"),
        ("{name: ptuning_v1, train_backbone: true}", "ptuning_v1 trains the backbone"),
        ("finetune", "finetune trains the backbone: no layer computes the same in every epoch"),
    ],
)
def test_it_wants_layers_below_the_lowest_prompt(method, reason, config_of) -> None:
    text = problems(config_of("bert"), *SETS[:2], f"method={method}")
    assert f"--set train.cache: {reason}" in text
    assert "-> leave cache out" in text


def test_a_run_without_training_reads_nothing_twice(config_of) -> None:
    sets = ("method=none", "head={name: verbalizer}", "prompt_len=null")
    text = problems(config_of("bert"), *SETS[:2], *sets)
    assert "--set train.cache: none trains nothing: no row is read twice" in text


def test_layers_that_do_not_exist_are_told_once(config_of) -> None:
    text = problems(config_of("bert"), *SETS[:2], "method={name: ptuning_v2, layers: 9}")
    assert "layer 9 does not exist" in text
    assert "train.cache" not in text


def test_t5_cannot_be_entered_between_layers(config_of) -> None:
    text = problems(config_of("t5", "ner"), *SETS)
    assert "--set train.cache: t5 layers pass on more than hidden states" in text
    assert "method: head_only can use it" in text
    resolved(config_of("bart", "ner"), *SETS)
    for family in ("t5", "bart"):
        for kind in ("rte", "ner"):
            resolved(config_of(family, kind), *SETS[:2], "method=head_only")


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_an_encoder_decoder_that_answers_keeps_nothing_below_prompts(family, config_of) -> None:
    text = problems(config_of(family), *SETS)
    assert "--set train.cache: an encoder-decoder can keep the outputs of its layers only" in text


def test_other_words_are_refused(config_of) -> None:
    assert "train.cache" in problems(config_of("bert"), *SETS[1:], "train.cache=gpu")


# FreeSpace


def test_bytes_are_those_of_all_tokens() -> None:
    parts = (Feature(0, [1, 2, 3]), Feature(0, [1]))
    rows = [Feature(0, [1] * 5), Feature(1, [1, 2, 3], choices=parts)]
    tokens = sum(row.tokens for row in rows)
    assert tokens == 5 + 3 + 1
    assert needed_bytes(tokens, 32, torch.float32) == tokens * 32 * 4
    assert needed_bytes(tokens, 32, torch.bfloat16) == tokens * 32 * 2


def test_more_than_memory_has_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(activation_store, "free_memory", lambda: 3 * 2**30)
    require_space("memory", 3 * 2**30)
    with pytest.raises(ConfigError) as caught:
        require_space("memory", 4 * 2**30)
    assert "train.cache: memory would take 4.0 GiB of memory, which has 3.0 GiB free" in str(
        caught.value
    )
    assert "write train.cache: disk" in str(caught.value)
    monkeypatch.setattr(activation_store, "free_memory", lambda: None)  # a system that does not say
    require_space("memory", 2**60)


def test_more_than_the_disk_has_is_refused(tmp_path) -> None:
    folder = tmp_path / "not" / "there"
    require_space("disk", 1000, folder)
    with pytest.raises(ConfigError) as caught:
        require_space("disk", 2**60, folder)
    assert f"of the disk of {folder}, which has" in str(caught.value)
    assert "free some space" in str(caught.value)
    require_space("epoch", 2**60)


def test_free_memory_is_what_the_system_says(monkeypatch) -> None:
    assert 0 < free_memory() < activation_store.psutil.virtual_memory().total

    def absent() -> None:
        raise FileNotFoundError("/proc/meminfo")

    monkeypatch.setattr("psutil.virtual_memory", absent)
    assert free_memory() is None


def test_a_run_is_asked_for_what_its_layers_give(folder_of, monkeypatch, tmp_path) -> None:
    backbone = tiny.load(folder_of("bert"))
    monkeypatch.setattr(activation_store, "free_memory", lambda: 5 * 32 * 4 - 1)
    with pytest.raises(ConfigError, match=r"memory would take"):
        require_cache_room("memory", 5, backbone)
    monkeypatch.setattr(activation_store, "free_memory", lambda: 5 * 32 * 4)
    require_cache_room("memory", 5, backbone)
    require_cache_room("disk", 5, backbone, tmp_path)


# A whole run


@pytest.mark.parametrize("cache", ["memory", "disk"])
@pytest.mark.parametrize("method", [UPPER, "method=head_only"])
def test_a_run_is_the_same_and_computes_each_row_once(
    cache, method, config_of, tmp_path, monkeypatch
) -> None:
    made: list[LowerStates] = []
    begin = LowerStates.__init__

    def noting(self, *args, **kwargs):
        begin(self, *args, **kwargs)
        made.append(self)

    monkeypatch.setattr(LowerStates, "__init__", noting)
    sets = ("backbone.dropout=off", method, "method.position_offset=keep")
    sets = sets[: 3 if method == UPPER else 2]
    config = config_of("bert")
    _, plain = tiny.trained(config, tmp_path / "plain", *sets)
    session, metrics = tiny.trained(config, tmp_path / "kept", *sets, f"train.cache={cache}")
    assert metrics["metrics"] == plain["metrics"]
    history = [
        [json.loads(line)["train_loss"] for line in path.read_text().splitlines()]
        for path in sorted(tmp_path.glob("*/*/history.jsonl"))
    ]
    assert len(history) == 2
    assert history[0] == pytest.approx(history[1], rel=1e-4)
    rows = 24 + 12
    # The best evaluation is kept: nothing is predicted again at the end.
    assert [lower.computed for lower in made] == [3 * rows, rows]
    folder = session.resolved_run.directory.path
    assert not list(folder.parent.glob("tmp*"))
    assert not list(folder.glob("tmp*"))
