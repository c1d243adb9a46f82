#!/usr/bin/env python3
"""Memory of a training step on each of 1 to 8 cards, for backbones of 10 B and 70 B.

    python benchmarks/cards.py               # on paper, by the estimate of `ptv2 check`
    python benchmarks/cards.py measured      # a 0.3 B model in two processes of this machine's CPU

P-tuning v2, prompts of 20, batches of 8 rows of 512 tokens, weights in bf16, `train.shard: full`
with more than one card; with `--method finetune` the backbone trains, in fp32. *Gathered* is what
each card gets from the others in a step; the seconds are those of a link of so many GB/s, if
nothing else were to wait for (64: PCIe 5.0 x16, 450: NVLink 4). No weights are needed: folders with
config.json and a tokenizer are enough.

*Measured* starts ptv2's own training step with gloo, and compares the largest anonymous memory of a
process (Linux) with the estimate. *Mapped* is what it has of files besides: the weights of one
process; of several, pages that all of them share, and that the system may take back.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from parts.material import SPECIALS, WORDS, write_rows

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

SHAPES: dict[str, dict[str, Any]] = {
    "10 B": {
        "vocab_size": 50304,
        "hidden_size": 4096,
        "num_hidden_layers": 48,
        "num_attention_heads": 32,
        "intermediate_size": 11520,
    },
    "70 B": {
        "vocab_size": 128256,
        "hidden_size": 8192,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "intermediate_size": 28672,
    },
}
SMALL = {
    "vocab_size": 8000,
    "hidden_size": 1024,
    "num_hidden_layers": 16,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "pad_token_id": 0,
}
CARDS = (1, 2, 4, 8)
LINKS = (64, 450)
"""GB/s."""
GIB = 2**30


def main() -> None:
    """Print the table, or measure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("paper", "measured"), nargs="?", default="paper")
    parser.add_argument("--tokens", type=int, default=512, help="tokens of a row")
    parser.add_argument("--rows", type=int, default=8, help="rows of a batch")
    parser.add_argument("--method", choices=("ptuning_v2", "finetune"), default="ptuning_v2")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child is not None:
        print(json.dumps(measure(args.child)), flush=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        if args.what == "paper":
            paper(Path(folder), args)
        else:
            measured(Path(folder), args)


def paper(folder: Path, args: argparse.Namespace) -> None:
    """The table of the estimate."""
    links = " | ".join(f"s at {speed} GB/s" for speed in LINKS)
    print(f"| backbone | cards | recomputed | GiB a card | gathered a step, GiB | {links} |")
    print("| --- | --- | --- | ---: | ---: | " + " | ".join(["---:"] * len(LINKS)) + " |")
    for name, shape in SHAPES.items():
        config = write_config(folder / name.replace(" ", ""), shape, args)
        for recomputes in (False, True):
            for cards in CARDS:
                told = estimate(config, cards, recomputes)
                seconds = " | ".join(f"{told.gathered / speed / 1e9:.2f}" for speed in LINKS)
                print(
                    f"| {name} | {cards} | {'yes' if recomputes else 'no'} | "
                    f"{told.total / GIB:.0f} | {told.gathered / GIB:.0f} | {seconds} |",
                    flush=True,
                )


def write_config(folder: Path, shape: dict[str, Any], args: argparse.Namespace) -> Path:
    """A config of a run, beside a model without weights."""
    import transformers

    model = folder / "model"
    if not model.exists():
        transformers.AutoConfig.for_model("llama", **shape, pad_token_id=0).save_pretrained(model)
        vocab = {token: index for index, token in enumerate([*SPECIALS, *WORDS])}
        transformers.BertTokenizerFast(vocab=vocab).save_pretrained(model)
    write_rows(folder, 2 * args.rows, args.tokens)
    path = folder / "config.yaml"
    tunes = args.method == "finetune"
    path.write_text(
        f"method: {args.method}\nprompt_len: {'null' if tunes else 20}\n"
        f"backbone: {{name: {model}, dtype: {'fp32' if tunes else 'bf16'}}}\n"
        f"task: {{name: text/classification, data: {folder}, text: [text], label: label, "
        f"max_len: {args.tokens}}}\n"
        f"train: {{lr: 1e-3, steps: 4, batch_size: {args.rows}, shard: full, eval_every: 1000}}\n"
    )
    return path


def estimate(config: Path, cards: int, recomputes: bool) -> Any:
    """What `ptv2 check --devices CARDS` says."""
    import torch

    from ptv2_cli.config.load import load_config, parse_set
    from ptv2_cli.runs.resolve.resolved_config import resolve_config
    from ptv2_cli.runs.rows.data import read_data
    from ptv2_cli.runs.rows.encoding import encode, tokenizer_of
    from ptv2_cli.runs.step_memory import step_memory

    sets = [parse_set(f"train.gradient_checkpointing={str(recomputes).lower()}")]
    resolved = resolve_config(load_config(config, sets), offline=True)
    resolved, data = read_data(resolved, offline=True)
    encoded = encode(resolved, data, tokenizer_of(resolved))
    told = step_memory(resolved, encoded, torch.device("cpu"), cards)
    assert told is not None
    return told


def measured(folder: Path, args: argparse.Namespace) -> None:
    """The estimate beside the largest anonymous memory of one and of two processes."""
    subprocess.run(
        [sys.executable, "-c", WRITE.format(folder=str(folder / "model"), shape=SMALL)],
        check=True,
        cwd=Path(__file__).parent,
    )
    config = write_config(folder, SMALL, args)
    print("| processes | loading, MiB | training, MiB | mapped, MiB | estimate, MiB |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for count in (1, 2):
        found = children(config, count)
        told = estimate(config, count, recomputes=False).total
        cells = [found["loading"], found["training"], found["mapped"], told]
        sizes = " | ".join(f"{cell / 2**20:,.0f}" for cell in cells)
        print(f"| {count} | {sizes} |", flush=True)


WRITE = """
from pathlib import Path
from parts.material import write_model
write_model(Path({folder!r}), "llama", "bfloat16", {shape!r})
"""


def children(config: Path, count: int) -> dict[str, int]:
    """The largest figures of so many processes that train one run."""
    variables = {
        **os.environ,
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29613",
        "GLOO_SOCKET_IFNAME": "lo",
        # Otherwise the C library keeps what a gathered layer took.
        "MALLOC_MMAP_THRESHOLD_": str(2**20),
    }
    command = [sys.executable, __file__, "--child", str(config)]
    running = [
        subprocess.Popen(
            command,
            env={**variables, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    found = [json.loads(process.communicate()[0].splitlines()[-1]) for process in running]
    return {key: max(each[key] for each in found) for key in found[0]}


def measure(config: Path) -> dict[str, int]:
    """Largest anonymous memory of this process while it loads and while it trains."""
    import torch
    import transformers.models.llama.modeling_llama  # noqa: F401

    from ptv2_cli.config.load import load_config
    from ptv2_cli.distributed.group import ALONE, join, leave
    from ptv2_cli.distributed.rank import rank_of_process
    from ptv2_cli.multiplex import Sharing
    from ptv2_cli.runs.resolved_run import prepare
    from ptv2_cli.runs.session import open_session
    from ptv2_cli.training.events import StepDone
    from ptv2_cli.training.loop import fit

    rank = rank_of_process()
    group = ALONE if rank is None or rank.size == 1 else join(rank, torch.device("cpu"))
    run = prepare(load_config(config), config.parent / "runs", offline=True)
    base, files = resident("RssAnon"), resident("RssFile")
    with Largest() as loading:
        session = open_session(run, torch.device("cpu"), group=group)
    with Largest() as training:
        events = fit([session.new_lane()], Sharing(), lambda lanes: [])
        for _ in range(3):
            ((_, event),) = next(events)
            assert isinstance(event, StepDone)
    mapped = resident("RssFile") - files
    leave()
    return {"loading": loading.peak - base, "training": training.peak - base, "mapped": mapped}


class Largest:
    """The largest anonymous memory of this process in the `with` block, looked at all the time."""

    def __enter__(self) -> Largest:
        self.peak, self._stop = resident("RssAnon"), False
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop = True
        self._thread.join()

    def _look(self) -> None:
        while not self._stop:
            self.peak = max(self.peak, resident("RssAnon"))
            time.sleep(0.005)


def resident(kind: str) -> int:
    """Bytes of memory that no file backs (RssAnon), or that are mapped from files (RssFile)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind)) * 1024


if __name__ == "__main__":
    main()
