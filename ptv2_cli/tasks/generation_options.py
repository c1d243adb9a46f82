"""Which columns a task reads and which text it is to write: its open keys, checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from ptv2_cli.config.fields import Text, impossible
from ptv2_cli.config.section import Section
from ptv2_cli.errors import ConfigError
from ptv2_cli.inputs.template import parse_template
from ptv2_cli.tasks.user_data import Names


class GenerationOptions(Section):
    """Open keys of `task: text/generation`."""

    messages: Text | None = Field(
        None,
        description="column of a conversation, a list of {role, content}, instead of input and "
        "output: the model's own chat template writes it, and the last message, the assistant's, "
        "is the text to write",
    )
    input: Names | None = Field(
        None,
        description="columns that the model reads, in order; default: input",
        validate_default=True,
    )
    output: Text | None = Field(
        None,
        description="column of the text to write, or of a list of texts that are all right; "
        "default: output",
        validate_default=True,
    )
    words: dict[Text, Text] | None = Field(
        None,
        description="labels in the column of output, and the text to write for each: "
        "{true: yes, false: no}; default: the column holds the texts",
    )
    template: Text | None = Field(
        None,
        description="how the columns become input: '{title} {text} Summary:'; a line break in it "
        "is kept; default: one column after another",
    )

    @field_validator("input")
    @classmethod
    def _columns(
        cls, value: tuple[str, ...] | None, info: ValidationInfo
    ) -> tuple[str, ...] | None:
        if info.data.get("messages") is not None:
            _refuse_beside_messages(value, info)
            return None
        if value is None:
            return ("input",)
        if not value or len(set(value)) != len(value):
            raise impossible("names one column or several different ones", "write input: [COLUMN]")
        return value

    @field_validator("output")
    @classmethod
    def _no_input(cls, value: str | None, info: ValidationInfo) -> str | None:
        if info.data.get("messages") is not None:
            _refuse_beside_messages(value, info)
            return None
        value = "output" if value is None else value
        if value in (info.data.get("input") or ()):
            what = f"the column {value!r} is a column of task.input too"
            raise impossible(what, "write output: the column of the text to write")
        return value

    @field_validator("words")
    @classmethod
    def _texts(cls, value: dict[str, str] | None, info: ValidationInfo) -> dict[str, str] | None:
        if info.data.get("messages") is not None:
            _refuse_beside_messages(value, info)
            return None
        for label, text in (value or {}).items():
            if not text.strip():
                raise impossible(f"gives the label {label!r} no text", "write words: {LABEL: TEXT}")
        return value

    @field_validator("template")
    @classmethod
    def _words(cls, value: str | None, info: ValidationInfo) -> str | None:
        if info.data.get("messages") is not None:
            _refuse_beside_messages(value, info)
            return None
        columns = info.data.get("input")
        if value is None or columns is None:
            return value
        if "\\n" in value:
            what = "holds a backslash and an n, which is no line break"
            raise impossible(what, f'YAML reads a line break in double quotes: "{value}"')
        if "{mask}" in value.replace(" ", ""):
            what = "has a {mask}, but the answer is written behind the whole text"
            raise impossible(what, "leave {mask} out")
        try:
            parse_template(value, columns, prompted=False, lines=True)
        except ConfigError as error:
            hint = f"a template may hold the columns of task.input: {_braced(columns)}"
            raise impossible(error.problems[0].what, hint) from None
        left_out = [name for name in columns if f"{{{name}}}" not in value.replace(" ", "")]
        if left_out:
            what = f"template {value!r} leaves out {_braced(left_out)}"
            raise impossible(what, f"a template shows {_braced(columns)}")
        return value


def _braced(columns: Sequence[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in columns)


def _refuse_beside_messages(value: Any, info: ValidationInfo) -> None:
    """With messages there is nothing else to say."""
    if value is not None:
        what = f"has no meaning beside messages: {info.data['messages']}"
        raise impossible(what, f"leave {info.field_name} out, or messages")
