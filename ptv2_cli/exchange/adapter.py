"""`--to peft`: a run as an adapter that `peft.PeftModel.from_pretrained` loads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from ptv2_cli.errors import RunError, gather
from ptv2_cli.exchange.express import Adapter, express, obstacles, refused
from ptv2_cli.exchange.folder import new_folder, require_new
from ptv2_cli.exchange.opened import FinishedRun, head_weights, pooler_weights
from ptv2_cli.exchange.readme import Assembly, readme
from ptv2_cli.exchange.stock import StockHead, reads_segments, stock_head
from ptv2_cli.run.session import Session

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
HEAD_FILE = "head.safetensors"


@dataclass(frozen=True)
class Written:
    """What an export left: the folder, its files, and what should be known of them."""

    folder: Path
    files: tuple[str, ...]
    notes: tuple[str, ...]


def export_peft(run: FinishedRun, folder: Path) -> Written:
    """Write a run as a PEFT adapter.

    The folder gets `adapter_config.json`, `adapter_model.safetensors` and a README.md with the
    lines of Python that load it; a head that transformers has no class for gets a file of its own.

    Raises:
        RunError: PEFT cannot express this run; the message says why.
        InputError: the folder is taken or cannot be written.
    """
    require_new(folder)
    gather(obstacles(run), RunError)
    session = run.session()
    adapter = express(run, session)
    head = head_weights(session.learner)
    if head is None:
        raise refused(run, "its head is not one linear layer")
    stock = _stock(run, session, adapter, len(head["bias"]))
    apart: dict[str, Tensor] = {}
    tensors = {"prompt_embeddings": adapter.prompt}
    if stock is None:
        apart = {**head, **_pooler(run, session)}
    else:
        tensors |= {f"base_model.{stock.name}.{part}": value for part, value in head.items()}
    config = {**adapter.config, **_base(run), "inference_mode": True}
    config["task_type"] = "FEATURE_EXTRACTION" if stock is None else stock.task_type
    about = {"kind": run.recipe.task.kind, "pooling": str(run.recipe.config.head.pooling)}
    with new_folder(folder) as partial:
        (partial / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        (partial / WEIGHTS_FILE).write_bytes(save(_plain(tensors), {"format": "pt"}))
        if apart:
            data = save(_plain(apart), {"format": "pt", **about})
            (partial / HEAD_FILE).write_bytes(data)
        text = readme(_assembly(run, session, folder, adapter, stock))
        (partial / "README.md").write_text(text, encoding="utf-8")
        files = tuple(sorted(path.name for path in partial.iterdir()))
    return Written(folder, files, tuple(_notes(run, stock)))


def _stock(run: FinishedRun, session: Session, adapter: Adapter, outputs: int) -> StockHead | None:
    """Transformers' own class with a head, where under PEFT it computes what the run computes."""
    backbone, kind = session.learner.backbone, run.recipe.task.kind
    config = backbone.model.config
    # Prompt vectors take up positions of the text: PEFT's classes then read the wrong ones.
    # Its class for question answering drops token types.
    if adapter.in_input or (kind == "span" and _segments(session)):
        return None
    found = stock_head(config, kind, outputs, causal=backbone.shape.family.causal)
    if found is None or not found.bias:
        return None
    trained = any(name.startswith("pooler.") for name in backbone.untrained)
    if found.reads != "tokens" and (found.reads != run.recipe.config.head.pooling or trained):
        return None
    return found


def _segments(session: Session) -> bool:
    """Whether the run's text has two segments that the model tells apart."""
    encoder = session.experiment.data.encoder
    assert encoder is not None
    typed = "token_type_ids" in encoder.tokenizer.model_input_names
    return typed and reads_segments(session.learner.backbone.model.config)


def _pooler(run: FinishedRun, session: Session) -> dict[str, Tensor]:
    """The pooler that a head apart reads through: the run's own where the checkpoint has none."""
    if run.recipe.config.head.pooling != "pooler":
        return {}
    pooler = pooler_weights(session.learner.backbone)
    if pooler is None:
        raise refused(run, "its pooler is not tanh of one linear layer")
    return {f"pooler.{part}": value for part, value in pooler.items()}


def _base(run: FinishedRun) -> dict[str, Any]:
    """What adapter_config.json calls the backbone."""
    located = run.recipe.located
    name = str(located.folder.resolve()) if located.commit is None else located.name
    return {"base_model_name_or_path": name, "revision": located.commit}


def _assembly(
    run: FinishedRun, session: Session, folder: Path, adapter: Adapter, stock: StockHead | None
) -> Assembly:
    base = _base(run)
    return Assembly(
        run=run.directory.path.resolve().name,
        folder=str(folder),
        base=str(base["base_model_name_or_path"]),
        revision=base["revision"],
        kind=run.recipe.task.kind,
        labels=tuple(run.recipe.task.labels),
        stock=stock,
        pooling=run.recipe.config.head.pooling,
        length=len(adapter.prompt),
        in_input=adapter.in_input,
        segments=_segments(session),
        attention=getattr(session.learner.backbone.model.config, "attention_type", None),
    )


def _notes(run: FinishedRun, stock: StockHead | None) -> Iterator[str]:
    if getattr(run.recipe.method_options, "reparam", "none") == "mlp":
        yield "the MLP is folded into the prompt: PEFT keeps prefixes that way"
    if stock is None:
        yield f"the head is in {HEAD_FILE}: README.md has the lines that put it on"
    else:
        yield f"the head is in {WEIGHTS_FILE}, for {stock.model}"
    section = run.recipe.config.backbone
    if section.quantize is not None or section.dtype != "fp32":
        held = section.quantize or section.dtype
        yield f"the run holds its backbone in {held}: the lines in README.md load it in fp32"
    if run.recipe.located.commit is None:
        yield "the backbone is a folder: adapter_config.json names it by its path on this machine"


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies that share no memory, in fp32 on the CPU."""
    return {
        name: value.detach().float().cpu().clone().contiguous() for name, value in tensors.items()
    }
