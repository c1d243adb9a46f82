"""A model's own language-model head, restricted to a few words of its vocabulary.

In transformers' class for language modelling, a module that returns given hidden states replaces
the base model. Each family's own head is therefore used unchanged, and none is copied here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
)
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

from ptv2_cli.backbones.families import Family
from ptv2_cli.backbones.files.locate import Located
from ptv2_cli.backbones.files.model_files import FETCH_AGAIN, weight_map
from ptv2_cli.backbones.injection import Injection
from ptv2_cli.backbones.quiet import quiet
from ptv2_cli.errors import BackboneError

LIMIT = {torch.float32: 1e-3, torch.float16: 3e-2, torch.bfloat16: 1e-1}
"""Largest accepted difference of logits from the model's, relative to the largest logit."""
HINT = (
    "choose a backbone whose weights were saved with one; only text/generation, head: verbalizer "
    "and retention need it"
)


class Given(nn.Module):
    """Replaces the base model, or its decoder, and returns given hidden states."""

    hidden: Tensor

    def __init__(self, output: Any = BaseModelOutputWithPastAndCrossAttentions) -> None:
        super().__init__()
        self._output = output

    def forward(self, *_: Any, **__: Any) -> Any:
        """The output of a base model."""
        return self._output(last_hidden_state=self.hidden)

    @property
    def decoder(self) -> Given:
        """Itself: some classes call the stack inside their base model."""
        return self


class LanguageHead(nn.Module):
    """[B, H] -> logits [B, C] of C words, in fp32; a copy, not tied to the word embeddings.

    It has the biases and layers of the model's head. Its dropout, if any, is never active.
    """

    def __init__(self, model: Any, words: Sequence[int]) -> None:
        super().__init__()
        output = model.get_output_embeddings()
        self._given = Given()
        setattr(model, model.base_model_prefix, self._given)
        _restrict(model, output, words)
        self.model = model.float()
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> LanguageHead:
        """Stay in eval mode."""
        return super().train(False)

    def forward(self, vectors: Tensor) -> Tensor:
        """Logits of the words."""
        self._given.hidden = vectors[:, None]
        try:
            logits: Tensor = self.model().logits
        finally:
            del self._given.hidden
        return logits[:, 0]


def model_class(family: Family) -> Any:
    """The class of transformers that loads a family with its language-model head."""
    if family.two_stacks:
        return AutoModelForSeq2SeqLM
    return AutoModelForCausalLM if family.causal else AutoModelForMaskedLM


def take_head(model: Any, words: Sequence[int], injection: Injection, name: str) -> LanguageHead:
    """Take the head from a loaded model, and check its logits against the whole model's.

    Raises:
        BackboneError: the head alone does not give the logits of the whole model.
    """
    base, dtype = model.base_model, model.dtype
    # Two different ids from the middle of the vocabulary, because special tokens are at its ends.
    middle = base.get_input_embeddings().weight.shape[0] // 2
    ids = torch.tensor([[middle, middle + 1]])
    with torch.no_grad(), injection.forward(None):
        whole = model(input_ids=ids).logits
    with torch.no_grad(), injection.forward(None):
        hidden = base(input_ids=ids).last_hidden_state
    try:
        head = LanguageHead(model, words)
        with torch.no_grad():
            own = head(hidden[:, -1].float())
    except (AttributeError, TypeError, ValueError, RuntimeError, IndexError) as error:
        raise _refused(name, f"its language-model head cannot run alone: {error}") from error
    stock = whole[:, -1, list(words)].float()
    difference = float((own - stock).abs().max() / stock.abs().max().clamp(min=1.0))
    if not difference <= LIMIT.get(dtype, 1e-1):
        what = "its language-model head by itself gives other logits than the model"
        raise _refused(name, f"{what} ({difference:.2g})")
    return head


