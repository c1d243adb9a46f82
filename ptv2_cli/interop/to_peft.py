"""`--to peft`: write a run as a PEFT adapter, or report why PEFT cannot represent it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save
from torch import Tensor

from ptv2_cli.backbones.gguf.folder import is_temporary
from ptv2_cli.backbones.sites import Prompts
from ptv2_cli.errors import Problem, RunError, gather
from ptv2_cli.interop.opened import (
    FinishedRun,
    head_weights,
    new_folder,
    pooler_weights,
    require_new,
)
from ptv2_cli.interop.readme import Assembly, readme, writing_readme
from ptv2_cli.interop.stock_models import (
    TOLERANCE,
    StockHead,
    cache_difference,
    flattened,
    reads_segments,
    stock_head,
    takes_prefix,
    window_of,
)
from ptv2_cli.methods.peft_layers import PeftLayers, wrapped
from ptv2_cli.runs.session import Session

NO_CLASS = (
    "an encoder-decoder: no class of transformers has a head that reads what the run's head reads"
)
PREDICT = "ptv2 predict and ptv2 eval use it as it is"


@dataclass(frozen=True)
class Adapter:
    """What a run has trained beside its head, in PEFT's format."""

    tensors: dict[str, Tensor]
    """`prompt_embeddings`, [P, L * 2 * K * D] keys and values or [P, E] vectors; or the parameters
    of layers inside the model, by their names in PEFT."""
    config: dict[str, Any]
    """The keys of adapter_config.json that describe it."""
    in_input: bool = False
    """Whether a prompt takes up positions of the text."""
    length: int = 0
    """P"""


def obstacles(run: FinishedRun) -> Iterator[Problem]:
    """Reasons why PEFT cannot represent a run, as far as its config shows."""
    resolved = run.resolved
    where = str(run.directory.path)
    method, inside = resolved.method, resolved.method.in_peft
    if not method.uses_prompt and not inside:
        tuned = method.trains_backbone
        changed = "changed the whole backbone: " if tuned else ""
        what = f"{resolved.config.method.name}: {changed}there is no prompt to export"
        merged = "ptv2 export RUN --to merged writes the model"
        yield Problem(where, what, merged if tuned else PREDICT)
        return
    if resolved.task.kind_spec.peft is None:
        yield Problem(where, f"PEFT has no {resolved.task.kind} head", PREDICT)
    if is_temporary(resolved.located.folder):
        what = "its backbone is a GGUF file, whose converted weights end with this command"
        yield Problem(where, what, "let PTV2_CACHE name a folder, where they stay")
    two_stacks = resolved.located.config.get("is_encoder_decoder")
    if two_stacks and inside and not resolved.task.kind_spec.writes:
        yield Problem(where, NO_CLASS, PREDICT)
    if two_stacks and not inside:
        what = (
            "an encoder-decoder: PEFT has one prompt for both stacks, and no head that reads the "
            "decoder's first position"
        )
        yield Problem(where, what, PREDICT)
        return
    for what, fix in () if inside else method.peft_obstacles(resolved.shape.layers):
        yield Problem(where, what, fix or PREDICT)


def to_adapter(run: FinishedRun, session: Session) -> Adapter:
    """The prompt or the adapter of a run without obstacles.

    Raises:
        RunError: the backbone uses a prefix from PEFT in another way than ours.
    """
    if run.resolved.method.in_peft:
        return _inside(session)
    with torch.no_grad():
        prompts: Prompts = session.learner.method()
    if prompts.keys_values is not None:
        return _prefix(run, session, prompts)
    assert prompts.inputs is not None
    return _vectors(session, prompts.inputs.vectors)


def _inside(session: Session) -> Adapter:
    """The parameters of layers inside the base model, by the names that they have there."""
    method, layers = session.learner.method, wrapped(session.learner.backbone.model)
    assert isinstance(method, PeftLayers)
    config = {key: value for key, value in method.config.to_dict().items() if value is not None}
    config["target_modules"] = list(layers)
    if "feedforward_modules" in config:
        config["feedforward_modules"] = [
            name for name, layer in layers.items() if layer.is_feedforward
        ]
    return Adapter(method.state_dict(), config)


def refused(run: FinishedRun, what: str) -> RunError:
    """The error for a run that cannot be exported."""
    return RunError.at(str(run.directory.path), what, PREDICT)


