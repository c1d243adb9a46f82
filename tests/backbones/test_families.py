"""The table of families against the models themselves and public config.json files."""

from __future__ import annotations

import json

import pytest
import tiny
import transformers

from ptv2_cli.backbones.families import FAMILIES, REFUSED, shape_of
from ptv2_cli.backbones.files.locate import locate
from ptv2_cli.backbones.load import load_backbone
from ptv2_cli.config.schema import BackboneSection
from ptv2_cli.errors import BackboneError
from ptv2_cli.rng import generator

# The keys that these checkpoints' files have of those that are read, as they are published.
PUBLIC = {
    "t5-small": (
        {"model_type": "t5", "d_model": 512, "num_layers": 6, "num_decoder_layers": 6,
         "n_positions": 512, "num_heads": 8, "d_kv": 64},
        {"encoder": 6, "decoder": 6, "cross": 6}, 512, 512, None),
    "t5 of old": (
        {"model_type": "t5", "d_model": 512, "num_layers": 6, "n_positions": 512},
        {"encoder": 6, "decoder": 6, "cross": 6}, 512, 512, None),
    "flan-t5-large": (
        {"model_type": "t5", "d_model": 1024, "num_layers": 24, "num_decoder_layers": 24,
         "n_positions": 512, "feed_forward_proj": "gated-gelu"},
        {"encoder": 24, "decoder": 24, "cross": 24}, 1024, 512, None),
    "mt5-small": (
        {"model_type": "mt5", "d_model": 512, "num_layers": 8, "num_decoder_layers": 8},
        {"encoder": 8, "decoder": 8, "cross": 8}, 512, 512, None),
    "bart-large": (
        {"model_type": "bart", "d_model": 1024, "encoder_layers": 12, "decoder_layers": 12,
         "num_hidden_layers": 12, "max_position_embeddings": 1024},
        {"encoder": 12, "decoder": 12, "cross": 12}, 1024, 1024, 1024),
    "glm-4-9b-hf": (
        {"model_type": "glm", "hidden_size": 4096, "num_hidden_layers": 40,
         "max_position_embeddings": 131072, "num_key_value_heads": 2, "head_dim": 128},
        {"self": 40}, 4096, 131072, 131072),
    "deberta-v3-base": (
        {"model_type": "deberta-v2", "hidden_size": 768, "num_hidden_layers": 12,
         "max_position_embeddings": 512, "max_relative_positions": -1, "position_buckets": 256,
         "position_biased_input": False, "share_att_key": True, "pos_att_type": "p2c|c2p",
         "norm_rel_ebd": "layer_norm", "relative_attention": True},
        {"self": 12}, 768, 512, None),
    "deberta-base": (
        {"model_type": "deberta", "hidden_size": 768, "num_hidden_layers": 12,
         "max_position_embeddings": 512, "max_relative_positions": -1,
         "position_biased_input": False, "pos_att_type": "c2p|p2c", "relative_attention": True},
        {"self": 12}, 768, 512, None),
    "distilbert-base-uncased": (
        {"model_type": "distilbert", "dim": 768, "n_layers": 6, "n_heads": 12,
         "max_position_embeddings": 512},
        {"self": 6}, 768, 512, 512),
    "mpnet-base": (
        {"model_type": "mpnet", "hidden_size": 768, "num_hidden_layers": 12, "pad_token_id": 1,
         "max_position_embeddings": 514, "relative_attention_num_buckets": 32},
        {"self": 12}, 768, 512, 512),
    "bloom-560m": (
        {"model_type": "bloom", "n_layer": 24, "hidden_size": 1024, "n_head": 16,
         "seq_length": 2048},
        {"self": 24}, 1024, 2048, None),
    "bloom": (
        {"model_type": "bloom", "n_layer": 70, "n_embed": 14336, "num_attention_heads": 112},
        {"self": 70}, 14336, 512, None),
    "opt-350m": (
        {"model_type": "opt", "hidden_size": 1024, "word_embed_proj_dim": 512,
         "num_hidden_layers": 24, "max_position_embeddings": 2048, "do_layer_norm_before": False},
        {"self": 24}, 512, 2048, 2048),
    "albert-base-v2": (
        {"model_type": "albert", "hidden_size": 768, "embedding_size": 128,
         "num_hidden_layers": 12, "num_hidden_groups": 1, "max_position_embeddings": 512},
        {"self": 12}, 768, 512, 512),
    "gpt2": (
        {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024,
         "n_ctx": 1024},
        {"self": 12}, 768, 1024, 1024),
    "roberta-large": (
        {"model_type": "roberta", "hidden_size": 1024, "num_hidden_layers": 24,
         "max_position_embeddings": 514, "pad_token_id": 1},
        {"self": 24}, 1024, 512, 512),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLIC)
