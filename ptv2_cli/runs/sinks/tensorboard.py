"""`track: tensorboard`: event files in the run's folder, read by `tensorboard --logdir runs`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ptv2_cli.runs.sinks.confusion import confusion_pictures
from ptv2_cli.runs.sinks.tracker import TrackedRun, Tracker, flat, results


class TensorBoard(Tracker):
    """Scores, hyperparameters and confusion matrices as TensorBoard's event files."""

    name = "tensorboard"

    def load(self) -> None:
        """Import TensorBoard."""
        import torch.utils.tensorboard  # noqa: F401

    def open(self, known: TrackedRun | None) -> TrackedRun:
        """Add an event file to the run's folder; the reader then drops what is sent twice."""
        from torch.utils.tensorboard import SummaryWriter

        folder = self.run.directory.path / "tensorboard"
        if known is None:
            for file in folder.glob("events.out.tfevents.*"):  # of a run that starts anew
                file.unlink()
            known = TrackedRun(folder.name)
        purge = None if known.step < 0 else known.step + 1
        self._writer = SummaryWriter(str(folder), purge_step=purge)
        return known

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to the curves."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Add results, hyperparameters and pictures."""
        from torch.utils.tensorboard import summary

        step, scores = metrics["selection"]["step"] or 0, results(metrics)
        self.log(step, scores)
        for split, picture in confusion_pictures(metrics):
            self._writer.add_image(f"confusion/{split}", picture, step, dataformats="HWC")
        values = {
            key: value if isinstance(value, bool | int | float | str) else str(value)
            for key, value in self._parameters().items()
        }
        writer = self._writer._get_file_writer()  # type: ignore[no-untyped-call]
        for part in summary.hparams(  # type: ignore[no-untyped-call]
            values, dict.fromkeys(scores, 0.0)
        ):
            writer.add_summary(part)

    def end(self, *, finished: bool) -> None:
        """Close the event file."""
        self._writer.close()

    def _parameters(self) -> dict[str, Any]:
        """The config's values by dotted key, and the sweep."""
        sweep = {"sweep": self.run.sweep} if self.run.sweep else {}
        return {**dict(flat(self.content())), **sweep}
