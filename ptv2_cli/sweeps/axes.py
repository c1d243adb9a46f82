"""What a sweep varies: lists of values by key, from flags and from a config's `sweep:`."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptv2_cli.config import merge
from ptv2_cli.config.faults import seen
from ptv2_cli.config.load import LoadedConfig
from ptv2_cli.config.origins import Origins, dotted
from ptv2_cli.config.overrides import FLAGS, KEYWORDS, Override, parse_key
from ptv2_cli.config.yaml import Document, from_python, parse_value
from ptv2_cli.errors import ConfigError, Problem, gather
from ptv2_cli.sweeps.options import OPTIONS, SAMPLES
from ptv2_cli.sweeps.ranges import Scale, read_range

SHORT = {"prompt_len": "prompt_len", "lr": "train.lr", "seed": "train.seed"}
"""Keys of `sweep:` that need no `grid:` -> the config's keys."""
SEED = "train.seed"
_SAMPLES = {
    "prompt_len": "20,100",
    "train.lr": "5e-3,1e-2",
    "train.seed": "11,12,13",
    "train.epochs": "10,20",
    "train.batch_size": "16,32",
}
VARIANTS, SPACE = "variants", "space"
_SPACE_SAMPLE = "write sweep: {search: tpe, trials: 20, space: {train.lr: {log: [1e-3, 1e-1]}}}"
_VARIANTS_SAMPLE = "write sweep: {variants: {plain: {}, words: {method.init: vocab}}}"
_FIXED = ("name", "extends", "sweep", "track")
"""Sections that cannot change the result of a run."""


@dataclass(frozen=True)
class Axis:
    """One key and the values that it takes in turn."""

    path: tuple[str, ...]
    values: tuple[Any, ...]
    where: str
    """The flag, or the line of a config."""
    text: str
    """The list as it was typed."""
    in_file: bool = False
    scale: Scale | None = None
    """How a search draws from a range, whose ends are the values; None: the values are choices."""

    @property
    def key(self) -> str:
        """The dotted key, e.g. `train.lr`."""
        return dotted(self.path)

    @property
    def origin(self) -> str:
        """The name of its overrides, which messages replace by `where`."""
        return f"--grid {self.key}"

    def gave(self, where: str) -> bool:
        """Whether a problem at `where` is one of its values."""
        return where == self.origin

    @property
    def paths(self) -> tuple[tuple[str, ...], ...]:
        """The keys that its values set."""
        return (self.path,)

    def overrides(self, value: Any) -> list[Override]:
        """What one of its values sets."""
        return [Override(self.path, value, self.origin)]


@dataclass(frozen=True, kw_only=True)
class Variants(Axis):
    """Settings of several keys each, by name; the names are the values."""

    settings: Mapping[str, tuple[Override, ...]]

    def gave(self, where: str) -> bool:
        """Whether a problem at `where` is in one of the variants."""
        return any(each.origin == where for of in self.settings.values() for each in of)

    @property
    def paths(self) -> tuple[tuple[str, ...], ...]:
        """All keys that a variant sets."""
        return tuple(dict.fromkeys(each.path for of in self.settings.values() for each in of))

    def overrides(self, value: Any) -> list[Override]:
        """What the variant of a name sets."""
        return list(self.settings[value])


