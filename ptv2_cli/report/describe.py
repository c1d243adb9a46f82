"""A methods paragraph: what was trained on what and how it was chosen, with figures filled in.

Every figure is from the runs' metrics.json and config; nothing is measured or assumed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ptv2_cli.report.baseline import Baseline
from ptv2_cli.report.cells import Report, TableRow
from ptv2_cli.report.describe_results import result_sentences, test_sentences
from ptv2_cli.report.describe_words import method_name, metric_name, task_name
from ptv2_cli.report.english import counted, listed, number, sentence, span
from ptv2_cli.report.runs import ReportedRun, flatten, plain
from ptv2_cli.report.table import short_backbone


def describe(report: Report, baseline: Baseline | None = None) -> list[str]:
    """Paragraphs about the runs of a report: data and models, training, choice, results, machine.

    Args:
        report: the runs as a table.
        baseline: tests against a named method, which get a sentence each.
    """
    runs = _runs(report)
    paragraphs = [
        [*_data(report), *_models(runs)],
        [*_methods(report), *_training(runs)],
        [*_selection(report, runs), *_seeds(report)],
        [*result_sentences(report), *test_sentences(report, baseline)],
        [*_machine(runs)],
    ]
    return [" ".join(map(sentence, filter(None, texts))) for texts in paragraphs if texts]


def _runs(report: Report) -> list[ReportedRun]:
    """Every run once, though one of several tasks stands in several columns."""
    found: dict[Any, ReportedRun] = {}
    for line in report.lines:
        for cell in line.cells.values():
            for run in cell.runs:
                found.setdefault(run.directory.path, run)
    return list(found.values())


def _data(report: Report) -> Iterator[str]:
    names = [task_name(report, column) for column in report.columns]
    total = len(_runs(report))
    yield f"we report {counted(total, 'run')} on {counted(len(names), 'task')}, {listed(names)}"
    for column in report.columns:
        runs = [run for cell in report.cells(column) for run in cell.runs]
        train = [int(run.metrics["data"]["train"]["rows"]) for run in runs]
        text = f"training on {task_name(report, column)} uses {span(train, '{:,}')} "
        text += _plural(max(train), "row", "rows")
        if column.rows is not None:
            text += f", and its {column.split} split has {column.rows:,}"
        yield text


def _models(runs: Sequence[ReportedRun]) -> Iterator[str]:
    sizes: dict[str, int] = {}
    for run in runs:
        sizes.setdefault(_backbone(run), int(run.metrics["parameters"]["backbone"]))
    texts = [f"{name} ({_millions(size)} parameters)" for name, size in sizes.items()]
    yield f"the backbone{' is' if len(texts) == 1 else 's are'} {listed(texts)}"


def _backbone(run: ReportedRun) -> str:
    return short_backbone(str(run.metrics["backbone"]["name"]))


def _millions(count: int) -> str:
    if count >= 1_000_000_000:
        return f"{count / 1e9:.2f} billion"
    return f"{count / 1e6:.1f} million" if count >= 100_000 else f"{count:,}"


def _methods(report: Report) -> Iterator[str]:
    """A sentence for each method: prompt, trained share, learning rates."""
    methods: dict[str, list[TableRow]] = {}
    for line in report.lines:
        methods.setdefault(line.key.method, []).append(line)
    for method, lines in methods.items():
        runs = [run for line in lines for cell in line.cells.values() for run in cell.runs]
        lengths = sorted({run.prompt_len for run in runs if run.prompt_len})
        name = method_name(method)
        if runs[0].metrics["parameters"]["trainable"] == 0:
            yield f"for {name}, we train nothing"
            continue
        shares = [float(run.metrics["parameters"]["trainable_percent"]) for run in runs]
        text = f"for {name}, we train {span(shares, '{:.3g}', ' %')} of the parameters"
        if lengths:
            text += f", with prompts of {_values(map(str, lengths), 'token')}"
        yield text + ("" if runs[0].imported else _rates(runs))


def _rates(runs: Sequence[ReportedRun]) -> str:
    rates = _settings(runs, "train.lr")
    fixed = [rate for rate in rates if rate != "auto"]
    text = ""
    if fixed:
        kind = _plural(len(fixed), "a learning rate", "learning rates")
        text = f", at {kind} of {listed(fixed)}"
    if len(fixed) < len(rates):
        text += f"{' or' if fixed else ', at'} one that a range test chose (Smith 2017)"
    return text


def _training(runs: Sequence[ReportedRun]) -> Iterator[str]:
    ours = [run for run in runs if not run.imported]
    if len(ours) < len(runs):
        elsewhere = counted(len(runs) - len(ours), "run")
        yield f"{elsewhere} {_plural(len(runs) - len(ours), 'was', 'were')} trained elsewhere"
    trained = [run for run in ours if run.metrics["parameters"]["trainable"]]
    if not trained:
        return
    epochs, steps = _settings(trained, "train.epochs"), _settings(trained, "train.steps")
    lengths = [_values(epochs, "epoch")] if epochs else []
    duration = listed([*lengths, *([_values(steps, "step")] if steps else [])], "or")
    whole = [run for run in trained if run.metrics["config"]["train"].get("batch_tokens")]
    parts = ["AdamW (Loshchilov and Hutter 2019)"]
    if whole:
        tokens = _values(_settings(whole, "train.batch_tokens"), "token")
        parts.append(f"batches of up to {tokens}")
    counts = _settings([run for run in trained if run not in whole], "train.batch_size")
    parts += [f"batches of {_values(counts, 'row')}"] if counts else []
    for key, words in (
        ("train.weight_decay", "a weight decay of {}"),
        ("train.clip", "gradients clipped at a norm of {}"),
        ("train.schedule", "a {} schedule of the learning rate"),
    ):
        values = _settings(trained, key)
        parts += [words.format(listed(values, "or"))] if values else []
    subject = _plural(len(trained), "the run trains", "the runs train")
    yield f"{subject}{f' for {duration}' if duration else ''} with {listed(parts)}"
    warmups = [float(value) for value in _settings(trained, "train.warmup")]
    if any(warmups):
        first = "up to the first" if min(warmups) != max(warmups) else "the first"
        yield f"the learning rate rises during {first} {100 * max(warmups):g} % of the steps"
    elif warmups:
        yield "there is no warm-up"
    types = listed(_settings(trained, "train.precision"), "or")
    if types:
        yield f"training computes in {types}"


def _selection(report: Report, runs: Sequence[ReportedRun]) -> Iterator[str]:
    chosen = {
        (str(run.metrics["selection"]["split"]), str(run.metrics["selection"]["mode"]))
        for run in runs
    }
    metrics = listed(
        (
            metric_name(str(run.metrics["selection"]["metric"]))
            for column in report.columns
            for cell in report.cells(column)
            for run in cell.runs
        ),
        "or",
    )
    splits = listed(sorted(split for split, _ in chosen), "or")
    best = "lowest" if {mode for _, mode in chosen} == {"min"} else "best"
    whose = "the run" if len(runs) == 1 else "each run"
    yield f"we report {whose} at the evaluation with the {best} {metrics} on the {splits} split"
    patient = [run for run in runs if run.metrics["config"]["train"].get("early_stopping")]
    if patient:
        yield f"{counted(len(patient), 'run')} may stop early"
    reported = {column.split for column in report.columns}
    same = reported & {split for split, _ in chosen}
    if same:
        yield (
            f"scores are reported on the same {listed(sorted(same))} split, so they are a little "
            "too high by chance"
        )
    others = reported - same
    if others:
        yield f"scores are reported on the {listed(sorted(others))} split, which chose nothing"
    diverged = sum(run.diverged for run in runs)
    if diverged:
        verb = _plural(diverged, "diverged and counts", "diverged and count")
        yield f"{counted(diverged, 'run')} {verb} in no mean"


def _seeds(report: Report) -> Iterator[str]:
    counts = sorted(report.counts - {0})
    seeds = sorted({run.seed for run in _runs(report) if not run.imported})
    if not counts or not seeds:
        return
    shown = listed(map(str, seeds))
    if counts[-1] == 1:
        each = f"each setting has one seed ({listed(map(str, seeds), 'or')})"
        single = f"the run has one seed ({shown})"
        yield single if len(_runs(report)) == 1 else each
        yield "how far another seed would move a score is not known"
        return
    many = counted(counts[-1], "seed") if len(counts) == 1 else _range(counts)
    yield (
        f"each setting was run with {many} ({shown}); we give the mean and, with several seeds, "
        "the sample standard deviation"
    )


def _range(counts: Sequence[int]) -> str:
    return f"{number(counts[0])} to {counted(counts[-1], 'seed')}"


def _machine(runs: Sequence[ReportedRun]) -> Iterator[str]:
    def versions(key: str) -> str:
        return listed(
            sorted({str(run.metrics["environment"].get(key)) for run in runs} - {"None"}), "or"
        )

    parts = [
        f"{name} {version}"
        for name, key in (("ptv2", "ptv2"), ("PyTorch", "torch"), ("transformers", "transformers"))
        if (version := versions(key))
    ]
    devices = sorted({str(run.metrics["environment"].get("device")) for run in runs} - {"None"})
    if devices:
        names = versions("device_name")
        kinds = listed(("a CPU" if name == "cpu" else "a GPU" for name in devices), "or")
        text_of_device = f" on {kinds}" + (f" ({names})" if names else "")
    else:
        text_of_device = ""
    text = f"the {_plural(len(runs), 'run', 'runs')} used {listed(parts)}{text_of_device}"
    yield text
    ours = [run for run in runs if not run.imported]
    seconds = sum(float(run.metrics["timing"]["train_seconds"]) for run in ours)
    if ours:
        yield f"training took {_hours(seconds)}{' in all' if len(runs) > 1 else ''}"


def _hours(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _settings(runs: Sequence[ReportedRun], key: str) -> list[str]:
    """The different values of a config key, numbers in their order."""
    values = {flatten(run.metrics["config"]).get(key) for run in runs} - {None}
    return [plain(value) for value in sorted(values, key=_order)]


def _order(value: Any) -> tuple[int, float, str]:
    if isinstance(value, int | float):
        return 0, float(value), ""
    return 1, 0.0, str(value)


def _values(texts: Iterable[str], noun: str) -> str:
    """`20 tokens`, `20 or 100 tokens`, `1 epoch`."""
    found = list(texts)
    return f"{listed(found, 'or')} {noun}{'' if found == ['1'] else 's'}"


def _plural(count: int, one: str, many: str) -> str:
    return one if count == 1 else many
