"""What messages tell to type can be typed, and says what holds."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from commandline import Material, Ptv2, Refused

from ptv2_cli.cli.options import without


@pytest.fixture
def config(material: Material) -> Path:
    return material.write(Path("config.yaml"))


def commands(text: str) -> list[list[str]]:
    """The commands below `next:`."""
    return [shlex.split(line) for line in text.partition("next:\n")[2].splitlines()]


def test_early_stopping_names_its_patience(material: Material, ptv2: Ptv2) -> None:
    train = {"epochs": 9, "lr": 1e-9, "batch_size": 4, "early_stopping": {"patience": 2}}
    material.write(Path("config.yaml"), train=train)
    result = ptv2("train")
    assert result.code == 0
    assert "stopped early: no better score in the last 2 evaluations\n" in result.err


# Hints


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--prompt-len", "0,20"], "type --set method=head_only; head_only is the run without"),
        (["--prompt-len", "20-100"], "commas between them: ptv2 sweep --prompt-len 20,100\n"),
        (["--seed", "11-13"], "commas between them: ptv2 sweep --seed 11,12,13\n"),
        (["--seed", "1..9000"], "commas between them: ptv2 sweep --seed 1,9000\n"),
        (["--grid", "train.epochs=2:4"], "commas between them: ptv2 sweep --epochs 2,4\n"),
        (["--batch-size", "x"], "for its default"),
    ],
)
def test_a_sweep(config: Path, refused: Refused, words: list[str], hint: str) -> None:
    refused("sweep", *words, says=[hint])


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--prompt-len", "20-100"], "ptv2 sweep --prompt-len 20,100\n"),
        (["--prompt-len", "20,100"], "ptv2 sweep --prompt-len 20,100\n"),
        (["--lr", "1e-3, 5e-3"], "ptv2 sweep --lr 1e-3,5e-3\n"),
        (["--epochs", "[1, 2]"], "ptv2 sweep --epochs A,B\n"),
        (["--batch-size", "8 16"], "ptv2 sweep --batch-size 8,16\n"),
    ],
)
@pytest.mark.parametrize("command", ["train", "check"])
def test_several_values_for_one_run(
    config: Path, refused: Refused, command: str, words: list[str], hint: str
) -> None:
    refused(command, *words, says=[hint])


@pytest.mark.parametrize(
    ("max_len", "prompt_len", "hint"),
    [
        (38, 3, "use a max_len of at most 37 or a shorter prompt"),
        (90, 3, "use a max_len of at most 37\n"),
        (None, 60, "use a prompt_len of at most 32, and leave max_len out"),
        (24, 39, "use a prompt_len of at most 32, and leave max_len out"),
        (90, 60, "use a prompt_len of at most 32, and leave max_len out"),
    ],
)
def test_what_fits(
    material: Material, refused: Refused, max_len: int | None, prompt_len: int, hint: str
) -> None:
    task = material.task(max_len=max_len)
    if max_len is None:
        del task["max_len"]
    material.write(Path("config.yaml"), task=task, prompt_len=prompt_len)
    result = refused("check", says=[hint])
    assert "at most 0" not in result.err


@pytest.mark.parametrize(
    ("max_len", "told"),
    [
        (8, "are cut at max_len 8; raise task.max_len to keep their text"),
        (10, "are cut at max_len 10, the most that fits; a backbone with more positions keeps"),
    ],
)
def test_a_length_at_its_maximum_is_not_to_be_raised(
    material: Material, ptv2: Ptv2, max_len: int, told: str
) -> None:
    material.write(Path("config.yaml"), task=material.task(max_len=max_len), prompt_len=30)
    result = ptv2("check")
    assert result.code == 0
    assert told in result.err


def test_usage_errors_are_errors_like_all_others(ptv2: Ptv2) -> None:
    for words in (["list", "nonsense"], ["list"], ["check", "--show", "x"], ["nonsense"], ["-x"]):
        result = ptv2(*words)
        assert result.code == 2
        assert result.err.startswith("error: ")
        assert result.err.endswith("-h shows its usage\n")
        assert len(result.err.splitlines()) == 2
        assert "Value error" not in result.err


def test_a_default_is_told_once(ptv2: Ptv2) -> None:
    text = ptv2("list", "methods").out
    assert "default: all\n" in text
    assert [line for line in text.splitlines() if line.count("default:") > 1] == []


# What comes next


def test_the_next_commands_say_each_key_once(config: Path, ptv2: Ptv2) -> None:
    first = ptv2("train", "--set", "method.layers=last:2", "--set", "train.lr=0.05", "--lr",
                 "0.04", "--prompt-len", "3", "--offline", "--epochs", "1", "--unset",
                 "train.steps")  # fmt: skip
    assert first.code == 0, first.err
    again, baseline, longer = commands(first.err)
    assert again[-1] == "--offline"
    assert " ".join(baseline) == (
        "ptv2 train config.yaml --unset train.steps --epochs 1 --offline --set method=head_only "
        "--unset train.lr"
    )
    assert " ".join(longer).count("--prompt-len") == 1
    for command in (again, baseline, longer):
        result = ptv2(*command[1:])
        assert result.code == 0, result.err


def test_words_of_a_command() -> None:
    command = shlex.split("ptv2 train c.yaml --set method=x --set method.a=1 --set methods=2 "
                          "--unset train.lr --lr 3 --seed 4 --offline --output o")  # fmt: skip
    kept = "ptv2 train c.yaml --set methods=2 --seed 4 --offline --output o"
    assert without(command, "method", "train.lr") == kept.split()
    assert without(command) == command


def test_the_best_of_a_sweep_is_trained_as_the_sweep_was(config: Path, ptv2: Ptv2) -> None:
    result = ptv2("sweep", "--prompt-len", "2,3", "--offline", "--output", "my runs")
    assert result.code == 0, result.err
    (command,) = commands(result.err)
    assert command[-1] == "--offline"
    assert ptv2(*command[1:]).code == 0
    (best,) = Path("my runs/sweeps").glob("*/best.yaml")
    first = best.read_text().splitlines()[0]
    assert shlex.split(first.removeprefix("# "))[2] == str(best)


# Shortcuts


def test_epochs_and_batch_size(config: Path, ptv2: Ptv2) -> None:
    given = ["--epochs", "7", "--batch-size", "5", "--unset", "train.steps"]
    result = ptv2("check", *given)
    assert result.code == 0, result.err
    assert "7 epochs" in result.out
    assert "batches of 5" in result.out


def test_epochs_and_batch_size_of_a_sweep(config: Path, ptv2: Ptv2) -> None:
    result = ptv2("sweep", "--epochs", "1,2", "--batch-size", "4,8", "--unset", "train.steps",
                  "--dry-run")  # fmt: skip
    assert result.code == 0, result.err
    assert "4 trials" in result.out
    assert "train.epochs 1, train.batch_size 4, seed 11" in result.out
