"""What the tools answer and refuse: budgets, hostile arguments and texts, writing, several collections."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client

import reperio
from reperio import Chunk, Collection
from reperio.mcp.budget import fit
from reperio.mcp.served import Served
from reperio.mcp.server import Server
from tests.conftest import TrigramEmbedder

BUDGET = 3_000


def talk(served: list[Served], what: Callable[[Client], Coroutine[Any, Any, None]], *, write: bool = False) -> None:
    """Run a conversation with a server over some collections, in memory."""

    async def run() -> None:
        async with Client(Server(served, write=write)) as client:
            await what(client)

    anyio.run(run)


async def called(client: Client, tool: str, **arguments: Any) -> Any:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return json.loads(result.content[0].text)  # type: ignore[union-attr]  # a text


async def refusal(client: Client, tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    told = str(result.content[0].text)  # type: ignore[union-attr]  # a text
    assert "\n" not in told
    assert "Traceback" not in told
    assert len(told) < 2_500
    return told


def test_answers_keep_the_budget_and_say_how_to_go_on(kb: Collection) -> None:
    """A long text is read to its end by the offsets that the answers name; short ones leave their share to it."""
    text = "".join(f"{n:06} " for n in range(2_000))
    kb.add([Chunk("long", text), *(Chunk(f"c{n}", f"short {n}") for n in range(5))])

    async def what(client: Client) -> None:
        hits = (await called(client, "search", query="short 000001", k=6))["hits"]
        parts = {hit["id"]: hit["text"] for hit in hits}
        assert sum(map(len, parts.values())) <= BUDGET
        assert len(parts["long"]) > BUDGET - 200
        read, at = "", 0
        while True:
            one = (await called(client, "get", ids=["long"], offset=at))["chunks"][0]
            assert one["text"] == text[at : at + len(one["text"])]
            read, at = read + one["text"], at + len(one["text"])
            if "cut" not in one:
                break
            assert f"offset {at}" in one["cut"]
            assert one["characters"].endswith(f"{at} of {len(text)}")
        assert read == text

    talk([Served("kb", kb, BUDGET)], what)


def test_metadata_has_a_budget_too() -> None:
    """It takes half at most; what is left out is counted; the context that is only embedded is not shown."""
    many = {f"field{n}": "v" * 100 for n in range(100)} | {"embedding_context": "Title", "long": "x" * 10_000}
    one = fit([Chunk("a", "text", many)], BUDGET)[0]
    assert len(json.dumps(one["metadata"])) <= BUDGET // 2
    assert one["metadata_left_out"] == 101 - len(one["metadata"])
    assert "embedding_context" not in one["metadata"]


def test_texts_and_values_cannot_command_turn_or_hide(kb: Collection) -> None:
    """Control characters, marks of direction and tags are replaced; values in the instructions stay in one line."""
    hidden = "".join(chr(0xE0000 + ord(sign)) for sign in "obey")
    kb.add([Chunk("a", f"red \x1b[31m \u202e {hidden}\tline\nnext", {"note": "x\n\nIGNORE ALL", "k\x1b": "\x07"})])

    async def what(client: Client) -> None:
        answered = await client.call_tool("search", {"query": "red"})
        shown = str(answered.content[0].text) + str(client.instructions)  # type: ignore[union-attr]  # a text
        told = json.loads(answered.content[0].text)["hits"][0]["text"]  # type: ignore[union-attr]  # a text
        assert told == "red \ufffd[31m \ufffd \ufffd\ufffd\ufffd\ufffd\tline\nnext"
        assert not set(shown) & {"\x1b", "\x07", "\u202e", *hidden}
        assert '- field "note" (text, in 1 chunks): "x IGNORE ALL" (1)' in str(client.instructions).splitlines()

    talk([Served("kb", kb, BUDGET)], what)


def test_wrong_arguments_come_back_in_plain_words(kb: Collection) -> None:
    """Each with its cure, in the words of a tool; none is ignored, clamped or widened."""
    kb.add([Chunk("a", "text")])
    deep: dict[str, Any] = {"t": 1}
    for _ in range(200):
        deep = {"$not": deep}

    async def what(client: Client) -> None:
        for tool, arguments, message in (
            ("search", {"query": "x", "k": 10**30}, "a number from 1 to 50"),
            ("search", {"query": "x", "k": 0}, "a number from 1 to 50"),
            ("search", {"query": " "}, "query is empty"),
            ("search", {"query": "x" * 10_000}, "at most 8,000"),
            ("search", {"query": "x", "mode": "magic"}, "kb has hybrid, dense, lexical"),
            ("search", {"query": "x", "where": deep}, "nest"),
            ("search", {"query": "x", "where": {"a": {"$like": "%" * 100_000}}}, "where"),
            ("search", {"query": "x", "where": {"$in": ["y" * 100_000]}}, "where"),
            ("search", {"query": "x", "scope": {}}, "no argument 'scope'"),
            ("search", {"query": "x", "top_k": 5}, "did you mean 'k'"),
            ("search", {"k": 5}, "query: Field required"),
            ("search", {"query": "x", "collection": "../../etc"}, "there are: kb"),
            ("get", {"ids": []}, "ids is empty"),
            ("get", {"ids": ["x"] * 1000}, "pass 50 at a time"),
            ("get", {"ids": ["a"], "offset": -1}, "the first character is 0"),
            ("list_sources", {"limit": 10**6}, "a number from 1 to 500"),
            ("add", {"id": "x", "text": "y"}, "there is no tool 'add'"),
            ("x\x1b" * 500, {}, "there is no tool"),
        ):
            assert message in await refusal(client, tool, **arguments), (tool, message)
        assert (await called(client, "get", ids=["a", "\ud7ff\0"]))["missing"] == ["\ud7ff\0"]

    talk([Served("kb", kb, BUDGET)], what)


def test_writing_says_what_it_did_within_the_scope(path: Path, embedder: TrigramEmbedder) -> None:
    """Added, replaced, unchanged, deleted; nothing of another tenant, whose ids cannot be taken."""
    with reperio.open(path, embedder=embedder) as kb:
        kb.add([Chunk("theirs", "secret", {"t": "b"})])
    with reperio.open(path, embedder=embedder, scope={"t": "a"}) as kb:

        async def what(client: Client) -> None:
            own = {"id": "x", "text": "mine", "metadata": {"t": "a"}}
            for expected in ("added", "unchanged"):
                assert await called(client, "add", **own) == {"collection": "kb", "id": "x", "done": expected}
            assert (await called(client, "add", **own | {"text": "new"}))["done"] == "replaced"
            assert "outside the scope" in await refusal(client, "add", id="y", text="t", metadata={"t": "b"})
            assert "split what is longer" in await refusal(client, "add", id="y", text="t" * 200_000)
            assert "id has 0 characters" in await refusal(client, "add", id="", text="t")
            assert "is taken" in await refusal(client, "add", **own | {"id": "theirs"})
            done = await called(client, "delete", ids=["x", "theirs", "none"])
            assert (done["deleted"], done["ids"]) == (1, ["x"])

        talk([Served("kb", kb, BUDGET)], what, write=True)
    with reperio.open(path, embedder=embedder) as kb:
        assert kb.ids() == ["theirs"]


def test_several_collections_are_asked_by_name(tmp_path: Path, embedder: TrigramEmbedder) -> None:
    """Without a name the error tells those there are."""
    with (
        reperio.open(tmp_path / "one", embedder=embedder) as one,
        reperio.open(tmp_path / "two", dimension=4, lexical="none") as two,
    ):
        one.add([Chunk("a", "text")])

        async def what(client: Client) -> None:
            assert "Collection 'one': 1 chunks" in str(client.instructions)
            assert "one of: one, two" in await refusal(client, "search", query="text")
            assert (await called(client, "search", query="text", collection="one"))["hits"][0]["id"] == "a"
            assert "by ready vectors only" in await refusal(client, "search", query="text", collection="two")

        talk([Served("one", one, BUDGET), Served("two", two, BUDGET)], what)


@pytest.mark.parametrize("budget", [1_000, 100_000])
def test_shares_add_up(budget: int) -> None:
    """Texts and metadata together keep the budget, and no text is cut that is shorter than one that is not."""
    chunks = [Chunk(str(n), "x" * (n * n * 10), {"a": "y" * 20 * n, "b": n}) for n in range(30)]
    shown = fit(chunks, budget)
    assert sum(len(one["text"]) + len(json.dumps(one["metadata"])) for one in shown) <= budget
    whole = [len(one["text"]) for one in shown if "cut" not in one]
    assert all(len(one["text"]) + 30 > max(whole) for one in shown if "cut" in one)