def from_flags(
    prompt_len: str | None,
    lr: str | None,
    seed: str | None,
    grid: Sequence[str],
    epochs: str | None = None,
    batch_size: str | None = None,
    space: Sequence[str] = (),
) -> list[Axis]:
    """The axes of the command line: keys with their own flag first, then --grid, then --space.

    Raises:
        ConfigError: with every list that is empty, broken or given twice.
    """
    problems: list[Problem] = []
    axes: list[Axis] = []
    short = zip(FLAGS, (prompt_len, lr, seed, epochs, batch_size), strict=True)
    texts = [(FLAGS[key], key, text) for key, text in short if text is not None]
    for text in grid:
        key, equals, values = text.partition("=")
        if not equals:
            what = f"{text!r} has no = between key and values"
            hint = f"type --grid {text or 'train.batch_size'}=A,B"
            problems.append(Problem("--grid", what, hint))
            continue
        texts.append((f"--grid {key.strip()}", key.strip(), values))
    for flag, key, values in texts:
        try:
            axes.append(_typed(flag, key, values))
        except ConfigError as error:
            problems += error.problems
    for text in space:
        key, equals, values = text.partition("=")
        flag = f"--space {key.strip()}"
        try:
            if not equals:
                hint = "type --space 'train.lr={log: [1e-3, 1e-1]}'"
                raise ConfigError.at("--space", f"{text!r} has no = between key and values", hint)
            value = parse_value(values, flag)
            axes.append(_ranged(key.strip(), value, flag, Path.cwd(), in_file=False))
        except ConfigError as error:
            problems += error.problems
    problems += _misplaced(axes)
    gather(problems, ConfigError)
    return axes


def from_grid(grid: Mapping[str, Any]) -> list[Axis]:
    """The axes that Python gives: a key, or a keyword such as `lr`, with its values.

    Raises:
        ConfigError: with every key and value that is wrong.
    """
    problems: list[Problem] = []
    axes: list[Axis] = []
    for name, values in grid.items():
        key, where = KEYWORDS.get(name, name), f"grid {name}"
        items = from_python(values, where)
        if not isinstance(items, list) or not items:
            kind = "an empty list" if items == [] else seen(items, "a list")
            samples = "[" + ", ".join(_SAMPLES.get(key, "A,B").split(",")) + "]"
            problems.append(
                Problem(where, f"must be a list of values, not {kind}", f"give {samples}")
            )
            continue
        path = parse_key(key, where)
        anchored = tuple(_anchored(path, item, Path.cwd()) for item in items)
        axes.append(Axis(path, anchored, where, "", in_file=True))
    gather([*problems, *_misplaced(axes)], ConfigError)
    return axes


def from_section(loaded: LoadedConfig) -> list[Axis]:
    """The axes of a config's `sweep:` section; none where there is no such section.

    `lanes:` and `engine:` are not axes; see `options`.

    Raises:
        ConfigError: with every key and value of the section that is wrong.
    """
    section = loaded.config.sweep or {}
    problems: list[Problem] = []
    axes: list[Axis] = []
    for key, value in section.items():
        where = loaded.where("sweep", key)
        if key in SHORT:
            axes += _listed(loaded, (key,), SHORT[key], value, problems)
        elif key == "grid" and isinstance(value, dict):
            for name, values in value.items():
                axes += _listed(loaded, ("grid", name), name, values, problems)
        elif key == "grid":
            what = f"sweep.grid must be a mapping, not {seen(value, 'a mapping')}"
            problems.append(
                Problem(where, what, "write sweep: {grid: {train.batch_size: [8, 16]}}")
            )
        elif key == VARIANTS:
            axes += _variants(loaded, value, problems)
        elif key == SPACE:
            axes += _space(loaded, value, problems)
        elif key in OPTIONS:
            try:
                OPTIONS[key](value, where)
            except ConfigError as error:
                problems += error.problems
        else:
            problems.append(Problem(where, f"unknown key sweep.{key}", _meant(key, value)))
    problems += _misplaced(axes)
    gather(problems, ConfigError)
    return axes


def joined(section: Sequence[Axis], flags: Sequence[Axis]) -> list[Axis]:
    """The axes of a section and of flags, which replace those of the same key; the seed last.

    Raises:
        ConfigError: a flag sweeps a key that a variant sets.
    """
    by_key: dict[str, Axis] = {axis.key: axis for axis in (*section, *flags)}
    gather(list(_misplaced(list(by_key.values()))), ConfigError)
    return sorted(by_key.values(), key=lambda axis: axis.key == SEED)