def test_public_config_files(name) -> None:
    config, stacks, hidden, limit, positions = PUBLIC[name]
    shape = shape_of(name, config)
    assert (dict(shape.stacks), shape.hidden_size) == (stacks, hidden)
    assert (shape.limit, shape.positions) == (limit, positions)


def test_every_family_has_a_tiny_model() -> None:
    assert tiny.CONFIGS.keys() == FAMILIES.keys()
    assert not FAMILIES.keys() & REFUSED.keys()


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_said_is_so(family, backbone_of) -> None:
    backbone, known = backbone_of(family), FAMILIES[family]
    assert backbone.model.supports_gradient_checkpointing == known.checkpointing
    own = [site.causal for site in backbone.sites if site.stack == "self"]
    assert own == [known.causal] * len(own)
    assert ({site.stack for site in backbone.sites} != {"self"}) == known.two_stacks
    grouped = {site.heads for site in backbone.sites} != {4}  # of four heads
    assert grouped == known.grouped
    if known.pooling == "pooler":
        assert backbone.pooler is not None
    text = tiny.text_batch([5, 3])
    wanted = (2, 1 if known.two_stacks else 5, backbone.shape.hidden_size)
    assert backbone(text).shape == wanted


def test_opt_that_gives_narrower_states_than_it_has_inside(tmp_path) -> None:
    """opt-350m: words and answers are 512 wide, its layers 1,024, LayerNorm after them."""
    folder = tiny.save_model(
        tmp_path, "opt", tokenizer=False, word_embed_proj_dim=16, do_layer_norm_before=False
    )
    backbone = tiny.load(folder)
    assert backbone.shape.hidden_size == 16
    for method in ("ptuning_v2", "prompt_tuning", "ptuning_v1"):
        made = tiny.make_method(backbone, method, 4)
        assert method == "ptuning_v2" or made.prompt.shape == (4, 16)
    assert backbone(tiny.text_batch([5, 3]), tiny.random_prompts(backbone, 4)).shape == (2, 5, 16)


@pytest.mark.parametrize("family", ["deberta", "deberta-v2"])
def test_disentangled_kinds_written_as_one_text(family, folder_of, backbone_of, tmp_path) -> None:
    """As in the public files, without a limit of relative distances."""
    folder = tiny.save_model(tmp_path, family, tokenizer=False, max_relative_positions=-1)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "pos_att_type": "p2c|c2p"}))
    batch = tiny.text_batch([6, 4])
    backbone = tiny.load(folder).eval()
    prompts = tiny.random_prompts(backbone, 4)
    assert (backbone(batch, prompts) - backbone_of(family)(batch, prompts)).abs().max() < 1e-5


def test_a_model_without_attention_is_refused_before_its_weights(tmp_path) -> None:
    sizes = {key: tiny.CONFIGS["bert"][key] for key in ("hidden_size", "num_hidden_layers",
             "intermediate_size", "vocab_size")}  # fmt: skip
    config = transformers.AutoConfig.for_model("fnet", **sizes)
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(BackboneError) as caught:
        tiny.load(tmp_path)
    assert "fnet cannot be prompted: it mixes tokens by Fourier transforms" in str(caught.value)
    assert "supported: bert, " in str(caught.value)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_families_say_why(name) -> None:
    with pytest.raises(BackboneError, match=f"{name} cannot be prompted: it"):
        shape_of("some/model", {"model_type": name, "hidden_size": 8, "num_hidden_layers": 2})


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_off_silences_everything(family, folder_of) -> None:
    """Twice in training mode: equal without dropout, different with the model's own."""
    folder, batch = folder_of(family), tiny.text_batch([7, 5])

    def twice(value) -> bool:
        section = BackboneSection.model_validate({"name": str(folder), "dropout": value})
        located = locate(section, offline=True)
        backbone = load_backbone(located, section, generator(0, "init/backbone")).train()
        return bool((backbone(batch) == backbone(batch)).all())

    assert twice("off")
    assert twice(0.5) == (tiny.load(folder, dropout=0.5).dropout == 0.0)
