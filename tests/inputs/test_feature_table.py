from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ptv2_cli.inputs import feature_table
from ptv2_cli.inputs.encoder import Demonstration, Encoder
from ptv2_cli.inputs.feature_table import FeatureTable
from ptv2_cli.inputs.features import Feature
from ptv2_cli.inputs.table_builder import TableBuilder
from ptv2_cli.inputs.template import parse_template
from ptv2_cli.runs.rows import encoding
from ptv2_cli.tasks.catalog import load_task

BARE = [Feature(0, [5, 6, 7]), Feature(1, [8]), Feature(1, [])]
PARTS = (Feature(0, [5], token_type_ids=[0]), Feature(0, [6, 7], token_type_ids=[0, 1]))
BY_FORM: dict[str, list[Feature]] = {
    "bare": BARE,
    "classes": [replace(one, label=at) for at, one in enumerate(BARE)],
    "some without a class": [Feature(0, [5], label=1), Feature(1, [6])],
    "numbers": [Feature(0, [5], label=0.1), Feature(1, [6], label=-3.5), Feature(2, [7])],
    "tags": [Feature(0, [5, 6], label=[-100, 2], words=[None, 0]), Feature(1, [6], words=[0])],
    "several labels": [Feature(0, [5], label=[1.0, 0.0]), Feature(1, [6], label=[0.0, 0.5])],
    "spans": [
        Feature(0, [5, 6], label=(0, 1), offsets=[None, (3, 9)], cls_at=1),
        Feature(0, [5], offsets=[None], truncated=True),
    ],
    "templated": [
        Feature(0, [0, 5], token_type_ids=[0, 0], slots=[3, -1], mask_at=1, left_out=2),
        Feature(1, [0, 6], token_type_ids=[0, 1], slots=[0, -1], mask_at=0, task=1),
    ],
    "choices": [
        replace(PARTS[1], label=1, choices=PARTS),
        replace(PARTS[0], row=1, choices=tuple(replace(part, row=1) for part in PARTS[:1])),
    ],
}


@pytest.mark.parametrize("form", BY_FORM)
def test_features_come_back_as_they_were(form: str) -> None:
    features = BY_FORM[form]
    table = FeatureTable.of(features)
    assert list(table) == features
    assert repr(list(table)) == repr(features)  # no number of numpy's among them
    assert list(FeatureTable.from_columns(table.columns())) == features
    assert list(table[::-1]) == features[::-1]
    assert [table[-1], table[0]] == [features[-1], features[0]]
    assert table.lengths.tolist() == [len(item.input_ids) for item in features]
    assert table.tokens.tolist() == [item.tokens for item in features]
    with pytest.raises(IndexError):
        table[len(features)]


@pytest.mark.parametrize("form", BY_FORM)
def test_parts_add_up(form: str) -> None:
    features, builder = BY_FORM[form], TableBuilder()
    for feature in features:
        builder.add(FeatureTable.of([replace(feature, row=0)]), feature.row)
    found = builder.build()
    if form == "choices":  # the choices of a question are of its row
        assert [item.choices for item in found] == [item.choices for item in features]
    assert list(found) == features


def test_the_first_parts_may_lack_labels() -> None:
    for form in ("classes", "numbers", "several labels", "spans"):
        labelled = [item for item in BY_FORM[form] if item.label is not None]
        builder = TableBuilder()
        for feature in (replace(labelled[0], label=None), *labelled):
            builder.add(FeatureTable.of([feature]), 0)
        assert [item.label for item in builder.build()] == [None, *(one.label for one in labelled)]


def test_no_table_holds_features_of_two_shapes() -> None:
    typed = Feature(0, [5], token_type_ids=[0])
    with pytest.raises(TypeError, match="token_type_ids"):
        FeatureTable.of([typed, Feature(1, [5])])
    builder = TableBuilder()
    builder.add(FeatureTable.of([typed]), 0)
    with pytest.raises(TypeError, match="some features have types"):
        builder.add(FeatureTable.of([Feature(1, [5])]), 0)
    with pytest.raises(TypeError, match="all numbers, all lists or all pairs"):
        FeatureTable.of([Feature(0, [5], label=1), Feature(1, [5], label=[1])])
    with pytest.raises(OverflowError):
        FeatureTable.of([Feature(0, [2**40])])


