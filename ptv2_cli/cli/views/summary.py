"""What `ptv2 train` prints: the parameters, the scores, the next commands."""

from __future__ import annotations

import shlex
from typing import Any

from ptv2_cli.cli import console
from ptv2_cli.cli.options import without
from ptv2_cli.runs.calibration import PRIOR
from ptv2_cli.runs.directory import RunDirectory
from ptv2_cli.runs.session import Session

SHOWN = 5
"""Labels whose prior is printed."""


def percent(value: float | None) -> str:
    """A score times 100."""
    return "-" if value is None else f"{100 * value:.1f}"


def parameter_table(session: Session) -> None:
    """Print the number of parameters of each part, and which of them train."""
    counts = session.learner.counts()
    backbone_trains = session.learner.method.trains_backbone
    extra = sum(
        session.learner.backbone.get_parameter(name).numel()
        for name in session.learner.backbone.untrained
    )
    rows = [
        ("prompt", f"{counts['prompt']:,}", "yes"),
        ("reparameterization", f"{counts['reparam']:,}", "yes"),
        ("adapter", f"{counts['adapter']:,}", "yes"),
        ("head", f"{counts['head']:,}", "no" if _frozen_head(session) else "yes"),
        ("backbone", f"{counts['backbone']:,}", "yes" if backbone_trains else "no"),
    ]
    if extra and not backbone_trains:
        rows.append(("  of these, not in the checkpoint", f"{extra:,}", "yes"))
    rows.append(("trainable", f"{counts['trainable']:,}", f"{counts['trainable_percent']:.2f} %"))
    shown = [row for row in rows if row[1] != "0"]
    console.table("parameters", ("part", "values", "trains"), shown)


def _frozen_head(session: Session) -> bool:
    return not any(parameter.requires_grad for parameter in session.learner.head.parameters())


def run_summary(directory: RunDirectory, command: list[str]) -> None:
    """Print the scores of a finished run, its baseline, and what to try after `command`."""
    metrics = directory.read_metrics()
    selection = metrics["selection"]
    metric = selection["metric"]
    if metrics["status"] == "diverged":
        console.say(f"{metrics['task']['name']}: the run diverged ({directory.path})")
    for split, scores in metrics["metrics"].items():
        console.say(_score_line(metrics, split, metric, scores))
    if metrics["config"]["head"].get("calibrate"):
        console.say(_prior_line(metrics))
    if (metrics.get("retention") or {}).get("kl") is not None:
        console.say(_retention_line(metrics["retention"]))
    console.say(_parameter_line(metrics))
    if metrics["data_note"]:
        console.say(metrics["data_note"])
    console.say(f"run: {directory.path}")
    console.note("next:")
    for line in _next(metrics, directory, command):
        console.note(f"  {line}")


def _retention_line(measured: dict[str, Any]) -> str:
    error = measured["kl_standard_error"]
    spread = "" if error is None else f" +- {error:.3f}"
    return (
        f"elsewhere ({measured['text']}, {measured['tokens']} tokens): KL {measured['kl']:.3f}"
        f"{spread} nats a token, perplexity {measured['perplexity']:.2f}, "
        f"bare model {measured['bare_perplexity']:.2f}"
    )


def _score_line(metrics: dict[str, Any], split: str, metric: str, scores: dict[str, float]) -> str:
    first = f"{metrics['task']['name']} {split}: {metric} {percent(scores.get(metric))}"
    others = [
        f"{name} {percent(value)}"
        for name, value in scores.items()
        if name != metric and "strict" not in name
    ]
    selection = metrics["selection"]
    parts = [", ".join([first, *others])]
    if split == selection["split"]:
        error = metrics["standard_error"]
        parts.append(f"+- {percent(error)} standard error" if error is not None else "")
        baseline = metrics["majority_baseline"]
        parts.append(f"majority baseline {percent(baseline.get(metric))}" if baseline else "")
        parts.append(f"best epoch {selection['epoch']:g}")
    return "; ".join(part for part in parts if part)


def _prior_line(metrics: dict[str, Any]) -> str:
    """The model's prior, most probable labels first, which its answers were divided by."""
    how, state = metrics["config"]["head"]["calibrate"], metrics["selection"]["state"]
    priors = {k.removeprefix(PRIOR): v for k, v in state.items() if k.startswith(PRIOR)}
    most = sorted(priors, key=lambda label: -priors[label])
    shown = [f"{label} {percent(priors[label])} %" for label in most[:SHOWN]]
    more = f" and {len(most) - SHOWN} more" if len(most) > SHOWN else ""
    return f"calibrated ({how}): divided by the prior {', '.join(shown)}{more}"


def _parameter_line(metrics: dict[str, Any]) -> str:
    parameters, timing = metrics["parameters"], metrics["timing"]
    rate = timing["examples_per_second"]
    speed = f" at {rate:.0f} examples/s" if rate else ""
    return (
        f"{metrics['method']}: {parameters['trainable']:,} trainable parameters "
        f"({parameters['trainable_percent']:.2f} %), "
        f"{timing['train_seconds']:.0f} s of training{speed}"
    )


def _next(metrics: dict[str, Any], directory: RunDirectory, command: list[str]) -> list[str]:
    offline = ["--offline"] if "--offline" in command else []
    commands = [["ptv2", "eval", str(directory.path), *offline]]
    # The backbone's own head answers already; any other is new and must train.
    borrowed = metrics["config"]["head"]["name"] in {"verbalizer", "generation"}
    baseline = "none" if borrowed else "head_only"
    if metrics["method"] != baseline:
        # Options, learning rate and length belong to the method of this run.
        same = without(command, "method", "train.lr", "prompt_len")
        commands.append([*same, "--set", f"method={baseline}", "--unset", "train.lr"])
    if metrics["prompt_len"]:
        longer = str(2 * metrics["prompt_len"])
        commands.append([*without(command, "prompt_len"), "--prompt-len", longer])
    return [shlex.join(words) for words in commands]
