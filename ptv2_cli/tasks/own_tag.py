"""A person's own sentences and their entities, in any usual tagging scheme."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import BeforeValidator, Field, field_validator

from ptv2_cli.config.schema import Section
from ptv2_cli.errors import DataError
from ptv2_cli.tasks.base import DataSource, Row, Split
from ptv2_cli.tasks.bio import SPELLINGS, bioes_to_bio, scheme_of, to_bio
from ptv2_cli.tasks.columns import Place, unknown_column
from ptv2_cli.tasks.definition import Definition
from ptv2_cli.tasks.formats import Line
from ptv2_cli.tasks.own import LABELLED, Names, check_known, from_train, impossible
from ptv2_cli.tasks.readers import check_words, read_split
from ptv2_cli.tasks.tag import Tagging, TaggingOptions

FORMATS = ("conll", ".jsonl", ".parquet")


def _place(value: Any) -> Any:
    """A whole number is an index, whatever its source text; all else is a name."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return int(value) if whole else getattr(value, "source", value)


Column = Annotated[int | str, BeforeValidator(_place)]


class OwnTaggingOptions(TaggingOptions):
    """Open keys of `task: text/tagging`."""

    scheme: Literal["auto", "bio", "iob1", "bioes"] = Field(  # type: ignore[assignment]
        "auto", description="how the files mark entities; auto looks at the train file"
    )
    token_column: Column = Field(
        0, description="column of the words: an index from 0, or a name in the first line"
    )
    tag_column: Column = Field(
        -1, description="column of the tags: an index (-1: the last), or a name in the first line"
    )
    labels: Names | None = Field(
        None, description="the tags in BIO, O first; default: those of the types in train"
    )

    @field_validator("labels")
    @classmethod
    def _are_bio(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        known = value is None or ("O" in value and all(t[:2] in {"O", "B-", "I-"} for t in value))
        if not known or (value is not None and len(set(value)) != len(value)):
            raise impossible("names O and different B- and I- tags", "write labels: [O, B-X, I-X]")
        return value


class OwnTagging(Tagging):
    """Rows `{tokens: [...], tags: [...]}`, tags in BIO whatever the files have."""

    options_model: ClassVar[type[Section]] = OwnTaggingOptions

    def __init__(self, name: str, definition: Definition, options: Section) -> None:
        own = cast(OwnTaggingOptions, options)
        labels = own.labels or ()
        super().__init__(name, definition.model_copy(update={"labels": labels}), options)
        self.options: OwnTaggingOptions = own
        self.token_column = own.token_column
        self.types = tuple(dict.fromkeys(label[2:] for label in labels if label != "O"))

    @property
    def gold_columns(self) -> tuple[str, ...]:
        """The tags, and the column that `tag_column:` names."""
        named = self.options.tag_column
        return ("tags", named) if isinstance(named, str) else ("tags",)

    def settle(self, source: DataSource) -> OwnTagging:
        """With the scheme and the tags of the train file; see Task.settle."""
        if self.options.labels is not None and self.options.scheme != "auto":
            return self
        make = lambda line: check_tags(line, self._words(line)[1])  # noqa: E731
        sentences = from_train(self, source, FORMATS, make, self._columns)
        types = sorted({tag[2:] for tags in sentences for tag in tags if tag != "O"})
        if not types:
            where = ", ".join(map(str, source.files("train")))
            hint = "task.tag_column says which column holds the tags (-1: the last)"
            raise DataError.at(where, "every tag is O: no entity to learn", hint)
        # I-X is there even where every X of train is one word: elsewhere it may be longer.
        found = ("O", *(f"{prefix}-{name}" for name in types for prefix in "BI"))
        scheme = self.options.scheme if self.options.scheme != "auto" else scheme_of(sentences)
        update = {"scheme": scheme, "labels": self.options.labels or found}
        return OwnTagging(self.name, self.definition, self.options.model_copy(update=update))

    def read(self, source: DataSource, split: str, limit: int | None = None) -> Split:
        """Read CoNLL columns, jsonl or parquet files; see Task.read."""
        make = self._tagged if split in LABELLED else self._row
        return read_split(self, source, split, limit, FORMATS, make, self._columns)

    def _tagged(self, line: Line) -> Row:
        row = self._row(line)
        if "tags" not in row:
            raise DataError.at(line.where, "the sentence has no tags", "tag it, or delete it")
        return row

    @property
    def _columns(self) -> tuple[Place, Place]:
        return self.options.token_column, self.options.tag_column

    def _row(self, line: Line) -> Row:
        row: Row = {"id": line.values["id"]} if "id" in line.values else {}
        tokens, raw = self._words(line)
        row["tokens"] = tokens
        if raw is not None:
            tags = self._in_bio(line, check_tags(line, raw))
            for index, tag in enumerate(tags):
                if tag != "O":
                    number = line.numbers[index] if line.numbers else None
                    check_known(line.at(number), "entity type", tag[2:], self.types)
            row["tags"] = tags
        return row

    def _words(self, line: Line) -> tuple[list[str], list[str] | None]:
        """Words and tags as read; jsonl files may have them under the names of the columns."""
        values = dict(line.values)
        for ours, named in zip(("tokens", "tags"), self._columns, strict=True):
            if isinstance(named, str) and line.numbers is None and ours not in values:
                if named not in values and ours == "tokens":
                    raise unknown_column(line.where, named, values)
                values[ours] = values.get(named)
        tokens, tags = check_words(Line(values, line.path, line.number, line.numbers), None)
        if not all(token.strip() for token in tokens):
            raise DataError.at(line.where, "an empty word", "leave it and its tag out")
        return tokens, tags

    def _in_bio(self, line: Line, tags: list[str]) -> list[str]:
        scheme = self.options.scheme
        if scheme == "bioes":
            return bioes_to_bio(tags)
        for index, tag in enumerate(tags):
            if tag[0] not in "OBI":
                number = line.numbers[index] if line.numbers else None
                raise DataError.at(
                    line.at(number),
                    f"tag {tag!r} in a file of the scheme {scheme}, which is that of train",
                    "tag all files alike; or write task: {scheme: bioes}, if train may have such",
                )
        return to_bio(tags) if scheme == "iob1" else tags


def check_tags(line: Line, tags: list[str] | None) -> list[str]:
    """The tags, seen to be O or to have a prefix that a scheme knows.

    Raises:
        DataError: no tags, or a tag of no scheme.
    """
    if tags is None:
        raise DataError.at(line.where, "no tags", "every word of a train sentence has one")
    for index, tag in enumerate(tags):
        if tag != "O" and (tag[:1] not in SPELLINGS or tag[1:2] != "-" or not tag[2:]):
            number = line.numbers[index] if line.numbers else None
            raise DataError.at(
                line.at(number),
                f"tag {tag!r} is no tag of BIO, IOB1 or BIOES",
                "tags are O, B-TYPE, I-TYPE, E-TYPE, S-TYPE; task.tag_column says where they stand",
            )
    return tags
