"""The names that model families give their dropout probabilities."""

from __future__ import annotations

from typing import Any, Literal

HIDDEN = (
    "hidden_dropout_prob",
    "hidden_dropout",
    "resid_pdrop",
    "embd_pdrop",
    "dropout",
    "dropout_rate",
    "embedding_dropout",
    "mlp_dropout",
)
OTHERS = (
    "attention_probs_dropout_prob",
    "attention_dropout",
    "attn_pdrop",
    "activation_dropout",
    "layerdrop",
    "encoder_layerdrop",
    "decoder_layerdrop",
)
"""Of attention, of what a layer computes inside, and of whole layers."""


def set_dropout(config: Any, value: float | Literal["off"] | None) -> None:
    """Set the dropout of a transformers config before the model is built from it.

    A number replaces the hidden dropout, as the published runs do; `off` silences all
    others too; None leaves the model's own values. The model is never put in eval mode for
    it, because transformers checkpoints gradients in training mode only.
    """
    if value is None:
        return
    names = (*HIDDEN, *OTHERS) if value == "off" else HIDDEN
    for name in names:
        if hasattr(config, name):
            setattr(config, name, 0.0 if value == "off" else value)


def hidden_dropout(config: Any) -> float:
    """The probability with which the model drops hidden values in training."""
    return next((float(getattr(config, name)) for name in HIDDEN if hasattr(config, name)), 0.0)


def is_silent(config: Any) -> bool:
    """Whether a transformers config drops nothing at all in training."""
    return not any(getattr(config, name, 0.0) for name in (*HIDDEN, *OTHERS))