def check_has_head(located: Located, family: Family) -> None:
    """Check that the weights have a language-model head, if the files tell, before loading them.

    If the weights contain more than the base model, loading decides, because files of older
    versions have other names for the head.

    Raises:
        BackboneError: transformers has no such class for the family, or the weights contain only
            the base model.
    """
    stored = _stored_names(located)
    if "auto_map" in located.config:  # its class is code, which is checked when it is loaded
        return
    try:
        with quiet(), torch.device("meta"):
            config = AutoConfig.from_pretrained(located.folder)
            model = model_class(family).from_config(config)
    except Exception as error:  # of any type: each field has its own check
        first = str(error).partition("\n")[0] or type(error).__name__
        if first.startswith("Unrecognized configuration class"):
            raise _refused(located.name, f"{family.name} has no language-model head") from None
        raise BackboneError.at(
            str(located.folder / "config.json"), f"cannot be used: {first}", FETCH_AGAIN
        ) from error
    needed = head_names(model, [name for name, _ in model.named_parameters()])
    if needed and stored is not None and all(_of_base(model, name) for name in stored):
        raise lacking(located.name, needed)


def head_names(model: Any, names: Sequence[str]) -> list[str]:
    """The names that belong only to the head: not to the base model, and not tied to it."""
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    parts = _base_parts(model)
    return [name for name in names if name.partition(".")[0] not in parts and name not in tied]


def lacking(name: str, missing: Sequence[str]) -> BackboneError:
    """The error for weights without a language-model head."""
    return _refused(
        name,
        f"its weights have no language-model head ({missing[0]} is missing): the run would use an "
        "untrained one",
    )


def _base_parts(model: Any) -> set[str]:
    """The children of a model that are its base model, or are parts of one (T5's two stacks)."""
    if model.base_model is not model:
        return {model.base_model_prefix}
    output = model.get_output_embeddings()
    return {name for name, child in model.named_children() if child is not output}


def _of_base(model: Any, name: str) -> bool:
    """Whether a tensor of a file belongs to the base model, saved alone or inside another."""
    own = name.removeprefix(f"{model.base_model_prefix}.")
    if model.base_model is model:
        known = name.partition(".")[0] in _base_parts(model)
    else:
        known = own in model.base_model.state_dict()
    return known or own.startswith("pooler.") or own.endswith("position_ids")


def _refused(name: str, reason: str) -> BackboneError:
    return BackboneError.at(f"backbone {name}", reason, HINT)


def _stored_names(located: Located) -> set[str] | None:
    """Names of the tensors in the weights; None if they cannot be read without loading."""
    index = located.folder / "model.safetensors.index.json"
    single = located.folder / "model.safetensors"
    try:
        if single.exists():
            with safe_open(single, framework="pt") as file:
                return set(file.keys())
        if index.exists():
            return set(weight_map(index))
    except (SafetensorError, BackboneError, OSError):
        return None  # loading reports what is wrong with them
    return None


def _restrict(model: nn.Module, output: nn.Linear, words: Sequence[int]) -> None:
    """Reduce the last layer to the rows of `words`."""
    rows = list(words)
    small = nn.Linear(output.in_features, len(rows), bias=output.bias is not None)
    small.weight = nn.Parameter(output.weight.detach()[rows].clone())
    if output.bias is not None:
        small.bias = nn.Parameter(output.bias.detach()[rows].clone())
    name = next(name for name, module in model.named_modules() if module is output)
    model.set_submodule(name, small)
    for module in model.modules():
        bias = module._parameters.get("bias")
        if module is not small and bias is not None and bias is output.bias:
            module._parameters["bias"] = None  # another name for the bias that the layer adds


_UNUSED = re.compile(r"[\[<]unused_?(\d+)[\]>]")


class Vocabulary:
    """The tokens that a prompt may start from."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    @cached_property
    def unused(self) -> list[int]:
        """Ids of the reserved tokens, [unused1] and so on, in the order of their numbers."""
        vocabulary = self._tokenizer.get_vocab()
        matches = ((_UNUSED.fullmatch(token), index) for token, index in vocabulary.items())
        return [index for _, index in sorted((int(m[1]), index) for m, index in matches if m)]

    @cached_property
    def words(self) -> list[int]:
        """Ids of all other tokens that are not special."""
        excluded = {*self.unused, *self._tokenizer.all_special_ids}
        return sorted(set(self._tokenizer.get_vocab().values()) - excluded)

    def tokenize(self, text: str) -> list[int]:
        """Ids of a text, without special tokens."""
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids
