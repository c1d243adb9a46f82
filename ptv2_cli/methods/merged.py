"""The module of methods that train together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from functools import reduce
from typing import Any

from torch import nn

from ptv2_cli.backbones.edits import chained
from ptv2_cli.backbones.injection import injection_of
from ptv2_cli.backbones.sites import Prompts
from ptv2_cli.methods.base import Context, Method


class MergedMethods(Method):
    """Methods whose prompts go into one forward pass.

    Args:
        methods: modules of the methods; each site has prompts of at most one of them.
        factors: a factor on the learning rate of each method.
        changed: the run's context, if a method has put modules into the backbone.
    """

    def __init__(
        self, methods: Sequence[Method], factors: Sequence[float], changed: Context | None
    ) -> None:
        super().__init__()
        self.methods = nn.ModuleList(methods)
        self._methods = list(methods)
        self._factors = list(factors)
        self.lowest = min(method.lowest for method in methods)
        self.offset = max(method.offset for method in methods)
        self.notes = tuple(note for method in methods for note in method.notes)
        if changed is not None:
            injection = injection_of(changed.model)[0]
            injection.edits.follow(changed.model)

    def forward(self) -> Prompts:
        """The prompts of all methods together."""
        prompts: Iterable[Prompts] = (method() for method in self._methods)
        return reduce(merged, prompts)

    def rate_factors(self) -> Mapping[nn.Parameter, float]:
        """The factors of each method, multiplied by the method's factor in `factors`."""
        return {
            parameter: factor * method.rate_factors().get(parameter, 1.0)
            for method, factor in zip(self._methods, self._factors, strict=True)
            for parameter in method.parameters()
        }

    def counts(self) -> dict[str, int]:
        """The sum of all methods."""
        counts: dict[str, int] = {}
        for method in self._methods:
            for part, values in method.counts().items():
                counts[part] = counts.get(part, 0) + values
        return counts


def merged(one: Prompts, other: Prompts) -> Prompts:
    """The prompts of two methods for one forward pass; edits of `one` apply first.

    Raises:
        ValueError: both change the same part.
    """
    values: dict[str, Any] = {}
    for field in fields(Prompts):
        name, default = field.name, field.default
        pair = (getattr(one, name), getattr(other, name))
        given = [value for value in pair if value is not None and value is not default]
        if not given:
            continue
        if len(given) == 1:
            values[name] = given[0]
        elif name == "edits":
            values[name] = chained(*given)
        elif name == "offset":  # the text begins after the prompt that shifts it most
            values[name] = max(given)
        elif not all(isinstance(value, Mapping) for value in given) or given[0].keys() & given[1]:
            raise ValueError(f"two methods set {name} of the same")
        else:
            values[name] = {**given[0], **given[1]}
    return Prompts(**values)
