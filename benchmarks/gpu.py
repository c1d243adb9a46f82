#!/usr/bin/env python3
"""Speed and memory on one GPU, in two parts of at most ten minutes each.

    python benchmarks/gpu.py --part 1 --json part1.json   # BERT-large's shape, lanes, cache
    python benchmarks/gpu.py --part 2 --json part2.json   # a 1 B decoder's shape, a model of 10 B

Weights are random and everything computes in bf16 on rows that fill every token. Each measurement
is written to the JSON file at once. One that fails, such as one without enough memory, is a line
of its table; one for which no time is left is skipped and named at the end.

A side's step is forward, backward, clipping and AdamW. The *floor* is forward and backward of the
stock frozen model without prompts. *Of the peak* is the share of the speed of a square bf16 product
that is measured first. It counts what the steps have to compute, with W values in the matrices of L
layers of hidden size H, T tokens and P prompt positions, for each row:

    forward     2 * T * W + L * 4 * T * (T + P) * H
    backward    the same of W (twice for fine-tuning), and twice the attention products

The first layer's input gradient, embeddings and head are left out of account.

A decoder of 10 B parameters is built with 2 and with 4 of its layers; memory and time of all its
layers follow from the difference of the two. Memory is that of the allocator; on a CPU it is the
resident set of the whole process, which tells nothing about a side.

To try it anywhere: --device cpu --layers 2 --hidden 128 --heads 2 --inside 512 --tokens 16
--vocab 1000 --batch 2 --lanes 1 3 --steps 2 --square 64
"""

from __future__ import annotations

import argparse
import gc
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from parts.gpu_sides import Setting

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

ENCODER = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "vocab_size": 30522,
}
DECODER = {
    "hidden_size": 2048,
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "intermediate_size": 5632,
    "vocab_size": 32000,
}
LARGE = {
    "hidden_size": 4096,
    "num_hidden_layers": 40,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 16384,
    "vocab_size": 32000,
}
"""243 M parameters a layer, 9.8 B in 40 layers and two tables of words."""
WARM = 4
"""Steps before the clock starts: an epoch, which fills a cache."""
WAYS = ("bf16", "int8", "int4", "fsdp2")
"""How the weights of the large model are held."""


class OutOfTime(Exception):
    """A measurement took longer than it may."""


