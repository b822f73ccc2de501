"""LangChain's indexing API on Reperio: only what changed is embedded, what is gone is deleted, nothing is kept twice.

    pip install 'langchain-reperio[cpu,minilm]'
    python examples/langchain_indexing.py

The record manager keeps its records in the collection's own database: there is no second one to be lost.
"""

from __future__ import annotations

import tempfile

from langchain_core.documents import Document
from langchain_core.indexing import index
from langchain_reperio import ReperioEmbeddings, ReperioRecordManager, ReperioVectorStore

MONDAY = {
    "opening.md": "The library is open from nine to six.",
    "cards.md": "A reader's card is free for students.",
    "fines.md": "Each day that a book is late costs ten cents.",
}
TUESDAY = MONDAY | {"opening.md": "The library is open from eight to eight."}  # one file changed
WEDNESDAY = {name: text for name, text in TUESDAY.items() if name != "fines.md"}  # one file gone


def documents(files: dict[str, str]) -> list[Document]:
    """Read files as a loader would."""
    return [Document(page_content=text, metadata={"source": name}) for name, text in files.items()]


def main() -> None:
    """Index the same folder on three days, and once more after a restart."""
    embeddings = ReperioEmbeddings()
    with tempfile.TemporaryDirectory() as folder:
        days = {"Monday": MONDAY, "Tuesday": TUESDAY, "Wednesday": WEDNESDAY, "after a restart": WEDNESDAY}
        for day, files in days.items():
            with ReperioVectorStore(embeddings, f"{folder}/kb") as store:
                records = ReperioRecordManager("library", store)
                done = index(
                    documents(files), records, store, cleanup="full", source_id_key="source", key_encoder="sha256"
                )
                print(f"{day}: {', '.join(f'{count} {name[4:]}' for name, count in done.items() if count)}")
                print(f"  opening hours: {store.similarity_search('When is it open?', k=1)[0].page_content}")


if __name__ == "__main__":
    main()
