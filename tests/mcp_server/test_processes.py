"""The server as agents start it: real processes, the SDK's own client, both transports."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import numpy as np
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

import reperio
from reperio import Chunk
from tests.cli.test_main import refused

TOKEN = "a-token-for-tests-only"
MINE = '{"tenant": "a"}'


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a collection of two tenants, searched by words."""
    path = tmp_path_factory.mktemp("mcp") / "kb"
    with reperio.open(path, dimension=4, auto_optimize=False) as kb:
        chunks = [
            Chunk(f"{tenant}{n}", f"secret {tenant} number {n}", {"tenant": tenant, "source": f"{tenant}{n // 5}.md"})
            for tenant in "ab"
            for n in range(10)
        ]
        kb.add(chunks, vectors=np.random.default_rng(0).normal(size=(20, 4)))
    return path


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "reperio", "mcp", *map(str, arguments)]


async def asked(client: Client) -> None:
    """Check what every client of the tenant's server sees, whatever it passes."""
    assert "10 chunks; search modes: lexical" in str(client.instructions)
    assert '"b"' not in str(client.instructions)
    assert [tool.name for tool in (await client.list_tools()).tools] == ["search", "get", "list_sources"]
    for where in (None, {"tenant": "b"}, {"$or": [{"tenant": "b"}, {"tenant": "a"}]}, {"$not": {"tenant": "a"}}):
        hits = (await answer(client, "search", query="secret number b a", k=50, where=where))["hits"]
        assert all(hit["id"].startswith("a") for hit in hits)
        assert len(hits) == (10 if where is None or "$or" in where else 0)
    found = await answer(client, "get", ids=["a3", "b3"])
    assert ([one["id"] for one in found["chunks"]], found["missing"]) == (["a3"], ["b3"])
    assert (await answer(client, "list_sources"))["sources"] == [
        {"source": "a0.md", "chunks": 5},
        {"source": "a1.md", "chunks": 5},
    ]
    refused = await client.call_tool("delete", {"ids": ["a1"]})
    assert refused.is_error


async def answer(client: Client, tool: str, **arguments: Any) -> Any:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return json.loads(result.content[0].text)  # type: ignore[union-attr]  # a text


def test_a_client_on_standard_input_and_output(filled: Path) -> None:
    """Within the scope that was fixed at the start."""

    async def talk() -> None:
        line = command(filled, "--scope", MINE)
        parameters = StdioServerParameters(command=line[0], args=line[1:], env=dict(os.environ))
        async with Client(parameters) as client:
            await asked(client)

    anyio.run(talk)


@pytest.fixture
def served(filled: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a server on a free port; return it with its address."""
    environment = {**os.environ, "REPERIO_MCP_TOKEN": TOKEN}
    with subprocess.Popen(
        command(filled, "--scope", MINE, "--http", 0),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as server:
        assert server.stderr is not None
        line = server.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/mcp", line)
        assert found, line
        assert TOKEN not in line
        yield server, found[0]
        if server.poll() is None:
            server.kill()


def test_clients_on_a_port_and_their_end(served: tuple[subprocess.Popen[str], str]) -> None:
    """Several at a time; without the token, or by a page of a browser, nobody; Ctrl-C ends it, with nothing to say."""
    server, address = served

    async def talk() -> None:
        async with (
            httpx2.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}) as http,
            Client(streamable_http_client(address, http_client=http)) as first,
            Client(streamable_http_client(address, http_client=http)) as second,
            anyio.create_task_group() as group,
        ):
            group.start_soon(asked, first)
            group.start_soon(asked, second)

    anyio.run(talk)
    good = {"Authorization": f"Bearer {TOKEN}", "Accept": "application/json, text/event-stream"}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    for headers, status in (
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": ""}, 401),
        ({"Authorization": "Bearer é".encode()}, 401),
        ({"Host": "evil.example"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 421),
    ):
        assert httpx2.post(address, json=body, headers={**good, **headers}).status_code == status, headers
    server.send_signal(signal.SIGINT)
    stdout, stderr = server.communicate(timeout=60)
    assert (server.returncode, stdout) == (0, "")
    assert "Traceback" not in stderr


def test_standard_output_is_the_protocol_alone_and_the_end_is_clean(filled: Path) -> None:
    """Whatever comes in: noise, deep JSON, lone surrogates; the end of the input ends it, and so does Ctrl-C."""
    deep = '{"$not":' * 5_000 + "{}" + "}" * 5_000
    call = '{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"search","arguments":%s}}'
    lines = [
        '{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},'
        '"clientInfo":{"name":"t","version":"1"}}}',
        '{"jsonrpc":"2.0","method":"notifications/initialized"}',
        "noise",
        call % (1, f'{{"query":"secret","where":{deep}}}'),
        call % (2, '{"query":"\\ud800"}'),
        call % (3, '{"query":"secret","where":{"tenant":"\\u0000"}}'),
        call % (4, '{"query":"secret","k":1}'),
    ]
    for ending in ("eof", "interrupt"):
        with subprocess.Popen(
            command(filled), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as server:
            assert server.stdin is not None
            assert server.stdout is not None
            server.stdin.write("\n".join(lines) + "\n")
            server.stdin.flush()
            told = []
            while not any(one.get("id") == 4 for one in told):  # calls run side by side: others may be told later
                told.append(json.loads(server.stdout.readline()))
            if ending == "interrupt":
                server.send_signal(signal.SIGINT)
                server.wait(timeout=60)
            rest, stderr = server.communicate(timeout=60)
        assert server.returncode == 0, (ending, stderr)
        told += map(json.loads, rest.splitlines())
        assert "Traceback" not in stderr
        assert all(one["jsonrpc"] == "2.0" for one in told)
        answers = [one["id"] for one in told if one.get("id") is not None]
        assert len(answers) == len(set(answers) & {0, 1, 2, 3, 4})  # each once, and nothing else
        assert "secret" in json.dumps(next(one for one in told if one.get("id") == 4)["result"])


def test_what_cannot_be_served_is_one_line(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No collection there, no port, a token that anybody guesses, two of one name; nothing is created."""
    monkeypatch.setenv("REPERIO_MCP_TOKEN", "short")
    assert "none" in refused("mcp", tmp_path / "none")
    assert "a port is a number" in refused("mcp", filled, "--http", "70000")
    assert "the token must have" in refused("mcp", filled, "--http", "0")
    assert "two collections are called" in refused("mcp", filled, filled)
    assert not (tmp_path / "none").exists()


def test_a_missing_package_is_named_with_its_command(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any collection is opened."""
    monkeypatch.delitem(sys.modules, "reperio.mcp.server", raising=False)
    monkeypatch.setitem(sys.modules, "mcp.server.mcpserver", None)
    assert "pip install 'reperio[mcp]'" in refused("mcp", filled)
