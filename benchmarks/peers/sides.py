"""The sides that `peers.py steps` compares: each takes one training step when it is told to.

All sides train on the same rows and have the same head: the checkpoint's frozen pooler, dropout
where the side has any, and a linear layer that trains. A step is what a training loop does for one
batch: it collates the token ids, runs forward and backward, clips the gradients (not the floor),
steps AdamW and clears the gradients. Reading and tokenizing are done before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from torch import Tensor

from ptv2_cli.config.load import load_config, parse_set
from ptv2_cli.inputs.batch import Batch
from ptv2_cli.multiplex import Sharing
from ptv2_cli.runs.resolved_run import prepare
from ptv2_cli.runs.session import open_session
from ptv2_cli.training.batches import BatchPlan
from ptv2_cli.training.loop import train_batch

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
CPU = torch.device("cpu")
Precision = Literal["fp32", "bf16"]
Step = Callable[[int], None]
"""Takes a step on the batch of that number."""


@dataclass(frozen=True)
class Material:
    """What all sides train on."""

    config: Path
    """ptv2's config: backbone, rows, longest input, prompt length, batch size."""
    backbone: Path
    """Folder of the model."""
    plan: BatchPlan
    """The rows in the batches of ptv2's first epoch, which are of nearly equal length."""
    max_len: int
    prompt_len: int

    @property
    def sorted_batches(self) -> list[list[int]]:
        """Rows of every batch, grouped by length."""
        return self.plan.epoch(0)

    @property
    def random_batches(self) -> list[list[int]]:
        """The same rows in random order, cut into as many batches of the same size."""
        size = self.plan.batch_size
        rows = [row for batch in self.sorted_batches for row in batch]
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)).tolist()
        return [
            [rows[at] for at in order[start : start + size]] for start in range(0, len(rows), size)
        ]


@dataclass(frozen=True)
class Side:
    """One competitor."""

    name: str
    build: Callable[[Material], Step]
    by_length: bool = True
    """Whether its batches are those of the floor, row by row."""
    aim: float | None = None
    """Greatest time that it should take, as a multiple of the floor's."""


def material(config: Path) -> Material:
    """What all sides share, of a config that `task.write_config` wrote."""
    session = _session(config, [])
    resolved = session.resolved
    assert resolved.config.task.max_len is not None
    assert resolved.config.prompt_len is not None
    return Material(
        config=config,
        backbone=resolved.located.folder,
        plan=session.new_lane().batches,
        max_len=resolved.config.task.max_len,
        prompt_len=resolved.config.prompt_len,
    )


class SamePlan(BatchPlan):
    """A plan whose every epoch has the batches of the first, in the same order."""

    def epoch(self, epoch: int) -> list[list[int]]:
        """The batches of the first epoch."""
        return super().epoch(0)


def ptv2(*sets: str) -> Callable[[Material], Step]:
    """ptv2's own loop on the config with these `--set`."""

    def build(shared: Material) -> Step:
        lane = _session(shared.config, sets).new_lane()
        plan = lane.batches
        lane.batches = SamePlan(**{item.name: getattr(plan, item.name) for item in fields(plan)})
        sharing = Sharing()

        def step(number: int) -> None:
            assert lane.step % plan.steps_per_epoch == number
            train_batch([lane], sharing)

        return step

    return build


def floor(precision: Precision) -> Callable[[Material], Step]:
    """The stock frozen model without prompts, dropout off; backward goes through all layers.

    The embeddings' output asks for a gradient, so that every layer passes one on, as layers with
    prompts have to.
    """

    def build(shared: Material) -> Step:
        model = _classifier(shared).eval().requires_grad_(False)
        model.classifier.requires_grad_(True)

        def require_gradient(module: object, inputs: object, output: Tensor) -> Tensor:
            return output.requires_grad_()

        model.base_model.embeddings.register_forward_hook(require_gradient)
        batches = shared.sorted_batches
        collated = (_inputs(shared.plan.collate(rows)) for rows in _forever(batches))
        return _steps(model, collated, precision, 5e-3, clip=None)

    return build


def finetuning(precision: Precision) -> Callable[[Material], Step]:
    """The stock model with all weights training, its own dropout on, batches by length."""

    def build(shared: Material) -> Step:
        model = _classifier(shared).train()
        collated = (_inputs(shared.plan.collate(rows)) for rows in _forever(shared.sorted_batches))
        return _steps(model, collated, precision, 2e-5)

    return build


