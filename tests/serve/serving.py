"""A server in this process: its service, and a client that calls the application directly."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from ptv2_cli.runs.directory import open_run
from ptv2_cli.serve.access import Access
from ptv2_cli.serve.app import build_app
from ptv2_cli.serve.limits import Limits
from ptv2_cli.serve.service import Service


@dataclass(frozen=True)
class Serving:
    """A server and its client."""

    service: Service
    client: httpx.AsyncClient
    app: Any

    async def predict(self, run: str, rows: Any) -> list[dict[str, Any]]:
        """The predictions of rows."""
        answer = await self.client.post(f"/predict/{run}", json={"rows": rows})
        assert answer.status_code == 200, answer.text
        assert answer.json()["run"] == run
        lines: list[dict[str, Any]] = answer.json()["predictions"]
        return lines

    async def refused(
        self, path: str, content: Any, status: int, method: str = "POST", **options: Any
    ) -> list[dict[str, str]]:
        """The errors of a request with this body, JSON or bytes."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        headers = {"Content-Type": "application/json", **options.pop("headers", {})}
        answer = await self.client.request(method, path, content=body, headers=headers, **options)
        assert answer.status_code == status, answer.text
        errors: list[dict[str, str]] = answer.json()["errors"]
        assert all(set(error) == {"where", "what", "hint"} for error in errors)
        return errors


@asynccontextmanager
async def serving(
    runs: dict[str, Path],
    *,
    token: str | None = None,
    roots: tuple[Path, ...] = (),
    **limits: Any,
) -> AsyncIterator[Serving]:
    """Serve runs by these names until the end of the block."""
    service = Service(
        Limits(**limits), open_directory=open_run, device="cpu", offline=True, roots=roots
    )
    try:
        for name, path in runs.items():
            await service.add(path, name)
        app = build_app(service, Access(token))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1:8000", timeout=60
        ) as client:
            yield Serving(service, client, app)
    finally:
        assert service.batcher.close(60)
