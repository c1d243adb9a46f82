#!/usr/bin/env python3
"""Peak memory and processor time per step of methods, and of ways to hold the weights, on the CPU.

    python benchmarks/memory.py methods     # BERT-large's shape: prompts, fine-tuning, PEFT
    python benchmarks/memory.py held        # a 1.2 B Llama's shape: fp32, bf16, int8
    python benchmarks/memory.py language    # SmolLM2-135M's shape: the loss of texts to write, bf16

Weights are random and made on the spot; each line is measured in a process of its own, one after
another. Loading and training are measured apart: the kernel's mark of the largest resident set is
set back between them (Linux). *Estimate* is the training peak that `ptv2 check` tells. Sizes are
beyond what the imports alone take; times are seconds of all cores together, which other work on the
machine blurs less than those of the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from parts.material import write_model, write_rows

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "methods": (
        "bert",
        "float32",
        {
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "intermediate_size": 4096,
        },
    ),
    "held": (
        "llama",
        "bfloat16",
        {
            "vocab_size": 32000,
            "hidden_size": 2048,
            "num_hidden_layers": 22,
            "num_attention_heads": 32,
            "intermediate_size": 5632,
            "pad_token_id": 0,
        },
    ),
    "language": (
        "llama",
        "bfloat16",
        {
            "vocab_size": 49152,
            "hidden_size": 576,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "intermediate_size": 1536,
            "tie_word_embeddings": True,
            "pad_token_id": 0,
        },
    ),
}
CHECKPOINTED = "train.gradient_checkpointing=true"
LINES: dict[str, list[tuple[str, list[str]]]] = {
    "methods": [
        ("head_only", ["method=head_only"]),
        ("ptuning_v2", []),
        ("ptuning_v2, checkpointed", [CHECKPOINTED]),
        ("PEFT prefix tuning", ["peft"]),
        ("PEFT prefix tuning, checkpointed", ["peft", CHECKPOINTED]),
        ("finetune", ["method=finetune"]),
        ("finetune, checkpointed", ["method=finetune", CHECKPOINTED]),
    ],
    "held": [
        ("fp32", []),
        ("bf16", ["backbone.dtype=bf16"]),
        ("fp32, int8", ["backbone.quantize=int8"]),
        ("bf16, int8", ["backbone.dtype=bf16", "backbone.quantize=int8"]),
        (
            "bf16, int8, checkpointed",
            ["backbone.dtype=bf16", "backbone.quantize=int8", CHECKPOINTED],
        ),
    ],
    "language": [
        ("ptuning_v2", []),
        ("ptuning_v2, checkpointed", [CHECKPOINTED]),
        ("prompt_tuning", ["method=prompt_tuning"]),
        ("PEFT prefix tuning", ["peft"]),
        ("finetune", ["method=finetune"]),
        ("finetune, checkpointed", ["method=finetune", CHECKPOINTED]),
    ],
}
# PEFT's models map their weights and read them at the first step: only training compares.
COLUMNS = {
    "methods": ("training peak",),
    "held": ("loading peak", "loaded", "training peak"),
    "language": ("training peak",),
}
WRITTEN = 32
"""Tokens of a row that are to be written."""


def main() -> None:
    """Measure every line of a table, or, as a child process, one of them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("table", choices=LINES)
    parser.add_argument("--rows", type=int, help="rows of a batch; default: 8, held 1")
    parser.add_argument("--tokens", type=int, default=128, help="tokens of a row")
    parser.add_argument("--prompt-len", type=int, default=20, help="positions of the prompt")
    parser.add_argument("--steps", type=int, default=4, help="steps; the first is not timed")
    parser.add_argument("--only", help="lines whose name holds this")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--estimate", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.rows = args.rows or {"methods": 8, "held": 1, "language": 8}[args.table]
    if args.child is not None:
        work = estimate if args.estimate else measure
        print(json.dumps(work(args, json.loads(args.child))))
        return
    with tempfile.TemporaryDirectory() as folder:
        args.folder = Path(folder)
        run_apart(lambda: write_material(args))
        columns = (*COLUMNS[args.table], "estimate")
        print("| | " + " | ".join(f"{key}, MiB" for key in columns) + " | core s a step |")
        print("|" + " --- |" * (len(columns) + 2))
        for name, sets in LINES[args.table]:
            if args.only is None or args.only in name:
                found = child(args, sets)
                if "peft" not in sets:
                    found |= child(args, sets, "--estimate")
                print(line(name, found, columns), flush=True)


def line(name: str, found: dict[str, Any], columns: tuple[str, ...]) -> str:
    """A row of the table, or why there is none."""
    if "refused" in found:
        return f"| {name} | refused: {found['refused']}" + " |" * (len(columns) + 1)
    sizes = " | ".join(f"{found[key] / 2**20:,.0f}" if key in found else "" for key in columns)
    return f"| {name} | {sizes} | {found['step']:.2f} |"


