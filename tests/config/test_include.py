"""Files that a config includes: which may run, what they add, and how they fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ptv2_cli import plugins
from ptv2_cli.config.load import LoadedConfig, load_config
from ptv2_cli.config.overrides import parse_include, parse_set
from ptv2_cli.errors import ConfigError
from ptv2_cli.registry import TRACKERS

CONFIG = "method: ptuning_v2\nbackbone: b\ntask: superglue/rte\nprompt_len: 4\n"
ADDS = "from ptv2_cli.registry import TRACKERS\nTRACKERS.add({name!r}, {value!r})\n"


@pytest.fixture(autouse=True)
def trackers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The registry as it was, whatever a test adds to it."""
    monkeypatch.setattr(TRACKERS, "_entries", {})
    monkeypatch.setattr(TRACKERS, "_sources", {})
    monkeypatch.setattr(plugins, "_ADDED", {})
    return


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def included(folder: Path, names: str = "[mine.py]") -> LoadedConfig:
    return load_config(write(folder / "config.yaml", f"{CONFIG}include: {names}\n"))


def refused(folder: Path, names: str = "[mine.py]") -> str:
    with pytest.raises(ConfigError) as caught:
        included(folder, names)
    return str(caught.value)


@pytest.mark.parametrize("names", ["mine.py", "[mine.py]", "[./mine.py]"])
def test_a_file_below_the_config_runs(tmp_path: Path, names: str) -> None:
    write(tmp_path / "mine.py", ADDS.format(name="mine", value=[1]))
    loaded = included(tmp_path, names)
    assert TRACKERS.load("mine") == [1]
    assert TRACKERS.source("mine") == loaded.included[0]
    assert (loaded.included[0].name, len(loaded.included[0].sha256)) == ("mine.py", 64)
    assert loaded.config.include == (str(tmp_path / "mine.py"),)


def test_a_file_elsewhere_does_not_run_unless_the_command_line_names_it(tmp_path: Path) -> None:
    outside = write(tmp_path / "mine.py", "raise SystemExit")
    text = refused(tmp_path / "taken", "[../mine.py]")
    assert f"{tmp_path / 'taken' / 'config.yaml'}:5: include names {outside}" in text
    assert f"--include {outside}" in text
    (tmp_path / "taken" / "link.py").symlink_to(outside)
    assert "not below the config's folder" in refused(tmp_path / "taken", "[link.py]")
    write(outside, ADDS.format(name="mine", value=[1]))
    config = write(tmp_path / "other" / "config.yaml", CONFIG)
    for override in (parse_include(outside), parse_set(f"include=[{outside}]")):
        assert [source.name for source in load_config(config, [override]).included] == ["mine.py"]


def test_the_flag_adds_to_the_file(tmp_path: Path) -> None:
    write(tmp_path / "mine.py", ADDS.format(name="mine", value=[1]))
    other = write(tmp_path / "elsewhere" / "more.py", ADDS.format(name="more", value=[2]))
    config = write(tmp_path / "config.yaml", f"{CONFIG}include: mine.py\n")
    load_config(config, [parse_include(other)])
    assert TRACKERS.names() == ["mine", "more"]


def test_what_extends_includes_files_of_its_own_folder(tmp_path: Path) -> None:
    write(tmp_path / "base" / "mine.py", ADDS.format(name="mine", value=[1]))
    write(tmp_path / "base" / "base.yaml", f"{CONFIG}include: mine.py\n")
    load_config(write(tmp_path / "child" / "config.yaml", "extends: ../base/base.yaml\n"))
    assert TRACKERS.names() == ["mine"]


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("x = 1\nboom()\n", "mine.py:2: the included file fails: NameError"),
        ("def f(:\n", "mine.py:1: the included file fails: SyntaxError"),
        ("import no_such_module", "mine.py:1: the included file fails: ModuleNotFoundError"),
        ("raise SystemExit(3)", "mine.py:1: the included file fails: SystemExit: 3"),
        (None, "mine.py: cannot be included: No such file"),
    ],
)
def test_a_file_that_fails_is_named_with_its_line(
    tmp_path: Path, code: str | None, says: str
) -> None:
    if code is not None:
        write(tmp_path / "mine.py", code)
    assert says in refused(tmp_path)


def test_an_edited_file_replaces_what_it_added_and_an_older_copy_comes_back(tmp_path: Path) -> None:
    for value in ([1], [2], [1]):
        write(tmp_path / "mine.py", ADDS.format(name="mine", value=value))
        included(tmp_path)
        assert TRACKERS.load("mine") == value


def test_a_name_that_another_file_has_is_refused_by_both_names(tmp_path: Path) -> None:
    write(tmp_path / "mine.py", ADDS.format(name="mine", value=[1]))
    write(tmp_path / "other.py", ADDS.format(name="mine", value=[2]))
    text = refused(tmp_path, "[mine.py, other.py]")
    assert "tracker 'mine' is defined twice: by mine.py and by other.py" in text


def test_a_value_of_another_type_is_reported_with_the_rest(tmp_path: Path) -> None:
    text = refused(tmp_path, "{a: 1}")
    assert "config.yaml:5: include" in text
