"""docs/your-data.md: its samples are read, its configs are valid and complete."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from ptv2_cli.cli.app import run
from ptv2_cli.config.load import load_config
from ptv2_cli.runs.resolve.resolved_config import resolve_config
from ptv2_cli.runs.rows.data import read_data

PAGE = (Path(__file__).parents[2] / "docs" / "your-data.md").read_text(encoding="utf-8")
SECTIONS = {text.split("\n")[0]: text for text in PAGE.split("\n## ")[1:] if "```yaml" in text}
FILE = re.compile(r"`([\w.-]+)`\n\n```\w+\n(.*?)```", re.DOTALL)


def test_there_is_a_config_for_each_kind() -> None:
    names = {
        yaml.safe_load(dict(FILE.findall(text))["config.yaml"])["task"]["name"]
        for text in SECTIONS.values()
    }
    assert names == {
        "text/classification",
        "text/regression",
        "text/choice",
        "text/tagging",
        "text/qa",
    }
    assert PAGE.count("```yaml") == len(SECTIONS)


@pytest.mark.parametrize("title", SECTIONS)
def test_section(
    title: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    folder_of: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    files = dict(FILE.findall(SECTIONS[title]))
    assert len(files) == 2
    for name, content in files.items():
        path = Path(name)
        path.write_text(content, encoding="utf-8")
        path.with_name(f"{path.stem}-dev{path.suffix}").write_text(content, encoding="utf-8")
    # The page's backbone is small but real; its tiny stand-in has 40 positions.
    config = yaml.safe_load(files["config.yaml"])
    config["backbone"] = str(folder_of("roberta"))
    config["prompt_len"] = 3
    config["task"]["max_len"] = 30
    Path("small.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    resolved, data = read_data(
        resolve_config(load_config(Path("small.yaml")), offline=True), offline=True
    )
    assert len(data.rows("train")) > 1
    settled = resolved.task.options.model_dump(exclude={"null_threshold", "metrics"})
    assert None not in settled.values()
    assert run(["check", "small.yaml", "--show", "1", "--offline"]) == 0
    assert load_config(Path("config.yaml")).config.prompt_len == 20
    assert capsys.readouterr().out
