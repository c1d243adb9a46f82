"""Backbone: a pretrained model, the sites where prompts enter it, and its pooler."""

from __future__ import annotations

import copy
import math
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ptv2_cli.backbones.families import Shape, drops
from ptv2_cli.backbones.injection import Injection
from ptv2_cli.backbones.packing import Packing, pack
from ptv2_cli.backbones.sites import InputVectors, KeysValues, Prompts, Site, TextBatch
from ptv2_cli.errors import BackboneError
from ptv2_cli.rng import RowDraws

NO_PROMPTS = Prompts()
LINEAR = (nn.Linear, Conv1D)
"""Linear layers; GPT-2 has its own class."""


class Backbone(nn.Module):
    """A transformers model whose forward takes a batch and prompts and returns hidden states.

    An encoder-decoder returns those of the decoder's start token and of the tokens that it reads
    after it, until `drop_decoder`.

    Attributes:
        sites: its attention calls in the order of one forward pass.
        pooler: the model's pooler, [B, H] -> [B, H], or None.
        untrained: names of this module's parameters that the pretrained weights lack.
    """

    def __init__(self, model: Any, shape: Shape, dropout: float) -> None:
        super().__init__()
        self.model = model
        self.shape = shape
        self.dropout = dropout
        self.injection = Injection()
        self.injection.dropout.tables = shape.family.shared_tables
        self.injection.attach(model)
        self.sites: tuple[Site, ...] = ()
        self.untrained: tuple[str, ...] = ()
        self.decodes = shape.family.two_stacks
        self.pooler = _take_pooler(model)
        self._held: torch.dtype | None = None
        """The type of `hold_in`."""

    @property
    def word_embeddings(self) -> Tensor:
        """The input embedding table [V, E]."""
        table: Tensor = self.model.get_input_embeddings().weight
        return table

    def set_sites(self, sites: tuple[Site, ...]) -> None:
        """Fix the numbering of sites that prompts refer to."""
        self.sites = sites
        self.injection.index = {
            (site.module, site.call): number for number, site in enumerate(sites)
        }

    def drop_pooler(self) -> None:
        """Remove a pooler that no head reads, so that it is not trained, saved or counted."""
        self.pooler = None
        self.untrained = tuple(name for name in self.untrained if not name.startswith("pooler."))

    def drop_decoder(self) -> None:
        """Keep only the encoder, for heads that read the tokens of the text."""
        if self.decodes:
            self.decodes = False
            self.model = self.model.get_encoder()
            # The injection's index stays, because other views of the model may still decode.
            self.sites = tuple(site for site in self.sites if site.stack == "encoder")

    def checkpoint_gradients(self) -> None:
        """Recompute activations in backward instead of keeping them.

        Raises:
            BackboneError: the family does not support it.
        """
        if not self.model.supports_gradient_checkpointing:
            raise BackboneError.at(
                "train.gradient_checkpointing",
                f"{self.shape.family.name} models cannot recompute activations",
                "--set train.gradient_checkpointing=false",
            )
        # Reentrant checkpoints would run backward through the shared prompt graph for each layer.
        dropout = self.injection.dropout
        self.model.activation_checkpointing_enable(
            {"use_reentrant": False, "context_fn": dropout.contexts}
        )
        # For reentrant checkpoints it made the embeddings require gradient: without the next
        # line, frozen layers below the lowest prompt would be recomputed for nothing.
        self.model.disable_input_require_grads()

    def hold_in(self, dtype: torch.dtype) -> None:
        """Hold the weights of linear layers in the type to which autocast casts them.

        Each call would cast frozen weights again. Products give the same bits, and the weights
        take half the memory. Embeddings, norms, poolers and what trains stay as they are.
        """
        modules = [self.model.get_input_embeddings(), self.pooler]
        kept = {id(value) for each in modules if each is not None for value in each.parameters()}
        for module in self.model.modules():
            if type(module) in LINEAR:
                for value in module.parameters(recurse=False):
                    frozen = not value.requires_grad and id(value) not in kept
                    if frozen and value.dtype == torch.float32 and type(value.data) is Tensor:
                        value.data = value.data.to(dtype)
                        self._held = dtype

    def pool(self, vectors: Tensor) -> Tensor:
        """Apply the pretrained pooler to [B, H] vectors; the identity without a pooler."""
        if self.pooler is None:
            return vectors
        vectors = vectors.to(next(self.pooler.parameters()).dtype)  # fp32, whatever the rest is
        if isinstance(self.pooler, nn.Linear):  # ALBERT's activation is separate
            return torch.tanh(self.pooler(vectors))
        pooled: Tensor = self.pooler(vectors[:, None])
        return pooled

    def forward(
        self, batch: TextBatch, prompts: Prompts = NO_PROMPTS, *, packs: bool = True
    ) -> Tensor:
        """Hidden states of the batch's tokens [B, T, H], or [B, U, H] from a decoder.

        Those of inserted input vectors are left out. With `packs`, short rows may be computed one
        after another in one sequence.

        Raises:
            BackboneError: prompts have gates or memories, but the family does not use the registry.
        """
        family = self.shape.family
        if (prompts.gates or prompts.memories or prompts.state_gates) and not family.registry:
            what = "its attention takes prompts into the text's softmax alone"
            raise BackboneError.at(family.name, what, "choose a method without gates")
        packing = self._packing(batch, prompts) if packs else None
        if packing is not None:
            return self._packed(packing, batch, prompts)
        inputs: dict[str, Any] = {"attention_mask": batch.attention_mask}
        if batch.token_type_ids is not None:
            inputs["token_type_ids"] = batch.token_type_ids
        if prompts.inputs is None:
            inputs["input_ids"] = batch.input_ids
        else:
            words = self.model.get_input_embeddings()(batch.input_ids)
            inputs = with_vectors(inputs, words, prompts.inputs, batch.slots)
        if self.shape.family.takes_positions:
            inputs["position_ids"] = self.positions(inputs["attention_mask"], prompts.offset)
        if self.decodes:
            inputs["decoder_input_ids"] = self._decoder_inputs(batch)
        self.injection.offset = self.offsets(prompts)
        self.note_states(prompts, inputs["attention_mask"])
        draws = self._draws(batch, prompts)
        with self.injection.dropout.forward(draws), self.injection.forward(prompts):
            output = self.model(**inputs, **self._no_cache)
        hidden: Tensor = output.last_hidden_state
        return hidden if self.decodes else text_states(hidden, prompts.inputs)

    def _packing(self, batch: TextBatch, prompts: Prompts) -> Packing | None:
        """How to pack the batch's rows; None: it saves too little, or would not be exact."""
        family = self.shape.family
        if not (family.causal and family.registry and family.takes_positions):
            return None
        if batch.lengths is None or batch.slots is not None or batch.token_type_ids is not None:
            return None
        keys = next(iter((prompts.keys_values or {}).values()), None)
        one = keys is None or keys[0].shape[0] == 1
        if prompts.inputs is not None or prompts.mask is not None or not one or prompts.rows:
            return None
        if prompts.state_gates:
            return None  # they read each row's first token
        if self.injection.watcher is not None or (self.model.training and self._drops):
            return None  # what is dropped, or looked at, lies where the row lies
        mask = batch.attention_mask
        if mask.device.type == "cpu" and not bool(mask[:, 0].all()):
            return None  # padded on the left; batches of rows never are
        if max(batch.lengths) > (getattr(self.model.config, "sliding_window", None) or math.inf):
            return None
        length = 0 if keys is None else keys[0].shape[2]
        return pack(batch.lengths, length, self._linear_operations, self.shape.hidden_size)

    @cached_property
    def _drops(self) -> bool:
        """Whether training drops anything, by the config or in a module that a method added."""
        modules = (module for module in self.model.modules() if isinstance(module, nn.Dropout))
        return drops(self.model.config) or any(module.p for module in modules)

    @cached_property
    def _linear_operations(self) -> float:
        """Operations of a layer's linear parts for a token."""
        linear = (module for module in self.model.modules() if isinstance(module, LINEAR))
        return 2 * sum(module.weight.numel() for module in linear) / self.shape.layers

    def _packed(self, packing: Packing, batch: TextBatch, prompts: Prompts) -> Tensor:
        """Hidden states [B, T, H] of rows that are computed in fewer, longer sequences."""
        assert isinstance(prompts.offset, int)
        ids, positions, mask = packing.inputs(batch.input_ids, prompts.offset)
        self.injection.offset = self.offsets(prompts)
        with self.injection.dropout.forward(None), self.injection.forward(prompts):
            output = self.model(
                input_ids=ids, position_ids=positions, attention_mask=mask, use_cache=False
            )
        return packing.rows(output.last_hidden_state, batch.input_ids.shape[1])

    def note_states(self, prompts: Prompts, mask: Tensor, *, writes: bool = False) -> None:
        """Give gates that read hidden states what they need in the passes to come.

        Args:
            prompts: of these passes.
            mask: 1 for tokens, 0 for padding [B, T].
            writes: whether the passes write one text, token by token.
        """
        if not prompts.state_gates:
            self.injection.states.turn_off()
            return
        gated = {site: self.sites[site] for site in prompts.state_gates}
        self.injection.states.turn_on(
            self.model,
            {site.module for site in gated.values()},
            mask.argmax(dim=1),
            [number for number, site in gated.items() if site.stack in {"decoder", "cross"}],
            writes=writes,
        )

    def read(self, ids: Tensor) -> list[KeysValues]:
        """Keys and values [1, K, T, D] that the model computes for a text, at each site.

        A text that is longer than the model's positions is read in pieces.

        Args:
            ids: [1, T]; a decoder reads it too.
        """
        longest = self.shape.positions or ids.shape[1]
        pieces = [self._read_piece(piece) for piece in torch.split(ids, longest, dim=1)]
        return [
            (torch.cat([key for key, _ in site], dim=2), torch.cat([own for _, own in site], dim=2))
            for site in zip(*pieces, strict=True)
        ]

    def _read_piece(self, ids: Tensor) -> list[KeysValues]:
        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if self.decodes:
            inputs["decoder_input_ids"] = ids
        self.injection.offset = {}
        training = self.training
        self.eval()
        try:
            with (
                torch.no_grad(),
                torch.autocast(ids.device.type, self._held, enabled=self._held is not None),
                self.injection.recording() as calls,
                self.injection.forward(None),
            ):
                self.model(**inputs, **self._no_cache)
        finally:
            self.train(training)
        return [(call.key.float(), call.value.float()) for call in calls]

    def _draws(self, batch: TextBatch, prompts: Prompts) -> tuple[RowDraws, ...] | None:
        """What determines dropout; None: the global generator, or there is none."""
        if batch.draws is None or not self.model.training or batch.input_ids.device.type != "cpu":
            return None
        inputs = prompts.inputs
        inserted = 0 if inputs is None or inputs.column is None else len(inputs.vectors)
        return tuple(draws.widened(inserted) for draws in batch.draws)

    @property
    def _no_cache(self) -> dict[str, Any]:
        """The argument that turns off the cache; encoders have none."""
        return {"use_cache": False} if self.decodes or self.shape.family.causal else {}

    @property
    def decoder_start(self) -> int:
        """The token that a decoder reads first."""
        config = self.model.config
        start: int | None = config.decoder_start_token_id
        return int(config.pad_token_id if start is None else start)

    def _decoder_inputs(self, batch: TextBatch) -> Tensor:
        """What the decoder reads, its start token first [B, U]."""
        ids = batch.input_ids
        start = ids.new_full((ids.shape[0], 1), self.decoder_start)
        return start if batch.decoder_ids is None else torch.cat([start, batch.decoder_ids], dim=1)

    @property
    def takes_offsets(self) -> bool:
        """Whether rows of one batch may be shifted by different offsets."""
        family = self.shape.family
        # If only distances count and no adapter reads the offset, nothing is shifted.
        return family.takes_positions or (family.positions == "relative" and family.adapter is None)

    def view(self) -> Backbone:
        """The same model and weights, with a separate pooler and separate settings."""
        other = copy.copy(self)
        other._modules = dict(self._modules)
        other.pooler = copy.deepcopy(self.pooler)
        return other

    def offsets(self, prompts: Prompts) -> dict[str, int]:
        """The offset of each stack whose self-attention has prompts: its text comes after them."""
        if isinstance(prompts.offset, Tensor):
            return {}  # position ids hold it, row by row
        prompted = {self.sites[site].stack for site in prompts.keys_values or ()}
        return dict.fromkeys(prompted - {"cross"}, prompts.offset)

    def positions(self, mask: Tensor, offset: int | Tensor) -> Tensor:
        """Position ids [B, T] with the first token at `offset`, whichever side is padded."""
        if isinstance(offset, Tensor):
            offset = offset.to(mask.device, non_blocking=True)[:, None]
        real = mask.long()
        if self.shape.family.positions == "padded":
            # RoBERTa counts real tokens from padding_idx + 1; padding has padding_idx.
            padding: int = self.model.embeddings.padding_idx
            return (real.cumsum(dim=1) + offset) * real + padding
        return (real.cumsum(dim=1) - 1).clamp(min=0) + offset


