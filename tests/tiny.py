"""Tiny random backbones, tokenizers, data sets and configs for tests, made on the spot."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import yaml
from torch import Tensor

from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.backbones.files.locate import locate
from ptv2_cli.backbones.language.lm_head import Vocabulary
from ptv2_cli.backbones.layer_parts import layer_parts
from ptv2_cli.backbones.load import load_backbone
from ptv2_cli.backbones.sites import KeysValues, Prompts
from ptv2_cli.config.load import load_config, parse_set
from ptv2_cli.config.schema import BackboneSection
from ptv2_cli.distributed.group import ALONE, ProcessGroup
from ptv2_cli.errors import ConfigError
from ptv2_cli.heads.base import HeadContext
from ptv2_cli.inputs.batch import Batch
from ptv2_cli.inputs.ragged import Ragged
from ptv2_cli.learner import Learner
from ptv2_cli.methods.base import Context
from ptv2_cli.registry import HEADS, METHODS
from ptv2_cli.rng import generator
from ptv2_cli.runs.resolve.resolved_config import ResolvedConfig, resolve_config
from ptv2_cli.runs.resolved_run import ResolvedRun, prepare
from ptv2_cli.runs.session import Session, open_session
from ptv2_cli.runs.trainer import train

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXT = (
    "ann bob carl dora paris rome oslo the a cat dog sat ran on in mat box red big old "
    "who where is was it not true false entailment likes sees here there now then ? ."
)
WORDS = TEXT.split()
POSITIONS = 40
CPU = torch.device("cpu")

_SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": POSITIONS,
}
# Wide initial weights: with 0.02 attention is next to uniform and hides mistakes.
_WIDE = {"initializer_range": 0.3}
_BERT = {**_SMALL, **_WIDE, "vocab_size": len(SPECIALS) + len(WORDS)}
_ROBERTA = {**_BERT, "vocab_size": 400, "max_position_embeddings": POSITIONS + 2, "pad_token_id": 1}
_LLAMA = {**_SMALL, **_WIDE, "vocab_size": 400, "num_key_value_heads": 2}
_T5 = {
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 3,
    "num_heads": 4,
    "vocab_size": 400,
    "pad_token_id": 0,
    "decoder_start_token_id": 0,
    "initializer_factor": 1.0,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "bert": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "albert": {**_BERT, "embedding_size": 16},
    "electra": {**_BERT, "embedding_size": 16},
    "modernbert": {
        **_BERT,
        "pad_token_id": 0,
        "local_attention": 4,
        "global_attn_every_n_layers": 3,
    },
    "gpt2": {
        **_WIDE,
        "vocab_size": 400,
        "n_embd": 32,
        "n_layer": 3,
        "n_head": 4,
        "n_positions": POSITIONS,
        "bos_token_id": 2,
        "eos_token_id": 2,
    },
    "opt": {
        **_ROBERTA,
        "ffn_dim": 48,
        "word_embed_proj_dim": 32,
        "max_position_embeddings": POSITIONS,
    },
    "bloom": {**_SMALL, **_WIDE, "n_head": 4, "vocab_size": 400},
    "gpt_neox": {**_SMALL, **_WIDE, "vocab_size": 400},
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": {**_LLAMA, "head_dim": 8},
    "glm": {**_LLAMA, "head_dim": 8, "pad_token_id": 1},
    "glm4": {**_LLAMA, "head_dim": 8, "pad_token_id": 1},
    "camembert": _ROBERTA,
    "distilbert": {
        "dim": 32,
        "n_layers": 3,
        "n_heads": 4,
        "hidden_dim": 48,
        "max_position_embeddings": POSITIONS,
        "vocab_size": len(SPECIALS) + len(WORDS),
        **_WIDE,
    },
    "mpnet": {**_ROBERTA, "vocab_size": len(SPECIALS) + len(WORDS)},
    "deberta": {
        **_BERT,
        "relative_attention": True,
        "pos_att_type": ["c2p", "p2c"],
        "position_biased_input": False,
    },
    "deberta-v2": {
        **_BERT,
        "relative_attention": True,
        "pos_att_type": ["c2p", "p2c"],
        "position_biased_input": False,
        "position_buckets": 8,
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
    },
    "eurobert": {**_LLAMA, "pad_token_id": 1},
    "big_bird": {**_BERT, "pad_token_id": 0, "block_size": 4, "num_random_blocks": 1},
    "t5": _T5,
    "mt5": {**_T5, "feed_forward_proj": "gated-gelu", "num_decoder_layers": 2},
    "bart": {
        **_WIDE,
        "d_model": 32,
        "encoder_layers": 3,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
        "max_position_embeddings": POSITIONS,
        "vocab_size": 400,
        "init_std": 0.3,
    },
}


def wordpiece() -> Any:
    """A BERT tokenizer that knows WORDS."""
    vocab = {token: index for index, token in enumerate([*SPECIALS, *WORDS])}
    return transformers.BertTokenizerFast(vocab=vocab)


def bpe(text: str, size: int) -> dict[str, Any]:
    """Vocabulary and merges of a byte-level BPE of `size` tokens, learned from a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text] * 4, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return {"vocab": model["vocab"], "merges": [tuple(pair) for pair in model["merges"]]}


