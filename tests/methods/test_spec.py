"""What a method says of itself, and a method that is not of the package."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest
import tiny
from pydantic import Field

from ptv2_cli.config.fields import Count
from ptv2_cli.kinds import kind_spec
from ptv2_cli.methods.spec import MethodSpec, TrainDefaults
from ptv2_cli.registry import METHODS, Source, registering

SOURCE = Source("/home/ann/scaled.py", sha256="12ab")


class Scaled(MethodSpec):
    """Trains vectors beside the word embeddings, scaled."""

    in_input: ClassVar[bool] = True
    scale: Count = Field(2, description="what the vectors are multiplied by")

    def defaults(self, kind):
        return TrainDefaults(lr=0.5, epochs=kind.epochs)

    def problems(self, config, stacks):
        if config.train.batch_size < self.scale:
            yield "scale", "is larger than train.batch_size"

    def describe(self, prompt_len, stacks):
        return f"{prompt_len} scaled vectors"

    def build(self, context):
        import torch

        from ptv2_cli.backbones.sites import InputVectors, Prompts
        from ptv2_cli.methods.base import Method

        class Module(Method):
            def __init__(self, scale):
                super().__init__()
                self.scale = scale
                table = context.word_embeddings[: context.prompt_len]
                self.prompt = torch.nn.Parameter(table.clone())

            def forward(self):
                return Prompts(inputs=InputVectors(self.scale * self.prompt, 1))

        return Module(self.scale)


@pytest.fixture
def scaled() -> Iterator[None]:
    with registering(SOURCE):
        METHODS.add("scaled", Scaled)
    yield
    del METHODS._entries["scaled"], METHODS._sources["scaled"]


@pytest.fixture
def config(folder_of, tmp_path):
    data = tiny.write_rte(tmp_path / "rte")
    fields = {
        "method": {"name": "scaled", "scale": 3},
        "prompt_len": 4,
        "train": {"batch_size": 4, "seed": 11},
    }
    return tiny.write_config(tmp_path / "c.yaml", folder_of("bert"), data, **fields)


PLUS = "prefix_tuning_plus"


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("ptuning_v2", {}, (False, True, False)),
        ("ptuning_v2", {"position_offset": "keep"}, (False, False, False)),
        (PLUS, {}, (False, False, False)),
        ("prompt_tuning", {}, (False, True, False)),
        ("ptuning_v1", {}, (False, True, True)),
        ("ptuning_v1", {"template": "{p:2} {premise}"}, (False, True, False)),
        ("ptuning_v1", {"train_backbone": True}, (True, True, True)),
        ("finetune", {}, (True, False, False)),
        ("head_only", {}, (False, False, False)),
        ("none", {}, (False, False, False)),
    ],
)
def test_what_each_method_says(name, options, says) -> None:
    spec = METHODS.load(name).model_validate(options)
    assert (spec.trains_backbone, spec.takes_positions, spec.may_have_mask) == says
    assert spec.changes_backbone == spec.trains_backbone
    assert spec.trains == (name != "none")
    assert spec.uses_prompt == (name not in {"finetune", "head_only", "none", PLUS})
    shorthands = {"recipe"} if name == "ptuning_v2" else set()
    assert spec.model_dump().keys() == type(spec).model_fields.keys() - shorthands


def test_the_run_that_a_prompt_begins_with() -> None:
    method = METHODS.load("ptuning_v2")
    assert method(init={"run": "runs/a"}).inherited_run == "runs/a"
    assert method(init={"run": "runs/a"}).without_init().inherited_run is None
    assert method(init={"text": "a b"}).inherited_run is None
    assert METHODS.load("prompt_tuning")(init="vocab").inherited_run is None


def test_a_method_from_outside_fills_in_its_defaults(scaled, config) -> None:
    resolved = tiny.resolved(config)
    assert resolved.config.train.lr == 0.5
    assert resolved.config.train.epochs == kind_spec("sequence").epochs
    assert resolved.config.model_dump()["method"] == {"name": "scaled", "scale": 3}
    assert resolved.prompt_sites == "4 scaled vectors"
    assert resolved.shape.positions - resolved.room == 4
    assert METHODS.source("scaled") == SOURCE


def test_its_checks_and_options_are_reported_at_their_line(scaled, config) -> None:
    for change, said in (
        ("method.scale=99", "--set method.scale: is larger than train.batch_size"),
        ("method.scales=2", "did you mean method.scale?"),
        ("method.scale=0", "must be 1 or more"),
    ):
        assert said in tiny.problems(config, change)


def test_its_module_gives_the_prompts(scaled, backbone_of) -> None:
    method = tiny.make_method(backbone_of("bert"), "scaled", 3, scale=2)
    vectors = method().inputs.vectors
    assert vectors.shape == (3, 32)
    assert vectors.equal(2 * method.prompt)
