from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from ptv2_cli.errors import ConfigError
from ptv2_cli.inputs.batch import collate
from ptv2_cli.inputs.features import Feature
from ptv2_cli.kinds import KINDS, KindSpec, kind_spec, register_kind
from ptv2_cli.registry import BUILT_IN, HEADS, METHODS, Registry, Source, registering

MINE = Source("/home/ann/mine.py", sha256="12ab")


@pytest.fixture
def colours() -> Registry:
    return Registry("colour", {"red": "math:pi", "blue": 7}, {"rouge": "red"})


@pytest.fixture
def multi_label() -> Iterator[KindSpec]:
    spec = KindSpec(
        "multi_label",
        answer="labels",
        answer_key="labels",
        pooled=True,
        epochs=5,
        blank=math.nan,
        dtype="float32",
        rates_of="sequence",
    )
    with registering(MINE):
        register_kind(spec)
    yield spec
    del KINDS._entries["multi_label"], KINDS._sources["multi_label"]


def test_entries_are_objects_or_are_imported_on_first_use(colours: Registry) -> None:
    assert colours.load("rouge") == math.pi
    assert colours.load("blue") == 7
    colours.add("green", "math:tau")
    assert colours.load("green") == math.tau
    assert colours.names() == ["red", "blue", "green"]


def test_an_entry_keeps_its_source(colours: Registry) -> None:
    with registering(MINE):
        colours.add("green", 8)
    colours.add("grey", 9)
    assert colours.source("green") == MINE
    assert colours.source("rouge") == BUILT_IN
    assert colours.source("grey").name == "the running Python session"
    assert colours.source("red").identity.startswith("ptv2 ")
    moved = Source("/elsewhere/mine.py", sha256="12ab")
    assert moved.identity == MINE.identity == "sha256:12ab"


def test_a_clash_of_names_names_both_sources(colours: Registry) -> None:
    package = Source("colours-of-ann", "1.2")
    for name in ("red", "rouge"):
        with registering(package), pytest.raises(ConfigError) as error:
            colours.add(name, 1)
        (problem,) = error.value.problems
        assert problem.what == (
            f"colour {name!r} is defined twice: by {BUILT_IN} and by colours-of-ann 1.2"
        )
    with registering(MINE):
        colours.add("green", 1)
        colours.add("green", 1)
        with pytest.raises(ConfigError, match="twice"):
            colours.add("green", 2)


def test_an_edited_file_replaces_its_own_entry(colours: Registry) -> None:
    with registering(MINE):
        colours.add("green", 1)
    with registering(Source(MINE.name, sha256="34cd")):
        colours.add("green", 2)
    assert colours.load("green") == 2
    assert colours.source("green").sha256 == "34cd"


def test_an_unknown_name_gets_the_nearest(colours: Registry) -> None:
    with pytest.raises(ConfigError) as error:
        colours.canonical("roug", "config.yaml:2")
    (problem,) = error.value.problems
    assert str(problem).splitlines() == [
        "config.yaml:2: unknown colour 'roug'",
        "  -> did you mean 'rouge'? the colours are red, blue",
    ]


def test_every_kind_has_a_head_and_learning_rates() -> None:
    for name in KINDS.names():
        spec = kind_spec(name)
        assert spec.name == name
        assert spec.head_name in HEADS.names()
        for method in METHODS.names():
            options = {"of": ["ptuning_v2", "bitfit"]} if method == "combined" else {}
            rate = METHODS.load(method).model_validate(options).defaults(spec).lr
            assert rate or method == "none"


def test_a_kind_from_outside_says_how_its_labels_stand_in_a_batch(multi_label: KindSpec) -> None:
    assert not multi_label.classed
    assert KINDS.source("multi_label") == MINE
    features = [Feature(0, [5, 6], label=[1.0, 0.0]), Feature(1, [5])]
    batch = collate(features, 0, "multi_label")
    assert batch.labels is not None
    assert batch.labels[0].tolist() == [1.0, 0.0]
    assert batch.labels[1].isnan().tolist() == [True, True]
    assert batch.targets == 1


def test_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(ConfigError, match="unknown kind 'multi_labels'"):
        kind_spec("multi_labels")