def byte_level(name: str) -> Any:
    """A byte-level BPE tokenizer of the class `name` with a few merges."""
    extra = {"eos_token": "</s>"} if name == "GPT2TokenizerFast" else {}
    return getattr(transformers, name)(**bpe(" ".join(["x", *WORDS]), 380), **extra)


def save_model(
    folder: Path, family: str, *, tokenizer: bool = True, pooler: bool = True, **changes: Any
) -> Path:
    """Save a random model of a family and its tokenizer; returns the folder."""
    config = transformers.AutoConfig.for_model(family, **{**CONFIGS[family], **changes})
    with torch.random.fork_rng():
        torch.manual_seed(7)
        options = {} if pooler else {"add_pooling_layer": False}
        model = transformers.AutoModel.from_config(config, **options)
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):  # zero by default, which would hide a dropped bias
                torch.nn.init.normal_(parameter, 0.0, 0.1)
    model.save_pretrained(folder)
    if tokenizer:
        roberta = family in {"roberta", "xlm-roberta"}
        words = CONFIGS[family].get("vocab_size") != 400
        name = "RobertaTokenizerFast" if roberta else "GPT2TokenizerFast"
        (wordpiece() if words else byte_level(name)).save_pretrained(folder)
    return folder


def load(folder: Path, seed: int = 0, **section: Any) -> Backbone:
    """The backbone of a folder, in training mode, without dropout unless asked."""
    parsed = BackboneSection.model_validate({"dropout": "off", **section, "name": str(folder)})
    return load_backbone(
        locate(parsed, offline=True), parsed, generator(seed, "init/backbone")
    ).train()


def stock(folder: Path, attention: str = "eager") -> Any:
    """The same weights in transformers' own model, eval mode."""
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation=attention)
    return model.eval()


