"""Methods that consist of other methods: `combined`, which a config lists, and `mam`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError

from ptv2_cli.config.diagnostics import problems_from
from ptv2_cli.config.fields import Count, impossible
from ptv2_cli.config.origins import Origins
from ptv2_cli.config.schema import RunConfig
from ptv2_cli.errors import ConfigError
from ptv2_cli.kinds import KindSpec
from ptv2_cli.methods.adapters import ParallelAdapter
from ptv2_cli.methods.ptuning_v2 import PTuningV2
from ptv2_cli.methods.spec import MethodSpec, TrainDefaults
from ptv2_cli.registry import METHODS

if TYPE_CHECKING:
    from torch import nn

    from ptv2_cli.backbones.sites import Stack
    from ptv2_cli.methods.base import Context, Method

FACTOR = "lr_factor"
NOTHING = "of names fewer than two methods"
EXAMPLE = "method: {name: combined, of: [ptuning_v2, {name: lora, r: 8}]}"


@dataclass(frozen=True)
class Part:
    """One of several methods."""

    name: str
    spec: MethodSpec
    lr_factor: float
    """Its learning rate is train.lr times this."""


class Several(MethodSpec):
    """Base class of methods that consist of other methods."""

    @property
    def parts(self) -> Sequence[Part]:
        """The methods, in the order in which they change the output of a shared module."""
        raise NotImplementedError

    @property
    def specs(self) -> list[MethodSpec]:
        """The specs of the parts."""
        return [part.spec for part in self.parts]

    def build(self, context: Context) -> Method:
        """The modules of all parts; those that change the backbone are built first."""
        from ptv2_cli.methods.merged import MergedMethods

        order = sorted(range(len(self.parts)), key=lambda at: not self.specs[at].changes_backbone)
        built = {at: self.specs[at].build(context) for at in order}
        methods = [built[at] for at in range(len(self.parts))]
        factors = [part.lr_factor for part in self.parts]
        return MergedMethods(methods, factors, context if self.changes_backbone else None)

    def defaults(self, kind: KindSpec) -> TrainDefaults:
        """The defaults of the first part."""
        return self.specs[0].defaults(kind)

    @property
    def uses_prompt(self) -> bool:  # type: ignore[override]
        """Whether any part does."""
        return any(spec.uses_prompt for spec in self.specs)

    @property
    def uses_template(self) -> bool:  # type: ignore[override]
        """Whether any part does."""
        return any(spec.uses_template for spec in self.specs)

    @property
    def in_input(self) -> bool:  # type: ignore[override]
        """Whether any part has vectors among the word embeddings."""
        return any(spec.in_input for spec in self.specs)

    @property
    def package(self) -> str | None:  # type: ignore[override]
        """The package that a part needs; all parts together need at most one."""
        return next((spec.package for spec in self.specs if spec.package is not None), None)

    @property
    def trains_backbone(self) -> bool:
        """Whether any part does."""
        return any(spec.trains_backbone for spec in self.specs)

    @property
    def changes_backbone(self) -> bool:
        """Whether any part does."""
        return any(spec.changes_backbone for spec in self.specs)

    @property
    def shifts_positions(self) -> bool:
        """Whether any part does."""
        return any(spec.shifts_positions for spec in self.specs)

    @property
    def inside_attention(self) -> str | None:
        """That of the first part with one; `problems` refuses parts that differ in it."""
        return next((spec.inside_attention for spec in self.specs if spec.inside_attention), None)

    @property
    def causal_option(self) -> str | None:
        """That of a part."""
        return next((spec.causal_option for spec in self.specs if spec.causal_option), None)

    @property
    def given_template(self) -> str | None:
        """That of a part."""
        return next((spec.given_template for spec in self.specs if spec.given_template), None)

    @property
    def input_column(self) -> int | None:
        """That of the part with input vectors; `problems` refuses two such parts."""
        return next((spec.input_column for spec in self.specs if spec.in_input), None)

    def unshared(self, family: str, shared_tables: bool) -> str | None:
        """The first reason that a part gives."""
        reasons = (spec.unshared(family, shared_tables) for spec in self.specs)
        return next((reason for reason in reasons if reason is not None), None)

    def problems(self, config: RunConfig, stacks: Mapping[Stack, int]) -> Iterator[tuple[str, str]]:
        """Problems of the parts, and parts that exclude each other."""
        bad = not self.parts
        if bad:
            yield "of", f"{NOTHING}; write {EXAMPLE}"
        for part in self.parts:
            for key, what in part.spec.problems(config, stacks):
                bad = True
                yield self.key_of(key), f"{part.name}: {key}: {what}"
        if bad:
            return
        for one, other in itertools.combinations(self.parts, 2):
            both = [
                place for place in one.spec.occupies(stacks) if place in other.spec.occupies(stacks)
            ]
            if both:
                yield "of", f"{one.name} and {other.name} both train {_listed(both)}"
        inside = {
            part.spec.inside_attention: part.name
            for part in self.parts
            if part.spec.inside_attention or (part.spec.uses_prompt and not part.spec.in_input)
        }
        if len(inside) > 1:
            names = " and ".join(inside.values())
            yield "of", f"{names} change attention in different ways, which no pass can mix"

    def misfits(self, model: nn.Module) -> Iterator[tuple[str, str, str]]:
        """Misfits of the parts."""
        for part in self.parts:
            for key, what, hint in part.spec.misfits(model):
                yield self.key_of(key), f"{part.name}: {key}: {what}", hint

    def key_of(self, key: str) -> str:
        """The key of this method that sets a part's option."""
        return "of"

    def unprompted_layers(self, stacks: Mapping[Stack, int]) -> int:
        """The smallest number of any part."""
        return min((spec.unprompted_layers(stacks) for spec in self.specs), default=0)

    def describe(self, prompt_len: int | None, stacks: Mapping[Stack, int]) -> str:
        """The descriptions of all parts."""
        return "; ".join(spec.describe(prompt_len, stacks) for spec in self.specs)

    def peft_obstacles(self, layers: int) -> Iterator[tuple[str, str]]:
        """Always: an adapter of PEFT holds one method."""
        names = " and ".join(part.name for part in self.parts)
        yield f"an adapter of PEFT holds one method, not {names} together", ""


