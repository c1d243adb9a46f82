"""Load a located backbone: its tokenizer, its weights, its probe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, AutoTokenizer

from ptv2_cli.backbones.attention import NAME
from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.backbones.dropout import hidden_dropout, set_dropout
from ptv2_cli.backbones.families import shape_of
from ptv2_cli.backbones.locate import Located
from ptv2_cli.backbones.probe import probe
from ptv2_cli.errors import BackboneError
from ptv2_cli.seeding import normal_

if TYPE_CHECKING:
    from ptv2_cli.config.schema import BackboneSection

INIT_STD = 0.02


def load_tokenizer(located: Located, section: BackboneSection, *, words: bool) -> Any:
    """The backbone's fast tokenizer; `words`: it will be given text that is split into words.

    Raises:
        BackboneError: the folder has no tokenizer that can be loaded.
    """
    options: dict[str, Any] = {"trust_remote_code": section.trust_remote_code}
    if words:  # byte-level tokenizers mark the word's start by its leading space
        options["add_prefix_space"] = True
    try:
        with _quiet():
            tokenizer = AutoTokenizer.from_pretrained(located.folder, use_fast=True, **options)
    except (OSError, ValueError, KeyError) as error:
        raise _unusable(located, "tokenizer", error) from None
    if tokenizer.pad_token_id is None:  # decoder-only models have none; the mask hides it anyway
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_backbone(located: Located, section: BackboneSection, init: torch.Generator) -> Backbone:
    """Load weights in fp32 on the CPU and probe them; parameters come back frozen.

    Args:
        located: the backbone's files.
        section: the config's `backbone:`.
        init: draws the values of a pooler that the pretrained weights lack.

    Raises:
        BackboneError: unknown family, missing or incomplete weights, prompts that do nothing.
    """
    shape = shape_of(located.name, located.config)
    located.check_sha256(section.sha256)
    files = located.weight_files
    try:
        # Building the model draws from the global generator, which is not ours to advance.
        with _quiet(), torch.random.fork_rng(devices=[]):
            config = AutoConfig.from_pretrained(
                located.folder, trust_remote_code=section.trust_remote_code
            )
            set_dropout(config, section.dropout)
            model, report = AutoModel.from_pretrained(
                located.folder,
                config=config,
                attn_implementation=NAME,
                dtype=torch.float32,
                output_loading_info=True,
                trust_remote_code=section.trust_remote_code,
            )
    except (OSError, ValueError, KeyError, RuntimeError, EOFError, SafetensorError) as error:
        raise _unusable(located, f"weights ({files[0].name})", error) from None
    backbone = Backbone(model, shape, hidden_dropout(config))
    backbone.requires_grad_(False)
    _fill_missing(backbone, located, sorted(report["missing_keys"]), init)
    probe(backbone, located.name)
    return backbone


def _fill_missing(
    backbone: Backbone, located: Located, missing: list[str], init: torch.Generator
) -> None:
    """Draw a missing pooler anew and let it train; anything else missing is an error."""
    others = [name for name in missing if not name.startswith("pooler.")]
    if others:
        raise BackboneError.at(
            f"backbone {located.name}",
            f"its weights lack {len(others)} tensors that the model needs, such as {others[0]}",
            "the folder may hold another kind of model or a part of one",
        )
    for name in missing:
        parameter = backbone.get_parameter(name)
        parameter.requires_grad_(True)
        if parameter.dim() > 1:
            normal_(parameter, INIT_STD, init)
        else:
            torch.nn.init.zeros_(parameter)
    backbone.untrained = tuple(missing)


def _unusable(located: Located, what: str, error: Exception) -> BackboneError:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return BackboneError.at(
        f"backbone {located.name}", f"its {what} cannot be loaded from {located.folder}: {first}"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' own reports; what matters of them is turned into our messages."""
    log = transformers.logging
    level = log.get_verbosity()
    log.set_verbosity_error()
    bars = log.is_progress_bar_enabled()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
