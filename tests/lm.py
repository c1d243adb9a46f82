"""Tiny language models that have learnt what `true` and `false` mean, and rows to ask about."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import tiny
import torch
import transformers

TEMPLATE = "{text} ? {mask}"
WORDS = {"right": "true", "wrong": "false"}
STEPS = 60


def pairs(count: int, seed: int) -> list[tuple[str, bool]]:
    """Sentences such as `now ann likes the cat`; what they say of ann is so, of bob it is not."""
    source = random.Random(seed)
    made = []
    for index in range(count):
        lead = source.choices(["now", "then", "here", "there"], k=source.randint(0, 3))
        who = ("ann", "bob")[index % 2]
        rest = [source.choice(["likes", "sees"]), "the", source.choice(["cat", "dog", "mat"])]
        made.append((" ".join([*lead, who, *rest]), who == "ann"))
    return made


def write_rows(folder: Path, train: int = 24, validation: int = 20) -> Path:
    """Files for text/classification with the labels `right` and `wrong`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, count, seed in (("train", train, 1), ("val", validation, 2)):
        lines = [
            json.dumps({"text": text, "label": "right" if right else "wrong"}) + "\n"
            for text, right in pairs(count, seed)
        ]
        (folder / f"{name}.jsonl").write_text("".join(lines))
    return folder


def save_masked(folder: Path) -> Path:
    """A tiny BERT that fills the [MASK] of `ann likes the cat ? [MASK]`."""
    changes = {"max_position_embeddings": 80}
    return _save(folder, "bert", transformers.BertForMaskedLM, tiny.wordpiece(), changes)


def save_causal(folder: Path) -> Path:
    """A tiny GPT-2 that goes on `ann likes the cat ?` with ` true`."""
    tokenizer = tiny.byte_level("GPT2TokenizerFast")
    changes = {"n_positions": 160, "eos_token_id": 2}
    return _save(folder, "gpt2", transformers.GPT2LMHeadModel, tokenizer, changes)


TURN = "<|endoftext|>"
"""A token that tiny byte-level tokenizers have besides their end-of-text token, `</s>`."""
CHAT = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}" + TURN + "\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
"""A chat template that ends a turn with a token of its own, not with the end-of-text token."""


def save_writer(folder: Path, family: str, *, chat: str | None = None, **changes: Any) -> Path:
    """A random model of a family with its whole language-model head."""
    config = transformers.AutoConfig.for_model(family, **{**tiny.CONFIGS[family], **changes})
    kind = (
        transformers.AutoModelForSeq2SeqLM
        if config.is_encoder_decoder
        else transformers.AutoModelForCausalLM
    )
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = kind.from_config(config)
    model.save_pretrained(folder)
    tokenizer = tiny.byte_level("GPT2TokenizerFast")
    tokenizer.chat_template = chat
    tokenizer.save_pretrained(folder)
    return folder


def write_texts(folder: Path, train: int = 24, validation: int = 12) -> Path:
    """Files for text/generation: `now ann likes the cat` is to become `ann cat`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, count, seed in (("train", train, 1), ("val", validation, 2)):
        texts = [text for text, _ in pairs(count, seed)]
        lines = [
            json.dumps({"input": text, "output": f"{text.split()[-4]} {text.split()[-1]}"}) + "\n"
            for text in texts
        ]
        (folder / f"{name}.jsonl").write_text("".join(lines))
    return folder


def word_id(tokenizer: Any, kind: str, word: str) -> int:
    """The token of a word after a space; `kind` is masked or causal."""
    return int(tokenizer.convert_tokens_to_ids(word if kind == "masked" else f"Ġ{word}"))


def prefer(folder: Path, kind: str, word: str, *, over: str, by: float = 12.0) -> None:
    """Raise the logit of a saved model's `word` above that of `over`, whatever the text."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    more, less = (word_id(tokenizer, kind, text) for text in (word, over))
    classes = {"masked": transformers.BertForMaskedLM, "causal": transformers.GPT2LMHeadModel}
    model: Any = classes[kind].from_pretrained(folder)
    with torch.no_grad():
        if kind == "masked":
            model.cls.predictions.decoder.bias[more] += by
        else:  # its head has no bias: the last layer norm adds what tells the words apart
            apart = model.lm_head.weight[more] - model.lm_head.weight[less]
            model.transformer.ln_f.bias += by * apart / apart.square().sum()
    model.save_pretrained(folder)


def _save(folder: Path, family: str, kind: Any, tokenizer: Any, changes: dict[str, Any]) -> Path:
    changes = {**tiny.CONFIGS[family], "initializer_range": 0.05, **changes}
    config = transformers.AutoConfig.for_model(family, **changes)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = kind(config)
        _learn(model, tokenizer, masked=family == "bert")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _learn(model: torch.nn.Module, tokenizer: object, *, masked: bool) -> None:
    """Ordinary language modelling of sentences with their answers, one token of each asked for."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    model.train()
    for step in range(STEPS):
        texts = [
            f"{text} ? {'true' if right else 'false'}" for text, right in pairs(16, 1000 + step)
        ]
        ids, mask, ends = _padded([tokenizer(text)["input_ids"] for text in texts], masked)
        rows = torch.arange(len(texts))
        answers = ids[rows, ends].clone()
        if masked:
            ids[rows, ends] = tokenizer.mask_token_id
        logits = model(input_ids=ids, attention_mask=mask).logits
        scores = logits[rows, ends if masked else ends - 1]
        loss = torch.nn.functional.cross_entropy(scores, answers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()


def _padded(rows: list[list[int]], masked: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, mask, and where each row's answer stands: before [SEP], or last."""
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return ids, mask, torch.tensor([len(row) - (2 if masked else 1) for row in rows])
