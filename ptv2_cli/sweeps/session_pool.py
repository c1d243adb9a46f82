"""Sessions of a sweep's trials: what one has loaded or tokenized serves the next."""

from __future__ import annotations

import gc
from collections.abc import Sequence

import torch

from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.runs.build import load_for
from ptv2_cli.runs.data import RunData
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
        self._features: dict[Maker, RunData] = {}
        """The last data of each kind of features."""
        self._open: list[RunData] = []

    def open(self, resolved_run: ResolvedRun) -> Session:
        """Load what is not loaded yet, and assemble.

        Raises:
            BackboneError: the backbone cannot be loaded or prompted.
            ConfigError: its weights cannot be held as the config wants on this machine.
        """
        session = open_session(resolved_run, self.device, self._view(resolved_run))
        self._lend(session)
        return session

    def close(self, resolved_run: ResolvedRun) -> None:
        """Forget what only this trial needed, and give back its memory."""
        data = resolved_run.data
        self._open = [other for other in self._open if other is not data]
        if all(kept is not data for kept in self._features.values()):
            data.forget()
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

    def _lend(self, session: Session) -> None:
        """Give the session what an equal encoder has made of the same rows, and remember it."""
        data, maker = session.resolved_run.data, _maker(session)
        if maker not in self._features:
            # Other text: what was made for trials that are over is not asked for again.
            self._forget([key for key, kept in self._features.items() if not self._uses(kept)])
        earlier = self._features.get(maker)
        if earlier is not None and earlier is not data:
            data.borrow(earlier)
            if not self._uses(earlier):
                earlier.forget()
        self._features[maker] = data
        self._open.append(data)

    def _uses(self, data: RunData) -> bool:
        """Whether an open trial reads this data."""
        return any(data is other for other in self._open)

    def _forget(self, makers: Sequence[Maker]) -> None:
        for maker in makers:
            self._features.pop(maker).forget()


def free(device: torch.device) -> None:
    """Give back the memory of what is over."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _maker(session: Session) -> Maker:
    encoder = session.resolved_run.data.encoder
    assert encoder is not None
    resolved = session.resolved
    return (
        resolved.located.identity,
        resolved.task.kind,
        encoder.max_len,
        encoder.truncation,
        encoder.template,
        encoder.ahead,
        encoder.demonstrations,
    )
