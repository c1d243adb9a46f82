"""Run learners over the features of a split, longest batches first, without gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ptv2_cli.backbones.frozen_cache.lower_layers import LowerStates
from ptv2_cli.distributed.group import ALONE, ProcessGroup
from ptv2_cli.heads.base import Output
from ptv2_cli.inputs.batch import Batch, collate
from ptv2_cli.inputs.feature_sizes import FeatureSizes, Indices
from ptv2_cli.inputs.features import Feature
from ptv2_cli.kinds import Kind, kind_spec
from ptv2_cli.learner import Learner
from ptv2_cli.multiplex import Sharing
from ptv2_cli.scoring.scores import Array
from ptv2_cli.training.lane import Precision
from ptv2_cli.training.loop import autocast
from ptv2_cli.training.writer import Writer

CPU_TOKENS = 4096
"""Padded tokens of a batch, those of the prompt included.

Measured with MiniLM, texts of 24 to 256 tokens, fp32 and bf16: batches of 2,048 to 8,192 tokens
take times within 5 % of each other, larger ones of long texts more.
"""
GPU_TOKENS = 16384
"""The same on a GPU."""

Outputs = list[Mapping[str, Array]]
Tick = Callable[[int], None]


@dataclass(frozen=True)
class Predictor:
    """How features become outputs; the same for training's evaluations and `ptv2 eval`."""

    learner: Learner
    kind: Kind
    pad_id: int
    batch_size: int | None
    """Features of a batch; None: as many as fit into a budget of tokens."""
    precision: Precision
    device: torch.device
    class_weights: Sequence[float] | None = None
    """How much each class counts in the loss [C]; None: all alike."""
    prompt: int = 0
    """Tokens of the prompt, which count for the budget."""
    writer: Writer | None = None
    """Writes answers, where the task's are written."""

    def __call__(self, features: Sequence[Feature], tick: Tick | None = None) -> Outputs:
        """Head outputs of each feature, without padding, in the order given.

        `tick` gets the number of features of each batch that is done; it may raise to stop.
        """
        (predicted,) = predict([PredictionRequest(self, features, tick)])
        return predicted.outputs


@dataclass(frozen=True)
class PredictionRequest:
    """Features, and the predictor that is to predict them."""

    predictor: Predictor
    features: Sequence[Feature]
    tick: Tick | None = None
    """Gets the number of features of each batch that is done; it may raise to stop."""


@dataclass(frozen=True)
class PredictionResult:
    """The result of a `PredictionRequest`."""

    outputs: Outputs
    """Head outputs of each feature, without padding, in the order given."""
    losses: Mapping[int, float]
    """Task -> mean loss over the targets of its features; without gold answers it has none."""
    loss: float | None
    """Mean loss over the targets of all features, None without any."""


def predict(
    requests: Sequence[PredictionRequest],
    rows: int | None = None,
    lower: LowerStates | None = None,
    group: ProcessGroup = ALONE,
) -> list[PredictionResult]:
    """Answer requests in as few forward passes as they fit into, see `Sharing`.

    Args:
        requests: all of one backbone, device and precision.
        rows: most rows of a pass that several requests share; None: no limit.
        lower: keeps outputs of the layers below the lowest prompt.
        group: processes that share the batches; all of them get all results, which have the same
            bits as those of one process.
    """
    sharing = Sharing(rows, lower)
    pending = [_Pending(request, group) for request in requests]
    for request in requests:
        request.predictor.learner.eval()
    with group.together(), torch.inference_mode():
        while left := [each for each in pending if each.waiting]:
            batches = [each.next_batch() for each in left]
            learners = [each.request.predictor.learner for each in left]
            for shared in sharing.passes(learners, [len(batch.input_ids) for batch in batches]):
                _forward(sharing, [left[at] for at in shared], [batches[at] for at in shared])
    for each in pending:
        each.exchange(group)
    with group.together():
        for each in pending:
            each.tick_the_rest()
    return [each.predicted() for each in pending]


