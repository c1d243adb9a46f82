"""Configs made whole, and combinations that are refused before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import yaml
from tiny import problems, resolved

from ptv2_cli.errors import BackboneError, InputError


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    tiny.write_rte(root / "rte")
    tiny.write_ner(root / "ner")
    tiny.write_squad(root / "qa", impossible=True)
    return root


@pytest.fixture
def config(folder_of, data, tmp_path) -> Path:
    return tiny.write_config(tmp_path / "run.yaml", folder_of("bert"), data / "rte")


@pytest.mark.parametrize(
    ("option", "what"),
    [("layers=30", "layer 30"), ("layers=last:8", "layer 8"), ("sites=cross", "cross")],
)
def test_an_option_that_the_model_cannot_take_is_told_where_it_was_said(
    option, what, config, tmp_path
) -> None:
    text = problems(config, f"method.{option}")
    name, value = option.split("=")
    assert f"--set method.{name}: " in text
    assert what in text
    content = yaml.safe_load(config.read_text())
    content["method"] = {"name": "ptuning_v2", "dropout": 0.1, name: value}
    config.write_text(yaml.safe_dump(content, sort_keys=False))
    lines = enumerate(config.read_text().splitlines(), 1)
    (line,) = [at for at, text in lines if text.strip().startswith(name)]
    assert f"run.yaml:{line}: " in problems(config)


def test_everything_has_a_value(config) -> None:
    written = resolved(config, "train.lr=null", "train.epochs=null", "task.max_len=null").config
    assert (written.train.lr, written.train.epochs) == (1e-2, 30)
    assert (written.train.warmup, written.train.weight_decay) == (0.0, 0.0)
    assert written.task.max_len == tiny.POSITIONS - 3  # what the prompt leaves of the positions
    assert (written.head.name, written.head.pooling) == ("sequence", "pooler")
    assert (written.selection.split, written.selection.metric) == ("validation", "accuracy")
    assert written.report == ("validation",)


@pytest.mark.parametrize(
    ("method", "lr", "warmup", "decay"),
    [
        ("prompt_tuning", 3e-2, 0.0, 0.0),
        ("ptuning_v1", 1e-3, 0.0, 0.0),
        ("{name: ptuning_v1, train_backbone: true}", 1e-4, 0.0, 0.0),
        ("finetune", 2e-5, 0.06, 0.01),
        ("head_only", 1e-3, 0.0, 0.0),
    ],
)
def test_defaults_by_method(method, lr, warmup, decay, config) -> None:
    train = resolved(config, f"method={method}", "train.lr=null").config.train
    assert (train.lr, train.warmup, train.weight_decay) == (lr, warmup, decay)


@pytest.mark.parametrize(
    ("alias", "name"),
    [("p_tuning_v2", "ptuning_v2"), ("p_tuning", "ptuning_v1"), ("linear_probe", "head_only")],
)
def test_aliases(alias, name, config) -> None:
    assert resolved(config, f"method={alias}").config.method.name == name


def test_a_prompt_method_needs_a_length(folder_of, data, tmp_path) -> None:
    for method in ("ptuning_v2", "prompt_tuning", "ptuning_v1"):
        config = tiny.write_config(
            tmp_path / "x.yaml", folder_of("bert"), data / "rte", method=method, prompt_len=None
        )
        text = problems(config)
        assert f"{method} needs a prompt_len" in text
        assert "x.yaml:1" in text
        assert "--prompt-len 20" in text


@pytest.mark.parametrize("method", ["finetune", "head_only"])
def test_a_method_without_prompt_drops_its_length_with_a_note(method, config) -> None:
    found = resolved(config, f"method={method}")
    assert found.config.prompt_len is None
    assert found.notes == (f"prompt_len 3 is ignored: {method} has no prompt",)


def test_a_revision_of_a_folder_is_ignored_with_a_note(config) -> None:
    found = resolved(config, "backbone.revision=1a2b")
    assert found.notes == ("backbone.revision 1a2b is ignored: the backbone is a folder",)
    assert resolved(config).notes == ()


def test_text_longer_than_the_positions(config) -> None:
    text = problems(config, "task.max_len=41", "method.position_offset=keep")
    assert "--set task.max_len: max_len 41 is longer than the 40 positions of" in text
    assert "at most 40" in text


@pytest.mark.parametrize("method", ["ptuning_v2", "prompt_tuning", "ptuning_v1"])
def test_prompt_and_text_longer_than_the_positions(method, config) -> None:
    sets = ("task.max_len=38", f"method={method}")
    text = problems(config, *sets)
    assert "prompt_len 3 plus 38 tokens of text are more than the 40 positions" in text
    assert "at most 37" in text
    assert ("position_offset: keep" in text) == (method == "ptuning_v2")
    resolved(config, "task.max_len=37", f"method={method}")
    if method == "ptuning_v2":
        resolved(config, *sets, "method.position_offset=keep")


def test_a_prompt_that_leaves_no_text(config) -> None:
    text = problems(config, "prompt_len=39", "task.max_len=null")
    assert "prompt_len 39 plus 8 tokens of text" in text


def test_roberta_has_fewer_positions_than_its_table(folder_of, data, tmp_path) -> None:
    config = tiny.write_config(tmp_path / "r.yaml", folder_of("roberta"), data / "rte")
    resolved(config, "task.max_len=37")
    assert "the 40 positions" in problems(config, "task.max_len=38")


def test_layers_beyond_the_model(config) -> None:
    text = problems(config, "method={name: ptuning_v2, layers: 2-9}")
    assert "layer 9 does not exist: the model has layers 1 to 3" in text


def test_a_head_of_the_wrong_kind(config) -> None:
    text = problems(config, "head=token")
    assert "superglue/rte needs a sequence head, not 'token'" in text


def test_a_metric_that_the_task_lacks(config) -> None:
    text = problems(config, "selection.metric=f1")
    assert "superglue/rte has no metric 'f1'" in text
    assert "accuracy" in text


def test_a_fraction_of_nothing(config) -> None:
    assert "nothing is held out" in problems(config, "selection.fraction=0.2")


def test_several_problems_at_once(config) -> None:
    text = problems(config, "head=span", "selection.metric=bleu", "method={name: ptuning_v2}")
    assert "needs a sequence head" in text
    assert "no metric 'bleu'" in text


def test_unknown_options_of_method_and_task_come_together(config) -> None:
    text = problems(config, "method={name: ptuning_v2, depth: 3}", "task.strides=4")
    assert "depth" in text
    assert "strides" in text


def test_template_and_length_must_agree(config) -> None:
    template = '"{p:2} {premise} {p:2} {hypothesis}"'
    sets = ("method.name=ptuning_v1", f"method.template='{template}'")
    sets = (f"method={{name: ptuning_v1, template: {template}}}",)
    text = problems(config, *sets)
    assert "prompt_len is 3, the template has 4 prompt vectors" in text
    assert resolved(config, *sets, "prompt_len=4").config.prompt_len == 4
    assert resolved(config, *sets, "prompt_len=null").config.prompt_len == 4


@pytest.mark.parametrize("method", ["ptuning_v2", "prompt_tuning"])
def test_pooling_at_a_mask_that_no_input_has(method, config) -> None:
    text = problems(config, f"method={method}", "head.pooling=mask")
    assert "head.pooling" in text
    assert "{mask}" in text


def test_pooling_at_the_mask_of_a_template(config) -> None:
    masked = '{name: ptuning_v1, template: "{p:3} {premise} {hypothesis} {mask}"}'
    bare = '{name: ptuning_v1, template: "{p:3} {premise} {hypothesis}"}'
    resolved(config, f"method={masked}", "head.pooling=mask")
    assert "{mask}" in problems(config, f"method={bare}", "head.pooling=mask")


def test_a_template_with_a_mask_is_read_there(config) -> None:
    masked = '{name: ptuning_v1, template: "{p:3} {premise} {hypothesis} {mask}"}'
    bare = '{name: ptuning_v1, template: "{p:3} {premise} {hypothesis}"}'
    assert resolved(config, f"method={masked}").config.head.pooling == "mask"
    assert resolved(config, "method=ptuning_v1").config.head.pooling == "mask"
    assert resolved(config, f"method={bare}").config.head.pooling == "pooler"
    assert "not mean" in problems(config, f"method={masked}", "head.pooling=mean")


def squad(folder_of, data, tmp_path, **changes) -> Path:
    task = {"name": "qa/squad_v2", "data": str(data / "qa"), "max_len": 24}
    return tiny.write_config(
        tmp_path / "qa.yaml",
        folder_of("bert"),
        data / "qa",
        task={**task, "null_threshold": "tuned"},
        **changes,
    )


def test_a_threshold_is_not_tuned_on_the_reported_split(folder_of, data, tmp_path) -> None:
    config = squad(folder_of, data, tmp_path)
    text = problems(config)
    assert "would be tuned on validation, which is also reported" in text
    assert "selection: {split: holdout}" in text
    found = resolved(config, "selection.split=holdout").config
    assert (found.selection.split, found.selection.fraction) == ("holdout", 0.1)
    assert found.report == ("validation",)
    assert "tuned on holdout" in problems(
        config, "selection.split=holdout", "report=[holdout, validation]"
    )


def test_a_threshold_is_not_tuned_on_a_forced_holdout_either(folder_of, data, tmp_path) -> None:
    """Without a validation file a tenth of train chooses: it is not reported unasked."""
    folder = tmp_path / "qa-data"
    tiny.write_squad(folder, impossible=True)
    (folder / "dev.json").rename(folder / "test.json")
    task = {"name": "qa/squad_v2", "data": str(folder), "max_len": 24, "null_threshold": "tuned"}
    config = tiny.write_config(
        tmp_path / "qa.yaml", folder_of("bert"), folder, task=task, report=["test"]
    )
    resolved_run = tiny.prepared(config, tmp_path)
    assert resolved_run.resolved.config.selection.split == "holdout"
    assert resolved_run.resolved.config.report == ("test",)


def test_a_tuned_threshold_is_carried_to_the_reported_split(folder_of, data, tmp_path) -> None:
    config = squad(folder_of, data, tmp_path, selection={"split": "holdout", "fraction": 0.25})
    _, metrics = tiny.trained(config, tmp_path / "runs", "train.epochs=2")
    assert set(metrics["selection"]["state"]) == {"null_threshold"}
    assert set(metrics["metrics"]) == {"validation"}
    assert metrics["data"]["holdout"]["rows"] == 12
    written = yaml.safe_load(next(tmp_path.glob("runs/*/config.yaml")).read_text())
    assert written["task"]["null_threshold"] == "tuned"


def test_unknown_backbone_and_task_are_named(folder_of, data, tmp_path) -> None:
    config = tiny.write_config(tmp_path / "x.yaml", "no/such/place", data / "rte")
    with pytest.raises(BackboneError, match="no/such/place"):
        resolved(config)
    config = tiny.write_config(
        tmp_path / "y.yaml", folder_of("bert"), data, task={"name": "superglue/rtee"}
    )
    text = problems(config)
    assert "unknown task 'superglue/rtee'" in text
    assert "superglue/rte" in text


def test_offline_lists_all_that_is_missing(tmp_path, monkeypatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    config = tiny.write_config(
        tmp_path / "x.yaml", "owner/none", tmp_path, task={"name": "superglue/rte"}
    )
    with pytest.raises(InputError) as caught:
        tiny.prepared(config, tmp_path)
    text = str(caught.value)
    assert "hf download owner/none" in text
    assert "hf download --repo-type dataset aps/super_glue" in text
    assert len(caught.value.problems) == 2
