"""Build shards on a Ray cluster of two hosts, both on this machine; write to them, split one, and search them.

    make shards-demo

In a real cluster, the three commands are:

    ray start --head                  # and, on the other hosts, the line that it prints
    reperio shards build rows.jsonl --into kb-shards --shards 4
    reperio shards search kb-shards "the answer to question 77"
"""

from __future__ import annotations

import json
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

import reperio
from reperio import Chunk
from reperio.sharding import check_shards, shards_info, split

ROWS = 4_000


class Trigrams:
    """Count character trigrams into buckets: an embedder that needs no model."""

    name, dimension = "trigrams", 128

    def embed_passages(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return one vector a text."""
        found = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for vector, text in zip(found, texts, strict=True):
            for at in range(len(text) - 2):
                vector[zlib.crc32(text[at : at + 3].encode()) % self.dimension] += 1.0
        return found

    def embed_queries(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return one vector a question."""
        return self.embed_passages(texts)


@contextmanager
def a_cluster() -> Iterator[None]:
    """Start a cluster of two hosts on this machine, unless this program is connected to one already."""
    import ray
    from ray.cluster_utils import Cluster

    if ray.is_initialized():
        yield
        return
    given = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=given)
    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()


def main() -> None:
    """Do what this page says, and print what came of it."""
    with tempfile.TemporaryDirectory(prefix="shards-demo-") as folder, a_cluster():
        source, root = Path(folder, "rows.jsonl"), Path(folder, "kb-shards")
        lines = ({"id": f"faq-{at}", "text": f"the answer to question {at}", "n": at} for at in range(ROWS))
        source.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
        report = reperio.build_shards(source, root, shards=2, embedder=Trigrams())
        print(f"built: {report.chunks:,} chunks, {report.embedded:,} embedded, in {len(report.shards)} shards")
        with reperio.ShardWriter(root, embedder=Trigrams()) as shards:
            done = shards.add(
                [Chunk("faq-77", "another answer to question 77"), Chunk("new", "a question that is new")]
            )
            print(f"added: {done.added} new, {done.updated} replaced")
        exchange = split(root, "shard-000001")
        print(f"split: {exchange.removed[0]} became {', '.join(exchange.made)}")
        for name, (entry, info) in shards_info(root).shards.items():
            print(f"  {name}: slots {entry.first_slot:,} to {entry.end_slot - 1:,}, {info.count:,} chunks")
        print(f"checked: {'sound' if check_shards(root).ok else 'damaged'}, {check_shards(root).rows:,} chunks")
        with reperio.open_shards(root, embedder=Trigrams()) as kb:
            for hit in kb.search("another answer to question 77", k=3):
                print(f"found: {hit.score:.3f}  {hit.chunk.id}  {hit.chunk.text}")


if __name__ == "__main__":
    main()