def split_list(text: str) -> list[str]:
    """The items between commas; commas inside brackets and quotes do not count."""
    items, depth, quote, start = [], 0, "", 0
    for position, sign in enumerate(text):
        before = text[start:position].rstrip()
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'" and (not before or before[-1] in "[{,:"):
            quote = sign  # elsewhere it is an apostrophe
        elif sign in "[{":
            depth += 1
        elif sign in "]}":
            depth -= 1
        elif sign == "," and depth == 0:
            items.append(before.strip())
            start = position + 1
    return [*items, text[start:].strip()]


def _typed(flag: str, key: str, text: str) -> Axis:
    """One list of the command line."""
    path = parse_key(key, "--grid")
    start = f"{flag} " if flag == FLAGS.get(key) else f"--grid {key}="
    sample = f"type {start}{_SAMPLES.get(key, 'A,B')}"
    if not text.strip():
        raise ConfigError.at(flag, f"{key} has an empty list", sample)
    items = split_list(text)
    if "" in items:
        raise ConfigError.at(flag, f"{key} has an empty value in {text!r}", sample)
    values = [parse_value(item, flag) for item in items]
    if key in FLAGS and len(values) == 1 and isinstance(values[0], list):
        values = values[0]  # [20, 100] means 20,100: no key with a flag takes a list
        if not values:
            raise ConfigError.at(flag, f"{key} has an empty list", sample)
    return Axis(path, tuple(values), flag, text.strip())


def _listed(
    loaded: LoadedConfig, inside: tuple[str, ...], key: str, value: Any, problems: list[Problem]
) -> Iterator[Axis]:
    """One list of a config's `sweep:`; adds what is wrong with it to the problems."""
    origin, name = loaded.origins.find(("sweep", *inside)), dotted(("sweep", *inside))
    if isinstance(value, dict):
        inner = next(iter(value), "KEY")
        hint = f"write the whole key before the list: {key}.{inner}: [A, B]"
        problems.append(Problem(str(origin), f"{name} must be a list, not a mapping", hint))
    elif not isinstance(value, list):
        hint = f"write {in_section(key, [value])}"
        what = f"{name} must be a list, not {seen(value, 'a list')}"
        problems.append(Problem(str(origin), what, hint))
    elif not value:
        hint = f"write {in_section(key, _SAMPLES.get(key, 'A,B').split(','))}"
        problems.append(Problem(str(origin), f"{name} is an empty list", hint))
    else:
        base = Path.cwd() if origin.line is None else Path(origin.file).absolute().parent
        path = parse_key(key, str(origin))
        values = tuple(_anchored(path, item, base) for item in value)
        yield Axis(path, values, str(origin), "", in_file=True)


def _variants(loaded: LoadedConfig, value: Any, problems: list[Problem]) -> Iterator[Variants]:
    """The settings of `variants:`; adds what is wrong with them to the problems."""
    origin = loaded.origins.find(("sweep", VARIANTS))
    if not isinstance(value, dict) or not value:
        given = "an empty one" if value == {} else seen(value, "a mapping")
        what = f"sweep.variants must be a mapping of names, not {given}"
        problems.append(Problem(str(origin), what, _VARIANTS_SAMPLE))
        return
    base = Path.cwd() if origin.line is None else Path(origin.file).absolute().parent
    settings: dict[str, tuple[Override, ...]] = {}
    for name, keys in value.items():
        where = str(loaded.origins.find(("sweep", VARIANTS, name)))
        if not isinstance(keys, dict):
            what = f"variant {name} must be a mapping of keys, not {seen(keys, 'a mapping')}"
            problems.append(Problem(where, what, _VARIANTS_SAMPLE))
            continue
        if origin.line is None:  # no line tells them apart
            where = f"{where}, variant {name}"
        parsed = [(parse_key(key, where), item, where) for key, item in keys.items()]
        settings[str(name)] = tuple(
            Override(path, _anchored(path, item, base), where) for path, item, where in parsed
        )
    if settings:
        yield Variants(
            (VARIANTS,), tuple(settings), str(origin), "", in_file=True, settings=settings
        )