def _part(value: Any) -> dict[str, Any]:
    """An item of `of` as plain data, with all defaults filled in."""
    item = {"name": value} if isinstance(value, str) else value
    if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
        raise impossible("each of `of` is a method's name or a section with one", EXAMPLE)
    options = {key: inner for key, inner in item.items() if key not in {"name", FACTOR}}
    factor: Any = item.get(FACTOR, 1.0)
    try:
        name = METHODS.canonical(str(item["name"]))
        spec: MethodSpec = METHODS.load(name).model_validate(options)
    except ConfigError as error:
        raise impossible(error.problems[0].what, error.problems[0].hint) from None
    except ValidationError as error:
        raise _explained(error, name, METHODS.load(name), options) from None
    number = isinstance(factor, int | float) and not isinstance(factor, bool)
    if not number or not 0 < factor < float("inf"):
        what = f"{name}: {FACTOR} must be a number above 0, not {factor}"
        raise impossible(what, "1 is the run's own train.lr")
    _check_alone(name, spec)
    # What is not given stays open: its default may depend on the kind of task.
    return {"name": name, **spec.model_dump(exclude_unset=True), FACTOR: float(factor)}


def _explained(
    error: ValidationError, name: str, spec_class: type[MethodSpec], options: Mapping[str, Any]
) -> PydanticCustomError:
    """What is wrong with the options of a part, and what to write."""
    for key in options:
        if key not in spec_class.model_fields and (key == "lr" or get_close_matches(key, [FACTOR])):
            hint = f"write {FACTOR}: its learning rate is train.lr times this"
            return impossible(f"{name}: unknown key {key}", hint)
    problem = problems_from(error, Origins(""), (name,), model=spec_class, data=options)[0]
    hint, fix = problem.hint, problem.fix
    if fix is not None and fix.value is not None and fix.key.startswith(f"{name}."):
        option = fix.key.removeprefix(f"{name}.")
        hint = f"{fix.before}write {{name: {name}, {option}: {fix.value}}}{fix.after}"
    return impossible(problem.what, hint)


