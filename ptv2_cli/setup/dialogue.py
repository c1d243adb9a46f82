"""The questions of `ptv2 init`, and what the answers mean. It neither prints nor reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import util
from pathlib import Path
from typing import TypeVar

from ptv2_cli.config.schema import BackboneSection
from ptv2_cli.errors import InputError
from ptv2_cli.setup.draft import DEMO, SMOLLM, Answers
from ptv2_cli.setup.propose import Proposal, propose
from ptv2_cli.tasks.catalog import load_definition, task_names

_T = TypeVar("_T")
TRIES = 3
"""How often a question is asked before a bad answer ends the dialogue."""
Ask = Callable[[str, str], str]
"""(question, default) -> the answer typed, or the default for only Enter."""

OWN = {
    "text/classification": "classes of a text, or of a pair of texts",
    "text/regression": "a number for a text, or for a pair of texts",
    "text/tagging": "tags of words, such as named entities",
    "text/qa": "questions answered by a span of a text",
    "text/choice": "questions with choices, one of them right",
    "text/generation": "a text that a language model writes for each text",
}
"""Tasks for the user's data."""
_TITLES = {
    "text/classification": "Classes of texts",
    "text/regression": "A number for texts",
    "text/tagging": "Tags of words",
    "text/qa": "Questions answered by a span of a text",
    "text/choice": "Questions with choices",
    "text/generation": "Texts to write",
}
_WRITERS = {SMOLLM: "135 M, tuned for chat; scripts/lm installs it",
            "HuggingFaceTB/SmolLM2-360M": "362 M, from the hub",
            "google/flan-t5-base": "248 M, encoder-decoder, from the hub"}  # fmt: skip
_BACKBONES = {DEMO: "small, comes with the demo extra", "roberta-large": "355 M, from the hub",
              "bert-large-cased": "334 M, from the hub"}  # fmt: skip


def converse(ask: Ask, data: Path | None) -> Answers:
    """Ask for backbone, task and columns; `data` gives the proposals.

    Raises:
        InputError: an answer that cannot be used.
    """
    proposal = propose(data) if data is not None else None
    writes = proposal is not None and proposal.task == "text/generation"
    backbone = _backbone(ask, writes)
    tasks = {**OWN, **dict.fromkeys(_benchmarks(), "a benchmark")}
    likely = proposal.task if proposal else "text/classification"
    task = _choice(ask, "task", "What is to be learned?", tasks, likely)
    if task not in OWN:
        return _benchmark(ask, task, data, backbone)
    if proposal is None:
        question = "Train data: a csv, tsv, jsonl, json or CoNLL file, or a folder"
        proposal = _answer(ask, question, "", _proposed)
    options = _columns(ask, task, proposal)
    files = dict(proposal.files or {})
    if files and "validation" not in files:
        question = "Validation file (Enter: a tenth of train is held out)"
        files |= _answer(ask, question, "", _validation)
    return _answers(task, proposal, backbone, options, files)


def accepted(data: Path) -> Answers:
    """The proposals for `data`, without a question.

    Raises:
        InputError: no column looks like the label, or like text.
    """
    proposal = propose(data)
    options = _columns(lambda question, default: default, proposal.task, proposal)
    backbone = backbones(writes=proposal.task == "text/generation")[0]
    return _answers(proposal.task, proposal, backbone, options, proposal.files or {})


def backbones(*, writes: bool = False) -> list[str]:
    """The backbones offered, first the small one if it is installed; `writes`: those that write."""
    offered, small = (_WRITERS, SMOLLM) if writes else (_BACKBONES, DEMO)
    package = small.removeprefix("package:").partition("/")[0]
    installed = util.find_spec(package) is not None
    return [name for name in offered if installed or name != small]


def _benchmarks() -> list[str]:
    """Tasks with known data and labels."""
    return [name for name in task_names() if not name.startswith("text/")]


def _benchmark(ask: Ask, task: str, data: Path | None, name: str) -> Answers:
    where = "the hub's copy" if load_definition(task).hub else "a folder"
    default = "" if data is None else str(data)
    question = f"Folder with the files of {task} (Enter: {where})"
    folder = _answer(ask, question, default, _folder)
    kind = load_definition(task).shape
    mean = name == DEMO and kind == "classification"
    return Answers(f"{task} with {name}.", task, name, data=folder, mean=mean)


def _columns(ask: Ask, task: str, proposal: Proposal) -> dict[str, str | tuple[str, ...]]:
    if task == "text/qa":
        return {}
    if task == "text/tagging":
        if not proposal.columns:
            return {}  # CoNLL columns: the first is the word, the last the tag
        token = _column(ask, "Column of the words", proposal, "".join(proposal.text[:1]))
        tag = _column(ask, "Column of the tags", proposal, proposal.label or "")
        return {"token_column": token, "tag_column": tag}
    if task == "text/generation":
        return _written(ask, proposal)
    question = f"Text column, or two with a comma, of: {_listed(proposal)}"
    text = _answer(ask, question, ", ".join(proposal.text), lambda typed: _texts(typed, proposal))
    if task == "text/choice":
        question = f"Columns of the choices, or the one that lists them, of: {_listed(proposal)}"
        default = ", ".join(proposal.choices)
        choices = _answer(ask, question, default, lambda typed: _names(typed, proposal))
        label = _column(ask, "Column of the right choice", proposal, proposal.label or "")
        return {"text": text, "choices": choices, "label": label}
    what = "Column of the number" if task == "text/regression" else "Column of the label"
    prompt = f"{proposal.note}\n{what}" if proposal.note else what
    return {"text": text, "label": _column(ask, prompt, proposal, proposal.label or "")}


