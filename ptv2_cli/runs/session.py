"""A run with its objects built: what trains and what predicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.optim import Optimizer
from transformers import GenerationConfig

from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.backbones.compiling import check_compiler
from ptv2_cli.backbones.frozen_cache.lower_layers import LowerStates
from ptv2_cli.backbones.quantize import check_machine
from ptv2_cli.distributed.group import ALONE, ProcessGroup
from ptv2_cli.distributed.shard import shard_layers
from ptv2_cli.learner import Learner
from ptv2_cli.rng import BACKBONE_DROPOUT, derive
from ptv2_cli.runs.build import build_learner, learning_rates
from ptv2_cli.runs.calibration import Calibration, content_free_inputs
from ptv2_cli.runs.evaluation import Evaluation, EvaluationRequest, evaluate
from ptv2_cli.runs.resolve.backbone_rules import require_cache_room
from ptv2_cli.runs.resolve.resolved_config import ResolvedConfig
from ptv2_cli.runs.resolved_run import ResolvedRun
from ptv2_cli.runs.rows.encoding import EncodedData, encode, tokenizer_of
from ptv2_cli.training.batches import BatchPlan
from ptv2_cli.training.checkpoint import load_checkpoint, load_tensors
from ptv2_cli.training.drawing import Drawing
from ptv2_cli.training.evaluate import Predictor, Tick
from ptv2_cli.training.lane import Lane
from ptv2_cli.training.lr_curve import RangeTest
from ptv2_cli.training.lr_range import range_test
from ptv2_cli.training.optim import build_optimizer, build_schedule
from ptv2_cli.training.shared_checkpoint import received, shared_weights
from ptv2_cli.training.writer import Writer


@dataclass(eq=False)
class Session:
    """A run with its objects built: what trains and what predicts."""

    resolved_run: ResolvedRun
    device: torch.device
    data: EncodedData
    learner: Learner
    predictor: Predictor
    warnings: list[str] = field(default_factory=list)
    group: ProcessGroup = ALONE
    """The processes that train the run together."""

    @property
    def sharded(self) -> bool:
        """Whether processes share the backbone, and so have to compute the same passes."""
        return self.group.size > 1 and self.resolved.config.train.shard is not None

    @property
    def resolved(self) -> ResolvedConfig:
        """The run's resolved config."""
        return self.resolved_run.resolved

    def evaluate(
        self,
        split: str,
        state: dict[str, float] | None = None,
        tick: Tick | None = None,
    ) -> Evaluation:
        """Predict and score a split of the run's data with the present weights."""
        return evaluate([self.request(split, state, tick)])[0]

    def request(
        self, split: str, state: dict[str, float] | None = None, tick: Tick | None = None
    ) -> EvaluationRequest:
        """What to evaluate for the scores of a split of the run's data."""
        rows, features = self.resolved_run.data.rows(split), self.data.features(split)
        return EvaluationRequest(
            self.resolved.task, self.predictor, rows, features, state, tick, self._calibration()
        )

    def _calibration(self) -> Calibration | None:
        task, how = self.resolved.task, self.resolved.config.head.calibrate
        if how is None:
            return None
        inputs = content_free_inputs(task, self.data.encoder) if how == "contextual" else None
        return Calibration(task.labels, inputs)

    def load_best(self) -> dict[str, Any]:
        """Put the best checkpoint's weights into the learner; returns its JSON state.

        Raises:
            CheckpointError: it is missing, damaged or of another model.
        """
        folder, mark = self.resolved_run.directory.checkpoints, self.resolved_run.fingerprint
        read = load_checkpoint(folder, "best", mark) if self.group.first else None
        checkpoint = received(read, shared_weights(self.learner), self.group)
        assert checkpoint is not None
        load_tensors(self.learner, checkpoint.part("learner"), folder / "best.json")
        return checkpoint.state

    def optimizer(self, lr: float) -> Optimizer:
        """An optimizer of what trains, at this learning rate."""
        rates = learning_rates(self.resolved, self.learner.method, lr)
        return build_optimizer(self.learner, rates, self.resolved.config.train.weight_decay or 0.0)

    def range_test(self, tick: Callable[[int], None]) -> RangeTest:
        """What `train.lr: auto` does before the first step; the run is as it was afterwards.

        `tick` is called after every step with 1 and may raise to stop.
        """
        default = self.resolved.default_lr
        assert default is not None

        def peaks(rate: float) -> list[float]:
            return [group["peak_lr"] for group in self.optimizer(rate).param_groups]

        return range_test(self.new_lane(), default, peaks, tick)

    def new_lane(self, lr: float | None = None) -> Lane:
        """What trains this run, before its first step.

        `lr` is the learning rate; None: the config's, or the method's default if it says auto.
        """
        resolved = self.resolved
        config, train = resolved.config, resolved.config.train
        batches = BatchPlan(
            features=self.data.features("train"),
            batch_size=train.batch_size,
            accumulate=train.accumulate,
            seed=train.seed,
            pad_id=self.predictor.pad_id,
            kind=resolved.task.kind,
            mixing=resolved.task.mixing,
            class_weights=self.predictor.class_weights,
            tokens=train.batch_tokens,
            prompt=self.predictor.prompt,
        )
        per_epoch = batches.steps_per_epoch
        steps = train.steps or (train.epochs or 1) * per_epoch if resolved.method.trains else 0
        if lr is None:
            lr = resolved.default_lr if train.lr == "auto" else train.lr
        half = "fp16" in {train.precision, config.backbone.dtype}
        return Lane(
            learner=self.learner,
            batches=batches,
            optimizer=self.optimizer(lr or 0.0),  # null where nothing trains
            schedule=build_schedule(train.schedule, steps, train.warmup or 0.0, per_epoch),
            steps=steps,
            eval_every=per_epoch if train.eval_every == "epoch" else int(train.eval_every),
            device=self.device,
            dropout_seed=derive(train.seed, BACKBONE_DROPOUT),
            clip=train.clip,
            precision=train.precision,
            scaler=torch.amp.GradScaler(self.device.type, enabled=half),
            average=train.average,
            group=self.group,
        )

    def lower_states(self) -> LowerStates | None:
        """Where this run, and those that train beside it, keep the outputs of the lower layers.

        None where the backbone trains or draws dropout: nothing comes out the same twice.

        Raises:
            ConfigError: there is no room for what `train.cache` asks to keep.
        """
        resolved = self.resolved
        config, folder = resolved.config, self.resolved_run.directory.path.parent
        tunes = resolved.method.changes_backbone
        if config.backbone.dropout != "off" or tunes or self.sharded:
            return None
        keep = config.train.cache
        if keep is not None:
            folder.mkdir(parents=True, exist_ok=True)
            splits = self.resolved_run.data.splits
            tokens = sum(int(self.data.features(split).tokens.sum()) for split in splits)
            require_cache_room(keep, tokens, self.learner.backbone, folder)
        return LowerStates(keep or "epoch", folder)


