"""What a method needs: an optional package, and modules of the backbone that its options name."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import util

from ptv2_cli.backbones.files.locate import Located
from ptv2_cli.config.load import LoadedConfig
from ptv2_cli.errors import Problem
from ptv2_cli.methods.spec import MethodSpec
from ptv2_cli.tasks.base import Task


def package_problems(loaded: LoadedConfig, method: MethodSpec) -> Iterator[Problem]:
    """The package of a method, where it is missing."""
    package = method.package
    if package is not None and util.find_spec(package) is None:
        what = f"{loaded.config.method.name} needs {package}, which is not installed"
        yield Problem(loaded.where("method"), what, f"pip install 'ptv2[{package}]'")


def module_problems(
    loaded: LoadedConfig, method: MethodSpec, task: Task, located: Located
) -> Iterator[Problem]:
    """Options that do not fit the backbone's modules, known from config.json."""
    if not method.changes_backbone or method.trains_backbone:
        return
    from ptv2_cli.backbones.skeleton import skeleton

    model = skeleton(located, decodes=task.kind_spec.decodes)
    if model is not None:
        for key, what, hint in method.misfits(model):
            yield Problem(loaded.where("method", key), what, hint)
