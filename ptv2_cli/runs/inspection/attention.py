"""How much attention a run's prompt gets, by layer and head, over rows of a split."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import torch
from torch import Tensor

from ptv2_cli.backbones.shares import Norms, SiteShares, prompt_shares
from ptv2_cli.backbones.sites import Site
from ptv2_cli.inputs.batch import Batch, collate
from ptv2_cli.inputs.features import Feature
from ptv2_cli.kinds import IGNORE, kind_spec
from ptv2_cli.runs.session import Session
from ptv2_cli.training.loop import autocast

AT_ONCE = 8
"""Features of a forward pass: each head's shares stand in memory for all its tokens."""


@dataclass(frozen=True)
class KeyNorms:
    """Mean norms over heads of a site's keys, or of its values."""

    prompt: tuple[float, ...]
    """Of each prompt position [P]."""
    text: float
    """Mean over the tokens of the rows."""

    @property
    def ratio(self) -> float:
        """The mean of the prompt's by the mean of the text's."""
        mean = sum(self.prompt) / len(self.prompt)
        return mean / self.text if self.text else float("inf")


@dataclass(frozen=True)
class LayerAttention:
    """One attention call: means over the tokens of the rows."""

    site: Site
    heads: tuple[float, ...]
    """Share of each head's softmax that falls on the prompt [N]."""
    positions: tuple[float, ...]
    """Share of each prompt position, mean over the heads [P]."""
    even: float
    """The prompt's share if every visible column got the same."""
    tokens: int
    """What the means are over."""
    keys: KeyNorms | None
    values: KeyNorms | None

    @property
    def mean(self) -> float:
        """Over the heads."""
        return sum(self.heads) / len(self.heads)

    @property
    def name(self) -> str:
        """`3`; `encoder 3` where there are several stacks."""
        stack = "" if self.site.stack == "self" else f"{self.site.stack} "
        return f"{stack}{self.site.layer + 1}"


def attention_on_prompt(
    session: Session, features: Sequence[Feature], tick: Callable[[int], None] = lambda count: None
) -> list[LayerAttention]:
    """The attention of each layer that has a prompt, with the session's present weights.

    Args:
        session: the run.
        features: the rows.
        tick: called with the number of features of each forward pass that is done.
    """
    learner, predictor = session.learner, session.predictor
    learner.eval()
    sums: dict[int, _Sum] = {}
    with torch.inference_mode():
        prompts = learner.prompts()
        for batch in _batches(session, features):
            with autocast(predictor.precision, session.device):
                shares = prompt_shares(learner.backbone, batch, prompts, _answers(session, batch))
            for site, found in shares.items():
                sums.setdefault(site, _Sum()).add(found)
            tick(batch.rows)
    return [total.mean(learner.backbone.sites[site]) for site, total in sorted(sums.items())]


@dataclass
class _Sum:
    """The shares of a site over the forward passes so far."""

    passes: list[SiteShares] = field(default_factory=list)

    def add(self, shares: SiteShares) -> None:
        self.passes.append(shares)

    def mean(self, site: Site) -> LayerAttention:
        tokens = sum(each.queries for each in self.passes)
        shares: Tensor = sum(each.shares for each in self.passes) / tokens  # type: ignore[assignment]
        return LayerAttention(
            site,
            tuple(shares.sum(dim=1).tolist()),
            tuple(shares.mean(dim=0).tolist()),
            sum(each.even for each in self.passes) / tokens,
            tokens,
            _norms([each.keys for each in self.passes]),
            _norms([each.values for each in self.passes]),
        )


def _norms(passes: Sequence[Norms | None]) -> KeyNorms | None:
    known = [each for each in passes if each is not None]
    if not known:
        return None
    tokens = sum(each.tokens for each in known)
    text = sum(each.text for each in known) / max(tokens, 1)
    return KeyNorms(tuple(known[0].prompt.tolist()), text)


def _batches(session: Session, features: Sequence[Feature]) -> Iterator[Batch]:
    """Batches of few features, each of one task."""
    kind, pad_id = session.predictor.kind, session.predictor.pad_id
    for _, group in groupby(features, key=lambda feature: feature.task):
        of_task = list(group)
        for first in range(0, len(of_task), AT_ONCE):
            yield collate(of_task[first : first + AT_ONCE], pad_id, kind).to(session.device)


def _answers(session: Session, batch: Batch) -> Tensor | None:
    """Which tokens of a decoder are an answer's; None: it reads its start token alone."""
    writes = kind_spec(session.predictor.kind).writes
    if not (writes and session.learner.backbone.decodes) or batch.labels is None:
        return None
    return batch.labels != IGNORE
