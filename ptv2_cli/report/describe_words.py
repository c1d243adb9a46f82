"""Names of methods, metrics and tasks as a paper writes them."""

from __future__ import annotations

from ptv2_cli.report.cells import Report, TaskColumn
from ptv2_cli.report.paper.published import published

_METHODS = {
    "ptuning_v2": "P-tuning v2 (Liu et al. 2022)",
    "prefix_tuning_plus": "Prefix-Tuning+ (Wang et al. 2025)",
    "prompt_tuning": "prompt tuning (Lester et al. 2021)",
    "ptuning_v1": "P-tuning (Liu et al. 2021)",
    "bitfit": "BitFit (Ben Zaken et al. 2022)",
    "houlsby_adapter": "adapters (Houlsby et al. 2019)",
    "parallel_adapter": "parallel adapters (He et al. 2022)",
    "mam": "MAM adapters (He et al. 2022)",
    "combined": "a combination of methods",
    "finetune": "fine-tuning",
    "lora": "LoRA (Hu et al. 2022)",
    "dora": "DoRA (Liu et al. 2024)",
    "rslora": "rsLoRA (Kalajdzievski 2023)",
    "ia3": "IA3 (Liu et al. 2022)",
    "ln_tuning": "tuning of layer norms",
    "head_only": "a head on the frozen backbone",
    "none": "the backbone as it is",
}
_METRICS = {
    "f1": "F1",
    "f1_macro": "macro F1",
    "f1_micro": "micro F1",
    "f1_a": "F1a",
    "f1_reference": "F1",
    "exact_match": "exact match",
    "mcc": "Matthews correlation",
    "auroc": "AUROC",
    "rouge_l": "ROUGE-L",
    "bleu": "BLEU",
    "mean": "mean of the tasks' scores",
}
_PARTS = {"EM", "F1", "WSJ", "Brown"}


def method_name(method: str, *, cited: bool = True) -> str:
    """A row's method in a sentence: `P-tuning v2 (Liu et al. 2022)`, `P-tuning v2 on 2 tasks`."""
    name, _, more = method.partition(", ")
    text = _METHODS.get(name, name)
    if not cited:
        text = text.partition(" (")[0]
    if not more:
        return text
    return f"{text} on {more} together" if more.endswith("tasks") else f"{text} ({more})"


def metric_name(metric: str) -> str:
    """A metric in a sentence: `accuracy`, `macro F1`."""
    return _METRICS.get(metric, metric.replace("_", " "))


def task_name(report: Report, column: TaskColumn) -> str:
    """A task's usual name, `CoNLL03`; the report's own where a table has two of the task."""
    usual = {
        item.task: " ".join(word for word in item.name.split() if word not in _PARTS)
        for table in published().tables
        for item in table.columns
    }
    several = sum(other.task == column.task for other in report.columns) > 1
    usual["glue/sst2"] = "SST-2"
    return report.names[column] if several else usual.get(column.task, report.names[column])