def _writer(resolved: ResolvedConfig, data: EncodedData, learner: Learner) -> Writer | None:
    """What writes the run's answers, if its task's are written."""
    section, tokenizer = resolved.config.generate, data.encoder.tokenizer
    if section is None:
        return None
    given = section.model_dump(exclude={"seed"}, exclude_none=True)
    drawing = None
    if section.do_sample and section.num_beams == 1:
        options = {key: given.pop(key, None) for key in ("temperature", "top_k", "top_p")}
        drawing = Drawing(seed=section.seed or 0, **options)
        given["do_sample"] = False
    elif section.do_sample:
        given["top_k"] = section.top_k or 0  # transformers' own default is 50
    config = GenerationConfig(
        **given, eos_token_id=data.encoder.end_ids, pad_token_id=data.encoder.pad_id
    )
    seed = section.seed if section.do_sample and drawing is None else None
    return Writer(learner, tokenizer, config, drawing, seed)


def open_session(
    resolved_run: ResolvedRun,
    device: torch.device,
    shared: Backbone | None = None,
    reuse: Callable[[ResolvedConfig, EncodedData], None] | None = None,
    *,
    group: ProcessGroup = ALONE,
) -> Session:
    """Load tokenizer and backbone, probe it, assemble the learner on the device.

    Args:
        resolved_run: the run.
        device: where this process trains.
        shared: a view of a backbone that is loaded already.
        reuse: gives the data features that exist already; called before anything reads them.
        group: the processes that train the run together.

    Raises:
        BackboneError: the backbone cannot be loaded or prompted.
        ConfigError: its weights cannot be held as the config wants on this machine.
    """
    resolved = resolved_run.resolved
    check_machine(resolved.config.backbone, device)
    check_compiler(resolved.config, device)
    data = encode(resolved, resolved_run.data, tokenizer_of(resolved))
    if reuse is not None:
        reuse(resolved, data)
    learner = build_learner(resolved, data, device, shared)
    train = resolved.config.train
    if train.shard is not None and group.size > 1:
        shard_layers(learner, group, device, offload=train.cpu_offload)
    else:
        learner = learner.to(device)
    predictor = Predictor(
        writer=_writer(resolved, data, learner),
        learner=learner,
        kind=resolved.task.kind,
        pad_id=data.encoder.pad_id,
        batch_size=resolved.config.train.eval_batch_size,
        precision=resolved.config.train.precision,
        device=device,
        # A template's slots for the prompt are positions of the features.
        prompt=0 if resolved.method.uses_template else resolved.config.prompt_len or 0,
        class_weights=resolved_run.data.class_weights(resolved.config.train.class_weights),
    )
    session = Session(resolved_run, device, data, learner, predictor, group=group)
    if train.cpu_offload and (device.type == "cpu" or not session.sharded):
        why = "the weights are in main memory" if device.type == "cpu" else "there is one device"
        session.warnings.append(f"train.cpu_offload has no effect: {why}")
    return session
