"""Graphs of config files that extend each other: circles, gaps, folders, links, long chains."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from commanding import Commands, examples
from hypothesis import given
from hypothesis import strategies as st

from ptv2_cli.config.load import load_config
from ptv2_cli.errors import InputError

FILES = ("a.yaml", "b.yaml", "c.yaml", "d.yaml", "deep/e.yaml")
TARGETS = (
    *FILES,
    *("", ".", "..", "deep", "gone.yaml", "./a.yaml", "../a.yaml", "deep/../b.yaml", "e.yaml"),
    *("link.yaml", "loop.yaml", "folder.yaml", "into/a.yaml", "a.yaml/b.yaml", "~/x.yaml"),
    *("[a.yaml, b.yaml]", "{a: b.yaml}", "null", "3", "x" * 5000, "*.yaml", "/dev/null", "~x/a"),
)
LINES = (
    *("method: ptuning_v2", "method: {reparam: mlp}", "method: finetune", "method: null"),
    *("backbone: BERT", "backbone: {dropout: off}", "task: {data: RTE}", "task: superglue/rte"),
    *("task: {name: superglue/rte, data: RTE, max_len: 24}", "tasks: [superglue/rte]", "tasks: 2"),
    *("prompt_len: 3", "prompt_len: [1]", "train: {steps: 1}", "train: 3", "train: {epochs: 2}"),
    *("head: {pooling: cls}", "report: []", "&a b: *a", "- x", "\x00", "name: x"),
)


@given(
    targets=st.lists(st.sampled_from(TARGETS) | st.none(), min_size=5, max_size=5),
    lines=st.lists(st.lists(st.sampled_from(LINES), max_size=4), min_size=5, max_size=5),
)
@examples(100)
def test_graphs(
    here: Path, bert: Path, rte: Path, targets: list[str | None], lines: list[list[str]]
) -> None:
    shutil.rmtree("deep", ignore_errors=True)
    Path("deep").mkdir()
    for name, target in (("link.yaml", "b.yaml"), ("loop.yaml", "loop.yaml"), ("into", "deep/..")):
        Path(name).unlink(missing_ok=True)
        Path(name).symlink_to(target)
    Path("folder.yaml").mkdir(exist_ok=True)
    for file, target, own in zip(FILES, targets, lines, strict=True):
        text = "\n".join([*own, *([] if target is None else [f"extends: {target}"])])
        text = text.replace("BERT", str(bert)).replace("RTE", str(rte))
        Path(file).write_text(text, encoding="utf-8")
    for file in FILES:
        with suppress(InputError):
            load_config(Path(file))


def test_loops_of_links(ptv2: Commands) -> None:
    """Wherever a config may name a path."""
    Path("round").unlink(missing_ok=True)
    Path("round").symlink_to("round")
    for text in (
        "extends: round",
        "extends: round/a.yaml",
        "task: {name: superglue/rte, data: round}",
        "task: {name: superglue/rte, train: round}",
        "task: {name: superglue/rte, data: round/x}",
        "backbone: ./round",
        "method: {name: ptuning_v2, init: {run: round}}",
    ):
        base = "method: ptuning_v2\nbackbone: ./nowhere\ntask: superglue/rte\nprompt_len: 2\n"
        key = text.partition(":")[0]
        kept = [line for line in base.splitlines() if not line.startswith(f"{key}:")]
        Path("looping.yaml").write_text("\n".join([*kept, text]))
        assert ptv2("check", "looping.yaml", "--offline") == 2
        assert ptv2("check", "round", "--offline") == 2
