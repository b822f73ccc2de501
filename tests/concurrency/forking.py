"""What happens in forked children, and as another user: each case is a process of its own, since it may hang or die.

Run as ``python -m tests.concurrency.forking DIRECTORY CASE...``. A failed assertion is a traceback and the exit status
1. Several cases are forked from one process that has imported PyTorch, and done nothing else: that takes longer than
most of them.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np

import reperio
from reperio import Collection, CollectionClosed, CollectionLocked, ReperioError, StorageFailed
from reperio.sharding import backup_shards, check_shards, split

from .versions import DIMENSION, chunk, parsed, vector

NUMBERS = range(400)
NOBODY = 65534
TEXTS = ["The cat sat on the mat.", "Interest rates were raised by the central bank."]


def the_parents_exclusive_handle_is_refused(directory: Path) -> None:
    """Every use of a parent's exclusive handle in the child is CollectionClosed; the parent goes on."""
    _filled(directory).close()
    with reperio.open(directory / "kb", exclusive=True) as kb:
        uses: list[Callable[[], object]] = [
            lambda: kb.search(vector=vector(1, 0)),
            lambda: kb.search_many(vectors=vector(1, 0)[None]),
            lambda: kb.get("c1"),
            lambda: list(kb),
            kb.count,
            kb.check,
            kb.compact,
            kb.optimize,
            lambda: kb.delete(ids="c1"),
            lambda: kb.add([chunk(1, 1)], vectors=vector(1, 1)[None]),
            lambda: kb.backup(directory / "copy"),
        ]

        def child() -> None:
            for use in uses:
                _expect(CollectionClosed, use)
            kb.close()  # releases nothing of the parent's
            _expect(CollectionLocked, lambda: reperio.open(directory / "kb", exclusive=True, lock_timeout=0))

        _forked(child)
        kb.add([chunk(1, 1)], vectors=vector(1, 1)[None])
        _expect(CollectionLocked, lambda: reperio.open(directory / "kb", exclusive=True, lock_timeout=0))
        assert len(kb.search(vector=vector(1, 1), k=400)) == 400
        assert kb.check().ok


def the_parents_handle_works_in_the_child(directory: Path) -> None:
    """Go on with a handle in the child, where it opens itself again: both write, search and build through it."""
    with _filled(directory) as kb:
        kb.search(vector=vector(1, 0))

        def child() -> None:
            for number in range(500, 520):
                kb.add([chunk(number, 1)], vectors=vector(number, 1)[None])
                assert parsed(kb.search(vector=vector(number, 1), k=1)[0].chunk) == (number, 1)
            assert kb.delete(ids="c1") == 1
            kb.optimize(index="SQ8")
            kb.compact()
            kb.close()

        def parent() -> None:
            for number in range(600, 620):
                kb.add([chunk(number, 1)], vectors=vector(number, 1)[None])
                assert parsed(kb.search(vector=vector(number, 1), k=1)[0].chunk) == (number, 1)

        _forked(child, meanwhile=parent)
        expected = {*NUMBERS, *range(500, 520), *range(600, 620)} - {1}
        assert {parsed(one)[0] for one in kb} == expected
        assert kb.check().ok


def a_handle_that_the_child_closes_first_is_closed(directory: Path) -> None:
    """Close it in the child before anything else: it opens nothing again, and the parent goes on."""
    with _filled(directory) as kb:

        def child() -> None:
            kb.close()
            _expect(CollectionClosed, kb.count)
            _expect(CollectionClosed, lambda: kb.delete(ids="c1"))

        _forked(child)
        assert kb.count() == len(NUMBERS)


def shards_are_written_and_searched_in_the_child(directory: Path) -> None:
    """Go on with shards in the child, which has none of the threads that wrote and answered in the parent."""
    _filled(directory).close()
    root = directory / "shards"
    reperio.build_shards(directory / "kb", root, shards=3, recall=None, map=map)
    vectors = np.stack([vector(number, 0) for number in NUMBERS])
    with reperio.ShardWriter(root) as writer, reperio.open_shards(root) as shards:
        writer.add([chunk(number, 0) for number in NUMBERS], vectors=vectors)
        assert len(shards.search(vector=vector(1, 0), k=400)) == 400

        def child() -> None:
            for number in range(500, 520):
                writer.add([chunk(number, 0), chunk(number - 400, 1)], vectors=vectors[:2])
            assert writer.delete(where={"n": 1}) == 0
            assert len(shards.search(vector=vector(1, 0), k=1000)) == shards.count() == len(NUMBERS) + 20
            writer.close()
            shards.close()

        _forked(child)
        assert len(shards.search(vector=vector(1, 0), k=1000)) == len(NUMBERS) + 20
        assert writer.delete(ids=shards.ids()) == len(NUMBERS) + 20


