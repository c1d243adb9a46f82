"""Configs of any content: read, or refused with a message."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from commanding import Commands, examples
from hypothesis import given
from hypothesis import strategies as st
from odd import ODD, spliced, spoilt

from ptv2_cli.config.load import load_config, parse_set, parse_unset
from ptv2_cli.errors import InputError
from ptv2_cli.registry import HEADS, METHODS
from ptv2_cli.tasks.catalog import task_names

TEXTS = [
    path.read_text(encoding="utf-8")
    for path in sorted(Path(__file__, "../../../configs").resolve().glob("*.yaml"))
]
TOKENS = (
    *("\x00", "\x07", "\x1b", "\x7f", "\x85", "\ufeff", "\u2028", "\ufffe", "\U0010ffff", "\t"),
    *("\r", "\n", "\n\n", "\n---\n", "\n...\n", "%YAML 1.1\n---\n", " ", ": ", ":", "- ", "? "),
    *("&a ", "*a", "<<: *a\n", "<<: [*a, *a]\n", "!!int ", "!!float ", "!!binary ", "!!null "),
    *("!!set ", "!!omap ", "!!timestamp ", "!!python/name:os.system ", "!x ", "! ", "#", "@", "`"),
    *("|\n", ">-\n", "|9\n", "[", "]", "{", "}", ",", '"', "'", '"\\U00110000"', '"\\ud800"'),
    *('"\\x07"', '"\\0"', '"\\q"', "1e999", "-.inf", ".nan", "0x", "0o9", "9" * 400, "9" * 5000),
    *("[" * 60, "{a: " * 60, "[" * 2000, "- " * 500, "null", "~", "2024-01-01", "1:8", "=", "<<"),
    *("日本語", "\U0001f600", "x" * 5000, "sweep: {lanes: auto}\n", "extends: .\n", "task: \n"),
)
KEYS = (
    *("method", "backbone", "task", "tasks", "prompt_len", "head", "train", "selection", "report"),
    *("sweep", "track", "extends", "name", "include", "limit", "sample", "seed", "init", "run"),
    *("text", "layers", "reparam", "template", "data", "validation", "test", "max_len", "labels"),
    *("words", "early_stopping", "patience", "lanes", "dropout", "dtype", "", "a.b", "<<", "\x07"),
    *("null", "0", "x" * 5000, "learning_rate", "demonstrations", "mixing", "metric", "[red]"),
)
CHOICES: dict[str, tuple[Any, ...]] = {
    "method.name": tuple(METHODS.spellings()),
    "method.layers": ("1-2", "last:2", "first:9", "2,3", "9-1", "0", "1-", [1, 2], 2),
    "method.sites": ("all", "self", "cross", "encoder", 1),
    "method.reparam": ("none", "mlp"),
    "method.reparam_hidden": (1, 8, 10**12),
    "method.init": ("vocab", "labels", "unused", "zero", {"text": "a cat"}, {"run": "x"}),
    "method.init.normal": (0.0, 0.5, 1e300),
    "method.dropout": ("off", 0, 0.99),
    "method.position_offset": ("shift", "keep"),
    "method.template": ("{p:3} {premise} {mask} {hypothesis}", "{p:0}", "{p:1} {x}", "{", "}{p}"),
    "backbone.name": (".", "/", "x", "nobody/nothing", "x/" * 300, "~nobody/x"),
    "backbone.dtype": ("auto", "bf16", "fp16"),
    "backbone.quantize": ("int8", "int4"),
    "backbone.dropout": ("off", 0.5),
    "backbone.sha256": ("0" * 64, "x"),
    "backbone.revision": ("main", ".."),
    "backbone.trust_remote_code": (True,),
    "task.name": tuple(task_names()),
    "task.data": (".", "/dev", "nowhere", "~", "x" * 5000, "config.yaml", None),
    "task.train": ("nowhere", ".", "config.yaml", "/dev/null", "x" * 5000),
    "task.validation": ("config.yaml", "."),
    "task.max_len": (1, 2, 3, 4, 5, 30, 37, 40, 41, 10**12),
    "task.truncation": ("only_first", "only_second"),
    "task.limit.train": (1, 2, 10**12),
    "task.limit.sample": ("random", "stratified"),
    "task.limit.seed": (0, 2**32 - 1),
    "task.demonstrations": (1, 2, 9, 10**12),
    "task.text": ("premise", ["premise", "hypothesis"], ["x"], "label"),
    "task.label": ("label", "idx", "premise", "x"),
    "task.labels": (["entailment", "not_entailment"], ["x"], "entailment"),
    "task.stride": (0, 5, 10**6),
    "task.scheme": ("bio", "iob1", "bioes"),
    "prompt_len": (1, 2, 30, 31, 40, 41, 10**12, None),
    "head.name": tuple(HEADS.spellings()),
    "head.pooling": ("pooler", "cls", "mean", "last", "mask"),
    "head.dropout": ("off", 0.5),
    "head.words": ({"entailment": "true"}, {"entailment": "", "not_entailment": "a cat"}, {}),
    "head.template": ("{premise} {mask}", "{mask}", "{x} {mask}", "{premise}", "{p:2} {mask}"),
    "head.train": (True,),
    "train.lr": (1e-9, 1e9),
    "train.epochs": (1, 10**12),
    "train.steps": (1, 10**12, None),
    "train.batch_size": (1, 10**12),
    "train.accumulate": (3, 10**12),
    "train.eval_every": (1, "epoch", 10**12),
    "train.warmup": (0.0, 0.5),
    "train.precision": ("bf16", "fp16"),
    "train.seed": (0, 2**32 - 1),
    "train.cache": ("memory", "disk"),
    "train.gradient_checkpointing": (True,),
    "train.compile": (True,),
    "selection.split": ("validation", "test", "holdout"),
    "selection.metric": ("accuracy", "f1", "x"),
    "selection.mode": ("min",),
    "selection.fraction": (1e-9, 0.1, 0.999),
    "report": (["test"], ["holdout"], ["validation", "validation"], []),
    "name": ("x", "x" * 200, "x" * 5000, "a b", "-", "é" * 120, "%s"),
    "sweep.prompt_len": ([1, 2], [], [0], 3, [30, 40, 41], ["x"]),
    "sweep.seed": ([1, 1], [2**40]),
    "sweep.method": (["ptuning_v2", "head_only"], [{"name": "finetune"}]),
    "sweep.method.layers": (["last:1", "9-9"],),
    "sweep.lanes": (2, "auto", 0, 10**12),
}
"""Values of the right type for every key, most of which some other key forbids."""


GRID = (
    *("1", "2", "0", "-1", "1e-3", "x", "", " ", "null", "ptuning_v2", "head_only", "finetune"),
    *("[1, 2]", "[", "{a: 1}", '"x, y"', "'", "last:1", "1-2", "9" * 400, "\x07", "superglue/rte"),
    *("auto", "nan", "true", "{name: ptuning_v2, reparam: mlp}", "*a", "日本語", "1..3", "1:3"),
)


def trees(bert: Path, rte: Path) -> list[dict[str, Any]]:
    """Configs that can run, which hold most of the keys there are."""
    task = {"name": "superglue/rte", "data": str(rte), "max_len": 24}
    train: dict[str, Any] = {"lr": 0.05, "steps": 2, "batch_size": 4, "seed": 11}
    plain = {"method": "ptuning_v2", "backbone": str(bert), "task": task, "prompt_len": 3}
    return [
        {**plain, "train": train, "report": ["validation"]},
        {
            "name": "full",
            "method": {
                "name": "ptuning_v2",
                "layers": "1-2",
                "reparam": "mlp",
                "reparam_hidden": 8,
                "init": "normal",
                "dropout": 0.1,
                "position_offset": "keep",
            },
            "backbone": {"name": str(bert), "dtype": "fp32", "dropout": "off"},
            "task": {**task, "truncation": "only_first", "limit": {"train": 4, "sample": "random"}},
            "prompt_len": 2,
            "head": {"name": "sequence", "pooling": "mean", "lr": 0.1, "dropout": 0.2},
            "train": {**train, "early_stopping": {"patience": 2}, "eval_every": 1, "clip": None},
            "selection": {"split": "holdout", "metric": "accuracy", "fraction": 0.5},
            "report": ["validation", "test"],
            "sweep": {"prompt_len": [2, 3], "lr": [0.1, 0.2], "seed": [1, 2]},
        },
        {
            **plain,
            "method": {"name": "ptuning_v1", "template": "{p:2} {premise} {p:1} {hypothesis}"},
            "head": {
                "name": "verbalizer",
                "words": {"entailment": "true", "not_entailment": "false"},
                "template": "{premise} so {hypothesis} ? {mask}",
            },
            "task": {**task, "demonstrations": 1},
            "train": train,
        },
        {
            "method": {"name": "prompt_tuning", "init": {"text": "a cat sat"}},
            "backbone": str(bert),
            "prompt_len": 3,
            "tasks": [task, {**task, "limit": {"train": 2}}],
            "train": train,
        },
    ]


def check(ptv2: Commands, text: str, *words: str) -> None:
    path = Path("config.yaml")
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    ptv2("check", path, "--offline", *words)


@given(data=st.data())
@examples(150)
def test_text(here: Path, data: st.DataObject) -> None:
    """Shipped configs with pieces of YAML put in or cut out, anywhere."""
    path = here / "text.yaml"
    text = data.draw(spliced(data.draw(st.sampled_from(TEXTS)), TOKENS, most=4))
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with suppress(InputError):
        load_config(path)


@given(data=st.data())
@examples(80)
def test_values(ptv2: Commands, bert: Path, rte: Path, data: st.DataObject) -> None:
    """Values of other types, keys at other places: through all that `check` does."""
    tree = data.draw(st.sampled_from(trees(bert, rte)))
    tree = data.draw(spoilt(tree, KEYS) if data.draw(st.booleans()) else chosen(tree))
    dump = data.draw(st.sampled_from([yaml.safe_dump, lambda tree: json.dumps(tree, indent=0)]))
    check(ptv2, dump(tree))


@st.composite
def chosen(draw: st.DrawFn, tree: dict[str, Any]) -> dict[str, Any]:
    """A config with up to five keys at values that they may have, whatever the others are."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, 4))):
        *sections, key = draw(st.sampled_from(sorted(CHOICES))).split(".")
        holder = tree
        for section in sections:
            inner = holder.get(section, {})
            holder[section] = holder = inner if isinstance(inner, dict) else {"name": inner}
        value = draw(st.sampled_from(CHOICES[".".join([*sections, key])]))
        if value is None:
            holder.pop(key, None)
        else:
            holder[key] = copy.deepcopy(value)
    return tree


