"""An experiment with its objects built: what trains and what predicts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.backbones.load import load_tokenizer
from ptv2_cli.backbones.quantized import check_machine
from ptv2_cli.model import Learner
from ptv2_cli.run.build import build_learner
from ptv2_cli.run.data import make_encoder
from ptv2_cli.run.experiment import Experiment
from ptv2_cli.run.recipe import Recipe
from ptv2_cli.run.scoring import Asked, Evaluation, evaluate
from ptv2_cli.train.checkpoint import fit_into, load_checkpoint
from ptv2_cli.train.evaluate import Predictor, Tick


@dataclass
class Session:
    """An experiment with its objects built: what trains and what predicts."""

    experiment: Experiment
    device: torch.device
    learner: Learner
    predictor: Predictor
    warnings: list[str] = field(default_factory=list)

    @property
    def recipe(self) -> Recipe:
        """The experiment's recipe."""
        return self.experiment.recipe

    def evaluate(
        self,
        split: str,
        state: dict[str, float] | None = None,
        tick: Tick | None = None,
    ) -> Evaluation:
        """Predict and score a split of the run's data with the present weights."""
        return evaluate([self.asked(split, state, tick)])[0]

    def asked(
        self, split: str, state: dict[str, float] | None = None, tick: Tick | None = None
    ) -> Asked:
        """The evaluation of a split of the run's data, to be made."""
        data, task = self.experiment.data, self.recipe.task
        return Asked(task, self.predictor, data.rows(split), data.features(split), state, tick)

    def load_best(self) -> dict[str, Any]:
        """Put the best checkpoint's weights into the learner; returns its JSON state.

        Raises:
            CheckpointError: it is missing, damaged or of another model.
        """
        folder = self.experiment.directory.checkpoints
        checkpoint = load_checkpoint(folder, "best", self.experiment.fingerprint)
        fit_into(self.learner, checkpoint.part("learner"), folder / "best.json")
        return checkpoint.state


def open_session(
    experiment: Experiment, device: torch.device, shared: Backbone | None = None
) -> Session:
    """Load tokenizer and backbone, probe it, assemble the learner on the device.

    `shared` is a view of a backbone that is loaded already.

    Raises:
        BackboneError: the backbone cannot be loaded or prompted.
        ConfigError: its weights cannot be held as the config wants on this machine.
    """
    recipe = experiment.recipe
    check_machine(recipe.config.backbone, device)
    words = recipe.task.kind == "token"
    tokenizer = load_tokenizer(recipe.located, recipe.config.backbone, words=words)
    data = experiment.data
    data.encoder = encoder = make_encoder(recipe, tokenizer, data.demonstrations)
    learner = build_learner(recipe, tokenizer, device, shared).to(device)
    predictor = Predictor(
        learner=learner,
        kind=recipe.task.kind,
        pad_id=encoder.pad_id,
        batch_size=recipe.config.train.eval_batch_size,
        precision=recipe.config.train.precision,
        device=device,
        class_weights=data.class_weights(recipe.config.train.class_weights),
    )
    return Session(experiment, device, learner, predictor)
