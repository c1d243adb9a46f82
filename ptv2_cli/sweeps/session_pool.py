"""Opens the sessions of a sweep's runs: a run reuses what an earlier one loaded or tokenized."""

from __future__ import annotations

import torch

from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.memory import forget_peak, free
from ptv2_cli.runs.build import load_for
from ptv2_cli.runs.resolve.resolved_config import ResolvedConfig
from ptv2_cli.runs.resolved_run import ResolvedRun
from ptv2_cli.runs.rows.encoding import EncodedData
from ptv2_cli.runs.session import Session, open_session
from ptv2_cli.sweeps.compatibility import alone, difference

FeatureKey = tuple[str, ...]
"""Everything that features depend on, besides the rows."""


class SessionPool:
    """Opens runs on one device; those that can share one copy of the backbone do."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._backbone: tuple[ResolvedRun, Backbone] | None = None
        """The loaded backbone, and the run it was loaded for."""
        self._features: dict[FeatureKey, EncodedData] = {}
        """The data that holds the features of each key."""
        self._open: list[EncodedData] = []

    def open(self, resolved_run: ResolvedRun) -> Session:
        """Load what is not loaded yet, and assemble the session.

        Raises:
            BackboneError: the backbone cannot be loaded or prompted.
            ConfigError: this machine cannot hold its weights as the config wants.
        """
        if not self._open:
            forget_peak(self.device)
        view = self._view(resolved_run)
        session = open_session(resolved_run, self.device, view, self._share_features)
        self._open.append(session.data)
        return session

    def close(self, resolved_run: ResolvedRun) -> None:
        """Forget what only this run needed, and free its memory."""
        self._open = [each for each in self._open if each.data is not resolved_run.data]
        free(self.device)

    def _view(self, resolved_run: ResolvedRun) -> Backbone | None:
        if alone(resolved_run) is not None:
            self._drop()
            return None
        if self._backbone is not None and difference(self._backbone[0], resolved_run) is not None:
            self._drop()
        if self._backbone is None:
            self._backbone = (resolved_run, load_for(resolved_run.resolved, self.device))
        return self._backbone[1].view()

    def _drop(self) -> None:
        self._backbone = None
        free(self.device)

    def _share_features(self, resolved: ResolvedConfig, data: EncodedData) -> None:
        """Give the data the features that an equal encoder made from the same rows."""
        key = data.encoder.identity, resolved.task.kind, resolved.task.options.model_dump_json()
        if key not in self._features:
            # Other text: nobody needs the features of runs that have ended.
            in_use = {k: held for k, held in self._features.items() if held in self._open}
            self._features = in_use
        else:
            data.reuse(self._features[key])
        self._features[key] = data
