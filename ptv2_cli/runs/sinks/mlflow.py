"""`track: mlflow`: a run in an MLflow experiment, on a server or in a local database."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock
from pydantic import Field, field_validator

from ptv2_cli.config.fields import Text, impossible
from ptv2_cli.files import make_folder
from ptv2_cli.runs.sinks.tracker import TrackedRun, Tracker, TrackerOptions, flat, results
from ptv2_cli.safe_text import without_passwords

PARENT = "mlflow.parentRunId"
"""MLflow's tag of a run that the pages show below another one."""
SWEEP = "ptv2.sweep"
STEP = "train/epoch"
"""A figure that every line of the history has."""
LONGEST = 500
"""Most characters of a parameter that all versions of MLflow's servers take."""
PARAMETERS = 100
"""Most parameters of one request."""
SETTINGS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_LOGGING_LEVEL": "WARNING"}
"""MLflow's own, where the user has none: by default it asks a server that is down for four minutes.
"""


class Options(TrackerOptions):
    """Options of `track: {name: mlflow, ...}`."""

    uri: Text | None = Field(
        None,
        description="address of the server, or a database such as sqlite:///mlflow.db; default: "
        "MLFLOW_TRACKING_URI, else MLflow's own",
    )
    experiment: Text = Field("ptv2", description="experiment that gets the runs")

    @field_validator("uri")
    @classmethod
    def _without_password(cls, uri: str | None) -> str | None:
        if uri is not None and without_passwords(uri) != uri:
            raise impossible(
                "holds a password, and config.yaml keeps every option",
                "leave it out, and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
            )
        return uri

    @property
    def server(self) -> str | None:
        """The server's address, unless it is this machine."""
        uri = self.uri or os.environ.get("MLFLOW_TRACKING_URI", "")
        if not uri.startswith(("http:", "https:", "databricks")):
            return None
        here = urlsplit(uri).hostname in {"localhost", "127.0.0.1", "::1"}
        return None if here else without_passwords(uri)


class Mlflow(Tracker):
    """Scores and config as a run of MLflow; trials of a sweep are children of one run."""

    Options = Options
    name = "mlflow"

    def load(self) -> None:
        """Import MLflow."""
        for key, value in SETTINGS.items():
            os.environ.setdefault(key, value)
        import mlflow.tracking  # noqa: F401

    def open(self, known: TrackedRun | None) -> TrackedRun:
        """Make a run in the experiment, or continue one behind the last point of its curves."""
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(self.options.uri)
        if known is not None:
            self._client.update_run(known.id, status="RUNNING")
            points = self._client.get_metric_history(known.id, STEP)
            return TrackedRun(known.id, max((point.step for point in points), default=-1))
        experiment = self._experiment()
        tags = {"ptv2.fingerprint": self.run.fingerprint}
        if self.run.sweep:
            tags |= {SWEEP: self.run.sweep, PARENT: self._parent(experiment)}
        name = self.run.directory.path.name
        made = self._client.create_run(experiment, tags=tags, run_name=name).info.run_id
        self._log_parameters(made)
        return TrackedRun(made)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to the curves."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        points = [Metric(name, value, now, step) for name, value in values.items()]
        self._client.log_batch(self._tracked.id, metrics=points)

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Add the results, and config.yaml and metrics.json as files."""
        self.log(metrics["selection"]["step"] or 0, results(metrics))
        self._client.set_tag(self._tracked.id, "ptv2.status", metrics["status"])
        for path in (self.run.directory.config, self.run.directory.metrics):
            self._client.log_artifact(self._tracked.id, str(path))

    def end(self, *, finished: bool) -> None:
        """End the run; one that may go on counts as killed until then."""
        self._client.set_terminated(self._tracked.id, "FINISHED" if finished else "KILLED")

    def _experiment(self) -> str:
        """The experiment's id."""
        from mlflow.exceptions import MlflowException

        name = self.options.experiment
        known = self._client.get_experiment_by_name(name)
        if known is None:
            try:
                return str(self._client.create_experiment(name))
            except MlflowException:  # another run has made it meanwhile
                known = self._client.get_experiment_by_name(name)
                if known is None:
                    raise
        return str(known.experiment_id)

    def _parent(self, experiment: str) -> str:
        """The run of the sweep, which the first trial makes."""
        sweep = self.run.sweep
        folder = self.run.directory.path.parent / "sweeps"
        make_folder(folder)
        with FileLock(folder / f".{sweep}.mlflow.lock"):
            query = f"tags.`{SWEEP}` = '{sweep}' and tags.`ptv2.role` = 'sweep'"
            known = self._client.search_runs([experiment], query, max_results=1)
            if known:
                return str(known[0].info.run_id)
            tags = {SWEEP: sweep, "ptv2.role": "sweep"}
            made = self._client.create_run(experiment, tags=tags, run_name=sweep).info.run_id
            self._client.set_terminated(made)  # it has no steps of its own
            return str(made)

    def _log_parameters(self, run: str) -> None:
        from mlflow.entities import Param

        values = [Param(key, str(value)[:LONGEST]) for key, value in flat(self.content())]
        for start in range(0, len(values), PARAMETERS):
            self._client.log_batch(run, params=values[start : start + PARAMETERS])