def _check_alone(name: str, spec: MethodSpec) -> None:
    """Refuse what cannot be one of several methods."""
    if isinstance(spec, Several):
        raise impossible(f"{name} consists of several methods itself", "name its parts instead")
    if not spec.adds:
        what = f"{name} adds nothing: the head trains beside every method"
        raise impossible(what, f"leave {name} out")
    if spec.trains_backbone:
        what = f"{name} trains every weight of the backbone, with all that another method would"
        raise impossible(what, "write method: finetune alone, or leave it out")
    if spec.inherited_run is not None:
        what = f"{name}: init: {{run: DIR}} begins with a run of one method"
        raise impossible(what, f"leave init out, or train {name} alone")


def _two(parts: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
    if len(parts) < 2:
        raise impossible(NOTHING, EXAMPLE)
    return parts


Parts = Annotated[
    tuple[Annotated[dict[str, Any], BeforeValidator(_part)], ...],
    BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value),
    AfterValidator(_two),
    WithJsonSchema(
        {
            "type": "array",
            "minItems": 2,
            "items": {
                "anyOf": [
                    {"type": "string"},
                    {
                        "type": "object",
                        "properties": {
                            "name": {"type": "string"},
                            FACTOR: {"type": "number", "exclusiveMinimum": 0},
                        },
                        "required": ["name"],
                    },
                ]
            },
        }
    ),
]


class Combined(Several):
    """Trains several methods together, such as a prefix with LoRA or with adapters."""

    of: Parts = Field(
        (),
        description="two or more methods, each a name or a section with its options and lr_factor; "
        "its learning rate is train.lr times lr_factor (1); default: none",
    )

    @property
    def parts(self) -> list[Part]:
        """The methods in `of`."""
        parts = []
        for item in self.of:
            options = {key: value for key, value in item.items() if key not in {"name", FACTOR}}
            spec: MethodSpec = METHODS.load(item["name"]).model_validate(options)
            parts.append(Part(item["name"], spec, item[FACTOR]))
        return parts

    def suited_to(self, kind: KindSpec, causal: bool) -> Combined:
        """The same methods, each `suited_to`."""
        return self._with(lambda spec: spec.suited_to(kind, causal))

    def without_init(self) -> Combined:
        """The same methods, each `without_init`."""
        return self._with(lambda spec: spec.without_init())

    def _with(self, change: Callable[[MethodSpec], MethodSpec]) -> Combined:
        parts = [
            {"name": part.name, **change(part.spec).model_dump(), FACTOR: part.lr_factor}
            for part in self.parts
        ]
        return self.model_copy(update={"of": tuple(parts)})


class Mam(Several):
    """Trains a prefix and a parallel adapter in every layer (mix-and-match, arXiv 2110.04366).

    Few values are enough for attention; the feed-forward part gets a wide adapter (section 4.6).
    `prompt_len` is 30 in the paper.
    """

    bottleneck: Count = Field(512, description="width r of the adapters; 512 in the paper")
    scale: Annotated[float, Field(gt=0)] = Field(
        4.0, description="factor on the adapter's output; 4 in the paper"
    )
    reparam: Literal["none", "mlp"] = Field(
        "none",
        description="mlp: a network computes the prefix and trains with it, as in the paper",
    )
    prefix_lr_factor: Annotated[float, Field(gt=0)] = Field(
        50.0,
        description="learning rate of the prefix as a multiple of that of the adapters, train.lr",
    )

    @property
    def parts(self) -> list[Part]:
        """The adapters, which give the defaults of the run, and the prefix."""
        adapter = ParallelAdapter(bottleneck=self.bottleneck, scale=self.scale)
        prefix = PTuningV2(reparam=self.reparam)
        return [
            Part("parallel_adapter", adapter, 1.0),
            Part("ptuning_v2", prefix, self.prefix_lr_factor),
        ]

    def key_of(self, key: str) -> str:
        """The option of the same name."""
        return key


def _listed(places: Sequence[str]) -> str:
    """The first place, and how many more there are."""
    more = f" and {len(places) - 1} more" if len(places) > 1 else ""
    return f"{places[0]}{more}"
