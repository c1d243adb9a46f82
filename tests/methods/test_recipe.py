"""Options that a config does not say: those of the paper, or our defaults."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import lm
import pytest
import tiny

from ptv2_cli.config.fingerprint import fingerprint
from ptv2_cli.config.load import load_config
from ptv2_cli.kinds import kind_spec
from ptv2_cli.methods import ptuning_v2
from ptv2_cli.methods.ptuning_v2 import DEFAULTS, PAPER, PTuningV2
from ptv2_cli.methods.several import Combined

MOVED = {"init": "chunks", "position_offset": "keep", "key_lr_factor": 0.3, "dropout": "off"}
WORDS = {"right": "true", "wrong": "false"}
CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Defaults that have nothing of the paper's."""
    monkeypatch.setattr(ptuning_v2, "DEFAULTS", {**DEFAULTS, **MOVED})
    monkeypatch.setattr(ptuning_v2, "HEAD_RATES", {"sequence": 2e-3})


def options(**given: Any) -> dict[str, Any]:
    return PTuningV2.model_validate(given).model_dump()


def test_the_paper_is_what_it_was() -> None:
    assert PAPER == {
        "init": "normal",
        "dropout": None,
        "position_offset": "shift",
        "softmax": "shared",
        "gates": "none",
        "key_lr_factor": 1.0,
    }


def test_one_table_holds_the_defaults(moved) -> None:
    said = options()
    assert {name: said[name] for name in MOVED} == MOVED
    assert {name: options(recipe=None)[name] for name in MOVED} == MOVED


@pytest.mark.parametrize(
    ("kind", "given", "init", "dropout"),
    [
        ("token", {}, "matched", "off"),
        ("token", {"init": None}, "matched", "off"),
        ("token", {"init": "vocab"}, "vocab", "off"),
        ("token", {"dropout": None}, "matched", None),
        ("token", {"dropout": 0.3}, "matched", 0.3),
        ("token", {"recipe": "paper"}, "normal", None),
        ("token", {"reparam": "mlp"}, "normal", "off"),
        ("token", {"reparam": "residual"}, "matched", "off"),
        ("sequence", {}, "normal", None),
        ("sequence", {"dropout": "off"}, "normal", "off"),
        ("span", {}, "normal", None),
    ],
)
def test_what_a_kind_of_task_has_by_default(
    kind: str, given: dict[str, Any], init: str, dropout: float | str | None
) -> None:
    method = PTuningV2.model_validate(given)
    assert list(method.problems(None, {"self": 3})) == []
    chosen = method.suited_to(kind_spec(kind), causal=False)
    assert (chosen.init, chosen.dropout) == (init, dropout)
    for causal in (False, True):
        again = PTuningV2.model_validate(chosen.model_dump()).suited_to(kind_spec("token"), causal)
        assert again.model_dump() == chosen.model_dump()
    both = Combined(of=[{"name": "ptuning_v2", **given}, "bitfit"])
    together = both.suited_to(kind_spec(kind), causal=False)
    assert (together.of[0]["init"], together.of[0]["dropout"]) == (init, dropout)


@pytest.mark.parametrize(
    ("kind", "given", "init", "dropout"),
    [
        ("sequence", {}, "vocab", None),
        ("sequence", {"init": None}, "vocab", None),
        ("sequence", {"init": "normal"}, "normal", None),
        ("sequence", {"recipe": "paper"}, "normal", None),
        ("sequence", {"reparam": "mlp"}, "normal", None),
        ("generation", {}, "vocab", None),
        ("token", {}, "vocab", "off"),
    ],
)
def test_what_a_causal_model_has_by_default(
    kind: str, given: dict[str, Any], init: str, dropout: str | None
) -> None:
    chosen = PTuningV2.model_validate(given).suited_to(kind_spec(kind), causal=True)
    assert (chosen.init, chosen.dropout) == (init, dropout)


def test_the_backbone_decides(folder_of, tmp_path) -> None:
    """A decoder's prompt begins at words, an encoder's as published."""
    rte = tiny.write_rte(tmp_path / "rte", train=8, validation=4)
    for family, init in (("llama", "vocab"), ("bert", "normal"), ("t5", "normal")):
        config = tiny.write_config(tmp_path / f"{family}.yaml", folder_of(family), rte)
        assert tiny.resolved(config).config.method.options["init"] == init


def test_tagging_by_default(folder_of, tmp_path) -> None:
    config = tiny.write_config(
        tmp_path / "c.yaml",
        folder_of("bert"),
        tiny.write_ner(tmp_path / "ner"),
        task={"name": "ner/conll2003", "data": str(tmp_path / "ner")},
        train={"epochs": 1},
    )
    resolved = tiny.resolved(config)
    assert resolved.config.method.options["init"] == "matched"
    assert resolved.config.method.options["dropout"] == "off"
    assert resolved.config.head.lr == 5e-3
    assert resolved.config.train.lr == 6e-2
    said = ["method.init=matched", "method.dropout=off", "head.lr=5e-3", "train.lr=6e-2"]
    marks = [tiny.prepared(config, tmp_path / "runs", sets).fingerprint for sets in ([], said)]
    assert marks[0] == marks[1]
    published = tiny.resolved(config, "method.recipe=paper")
    assert published.config.method.options["init"] == "normal"
    assert published.config.method.options["dropout"] is None
    drops = tiny.resolved(config, "method.dropout=null").config.method.options
    assert (drops["init"], drops["dropout"]) == ("matched", None)
    assert published.config.head.lr is None
    assert published.config.train.lr == 3e-2
    assert tiny.resolved(config, "method.reparam=mlp").config.train.lr == 2e-3
    published = tiny.resolved(config, "method.reparam=mlp", "method.recipe=paper")
    assert published.config.train.lr == 3e-2


