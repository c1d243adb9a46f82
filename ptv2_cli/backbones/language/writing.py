"""Text that a prompted language model writes, token after token, by transformers' `generate`.

The text's keys and values are computed once and cached; the prompt's are put before them in each
call of attention, as in training. So every family that can be prompted can write, whatever its
cache looks like.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList

from ptv2_cli.backbones.backbone import Backbone, with_vectors
from ptv2_cli.backbones.language.language_model import LanguageModel
from ptv2_cli.backbones.sites import PlainBatch, Prompts


@dataclass(frozen=True)
class Written:
    """What was written after each row of a batch."""

    ids: Tensor
    """[B, U], filled up with the padding token."""
    lengths: Tensor
    """Tokens of each row, its end-of-text token included [B]."""
    log_probability: Tensor | None
    """Of these tokens under the model [B], fp32; None: not known, as with beams."""


def write(
    backbone: Backbone,
    language: LanguageModel,
    batch: PlainBatch,
    prompts: Prompts,
    config: GenerationConfig,
    streamer: Any = None,
    processors: LogitsProcessorList | None = None,
) -> Written:
    """Write on from each row of a batch, which has no answer.

    Args:
        backbone: in eval mode, with the prompts' sites.
        language: the backbone's own.
        batch: B rows, padded on the right.
        prompts: of one owner.
        config: what transformers' `generate` reads; it names the end and the padding token.
        streamer: gets the tokens of a single row as they come.
        processors: change the logits [B, V] of each step, after what the config asks for.
    """
    inputs = _inputs(backbone, batch, prompts)
    if backbone.decodes:
        config = copy.deepcopy(config)
        config.decoder_start_token_id = backbone.decoder_start
    scored = config.num_beams in {None, 1}
    backbone.note_states(prompts, inputs["attention_mask"], writes=True)
    with language.whole() as model, _prompted(backbone, model, prompts, scored) as steps:
        sequences: Tensor = model.generate(
            **inputs, generation_config=config, streamer=streamer, logits_processor=processors
        )
    if backbone.decodes:
        ids = sequences[:, 1:]  # without the start token
    else:
        ids = sequences[:, inputs["input_ids"].shape[1] if "input_ids" in inputs else 0 :]
    ends = torch.as_tensor(config.eos_token_id, device=ids.device).view(-1)
    ended = torch.isin(ids, ends).cumsum(dim=1)
    own = torch.cat([torch.zeros_like(ended[:, :1]), ended[:, :-1]], dim=1) == 0
    return Written(ids, own.sum(dim=1), steps.total(ids, own) if scored else None)


def _inputs(backbone: Backbone, batch: PlainBatch, prompts: Prompts) -> dict[str, Tensor]:
    """What `generate` gets: ids, or the vectors of words and prompt, and which are no padding."""
    inputs = {"attention_mask": batch.attention_mask}
    if prompts.inputs is None:
        inputs["input_ids"] = batch.input_ids
    else:
        words = backbone.model.get_input_embeddings()(batch.input_ids)
        inputs = with_vectors(inputs, words, prompts.inputs, batch.slots)
    if backbone.decodes:
        return inputs
    # What is written follows the last column, so the padding must come first.
    mask = inputs["attention_mask"]
    width = mask.shape[1]
    columns = torch.arange(width, device=mask.device) + mask.sum(dim=1, keepdim=True)
    rows = torch.arange(len(mask), device=mask.device)[:, None]
    return {name: values[rows, columns % width] for name, values in inputs.items()}


@contextmanager
def _prompted(backbone: Backbone, model: Any, prompts: Prompts, scored: bool) -> Iterator[_Steps]:
    """Put the prompts into every forward pass of the whole model.

    `scored`: the log probabilities of its tokens are kept.
    """
    injection = backbone.injection
    steps = _Steps(backbone, prompts)
    hooks = [model.register_forward_pre_hook(steps.begin, with_kwargs=True)]
    if scored:
        hooks.append(model.register_forward_hook(steps.end))
    if backbone.decodes:  # its encoder runs by itself, before the first token
        hooks.append(
            model.get_encoder().register_forward_pre_hook(lambda *_: injection.next_pass())
        )
    injection.offset = backbone.offsets(prompts)
    try:
        with injection.dropout.forward(None), injection.forward(prompts):
            yield steps
    finally:
        for hook in hooks:
            hook.remove()


class _Steps:
    """The forward passes of the whole model, one for each token."""

    def __init__(self, backbone: Backbone, prompts: Prompts) -> None:
        self._backbone = backbone
        self._offset = prompts.offset
        self._last: Tensor | None = None
        """Log probabilities of the next token [B, V]."""
        self._chosen: list[Tensor] = []
        """Those of each token that was chosen [B]."""

    def begin(self, model: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Before a pass: the prompts again, and the text's positions behind them."""
        self._backbone.injection.next_pass()
        decodes = self._backbone.decodes
        ids = kwargs.get("decoder_input_ids" if decodes else "input_ids")
        if self._last is not None and ids is not None:
            self._chosen.append(self._last.gather(1, ids[:, -1:])[:, 0])
        if self._backbone.shape.family.takes_positions and not decodes:
            new = kwargs["inputs_embeds"] if ids is None else ids
            mask = kwargs.get("attention_mask")
            if mask is None:  # generate leaves one out that hides nothing
                past = kwargs["past_key_values"].get_seq_length()
                mask = torch.ones(len(new), past + new.shape[1], device=new.device)
            positions = self._backbone.positions(mask, self._offset)
            kwargs = {**kwargs, "position_ids": positions[:, -new.shape[1] :]}
        return args, kwargs

    def end(self, model: Any, args: Any, output: Any) -> None:
        """After a pass: what the next token may be."""
        self._last = output.logits[:, -1].float().log_softmax(dim=-1)

    def total(self, ids: Tensor, own: Tensor) -> Tensor:
        """The log probability of all tokens of a row that are its own [B]."""
        assert self._last is not None
        chosen = [*self._chosen, self._last.gather(1, ids[:, -1:])[:, 0]]
        each: Tensor = torch.stack(chosen, dim=1) * own
        return each.sum(dim=1)