def a_child_searches_after_a_parallel_search(directory: Path) -> None:
    """Fork after FAISS's threads have run: the child opens the collection again and searches, many at once too."""
    with _filled(directory) as kb:
        kb.optimize(index="IVF4,SQ8")
        queries = np.stack([vector(number, 0) for number in NUMBERS])
        kb.search_many(vectors=queries, k=5)

        def child() -> None:
            with reperio.open(directory / "kb", read_only=True) as again:
                for number, hits in zip(NUMBERS, again.search_many(vectors=queries, k=5), strict=True):
                    assert parsed(hits[0].chunk) == (number, 0)
                assert parsed(again.search(vector=vector(7, 0), k=1)[0].chunk) == (7, 0)

        _forked(child)
        kb.search_many(vectors=queries, k=5)


def a_child_writes_after_the_parent_has_closed(directory: Path) -> None:
    """Fork after a parallel build: the child takes over as the writer, and builds an index itself."""
    with _filled(directory) as kb:
        kb.optimize(index="IVF4,SQ8")

    def child() -> None:
        with reperio.open(directory / "kb") as again:
            again.add([chunk(1000, 0)], vectors=vector(1000, 0)[None])
            again.optimize(index="HNSW8,SQ8")
            assert parsed(again.search(vector=vector(1000, 0), k=1)[0].chunk) == (1000, 0)

    _forked(child)
    with reperio.open(directory / "kb") as kb:
        assert kb.count() == len(NUMBERS) + 1
        assert kb.check().ok


def the_lock_is_not_inherited(directory: Path) -> None:
    """Give the lock back while a child lives on: it does not keep it."""
    _filled(directory).close()
    kb = reperio.open(directory / "kb", exclusive=True)
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.close(writing)
        os.read(reading, 1)  # until the parent closes its end
        os._exit(0)
    os.close(reading)
    kb.close()
    reperio.open(directory / "kb", exclusive=True, lock_timeout=0).close()
    os.close(writing)
    os.waitpid(child, 0)


def a_killed_writers_child_does_not_hold_the_lock(directory: Path) -> None:
    """Kill a writer that has forked: the child, which lives on, does not keep the lock."""
    reading, writing = os.pipe()
    child_says, child_writes = os.pipe()
    if (parent := os.fork()) == 0:
        _filled(directory).close()
        kb = reperio.open(directory / "kb", exclusive=True)
        if os.fork() == 0:
            os.write(child_writes, b"x")  # alive: its copy of the lock was closed before fork returned here
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
        os.read(reading, 1)
        kb.close()
        os._exit(1)
    os.close(reading)
    os.read(child_says, 1)
    os.kill(parent, 9)
    os.waitpid(parent, 0)
    with reperio.open(directory / "kb", exclusive=True, lock_timeout=0) as kb:
        assert kb.count() == len(NUMBERS)
    os.close(writing)