def child(args: argparse.Namespace, sets: list[str], *flags: str) -> dict[str, Any]:
    """Measure in a process of its own."""
    command = [sys.executable, __file__, args.table, *flags, "--child", json.dumps(sets)]
    for name in ("rows", "tokens", "prompt_len", "steps", "folder"):
        command += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(sets)}: {done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def run_apart(work: Callable[[], None]) -> None:
    """Do work in a forked process, so that its memory is given back before anything is measured."""
    process = os.fork()
    if process == 0:
        work()
        os._exit(0)
    if os.waitpid(process, 0)[1]:
        sys.exit("the random model could not be written")


def write_material(args: argparse.Namespace) -> None:
    """A random model, rows that fill every token, a config."""
    writes = args.table == "language"
    write_model(args.folder / "model", *MODELS[args.table], language=writes)
    write_rows(args.folder, 8 * args.rows, args.tokens - WRITTEN * writes, written=WRITTEN * writes)
    task = (
        f"{{name: text/generation, data: {args.folder}, input: text, max_len: {args.tokens + 1}}}\n"
        f"generate: {{max_new_tokens: {WRITTEN + 1}}}\n"
        if writes
        else f"{{name: text/classification, data: {args.folder}, text: [text], label: label, "
        f"max_len: {args.tokens}}}\n"
    )
    (args.folder / "config.yaml").write_text(
        f"method: ptuning_v2\nbackbone: {args.folder}/model\nprompt_len: {args.prompt_len}\n"
        f"task: {task}"
        f"train: {{lr: 1e-3, steps: 1000, batch_size: {args.rows}, eval_every: 1000, "
        f"precision: {'bf16' if writes else 'fp32'}}}\n"
    )


def measure(args: argparse.Namespace, sets: list[str]) -> dict[str, Any]:
    """Bytes beyond the imports, and seconds of a step, the median without the first."""
    start = peft_steps if "peft" in sets else ptv2_steps
    import_all()
    base = resident()
    reset_peak()
    try:
        steps = start(args, [text for text in sets if text != "peft"])
        next(steps)  # everything is loaded
        found: dict[str, Any] = {"loaded": resident() - base, "loading peak": peak() - base}
        reset_peak()
        seconds = []
        for _ in range(args.steps):
            began = time.process_time()
            next(steps)
            seconds.append(time.process_time() - began)
    except ValueError as error:
        return {"refused": str(error).split("\n")[0]}
    return {**found, "training peak": peak() - base, "step": statistics.median(seconds[1:])}


def estimate(args: argparse.Namespace, sets: list[str]) -> dict[str, Any]:
    """What `ptv2 check` says of the training peak."""
    import torch

    from ptv2_cli.config.load import load_config, parse_set
    from ptv2_cli.runs.resolved_run import prepare
    from ptv2_cli.runs.rows.encoding import encode, tokenizer_of
    from ptv2_cli.runs.step_memory import step_memory

    loaded = load_config(args.folder / "config.yaml", [parse_set(text) for text in sets])
    run = prepare(loaded, args.folder / "runs", offline=True)
    data = encode(run.resolved, run.data, tokenizer_of(run.resolved))
    told = step_memory(run.resolved, data, torch.device("cpu"))
    return {} if told is None else {"estimate": told.total}


def import_all() -> None:
    """What every line needs, so that no line pays for it."""
    import peft  # noqa: F401
    import transformers.models.bert.modeling_bert
    import transformers.models.llama.modeling_llama  # noqa: F401

    import ptv2_cli.backbones.quantize
    import ptv2_cli.runs.trainer  # noqa: F401


def ptv2_steps(args: argparse.Namespace, sets: list[str]) -> Iterator[None]:
    """ptv2's own loop on a config; stops after loading, then after every step."""
    import torch

    from ptv2_cli.config.load import load_config, parse_set
    from ptv2_cli.multiplex import Sharing
    from ptv2_cli.runs.resolved_run import prepare
    from ptv2_cli.runs.session import open_session
    from ptv2_cli.training.events import EvalDone, StepDone
    from ptv2_cli.training.lane import Lane
    from ptv2_cli.training.loop import fit

    def evaluate(lanes: Sequence[Lane]) -> list[EvalDone]:
        raise AssertionError("no evaluation is due")

    loaded = load_config(args.folder / "config.yaml", [parse_set(text) for text in sets])
    session = open_session(prepare(loaded, args.folder / "runs", offline=True), torch.device("cpu"))
    lane = session.new_lane()
    yield
    sharing = Sharing()
    for ((_, event),) in fit([lane], sharing, evaluate):
        if isinstance(event, StepDone):
            yield


def peft_steps(args: argparse.Namespace, sets: list[str]) -> Iterator[None]:
    """PEFT's prefix tuning in the same loop by hand: forward, backward, clip, AdamW."""
    import torch
    from peft import PrefixTuningConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    writes = args.table == "language"
    kind = AutoModelForCausalLM if writes else AutoModelForSequenceClassification
    dtype = torch.bfloat16 if writes else torch.float32
    model = kind.from_pretrained(args.folder / "model", dtype=dtype)
    if CHECKPOINTED in sets:
        model.gradient_checkpointing_enable()
    prefix = PrefixTuningConfig(
        task_type="CAUSAL_LM" if writes else "SEQ_CLS", num_virtual_tokens=args.prompt_len
    )
    model = get_peft_model(model, prefix).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, fused=True)
    source = torch.Generator().manual_seed(0)
    yield
    while True:
        ids = torch.randint(5, 1000, (args.rows, args.tokens), generator=source)
        if writes:
            labels = ids.clone()
            labels[:, : args.tokens - WRITTEN] = -100
        else:
            labels = torch.arange(args.rows) % 2
        loss = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield


def resident() -> int:
    """Bytes of the resident set now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak() -> int:
    """Bytes of the largest resident set since `reset_peak`."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def reset_peak() -> None:
    """Set the kernel's mark of the largest resident set back to the present one."""
    Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    main()
