"""`--from peft`: read the folder of a PEFT prefix tuning adapter."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import safe_open
from torch import Tensor

from ptv2_cli.errors import InputError
from ptv2_cli.files import parse_json
from ptv2_cli.interop.foreign import (
    Foreign,
    check_source,
    linear_head,
    read_tensors,
    weights_in,
)
from ptv2_cli.interop.to_peft import CONFIG_FILE, HEAD_FILE, WEIGHTS_FILE
from ptv2_cli.kinds import KINDS, kind_spec

_HEAD = re.compile(r"base_model\.(classifier|score|qa_outputs)\.(?:modules_to_save\.\w+\.)?(.+)")
# A state_dict of the whole PeftModel has the network, which PEFT's own files have folded.
_ENCODER = re.compile(r"prompt_encoder\.\w+\.(?:(embedding)\.weight|transform\.(.+))")


class AdapterConfig(BaseModel):
    """The keys of an adapter_config.json that are read."""

    model_config = ConfigDict(strict=True)

    peft_type: str | None = None
    num_transformer_submodules: int | None = None
    task_type: str | None = None
    base_model_name_or_path: str | None = None


def read_peft(folder: Path) -> Foreign:
    """Read an adapter's config, prompt and head, without peft and the base model.

    Raises:
        InputError: it is no prefix tuning adapter, or its files are damaged.
    """
    config = _config(weights_in(folder, [CONFIG_FILE]))
    where = str(folder / CONFIG_FILE)
    if config.peft_type != "PREFIX_TUNING":
        raise InputError.at(
            where,
            f"has the type {config.peft_type}; only PREFIX_TUNING can be imported",
            "ptuning_v2 trains such keys and values; other adapters have none",
        )
    if config.num_transformer_submodules not in {None, 1}:
        raise InputError.at(
            where, "belongs to an encoder-decoder, whose prefix serves two stacks", "train it again"
        )
    file = weights_in(folder, [WEIGHTS_FILE, "adapter_model.bin"])
    tensors = read_tensors(file)
    source = _source(file, tensors)
    head, _, notes = linear_head(_heads(tensors))
    kinds = _kinds_of(config.task_type)
    pooling: str | None = None
    pooler: dict[str, Tensor] = {}
    if head is None and (folder / HEAD_FILE).is_file():
        head, pooler, kinds, pooling = _own_head(folder / HEAD_FILE)
    return Foreign(
        program="peft",
        file=file,
        source=source,
        head=head,
        kinds=kinds,
        pooling=pooling,
        pooler=pooler,
        base=config.base_model_name_or_path,
        notes=notes,
    )


def _config(path: Path) -> AdapterConfig:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError.at(str(path), f"cannot be read: {error}", "copy the file again") from None
    try:
        return AdapterConfig.model_validate(
            parse_json(text, str(path), InputError, "copy the file again")
        )
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        key = ".".join(map(str, wrong["loc"]))
        what = f"is not an adapter's config: {f'{key}: ' if key else ''}{wrong['msg']}"
        raise InputError.at(str(path), what, "copy the file again") from None


def _source(file: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    if "prompt_embeddings" in tensors:
        source = {"prompt": tensors["prompt_embeddings"]}
    else:
        source = {}
        for name, tensor in tensors.items():
            match = _ENCODER.fullmatch(name)
            if match:
                source["prompt" if match[1] else f"network.{match[2]}"] = tensor
        if "prompt" not in source:
            some = ", ".join(sorted(tensors)[:3])
            raise InputError.at(
                str(file), f"has no prompt_embeddings; it has {some}", "is it the right folder?"
            )
    check_source(file, source)
    return source


def _kinds_of(task_type: str | None) -> frozenset[str] | None:
    """The kinds whose heads PEFT calls `task_type`; None: there is no such kind."""
    specs = [kind_spec(kind) for kind in KINDS.names()]
    kinds = {spec.name for spec in specs if spec.peft and spec.peft.task_type == task_type}
    return frozenset(kinds) or None


def _heads(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    heads: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        match = _HEAD.fullmatch(name)
        if match and not match[2].startswith("original_module."):
            heads.setdefault(match[1], {})[match[2]] = tensor
    return heads


def _own_head(
    path: Path,
) -> tuple[dict[str, Tensor], dict[str, Tensor], frozenset[str], str | None]:
    """The head that `ptv2 export` wrote beside an adapter: layer, pooler, kind and pooling."""
    tensors = read_tensors(path)
    with safe_open(path, framework="pt") as opened:
        about = opened.metadata() or {}
    if not {"weight", "bias"} <= set(tensors) or "kind" not in about:
        raise InputError.at(str(path), "is not from ptv2 export", "move it to another folder")
    head = {part: tensors[part] for part in ("weight", "bias")}
    pooler = {
        name.removeprefix("pooler."): tensor
        for name, tensor in tensors.items()
        if name.startswith("pooler.")
    }
    pooling = about.get("pooling")
    return head, pooler, frozenset({about["kind"]}), None if pooling == "None" else pooling
