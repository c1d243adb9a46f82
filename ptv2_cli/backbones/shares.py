"""How much of the attention goes to the prompt: the share of each softmax on the prompt's columns.

The shares of a forward pass come from what the model computes anyway. Attention is a weighted sum
of values; with the value 1 at one column and 0 at all others it gives that column's weight. So
registered families are asked for the weighted sum of such values, whatever masks, position scores
or head groups they have. The families with an attention of their own compute their softmax in
Python, where a torch function mode reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.backbones.injection import Call
from ptv2_cli.backbones.sites import InputVectors, Prompts, TextBatch


@dataclass(frozen=True)
class SiteShares:
    """One attention call of a forward pass, summed over the queries of the text.

    Queries at prompt vectors and at padding do not count.
    """

    shares: Tensor
    """Of the softmax, by head and prompt position [N, P], summed over the queries."""
    even: float
    """What all positions of a prompt would get if every visible column got the same, summed."""
    queries: int
    keys: Norms | None
    """None: the site has no prompt keys and values."""
    values: Norms | None


@dataclass(frozen=True)
class Norms:
    """Norms of a site's keys or values, means over its heads."""

    prompt: Tensor
    """[P]"""
    text: float
    """Sum over the tokens of the text."""
    tokens: int


def prompt_shares(
    backbone: Backbone, batch: TextBatch, prompts: Prompts, answers: Tensor | None = None
) -> dict[int, SiteShares]:
    """Site -> what falls on its prompt, in one forward pass; sites without a prompt are left out.

    So are those where the prompt has a softmax of its own (`Prompts.gates`).

    Args:
        backbone: in eval mode.
        batch: B rows.
        prompts: of one owner.
        answers: which tokens a decoder reads that count [B, U]; None: its start token.
    """
    columns = _Columns(backbone, batch, prompts, answers)
    injection = backbone.injection
    with torch.no_grad(), ExitStack() as stack:
        calls = stack.enter_context(injection.recording())
        if backbone.shape.family.registry:
            injection.watcher = columns.watch
            stack.callback(setattr, injection, "watcher", None)
        else:
            stack.enter_context(_Softmax(columns))
        backbone(batch, prompts)
    return columns.summed(calls)


class _Columns:
    """Which columns of each attention call are the prompt's, and what they got."""

    def __init__(
        self, backbone: Backbone, batch: TextBatch, prompts: Prompts, answers: Tensor | None
    ) -> None:
        self.backbone = backbone
        self.prompts: Mapping[int, Any] = prompts.keys_values or {}
        self.gated = set(prompts.gates or ())
        self.mask, self.marks = _inserted(batch, prompts.inputs)
        start = torch.ones_like(batch.input_ids[:, :1], dtype=torch.bool)
        self.answers = start if answers is None else answers.bool()
        self.given: dict[int, Tensor] = {}
        """Site -> shares [B, T, N, P]."""

    def length(self, site: int) -> int:
        """Prompt keys of a site."""
        return self.prompts[site][0].shape[2] if site in self.prompts else 0

    def marked(self, site: int) -> Tensor:
        """Which vector of the prompt each column of the text is, 1 or 0 [B, T', P]."""
        if self.backbone.sites[site].stack == "decoder":
            return self.answers.new_zeros(*self.answers.shape, 0, dtype=torch.float32)
        return self.marks

    def none(self, site: int) -> bool:
        """Whether nothing is to be read at a site."""
        return site in self.gated or not self.length(site) + self.marked(site).shape[2]

    def watch(self, site: int, attend: Callable[[Tensor], Tensor], key: Tensor) -> None:
        """The watcher of a registered family."""
        if self.none(site):
            return
        length, marks = self.length(site), self.marked(site)
        values = key.new_zeros(*key.shape[:3], length + marks.shape[2])
        values[:, :, :length, :length] = torch.eye(length, dtype=key.dtype, device=key.device)
        values[:, :, length:, length:] = marks[:, None]
        self.given[site] = attend(values).float()

    def read(self, site: int, weights: Tensor) -> None:
        """A softmax [B, N, T, P + T'], whose first rows may be the prompt's own queries."""
        if self.none(site):
            return
        length, marks = self.length(site), self.marked(site)
        weights = weights[:, :, -marks.shape[1] :].float()
        of_text = weights[..., length:] @ marks[:, None]
        self.given[site] = torch.cat([weights[..., :length], of_text], dim=-1).transpose(1, 2)

    def summed(self, calls: list[Call]) -> dict[int, SiteShares]:
        """What was read, summed over the queries of the text."""
        text = self.mask & (self.marks.sum(dim=2) == 0)
        found = {}
        for site, shares in sorted(self.given.items()):
            stack, call = self.backbone.sites[site].stack, calls[site]
            decoding = stack in {"decoder", "cross"}
            queries = self.answers if decoding else text
            columns = self.answers if stack == "decoder" else self.mask
            own = columns if stack == "decoder" else text
            found[site] = SiteShares(
                shares[queries].sum(dim=0),
                self._even(site, queries, columns),
                int(queries.sum()),
                self._norms(site, 0, call.key, own),
                self._norms(site, 1, call.value, own),
            )
        return found

    def _even(self, site: int, queries: Tensor, columns: Tensor) -> float:
        seen = columns[:, None, :].expand(-1, queries.shape[1], -1)
        if self.backbone.sites[site].causal and self.backbone.sites[site].stack != "cross":
            seen = seen.tril()
        length = self.length(site)
        marked = (seen.float() @ self.marked(site)).sum(dim=2) + length
        share = marked / (seen.sum(dim=2) + length).clamp(min=1)
        return float(share[queries].sum())

    def _norms(self, site: int, part: int, text: Tensor, own: Tensor) -> Norms | None:
        if site not in self.prompts:
            return None
        norms = text.float().norm(dim=-1).mean(dim=1)[own]  # [B, K, T', D] -> [n]
        prompt = self.prompts[site][part][0].float().norm(dim=-1).mean(dim=0)
        return Norms(prompt, float(norms.sum()), len(norms))


def _inserted(batch: TextBatch, inputs: InputVectors | None) -> tuple[Tensor, Tensor]:
    """What the model reads: which columns are no padding [B, T'], and which is which vector of
    the prompt, 1 or 0 [B, T', P]."""
    mask = batch.attention_mask.bool()
    if inputs is None:
        return mask, mask.new_zeros(*mask.shape, 0, dtype=torch.float32)
    count = len(inputs.vectors)
    if inputs.column is not None:
        at = inputs.column
        mask = torch.cat([mask[:, :at], mask.new_ones(len(mask), count), mask[:, at:]], dim=1)
        slots = torch.full(mask.shape, -1, device=mask.device)
        slots[:, at : at + count] = torch.arange(count, device=mask.device)
    else:
        assert batch.slots is not None
        slots = batch.slots
    numbers = torch.arange(count, device=mask.device)
    return mask, (slots[..., None] == numbers).float()


class _Softmax(TorchFunctionMode):
    """Reads the softmax of each attention call of a family that computes it in Python."""

    def __init__(self, columns: _Columns) -> None:
        super().__init__()
        self._columns = columns

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """What the function gives, read on the way."""
        result = func(*args, **(kwargs or {}))
        site = self._columns.backbone.injection.site
        if func is torch.nn.functional.softmax and site is not None:
            self._columns.read(site, result)
        return result
