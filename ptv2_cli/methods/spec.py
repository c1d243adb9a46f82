"""The spec of a method: options, defaults and checks, without torch and without weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ptv2_cli.config.schema import RunConfig
from ptv2_cli.config.section import Section
from ptv2_cli.kinds import KindSpec

if TYPE_CHECKING:
    from torch import nn

    from ptv2_cli.backbones.sites import Stack
    from ptv2_cli.methods.base import Context, Method


OWN_SOFTMAX = "prompts with their own softmax"


NORMS = "the norms"
"""The name that `occupies` gives to the weights and biases of norms."""


@dataclass(frozen=True)
class TrainDefaults:
    """Defaults of `train:`, from each method's paper or from runs of this project.

    None: the key has no meaning, because nothing trains.
    """

    lr: float | None
    epochs: int | None
    warmup: float | None = 0.0
    weight_decay: float | None = 0.0
    head_lr: float | None = None
    """Default of `head.lr` for a new head; None: train.lr."""


def frozen_defaults(rates: Mapping[str, float], kind: KindSpec) -> TrainDefaults:
    """Defaults of a method whose backbone stays frozen: no warm-up, no weight decay."""
    return TrainDefaults(lr=rates[kind.rates_name], epochs=kind.epochs)


class MethodSpec(Section):
    """The section `method:` of a config, for one method. Its fields are the method's options.

    To add a method, derive a class from this one and register it, in `registry.py` or with
    `METHODS.add("gated", "my_package.gated:Gated")`:

        class Gated(MethodSpec):
            \"\"\"Trains ... (`ptv2 list methods` shows this paragraph).\"\"\"

            gate: Literal["zero", "one"] = Field("zero", description="value the gate begins at")

            def defaults(self, kind):
                return frozen_defaults({"sequence": 1e-2, ...}, kind)

            def describe(self, prompt_len, stacks):
                return f"{prompt_len} gated vectors in every layer"

            def build(self, context):
                from my_package.gated_module import GatedModule

                return GatedModule(self.gate, context)

    `defaults` and `build` must be defined, the rest has defaults. `ptv2 check`, `ptv2 schema`
    and completion read specs without torch: import torch inside `build` alone, and keep
    the module in another file.
    """

    uses_prompt: ClassVar[bool] = True
    """Whether `prompt_len` has a meaning."""
    uses_template: ClassVar[bool] = False
    """Whether prompt vectors stand in a template, where {p:N} stands for N vectors."""
    in_input: ClassVar[bool] = False
    """Whether prompt vectors take up positions of the model's input."""
    gated: ClassVar[bool] = False
    """Whether prompts have a separate softmax (`Prompts.gates`). Families that compute attention
    with code of their own cannot do that."""
    trains: ClassVar[bool] = True
    """Whether a run takes training steps."""
    in_peft: ClassVar[bool] = False
    """Whether the method trains layers of PEFT inside the backbone (`peft_layers.PeftLayers`)."""
    adds: ClassVar[bool] = True
    """Whether the method trains anything besides the head."""
    package: ClassVar[str | None] = None
    """An optional package that the method needs; the extra of ptv2 has the same name."""

    def defaults(self, kind: KindSpec) -> TrainDefaults:
        """Training defaults for a kind of task."""
        raise NotImplementedError

    def suited_to(self, kind: KindSpec, causal: bool) -> MethodSpec:
        """The same method with the defaults of options that depend on task or backbone.

        Args:
            kind: the kind of the task.
            causal: whether the backbone is a causal model.
        """
        return self

    def build(self, context: Context) -> Method:
        """The module that trains.

        Its forward returns the prompts. A method that changes the backbone in place does so here,
        through `context.model`, and sets `changes_backbone`.
        """
        raise NotImplementedError

    @property
    def trains_backbone(self) -> bool:
        """Whether the backbone's weights train."""
        return False

    @property
    def changes_backbone(self) -> bool:
        """Whether the method changes the backbone itself, so that no other run can share it."""
        return self.trains_backbone

    def unshared(self, family: str, shared_tables: bool) -> str | None:
        """Why rows of other runs cannot be in the same forward pass; None: they can.

        Args:
            family: name of the backbone's family.
            shared_tables: whether its layers project a table that all rows share.
        """
        return None

    @property
    def shifts_positions(self) -> bool:
        """Whether the text's absolute positions begin after the prompt."""
        return False

    @property
    def takes_positions(self) -> bool:
        """Whether the prompt takes positions of the backbone, which the text cannot have."""
        return self.in_input or self.shifts_positions

    @property
    def inside_attention(self) -> str | None:
        """How the method changes attention, in words; None: only by prompt keys and values,
        or not at all.

        Families that compute attention with code of their own cannot do that. Runs with different
        values do not share a forward pass.
        """
        return OWN_SOFTMAX if self.gated else None

    @property
    def given_template(self) -> str | None:
        """The template in the config; None: there is none."""
        return None

    @property
    def may_have_mask(self) -> bool:
        """Whether the template may have {mask}; the default one has it if the tokenizer does."""
        given = self.given_template
        return self.uses_template and (given is None or "{mask}" in given)

    @property
    def causal_option(self) -> str | None:
        """The name of an option that is set and needs a causal model; None: there is none."""
        return None

    @property
    def inherited_run(self) -> str | None:
        """The folder of the run whose prompt is the initial value; None: there is none."""
        return None

    @property
    def input_column(self) -> int | None:
        """The token column before which input vectors are inserted; None: there is none."""
        return None

    def problems(self, config: RunConfig, stacks: Mapping[Stack, int]) -> Iterator[tuple[str, str]]:
        """Options that cannot work, each with the reason.

        Args:
            config: the whole config.
            stacks: the model's stacks that get prompts, and their numbers of layers.
        """
        yield from ()

    def misfits(self, model: nn.Module) -> Iterator[tuple[str, str, str]]:
        """Options that do not fit the model's modules: the option, what is wrong, what to do.

        Called only if `changes_backbone`. `model` is built from config.json, without weights.
        """
        yield from ()

    def occupies(self, stacks: Mapping[Stack, int]) -> tuple[str, ...]:
        """The parts of the model that the method trains or uses, in words that messages show.

        Two methods that name the same part cannot be combined.
        """
        if self.in_input:
            return ("vectors among the word embeddings",)
        return (f"layers of {self.package}" if self.package else type(self).__name__,)

    def without_init(self) -> MethodSpec:
        """The same method for a module whose values will be loaded from a checkpoint."""
        return self

    def unprompted_layers(self, stacks: Mapping[Stack, int]) -> int:
        """Number of layers, from the lowest, whose outputs stay the same during training."""
        return 0

    def describe(self, prompt_len: int | None, stacks: Mapping[Stack, int]) -> str:
        """One line on what trains and where."""
        return "no prompts"

    def peft_obstacles(self, layers: int) -> Iterator[tuple[str, str]]:
        """Reasons why PEFT cannot hold the prompt, each with what to do, or "".

        Args:
            layers: number of layers of the model.
        """
        yield "PEFT has no adapter that computes the same", ""
