"""How far a run has moved what its language model says of a text that is not the task's.

A prompt that is trained for one task changes the model's next-token distributions everywhere. The
measure is KL(bare || prompted), the mean over the positions of a text, in nats a token: what it
costs to expect the prompted model's words where the bare model's come. Learning without Forgetting
(Li and Hoiem 2016, arXiv 1606.09282) keeps the same direction small, old model first: it grows
where the old model found a word likely that the new one has lost.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.backbones.language.language_model import LanguageModel
from ptv2_cli.backbones.load import load_language_model
from ptv2_cli.backbones.sites import InputVectors, PlainBatch, Prompts
from ptv2_cli.config.retention import RetentionSection
from ptv2_cli.heads.divergence import divergence
from ptv2_cli.rng import generator
from ptv2_cli.runs.resolve.resolved_config import ResolvedConfig
from ptv2_cli.runs.resolve.retention_rules import retention_text
from ptv2_cli.runs.session import Session
from ptv2_cli.training.loop import autocast

CHUNK = 256
"""Tokens of a piece of the text, which stands by itself behind the prompt."""
CHARACTERS = 64
"""Most characters of a token: more of a long text are not tokenized."""
LARGEST_LOSS = 700.0
"""Nats; a float has no exp of more."""
Tick = Callable[[int, int], None]
"""Gets the number of pieces done, and of all."""


@dataclass(frozen=True)
class Retention:
    """What `retention` of metrics.json holds."""

    kl: float
    """KL(bare || prompted), nats a token."""
    kl_standard_error: float | None
    """Over the pieces of the text; None for a single one."""
    perplexity: float
    perplexity_standard_error: float | None
    bare_perplexity: float
    """Of the backbone without a prompt, or before it was trained."""
    bare_perplexity_standard_error: float | None
    tokens: int
    pieces: int
    text: str
    """Name of the text, or path of its file."""
    sha256: str
    seconds: float


@dataclass(frozen=True)
class _Model:
    backbone: Backbone
    language: LanguageModel
    prompts: Prompts


@dataclass(frozen=True)
class _Mean:
    """A mean over tokens."""

    value: float
    error: float | None
    """Its standard error; None: not known."""

    @property
    def perplexity(self) -> _Mean:
        """exp of a mean loss, with the standard error by the delta method."""
        value = math.exp(min(self.value, LARGEST_LOSS))
        return _Mean(value, None if self.error is None else value * self.error)


def measure_retention(
    session: Session, section: RetentionSection, tick: Tick = lambda done, total: None
) -> dict[str, Any]:
    """Compare the session's model, with its present weights, with the bare one.

    The backbone is loaded once more, with its language-model head, unless the run has that head
    and a frozen backbone.

    Raises:
        ConfigError: the text cannot be read.
        BackboneError: the weights have no language-model head.
    """
    began = time.perf_counter()
    text = retention_text(section, "retention")
    pieces, prefix = _pieces(session, text.text, section.max_tokens)
    sums: list[tuple[int, float, float, float]] = []
    bare, prompted = _models(session, prefix)  # loading probes gradients
    with torch.inference_mode():
        for done, ids in enumerate(pieces, start=1):
            with autocast(session.predictor.precision, session.device):
                sums.append(_compared(bare, prompted, ids.to(session.device), prefix))
            tick(done, len(pieces))
    tokens = sum(count for count, *_ in sums)
    kl, bare_loss, loss = (
        _mean([(row[0], row[column]) for row in sums], tokens) for column in (1, 2, 3)
    )
    measured = Retention(
        kl=kl.value,
        kl_standard_error=kl.error,
        perplexity=loss.perplexity.value,
        perplexity_standard_error=loss.perplexity.error,
        bare_perplexity=bare_loss.perplexity.value,
        bare_perplexity_standard_error=bare_loss.perplexity.error,
        tokens=tokens,
        pieces=len(pieces),
        text=text.name,
        sha256=text.sha256,
        seconds=round(time.perf_counter() - began, 3),
    )
    return asdict(measured)


def _pieces(session: Session, text: str, most: int) -> tuple[list[Tensor], int]:
    """The text in pieces of token ids [T], each begun as the tokenizer begins a text, and how
    many tokens it puts before each."""
    tokenizer = session.data.encoder.tokenizer
    cut = text[: CHARACTERS * most]
    ids: list[int] = tokenizer(cut, add_special_tokens=False, verbose=False)["input_ids"][:most]
    probe = tokenizer(cut[:CHARACTERS], add_special_tokens=False)["input_ids"]
    whole = tokenizer(cut[:CHARACTERS])["input_ids"]
    start = next((n for n in range(len(whole)) if whole[n : n + len(probe)] == probe), 0)
    begin = whole[:start]
    length = max(min(CHUNK, session.resolved.room - start), 2)
    cuts = [ids[first : first + length] for first in range(0, len(ids), length)]
    return [torch.tensor([*begin, *cut]) for cut in cuts if len(begin) + len(cut) > 1], start


def _models(session: Session, prefix: int) -> tuple[_Model, _Model]:
    """The bare model and the run's."""
    learner, resolved = session.learner.eval(), session.resolved
    with torch.no_grad():
        prompts = _before_text(learner.prompts(), prefix)
    own = getattr(learner.head, "language", None)
    language = own if isinstance(own, LanguageModel) else None
    if not resolved.method.changes_backbone:
        if language is not None:
            bare = _Model(learner.backbone, language, Prompts())
        else:
            bare = _loaded(resolved, session.device)
        return bare, replace(bare, prompts=prompts)
    bare = _loaded(resolved, session.device)
    if language is not None:
        return bare, _Model(learner.backbone, language, prompts)
    if not resolved.method.trains_backbone:  # its head is the bare one's
        return bare, _Model(learner.backbone, bare.language, prompts)
    tuned = _loaded(resolved, session.device)
    tuned.backbone.model.load_state_dict(learner.backbone.model.state_dict())
    return bare, replace(tuned, prompts=prompts)


