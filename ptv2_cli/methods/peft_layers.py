"""The layers that PEFT puts into a frozen backbone, and the modules that they replace."""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ptv2_cli.backbones.backbone import LINEAR
from ptv2_cli.errors import ConfigError
from ptv2_cli.methods.base import Context, Method
from ptv2_cli.methods.targets import ALL_LINEAR, PeftOptions, Targets, is_named

NAME = "default"
"""PEFT's default name of an adapter; the names of its parameters contain it."""
HOOKS = (
    *("_forward_hooks", "_forward_hooks_with_kwargs"),
    *("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs"),
)
"""The attributes in which a torch module keeps its hooks."""
KEYS_VALUES = (
    *("key", "value", "k_proj", "v_proj", "key_proj", "value_proj", "k_lin", "v_lin"),
    *("attn.k", "attn.v", "SelfAttention.k", "SelfAttention.v"),
    *("EncDecAttention.k", "EncDecAttention.v"),
    *("query_key_value", "attn.c_attn", "attn.Wqkv", "in_proj"),
)
"""Names of the layers that compute keys and values, or queries, keys and values together."""
FEEDFORWARD = (
    *("output.dense", "ffn_output", "fc2", "lin2", "down_proj", "wo", "dense_4h_to_h"),
    *("mlp.c_proj", "mlp.Wo"),
)
"""Names of the last layer of the feed-forward part."""
NOT_FEEDFORWARD = ("attention.output.dense",)
"""Names that match FEEDFORWARD but end the attention."""


class Named(nn.Module):
    """Parameters under dotted names, in nested modules."""

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        super().__init__()
        for name, parameter in parameters.items():
            *parts, last = name.split(".")
            module: nn.Module = self
            for part in parts:
                if part not in module._modules:
                    module.add_module(part, nn.Module())
                module = module.get_submodule(part)
            module.register_parameter(last, parameter)


class PeftLayers(Method):
    """The trained parameters of the layers that PEFT has put into a model.

    They are parameters of the model. This module holds the same parameters under the names of
    PEFT's files, which are also their names in a checkpoint.

    Raises:
        ConfigError: the model lacks a target, or a target is too small for the rank.
    """

    def __init__(self, options: PeftOptions, context: Context) -> None:
        super().__init__()
        for key, what, hint in misfits(options, context.model):
            raise ConfigError.at(f"method.{key}", what, hint)
        self.config = peft_config(options, targets_of(options, context.model))
        _inject(self.config, context)
        if options.kind == "LN_TUNING":
            for norm in wrapped(context.model).values():
                _cast(norm)
        trained = {
            peft_name(name): parameter
            for name, parameter in context.model.named_parameters()
            if parameter.requires_grad
        }
        self.base_model = nn.Module()
        self.base_model.model = Named(trained)

    def counts(self) -> dict[str, int]:
        """Trained values inside the backbone."""
        adapter = sum(parameter.numel() for parameter in self.parameters())
        return {"prompt": 0, "reparam": 0, "adapter": adapter}


def peft_name(name: str) -> str:
    """The name of a parameter in PEFT's files, without the adapter's name."""
    short = name.replace(f".{NAME}", "")
    return short.removesuffix(".weight") if ".lora_magnitude_vector." in short else short


