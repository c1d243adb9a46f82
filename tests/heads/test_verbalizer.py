"""The verbalizer's logits against transformers' own, family by family, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import transformers

from ptv2_cli.backbones.families import FAMILIES
from ptv2_cli.backbones.files.locate import Located, locate
from ptv2_cli.backbones.language import lm_head
from ptv2_cli.backbones.load import load_with_language
from ptv2_cli.config.schema import BackboneSection
from ptv2_cli.errors import BackboneError
from ptv2_cli.heads.verbalizer import VerbalizerHead
from ptv2_cli.inputs.batch import Batch
from ptv2_cli.rng import generator

WORDS = [20, 31, 7]
ONE_STACK = [name for name, family in FAMILIES.items() if not family.two_stacks]
TIED_ALONE = {"gpt2", "opt", "bloom"}
"""Families whose head is the word embeddings and nothing else: any weights hold it."""


@pytest.fixture(scope="session")
def lm_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family's random language model; made on first use."""
    made: dict[str, Path] = {}

    def get(family: str) -> Path:
        if family not in made:
            config = transformers.AutoConfig.for_model(family, **tiny.CONFIGS[family])
            with torch.random.fork_rng():
                torch.manual_seed(7)
                model = lm_head.model_class(FAMILIES[family]).from_config(config)
                for name, parameter in model.named_parameters():
                    if name.endswith("bias"):  # zero by default, which would hide a dropped bias
                        torch.nn.init.normal_(parameter, 0.0, 0.5)
            made[family] = tmp_path_factory.mktemp(f"lm-{family}")
            model.save_pretrained(made[family])
        return made[family]

    return get


def load(folder: Path, **section: Any) -> tuple[Any, lm_head.LanguageHead]:
    parsed = BackboneSection.model_validate({"dropout": "off", "name": str(folder), **section})
    located = locate(parsed, offline=True)
    return load_with_language(located, parsed, generator(0, "init/backbone"), WORDS)


def stock_logits(folder: Path, family: str, batch: Batch) -> torch.Tensor:
    model = lm_head.model_class(FAMILIES[family]).from_pretrained(
        folder, attn_implementation="eager"
    )
    with torch.no_grad():
        found = model.eval()(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    logits: torch.Tensor = found.logits
    return logits


@pytest.mark.parametrize("family", ONE_STACK)
def test_logits_are_the_models_own(lm_of: Callable[[str], Path], family: str) -> None:
    folder = lm_of(family)
    backbone, own = load(folder)
    backbone.eval()
    batch = tiny.text_batch([5, 9])
    at = torch.tensor([2, 7])
    with torch.no_grad():
        found = own(backbone(batch)[[0, 1], at])
    stock = stock_logits(folder, family, batch)[[0, 1], at][:, WORDS]
    torch.testing.assert_close(found, stock, atol=1e-4, rtol=1e-4)
    assert stock.std() > 1e-2
    assert not any(parameter.requires_grad for parameter in own.parameters())


@pytest.mark.parametrize("family", ONE_STACK)
def test_a_base_model_alone_is_refused(folder_of: Callable[..., Path], family: str) -> None:
    folder = folder_of(family)
    located = Located(str(folder), folder)
    if family in TIED_ALONE:
        lm_head.check_has_head(located, FAMILIES[family])
        assert load(folder)[1](torch.zeros(1, 32)).shape == (1, 3)
        return
    for refuse in (
        lambda: lm_head.check_has_head(located, FAMILIES[family]),
        lambda: load(folder),
    ):
        with pytest.raises(BackboneError, match="have no language-model head"):
            refuse()


def test_known_before_the_weights_are_there(folder_of: Callable[..., Path], tmp_path: Path) -> None:
    """Of a hub id only the small files are fetched; the index of its shards names the tensors."""
    source = folder_of("bert")
    model = transformers.AutoModel.from_pretrained(source)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    for shard in tmp_path.glob("*.safetensors"):
        shard.unlink()
    with pytest.raises(BackboneError, match="have no language-model head"):
        lm_head.check_has_head(Located("x/y", tmp_path), FAMILIES["bert"])


def test_a_head_that_answers_otherwise_is_refused(
    lm_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = lm_head._restrict
    monkeypatch.setattr(
        lm_head, "_restrict", lambda model, output, words: cut(model, output, [3, 4, 5])
    )
    with pytest.raises(BackboneError, match="gives other logits than the model"):
        load(lm_of("bert"))


def test_a_copy_trains_and_the_embeddings_do_not(lm_of: Callable[[str], Path]) -> None:
    backbone, own = load(lm_of("gpt2"))
    before = backbone.word_embeddings.clone()
    head = VerbalizerHead(tiny.head_context(language=own, trains=True))
    assert not head.borrowed
    hidden = torch.randn(2, 4, 32, generator=torch.Generator().manual_seed(0))
    batch = Batch(
        torch.zeros(2, 4, dtype=torch.int64),
        torch.ones(2, 4, dtype=torch.int64),
        targets=2,
        labels=torch.tensor([0, 2]),
        mask_at=torch.tensor([1, 3]),
    )
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    first = head(hidden, batch)
    assert first.loss is not None
    first.loss.backward()
    optimizer.step()
    second = head(hidden, batch)
    assert second.loss is not None
    assert second.loss < first.loss
    assert torch.equal(backbone.word_embeddings, before)


def test_held_in_bf16_it_answers_in_fp32(lm_of: Callable[[str], Path]) -> None:
    backbone, own = load(lm_of("bert"), dtype="bf16")
    assert backbone.word_embeddings.dtype == torch.bfloat16
    head = VerbalizerHead(tiny.head_context(language=own, trains=False))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert head.logits(torch.randn(2, 32)).dtype == torch.float32
