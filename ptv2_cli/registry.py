"""Names to objects, imported on first use so that naming a thing costs no torch import."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ptv2_cli.errors import ConfigError
from ptv2_cli.version import __version__


@dataclass(frozen=True)
class Source:
    """Where an entry comes from: a package and its version, or a file and its sha256."""

    name: str
    """Name of the package, or path of the file."""
    version: str = ""
    sha256: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.version}" if self.version else self.name

    @property
    def identity(self) -> str:
        """What a fingerprint says of it: files count by their content, wherever they lie."""
        return f"sha256:{self.sha256}" if self.sha256 else str(self)


BUILT_IN = Source("ptv2", __version__)
SESSION = Source("the running Python session")
_current: ContextVar[Source] = ContextVar("source", default=SESSION)


@contextmanager
def registering(source: Source) -> Iterator[None]:
    """Entries that are added inside the block come from `source`."""
    token = _current.set(source)
    try:
        yield
    finally:
        _current.reset(token)


class Registry:
    """A table of names, with aliases, and hints for names from elsewhere.

    An entry is an object, or the text `module:attribute`, which is imported on first use. With a
    `group`, installed packages add entries through entry points of that group.
    """

    def __init__(
        self,
        what: str,
        entries: Mapping[str, Any],
        aliases: Mapping[str, str] | None = None,
        hints: Mapping[str, str] | None = None,
        group: str | None = None,
        listing: str = "",
    ) -> None:
        self.what = what
        self._group = group
        self._listing = listing or f"the {what}s are"
        self._entries = dict(entries)
        self._sources = dict.fromkeys(entries, BUILT_IN)
        self._aliases = dict(aliases or {})
        self._hints = dict(hints or {})

    def names(self) -> list[str]:
        """All canonical names, in table order."""
        return list(self._entries)

    def spellings(self) -> list[str]:
        """All names that may be written: the canonical ones, then the aliases."""
        return [*self._entries, *self._aliases]

    def add(self, name: str, entry: Any) -> None:
        """Add an object, or the text `module:attribute`, under `name`.

        Its source is that of the block `registering(source)` around the call. A source replaces
        its own entries: a file that was edited, or a copy of it.

        Raises:
            ConfigError: the name is taken; the message names both sources.
        """
        source = _current.get()
        known = self._sources.get(self._aliases.get(name, name), source)
        same = known.name == source.name or known.identity == source.identity
        if not same or (known == source and self._entries.get(name, entry) != entry):
            what = f"{self.what} {name!r} is defined twice: by {known} and by {source}"
            raise ConfigError.at(str(source), what, f"rename the {self.what} in one of them")
        self._entries[name] = entry
        self._sources[name] = source

    def find_installed(self) -> None:
        """Add what installed packages offer; they are only imported when a name is used.

        Raises:
            ConfigError: two packages offer one name.
        """
        if self._group is None:
            return
        from importlib.metadata import entry_points

        group, self._group = self._group, None
        for point in entry_points(group=group):
            package = point.dist
            name, version = (package.name, package.version) if package else (point.value, "")
            with registering(Source(name, version)):
                self.add(point.name, point.value)

    def source(self, name: str) -> Source:
        """Where the entry `name` comes from."""
        return self._sources[self.canonical(name)]

    def canonical(self, name: str, where: str = "") -> str:
        """The canonical name behind `name`.

        Raises:
            ConfigError: the table has no such name; the message suggests the nearest one.
        """
        name = self._aliases.get(name, name)
        if name not in self._entries:
            self.find_installed()
        if name in self._entries:
            return name
        raise ConfigError.at(where or self.what, f"unknown {self.what} {name!r}", self._hint(name))

    def load(self, name: str) -> Any:
        """The object that `name` stands for.

        Raises:
            ConfigError: the table has no such name, or a plug-in cannot be imported.
        """
        name = self.canonical(name)
        entry, source = self._entries[name], self._sources[name]
        if not isinstance(entry, str):
            return entry
        module, _, attribute = entry.partition(":")
        try:
            with registering(source):
                return getattr(import_module(module), attribute)
        except Exception as error:
            if source == BUILT_IN or isinstance(error, ConfigError):
                raise
            what = f"{self.what} {name!r} cannot be imported: {type(error).__name__}: {error}"
            hint = f"see all of it with: python -c 'import {module}'"
            raise ConfigError.at(str(source), what, hint) from error

    def _hint(self, name: str) -> str:
        if name in self._hints:
            return self._hints[name]
        if not self._entries:
            return f"no {self.what} is installed; docs/extend.md says how to add one"
        near = difflib.get_close_matches(name.lower(), self.spellings(), n=1)
        known = f"{self._listing} {', '.join(self._entries)}"
        return f"did you mean {near[0]!r}? {known}" if near else known


METHODS = Registry(
    "method",
    {
        "ptuning_v2": "ptv2_cli.methods.ptuning_v2:PTuningV2",
        "prefix_tuning_plus": "ptv2_cli.methods.prefix_tuning_plus:PrefixTuningPlus",
        "prompt_tuning": "ptv2_cli.methods.prompt_tuning:PromptTuning",
        "ptuning_v1": "ptv2_cli.methods.ptuning_v1:PTuningV1",
        "bitfit": "ptv2_cli.methods.bitfit:BitFit",
        "houlsby_adapter": "ptv2_cli.methods.adapters:HoulsbyAdapter",
        "parallel_adapter": "ptv2_cli.methods.adapters:ParallelAdapter",
        "mam": "ptv2_cli.methods.several:Mam",
        "combined": "ptv2_cli.methods.several:Combined",
        "finetune": "ptv2_cli.methods.baselines:Finetune",
        "lora": "ptv2_cli.methods.peft_methods:Lora",
        "dora": "ptv2_cli.methods.peft_methods:Dora",
        "rslora": "ptv2_cli.methods.peft_methods:RsLora",
        "ia3": "ptv2_cli.methods.peft_methods:IA3",
        "ln_tuning": "ptv2_cli.methods.peft_methods:LNTuning",
        "head_only": "ptv2_cli.methods.baselines:HeadOnly",
        "none": "ptv2_cli.methods.baselines:NoMethod",
    },
    aliases={
        "p_tuning_v2": "ptuning_v2",
        "p_tuning": "ptuning_v1",
        "houlsby": "houlsby_adapter",
        "linear_probe": "head_only",
        "zero_shot": "none",
    },
    hints={
        "prefix_tuning": "prefix tuning is ptuning_v2 with an MLP: "
        "method: {name: ptuning_v2, reparam: mlp}",
        "adapter": "adapters are houlsby_adapter (arXiv 1902.00751, behind attention and "
        "feed-forward) and parallel_adapter (arXiv 2110.04366, beside feed-forward)",
    },
    group="ptv2.methods",
    listing="ptv2 list methods shows all:",
)

ENGINES = Registry(
    "engine",
    {
        "local": "ptv2_cli.sweeps.engines.local:LocalEngine",
        "ray": "ptv2_cli.sweeps.engines.ray:RayEngine",
    },
    group="ptv2.engines",
    listing="known engines:",
)
"""What runs the trials of a sweep; see `sweeps.engine.Engine`."""

HEADS = Registry(
    "head",
    {
        "sequence": "ptv2_cli.heads.pooled:SequenceHead",
        "regression": "ptv2_cli.heads.pooled:RegressionHead",
        "choice": "ptv2_cli.heads.pooled:ChoiceHead",
        "token": "ptv2_cli.heads.tokens:TokenHead",
        "span": "ptv2_cli.heads.tokens:SpanHead",
        "generation": "ptv2_cli.heads.generation:GenerationHead",
        "verbalizer": "ptv2_cli.heads.verbalizer:VerbalizerHead",
    },
    group="ptv2.heads",
)
"""Heads: hidden states to loss and predictions; see `heads.base.Head`."""

TASKS = Registry("task", {}, group="ptv2.tasks")
"""Tasks from outside: a `tasks.base.Task` class with a `definition`, or the path of a YAML file
as those of `tasks/definitions/`."""

TRACKERS = Registry(
    "tracker",
    {
        "tensorboard": "ptv2_cli.runs.sinks.tensorboard:TensorBoard",
        "mlflow": "ptv2_cli.runs.sinks.mlflow:Mlflow",
        "trackio": "ptv2_cli.runs.sinks.trackio:Trackio",
        "wandb": "ptv2_cli.runs.sinks.wandb:WandB",
    },
    group="ptv2.trackers",
)
"""Sinks that `track:` names."""
