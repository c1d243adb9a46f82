"""The kinds of task: one record says everything that other parts ask of a kind."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from ptv2_cli.registry import Registry

Kind = str
"""Name of an entry of KINDS."""
IGNORE = -100
"""Label of a position or row that has none, as in torch's cross entropy."""


@dataclass(frozen=True)
class PeftHead:
    """The class of transformers, and PEFT's name, for a head that is one linear layer, or the
    model's own."""

    model: str
    """Name of the class, such as AutoModelForTokenClassification."""
    task_type: str
    """PEFT's name, such as TOKEN_CLS."""
    logits: str
    """What the head's outputs are and their shape, in words."""


@dataclass(frozen=True)
class KindSpec:
    """What a kind of task is for the rest of the package.

    To add a kind, register a record with `register_kind`, a head with `HEADS.add` (unless one
    of those here serves) and a `tasks.base.Task` class whose `kind` is the record's name.
    """

    name: str
    answer: Literal["label", "choice", "number", "tags", "text", "labels", "writing"]
    """What the answer to a row is: one of the task's labels; the index of one of the row's
    choices; a number; a tag for each word; a part of the text; any number of the task's labels;
    or a text that the language model writes."""
    answer_key: str
    """The key of a prediction that holds the answer."""
    pooled: bool
    """Whether the head reads one vector of each input; else it reads every token."""
    epochs: int
    """Default number of epochs, the same for every method of a comparison."""
    blank: Any = IGNORE
    """Stands in a batch for the label of a row that has none; repeated where a label is a list.
    A kind with a tag for each word has a list of labels for each row, padded with IGNORE."""
    dtype: Literal["int64", "float32"] = "int64"
    """Type of the labels in a batch."""
    head: str = ""
    """Name of the head in HEADS; default: the kind's own name."""
    rates_of: str = ""
    """The kind whose default learning rates the methods use; default: its own, which must then
    be one of those that the methods know: sequence, regression, choice, token or span."""
    formats: tuple[str, ...] = ()
    """Formats of new rows that tasks of this kind read beside tables: conll, text, squad."""
    peft: PeftHead | None = None
    """How PEFT names the head; None: such a run cannot be exported to PEFT."""
    hub: str = ""
    """The model hub's name for such tasks, as in a model card; default: the kind's own name."""

    @property
    def head_name(self) -> str:
        """Name of the head in HEADS."""
        return self.head or self.name

    @property
    def rates_name(self) -> str:
        """Key of the methods' tables of learning rates."""
        return self.rates_of or self.name

    @property
    def hub_name(self) -> str:
        """The model hub's name for such tasks."""
        return self.hub or self.name

    @property
    def writes(self) -> bool:
        """Whether the language model writes the answer, token after token."""
        return self.answer == "writing"

    @property
    def decodes(self) -> bool:
        """Whether the head of an encoder-decoder reads its decoder; else only the encoder runs."""
        return self.pooled or self.writes

    @property
    def classed(self) -> bool:
        """Whether the answer to a row is one label or choice, right or wrong as a whole."""
        return self.answer in {"label", "choice"}


_SEQUENCE_CLASS = "AutoModelForSequenceClassification"
KINDS = Registry(
    "kind",
    {
        spec.name: spec
        for spec in (
            KindSpec(
                "sequence",
                answer="label",
                answer_key="label",
                pooled=True,
                epochs=30,
                peft=PeftHead(_SEQUENCE_CLASS, "SEQ_CLS", "a number for each label [rows, labels]"),
                hub="text-classification",
            ),
            KindSpec(
                "regression",
                answer="number",
                answer_key="prediction",
                pooled=True,
                epochs=30,
                blank=math.nan,
                dtype="float32",
                peft=PeftHead(_SEQUENCE_CLASS, "SEQ_CLS", "one number for each row [rows, 1]"),
                hub="text-classification",
            ),
            KindSpec(
                "choice",
                answer="choice",
                answer_key="label",
                pooled=True,
                epochs=30,
                hub="multiple-choice",
            ),
            KindSpec(
                "token",
                answer="tags",
                answer_key="tags",
                pooled=False,
                epochs=20,
                formats=("conll", "text"),
                peft=PeftHead(
                    "AutoModelForTokenClassification",
                    "TOKEN_CLS",
                    "a number for each tag at each token [rows, tokens, tags]",
                ),
                hub="token-classification",
            ),
            KindSpec(
                "span",
                answer="text",
                answer_key="answer",
                pooled=False,
                epochs=10,
                formats=("squad",),
                peft=PeftHead(
                    "AutoModelForQuestionAnswering",
                    "QUESTION_ANS",
                    "two numbers for each token, its answer's start and end [rows, tokens, 2]. "
                    "Hide padding and question yourself",
                ),
                hub="question-answering",
            ),
            KindSpec(
                "generation",
                answer="writing",
                answer_key="text",
                pooled=False,
                epochs=10,
                rates_of="sequence",
                peft=PeftHead(
                    "AutoModelForCausalLM",
                    "CAUSAL_LM",
                    "a number for each token of the vocabulary at each token of the text [rows, "
                    "tokens, tokens of the vocabulary]",
                ),
                hub="text-generation",
            ),
        )
    },
)


def register_kind(spec: KindSpec) -> None:
    """Add a kind from outside the package.

    Raises:
        ConfigError: another source has a kind of this name.
    """
    KINDS.add(spec.name, spec)


def kind_spec(kind: Kind) -> KindSpec:
    """The record of a kind.

    Raises:
        ConfigError: there is no such kind.
    """
    spec: KindSpec = KINDS.load(kind)
    return spec