def _prefix(run: FinishedRun, session: Session, prompts: Prompts) -> Adapter:
    """Keys and values of all layers, without the network that computes them."""
    backbone = session.learner.backbone
    sites = {(site.heads, site.head_size) for site in backbone.sites}
    family = backbone.shape.family.name
    if not takes_prefix(backbone.model):
        raise refused(
            run,
            f"{family} models accept no past keys and values, as a PEFT prefix needs",
        )
    if len(sites) != 1:
        raise refused(run, f"the layers of this {family} model differ, PEFT's prefixes do not")
    _check_window(run, window_of(backbone.model.config))
    difference = cache_difference(backbone, prompts)
    if not difference < TOLERANCE:
        raise refused(
            run,
            f"{family} does not treat a PEFT prefix like ours: hidden states would differ by "
            f"{difference:.1%}",
        )
    ((heads, size),) = sites
    assert prompts.keys_values is not None
    flat = flattened(prompts.keys_values)
    config = {
        "peft_type": "PREFIX_TUNING",
        "num_virtual_tokens": len(flat),
        "num_layers": len(backbone.sites),
        "num_attention_heads": heads,
        "token_dim": heads * size,
        "encoder_hidden_size": heads * size,
        "prefix_projection": False,
        "num_transformer_submodules": 1,
    }
    return Adapter({"prompt_embeddings": flat}, config, length=len(flat))


def _check_window(run: FinishedRun, window: int | None) -> None:
    """Check that no sliding window hides PEFT's prefix; ours is always visible."""
    config = run.resolved.config
    used = (config.prompt_len or 0) + (config.task.max_len or 0)
    if window is not None and window < used:
        raise refused(
            run,
            f"the model's layers see {window} tokens, but prompt and text are up to {used}: a PEFT "
            "prefix slides out of the window, ours does not",
        )


def _vectors(session: Session, vectors: Tensor) -> Adapter:
    """Vectors [P, E] among the word embeddings, before the first token."""
    length, size = vectors.shape
    shape = session.learner.backbone.shape
    config = {
        "peft_type": "PROMPT_TUNING",
        "num_virtual_tokens": length,
        "num_layers": shape.layers,
        "token_dim": size,
        "num_transformer_submodules": 1,
        "num_attention_heads": session.learner.backbone.sites[0].heads,
        "prompt_tuning_init": "RANDOM",
    }
    return Adapter({"prompt_embeddings": vectors}, config, in_input=True, length=length)


CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
HEAD_FILE = "head.safetensors"


@dataclass(frozen=True)
class Written:
    """The result of an export: the folder, its files, and notes for the user."""

    folder: Path
    files: tuple[str, ...]
    notes: tuple[str, ...]