@pytest.mark.parametrize(
    ("kind", "prompt", "network", "published"),
    [
        ("sequence", 1e-2, 3e-3, 1e-2),
        ("regression", 1e-2, 3e-3, 1e-2),
        ("choice", 9e-3, 3e-3, 9e-3),
        ("token", 6e-2, 2e-3, 3e-2),
        ("span", 5e-3, 1e-3, 5e-3),
    ],
)
def test_the_rate_by_default(kind: str, prompt: float, network: float, published: float) -> None:
    """At a prompt's rate a network learns nothing."""
    given = ({}, {"reparam": "mlp"}, {"reparam": "mlp", "recipe": "paper"})
    found = [PTuningV2.model_validate(each).defaults(kind_spec(kind)).lr for each in given]
    assert found == [prompt, network, published]


def test_a_recipe_keeps_what_is_given(moved) -> None:
    published = options(recipe="paper")
    assert {name: published[name] for name in PAPER} == PAPER
    assert "recipe" not in published
    mixed = options(recipe="paper", init="vocab", dropout=0.3)
    assert mixed == {**published, "init": "vocab", "dropout": 0.3}


def test_a_network_keeps_what_fits_it(moved) -> None:
    for reparam in ("mlp", "residual"):
        method = PTuningV2(reparam=reparam)
        assert list(method.problems(None, {"self": 3})) == []
        assert method.position_offset == "keep"
    assert PTuningV2(reparam="residual").init == "chunks"


def test_the_heads_rate(moved, folder_of, tmp_path) -> None:
    data = tiny.write_rte(tmp_path / "rte")
    config = tiny.write_config(tmp_path / "c.yaml", folder_of("bert"), data)

    def rate(*sets: str) -> float | None:
        return tiny.resolved(config, *sets).config.head.lr

    assert rate() == 2e-3
    assert rate("head.pooling=mean") == 2e-3
    assert rate("head.lr=1e-3") == 1e-3
    assert rate("head.lr=null") is None
    assert rate("method.recipe=paper") is None
    assert rate("method=finetune") is None
    session = tiny.opened(config, tmp_path / "runs")
    own = {
        parameter: group["lr"]
        for group in session.new_lane().optimizer.param_groups
        for parameter in group["params"]
    }
    assert {own[parameter] for parameter in session.learner.own_parameters("head")} == {2e-3}


def test_a_head_that_is_the_models_own_has_no_rate_by_default(moved, tmp_path) -> None:
    rows = lm.write_rows(tmp_path / "rows")
    config = tiny.write_config(
        tmp_path / "c.yaml",
        lm.save_masked(tmp_path / "model"),
        rows,
        head={"name": "verbalizer", "template": lm.TEMPLATE, "words": WORDS},
        task={"name": "text/classification", "data": str(rows), "max_len": 32},
    )
    for train in ("false", "true"):
        assert tiny.resolved(config, f"head.train={train}").config.head.lr is None


def test_a_run_of_before_is_what_it_was(moved, folder_of, tmp_path) -> None:
    """The config in its folder says everything, also a head at train.lr."""
    data = tiny.write_rte(tmp_path / "rte")
    short = tiny.write_config(
        tmp_path / "short.yaml",
        folder_of("bert"),
        data,
        method={"name": "ptuning_v2", "recipe": "paper"},
    )
    session, metrics = tiny.trained(short, tmp_path / "runs")
    whole = session.resolved_run.directory.config
    assert "recipe" not in whole.read_text()
    again = tiny.prepared(whole, tmp_path / "runs")
    assert again.fingerprint == metrics["fingerprint"]
    assert again.resolved.config == session.resolved.config


def test_the_same_run_by_either_way_of_saying_it(folder_of, tmp_path) -> None:
    data = tiny.write_rte(tmp_path / "rte")
    config = tiny.write_config(tmp_path / "c.yaml", folder_of("bert"), data)
    one, two = (
        tiny.prepared(config, tmp_path / "runs", sets).fingerprint
        for sets in (["method.recipe=paper"], [f"method.{k}={v}" for k, v in PAPER.items() if v])
    )
    assert one == two


def test_a_head_rate_for_each_kind_that_has_one(moved) -> None:
    assert PTuningV2().defaults(kind_spec("sequence")).head_lr == 2e-3
    assert PTuningV2().defaults(kind_spec("token")).head_lr is None
    assert PTuningV2(recipe="paper").defaults(kind_spec("sequence")).head_lr is None


def test_configs_that_quote_a_published_score_have_the_papers_options() -> None:
    quoting = [
        path
        for path in CONFIGS
        if re.search("Reference repository|unchecked transcription", path.read_text())
    ]
    assert len(quoting) >= 19
    for path in quoting:
        assert load_config(path).config.method.options["recipe"] == "paper", path.name


def test_runs_from_before_the_options_keep_their_fingerprint() -> None:
    said = options(recipe="paper")
    before = {k: v for k, v in said.items() if k not in {"key_lr_factor", "freeze_first"}}
    one, two, other = (
        fingerprint({"method": {"name": "ptuning_v2", **method}}, {})
        for method in (said, before, {**said, "key_lr_factor": 0.5})
    )
    assert one == two != other
