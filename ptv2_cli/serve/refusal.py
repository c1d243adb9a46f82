"""An error that becomes the answer to a request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ptv2_cli.errors import Problem


class Refusal(Exception):
    """A request is not answered: a status code of HTTP and the problems that the client reads."""

    def __init__(
        self, status: int, problems: Iterable[Problem], headers: Mapping[str, str] | None = None
    ) -> None:
        self.status = status
        self.problems = tuple(problems)
        self.headers = dict(headers or {})
        super().__init__("\n".join(map(str, self.problems)))

    @classmethod
    def of(cls, status: int, where: str, what: str, hint: str = "", **headers: str) -> Refusal:
        """A refusal of one problem; `Retry_After="1"` among the headers is `Retry-After: 1`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(status, [Problem(where, what, hint)], named)

    @property
    def content(self) -> dict[str, Any]:
        """The body of the answer."""
        return problems_content(self.problems)


def problems_content(problems: Iterable[Problem]) -> dict[str, Any]:
    """`{"errors": [{"where": ..., "what": ..., "hint": ...}, ...]}`: the words of the commands."""
    return {
        "errors": [
            {"where": problem.where, "what": problem.what, "hint": problem.hint}
            for problem in problems
        ]
    }