def _space(loaded: LoadedConfig, value: Any, problems: list[Problem]) -> Iterator[Axis]:
    """The keys of `space:`; adds what is wrong with them to the problems."""
    origin = loaded.origins.find(("sweep", SPACE))
    if not isinstance(value, dict) or not value:
        given = "an empty one" if value == {} else seen(value, "a mapping")
        what = f"sweep.space must be a mapping of keys, not {given}"
        problems.append(Problem(str(origin), what, _SPACE_SAMPLE))
        return
    base = Path.cwd() if origin.line is None else Path(origin.file).absolute().parent
    for key, item in value.items():
        where = str(loaded.origins.find(("sweep", SPACE, key)))
        try:
            yield _ranged(key, item, where, base, in_file=True)
        except ConfigError as error:
            problems += error.problems


def _ranged(key: str, value: Any, where: str, base: Path, *, in_file: bool) -> Axis:
    """One key of a search space."""
    path = parse_key(key, where)
    if path == tuple(SEED.split(".")):
        what = "train.seed is no setting: a search averages over seeds, it does not choose one"
        raise ConfigError.at(where, what, "write sweep: {seed: [11, 12, 13]}, or type --seed 11,12")
    scale, values = read_range(key, value, where)
    anchored = tuple(_anchored(path, item, base) for item in values)
    return Axis(path, anchored, where, "", in_file=in_file, scale=scale)


def in_section(key: str, values: Sequence[Any]) -> str:
    """A list as a config writes it: `sweep: {lr: [5e-3, 1e-2]}`."""
    items = ", ".join(str(getattr(value, "source", value)) for value in values)
    short = next((name for name, long in SHORT.items() if long == key), None)
    line = f"{short or key}: [{items}]"
    return f"sweep: {{{line}}}" if short else f"sweep: {{grid: {{{line}}}}}"


def _anchored(path: tuple[str, ...], value: Any, base: Path) -> Any:
    """The value with its relative paths made absolute, as seen from the folder `base`."""
    data = value
    for part in reversed(path):
        data = {part: data}
    document = merge.anchored(merge.normalised(Document(data, Origins(""))), base)
    value = document.data
    for part in path:
        value = value[part]
    return value


def _misplaced(axes: Sequence[Axis]) -> Iterator[Problem]:
    """Keys that are swept twice, and keys that cannot change a result."""
    known: dict[str, Axis] = {}
    for axis in axes:
        for path in axis.paths:
            key = dotted(path)
            if key in known:
                what = f"{key} is swept twice, first by {known[key].where}"
                yield Problem(axis.where, what, "give all its values in one list")
            elif path[0] in _FIXED:
                what = f"{key} cannot change a result, so there is nothing to sweep"
                yield Problem(axis.where, what, "leave it out; --set sets a key for all trials")
            known[key] = axis


def _meant(key: str, value: Any) -> str:
    """A hint for an unknown key of `sweep:`."""
    items = value if isinstance(value, list) and value else ["A", "B"]
    if key in FLAGS:
        return f"write {in_section(key, items)}"
    known = [*SHORT, *OPTIONS, VARIANTS, SPACE]
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if near == [VARIANTS]:
        return f"did you mean {VARIANTS}? {_VARIANTS_SAMPLE}"
    if near == [SPACE]:
        return f"did you mean {SPACE}? {_SPACE_SAMPLE}"
    if near and near[0] in OPTIONS:
        sample = SAMPLES[near[0]]
        return f"did you mean {near[0]}? write sweep: {{{near[0]}: {sample}}}"
    if near and "." not in key:
        return f"did you mean {near[0]}? write {in_section(SHORT[near[0]], items)}"
    return f"put any other key under grid: write {in_section(key, items)}"
