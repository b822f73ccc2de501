"""A LangChain RAG chain on Reperio: retrieve by words and meaning, prompt with the passages, answer with sources.

    pip install 'langchain-reperio[cpu,minilm]'
    python examples/langchain_rag.py

The chat model is a stand-in that quotes the best passage, so that the example runs anywhere; put ChatOpenAI, ChatOllama
or any other in its place, and nothing else changes.
"""

from __future__ import annotations

import tempfile
from typing import Any

from langchain_core.documents import Document
from langchain_core.language_models.chat_models import SimpleChatModel
from langchain_core.messages import BaseMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableParallel, RunnablePassthrough
from langchain_reperio import ReperioEmbeddings, ReperioVectorStore

HANDBOOK = {
    "leave": "Employees have 30 days of paid leave a year; up to five of them may be carried over until March.",
    "travel": "Train journeys are booked in second class; flights need the approval of the team lead.",
    "sick": "Whoever is ill tells the team lead before nine o'clock; from the third day on a doctor's note is needed.",
    "vpn": "Error E4711 of the VPN client means that the certificate has expired; renew it at the help desk.",
    "password": "Passwords are changed at the self-service portal; the old one stays valid for an hour.",
}
QUESTIONS = ("How many days of vacation do I get?", "What does E4711 mean?", "How can I get a new password?")

PROMPT = ChatPromptTemplate.from_messages(
    [
        ("system", "Answer from these passages alone, and say so if they do not tell:\n{context}"),
        ("human", "{question}"),
    ]
)


class QuotingModel(SimpleChatModel):
    """Stands for a chat model: answers with the first passage that it was given."""

    @property
    def _llm_type(self) -> str:
        return "quoting"

    def _call(self, messages: list[BaseMessage], *_: Any, **__: Any) -> str:
        return str(messages[0].content).splitlines()[1].partition("] ")[2]


def to_context(documents: list[Document]) -> str:
    """Write passages with their ids, best first."""
    return "\n".join(f"[{document.id}] {document.page_content}" for document in documents)


def build_chain(store: ReperioVectorStore) -> Runnable[str, dict[str, Any]]:
    """Return question → {"question", "documents", "answer"}."""
    retriever = store.as_retriever(search_type="hybrid", search_kwargs={"k": 2})
    answer = (
        RunnablePassthrough.assign(context=lambda found: to_context(found["documents"]))
        | PROMPT
        | QuotingModel()
        | StrOutputParser()
    )
    return RunnableParallel(question=RunnablePassthrough(), documents=retriever).assign(answer=answer)


def main() -> None:
    """Store a small handbook, and ask it."""
    embeddings = ReperioEmbeddings()
    with tempfile.TemporaryDirectory() as folder, ReperioVectorStore(embeddings, f"{folder}/kb") as store:
        store.add_texts(list(HANDBOOK.values()), ids=list(HANDBOOK))
        chain = build_chain(store)
        for found in chain.batch(list(QUESTIONS)):
            print(f"? {found['question']}\n  {found['answer']}")
            print(f"  sources: {', '.join(str(document.id) for document in found['documents'])}")


if __name__ == "__main__":
    main()