def _loaded(resolved: ResolvedConfig, device: torch.device) -> _Model:
    init = generator(resolved.config.train.seed, "init/backbone")
    backbone, language = load_language_model(
        resolved.located, resolved.config.backbone, init, device
    )
    return _Model(backbone.to(device).eval(), language.to(device), Prompts())


def _before_text(prompts: Prompts, prefix: int) -> Prompts:
    """The same prompts; a template's vectors stand before the text, which has no template."""
    inputs = prompts.inputs
    if inputs is None or inputs.column is not None:
        return prompts
    return replace(prompts, inputs=InputVectors(inputs.vectors, prefix))


def _compared(
    bare: _Model, prompted: _Model, ids: Tensor, prefix: int
) -> tuple[int, float, float, float]:
    """A piece's tokens, and over them the sums of KL and of both models' losses."""
    batch = PlainBatch(ids[None], torch.ones_like(ids)[None])
    first = max(prefix, 1)  # the first token that something stands before
    before, after = (
        model.backbone(batch, model.prompts)[0, first - 1 : -1] for model in (bare, prompted)
    )
    heads = (bare.language, prompted.language)
    found = divergence(before, after, ids[first:], heads, bare.language.words)
    losses = (part.double().sum().item() for part in (found.kl, found.before, found.after))
    return len(ids) - first, *losses  # type: ignore[return-value]


def _mean(sums: Sequence[tuple[int, float]], tokens: int) -> _Mean:
    """The mean a token, and its standard error: the pieces are a sample of clusters.

    That of a ratio of sums (Cochran 1977, section 6.5), without the correction for finite samples.
    """
    mean = sum(total for _, total in sums) / tokens
    count = len(sums)
    if count < 2:
        return _Mean(mean, None)
    spread = sum((total - mean * size) ** 2 for size, total in sums)
    return _Mean(mean, math.sqrt(spread * count / (count - 1)) / tokens)