TEXTS = ["the cat sat", "who sat ?", "the mat " * 9, "", "Ann  lives in New York ."]


def rows_of(kind: str) -> tuple[Any, list[dict[str, Any]]]:
    """A task and labelled rows, some too long."""
    pairs = [(a, b) for a in TEXTS for b in TEXTS[:3]]
    words = [["the", "cat", "sat"] * 8, ["Ann"], ["New", "York", "."]]
    tagged = {"tokens": words[0], "tags": ["O", "B-PER", "I-PER"] * 8}
    if kind == "token":
        return load_task("ner/conll2003"), [tagged, *({"tokens": one} for one in words)]
    if kind == "roles":
        roles = load_task("srl/conll2005").with_options(labels=("O", "B-A0", "I-A0"))
        return roles, [
            {"tokens": one, "predicate": 0, "tags": ["B-A0"] * len(one)} for one in words
        ]
    if kind == "span":
        asked = [{"context": a, "question": b} for a, b in pairs]
        answered = {"answers": [{"text": "cat", "answer_start": 4}]}
        return load_task("qa/squad"), [asked[1] | answered, *asked]
    if kind == "choice":
        chosen = [{"text": a, "choices": [b, a + " x"], "label": 1} for a, b in pairs]
        return load_task("text/choice"), chosen
    if kind == "cloze":
        query = {"query": "who @placeholder", "entities": ["Ann", "York"], "answers": ["Ann"]}
        return load_task("superglue/record"), [{"passage": a, **query} for a in TEXTS]
    if kind == "regression":
        numbers = load_task("text/regression").with_options(mean=1.0, deviation=2.0)
        return numbers, [{"text": a, "label": at / 3} for at, a in enumerate(TEXTS)]
    return load_task("superglue/rte"), [
        {"premise": a, "hypothesis": b, "label": "entailment"} for a, b in pairs
    ]


KINDS = ("sequence", "choice", "token", "roles", "span", "cloze", "regression")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("templated", [False, True])
def test_rows_tokenized_some_at_a_time_are_those_tokenized_at_once(
    kind: str, templated: bool, wordpiece: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, rows = rows_of(kind)
    text = " ".join(f"{{p:2}} {{{name}}}" for name in task.columns)
    template = parse_template(text, task.columns) if templated else None
    encoder = Encoder(wordpiece, 14, template=template)
    if templated and kind == "sequence":
        shown = {name: str(rows[0][name]) for name in task.columns}
        encoder = encoder.showing([Demonstration(shown, (7,)), Demonstration({"x": "y"}, (8, 9))])
    whole = task.encode(rows, encoder)
    assert any(feature.truncated for feature in whole) or len(whole) > len(rows)
    assert list(FeatureTable.of(list(whole))) == list(whole)
    monkeypatch.setattr(encoding, "AT_ONCE", 2)
    assert list(encoding.encode_rows(task, rows, encoder)) == list(whole)


def test_figures_of_a_table_make_no_features(monkeypatch: pytest.MonkeyPatch) -> None:
    table = FeatureTable.of(
        [
            Feature(0, [5, 6, 5], truncated=True),
            Feature(0, [5], truncated=True),
            Feature(1, [7, 7], left_out=1),
        ]
    )

    def forbidden(*args: Any, **values: Any) -> None:
        raise AssertionError("a feature was made")

    monkeypatch.setattr(feature_table, "Feature", forbidden)
    assert table.lengths.tolist() == [3, 1, 2]
    assert table.count_tokens([5, 9]).tolist() == [2, 1, 0]
    assert (table.truncated_rows, table.lacking_demonstrations) == (1, 1)
    chosen = table.take(np.array([2, 0]))
    assert chosen.ids.values.tolist() == [7, 7, 5, 6, 5]
    monkeypatch.setattr(feature_table, "AT_ONCE", 1)
    assert table.count_tokens([5, 9]).tolist() == [2, 1, 0]
