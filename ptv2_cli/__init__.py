"""ptv2: train, evaluate and compare P-tuning v2 and its baselines on frozen language models.

From Python:

    from ptv2_cli import load

    run = load("runs/NAME")                 # no name: the newest finished run under runs/
    print(run.metrics["metrics"], run.config.train.lr)
    print(run.predict([{"premise": "It rains.", "hypothesis": "It is dry."}]))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ptv2_cli.version import __version__ as __version__

if TYPE_CHECKING:
    from pathlib import Path

    from ptv2_cli.runs.predict import Run


def load(run: str | Path | None = None, *, device: str = "auto", offline: bool = False) -> Run:
    """A finished run, to predict with: see `Run.predict`, `Run.metrics`, `Run.config`.

    Args:
        run: its folder, or a sweep's for its best trial; None: the newest finished run under
            `runs/`.
        device: auto, cpu, cuda or cuda:N.
        offline: never touch the network.

    Raises:
        RunError: there is no such run, it has not finished, or its files are broken.
    """
    # Here, so that `import ptv2_cli` costs nothing: torch alone takes seconds.
    from pathlib import Path

    from ptv2_cli.runs.directory import DEFAULT_OUTPUT, newest_finished
    from ptv2_cli.runs.predict import Run
    from ptv2_cli.sweeps.folder import open_named

    directory = newest_finished(DEFAULT_OUTPUT) if run is None else open_named(Path(run))
    return Run(directory, device=device, offline=offline)
