"""What a prompted language model writes with a cache is what the whole text gives without one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import transformers
from torch import Tensor

from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.backbones.families import FAMILIES
from ptv2_cli.backbones.files.locate import locate
from ptv2_cli.backbones.language.language_model import LanguageModel
from ptv2_cli.backbones.language.writing import Written, write
from ptv2_cli.backbones.load import load_language_model
from ptv2_cli.backbones.sites import InputVectors, PlainBatch, Prompts
from ptv2_cli.config.schema import BackboneSection
from ptv2_cli.rng import generator

WRITERS = [name for name, family in FAMILIES.items() if family.causal or family.two_stacks]
LENGTHS = (7, 4, 6)
END = 399


def save(folder: Path, family: str) -> Path:
    config = transformers.AutoConfig.for_model(family, **tiny.CONFIGS[family])
    kind = (
        transformers.AutoModelForSeq2SeqLM
        if FAMILIES[family].two_stacks
        else transformers.AutoModelForCausalLM
    )
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = kind.from_config(config)
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, 0.0, 0.1)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=WRITERS)
def loaded(request: Any, tmp_path_factory: Any) -> tuple[Backbone, LanguageModel]:
    folder = save(tmp_path_factory.mktemp("model"), request.param)
    section = BackboneSection.model_validate({"name": str(folder), "dropout": "off"})
    located = locate(section, offline=True)
    backbone, language = load_language_model(located, section, generator(0, "init/backbone"))
    return backbone.eval(), language


def settings(count: int = 6, **changes: Any) -> transformers.GenerationConfig:
    fields = {"max_new_tokens": count, "eos_token_id": END, "pad_token_id": 0, **changes}
    return transformers.GenerationConfig(**fields)


def rows(batch: PlainBatch) -> list[PlainBatch]:
    """Each row by itself, without padding."""
    alone = []
    for row, length in enumerate(batch.attention_mask.sum(dim=1).tolist()):
        ids = batch.input_ids[row : row + 1, :length]
        alone.append(PlainBatch(ids, torch.ones_like(ids)))
    return alone


def step_by_step(
    backbone: Backbone, language: LanguageModel, row: PlainBatch, prompts: Prompts, count: int
) -> tuple[list[int], float]:
    """Greedy tokens and their log probability, the whole text computed anew for each token."""
    written: list[int] = []
    total = 0.0
    for _ in range(count):
        new = torch.tensor([written], dtype=torch.int64)
        if backbone.decodes:
            batch = replace(row, decoder_ids=new)
        else:
            ids = torch.cat([row.input_ids, new], dim=1)
            batch = PlainBatch(ids, torch.ones_like(ids))
        logits = language(backbone(batch, prompts)[:, -1]).log_softmax(dim=-1)[0]
        written.append(int(logits.argmax()))
        total += float(logits.max())
        if written[-1] == END:
            break
    return written, total


def check(backbone: Backbone, language: LanguageModel, prompts: Prompts) -> Written:
    batch = tiny.text_batch(LENGTHS, high=390)
    plain = PlainBatch(batch.input_ids, batch.attention_mask)
    with torch.no_grad():
        written = write(backbone, language, plain, prompts, settings())
        for at, row in enumerate(rows(plain)):
            expected, total = step_by_step(backbone, language, row, prompts, 6)
            assert written.ids[at, : int(written.lengths[at])].tolist() == expected
            assert written.log_probability is not None
            assert float(written.log_probability[at]) == pytest.approx(total, abs=1e-3)
    return written


@pytest.mark.parametrize("offset", [5, 0], ids=["shift", "keep"])
def test_prompts_with_a_cache(loaded: tuple[Backbone, LanguageModel], offset: int) -> None:
    backbone, language = loaded
    prompted = check(backbone, language, tiny.random_prompts(backbone, 5, offset=offset))
    plain = check(backbone, language, Prompts())
    assert prompted.log_probability is not None
    assert plain.log_probability is not None
    assert not torch.allclose(prompted.log_probability, plain.log_probability, atol=0.1)


@pytest.mark.parametrize("column", [0, 1])
def test_vectors_among_the_words(loaded: tuple[Backbone, LanguageModel], column: int) -> None:
    backbone, language = loaded
    vectors = torch.randn(3, backbone.word_embeddings.shape[1], generator=generator(1, "vectors"))
    check(backbone, language, Prompts(inputs=InputVectors(vectors, column)))


def test_without_prompts_it_is_stock_generate(loaded: tuple[Backbone, LanguageModel]) -> None:
    backbone, language = loaded
    batch = tiny.text_batch([6], high=390)
    plain = PlainBatch(batch.input_ids, batch.attention_mask)
    written = write(backbone, language, plain, Prompts(), settings())
    starts = {"decoder_start_token_id": backbone.decoder_start} if backbone.decodes else {}
    with language.whole() as model, backbone.injection.forward(None):
        stock: Tensor = model.generate(
            input_ids=plain.input_ids,
            attention_mask=plain.attention_mask,
            generation_config=settings(**starts),
        )
    start = 1 if backbone.decodes else 6
    assert written.ids.tolist() == stock[:, start:].tolist()
