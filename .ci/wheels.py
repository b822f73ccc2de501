"""Install each wheel alone into an empty environment, and use it: python .ci/wheels.py FOLDER.

Dependencies come by pip. Nothing of the source tree is on the path.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ALONE = {
    "reperio": """
import sys
from importlib.metadata import version
import reperio
from reperio import Chunk, MissingDependency

with reperio.open(sys.argv[1], dimension=4) as kb:
    chunks = [Chunk("a", "the first door", {"n": 1}), Chunk("b", "the second door", {"n": 2})]
    kb.add(chunks, vectors=[[1, 0, 0, 0], [0, 1, 0, 0]])
with reperio.open(sys.argv[1], read_only=True) as kb:
    assert [hit.chunk.id for hit in kb.search("second", mode="lexical")] == ["b"]
    try:
        kb.search(vector=[0, 1, 0, 0])
    except MissingDependency as error:
        assert "pip install 'reperio[cpu]'" in str(error)
assert reperio.__version__ == version("reperio")
where = [reperio.__file__]
""",
    "langchain_reperio": (
        "import langchain_reperio, reperio, sys\nwhere = [langchain_reperio.__file__, reperio.__file__]"
    ),
    "llama_index_vector_stores_reperio": (
        "import reperio, sys\nfrom llama_index.vector_stores import reperio as adapter\n"
        "where = [adapter.__file__, reperio.__file__]"
    ),
    "reperio_haystack": (
        "import reperio, sys\nfrom haystack_integrations.document_stores import reperio as adapter\n"
        "where = [adapter.__file__, reperio.__file__]"
    ),
}
"""By the beginning of a wheel's name: what it does by itself. FAISS comes by the extra cpu."""

PROGRAMS = {
    "reperio": """
import sys
import reperio
from reperio import field

with reperio.open(sys.argv[1], read_only=True) as kb:
    assert kb.search(vector=[0, 1, 0, 0], k=1)[0].chunk.id == "b"
    assert [hit.chunk.id for hit in kb.search(vector=[1, 0, 0, 0], where=field("n") == 2)] == ["b"]
where = [reperio.__file__]
""",
    "langchain_reperio": """
import sys
import langchain_reperio, reperio
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_reperio import ReperioVectorStore

with ReperioVectorStore(DeterministicFakeEmbedding(size=8), sys.argv[1]) as store:
    store.add_texts(["one", "two"], [{"n": 1}, {"n": 2}])
    assert store.similarity_search("two", k=1)[0].metadata == {"n": 2}
where = [langchain_reperio.__file__, reperio.__file__]
""",
    "llama_index_vector_stores_reperio": """
import sys
import reperio
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores import VectorStoreQuery
from llama_index.vector_stores import reperio as adapter

with adapter.ReperioVectorStore(path=sys.argv[1]) as store:
    store.add([TextNode(id_=key, text=key, embedding=vector) for key, vector in (("a", [1.0, 0.0]), ("b", [0.0, 1.0]))])
    assert store.query(VectorStoreQuery(query_embedding=[0.0, 1.0], similarity_top_k=1)).ids == ["b"]
where = [adapter.__file__, reperio.__file__]
""",
    "reperio_haystack": """
import sys
import reperio
from haystack import Document
from haystack_integrations.components.retrievers.reperio import ReperioBM25Retriever
from haystack_integrations.document_stores import reperio as adapter

with adapter.ReperioDocumentStore(sys.argv[1], embedding_dimension=4) as store:
    store.write_documents([Document(id="a", content="the first door"), Document(id="b", content="the second door")])
    assert ReperioBM25Retriever(store).run("second")["documents"][0].id == "b"
where = [adapter.__file__, reperio.__file__]
""",
}
"""Likewise, with the extra cpu: the least that it is for."""


def use(wheel: Path, core: Path, work: Path) -> str:
    """Install a wheel, with the core's if it is another one, and use it. Return what is installed."""
    venv.create(work / "environment", with_pip=True)
    python, name = work / "environment" / "bin" / "python", wheel.name.partition("-")[0]
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    ending = "\nassert all(path.startswith(sys.prefix) for path in where), where\n"
    for extra, programs in (("", ALONE), ("[cpu]", PROGRAMS)):
        run([*pip, "install", "--quiet", *dict.fromkeys((f"{core}{extra}", f"{wheel}{extra}"))], work)
        run([python, "-I", "-c", programs[name] + ending, work / "kb"], work)
    run([python, "-I", "-m", "reperio", "info", work / "kb"], work)
    run([*pip, "check"], work)
    return run([*pip, "list", "--format", "freeze"], work)


def run(arguments: list[object], work: Path) -> str:
    """Run a command in a folder of its own."""
    done = subprocess.run([str(each) for each in arguments], cwd=work, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{arguments[0]} … failed\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    """Use each wheel of a folder."""
    folder = Path(sys.argv[1]).resolve()
    (core,) = folder.glob("reperio-*.whl")
    wheels = sorted(folder.glob("*.whl"))
    assert {wheel.name.partition("-")[0] for wheel in wheels} == set(PROGRAMS), wheels
    for wheel in wheels:
        with tempfile.TemporaryDirectory() as work:
            packages = use(wheel, core, Path(work)).splitlines()
        print(f"Python {sys.version.split()[0]}: {wheel.name} with {len(packages) - 1} packages", flush=True)


if __name__ == "__main__":
    main()
