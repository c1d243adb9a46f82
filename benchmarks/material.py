"""Random models of any shape and made-up rows that fill every token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [f"w{number}" for number in range(995)]


def write_model(folder: Path, family: str, dtype: str, shape: dict[str, Any]) -> None:
    """A model with random weights and a tokenizer of made-up words."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    config = transformers.AutoConfig.for_model(family, **shape)
    model = transformers.AutoModel.from_config(config, dtype=getattr(torch, dtype))
    model.save_pretrained(folder)
    vocab = {token: index for index, token in enumerate([*SPECIALS, *WORDS])}
    transformers.BertTokenizerFast(vocab=vocab).save_pretrained(folder)


def write_rows(folder: Path, rows: int, tokens: int) -> None:
    """Splits train and validation of so many rows in two classes, each of `tokens` words."""
    import torch

    source = torch.Generator().manual_seed(0)
    for split in ("train", "validation"):
        lines = []
        for index in range(rows):
            draws = torch.randint(len(WORDS), (tokens,), generator=source).tolist()
            row = {"text": " ".join(WORDS[at] for at in draws), "label": "ab"[index % 2]}
            lines.append(f"{json.dumps(row)}\n")
        (folder / f"{split}.jsonl").write_text("".join(lines))
