"""Frozen Linear layers with integer weights (torchao) that pass gradients to their input.

Weights are quantized, activations are not: a layer computes `x W^T` from the integers and their
scales. For the backward pass torchao's own layers keep the dequantized weight of every layer, or
have no backward pass (int4). The layer here keeps the integers and dequantizes when needed.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import util
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from ptv2_cli.config.fields import HeldDtype
from ptv2_cli.config.schema import BackboneSection
from ptv2_cli.errors import BackboneError, ConfigError
from ptv2_cli.memory import trim

Kind = Literal["int8", "int4"]
Dense = Callable[[Tensor, torch.dtype], Tensor]

INSTALL = "pip install 'torchao>=0.18'"
INT4_GROUP = 128
"""Inputs of a layer that share a scale in int4."""
INT4_CAPABILITY = (8, 0)
"""CUDA compute capability from which there is an int4 kernel."""


def check_machine(section: BackboneSection, device: torch.device) -> None:
    """Check that this machine can quantize as the config says; reads no weights.

    Raises:
        ConfigError: torchao is missing, or the device has no kernel.
    """
    if section.quantize is None:
        return
    where, kind = "backbone.quantize", section.quantize
    if util.find_spec("torchao") is None:
        raise ConfigError.at(where, f"{kind} needs torchao, which is not installed", INSTALL)
    if kind == "int4" and not _has_int4(device):
        least = ".".join(map(str, INT4_CAPABILITY))
        raise ConfigError.at(
            where,
            f"int4 needs a CUDA device of compute capability {least} or newer, not {device}",
            "--set backbone.quantize=int8 runs everywhere; --device cuda uses a GPU",
        )


def quantize(model: nn.Module, kind: Kind, device: torch.device, name: str) -> int:
    """Quantize the Linear layers of a frozen model in place, one after another.

    Embeddings, norms and biases do not change. Layers are moved to `device` when they are
    quantized, because int4 is packed for the device that runs it. Returns the number of layers.

    Raises:
        BackboneError: the model has no layer that can be quantized.
    """
    from torchao.quantization import quantize_

    _convert_conv1d(model)
    quantize_(model, _config(kind), lambda module, _: _fits(module, kind), device=device)
    layers = [module for module in model.modules() if _fits(module, kind)]
    if not layers:
        raise BackboneError.at(
            f"backbone {name}", f"has no Linear layer for {kind}", "remove backbone.quantize"
        )
    for layer in layers:
        # Changing the class keeps the module, its name and its hooks.
        layer.__class__ = QuantizedLinear
        layer.dense = _DENSE[kind]  # type: ignore[assignment]
    return len(layers)


def saved_bytes(model: nn.Module, kind: Kind) -> int:
    """How many bytes `quantize` would save of a model that is not quantized yet."""
    layers: list[Any] = [module for module in model.modules() if _fits(module, kind)]
    return sum(layer.weight.nbytes - _integer_bytes(layer, kind) for layer in layers)


def _integer_bytes(layer: Any, kind: Kind) -> int:
    """Integers, scales and zero points: of each output in int8, of each group (bf16) in int4."""
    inputs, outputs, size = layer.in_features, layer.out_features, layer.weight.element_size()
    if kind == "int8":
        return int(outputs * (inputs + size + 1))
    return int(outputs * (inputs // 2 + 4 * inputs // INT4_GROUP))


class QuantizedLinear(nn.Linear):
    """A frozen Linear layer whose weight is a quantized tensor [out, in]."""

    dense: Dense
    """Returns the weight as a plain tensor of a type."""

    def forward(self, states: Tensor) -> Tensor:
        """[..., in] -> [..., out]; computes in the type of `states`, or autocast's."""
        device = states.device.type
        if torch.is_autocast_enabled(device):
            states = states.to(torch.get_autocast_dtype(device))
        return _frozen_linear(states, self.weight, self.bias, self.dense)


class _FrozenLinear(torch.autograd.Function):
    """x W^T + b, with a gradient for `x` only; keeps no dequantized weight."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor, dense: Dense) -> Tensor:
        ctx.weight, ctx.dense = weight, dense
        return F.linear(states, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        gradient = gradients[0]
        return gradient @ ctx.dense(ctx.weight, gradient.dtype), None, None, None


_frozen_linear: Callable[..., Tensor] = _FrozenLinear.apply


def _dequantized(weight: Tensor, dtype: torch.dtype) -> Tensor:
    return weight.dequantize(dtype)  # type: ignore[call-arg]


def _times_identity(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """The weight, as its product with the identity: packed int4 cannot be read otherwise."""
    identity = torch.eye(weight.shape[1], dtype=torch.bfloat16, device=weight.device)
    return F.linear(identity, weight).t().to(dtype)


_DENSE: dict[Kind, Dense] = {"int8": _dequantized, "int4": _times_identity}


def _config(kind: Kind) -> Any:
    from torchao.quantization import Int4WeightOnlyConfig, Int8WeightOnlyConfig

    if kind == "int8":
        return Int8WeightOnlyConfig(set_inductor_config=False)
    return Int4WeightOnlyConfig(
        group_size=INT4_GROUP, int4_packing_format="tile_packed_to_4d", set_inductor_config=False
    )


def _fits(module: nn.Module, kind: Kind) -> bool:
    """Whether to quantize a module; subclasses of Linear may compute something else."""
    if type(module) is not nn.Linear:
        return False
    return kind == "int8" or module.in_features % INT4_GROUP == 0


def _convert_conv1d(model: nn.Module) -> None:
    """Replace GPT-2's Conv1D layers, whose weight is [in, out], by equal Linear layers."""
    from transformers.pytorch_utils import Conv1D

    layers = [(name, module) for name, module in model.named_modules() if type(module) is Conv1D]
    for name, conv in layers:
        wide, narrow = conv.weight.shape
        linear = nn.Linear(wide, narrow, device="meta")
        linear.weight = nn.Parameter(conv.weight.detach().t().contiguous(), requires_grad=False)
        linear.bias = conv.bias
        model.set_submodule(name, linear.train(conv.training))


def _has_int4(device: torch.device) -> bool:
    if device.type != "cuda" or not torch.cuda.is_available():
        return False
    return torch.cuda.get_device_capability(device) >= INT4_CAPABILITY


DTYPES: dict[HeldDtype, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def release_memory(module: nn.Module) -> None:
    """Return the memory of replaced weights to the system.

    Remaining weights may be views of the whole mapped file, and the C library may keep freed
    memory: together they took more memory than the weights before quantizing.
    """
    for parameter in module.parameters():
        if type(parameter.data) is torch.Tensor:
            parameter.data = parameter.data.clone()
    trim()


def keep_fp32(module: nn.Module | None) -> None:
    """Keep `module` in fp32: it may train, or its output goes into modules that train."""
    if module is not None:
        module.float()
