"""One config decided: its data read, its fingerprint and its directory known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ptv2_cli.backbones.files.locate import locate
from ptv2_cli.config.fingerprint import fingerprint
from ptv2_cli.config.load import LoadedConfig
from ptv2_cli.runs.directory import RunDirectory, directory_name, find_by_fingerprint
from ptv2_cli.runs.resolve.offline_rules import require_offline
from ptv2_cli.runs.resolve.resolved_config import ResolvedConfig, resolve_config
from ptv2_cli.runs.rows.data import Memo, RunData, read_data
from ptv2_cli.runs.rows.data_warnings import require_known
from ptv2_cli.runs.rows.encoding import tokenizer_of
from ptv2_cli.runs.rows.row_selection import DRAWN
from ptv2_cli.runs.warm_start import inherited_identity
from ptv2_cli.training.checkpoint import resumable


@dataclass(frozen=True)
class ResolvedRun:
    """A run that is ready to be built: config decided, data read, directory known."""

    resolved: ResolvedConfig
    data: RunData
    fingerprint: str
    directory: RunDirectory
    """Where the run is or will be; the folder is made when training starts."""
    sweep: str = ""
    """Name of the sweep's folder, if the run is trained as its trial."""

    @property
    def started(self) -> bool:
        """Whether a checkpoint of it exists."""
        return resumable(self.directory.checkpoints)

    @property
    def identities(self) -> dict[str, str]:
        """What the fingerprint knows by content: the data, the backbone, the task's version."""
        return _identities(self.resolved, self.data)


def prepare(
    loaded: LoadedConfig, output: Path, *, offline: bool, memo: Memo | None = None
) -> ResolvedRun:
    """Decide the config, read the data, find or name the run directory; write nothing.

    What the memo holds is not read again.

    Raises:
        InputError: whatever is wrong with the config, the data or the backbone's files.
    """
    require_offline(loaded, offline=offline)
    resolved = resolve_config(loaded, offline=offline)
    memo = memo or Memo()
    resolved, data = read_data(resolved, offline=offline, memo=memo)
    section = resolved.config.backbone
    find = partial(locate, section, offline=offline)
    resolved = replace(resolved, located=memo.get(("locate", section), find))
    mark = fingerprint(resolved.config.model_dump(), _identities(resolved, data))
    name = resolved.config.name or loaded.path.stem
    resolved = replace(resolved, config=resolved.config.model_copy(update={"name": name}))
    known = find_by_fingerprint(output, mark)
    directory = known or RunDirectory(output / directory_name(resolved.config, name, mark))
    if not directory.finished:
        key = ("tokenizer", section, resolved.task.kind_spec.answer == "tags")
        tokenizer = memo.get(key, partial(tokenizer_of, resolved))
        require_known(resolved, data.splits["train"], tokenizer)
    return ResolvedRun(resolved, data, mark, directory)


def _identities(resolved: ResolvedConfig, data: RunData) -> dict[str, str]:
    return {
        **data.identities,
        **({"holdout.drawn": str(DRAWN)} if "holdout" in data.splits else {}),
        **inherited_identity(resolved.method),
        "backbone": resolved.located.identity,
        "task.version": str(resolved.task.version),
        **{f"plugin.{at}": source.identity for at, source in enumerate(resolved.plugins)},
    }
