"""The twins of a collection's methods, which are awaited."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from pathlib import Path

import numpy as np
import pytest

import reperio
from reperio import Chunk, Collection, CollectionClosed, UnknownOption

D = 8
VECTORS = np.eye(D, dtype=np.float32)


def test_every_method_that_reads_or_writes_has_a_twin() -> None:
    """With the same arguments; not properties, records, a turn, which is of a thread, iterators, and what describes."""
    without = {"fingerprint", "sample_queries", "records", "turn", "duplicate_pairs"}
    members = dict(inspect.getmembers(Collection))
    methods = {
        name
        for name, member in members.items()
        if inspect.isfunction(member) and not name.startswith("_") and not inspect.iscoroutinefunction(member)
    }
    for name in methods - without:
        twin = members[f"a{name}"]
        assert inspect.iscoroutinefunction(twin), name
        assert inspect.signature(twin) == inspect.signature(members[name]), name


def test_twins_do_what_the_methods_do(path: Path) -> None:
    """Results, errors, and the end of the collection."""

    async def work() -> None:
        async with reperio.open(path, dimension=D) as kb:
            await asyncio.gather(*(kb.aadd([Chunk(f"c{n}", "t")], vectors=VECTORS[n : n + 1]) for n in range(D)))
            assert sorted(await kb.aids()) == [f"c{n}" for n in range(D)]
            assert (await kb.asearch(vector=VECTORS[3], k=1))[0].chunk.id == "c3"
            assert await kb.adelete(ids="c3") == 1
            assert await kb.aget("c3") is None
            assert await kb.acount() == D - 1
            with pytest.raises(UnknownOption, match=r"search\(\) has no option 'top_k'"):
                await kb.asearch(vector=VECTORS[3], top_k=3)
        with pytest.raises(CollectionClosed):
            await kb.acount()

    asyncio.run(work())


def test_writes_that_wait_keep_no_search_waiting(path: Path) -> None:
    """Far more of them than a loop has threads wait for another handle's turn, and a search is answered meanwhile."""

    async def work() -> None:
        async with reperio.open(path, lock_timeout=120) as kb:
            with other._handle.turn():
                writes = [
                    asyncio.ensure_future(kb.aadd([Chunk(f"c{n}", "t")], vectors=VECTORS[:1])) for n in range(100)
                ]
                assert len(await asyncio.wait_for(kb.asearch(vector=VECTORS[0]), 60)) == 1
                assert not any(write.done() for write in writes)
            await asyncio.gather(*writes)
            assert await kb.acount() == 101

    with reperio.open(path, dimension=D) as other:
        other.add([Chunk("first", "t")], vectors=VECTORS[:1])
        asyncio.run(work())


def test_a_twin_has_the_context_of_its_caller(path: Path) -> None:
    """As tracing needs: what a context variable says outside, it says inside."""
    told, variable = [], contextvars.ContextVar[str]("told")

    async def work() -> None:
        variable.set("here")
        async with reperio.open(path, dimension=D) as kb:
            await kb.aadd(
                [Chunk("a", "t")], vectors=VECTORS[:1], progress=lambda *_: told.append(variable.get("nothing"))
            )

    asyncio.run(work())
    assert told == ["here"]