def peft(precision: Precision, batching: Literal["padded", "dynamic", "sorted"]) -> Any:
    """PEFT's prefix tuning, dropout on, collated as transformers' Trainer does.

    `padded`: every row to the longest input, as its example scripts do; `dynamic`: to the longest
    of the batch, rows in random order; `sorted`: the same with the floor's batches.
    """

    def build(shared: Material) -> Step:
        from peft import PrefixTuningConfig, get_peft_model

        prefix = PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=shared.prompt_len)
        model = get_peft_model(_classifier(shared), prefix).train()
        tokenizer = transformers.AutoTokenizer.from_pretrained(shared.backbone)
        padding = {"padding": "max_length", "max_length": shared.max_len}
        if batching != "padded":
            padding = {"padding": "longest"}
        collate = transformers.DataCollatorWithPadding(tokenizer, **padding)
        batches = shared.sorted_batches if batching == "sorted" else shared.random_batches
        rows = _rows(shared.plan, batches)
        collated = (collate([rows[row] for row in batch]) for batch in _forever(batches))
        return _steps(model, collated, precision, 5e-3)

    return build


SIDES = [
    Side("floor", floor("fp32")),
    Side("floor, bf16", floor("bf16")),
    Side("ptv2 ptuning_v2, fp32, no dropout", ptv2("backbone.dropout=off")),
    Side("ptv2 ptuning_v2, fp32", ptv2(), aim=1.10),
    Side(
        "ptv2 ptuning_v2, bf16, no dropout",
        ptv2("train.precision=bf16", "backbone.dropout=off"),
        aim=0.52,
    ),
    Side("ptv2 ptuning_v2, bf16", ptv2("train.precision=bf16"), aim=0.60),
    Side("ptv2 head_only, fp32", ptv2("method=head_only")),
    Side("ptv2 head_only, bf16", ptv2("method=head_only", "train.precision=bf16")),
    Side("ptv2 finetune, fp32", ptv2("method=finetune", "train.lr=2e-5")),
    Side("ptv2 finetune, bf16", ptv2("method=finetune", "train.lr=2e-5", "train.precision=bf16")),
    Side("fine-tuning, fp32", finetuning("fp32")),
    Side("fine-tuning, bf16", finetuning("bf16")),
    Side("PEFT padded, fp32", peft("fp32", "padded"), by_length=False),
    Side("PEFT padded, bf16", peft("bf16", "padded"), by_length=False),
    Side("PEFT dynamic, fp32", peft("fp32", "dynamic"), by_length=False),
    Side("PEFT dynamic, bf16", peft("bf16", "dynamic"), by_length=False),
    Side("PEFT sorted, fp32", peft("fp32", "sorted")),
    Side("PEFT sorted, bf16", peft("bf16", "sorted")),
]


def _session(config: Path, sets: Sequence[str]) -> Any:
    loaded = load_config(config, [parse_set(text) for text in sets])
    return open_session(prepare(loaded, config.parent / "runs", offline=True), CPU)


def _classifier(shared: Material) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(11)
        return transformers.AutoModelForSequenceClassification.from_pretrained(
            shared.backbone, num_labels=2, local_files_only=True
        )


def _forever(batches: Sequence[list[int]]) -> Iterator[list[int]]:
    while True:
        yield from batches


def _inputs(batch: Batch) -> dict[str, Tensor]:
    """What transformers calls the tensors of a batch."""
    names = ("input_ids", "attention_mask", "token_type_ids", "labels")
    return {name: value for name in names if (value := getattr(batch, name)) is not None}


def _rows(plan: BatchPlan, batches: Sequence[list[int]]) -> dict[int, dict[str, Any]]:
    """Every row as a tokenizer returns it, with its label."""
    rows: dict[int, dict[str, Any]] = {}
    for row in (row for batch in batches for row in batch):
        one = {name: value[0].tolist() for name, value in _inputs(plan.collate([row])).items()}
        rows[row] = one
    return rows


def _steps(
    model: Any,
    batches: Iterator[Any],
    precision: Precision,
    rate: float,
    clip: float | None = 1.0,
) -> Step:
    """A training loop written by hand; `batches` are collated when they are taken."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, fused=True)

    def step(number: int) -> None:
        batch = next(batches)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = model(**batch).loss
        loss.backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(trained, clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step