@dataclass
class Report:
    """What was measured so far, on the screen and in a file."""

    path: Path | None
    until: float
    """When to stop, on the clock of time.monotonic."""
    most: float
    """Seconds that one measurement may take."""
    about: dict[str, Any]
    lines: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    columns: tuple[str, ...] = ()

    def table(self, title: str, *columns: str) -> None:
        """Begin a table."""
        self.columns = columns
        print(f"\n{title}\n\n| {' | '.join(columns)} |\n|{' --- |' * len(columns)}", flush=True)

    def add(self, key: dict[str, Any], measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Measure one line of the table, unless there is no time left; returns its figures."""
        name = " ".join(str(value) for value in key.values())
        left = self.until - time.monotonic()
        if left <= 0:
            self.skipped.append(name)
            return {}
        found: dict[str, Any] = {}
        began = time.monotonic()
        try:
            with limited(min(left + 20, self.most)):
                found = measure()
        except Exception as error:  # of any kind: the other measurements go on
            found = {"failed": reason(error)}
        line = {**key, **found, "seconds": round(time.monotonic() - began, 1)}
        self.lines.append(line)
        cells = [shown(line.get(column, "")) for column in self.columns]
        if "failed" in found:
            cells[len(key)] = str(found["failed"])
        print(f"| {' | '.join(cells)} |", flush=True)
        self.write()
        return found

    def write(self) -> None:
        """Write what there is."""
        if self.path is not None:
            content = {**self.about, "lines": self.lines, "skipped": self.skipped}
            self.path.write_text(json.dumps(content, indent=1), encoding="utf-8")

    def close(self) -> None:
        """Say what was skipped."""
        if self.skipped:
            print(f"\nno time left for: {', '.join(self.skipped)}")
        self.write()


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in the block after so many seconds."""

    def stop(number: int, frame: object) -> None:
        raise OutOfTime(f"took more than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def reason(error: Exception) -> str:
    """Why a measurement failed, in a line of a table."""
    from ptv2_cli.errors import out_of_memory

    if out_of_memory(error):
        return "out of memory"
    text = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {text}".replace("|", "/")[:160]


def shown(value: Any) -> str:
    """A cell of a table: three digits at least, and no fractions beyond them."""
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return str(value)


def timed(asked: argparse.Namespace, build: Callable[[], Any]) -> dict[str, float]:
    """Milliseconds of a step, MiB held after the first and at the peak, seconds of warming up."""
    import torch
    from parts.gpu_sides import clock

    from ptv2_cli.memory import peak_bytes

    device = asked.torch_device
    step = None
    try:
        began = clock(device)
        step = build()
        step()
        loaded = held_bytes(device)
        for _ in range(WARM - 1):
            step()
        warm = clock(device) - began
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        began = clock(device)
        for _ in range(asked.steps):
            step()
        ms = 1000 * (clock(device) - began) / asked.steps
        peak = peak_bytes(device)
    finally:
        del step, build
        free(device)
    mib = 2**20
    return {"ms": ms, "held MiB": loaded / mib, "peak MiB": peak / mib, "warm s": warm}


def held_bytes(device: torch.device) -> int:
    """Bytes that are held now: the allocator's on CUDA, the resident set on the CPU."""
    import psutil
    import torch

    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    return int(psutil.Process().memory_info().rss)


def free(device: torch.device) -> None:
    """Return the memory of a measurement."""
    import torch

    torch._dynamo.reset()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def operations(setting: Setting, weights: int, prompt_len: int, *, trains: bool = False) -> float:
    """What a row has to compute in a step, forward and backward."""
    hidden = setting.config["hidden_size"]
    linear = 2.0 * setting.tokens * weights
    attention = 4.0 * setting.layers * setting.tokens * (setting.tokens + prompt_len) * hidden
    return (3 if trains else 2) * linear + 3 * attention


def shape(asked: argparse.Namespace, config: dict[str, Any]) -> dict[str, Any]:
    """A model's sizes, with those of the command line in place of its own."""
    given = {
        "hidden_size": asked.hidden,
        "num_hidden_layers": asked.layers,
        "num_attention_heads": asked.heads,
        "intermediate_size": asked.inside,
        "vocab_size": asked.vocab,
        "num_key_value_heads": asked.heads if "num_key_value_heads" in config else None,
    }
    positions = max(512, 2 * asked.tokens + asked.prompt_len)
    sizes = {key: value for key, value in given.items() if value is not None}
    return {**config, **sizes, "max_position_embeddings": positions}


def compare(asked: argparse.Namespace, report: Report, title: str, setting: Setting) -> None:
    """ptv2 in its variants, PEFT, fine-tuning and the floor, for every batch size."""
    import parts.gpu_sides as sides

    named: dict[str, Callable[[Setting], Any]] = {
        "floor": sides.floor,
        "ptv2": sides.ptv2,
        "ptv2, train.compile": partial(sides.ptv2, compiled=True),
        "ptv2, CUDA graphs": sides.graphs,
        "PEFT prefix tuning": sides.peft,
        "fine-tuning": sides.finetuning,
    }
    weights = sides.weights_of_layers(setting)
    report.table(title, "rows", "side", "ms", "x floor", "of the peak %", "peak MiB", "warm s")
    for rows in asked.batch:
        one = replace(setting, rows=rows)
        least: float | None = None
        for name, build in named.items():
            if any(word in name for word in asked.without):
                continue
            prompt_len = 0 if name in {"floor", "fine-tuning"} else one.prompt_len
            needed = operations(one, weights, prompt_len, trains=name == "fine-tuning")
            measure = partial(side, asked, partial(build, one), rows * needed, report, least)
            found = report.add({"rows": rows, "side": name}, measure)
            least = found.get("ms") if name == "floor" else least


def side(
    asked: argparse.Namespace,
    build: Callable[[], Any],
    needed: float,
    report: Report,
    least: float | None,
) -> dict[str, Any]:
    """The figures of one side.

    Args:
        asked: the command line.
        build: gives the side's step.
        needed: operations of a step.
        report: knows the peak.
        least: milliseconds of the floor's step; None: this is the floor, or it has none.
    """
    found = timed(asked, build)
    share = 100 * needed / (found["ms"] / 1000) / report.about["peak"]
    ratio = {} if least is None else {"x floor": found["ms"] / least}
    return {**found, **ratio, "of the peak %": share}


def lanes(asked: argparse.Namespace, report: Report, setting: Setting) -> None:
    """Rows a second of lanes, by rows of a lane and number of lanes."""
    import parts.gpu_sides as sides

    columns = ("rows", "lanes", "rows/s", "x first", "of the peak %", "ms", "peak MiB")
    report.table("Lanes of one backbone", *columns)
    needed = operations(setting, sides.weights_of_layers(setting), setting.prompt_len)
    for rows in sorted(asked.batch)[:2]:
        one = replace(setting, rows=rows)
        first: float | None = None
        for count in asked.lanes:
            build = partial(sides.lanes, one, count)
            together = rows * count
            measure = partial(several, asked, build, together, needed, report, first)
            found = report.add({"rows": rows, "lanes": count}, measure)
            first = first or found.get("rows/s")


def several(
    asked: argparse.Namespace,
    build: Callable[[], Any],
    rows: int,
    needed: float,
    report: Report,
    first: float | None,
) -> dict[str, Any]:
    """The figures of lanes: `rows` of all, operations of a row, rows a second of the first line."""
    found = side(asked, build, rows * needed, report, None)
    rate = 1000 * rows / found["ms"]
    return {**found, "rows/s": rate, "x first": rate / (first or rate)}


def cache(asked: argparse.Namespace, report: Report, setting: Setting) -> None:
    """Steps with prompts in the upper third of the layers, with the lower ones cached or not."""
    import parts.gpu_sides as sides

    report.table("Prompts in the upper third of the layers", "train.cache", "ms", "peak MiB")
    for name, keep in (("none", False), ("memory", True)):
        build = partial(sides.cached, setting, keep=keep)
        report.add({"train.cache": name}, partial(timed, asked, build))


def large(asked: argparse.Namespace, report: Report, setting: Setting) -> None:
    """Memory and time of a 10 B model from those of 2 and 4 of its layers."""
    import parts.gpu_sides as sides

    whole = asked.layers or LARGE["num_hidden_layers"]
    columns = ("weights", "layers", "held MiB", "peak MiB", "ms")
    report.table(f"A decoder of 10 B parameters ({whole} layers), recomputing", *columns)
    for way in WAYS:
        measured = {}
        for layers in (2, 4):
            one = replace(setting, config={**setting.config, "num_hidden_layers": layers})
            measured[layers] = report.add(
                {"weights": way, "layers": layers},
                partial(timed, asked, partial(sides.held, one, way)),
            )
        figures = ("held MiB", "peak MiB", "ms")
        if all(figures[0] in found for found in measured.values()):
            two, four = measured[2], measured[4]
            total = {
                name: two[name] + (whole - 2) * (four[name] - two[name]) / 2 for name in figures
            }
            report.add({"weights": way, "layers": f"{whole} (computed)"}, partial(dict, total))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", type=int, choices=(1, 2), help="default: both")
    parser.add_argument("--only", help="tables: encoder, decoder, lanes, cache, large")
    parser.add_argument("--without", nargs="+", default=[], help="sides whose name holds this")
    parser.add_argument("--minutes", type=float, default=9.0, help="of a part (default 9)")
    parser.add_argument("--most", type=float, default=150.0, help="seconds of one measurement")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--device", default="cuda", help="cuda (default), cuda:N or cpu")
    parser.add_argument("--batch", type=int, nargs="+", default=[32, 8, 128], help="rows")
    parser.add_argument("--lanes", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--tokens", type=int, default=128, help="of a row")
    parser.add_argument("--prompt-len", type=int, default=20)
    parser.add_argument("--steps", type=int, default=12, help="steps that are timed")
    parser.add_argument("--square", type=int, default=8192, help="side of the measured product")
    for name in ("layers", "hidden", "heads", "inside", "vocab"):
        parser.add_argument(f"--{name}", type=int, help="of every model, in place of its own")
    return parser.parse_args()


def main() -> None:
    """Measure what the command line asks for."""
    asked = arguments()
    began = time.monotonic()
    import torch
    from parts.gpu_sides import Setting, matrix_peak

    from ptv2_cli.runs.environment import choose_device

    device = asked.torch_device = choose_device(asked.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    peak = matrix_peak(device, asked.square)
    versions = {"torch": torch.__version__, "device": name}
    options = {key: str(value) for key, value in vars(asked).items() if value is not None}
    about = {**versions, "peak": peak, "options": options}
    print(f"{name}, torch {torch.__version__}: {peak / 1e12:.1f} TFLOP/s in a square bf16 product")
    parts = (1, 2) if asked.part is None else (asked.part,)
    until = began + 60 * asked.minutes * len(parts)
    report = Report(asked.json, until, asked.most, about)
    setting = partial(
        Setting,
        rows=8,
        tokens=asked.tokens,
        prompt_len=asked.prompt_len,
        device=device,
        dropout=device.type == "cuda",  # on a CPU compiled layers cannot draw it
    )
    encoder = setting("bert", shape(asked, ENCODER), rows=asked.batch[0])
    tables: dict[str, tuple[int, Callable[[], None]]] = {
        "encoder": (1, partial(compare, asked, report, "BERT-large's shape", encoder)),
        "lanes": (1, partial(lanes, asked, report, encoder)),
        "cache": (1, partial(cache, asked, report, encoder)),
        "decoder": (
            2,
            partial(
                compare,
                asked,
                report,
                "A 1 B decoder's shape",
                setting("llama", shape(asked, DECODER)),
            ),
        ),
        "large": (2, partial(large, asked, report, setting("llama", shape(asked, LARGE)))),
    }
    for table, (part, work) in tables.items():
        if part in parts and asked.only in {None, table}:
            work()
    report.close()


if __name__ == "__main__":
    main()