class _Pending:
    """A request under way: its features, longest first, and their outputs so far."""

    def __init__(self, request: PredictionRequest, group: ProcessGroup) -> None:
        self.request = request
        self.outputs: Outputs = [{} for _ in request.features]
        batches = enumerate(_batches(request))
        self.waiting = [batch for batch in batches if batch[0] % group.size == group.rank]
        """The batches that are left for this process: their numbers and the indices of their
        features; the next one is the last."""
        self.waiting.reverse()
        self._number = 0
        """That of the last batch."""
        self._batch: list[int] = []
        """Indices of the features in the last batch."""
        self._features: tuple[Feature, ...] = ()
        """These features."""
        self._done: list[int] = []
        """Indices of all features whose outputs are there."""
        self._ticked = 0
        """Features that `tick` was told of."""
        self._losses: list[_BatchLoss] = []

    def next_batch(self) -> Batch:
        """The next features, a batch of one task."""
        predictor, features = self.request.predictor, self.request.features
        self._number, indices = self.waiting.pop()
        self._batch = indices.tolist()
        self._features = tuple(features[at] for at in self._batch)
        weights = predictor.class_weights
        batch = collate(self._features, predictor.pad_id, predictor.kind, weights)
        return batch.to(predictor.device)

    def put(self, batch: Batch, output: Output) -> None:
        """Keep the output of the last batch."""
        if output.loss is not None and batch.targets:
            loss = _BatchLoss(self._number, batch.task, float(output.loss), batch.targets)
            self._losses.append(loss)
        arrays = {name: v.float().cpu().numpy() for name, v in output.predictions.items()}
        predictor = self.request.predictor
        if predictor.writer is not None:
            with autocast(predictor.precision, predictor.device):
                arrays |= predictor.writer(batch)
        kind = predictor.kind
        for row, (at, feature) in enumerate(zip(self._batch, self._features, strict=True)):
            self.outputs[at] = unpadded(arrays, row, feature, kind)
        self._done += self._batch
        self._tick(len(self._batch))

    def exchange(self, group: ProcessGroup) -> None:
        """Give all processes the outputs and losses of all batches."""
        if group.size == 1:
            return
        outputs = {at: self.outputs[at] for at in self._done}
        parts = group.gather((outputs, self._losses))
        for outputs, _ in parts:
            for at, output in outputs.items():
                self.outputs[at] = output
        # In the order of the batches, so that the mean has the same bits as that of one process.
        losses = (loss for _, part in parts for loss in part)
        self._losses = sorted(losses, key=lambda loss: loss.batch)

    def tick_the_rest(self) -> None:
        """Tell `tick` of the features that other processes predicted."""
        if rest := len(self.outputs) - self._ticked:
            self._tick(rest)

    def predicted(self) -> PredictionResult:
        """The result, once nothing waits."""
        means: dict[int, _Mean] = {}
        for loss in self._losses:
            means.setdefault(loss.task, _Mean()).add(loss.value, loss.targets)
        overall = _Mean()
        for mean in means.values():
            overall.add(mean.value, mean.weight)
        losses = {task: mean.value for task, mean in sorted(means.items())}
        return PredictionResult(self.outputs, losses, overall.value if losses else None)

    def _tick(self, count: int) -> None:
        self._ticked += count
        if self.request.tick is not None:
            self.request.tick(count)


@dataclass(frozen=True)
class _BatchLoss:
    """The mean loss of a batch over its targets."""

    batch: int
    """Number of the batch in its split."""
    task: int
    value: float
    targets: float


@dataclass
class _Mean:
    """A mean over targets that comes batch by batch, each weighted by its targets."""

    total: float = 0.0
    weight: float = 0.0

    def add(self, value: float, weight: float) -> None:
        self.total += value * weight
        self.weight += weight

    @property
    def value(self) -> float:
        return self.total / self.weight


def _forward(sharing: Sharing, pending: Sequence[_Pending], batches: Sequence[Batch]) -> None:
    """One forward pass over batches of several requests."""
    first = pending[0].request.predictor
    learners = [each.request.predictor.learner for each in pending]
    with autocast(first.precision, first.device):
        outputs = sharing.forward(learners, batches)
    for each, batch, output in zip(pending, batches, outputs, strict=True):
        each.put(batch, output)


def _batches(request: PredictionRequest) -> Iterator[Indices]:
    """Indices of the features of every batch, each of one task, longest first."""
    predictor, sizes = request.predictor, FeatureSizes.of(request.features)
    order = sizes.longest_first()
    ends = np.flatnonzero(np.diff(sizes.tasks[order])) + 1
    for of_task in np.split(order, ends) if len(order) else ():
        if predictor.batch_size is None:
            budget = CPU_TOKENS if predictor.device.type == "cpu" else GPU_TOKENS
            yield from sizes.cut(of_task, budget, predictor.prompt)
        else:
            step = predictor.batch_size
            yield from (of_task[at : at + step] for at in range(0, len(of_task), step))


def unpadded(
    arrays: Mapping[str, np.ndarray], row: int, feature: Feature, kind: Kind
) -> Mapping[str, Array]:
    """A feature's row of the batch: [C] or [] for an input, [choices] for a question, [T, ...];
    of a written answer one value each."""
    spec = kind_spec(kind)
    if (spec.pooled or spec.writes) and feature.choices is None:
        return {name: array[row] for name, array in arrays.items()}
    length = len(feature.input_ids if feature.choices is None else feature.choices)
    # Copied, so that the batch's padding is not kept alive.
    return {name: array[row, :length].copy() for name, array in arrays.items()}
