"""Whatever is done to a folder, and however runs are broken off: the next whole run gives what a first one would."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import reperio
from reperio import Chunk, EmbedderFailed
from reperio.ingestion import ingest
from tests.conftest import TrigramEmbedder
from tests.ingestion.folders import contents, require_ledger

NAMES = st.sampled_from(["a.md", "b.md", "sub/a.md", "sub/c.txt", "t.csv", "sub/t.csv"])
WORDS = st.sampled_from(["rivers", "lakes", "seas", "ponds and marshes", "a longer text about canals"])
OPTIONS = {"max_tokens": 30, "overlap": 0}


class Breakable(TrigramEmbedder):
    """Fails after so many texts."""

    left = 10**9

    def embed_passages(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self.left -= len(texts)
        if self.left < 0:
            raise ValueError("broken off")
        return super().embed_passages(texts)


class Folder(RuleBasedStateMachine):
    """A folder that people work in, and a collection that follows it."""

    @initialize()
    def begin(self) -> None:
        self.top = Path(tempfile.mkdtemp(prefix="reperio-states-"))
        self.docs = self.top / "docs"
        self.docs.mkdir()
        (self.docs / "first.md").write_text("first")
        self.embedder = Breakable()
        self.kb = reperio.open(":memory:", embedder=self.embedder, auto_optimize=False)
        self.own: dict[str, str] = {}
        self.number = 0

    def teardown(self) -> None:
        if hasattr(self, "kb"):
            self.kb.close()
            shutil.rmtree(self.top)

    def files(self) -> list[Path]:
        return sorted(path for path in self.docs.rglob("*") if path.is_file() and path.name != "first.md")

    @rule(name=NAMES, lines=st.lists(WORDS, min_size=1, max_size=4, unique=True), then=st.booleans())
    def write(self, name: str, lines: list[str], then: bool) -> None:
        path = self.docs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".csv"):
            path.write_text("id,text\n" + "".join(f"{number},{line}\n" for number, line in enumerate(lines)))
        else:
            path.write_text("\n\n".join(lines))
        if then:
            self.run(2)

    @precondition(lambda self: self.files())
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.files())).unlink()

    @precondition(lambda self: self.files())
    @rule(data=st.data(), name=NAMES, copy=st.booleans(), then=st.booleans())
    def rename(self, data: st.DataObject, name: str, copy: bool, then: bool) -> None:
        path = data.draw(st.sampled_from(self.files()))
        target = (self.docs / name).with_suffix(path.suffix)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path != target:
            (shutil.copy if copy else shutil.move)(path, target)
        if then:
            self.run(2)

    @precondition(lambda self: self.files())
    @rule(data=st.data())
    def break_file(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.files())).write_bytes(b"caf\xe9")

    @rule(source=NAMES)
    def add_by_hand(self, source: str) -> None:
        self.number += 1
        key = f"own-{self.number}"
        self.own[key] = source
        self.kb.add([Chunk(key, "by hand", {"source": f"docs/{source}"})])

    @precondition(lambda self: self.kb.count() > len(self.own))
    @rule(data=st.data())
    def delete_by_hand(self, data: st.DataObject) -> None:
        ids = sorted(set(self.kb.ids()) - set(self.own))
        self.kb.delete(ids=data.draw(st.sampled_from(ids)))

    @rule(after=st.integers(0, 6), batch=st.integers(1, 4), prune=st.booleans())
    def run_that_breaks(self, after: int, batch: int, prune: bool) -> None:
        # The contract's own texts come first, through this embedder, too.
        self.embedder.left = after + (100 if not self.kb.count() else 0)
        try:
            ingest(self.kb, self.docs, prune=prune, batch_size=batch, **OPTIONS)  # type: ignore[arg-type]  # numbers
        except EmbedderFailed:
            pass
        finally:
            self.embedder.left = 10**9

    @rule(batch=st.integers(1, 5))
    def part_of_it(self, batch: int) -> None:
        if (self.docs / "sub").is_dir() and any(path.is_relative_to(self.docs / "sub") for path in self.files()):
            ingest(self.kb, self.docs / "sub", batch_size=batch, **OPTIONS)  # type: ignore[arg-type]  # numbers

    @rule(batch=st.integers(1, 5))
    def run(self, batch: int) -> None:
        done = ingest(self.kb, self.docs, prune=True, batch_size=batch, **OPTIONS)  # type: ignore[arg-type]  # numbers
        broken = {failed.source for failed in done.failed}
        with reperio.open(":memory:", embedder=TrigramEmbedder(), auto_optimize=False) as fresh:
            self.first_run(fresh)
            wanted = contents(fresh)
            ours = {
                key: value
                for key, value in contents(self.kb).items()
                if key not in self.own and value[1]["source"] not in broken
            }
            assert ours == wanted
            if wanted:
                near = np.allclose(self.kb.vectors(sorted(wanted)), fresh.vectors(sorted(wanted)), atol=1e-6)
                assert near
        assert set(self.own) <= set(self.kb.ids())
        if not broken and not self.own:
            require_ledger(self.kb)

    def first_run(self, fresh: reperio.Collection) -> None:
        if self.named("sub") and (self.docs / "sub").is_dir():
            # A part that was ingested before the whole keeps its name, and so it does here.
            ingest(fresh, self.docs / "sub", **OPTIONS)  # type: ignore[arg-type]  # numbers
        ingest(fresh, self.docs, **OPTIONS)  # type: ignore[arg-type]  # numbers

    def named(self, root: str) -> bool:
        return any(record.key == root for record in self.kb.records("reperio.ingest.roots").list())

    @invariant()
    def nothing_of_a_program_is_lost(self) -> None:
        if hasattr(self, "kb"):
            assert set(self.own) <= set(self.kb.ids())


Folder.TestCase.settings = settings(
    max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestFolder = Folder.TestCase
