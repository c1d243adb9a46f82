"""The loop's moving and fixed parts of a session."""

from __future__ import annotations

import torch

from ptv2_cli.run.build import learning_rates
from ptv2_cli.run.session import Session
from ptv2_cli.train.batches import BatchPlan
from ptv2_cli.train.lane import Plan, Training
from ptv2_cli.train.optim import build_optimizer, build_schedule


def set_up(session: Session) -> tuple[Training, Plan]:
    """The loop's moving and fixed parts, from the config."""
    recipe, device = session.recipe, session.device
    config, train = recipe.config, recipe.config.train
    batches = BatchPlan(
        features=session.experiment.data.features("train"),
        batch_size=train.batch_size,
        accumulate=train.accumulate,
        seed=train.seed,
        pad_id=session.predictor.pad_id,
        kind=recipe.task.kind,
        mixing=recipe.task.mixing,
        class_weights=session.predictor.class_weights,
    )
    per_epoch = batches.steps_per_epoch
    steps = train.steps or (train.epochs or 1) * per_epoch if recipe.method.trains else 0
    optimizer = build_optimizer(
        session.learner, learning_rates(recipe, session.learner.method), train.weight_decay or 0.0
    )
    schedule = build_schedule(train.schedule, steps, train.warmup or 0.0, per_epoch)
    half = "fp16" in {train.precision, config.backbone.dtype}
    scaler = torch.amp.GradScaler(device.type, enabled=half)
    plan = Plan(
        steps=steps,
        eval_every=per_epoch if train.eval_every == "epoch" else int(train.eval_every),
        clip=config.train.clip,
        precision=train.precision,
        device=device,
    )
    return Training(session.learner, batches, optimizer, schedule, scaler=scaler), plan
