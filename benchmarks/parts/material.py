"""Random models of any shape and made-up rows that fill every token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [f"w{number}" for number in range(995)]


def write_model(
    folder: Path, family: str, dtype: str, shape: dict[str, Any], *, language: bool = False
) -> None:
    """A model with random weights, its language-model head if asked, and made-up words."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    config = transformers.AutoConfig.for_model(family, **shape)
    kind = transformers.AutoModelForCausalLM if language else transformers.AutoModel
    model = kind.from_config(config, dtype=getattr(torch, dtype))
    model.save_pretrained(folder)
    vocab = {token: index for index, token in enumerate([*SPECIALS, *WORDS])}
    end = {"eos_token": "[SEP]"} if language else {}
    transformers.BertTokenizerFast(vocab=vocab, **end).save_pretrained(folder)


def write_rows(folder: Path, rows: int, tokens: int, written: int = 0) -> None:
    """Splits train and validation of so many rows in two classes, each of `tokens` words.

    With `written`, so many more words are the row's text to write.
    """
    import torch

    source = torch.Generator().manual_seed(0)
    for split in ("train", "validation"):
        lines = []
        for index in range(rows):
            draws = torch.randint(len(WORDS), (tokens + written,), generator=source).tolist()
            words = [WORDS[at] for at in draws]
            row = {"text": " ".join(words[:tokens]), "label": "ab"[index % 2]}
            if written:
                row["output"] = " ".join(words[tokens:])
            lines.append(f"{json.dumps(row)}\n")
        (folder / f"{split}.jsonl").write_text("".join(lines))
