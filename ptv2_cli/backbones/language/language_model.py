"""A model's own language-model head over its whole vocabulary, and the text that it writes.

The head is that of transformers' class for language modelling. Its base model is the backbone, so
nothing is held twice: while only the head runs, a module that returns given hidden states stands
in the base model's place; while text is written, the base model stands there again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig
from transformers.modeling_outputs import Seq2SeqModelOutput

from ptv2_cli.backbones.language.lm_head import Given


class LanguageModel(nn.Module):
    """Hidden states [n, H] -> logits [n, V].

    Args:
        model: of transformers' class for language modelling.
        base: its base model, which the backbone runs.

    The parameters that the head shares with the base model (tied word embeddings) are the
    backbone's own.
    """

    def __init__(self, model: Any, base: Any) -> None:
        super().__init__()
        prefix = model.base_model_prefix
        self.two_stacks = bool(model.config.is_encoder_decoder)
        if hasattr(model, prefix):
            whole = {prefix: base}
            self._given = Given(Seq2SeqModelOutput) if self.two_stacks else Given()
        else:  # T5's class holds the two stacks itself
            whole, self._given = dict(base.named_children()), Given()
        self._base = {name: (module,) for name, module in whole.items()}  # tuples: no submodules
        model.generation_config = GenerationConfig()  # what is said there is the config's to say
        output = model.get_output_embeddings()
        self._output = next(name for name, module in model.named_modules() if module is output)
        self.model = model
        self._take_out()
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> LanguageModel:
        """Stay in eval mode: its dropout, if any, is never active."""
        return super().train(False)

    @property
    def output(self) -> nn.Module:
        """The last layer, H -> V."""
        layer: nn.Module = self.model.get_submodule(self._output)
        return layer

    @property
    def words(self) -> int:
        """The size of the vocabulary, V."""
        weight = self.output.weight
        assert isinstance(weight, Tensor)
        return weight.shape[0]

    def hold_in(self, dtype: torch.dtype) -> None:
        """Hold the last layer in the type to which autocast casts it at every call.

        Tied word embeddings keep theirs: the layer then has a copy of its own.
        """
        self.model.set_submodule(self._output, _Held(self.output, dtype))

    def forward(self, states: Tensor) -> Tensor:
        """Logits of the whole vocabulary [n, V] for hidden states [n, H]."""
        self._given.hidden = states[:, None]
        inputs = {"encoder_outputs": (states[:, None],)} if self.two_stacks else {}
        try:
            logits: Tensor = self.model(**inputs, use_cache=False).logits
        finally:
            del self._given.hidden
        return logits[:, 0]

    @contextmanager
    def whole(self) -> Iterator[Any]:
        """The whole model, while its base model stands in its place."""
        for name, (module,) in self._base.items():
            setattr(self.model, name, module)
        try:
            yield self.model
        finally:
            self._take_out()

    def _take_out(self) -> None:
        for name in self._base:
            setattr(self.model, name, self._given)


class _Held(nn.Module):
    """A frozen linear layer in another type; buffers, as its values are the model's own."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        super().__init__()
        for name in ("weight", "bias"):
            value = getattr(layer, name)
            held = None if value is None else value.detach().to(dtype)
            self.register_buffer(name, held, persistent=False)

    def forward(self, states: Tensor) -> Tensor:
        """[..., H] -> [..., V]."""
        return nn.functional.linear(states, self.weight, self.bias)
