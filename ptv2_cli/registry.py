"""Names to classes, imported on first use so that naming things costs no torch import."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from ptv2_cli.errors import ConfigError


class Registry:
    """A fixed table `name -> "module:attribute"`, with aliases and hints for foreign names."""

    def __init__(
        self,
        what: str,
        entries: Mapping[str, str],
        aliases: Mapping[str, str] | None = None,
        hints: Mapping[str, str] | None = None,
    ) -> None:
        self.what = what
        self._entries = dict(entries)
        self._aliases = dict(aliases or {})
        self._hints = dict(hints or {})

    def names(self) -> list[str]:
        """All canonical names, in table order."""
        return list(self._entries)

    def spellings(self) -> list[str]:
        """All names that may be written: the canonical ones, then the aliases."""
        return [*self._entries, *self._aliases]

    def canonical(self, name: str, where: str = "") -> str:
        """The canonical name behind `name`.

        Raises:
            ConfigError: the table has no such name; the message suggests the nearest one.
        """
        name = self._aliases.get(name, name)
        if name in self._entries:
            return name
        raise ConfigError.at(where or self.what, f"unknown {self.what} {name!r}", self._hint(name))

    def load(self, name: str) -> Any:
        """Import and return the object that `name` stands for."""
        module, attribute = self._entries[self.canonical(name)].split(":")
        return getattr(import_module(module), attribute)

    def _hint(self, name: str) -> str:
        if name in self._hints:
            return self._hints[name]
        near = difflib.get_close_matches(name, [*self._entries, *self._aliases], n=1)
        known = f"ptv2 list {self.what}s shows all: {', '.join(self._entries)}"
        return f"did you mean {near[0]!r}? {known}" if near else known


METHODS = Registry(
    "method",
    {
        "ptuning_v2": "ptv2_cli.methods.ptuning_v2:PTuningV2",
        "prompt_tuning": "ptv2_cli.methods.prompt_tuning:PromptTuning",
        "ptuning_v1": "ptv2_cli.methods.ptuning_v1:PTuningV1",
        "finetune": "ptv2_cli.methods.baselines:Finetune",
        "head_only": "ptv2_cli.methods.baselines:HeadOnly",
        "none": "ptv2_cli.methods.baselines:NoMethod",
    },
    aliases={
        "p_tuning_v2": "ptuning_v2",
        "p_tuning": "ptuning_v1",
        "linear_probe": "head_only",
        "zero_shot": "none",
    },
    hints={
        "prefix_tuning": "prefix tuning is ptuning_v2 with an MLP: "
        "method: {name: ptuning_v2, reparam: mlp}"
    },
)

HEADS = Registry(
    "head",
    {
        "sequence": "ptv2_cli.heads.pooled:SequenceHead",
        "regression": "ptv2_cli.heads.pooled:RegressionHead",
        "choice": "ptv2_cli.heads.pooled:ChoiceHead",
        "token": "ptv2_cli.heads.tokens:TokenHead",
        "span": "ptv2_cli.heads.tokens:SpanHead",
        "verbalizer": "ptv2_cli.heads.verbalizer:VerbalizerHead",
    },
)