def another_user_reads(directory: Path) -> None:
    """Search as someone who may only read: refused as a writer, and the owner's later commits are seen."""
    with _filled(directory) as kb:
        kb.optimize(index="IVF4,SQ8")
        kb.search(vector=vector(1, 0))
    for path in [directory, *directory.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    mine, theirs = socket.socketpair()

    def child() -> None:
        mine.close()
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        _expect(StorageFailed, lambda: reperio.open(directory / "kb"))
        _expect(StorageFailed, lambda: reperio.open(directory / "new", dimension=DIMENSION))
        with reperio.open(directory / "kb", read_only=True) as reader:
            while version := theirs.recv(1):
                _check_version(reader, version[0])
                theirs.send(version)

    def owner() -> None:
        theirs.close()

        def ask(version: int) -> None:
            mine.send(bytes([version]))
            assert mine.recv(1) == bytes([version]), "the reader has failed"

        with mine:
            _write_versions(directory / "kb", ask)

    _forked(child, meanwhile=owner)


def another_user_backs_up_shards(directory: Path) -> None:
    """Copy shards that one may only read; where they are exchanged meanwhile, nothing is written."""
    _filled(directory).close()
    root, mine = directory / "shards", directory / "mine"
    reperio.build_shards(directory / "kb", root, shards=2, recall=None, map=map)
    backup_shards(root, directory / "first")  # and imports what another user may not be able to
    assert check_shards(directory / "first").ok
    mine.mkdir()
    os.chown(mine, NOBODY, NOBODY)
    for path in [directory, *root.rglob("*"), root]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    asking, asked = multiprocessing.Pipe()

    def exchanged_meanwhile(function: Callable[[object], object], tasks: list[object]) -> list[object]:
        asked.send("split")
        asked.recv()
        return [function(task) for task in tasks]

    def child() -> None:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        backup_shards(root, mine / "copy")
        assert check_shards(mine / "copy").ok
        assert check_shards(mine / "copy").rows == len(NUMBERS)
        _expect(CollectionLocked, lambda: backup_shards(root, mine / "other", map=exchanged_meanwhile))
        assert not (mine / "other").exists()

    def owner() -> None:
        assert asking.poll(30), "the other user has failed"
        split(root, "shard-000001", recall=None)
        asking.send("done")

    _forked(child, meanwhile=owner)


def a_child_embeds_after_its_parent_has(directory: Path) -> None:
    """Fork after torch's threads have run: the child opens the collection, searches by text, and adds."""
    with reperio.open(directory / "kb") as kb:  # the packaged model, by default
        kb.add([reperio.Chunk(f"{n}", f"{TEXTS[n % 2]} {n}") for n in range(8)])
        kb.search(TEXTS[0])

    def child() -> None:
        with reperio.open(directory / "kb") as again:
            assert again.search(TEXTS[1], k=1)[0].chunk.text.startswith(TEXTS[1])
            again.add([reperio.Chunk(f"{n}", f"{TEXTS[n % 2]} again {n}") for n in range(8)])
            assert again.count() == 8

    _forked(child)


def a_child_uses_the_embedder_of_its_parent(directory: Path) -> None:
    """Fork in the middle of another thread's embedding: the child uses the same object, in this thread and others."""
    embedder = reperio.SentenceTransformerEmbedder(reperio.DEFAULT_EMBEDDER)
    reperio.open(directory / "kb", embedder=embedder).close()
    embedder.embed_passages(TEXTS * 32)
    embedder._lock._lock.acquire()  # as of a thread that embeds while another one forks

    def child() -> None:
        with reperio.open(directory / "kb", embedder=embedder) as kb:
            kb.add([reperio.Chunk(f"{n}", f"{TEXTS[n % 2]} {n}") for n in range(8)])
            thread = threading.Thread(target=kb.search, args=(TEXTS[1],))
            thread.start()
            thread.join()
            reranker = reperio.LateInteractionReranker(embedder)
            assert kb.search(TEXTS[1], k=1, reranker=reranker)[0].chunk.text.startswith(TEXTS[1])

    _forked(child)
    embedder._lock._lock.release()
    embedder.embed_passages(TEXTS)


def a_thread_forks_after_it_has_embedded(directory: Path) -> None:
    """Fork in a thread that has embedded: its pool is the one that the child inherits."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            a_child_embeds_after_its_parent_has(directory)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failures


def pools_of_forked_workers_search_by_text(directory: Path) -> None:
    """Search by text in a pool of multiprocessing's fork context, made after the parent has embedded."""
    with reperio.open(directory / "kb") as kb:
        kb.add([reperio.Chunk(f"{n}", f"{TEXTS[n % 2]} {n}") for n in range(8)])
        with multiprocessing.get_context("fork").Pool(2) as pool:
            found = pool.starmap(_searched, [(directory / "kb", text) for text in TEXTS * 2])
    assert all(text.startswith(asked) for text, asked in zip(found, TEXTS * 2, strict=True))


def _searched(path: Path, text: str) -> str:
    with reperio.open(path, read_only=True) as kb:
        return kb.search(text, k=1)[0].chunk.text


def a_parent_that_never_imported_reperio(directory: Path) -> None:
    """Fork in a process that used torch and FAISS without Reperio: a child that imports it then embeds and builds."""
    done = subprocess.run([sys.executable, "-c", _STRANGER, str(directory / "kb")], timeout=90, check=False)
    assert done.returncode == 0


_STRANGER = """
import os, sys
import faiss, numpy, torch
x = numpy.random.default_rng(0).standard_normal((3000, 32)).astype("float32")
index = faiss.index_factory(32, "IVF4,SQ8"); index.train(x); index.add(x); index.search(x, 5)
a = torch.rand(600, 600); a @ a; (a + a).sum()
assert "reperio" not in sys.modules
if (child := os.fork()) == 0:
    import reperio
    with reperio.open(sys.argv[1]) as kb:
        kb.add([reperio.Chunk(f"{n}", f"text number {n}") for n in range(400)])
        kb.optimize(index="IVF4,SQ8")
        assert len(kb.search("text number 7", k=5)) == 5
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def a_child_builds_every_kind_of_index(directory: Path) -> None:
    """Fork after FAISS has trained: the child trains PCA, OPQ, product codes and graphs, in another thread too."""
    with _filled(directory) as kb:
        kb.optimize(index="PCA16,IVF4,SQ8")

    def child() -> None:
        with reperio.open(directory / "kb") as again:
            for factory in ("PCA16,IVF4,SQ8", "OPQ8,IVF4,PQ8x4fs", "PCA16,HNSW8,SQ8"):
                again.optimize(index=factory)
                assert parsed(again.search(vector=vector(7, 0), k=1)[0].chunk) == (7, 0)
            thread = threading.Thread(target=again.optimize, kwargs={"index": "IVF4,SQ8"})
            thread.start()
            thread.join()

    _forked(child)


def _check_version(reader: Collection, version: int) -> None:
    for number in (0, 150, 399):
        hits = reader.search(vector=vector(number, version), k=3)
        assert parsed(hits[0].chunk) == (number, version), f"version {version}: {hits[0]}"
    assert {parsed(found) for found in reader} == {(number, version) for number in NUMBERS}


def _write_versions(path: Path, ask: Callable[[int], None]) -> None:
    """Write version upon version; ask the reader with and without a writer at work, and after a compaction."""
    ask(0)
    for version in range(1, 8):
        with reperio.open(path, auto_optimize=False) as kb:
            if version == 5:
                ask(version - 1)  # the reader meets a writer that has not written yet
            vectors = np.stack([vector(number, version) for number in NUMBERS])
            kb.add([chunk(number, version) for number in NUMBERS], vectors=vectors)
            if version in (2, 6):
                ask(version)
            if version in (3, 6):
                kb.compact()
                ask(version)
        if version != 4:
            ask(version)


def _filled(directory: Path) -> Collection:
    kb = reperio.open(directory / "kb", dimension=DIMENSION)
    vectors = np.stack([vector(number, 0) for number in NUMBERS])
    kb.add([chunk(number, 0) for number in NUMBERS], vectors=vectors)
    return kb


def _forked(work: Callable[[], None], *, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Run *work* in a forked child, and require that it succeeds."""
    if (child := os.fork()) == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    try:
        meanwhile()
    finally:
        status = os.waitpid(child, 0)[1]
    assert status == 0


def _expect(kind: type[ReperioError], work: Callable[[], object]) -> None:
    try:
        work()
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was expected")


CASES = {
    case.__name__: case
    for case in (
        the_parents_exclusive_handle_is_refused,
        the_parents_handle_works_in_the_child,
        a_handle_that_the_child_closes_first_is_closed,
        shards_are_written_and_searched_in_the_child,
        a_child_searches_after_a_parallel_search,
        a_child_writes_after_the_parent_has_closed,
        the_lock_is_not_inherited,
        a_killed_writers_child_does_not_hold_the_lock,
        another_user_reads,
        another_user_backs_up_shards,
        a_child_embeds_after_its_parent_has,
        a_child_uses_the_embedder_of_its_parent,
        a_thread_forks_after_it_has_embedded,
        pools_of_forked_workers_search_by_text,
        a_parent_that_never_imported_reperio,
        a_child_builds_every_kind_of_index,
    )
}
WITH_A_MODEL = (
    "a_child_embeds_after_its_parent_has",
    "a_child_uses_the_embedder_of_its_parent",
    "a_thread_forks_after_it_has_embedded",
    "pools_of_forked_workers_search_by_text",
)


def main(directory: Path, *cases: str) -> None:
    """Run a case in this process, or several in processes that are forked from it, each in a folder of its own."""
    if len(cases) == 1:
        CASES[cases[0]](directory)
        return
    importlib.import_module("sentence_transformers")
    for case in cases:
        sys.stderr.write(f"{case}\n")
        folder = directory / case
        folder.mkdir()
        _forked(lambda case=case, folder=folder: CASES[case](folder))  # type: ignore[misc]  # mypy knows no defaults of lambdas


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main(Path(sys.argv[1]), *sys.argv[2:])
