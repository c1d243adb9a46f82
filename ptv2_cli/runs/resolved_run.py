"""One config decided: its data read, its fingerprint and its directory known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ptv2_cli.backbones.load import load_tokenizer
from ptv2_cli.backbones.locate import locate
from ptv2_cli.config.fingerprint import fingerprint
from ptv2_cli.config.load import LoadedConfig
from ptv2_cli.runs.data import RunData, read_data
from ptv2_cli.runs.data_warnings import require_known
from ptv2_cli.runs.directory import RunDirectory, directory_name, find_by_fingerprint
from ptv2_cli.runs.memo import Memo
from ptv2_cli.runs.resolve.offline_rules import require_offline
from ptv2_cli.runs.resolve.recipe import Recipe, make_recipe
from ptv2_cli.runs.row_selection import DRAWN
from ptv2_cli.runs.warm_start import inherited_identity
from ptv2_cli.training.checkpoint import begun


@dataclass(frozen=True)
class Experiment:
    """A run that is ready to be built: config decided, data read, directory known."""

    recipe: Recipe
    data: RunData
    fingerprint: str
    directory: RunDirectory
    """Where the run is or will be; the folder is made when training starts."""

    @property
    def started(self) -> bool:
        """Whether a checkpoint of it exists."""
        return begun(self.directory.checkpoints)

    @property
    def identities(self) -> dict[str, str]:
        """What the fingerprint knows by content: the data, the backbone, the task's version."""
        return _identities(self.recipe, self.data)


def prepare(
    loaded: LoadedConfig, output: Path, *, offline: bool, memo: Memo | None = None
) -> Experiment:
    """Decide the config, read the data, find or name the run directory; write nothing.

    What the memo holds is not read again.

    Raises:
        InputError: whatever is wrong with the config, the data or the backbone's files.
    """
    require_offline(loaded, offline=offline)
    recipe = make_recipe(loaded, offline=offline)
    memo = memo or Memo()
    recipe, data = read_data(recipe, offline=offline, memo=memo)
    section = recipe.config.backbone
    find = partial(locate, section, offline=offline)
    recipe = replace(recipe, located=memo.get(("locate", section), find))
    mark = fingerprint(recipe.config.model_dump(), _identities(recipe, data))
    name = recipe.config.name or loaded.path.stem
    recipe = replace(recipe, config=recipe.config.model_copy(update={"name": name}))
    known = find_by_fingerprint(output, mark)
    directory = known or RunDirectory(output / directory_name(recipe.config, name, mark))
    if not directory.finished:
        load = partial(load_tokenizer, recipe.located, section, words=recipe.task.kind == "token")
        tokenizer = memo.get(("tokenizer", section, recipe.task.kind == "token"), load)
        require_known(recipe, data.splits["train"], tokenizer)
    return Experiment(recipe, data, mark, directory)


def _identities(recipe: Recipe, data: RunData) -> dict[str, str]:
    return {
        **data.identities,
        **({"holdout.drawn": str(DRAWN)} if "holdout" in data.splits else {}),
        **inherited_identity(recipe.method_options),
        "backbone": recipe.located.identity,
        "task.version": str(recipe.task.version),
    }
