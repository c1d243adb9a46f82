"""Lists of values: how they are split, typed, joined and refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from ptv2_cli.config.load import load_config, parse_set
from ptv2_cli.errors import ConfigError
from ptv2_cli.sweeps.axes import from_flags, from_section, joined, split_list
from ptv2_cli.sweeps.grid import make_combinations

BASE = "method: ptuning_v2\nbackbone: b\ntask: superglue/rte\nprompt_len: 3\n"


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("20,100", ["20", "100"]),
        ("{train: 10, test: 5},{train: 20}", ["{train: 10, test: 5}", "{train: 20}"]),
        ("[validation],[validation, test]", ["[validation]", "[validation, test]"]),
        ('"1,3,5",last:8', ['"1,3,5"', "last:8"]),
        ("it's,that's", ["it's", "that's"]),
        ('{text: "a, b"} , x', ['{text: "a, b"}', "x"]),
    ],
)
def test_commas_outside_of_brackets_and_quotes(text: str, items: list[str]) -> None:
    assert split_list(text) == items


def test_values_are_typed_as_in_yaml() -> None:
    length, rate, seed, limit, words = from_flags(
        "[20, 100]", "5e-3,1e-2", "11", ["task.limit={train: 10},null", "head.pooling=cls,on"]
    )
    assert length.values == (20, 100)
    assert rate.path == ("train", "lr")
    assert rate.values == (0.005, 0.01)
    assert seed.values == (11,)
    assert limit.values == ({"train": 10}, None)
    assert words.values == ("cls", "on")


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        (("", None, None, []), "prompt_len has an empty list"),
        (("[]", None, None, []), "prompt_len has an empty list"),
        ((None, "1,,2", None, []), "train.lr has an empty value in '1,,2'"),
        ((None, None, None, ["train.clip="]), "train.clip has an empty list"),
        ((None, None, None, ["train.clip"]), "has no = between key and values"),
        ((None, None, None, ["train..clip=1"]), "does not start with a key"),
        ((None, None, None, ["task.limit={train: 1"]), "is not valid YAML"),
        ((None, "1,2", None, ["train.lr=3"]), "train.lr is swept twice, first by --lr"),
        ((None, None, None, ["name=a,b"]), "name cannot change a result"),
    ],
)
def test_bad_flags(flags: tuple[str | None, str | None, str | None, list[str]], what: str) -> None:
    with pytest.raises(ConfigError) as raised:
        from_flags(*flags)
    assert what in str(raised.value)
    assert all(problem.hint for problem in raised.value.problems)


def test_all_bad_flags_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        from_flags("", "1,", None, ["x"])
    assert len(raised.value.problems) == 3


@pytest.mark.parametrize(
    ("section", "what", "hint"),
    [
        ("{lr: []}", "sweep.lr is an empty list", "sweep: {lr: [5e-3, 1e-2]}"),
        ("{lr: 5e-3}", "sweep.lr must be a list, not 5e-3", "sweep: {lr: [5e-3]}"),
        ("{train.lr: [1]}", "unknown key sweep.train.lr", "write sweep: {lr: [1]}"),
        ("{promt_len: [1]}", "unknown key sweep.promt_len", "did you mean prompt_len?"),
        (
            "{train.clip: [1]}",
            "unknown key sweep.train.clip",
            "{grid: {train.clip: [1]}}",
        ),
        ("{grid: {train: {clip: [1]}}}", "must be a list, not a mapping", "train.clip: [A, B]"),
        ("{grid: 5}", "sweep.grid must be a mapping, not 5", "sweep: {grid: {"),
        ("{lr: [1], grid: {train.lr: [2]}}", "train.lr is swept twice", "one list"),
        ("{variant: {a: {}}}", "unknown key sweep.variant", "did you mean variants? write sweep:"),
        ("{variants: [a]}", "sweep.variants must be a mapping of names, not a list", "{plain: {}"),
        ("{variants: {}}", "must be a mapping of names, not an empty one", "{plain: {}"),
        ("{variants: {a: 5}}", "variant a must be a mapping of keys, not 5", "{plain: {}"),
        ("{variants: {a: {train.lr: 1}}, lr: [1]}", "train.lr is swept twice", "one list"),
        ("{variants: {a: {name: x}}}", "name cannot change a result", "leave it out"),
    ],
)
def test_bad_sections(tmp_path: Path, section: str, what: str, hint: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"{BASE}sweep: {section}\n")
    with pytest.raises(ConfigError) as raised:
        from_section(load_config(path))
    (problem,) = raised.value.problems
    assert what in problem.what
    assert hint in problem.hint
    assert problem.where == f"{path}:5"


def test_flags_take_the_place_of_the_sections_lists(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"{BASE}sweep: {{seed: [1, 2], prompt_len: [2, 4], lr: [1e-2]}}\n")
    section = from_section(load_config(path))
    axes = joined(section, from_flags("8", None, None, ["train.clip=1,2"]))
    assert [(axis.key, axis.values) for axis in axes] == [
        ("prompt_len", (8,)),
        ("train.lr", (0.01,)),
        ("train.clip", (1, 2)),
        ("train.seed", (1, 2)),
    ]


def test_relative_paths_are_those_of_the_file_that_says_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    path = tmp_path / "c.yaml"
    path.write_text(f"{BASE}sweep: {{grid: {{task.data: [one, two], backbone: [./m]}}}}\n")
    data, backbone = from_section(load_config(path))
    assert data.values == (str(tmp_path / "one"), str(tmp_path / "two"))
    assert backbone.values == ({"name": str(tmp_path / "m")},)
    said = load_config(path, [parse_set("sweep={grid: {task.data: [one]}}")])
    assert from_section(said)[0].values == (str(tmp_path / "here" / "one"),)


VARIANTS = "{plain: {}, both: {prompt_len: 4, train: {lr: 1e-3}}, data: {task.data: two}}"


def test_a_variant_sets_several_keys(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"{BASE}sweep: {{seed: [1, 2], variants: {VARIANTS}}}\n")
    combinations = make_combinations([path], [], [])
    configs = [combination.loaded.config for combination in combinations]
    assert [combination.values for combination in combinations] == [
        (name, seed) for name in ("plain", "both", "data") for seed in (1, 2)
    ]
    base = load_config(path).config
    assert [config.train.seed for config in configs] == [1, 2] * 3
    assert [config.prompt_len for config in configs[::2]] == [base.prompt_len, 4, base.prompt_len]
    assert [config.train.lr for config in configs[::2]] == [base.train.lr, 1e-3, base.train.lr]
    assert configs[4].model_dump()["task"]["data"] == str(tmp_path / "two")


def test_a_flag_cannot_sweep_what_a_variant_sets(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"{BASE}sweep: {{variants: {VARIANTS}}}\n")
    with pytest.raises(ConfigError, match="prompt_len is swept twice"):
        make_combinations([path], [], from_flags("2,8", None, None, []))


def test_an_unknown_key_of_a_variant_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"{BASE}sweep:\n  variants:\n    plain: {{}}\n    odd: {{promt_len: 4}}\n")
    with pytest.raises(ConfigError) as raised:
        make_combinations([path], [], [])
    (problem,) = raised.value.problems
    assert problem.where == f"{path}:8"
    assert problem.hint == "did you mean prompt_len? write prompt_len: 4"


def test_an_unknown_key_of_a_variant_of_a_flag_names_the_variant(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(BASE)
    swept = parse_set("sweep={variants: {plain: {}, odd: {promt_len: 4}}}")
    with pytest.raises(ConfigError) as raised:
        make_combinations([path], [swept], [])
    (problem,) = raised.value.problems
    assert problem.where == "--set sweep, variant odd"
    assert problem.hint == "did you mean prompt_len? write prompt_len: 4"


@pytest.mark.parametrize(
    ("variant", "hint"),
    [
        ("{train.lr: -1}", "write train.lr: 5e-3"),
        ("{head: {dropout: 2}}", "leave head.dropout out of the variant for its default"),
        ("{train: {lrr: 1e-3}}", "did you mean train.lr? write train.lr: 1e-3"),
    ],
)
def test_the_hint_for_a_variant_is_written_as_a_variant(
    variant: str, hint: str, tmp_path: Path
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(BASE)
    with pytest.raises(ConfigError) as raised:
        make_combinations([path], [parse_set(f"sweep={{variants: {{odd: {variant}}}}}")], [])
    assert [problem.hint for problem in raised.value.problems] == [hint]
