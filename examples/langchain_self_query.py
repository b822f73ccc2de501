"""Self-query on Reperio: a model turns a question into a search and a filter, and the filter is exact.

    pip install 'langchain-reperio[cpu,minilm]'
    python examples/langchain_self_query.py

`SelfQueryRetriever` (package langchain-classic) asks a model for a `StructuredQuery` and takes our translator as
``structured_query_translator=ReperioTranslator()``. Here the structured queries are written by hand, so that the
example needs neither that package nor a model: everything behind the model is the real thing.
"""

from __future__ import annotations

import tempfile

from langchain_core.documents import Document
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.structured_query import Comparator, Comparison, Operation, Operator, StructuredQuery
from langchain_reperio import ReperioEmbeddings, ReperioTranslator, ReperioVectorStore

FILMS = [
    (
        "Scientists bring back dinosaurs and mayhem breaks loose",
        {"year": 1993, "rating": 7.7, "genre": "science fiction"},
    ),
    ("A thief enters the dreams of others to steal their secrets", {"year": 2010, "rating": 8.2, "genre": "thriller"}),
    ("Toys come alive and have a blast doing so", {"year": 1995, "rating": 8.3, "genre": "animation"}),
    ("Three men walk into the Zone, three men walk out", {"year": 1979, "rating": 9.9, "genre": "science fiction"}),
    ("A family of superheroes is called back to save the world", {"year": 2004, "rating": 8.0, "genre": "animation"}),
]


def compare(comparator: Comparator, attribute: str, value: object) -> Comparison:
    """Write one condition as a model would."""
    return Comparison(comparator=comparator, attribute=attribute, value=value)


ASKED = {
    "What are highly rated science fiction films?": StructuredQuery(
        query="science fiction",
        filter=Operation(
            operator=Operator.AND,
            arguments=[
                compare(Comparator.EQ, "genre", "science fiction"),
                compare(Comparator.GT, "rating", 8.5),
            ],
        ),
    ),
    "A film about toys of the nineties, but no thriller": StructuredQuery(
        query="toys",
        filter=Operation(
            operator=Operator.AND,
            arguments=[
                compare(Comparator.GTE, "year", 1990),
                compare(Comparator.LT, "year", 2000),
                Operation(operator=Operator.NOT, arguments=[compare(Comparator.LIKE, "genre", "thrill%")]),
            ],
        ),
        limit=1,
    ),
    "Anything animated?": StructuredQuery(query=" ", filter=compare(Comparator.EQ, "genre", "animation")),
}


def build_retriever(store: ReperioVectorStore) -> Runnable[StructuredQuery, list[Document]]:
    """Return structured query → documents: what `SelfQueryRetriever` does with a model's answer."""

    def search(asked: StructuredQuery) -> list[Document]:
        query, options = ReperioTranslator().visit_structured_query(asked)
        return store.search(query, "similarity", **options)

    return RunnableLambda(search)


def main() -> None:
    """Store some films, and look for them."""
    embeddings = ReperioEmbeddings()
    with tempfile.TemporaryDirectory() as folder, ReperioVectorStore(embeddings, f"{folder}/kb") as store:
        store.add_texts([text for text, _ in FILMS], [metadata for _, metadata in FILMS])
        retriever = build_retriever(store)
        for question, asked in ASKED.items():
            print(f"? {question}")
            for document in retriever.invoke(asked):
                print(f"  {document.metadata['year']} {document.page_content}")


if __name__ == "__main__":
    main()
