"""Whether a backbone can be held as `backbone.dtype` and `backbone.quantize` say."""

from __future__ import annotations

from collections.abc import Iterator

from ptv2_cli.config.fields import HeldDtype
from ptv2_cli.config.load import LoadedConfig
from ptv2_cli.errors import Problem
from ptv2_cli.methods.spec import MethodSpec

INT4_DTYPE = "bf16"
"""The one type that torchao's int4 layers compute in."""


def dtype_problems(loaded: LoadedConfig, method: MethodSpec, held: HeldDtype) -> Iterator[Problem]:
    """What forbids to hold the weights so, known from the config and config.json alone.

    Only a frozen backbone can be held in fewer bits: the small steps of training would be lost in
    them. `held` is the type that `backbone.dtype` comes to.
    """
    section, name = loaded.config.backbone, loaded.config.method.name
    trains = method.trains_backbone
    if trains and held != "fp32":
        meant = f"auto, here {held}," if section.dtype == "auto" else held
        yield Problem(
            loaded.where("backbone", "dtype"),
            f"{name} trains the backbone, and weights that train cannot be held in {meant} "
            "but in fp32 alone",
            "write dtype: fp32; train.precision: bf16 still computes in bf16",
        )
    if trains and section.quantize is not None:
        yield Problem(
            loaded.where("backbone", "quantize"),
            f"{name} trains the backbone, and quantized weights cannot train",
            "leave quantize out, or choose a method that keeps the backbone frozen",
        )
    if not trains and section.quantize == "int4" and held != INT4_DTYPE:
        yield Problem(
            loaded.where("backbone", "quantize"),
            f"int4 layers compute in {INT4_DTYPE}, and the weights are held in {held}",
            f"write dtype: {INT4_DTYPE} beside quantize: int4",
        )
    precision = loaded.config.train.precision
    if {held, precision} == {"bf16", "fp16"}:
        yield Problem(
            loaded.where("train", "precision"),
            f"{precision} cannot be mixed with weights that are held in {held}",
            f"write precision: {held}, or leave precision out",
        )