def text_batch(
    lengths: Sequence[int], width: int | None = None, seed: int = 0, low: int = 5, high: int = 40
) -> Batch:
    """Random text of these lengths, padded with zeros; ids never collide with special ones."""
    width = width or max(lengths)
    source = torch.Generator().manual_seed(seed)
    ids = torch.zeros(len(lengths), width, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(low, high, (length,), generator=source)
        mask[row, :length] = 1
    return Batch(input_ids=ids, attention_mask=mask, targets=len(lengths))


def row_alone(
    batch: Batch, prompts: Prompts, row: int, size: int
) -> tuple[Batch, dict[int, KeysValues]]:
    """A row of a batch without its padding, and the first `size` positions of its own prompt."""
    own = {
        at: (keys[row : row + 1, :, :size], values[row : row + 1, :, :size])
        for at, (keys, values) in (prompts.keys_values or {}).items()
    }
    length = int(batch.attention_mask[row].sum())
    ids, mask = (part[row : row + 1, :length] for part in (batch.input_ids, batch.attention_mask))
    return replace(batch, input_ids=ids, attention_mask=mask), own


def random_prompts(
    backbone: Backbone, length: int, rows: int = 1, seed: int = 0, **fields: Any
) -> Prompts:
    """N(0, 1) keys and values at every site; `fields` are further fields of Prompts."""
    source = torch.Generator().manual_seed(seed)

    def draw(heads: int, size: int) -> Tensor:
        return torch.randn(rows, heads, length, size, generator=source)

    made: dict[int, KeysValues] = {
        at: (draw(site.heads, site.head_size), draw(site.heads, site.head_size))
        for at, site in enumerate(backbone.sites)
    }
    return Prompts(keys_values=made, **fields)


def context(backbone: Backbone, seed: int = 0, **changes: Any) -> Context:
    """What a method is built from."""
    fields: dict[str, Any] = {
        "prompt_len": 4,
        "sites": backbone.sites,
        "model": backbone.model,
        "hidden_size": backbone.shape.hidden_size,
        "dropout": 0.0,
        "word_embeddings": backbone.word_embeddings,
        "label_pieces": [[25], [26, 27]],
        "seed": seed,
        "init": generator(seed, "init/method"),
        "vocabulary": Vocabulary(wordpiece()),
        "read": lambda ids: backbone.read(torch.tensor([list(ids)])),
        "parts": lambda: layer_parts(backbone),
        "train_inputs": lambda: Ragged.of([[5, 6, 7], [8, 9, 10, 11]]),
        "trained": lambda folder: {},
    }
    return Context(**{**fields, **changes})


def make_method(
    backbone: Backbone, name: str, prompt_len: int | None, seed: int = 0, **options: Any
) -> Any:
    """A method by name; `dropout` is an option of ptuning_v2."""
    spec = METHODS.load(name).model_validate(options)
    return spec.build(context(backbone, seed, prompt_len=prompt_len or 0))


def head_context(**changes: Any) -> HeadContext:
    """What a head is built from."""
    fields: dict[str, Any] = {
        "hidden_size": 32,
        "classes": 3,
        "dropout": 0.0,
        "pooling": "cls",
        "pooler": lambda vectors: vectors,
        "seed": 0,
        "init": generator(0, "init/head"),
    }
    return HeadContext(**{**fields, **changes})


def make_learner(
    backbone: Backbone,
    method: str = "ptuning_v2",
    prompt_len: int | None = 4,
    *,
    kind: str = "sequence",
    pooling: str = "cls",
    seed: int = 0,
    **options: Any,
) -> Learner:
    """A learner without dropout over a backbone."""
    if pooling != "pooler":
        backbone.drop_pooler()
    head = HEADS.load(kind)(
        head_context(pooling=pooling, pooler=backbone.pool, init=generator(seed, "init/head"))
    )
    return Learner(backbone, make_method(backbone, method, prompt_len, seed, **options), head)


# Data sets


def write_rte(folder: Path, train: int = 24, validation: int = 12, test: int = 0) -> Path:
    """SuperGLUE RTE files in which the hypothesis tells the label: `ann ...` is entailment."""
    source = random.Random(5)
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", train), ("val", validation), ("test", test)):
        lines = []
        for index in range(count):
            label = ("entailment", "not_entailment")[index % 2]
            premise = " ".join(source.choices(WORDS[7:20], k=source.randint(2, 9)))
            hypothesis = f"{'ann' if index % 2 == 0 else 'bob'} {source.choice(WORDS[7:20])}"
            row = {"premise": premise, "hypothesis": hypothesis, "label": label, "idx": index}
            lines.append(json.dumps(row) + "\n")
        if count:
            (folder / f"{name}.jsonl").write_text("".join(lines))
    return folder


NAMES = {"ann": "B-PER", "bob": "B-PER", "paris": "B-LOC", "rome": "B-LOC"}


def write_ner(folder: Path, train: int = 48, validation: int = 16) -> Path:
    """CoNLL files in which the word tells the tag."""
    source = random.Random(6)
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", train), ("valid", validation)):
        sentences = []
        for _ in range(count):
            words = source.choices([*NAMES, *WORDS[7:20]], k=source.randint(3, 9))
            sentences.append("".join(f"{word} {NAMES.get(word, 'O')}\n" for word in words))
        (folder / f"{name}.txt").write_text("\n".join(sentences))
    return folder


def write_squad(
    folder: Path, train: int = 48, validation: int = 16, *, impossible: bool = False
) -> Path:
    """SQuAD files in which the answer is always the one name in the context."""
    source = random.Random(8)
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", train), ("dev", validation)):
        paragraphs = []
        for index in range(count):
            words = source.choices(WORDS[7:20], k=source.randint(4, 9))
            words.insert(source.randrange(len(words)), "dora")
            text = " ".join(words)
            answers = [{"text": "dora", "answer_start": text.index("dora")}]
            question: dict[str, Any] = {"id": f"{name}{index}", "question": "who is it ?"}
            if impossible:
                question["is_impossible"] = index % 2 == 1
                answers = [] if index % 2 else answers
            paragraphs.append({"context": text, "qas": [{**question, "answers": answers}]})
        body = {"version": "1.1", "data": [{"title": "T", "paragraphs": paragraphs}]}
        (folder / f"{name}.json").write_text(json.dumps(body))
    return folder


def write_choice(folder: Path, train: int = 48, validation: int = 24) -> Path:
    """Questions of two or three choices, the right one of which is about ann."""
    source = random.Random(9)
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", train), ("val", validation)):
        lines = []
        for index in range(count):
            size = 2 + index % 2
            label = source.randrange(size)
            ends = [" ".join(source.choices(WORDS[7:20], k=source.randint(1, 4))) for _ in range(3)]
            choices = [f"{'ann' if at == label else 'bob'} {ends[at]}" for at in range(size)]
            text = " ".join(source.choices(WORDS[7:20], k=source.randint(2, 6)))
            row = {"id": f"{name}{index}", "text": text, "choices": choices, "label": label}
            lines.append(json.dumps(row) + "\n")
        (folder / f"{name}.jsonl").write_text("".join(lines))
    return folder


# Runs


def write_config(path: Path, backbone: Path | str, data: Path, **changes: Any) -> Path:
    """A config of three short epochs of RTE; `changes` replace top-level keys, None drops one."""
    content: dict[str, Any] = {
        "method": "ptuning_v2",
        "backbone": str(backbone),
        "task": {"name": "superglue/rte", "data": str(data), "max_len": 24},
        "prompt_len": 3,
        "train": {"lr": 0.05, "epochs": 3, "batch_size": 4, "eval_batch_size": 8, "seed": 11},
    }
    content = {key: value for key, value in {**content, **changes}.items() if value is not None}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def resolved(config: Path, *sets: str) -> ResolvedConfig:
    """What a config means, with `--set` texts."""
    return resolve_config(load_config(config, [parse_set(text) for text in sets]), offline=True)


def problems(config: Path, *sets: str) -> str:
    """The message of a config that is refused."""
    with pytest.raises(ConfigError) as caught:
        resolved(config, *sets)
    return str(caught.value)


def prepared(config: Path, output: Path, sets: Iterable[str] = ()) -> ResolvedRun:
    """The experiment of a config, with `--set` texts."""
    loaded = load_config(config, [parse_set(text) for text in sets])
    return prepare(loaded, output, offline=True)


def opened(config: Path, output: Path, *sets: str, group: ProcessGroup = ALONE) -> Session:
    """A session ready to train on the CPU."""
    return open_session(prepared(config, output, sets), CPU, group=group)


@dataclass
class Follower:
    """A sink that calls a function with every event."""

    call: Callable[[Any], None]
    closed: int = 0

    def on(self, event: Any) -> None:
        self.call(event)

    def close(self) -> None:
        self.closed += 1


def trained(
    config: Path,
    output: Path,
    *sets: str,
    resume: bool = False,
    listen: Callable[[Any], None] = lambda event: None,
    group: ProcessGroup = ALONE,
) -> tuple[Session, dict[str, Any]]:
    """Train a config; the session and metrics.json's content."""
    session = opened(config, output, *sets, group=group)
    return session, train(session, [lambda run: Follower(listen)], resume=resume)
