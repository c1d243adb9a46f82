"""Print hashes of the results of tiny runs, to check that a change does not affect results.

    .venv/bin/python scripts/result_hashes.py > before.txt     # one commit
    .venv/bin/python scripts/result_hashes.py > after.txt      # another commit
    diff before.txt after.txt

A line has the sha256 of a run's best checkpoint, of its predictions with their gold answers
(whatever the layout of their file) and of its scores, with one thread on the CPU. The runs cover
each head kind with each method, families with and without an adapter, several tasks, the
verbalizer, accumulation, a resumed run, lanes, an exported and an imported run, and predictions of
new rows.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import tiny  # noqa: E402 - found through the path above

from ptv2_cli.cli.app import run as ptv2  # noqa: E402

KINDS = {
    "sequence": ("superglue/rte", tiny.write_rte),
    "regression": ("text/regression", None),
    "choice": ("text/choice", tiny.write_choice),
    "token": ("ner/conll2003", tiny.write_ner),
    "span": ("qa/squad", tiny.write_squad),
}
METHODS: dict[str, Any] = {
    "ptuning_v2": "ptuning_v2",
    "mlp": {"name": "ptuning_v2", "reparam": "mlp", "reparam_hidden": 16},
    "last2-keep": {"name": "ptuning_v2", "layers": "last:2", "position_offset": "keep"},
    "prompt_tuning": "prompt_tuning",
    "ptuning_v1": "ptuning_v1",
    "finetune": "finetune",
    "head_only": "head_only",
}
FAMILIES = ("t5", "bart", "gpt2", "llama", "bloom", "deberta-v2", "deberta", "mpnet", "big_bird")
WRITTEN = (
    ("label", "probabilities"),
    ("tags", "entities"),
    ("answer", "start", "probability", "nbest"),
    ("prediction",),
)
"""The keys that a prediction adds to a line of schema 1, by kind."""
COMMAND = (sys.executable, "-c", "from ptv2_cli.cli.app import main; main()")
TRAIN = {"lr": 0.05, "epochs": 3, "batch_size": 4, "eval_batch_size": 8, "seed": 11}


def main() -> int:
    """Train the matrix in a temporary folder and print a line for each run."""
    with tempfile.TemporaryDirectory() as place:
        for name, folder in runs(Path(place)):
            print(name, *hashes(folder), flush=True)
    return 0


def runs(top: Path) -> Iterator[tuple[str, Path]]:
    """Name and folder of every run of the matrix, as it is trained."""
    data = {kind: write_data(top / "data" / kind, kind) for kind in KINDS}
    folders = {family: top / family for family in ("bert", *FAMILIES)}
    for family, folder in folders.items():
        tiny.save_model(folder, family)

    def config(name: str, kind: str, family: str = "bert", **changes: Any) -> Path:
        task = {"name": KINDS[kind][0], "data": str(data[kind]), "max_len": 24}
        content = {"task": task, "train": TRAIN, **changes}
        if content.get("method") in ("finetune", "head_only"):
            content["prompt_len"] = None
        if content.get("method") == "ptuning_v1":
            content["prompt_len"] = 6
        path = top / "configs" / f"{name}.yaml"
        return tiny.write_config(path, folders[family], data[kind], **content)

    for kind in KINDS:
        for name, method in METHODS.items():
            label = f"{kind}-{name}"
            yield label, trained(config(label, kind, method=method), top / "runs" / label)
    for family in FAMILIES:
        for kind in ("sequence", "token", "span"):
            label = f"{family}-{kind}"
            yield label, trained(config(label, kind, family), top / "runs" / label)
    train = {**TRAIN, "batch_size": 2, "accumulate": 3, "clip": 0.1, "precision": "bf16"}
    yield (
        "accumulated-bf16",
        trained(config("accumulated", "token", train=train), top / "runs" / "accumulated"),
    )
    tasks = [{"name": KINDS["token"][0], "data": str(data["token"])}] * 2
    several = config("several", "token", task=None, tasks=tasks)
    yield "several-tasks", trained(several, top / "runs" / "several")
    yield from resumed(config("resumed", "token"), top / "runs")
    yield from laned(config("laned", "sequence"), top / "lanes")
    for form in ("folded", "peft"):
        source = trained(config("exported", "sequence", method=METHODS["mlp"]), top / "exported")
        call("export", str(source), "--to", form, str(top / form))
        yield f"exported-{form}", top / form


def write_data(folder: Path, kind: str) -> Path:
    """The tiny data set of a kind."""
    write = KINDS[kind][1]
    if write is not None:
        return write(folder)
    folder.mkdir(parents=True)
    for split, count in (("train", 24), ("validation", 12)):
        lines = [f"{' '.join(tiny.WORDS[at % 9 : at % 9 + 4])}\t{at % 5}" for at in range(count)]
        (folder / f"{split}.tsv").write_text("\n".join(["text\tlabel", *lines]) + "\n")
    return folder


def call(*arguments: str) -> None:
    """Run one command without its output; a failure ends the script."""
    words = [*COMMAND, *arguments]
    found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    if found.returncode:
        sys.exit(f"{' '.join(words)}\n{found.stderr}")


def trained(path: Path, output: Path) -> Path:
    """The run directory of a config, trained and evaluated again."""
    with Path(os.devnull).open("w") as nowhere:
        kept = os.dup(1), os.dup(2)
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        try:
            codes = [ptv2(["train", str(path), "--output", str(output), "--device", "cpu"])]
            (folder,) = (found.parent for found in output.glob("*/metrics.json"))
            codes.append(ptv2(["eval", str(folder), "--device", "cpu"]))
        finally:
            os.dup2(kept[0], 1)
            os.dup2(kept[1], 2)
    if any(codes):
        sys.exit(f"{path.name}: exit codes {codes}")
    return folder


def resumed(path: Path, output: Path) -> Iterator[tuple[str, Path]]:
    """A run that is interrupted once it has saved, and goes on; beside it the whole run."""
    yield "whole", trained(path, output / "whole")
    words = [*COMMAND, "train", str(path), "--output"]
    part = subprocess.Popen(
        [*words, str(output / "part"), "--set", "train.epochs=3"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while part.poll() is None and not list(output.glob("part/*/history.jsonl")):
        time.sleep(0.02)
    part.send_signal(signal.SIGINT)
    part.wait()
    yield "resumed", trained(path, output / "part")


def laned(path: Path, output: Path) -> Iterator[tuple[str, Path]]:
    """Four trials as lanes of one backbone."""
    call("sweep", str(path), "--lr", "1e-2,3e-2", "--seed", "11,12", "--lanes", "4",
         "--output", str(output), "--device", "cpu")  # fmt: skip
    for folder in sorted(output.glob("*/metrics.json")):
        metrics = json.loads(folder.read_text())
        yield f"lane-{metrics['config']['train']['lr']}-{metrics['seed']}", folder.parent


def hashes(folder: Path) -> Iterator[str]:
    """Short sha256 of the weights, the predictions and the scores in a folder."""
    weights = sorted(
        [*folder.glob("checkpoints/best-*.safetensors"), *folder.glob("*.safetensors")]
    )
    yield f"weights={digest(b''.join(path.read_bytes() for path in weights))}"
    texts = [path.read_text("utf-8") for path in sorted(folder.glob("predictions/*.jsonl"))]
    lines = [flat(json.loads(line)) for text in texts for line in text.splitlines()]
    yield f"predictions={digest(''.join(lines).encode())}"
    path = folder / "metrics.json"
    if path.is_file():
        metrics = json.loads(path.read_text())
        scores = {key: metrics[key] for key in ("selection", "metrics", "final", "parameters")}
        yield f"scores={digest(json.dumps(scores, sort_keys=True).encode())}"


def flat(line: dict[str, Any]) -> str:
    """The prediction and the gold answer of a line of schema 2, or of the flat schema 1."""
    if isinstance(line.get("row"), dict):
        answer = line["prediction"]
        answer = answer if isinstance(answer, dict) else {"prediction": answer}
    else:
        written = next(keys for keys in WRITTEN if set(keys) <= set(line))
        answer = {key: line[key] for key in (*written, "null_score") if key in line}
    return json.dumps({**answer, "gold": line["gold"]}, sort_keys=True) + "\n"


def digest(data: bytes) -> str:
    """The first 16 hex digits of the sha256."""
    return hashlib.sha256(data).hexdigest()[:16] if data else "-"


if __name__ == "__main__":
    sys.exit(main())
