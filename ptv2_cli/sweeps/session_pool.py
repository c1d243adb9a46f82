"""Sessions of a sweep's trials: what one has loaded or tokenized serves the next."""

from __future__ import annotations

import gc

import torch

from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.runs.build import load_for
from ptv2_cli.runs.encoding import EncodedData
from ptv2_cli.runs.resolved_run import ResolvedRun
from ptv2_cli.runs.session import Session, open_session
from ptv2_cli.sweeps.compatibility import alone, difference

Maker = tuple[object, ...]
"""All that features depend on beside the rows."""


class SessionPool:
    """Opens trials on one device; those that can share one copy of the backbone do."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._backbone: tuple[ResolvedRun, Backbone] | None = None
        """A backbone, and whose it was first."""
        self._features: dict[Maker, EncodedData] = {}
        """The last data of each kind of features."""
        self._open: list[EncodedData] = []

    def open(self, resolved_run: ResolvedRun) -> Session:
        """Load what is not loaded yet, and assemble.

        Raises:
            BackboneError: the backbone cannot be loaded or prompted.
            ConfigError: its weights cannot be held as the config wants on this machine.
        """
        session = open_session(resolved_run, self.device, self._view(resolved_run))
        self._share_features(session)
        return session

    def close(self, resolved_run: ResolvedRun) -> None:
        """Forget what only this trial needed, and give back its memory."""
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

    def _share_features(self, session: Session) -> None:
        """Give the session what an equal encoder has made of the same rows, and keep it."""
        maker = _maker(session)
        if maker not in self._features:
            # Other text: what was made for trials that are over is not needed again.
            in_use = {key: kept for key, kept in self._features.items() if kept in self._open}
            self._features = in_use
        else:
            session.data.reuse(self._features[maker])
        self._features[maker] = session.data
        self._open.append(session.data)


def free(device: torch.device) -> None:
    """Give back the memory of what is over."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _maker(session: Session) -> Maker:
    encoder, resolved = session.data.encoder, session.resolved
    return (
        resolved.located.identity,
        resolved.task.kind,
        encoder.max_len,
        encoder.truncation,
        encoder.template,
        encoder.ahead,
        encoder.demonstrations,
    )
