"""ptv2: train, evaluate and compare P-tuning v2 and its baselines on frozen language models.

From Python:

    from ptv2_cli import evaluate, load, sweep, train

    run = train("config.yaml", prompt_len=20)       # as ptv2 train does; see help(train)
    print(run, run.metrics["metrics"], run.history)
    print(run.predict("One text."), run.predict([("It rains.", "It is dry.")]))

Importing this package imports neither torch nor transformers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ptv2_cli.api import Sweep as Sweep
from ptv2_cli.api import evaluate as evaluate
from ptv2_cli.api import load as load
from ptv2_cli.api import sweep as sweep
from ptv2_cli.api import train as train
from ptv2_cli.threads import wait_passively
from ptv2_cli.version import __version__ as __version__

if TYPE_CHECKING:
    from ptv2_cli.config.schema import RunConfig as RunConfig
    from ptv2_cli.runs.prediction.predict import Run as Run

wait_passively()

_WHERE = {"Run": "ptv2_cli.runs.prediction.predict", "RunConfig": "ptv2_cli.config.schema"}
"""Classes whose modules are imported when somebody asks for them."""


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_WHERE[name]), name)
