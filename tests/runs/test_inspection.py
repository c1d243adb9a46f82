"""What a finished run's prompt looks like: near words, and attention over rows of a split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from ptv2_cli.backbones.shares import prompt_shares
from ptv2_cli.inputs.batch import collate
from ptv2_cli.runs.inspection import nearest_words as words
from ptv2_cli.runs.inspection.attention import attention_on_prompt
from ptv2_cli.runs.inspection.nearest_words import nearest_words, readable, uses_bytes


def test_the_nearest_words_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "ROWS", 7)  # several parts of the table
    tokenizer = tiny.wordpiece()
    vocab = tokenizer.get_vocab()
    table = torch.randn(len(vocab) + 3, 8, generator=torch.Generator().manual_seed(1))
    table[len(vocab) :] *= 100  # rows that no token has
    vectors = torch.stack([3 * table[vocab["paris"]], -table[vocab["cat"]]])
    found = nearest_words(vectors, table, tokenizer)
    units = torch.nn.functional.normalize(table[: len(vocab)], dim=1)
    cosines = torch.nn.functional.normalize(vectors, dim=1) @ units.T
    for position, row in zip(found.positions, cosines, strict=True):
        best = row.topk(5)
        assert [word.id for word in position.words] == best.indices.tolist()
        assert [word.cosine for word in position.words] == pytest.approx(best.values.tolist())
    assert found.positions[0].words[0].text == "paris"
    assert found.positions[0].norm == pytest.approx(float(vectors[0].norm()))
    own = torch.tensor([vocab[word] for word in tiny.WORDS])
    between = units[own] @ units.T
    between[torch.arange(len(own)), own] = -2
    nearest = between.amax(dim=1)
    assert found.sample == len(own)
    assert found.word_cosine == pytest.approx(float(nearest.median()))
    assert found.positions[0].farther_than == 0
    expected = float((nearest > cosines[1].max()).float().mean())
    assert found.positions[1].farther_than == pytest.approx(expected)
    assert expected > 0


def test_words_as_people_read_them(gpt2: Any, wordpiece: Any) -> None:
    assert uses_bytes(gpt2)
    assert not uses_bytes(wordpiece)
    spelled = gpt2.convert_ids_to_tokens(gpt2(" the")["input_ids"])
    assert "".join(readable(token, True) for token in spelled) == "▁the"
    for text, shown in (("é", "é"), (" 中", "▁中")):
        letters = gpt2.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)[0][0]
        assert readable(letters, True) == shown
    assert readable("ä¸", True) == "<E4 B8>"  # two of three bytes
    assert readable("##ing", False) == "##ing"
    assert readable("Ġx", False) == "Ġx"


def session(folder_of: Any, tmp_path: Path, *sets: str) -> Any:
    data = tiny.write_rte(tmp_path / "rte", validation=11)
    config = tiny.write_config(tmp_path / "config.yaml", folder_of("bert"), data)
    return tiny.opened(config, tmp_path / "runs", *sets)


@pytest.mark.parametrize("method", ["ptuning_v2", "prompt_tuning", "ptuning_v1"])
def test_means_over_rows_do_not_depend_on_batches(
    folder_of: Any, tmp_path: Path, method: str
) -> None:
    """Eleven rows, eight in a pass with padding, against each row by itself."""
    opened = session(folder_of, tmp_path, f"method={method}")
    features = opened.data.features("validation")
    done: list[int] = []
    layers = attention_on_prompt(opened, features, done.append)
    assert done == [8, 3]
    assert [layer.name for layer in layers] == ["1", "2", "3"]
    learner = opened.learner.eval()
    alone = [
        prompt_shares(learner.backbone, collate([feature], 0, "sequence"), learner.prompts())
        for feature in features
    ]
    for site, layer in enumerate(layers):
        tokens = sum(row[site].queries for row in alone)
        heads = sum(row[site].shares.sum(dim=1) for row in alone) / tokens
        assert layer.heads == pytest.approx(heads.tolist(), rel=1e-4)
        assert layer.even == pytest.approx(sum(row[site].even for row in alone) / tokens)
        assert sum(layer.positions) == pytest.approx(layer.mean, rel=1e-5)
        assert len(layer.positions) == 3
        assert (layer.keys is None) == (method != "ptuning_v2")


def test_layers_without_a_prompt_are_left_out(folder_of: Any, tmp_path: Path) -> None:
    opened = session(folder_of, tmp_path, "method.layers=2-3")
    layers = attention_on_prompt(opened, opened.data.features("validation"))
    assert [layer.name for layer in layers] == ["2", "3"]