def _take_pooler(model: Any) -> nn.Module | None:
    """Remove the model's pooler, so that it runs only once, on the vector that the head reads."""
    pooler: nn.Module | None = getattr(model, "pooler", None)
    if pooler is not None:
        model.pooler = None
    return pooler


def with_vectors(
    inputs: dict[str, Any], words: Tensor, prompt: InputVectors, slots: Tensor | None
) -> dict[str, Any]:
    """Model inputs with prompt vectors [P, E] among the word embeddings [B, T, E]."""
    vectors = prompt.vectors.to(words.dtype)
    if prompt.column is None:
        if slots is None:
            raise ValueError("prompt vectors without a column need a batch with slots")
        filled = torch.where((slots >= 0)[..., None], vectors[slots.clamp(min=0)], words)
        return {**inputs, "inputs_embeds": filled}
    column, rows = prompt.column, words.shape[0]
    expanded = vectors.expand(rows, -1, -1)
    widened = {
        key: torch.cat([ids[:, :column], _fill(key, ids, vectors.shape[0]), ids[:, column:]], dim=1)
        for key, ids in inputs.items()
    }
    embeds = torch.cat([words[:, :column], expanded, words[:, column:]], dim=1)
    return {**widened, "inputs_embeds": embeds}


def _fill(key: str, ids: Tensor, length: int) -> Tensor:
    """Columns [B, length] for prompt positions: visible, and in the first segment."""
    return ids.new_full((ids.shape[0], length), int(key == "attention_mask"))


def text_states(hidden: Tensor, prompt: InputVectors | None) -> Tensor:
    """Hidden states [B, T, H] of the text, without those of inserted vectors."""
    if prompt is None or prompt.column is None:
        return hidden
    after = prompt.column + prompt.vectors.shape[0]
    return torch.cat([hidden[:, : prompt.column], hidden[:, after:]], dim=1)
