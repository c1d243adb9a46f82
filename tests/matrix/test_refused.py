"""What a backbone cannot do is said before its weights are looked for, and nothing is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from ptv2_cli.errors import CheckpointError, ConfigError
from ptv2_cli.training.checkpoint import load_tensors

BERT = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 24,
        "max_position_embeddings": 40}  # fmt: skip
T5 = {"model_type": "t5", "d_model": 32, "num_layers": 24, "n_positions": 512}
BART = {"model_type": "bart", "d_model": 32, "encoder_layers": 3, "decoder_layers": 2,
        "max_position_embeddings": 40}  # fmt: skip
V2 = "ptuning_v2"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("data")
    return {"rte": tiny.write_rte(root / "rte"), "ner": tiny.write_ner(root / "ner")}


CASES: list[tuple[dict[str, Any], str, dict[str, Any], list[str]]] = [
    (BERT, "rte", {"method": {"name": V2, "layers": "30"}},
     ["layer 30 does not exist: the model has layers 1 to 24", "leave method.layers out"]),
    (BERT, "rte", {"method": {"name": V2, "layers": "20-30"}}, ["layer 30 does not exist"]),
    (T5, "rte", {"method": {"name": V2, "layers": "30"}}, ["has layers 1 to 24"]),
    (BART, "rte", {"method": {"name": V2, "layers": "3", "sites": "cross"}},
     ["layer 3 does not exist: the model has layers 1 to 2"]),
    (BERT, "rte", {"method": {"name": V2, "sites": "decoder"}},
     ["sites: decoder is for encoder-decoders, this backbone has one stack"]),
    (T5, "ner", {"method": {"name": V2, "sites": "decoder"}},
     ["sites: decoder is never reached", "runs the encoder alone"]),
    (T5, "ner", {"method": {"name": V2, "sites": "cross"}}, ["sites: cross is never reached"]),
    (T5, "rte", {"head": {"pooling": "mean"}},
     ["an encoder-decoder's head reads the decoder's first position, not pooling: mean",
      "leave head.pooling out"]),
    (BERT, "rte", {"prompt_len": 30},
     ["prompt_len 30 plus 24 tokens of text are more than the 40 positions", "at most 10",
      "method.position_offset: keep needs none"]),
    (BART, "rte", {"prompt_len": 30}, ["more than the 40 positions"]),
    (BART, "rte", {"method": "prompt_tuning", "prompt_len": 30}, ["more than the 40 positions"]),
]  # fmt: skip


@pytest.mark.parametrize(("config", "task", "changes", "said"), CASES)
def test_said_before_weights(config, task, changes, said, data, tmp_path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(config))  # and no weights at all
    name = {"rte": "superglue/rte", "ner": "ner/conll2003"}[task]
    section = {"name": name, "data": str(data[task]), "max_len": 24}
    path = tiny.write_config(tmp_path / "x.yaml", model, data[task], task=section, **changes)
    with pytest.raises(ConfigError) as caught:
        tiny.prepared(path, tmp_path / "out")
    message = " ".join(str(caught.value).split())
    assert "x.yaml" in message
    assert all(text in message for text in said), message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("length", [30, 100])
@pytest.mark.parametrize("model", [T5, {**BERT, "model_type": "deberta-v2",
                                        "position_biased_input": False}])  # fmt: skip
def test_relative_positions_leave_room_for_any_prompt(model, length, data, tmp_path) -> None:
    from ptv2_cli.config.load import load_config
    from ptv2_cli.runs.resolve.resolved_config import resolve_config

    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(model))
    config = tiny.write_config(
        tmp_path / "x.yaml", tmp_path / "model", data["rte"], prompt_len=length
    )
    assert resolve_config(load_config(config, []), offline=True).config.task.max_len == 24


@pytest.mark.parametrize(
    ("family", "length", "said"),
    [
        ("bert", 5, r"holds method.source.prompt \(4, 192\), the model has \(5, 192\)"),
        ("llama", 4, r"holds method.source.prompt \(4, 192\), the model has \(4, 96\)"),
        ("t5", 4, r"\(4, 192\), the model has \(4, 576\)"),
    ],
)
def test_a_checkpoint_of_another_shape(family, length, said, folder_of, tmp_path) -> None:
    state = tiny.make_learner(tiny.load(folder_of("bert"))).own_state()
    other = tiny.make_learner(tiny.load(folder_of(family)), prompt_len=length, seed=1)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(CheckpointError, match=said):
        load_tensors(other, state, tmp_path / "best")
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())