def export_peft(run: FinishedRun, folder: Path, repo: str | None = None) -> Written:
    """Write a run as a PEFT adapter; its README.md loads it from `repo` on the hub, if given.

    The folder gets `adapter_config.json`, `adapter_model.safetensors` and a README.md with the
    Python code that loads it. A head without a class in transformers gets its own file.

    Raises:
        RunError: PEFT cannot represent this run; the message says why.
        InputError: the folder is not empty or cannot be written.
    """
    require_new(folder)
    gather(obstacles(run), RunError)
    session = run.session()
    adapter = to_adapter(run, session)
    head = head_weights(session.learner)
    writes = run.resolved.task.kind_spec.writes
    if head is None and not writes:
        raise refused(run, "its head is not one linear layer")
    stock = None if head is None else stock_of(run, session, adapter, len(head["bias"]))
    separate: dict[str, Tensor] = {}
    inside = run.resolved.method.in_peft
    tensors, above = adapter.tensors, "base_model"
    if inside:
        above = "base_model.model"
        start = inner_name(session, model_class(run, stock))
        names = (name.removeprefix(f"{above}.") for name in tensors)
        tensors = {f"{above}.{start}{name}": tensors[f"{above}.{name}"] for name in names}
    if head is None:
        pass  # the model's own
    elif stock is None:
        separate = {**head, **pooler_of(run, session)}
    else:
        tensors |= {f"{above}.{stock.name}.{part}": value for part, value in head.items()}
    config = {**adapter.config, **_base(run), "inference_mode": True}
    config["task_type"] = "FEATURE_EXTRACTION" if stock is None else stock.task_type
    if writes:
        config["task_type"] = "SEQ_2_SEQ_LM" if session.learner.backbone.decodes else "CAUSAL_LM"
    about = {"kind": run.resolved.task.kind, "pooling": str(run.resolved.config.head.pooling)}
    with new_folder(folder) as partial:
        (partial / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        (partial / WEIGHTS_FILE).write_bytes(save(plain(tensors), {"format": "pt"}))
        if separate:
            data = save(plain(separate), {"format": "pt", **about})
            (partial / HEAD_FILE).write_bytes(data)
        assembly = replace(assembly_of(run, session, folder, adapter, stock), repo=repo)
        text = described(session, assembly)
        (partial / "README.md").write_text(text, encoding="utf-8")
        files = tuple(sorted(path.name for path in partial.iterdir()))
    return Written(folder, files, tuple(_notes(run, session, stock)))


def described(session: Session, assembly: Assembly) -> str:
    """The text of README.md."""
    if not session.resolved.task.kind_spec.writes:
        return readme(assembly)
    chat = session.data.encoder.chat is not None
    return writing_readme(assembly, _settings(session), chat=chat)


def model_class(run: FinishedRun, stock: StockHead | None) -> str:
    """The name of transformers' class that holds the run's model."""
    if not run.resolved.task.kind_spec.writes:
        return "AutoModel" if stock is None else stock.model
    two_stacks = run.resolved.shape.family.two_stacks
    return "AutoModelForSeq2SeqLM" if two_stacks else "AutoModelForCausalLM"


def inner_name(session: Session, kind: str) -> str:
    """What stands before the names of the base model's modules in a class, such as `bert.`."""
    with torch.device("meta"):
        whole = getattr(transformers, kind).from_config(session.learner.backbone.model.config)
    return "" if whole.base_model is whole else f"{whole.base_model_prefix}."


def _settings(session: Session) -> dict[str, Any]:
    """How the run writes, as options of transformers' `generate`."""
    section, encoder = session.resolved.config.generate, session.data.encoder
    assert section is not None
    options = section.model_dump(exclude={"seed"}, exclude_none=True)
    if section.do_sample:
        options.setdefault("top_k", 0)  # transformers' own default is 50
    backbone = session.learner.backbone
    start = {"decoder_start_token_id": backbone.decoder_start} if backbone.decodes else {}
    ends = {"eos_token_id": encoder.end_ids, "pad_token_id": encoder.pad_id}
    return {**options, **ends, **start}


def stock_of(
    run: FinishedRun, session: Session, adapter: Adapter, outputs: int
) -> StockHead | None:
    """Transformers' class with a head, if under PEFT it computes the same as the run."""
    backbone, spec = session.learner.backbone, run.resolved.task.kind_spec
    config = backbone.model.config
    # Prompt vectors take up positions of the text, so PEFT's classes read the wrong ones.
    # Its class for question answering drops token types.
    if adapter.in_input or (spec.answer == "text" and _segments(session)):
        return None
    head = stock_head(config, spec, outputs, causal=backbone.shape.family.causal)
    if head is None or not head.bias:
        return None
    trained = any(name.startswith("pooler.") for name in backbone.untrained)
    if head.reads != "tokens" and (head.reads != run.resolved.config.head.pooling or trained):
        return None
    return head


def _segments(session: Session) -> bool:
    """Whether tokenizer and model distinguish two segments of a text."""
    typed = "token_type_ids" in session.data.encoder.tokenizer.model_input_names
    return typed and reads_segments(session.learner.backbone.model.config)


def pooler_of(run: FinishedRun, session: Session) -> dict[str, Tensor]:
    """The tensors of the pooler for a separate head that reads it."""
    if run.resolved.config.head.pooling != "pooler":
        return {}
    pooler = pooler_weights(session.learner.backbone)
    if pooler is None:
        raise refused(run, "its pooler is not tanh of one linear layer")
    return {f"pooler.{part}": value for part, value in pooler.items()}


def _base(run: FinishedRun) -> dict[str, Any]:
    """The keys of adapter_config.json that name the backbone."""
    located = run.resolved.located
    name = str(located.folder.resolve()) if located.commit is None else located.name
    return {"base_model_name_or_path": name, "revision": located.commit}


def assembly_of(
    run: FinishedRun,
    session: Session,
    folder: Path,
    adapter: Adapter,
    stock: StockHead | None,
    *,
    merged: bool = False,
) -> Assembly:
    """What the code in README.md depends on; `merged`: the folder holds a whole model."""
    base = _base(run)
    return Assembly(
        run=run.directory.path.resolve().name,
        folder=str(folder),
        base=str(folder) if merged else str(base["base_model_name_or_path"]),
        revision=None if merged else base["revision"],
        merged=merged,
        kind=run.resolved.task.kind_spec,
        labels=tuple(run.resolved.task.labels),
        stock=stock,
        pooling=run.resolved.config.head.pooling,
        length=adapter.length,
        in_input=adapter.in_input,
        segments=bool(adapter.length) and _segments(session),
        attention=getattr(session.learner.backbone.model.config, "attention_type", None),
    )


def _notes(run: FinishedRun, session: Session, stock: StockHead | None) -> Iterator[str]:
    if session.learner.method.counts()["reparam"]:
        yield "the network is folded into the prompt, as PEFT stores prefixes"
    if run.resolved.task.kind_spec.writes:
        yield "the head is the backbone's own: README.md has the code that writes texts"
    elif stock is None:
        yield f"the head is in {HEAD_FILE}: README.md has the code that applies it"
    else:
        yield f"the head is in {WEIGHTS_FILE}, for {stock.model}"
    section = run.resolved.config.backbone
    if section.quantize is not None or section.dtype != "fp32":
        dtype = section.quantize or section.dtype
        yield f"the run's backbone is in {dtype}: the code in README.md loads it in fp32"
    located = run.resolved.located
    if located.source is not None:
        yield (
            "the backbone is a GGUF file: adapter_config.json names its converted weights in the "
            f"cache, {located.folder}; a copy of that folder elsewhere stays for good"
        )
    elif located.commit is None:
        yield "the backbone is a folder: adapter_config.json names it by its path on this machine"


def plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies that share no memory, in fp32 on the CPU."""
    return {
        name: value.detach().float().cpu().clone().contiguous() for name, value in tensors.items()
    }
