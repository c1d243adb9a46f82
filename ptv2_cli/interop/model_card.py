"""The README.md of a run on the model hub: what it is, its scores, and how to load it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib import metadata, util
from pathlib import Path
from typing import Any

import yaml

from ptv2_cli.backbones.files.locate import Located
from ptv2_cli.backbones.files.package import PREFIX as PACKAGE
from ptv2_cli.interop.opened import FinishedRun
from ptv2_cli.kinds import kind_spec
from ptv2_cli.version import __version__

_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---\s*$", re.S | re.M)


def card(run: FinishedRun, repo: str, licence: str | None, peft: str, *, adapter: bool) -> str:
    """The file's text.

    Args:
        run: the run.
        repo: its repository, OWNER/NAME.
        licence: that of the backbone; None: unknown.
        peft: Python code for PEFT, or why there is none.
        adapter: whether the repository holds a PEFT adapter.
    """
    content = _front_matter(run, repo, licence, "peft" if adapter else "ptv2")
    front = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    parts = [
        f"---\n{front}---",
        f"# {repo.partition('/')[2]}",
        _about(run),
        "## Scores",
        "\n".join(_scores(run.metrics)),
        "## Use it",
        _use(run, repo),
        "## With PEFT",
        peft,
        "## Training",
        "\n".join(_training(run.metrics)),
        "## Data",
        "\n".join(_data(run.metrics)),
        "## Licence",
        _licence(run, licence),
    ]
    return "\n\n".join(parts) + "\n"


def licence_of(located: Located) -> str | None:
    """The licence that the backbone's own files or its package name; None: they name none."""
    readme = located.folder / "README.md"
    if readme.is_file():
        match = _FRONT_MATTER.search(readme.read_text(encoding="utf-8", errors="replace"))
        try:
            content = yaml.safe_load(match[1]) if match else None
        except yaml.YAMLError:
            content = None
        if isinstance(content, dict) and isinstance(content.get("license"), str):
            return str(content["license"])
    if located.name.startswith(PACKAGE):
        return _licence_of_package(located.name.removeprefix(PACKAGE).partition("/")[0])
    return None


def _licence_of_package(name: str) -> str | None:
    names = [name] if util.find_spec(name.partition(".")[0]) is None else []
    names += metadata.packages_distributions().get(name.partition(".")[0], [])
    for each in names:
        try:
            about: Any = metadata.metadata(each)
        except metadata.PackageNotFoundError:
            continue
        found = about.get("License-Expression") or about.get("License")
        if found:
            return str(found).splitlines()[0].strip()
    return None


def _front_matter(run: FinishedRun, repo: str, licence: str | None, library: str) -> dict[str, Any]:
    metrics = run.metrics
    kind = kind_spec(run.resolved.task.kind)
    task = {"type": kind.hub_name, "name": metrics["task"]["name"]}
    results = [
        {
            "task": task,
            "dataset": {"type": metrics["task"]["name"], "name": metrics["task"]["name"]}
            | {"split": split},
            "metrics": [
                {"type": name, "value": value}
                for name, value in scores.items()
                if value is not None
            ],
        }
        for split, scores in metrics["metrics"].items()
    ]
    base = run.resolved.located
    return {
        "library_name": library,
        **({} if licence is None else {"license": _identifier(licence)}),
        **(
            {}
            if base.commit is None
            else {"base_model": base.name, "base_model_relation": "adapter"}
        ),
        "tags": ["ptv2", metrics["method"]],
        "model-index": [{"name": repo.partition("/")[2], "results": results}],
    }


def _identifier(licence: str) -> str:
    """A licence in the form that the hub knows, such as apache-2.0."""
    short = licence.lower().replace(" license", "").strip().replace(" ", "-")
    known = re.fullmatch(r"apache(?:-license)?,?-?(?:version-)?2(?:\.0)?", short)
    return "apache-2.0" if known else short


def _about(run: FinishedRun) -> str:
    metrics, parameters = run.metrics, run.metrics["parameters"]
    length = "" if metrics["prompt_len"] is None else f", prompt length {metrics['prompt_len']}"
    return (
        f"`{metrics['method']}`{length}, trained on `{metrics['task']['name']}` with "
        f"ptv2 {__version__} on the backbone "
        f"`{metrics['backbone']['name']}`: {parameters['trainable']:,.0f} parameters, "
        f"{parameters['trainable_percent']:.2g} % of the model."
    )


def _scores(metrics: Mapping[str, Any]) -> Iterator[str]:
    chosen, baseline = metrics["selection"], metrics["majority_baseline"] or {}
    yield "| split | metric | score | standard error | majority baseline |"
    yield "|---|---|---|---|---|"
    for split, scores in metrics["metrics"].items():
        for name, value in scores.items():
            selects = split == chosen["split"]
            error = metrics["standard_error"] if selects and name == chosen["metric"] else None
            figures = (value, error, baseline.get(name) if selects else None)
            yield f"| {split} | {name} | {' | '.join(map(_percent, figures))} |"
    yield ""
    yield (
        f"Scores are times 100, at the epoch with the best `{chosen['metric']}` on "
        f"`{chosen['split']}`."
    )


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"


def _use(run: FinishedRun, repo: str) -> str:
    columns = ", ".join(f"`{column}`" for column in run.resolved.task.columns)
    return f"""A row of `rows.jsonl` is a JSON object with {columns or "the columns of its task"}.

```python
import json

import ptv2_cli

run = ptv2_cli.load("hub:{repo}")
rows = [json.loads(line) for line in open("rows.jsonl", encoding="utf-8")]
for line in run.predict(rows):
    print(line["prediction"])
```

This needs `pip install ptv2`. The same on the command line:
`ptv2 predict rows.jsonl --run hub:{repo}`."""


def _training(metrics: Mapping[str, Any]) -> Iterator[str]:
    train, chosen = metrics["config"]["train"], metrics["selection"]
    unit = "epochs" if train.get("epochs") else "steps"
    yield "| learning rate | length | seed | chosen epoch |"
    yield "|---|---|---|---|"
    rate = metrics.get("lr", train["lr"])
    yield f"| {rate} | {train.get(unit)} {unit} | {metrics['seed']} | {chosen['epoch']} |"
    yield ""
    yield "`config.yaml` has every option, `metrics.json` the whole result with library versions."


def _data(metrics: Mapping[str, Any]) -> Iterator[str]:
    yield "| split | rows | sha256 |"
    yield "|---|---|---|"
    for split, about in metrics["data"].items():
        yield f"| {split} | {about['rows']:,} | `{about['sha256']}` |"


def _licence(run: FinishedRun, licence: str | None) -> str:
    name = f"`{run.metrics['backbone']['name']}`"
    if licence is None:
        return f"The licence of the backbone {name} is not known to ptv2: see its own page."
    return f"The backbone {name}, which these weights need, has the licence {licence}."


def code_of(readme: Path) -> str:
    """What the README.md of a PEFT export says below its title."""
    return readme.read_text(encoding="utf-8").partition("\n")[2].strip()
