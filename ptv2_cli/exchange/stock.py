"""What transformers' own classes with a head compute, found out from their modules."""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from typing import Any, Literal

import torch
import transformers
from torch import nn

HEAD_NAMES = ("classifier", "score", "qa_outputs")
"""What transformers calls a head of one linear layer, and PEFT saves beside a prompt."""
_CLASSES = {
    "sequence": ("AutoModelForSequenceClassification", "SEQ_CLS"),
    "regression": ("AutoModelForSequenceClassification", "SEQ_CLS"),
    "token": ("AutoModelForTokenClassification", "TOKEN_CLS"),
    "span": ("AutoModelForQuestionAnswering", "QUESTION_ANS"),
}
"""Head kind -> class of transformers and PEFT's name of the task."""


@dataclass(frozen=True)
class StockHead:
    """A head of transformers that is one linear layer, as ours are."""

    model: str
    """Name of the class, such as AutoModelForTokenClassification."""
    task_type: str
    """PEFT's name of the task."""
    name: str
    """Name of the linear layer."""
    bias: bool
    reads: Literal["pooler", "last", "tokens"]


def task_type_of(kind: str) -> str | None:
    """PEFT's name of a head kind's task; None: it has none."""
    return _CLASSES[kind][1] if kind in _CLASSES else None


def stock_head(config: Any, kind: str, outputs: int, *, causal: bool) -> StockHead | None:
    """The head that transformers has for a model and a kind, if it is nothing but a linear layer.

    Args:
        config: the model's config of transformers.
        kind: the head kind.
        outputs: how many numbers the head gives.
        causal: whether the model sees no later tokens: its sequence class reads the last one.
    """
    if kind not in _CLASSES:
        return None
    name, task_type = _CLASSES[kind]
    sized = copy.deepcopy(config)
    sized.num_labels = outputs
    try:
        with torch.device("meta"):
            model = getattr(transformers, name).from_config(sized)
    except ValueError:  # there is no such class for this family
        return None
    parts = dict(model.named_children())
    heads = [part for part in parts if isinstance(parts[part], nn.Linear)]
    bodies = [part for part in parts.values() if isinstance(part, transformers.PreTrainedModel)]
    others = [
        part
        for part in parts.values()
        if not isinstance(part, nn.Linear | nn.Dropout | transformers.PreTrainedModel)
    ]
    if len(heads) != 1 or heads[0] not in HEAD_NAMES or len(bodies) != 1 or others:
        return None
    reads = _reads(kind, bodies[0], causal)
    if reads is None:
        return None
    return StockHead(name, task_type, heads[0], parts[heads[0]].bias is not None, reads)


def _reads(kind: str, body: Any, causal: bool) -> Literal["pooler", "last", "tokens"] | None:
    if kind in {"token", "span"}:
        return "tokens"
    if getattr(body, "pooler", None) is not None:
        return "pooler"
    return "last" if causal else None


def takes_prefix(model: Any) -> bool:
    """Whether a model's forward takes keys and values from outside, as PEFT's prefixes need."""
    return "past_key_values" in inspect.signature(model.forward).parameters


def window_of(config: Any) -> int | None:
    """Tokens that a sliding window sees, in a model that has layers with one."""
    kinds = getattr(config, "layer_types", None)
    if kinds is not None and "sliding_attention" not in kinds:
        return None
    window = getattr(config, "sliding_window", None)
    return None if window is None else int(window)


def reads_segments(config: Any) -> bool:
    """Whether two segments of a text are told apart by their token types."""
    return int(getattr(config, "type_vocab_size", 0) or 0) > 1
