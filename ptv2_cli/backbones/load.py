"""Load the weights of a located backbone, followed by the probe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from ptv2_cli.backbones import adapters
from ptv2_cli.backbones.attention import NAME
from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.backbones.families import Shape, hidden_dropout, set_dropout, shape_of
from ptv2_cli.backbones.files.locate import Located
from ptv2_cli.backbones.files.remote_code import check_own_code
from ptv2_cli.backbones.known_sites import probe_once
from ptv2_cli.backbones.language.language_model import LanguageModel
from ptv2_cli.backbones.language.lm_head import (
    LanguageHead,
    head_names,
    lacking,
    model_class,
    take_head,
)
from ptv2_cli.backbones.model_code import AutoConfig, AutoModel, no_init_weights
from ptv2_cli.backbones.probe import find_sites
from ptv2_cli.backbones.quantize import (
    DTYPES,
    check_machine,
    keep_fp32,
    quantize,
    release_memory,
)
from ptv2_cli.backbones.quiet import quiet
from ptv2_cli.backbones.tokenizer import unusable
from ptv2_cli.errors import BackboneError, out_of_memory
from ptv2_cli.rng import normal_

if TYPE_CHECKING:
    from ptv2_cli.config.schema import BackboneSection

T = TypeVar("T")
INIT_STD = 0.02
CPU = torch.device("cpu")
COPY_AGAIN = "copy config.json and the weights again from where the model came from"


def load_backbone(
    located: Located,
    section: BackboneSection,
    init: torch.Generator,
    device: torch.device = CPU,
    *,
    on_paper: bool = False,
) -> Backbone:
    """Load the weights on the CPU in the type that the config says, frozen, and probe them.

    Args:
        located: the backbone's files.
        section: the config's `backbone:`.
        init: draws the values of a pooler that the pretrained weights lack.
        device: where the weights are quantized, and then stay, if the config says so.
        on_paper: build the model from config.json alone, without reading, probing or quantizing
            weights: its values mean nothing.

    Raises:
        BackboneError: unknown family, missing or incomplete weights, weights that contain more
            than tensors, the model's own code, or prompts without an effect.
        ConfigError: this machine cannot quantize as the config says.
    """

    def no_head(whole: Any, backbone: Backbone) -> None: ...

    return _loaded(located, section, init, device, AutoModel, no_head, on_paper)[0]


def load_with_language(
    located: Located,
    section: BackboneSection,
    init: torch.Generator,
    words: Sequence[int],
    device: torch.device = CPU,
    *,
    on_paper: bool = False,
) -> tuple[Backbone, LanguageHead]:
    """Like `load_backbone`, with the model's own language-model head for these tokens.

    Raises:
        BackboneError: also if the weights have no such head.
        ConfigError: this machine cannot quantize as the config says.
    """

    def head(whole: Any, backbone: Backbone) -> LanguageHead:
        return take_head(whole, words, backbone.injection, located.name)

    return _loaded(located, section, init, device, _language_class(located), head, on_paper)


def load_language_model(
    located: Located,
    section: BackboneSection,
    init: torch.Generator,
    device: torch.device = CPU,
    *,
    on_paper: bool = False,
) -> tuple[Backbone, LanguageModel]:
    """Like `load_backbone`, with the model's language-model head for the whole vocabulary.

    Raises:
        BackboneError: also if the weights have no such head.
        ConfigError: this machine cannot quantize as the config says.
    """

    def head(whole: Any, backbone: Backbone) -> LanguageModel:
        return LanguageModel(whole, backbone.model)

    return _loaded(located, section, init, device, _language_class(located), head, on_paper)


def _language_class(located: Located) -> Any:
    return model_class(shape_of(located.name, located.config).family)


def _loaded(
    located: Located,
    section: BackboneSection,
    init: torch.Generator,
    device: torch.device,
    load: Any,
    head: Callable[[Any, Backbone], T],
    on_paper: bool,
) -> tuple[Backbone, T]:
    """The backbone, and what `head` makes of it and of the model that the class `load` loads.

    The head is made before anything is quantized or moved.
    """
    check_own_code(located, section)
    shape = shape_of(located.name, located.config)
    if on_paper:
        model, dropout = _built(located, section, shape, load)
        missing: list[str] = []
    else:
        check_machine(section, device)
        located.check_sha256(section.sha256)
        model, dropout, missing = _read(located, section, shape, load)
    whole = model
    if load is not AutoModel:
        model, missing = _base(whole, missing, located)
    backbone = Backbone(model, shape, dropout)
    adapters.enter(shape.family, model, backbone.injection)
    backbone.requires_grad_(False)
    keep_fp32(backbone.pooler)
    _fill_missing(backbone, located, missing, init)
    made = head(whole, backbone)
    if on_paper:
        backbone.set_sites(find_sites(backbone.eval()))
        return backbone, made
    probe_once(backbone, located, f"{type(whole).__name__} {section.held_dtype(located.config)}")
    if section.quantize is not None:
        quantize(backbone.model, section.quantize, device, located.name)
        backbone.injection.attach(backbone.model)  # some modules are new
        release_memory(backbone)
        backbone.to(device)
    return backbone, made


def _read(
    located: Located, section: BackboneSection, shape: Shape, load: Any
) -> tuple[Any, float, list[str]]:
    """The model with its weights, its dropout, and the names of tensors that the weights lack."""
    files = located.weight_files
    try:
        # Building the model draws from the global generator, whose state must not change.
        with quiet(), torch.random.fork_rng(devices=[]):
            config = _config(located, section, shape)
            model, report = load.from_pretrained(
                located.folder,
                config=config,
                attn_implementation=_attention(shape),
                dtype=DTYPES[section.held_dtype(located.config)],
                output_loading_info=True,
                trust_remote_code=section.trust_remote_code,
            )
        dropout = hidden_dropout(config)
    except UnpicklingError:
        raise _no_tensors(located) from None
    except Exception as error:  # of any type: damaged files fail in many places
        if out_of_memory(error):
            raise
        raise unusable(located, f"weights ({files[0].name})", error, COPY_AGAIN) from error
    return model, dropout, sorted(report["missing_keys"])


def _built(
    located: Located, section: BackboneSection, shape: Shape, load: Any
) -> tuple[Any, float]:
    """The model as config.json describes it, with values that mean nothing, and its dropout."""
    with quiet(), torch.random.fork_rng(devices=[]), no_init_weights():
        config = _config(located, section, shape)
        model = load.from_config(
            config,
            attn_implementation=_attention(shape),
            dtype=DTYPES[section.held_dtype(located.config)],
            trust_remote_code=section.trust_remote_code,
        )
        model.tie_weights()  # a part of the initialization that is left out
    return model, hidden_dropout(config)


def _config(located: Located, section: BackboneSection, shape: Shape) -> Any:
    config = AutoConfig.from_pretrained(located.folder, trust_remote_code=section.trust_remote_code)
    set_dropout(config, section.dropout)
    adapters.configure(shape.family, config)
    return config


def _attention(shape: Shape) -> str:
    return NAME if shape.family.registry else "eager"


def _base(whole: Any, missing: list[str], located: Located) -> tuple[Any, list[str]]:
    """The base model of a model with a language-model head, and what its weights lack."""
    lacked = head_names(whole, missing)
    if lacked:
        raise lacking(located.name, lacked)
    start = f"{whole.base_model_prefix}."
    base = _joined(whole) if whole.base_model is whole else whole.base_model
    return base, [name.removeprefix(start) for name in missing]


def _joined(whole: Any) -> Any:
    """The base model of a model that holds its two stacks itself (T5)."""
    with torch.device("meta"):
        base = AutoModel.from_config(whole.config)
    for name, _ in list(base.named_children()):
        setattr(base, name, getattr(whole, name))
    return base


def _fill_missing(
    backbone: Backbone, located: Located, missing: list[str], init: torch.Generator
) -> None:
    """Draw a missing pooler and let it train; anything else missing is an error."""
    others = [name for name in missing if not name.startswith("pooler.")]
    if others:
        raise BackboneError.at(
            f"backbone {located.name}",
            f"its weights lack {len(others)} tensors that the model needs, such as {others[0]}",
            "the folder may contain another kind of model or a part of one",
        )
    backbone.untrained = tuple(missing)
    draw_untrained(backbone, init)


def draw_untrained(backbone: Backbone, init: torch.Generator) -> None:
    """Draw the values that the pretrained weights lack, and let them train."""
    for name in backbone.untrained:
        parameter = backbone.get_parameter(name)
        parameter.requires_grad_(True)
        if parameter.dim() > 1:
            normal_(parameter, INIT_STD, init)
        else:
            torch.nn.init.zeros_(parameter)


def _no_tensors(located: Located) -> BackboneError:
    """The error for a pickled file with more than tensors, which could be code to run."""
    return BackboneError.at(
        f"backbone {located.name}",
        f"its weights ({located.weight_files[0].name}) are not a plain file of tensors: it is "
        "damaged or contains objects that would run code; nothing of it was run",
        "use weights in safetensors (model.safetensors), from a source that you trust",
    )