@given(data=st.data())
@examples(40)
def test_command_line(ptv2: Commands, bert: Path, rte: Path, data: st.DataObject) -> None:
    """`--set`, `--unset` and the shortcuts, of any key and any text."""
    words = []
    sections = st.sampled_from([key for key in KEYS if "\x00" not in key])
    for _ in range(data.draw(st.integers(1, 3))):
        flag = data.draw(st.sampled_from(["--set", "--set", "--unset", "--prompt-len", "--lr"]))
        key = ".".join(data.draw(st.lists(sections, min_size=1, max_size=3)))
        value = data.draw(st.sampled_from(TOKENS) | ODD.map(json.dumps) | ODD)
        words += [flag, {"--set": f"{key}={value}", "--unset": key}.get(flag, str(value))]
    check(ptv2, yaml.safe_dump(trees(bert, rte)[0]), *words)


@given(data=st.data())
@examples(20)
def test_grid(ptv2: Commands, bert: Path, rte: Path, data: st.DataObject) -> None:
    """What `sweep` takes as lists of values."""
    keys = [
        "prompt_len",
        "lr",
        "seed",
        "method",
        "task",
        "backbone",
        "",
        "train",
        "=",
        "a.b",
        "name",
    ]
    words = []
    for _ in range(data.draw(st.integers(1, 3))):
        flag = data.draw(st.sampled_from(["--grid", "--grid", "--lr", "--seed", "--lanes"]))
        values = data.draw(st.lists(st.sampled_from(GRID), min_size=1, max_size=3))
        key = data.draw(st.sampled_from([*keys, *sorted(CHOICES)]))
        listed = data.draw(st.sampled_from([",", ", ", "; ", "-"])).join(values)
        words += [flag, f"{key}={listed}" if flag == "--grid" else listed]
    Path("config.yaml").write_text(yaml.safe_dump(trees(bert, rte)[0]), encoding="utf-8")
    ptv2("sweep", "config.yaml", "--dry-run", "--offline", *words)


@given(text=st.text(max_size=30) | st.sampled_from(TOKENS))
@examples(150)
def test_override(text: str) -> None:
    """Any text behind `--set` or `--unset`."""
    for parse in (parse_set, parse_unset, lambda text: parse_set(f"train.lr={text}")):
        with suppress(InputError):
            parse(text)
