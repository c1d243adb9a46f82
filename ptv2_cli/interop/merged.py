"""`--to merged`: a run as a plain model of transformers, the adapter a part of its weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save
from torch import Tensor

from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.backbones.language.language_model import LanguageModel
from ptv2_cli.backbones.quiet import quiet
from ptv2_cli.errors import Problem, RunError, gather
from ptv2_cli.interop.opened import FinishedRun, head_weights, new_folder, require_new
from ptv2_cli.interop.stock_models import StockHead
from ptv2_cli.interop.to_peft import (
    HEAD_FILE,
    NO_CLASS,
    PREDICT,
    Adapter,
    Written,
    assembly_of,
    described,
    inner_name,
    model_class,
    plain,
    pooler_of,
    refused,
    stock_of,
)
from ptv2_cli.methods.peft_layers import wrapped
from ptv2_cli.runs.session import Session


def obstacles(run: FinishedRun) -> Iterator[Problem]:
    """Reasons why a plain model cannot compute what a run does, as far as its config shows."""
    resolved, where = run.resolved, str(run.directory.path)
    method, name, spec = resolved.method, resolved.config.method.name, resolved.task.kind_spec
    if method.uses_prompt:
        what = f"{name}: a prompt stands beside the text, and no weight of a model can hold it"
        held = not any(method.peft_obstacles(resolved.shape.layers))
        hint = "ptv2 export RUN --to peft writes it for PEFT" if held else PREDICT
        yield Problem(where, what, hint)
    elif not method.in_peft and not method.trains_backbone:
        what = f"{name}: only finetune and the methods of PEFT can be merged into weights"
        yield Problem(where, what, PREDICT)
    if spec.peft is None:
        what = f"transformers has no head for {resolved.task.kind}"
        yield Problem(where, what, PREDICT)
    if resolved.shape.family.two_stacks and not spec.writes:
        yield Problem(where, NO_CLASS, PREDICT)


def export_merged(run: FinishedRun, folder: Path) -> Written:
    """Write a run as a model that `from_pretrained` of transformers loads.

    The folder gets the model in fp32, its tokenizer and a README.md with the Python code that
    loads it. A head without a class in transformers gets its own file.

    Raises:
        RunError: no plain model computes what this run does; the message says why.
        InputError: the folder is not empty or cannot be written.
    """
    require_new(folder)
    gather(obstacles(run), RunError)
    session = run.session()
    writes = run.resolved.task.kind_spec.writes
    head = head_weights(session.learner)
    if head is None and not writes:
        raise refused(run, "its head is not one linear layer")
    adapter = Adapter({}, {})
    stock = None if head is None else stock_of(run, session, adapter, len(head["bias"]))
    model = _merged(run, session, stock, head)
    notes = ["the model is in fp32, and the adapter is a part of its weights"]
    with new_folder(folder) as partial:
        with quiet():
            model.save_pretrained(partial)
            session.data.encoder.tokenizer.save_pretrained(partial)
        if head is not None and stock is None:
            data = save(plain({**head, **pooler_of(run, session)}), {"format": "pt"})
            (partial / HEAD_FILE).write_bytes(data)
            notes.append(f"the head is in {HEAD_FILE}: README.md has the code that applies it")
        assembly = assembly_of(run, session, folder, adapter, stock, merged=True)
        (partial / "README.md").write_text(described(session, assembly), encoding="utf-8")
        files = tuple(sorted(path.name for path in partial.iterdir()))
    return Written(folder, files, tuple(notes))


def _merged(
    run: FinishedRun, session: Session, stock: StockHead | None, head: dict[str, Tensor] | None
) -> Any:
    """The run's model in transformers' class, with the run's weights."""
    located, kind = run.resolved.located, model_class(run, stock)
    options: dict[str, Any] = {"dtype": torch.float32}
    if stock is not None and head is not None:
        options["num_labels"] = len(head["bias"])
        if run.resolved.task.labels:
            options["id2label"] = dict(enumerate(run.resolved.task.labels))
            options["label2id"] = {name: at for at, name in options["id2label"].items()}
    attention = getattr(session.learner.backbone.model.config, "attention_type", None)
    with quiet(), torch.random.fork_rng(devices=[]):
        whole = getattr(transformers, kind).from_pretrained(located.folder, **options)
    start = inner_name(session, kind)
    tensors = {
        f"{start}{name}": value for name, value in _weights(session.learner.backbone).items()
    }
    language = getattr(session.learner.head, "language", None)
    if isinstance(language, LanguageModel):  # its last layer may have trained too
        tensors |= language.model.state_dict()
    if stock is not None and head is not None:
        tensors |= {f"{stock.name}.{part}": value for part, value in head.items()}
    if attention is not None:
        whole.config.attention_type = attention
    known = whole.state_dict()
    whole.load_state_dict({k: v for k, v in plain(tensors).items() if k in known}, strict=False)
    lost = [name for name in tensors if name not in known and ".pooler." not in f".{name}"]
    if lost:
        raise refused(run, f"transformers' {kind} has no {lost[0]}")
    return whole


def _weights(backbone: Backbone) -> dict[str, Tensor]:
    """The base model's weights with the adapter merged into them; changes the backbone."""
    model = backbone.model
    for name, layer in wrapped(model).items():
        layer.merge()
        model.set_submodule(name, layer.get_base_layer())
    weights: dict[str, Tensor] = model.state_dict()
    if backbone.pooler is not None:
        weights |= {f"pooler.{name}": v for name, v in backbone.pooler.state_dict().items()}
    return weights