def _written(ask: Ask, proposal: Proposal) -> dict[str, str | tuple[str, ...]]:
    """The columns of texts to write: a conversation, or what is read and what is written."""
    if proposal.messages is not None:
        return {"messages": _column(ask, "Column of the messages", proposal, proposal.messages)}
    question = f"Columns that the model reads, with commas, of: {_listed(proposal)}"
    default = ", ".join(proposal.text)
    read = _answer(ask, question, default, lambda typed: _names(typed, proposal))
    return {
        "input": read,
        "output": _column(ask, "Column of the text to write", proposal, proposal.label or ""),
    }


def _column(ask: Ask, question: str, proposal: Proposal, default: str) -> str:
    prompt = f"{question}, of: {_listed(proposal)}"
    return _answer(ask, prompt, default, lambda typed: _known(typed, proposal))


def _texts(typed: str, proposal: Proposal) -> tuple[str, ...]:
    text = _names(typed, proposal)
    if len(text) > 2:
        raise InputError.at("init", f"{len(text)} text columns", "name one, or two")
    return text


def _names(typed: str, proposal: Proposal) -> tuple[str, ...]:
    return tuple(_known(part.strip(), proposal) for part in typed.split(","))


def _known(name: str, proposal: Proposal) -> str:
    if name in proposal.columns:
        return name
    what = f"no column {name!r}" if name else "no column looks like the one asked for"
    hint = f"its columns are {_listed(proposal)}; ptv2 init in a terminal asks which is which"
    raise InputError.at(str(proposal.path), what, hint)


def _listed(proposal: Proposal) -> str:
    return ", ".join(proposal.columns)


def _backbone(ask: Ask, writes: bool) -> str:
    offered = {name: {**_BACKBONES, **_WRITERS}[name] for name in backbones(writes=writes)}
    first = next(iter(offered))
    return _choice(ask, "backbone", "Which backbone?", offered, first, others=True, check=_usable)


def _usable(name: str) -> str:
    """The backbone, if it exists and its family is known, or if nobody can tell.

    Raises:
        BackboneError: there is none of that name, or it cannot be prompted.
    """
    from ptv2_cli.backbones.families import shape_of
    from ptv2_cli.backbones.files.locate import NotCached, is_offline, locate

    try:
        located = locate(BackboneSection(name=name), offline=is_offline(False), weights=False)
    except NotCached:
        return name  # the hub cannot be reached now
    shape_of(located.name, located.config)
    return name


def _choice(
    ask: Ask, what: str, question: str, offered: Mapping[str, str], default: str, *,
    others: bool = False, check: Callable[[str], str] = str,
) -> str:  # fmt: skip
    """One of the names, by its number or in full, or with `others` another, if `check` passes."""
    room = max(map(len, offered))
    lines = [f"{i:>4}  {name:{room}}  {what}" for i, (name, what) in enumerate(offered.items(), 1)]
    more = "number, name, hub id or folder" if others else "number or name"
    prompt = "\n".join([question, *lines, f"{what} ({more})"])
    names = [*offered]
    return _answer(ask, prompt, default, lambda typed: check(_named(typed, names, what, others)))


def _named(typed: str, names: Sequence[str], what: str, others: bool) -> str:
    if typed.isdigit() and 1 <= int(typed) <= len(names):
        return names[int(typed) - 1]
    if typed in names or (others and typed and not typed.isdigit()):
        return typed
    hint = f"type a number from 1 to {len(names)}, or one of {', '.join(names)}"
    raise InputError.at("init", f"{typed!r} is no {what} of the list", hint)


def _proposed(typed: str) -> Proposal:
    if not typed:
        raise InputError.at("init", "no data was named", "ptv2 init --data FILE")
    return propose(Path(typed).expanduser())


def _validation(typed: str) -> dict[str, Path]:
    path = Path(typed).expanduser()
    if typed and not path.is_file():
        raise InputError.at(typed, "there is no such file", "run ptv2 init again, with its path")
    return {"validation": path} if typed else {}


def _folder(typed: str) -> Path | None:
    path = Path(typed).expanduser()
    if typed and not path.is_dir():
        raise InputError.at(typed, "there is no such folder", "run ptv2 init again, with its path")
    return path if typed else None


def _answer(ask: Ask, question: str, default: str, read: Callable[[str], _T]) -> _T:
    """What `read` makes of the answer; a bad answer is explained, and the question repeated."""
    for left in reversed(range(TRIES)):
        try:
            return read(ask(question, default))
        except InputError as error:
            if not left:
                raise
            question = f"{error.problems[0]}\n{question.splitlines()[-1]}"
    raise AssertionError("TRIES is 1 or more")


def _answers(
    task: str, proposal: Proposal, backbone: str,
    options: Mapping[str, str | tuple[str, ...]], files: Mapping[str, Path],
) -> Answers:  # fmt: skip
    return Answers(
        f"{_TITLES[task]}, from {proposal.path.name}.",
        task,
        backbone,
        data=proposal.path if not files else None,
        files=files,
        options=options,
        note=proposal.note,
        bad=proposal.bad,
        mean=backbone == DEMO and task in {"text/classification", "text/regression", "text/choice"},
    )
