"""Who may use a server: a token, and for changes of its runs an allowed folder."""

from __future__ import annotations

import hmac
import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path

from ptv2_cli.errors import ConfigError
from ptv2_cli.serve.refusal import Refusal

VARIABLE = "PTV2_TOKEN"
OPEN = frozenset({"/health", "/openapi.json", "/docs"})
"""Paths that need no token: they say nothing about the runs."""
LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""Names of this machine in the header `Host`."""


def read_token(file: Path | None) -> str | None:
    """The token from a file, or from the environment; None: anybody may use the server.

    Raises:
        ConfigError: the file cannot be read, or the token is empty or has characters that a header
            cannot hold.
    """
    where, token = VARIABLE, os.environ.get(VARIABLE)
    if file is not None:
        where = f"--token-file {file}"
        try:
            token = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            what = f"cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}"
            raise ConfigError.at(where, what, f"a file with the token, or {VARIABLE}") from None
    if token is None:
        return None
    token = token.strip()
    if not token or not all("!" <= sign <= "~" for sign in token):
        what = "holds no token" if not token else "holds spaces or characters beyond ASCII"
        hint = "python3 -c 'import secrets; print(secrets.token_urlsafe())' makes one"
        raise ConfigError.at(where, what, hint)
    return token


def is_local(host: str) -> bool:
    """Whether a server that listens at this address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Access:
    """Decides whether a request is allowed, from its headers alone."""

    def __init__(self, token: str | None) -> None:
        """Take the token; None: requests need none."""
        self._token = None if token is None else token.encode()

    def check(self, path: str, headers: Mapping[str, str]) -> None:
        """Check the token.

        Raises:
            Refusal: 401, it is missing or wrong.
        """
        if self._token is None or path in OPEN:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(given.strip().encode("utf-8", "replace"), self._token)
        if scheme.lower() != "bearer" or not right:
            what = "is wrong" if given else "is missing"
            hint = "send the header Authorization: Bearer TOKEN"
            raise Refusal.of(401, "the token", what, hint, WWW_Authenticate="Bearer")

    def check_change(self, headers: Mapping[str, str], roots: tuple[Path, ...]) -> None:
        """Check that a request may add and remove runs.

        Without a token, a web page in a browser of this machine must not do it: a page can reach
        the server by a name that leads to 127.0.0.1, but it cannot change the header `Host`.

        Raises:
            Refusal: 403, the server was started without a folder for it, or the request does not
                name this machine.
        """
        if not roots:
            hint = "ptv2 serve --add-from DIR allows runs below DIR"
            raise Refusal.of(403, "/runs", "the runs of this server do not change", hint)
        host = headers.get("host", "")
        name = host if host.endswith("]") else host.rsplit(":", 1)[0]
        if self._token is None and name not in LOCAL:
            hint = "send the request to 127.0.0.1, or start the server with a token"
            raise Refusal.of(403, "the header Host", f"is {host[:100]!r}", hint)


def below(path: Path, roots: tuple[Path, ...]) -> Path:
    """The path without symbolic links, if it leads below one of the folders.

    Raises:
        Refusal: 403, it does not.
    """
    try:
        real = path.resolve()
    except (OSError, ValueError, RuntimeError):  # too long, a zero byte, a circle of links
        real = Path("/")
    if any(root in real.parents for root in roots):
        return real
    allowed = ", ".join(map(str, roots))
    what = "is not in a folder from which runs may be added"
    raise Refusal.of(403, str(path)[:200], what, f"name a run below {allowed}")