def wrapped(model: nn.Module) -> dict[str, Any]:
    """PEFT's layers in a model, by the name of the module that each replaces."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return {
        name: module for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)
    }


def peft_config(options: PeftOptions, targets: Mapping[str, nn.Module]) -> Any:
    """PEFT's config: the method's options, and the whole names of the targets."""
    import peft

    names = list(targets)
    if options.kind == "LN_TUNING":
        return peft.LNTuningConfig(target_modules=names)
    turned = any(isinstance(module, Conv1D) for module in targets.values())
    common = {"target_modules": names, "fan_in_fan_out": turned, **options.others}
    if options.kind == "LORA":
        return peft.LoraConfig(**common)
    inputs = [name for name in names if is_named(name, options.feedforward or FEEDFORWARD)]
    return peft.IA3Config(**common, feedforward_modules=inputs)


def targets_of(options: PeftOptions, model: nn.Module) -> dict[str, nn.Module]:
    """The modules that the method changes, by name, in the order of the model."""
    modules, targets = _candidates(options, model), options.targets
    if options.kind == "IA3" and targets is None:
        ends = (*KEYS_VALUES, *FEEDFORWARD)
        chosen = (name for name in modules if is_named(name, ends))
        return {name: modules[name] for name in chosen if not is_named(name, NOT_FEEDFORWARD)}
    if targets is None or targets == ALL_LINEAR:
        return modules
    return {name: module for name, module in modules.items() if is_named(name, targets)}


def misfits(options: PeftOptions, model: nn.Module) -> Iterator[tuple[str, str, str]]:
    """Options that do not fit a model: the option, what is wrong, what to do."""
    modules, given = _candidates(options, model), options.targets
    unmatched = [
        problem
        for key, targets in (
            ("target_modules", given),
            ("feedforward_modules", options.feedforward),
        )
        if targets is not None and not _all_linear(key, targets, options)
        for problem in _unmatched(key, targets, modules, model)
    ]
    yield from unmatched
    if unmatched:
        return
    if options.feedforward is not None and given is not None and given != ALL_LINEAR:
        names = [name for name in modules if is_named(name, options.feedforward)]
        others = [name for name in names if not is_named(name, given)]
        if others:
            what = f"{others[0]} is not among target_modules"
            yield "feedforward_modules", what, "name it in target_modules too"
    if options.kind == "LORA":
        yield from _too_small(options.others["r"], targets_of(options, model))


def _all_linear(key: str, targets: Targets, options: PeftOptions) -> bool:
    """Whether targets are the word for all linear layers, where it has this meaning."""
    return targets == ALL_LINEAR and key == "target_modules" and options.kind != "LN_TUNING"


def _candidates(options: PeftOptions, model: nn.Module) -> dict[str, nn.Module]:
    """All modules of the kind that the method can change, by name."""
    norms = options.kind == "LN_TUNING"
    return {
        name: module
        for name, module in model.named_modules()
        if (_is_norm(module) if norms else isinstance(module, LINEAR))
    }


def _is_norm(module: nn.Module) -> bool:
    """Whether a module is a norm with a weight: each family has a class of its own."""
    return "Norm" in type(module).__name__ and isinstance(getattr(module, "weight", None), Tensor)


def _unmatched(
    key: str, targets: Targets, modules: Mapping[str, nn.Module], model: nn.Module
) -> Iterator[tuple[str, str, str]]:
    """Targets that name no module of the right kind."""
    known = list(dict.fromkeys(name.rpartition(".")[2] for name in modules))
    listed = f"the modules that it can change are called {', '.join(known)}"
    linear = any(isinstance(module, LINEAR) for module in modules.values())
    words = [ALL_LINEAR, *known] if linear and key == "target_modules" else known
    if isinstance(targets, str):
        try:
            if any(is_named(name, targets) for name in modules):
                return
        except re.error as error:
            yield key, f"{targets!r} is no regular expression: {error}", listed
            return
        if any(is_named(name, (targets,)) for name in modules):
            what = f"{targets!r} is a regular expression for whole names, and none matches"
            yield key, what, f"write a list for the ends of names: [{targets}]"
        else:
            yield (
                key,
                f"{targets!r} matches no module's whole name",
                _nearest(targets, words, listed),
            )
        return
    for end in targets:
        if any(is_named(name, (end,)) for name in modules):
            continue
        other = next((each for name, each in model.named_modules() if is_named(name, (end,))), None)
        what = "no module of the backbone is called so"
        if other is not None:
            what = f"is a {type(other).__name__}, which this method cannot change"
        yield key, f"{end!r}: {what}", _nearest(end, known, listed)


def _nearest(name: str, known: list[str], listed: str) -> str:
    near = difflib.get_close_matches(name.rpartition(".")[2], known, n=2, cutoff=0.5)
    return f"did you mean {' or '.join(near)}? {listed}" if near else listed


def _too_small(r: int, targets: Mapping[str, nn.Module]) -> Iterator[tuple[str, str, str]]:
    """A rank that is too large for the smallest of the layers."""
    sizes = {name: min(_weight(module).shape) for name, module in targets.items()}
    name = min(sizes, key=sizes.__getitem__, default=None)
    if name is not None and r > sizes[name]:
        shape = " x ".join(map(str, _weight(targets[name]).shape))
        what = f"{r} is more than the rank of {name}, whose weight is {shape}"
        hint = f"use r of at most {sizes[name]}, or leave the layer out of target_modules"
        yield "r", what, hint


def _weight(module: nn.Module) -> Tensor:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight


def _inject(config: Any, context: Context) -> None:
    """Let PEFT put its layers into the model; the run's seed determines their initial values."""
    from peft import inject_adapter_in_model

    model = context.model
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about Conv1D layers, whose weights are transposed
        torch.default_generator.manual_seed(context.init.initial_seed())
        inject_adapter_in_model(config, model, adapter_name=NAME)
    for layer in wrapped(model).values():
        _take_place(layer)
    for parameter in model.parameters():
        if parameter.requires_grad:  # trained values are fp32, whatever the frozen weights are
            parameter.data = parameter.data.float()


def _take_place(layer: Any) -> None:
    """Move the hooks of a replaced module to the layer that replaces it, and copy its name.

    A hook on the replaced module would see its output without the adapter.
    """
    module = layer.get_base_layer()
    for hooks in HOOKS:
        own, theirs = getattr(layer, hooks), getattr(module, hooks)
        own.update(theirs)
        theirs.clear()
    layer._ptv2_site = getattr(module, "_ptv2_site", None)


def _cast(norm: Any) -> None:
    """Let an fp32 norm read and return the dtype of the modules around it."""
    dtype = norm.get_base_layer().weight.dtype
    if dtype != torch.float32:
        norm.register_forward_pre_hook(lambda module, args: (args[0].float(), *args[1:]))
        norm.register_forward_hook(lambda module, args, output: output.to(dtype))
