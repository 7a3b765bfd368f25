"""A model as the `Embeddings` of LangChain, which LlamaIndex takes too (`LangchainEmbedding`)."""

from __future__ import annotations

from ..arguments_llink import checked_methods, plain
from ..modeling_llink import LlinkForCausalLM


@checked_methods
class LlinkEmbeddings:
    """Foreign documents and English queries in one space.

    ```python
    from langchain_core.vectorstores import InMemoryVectorStore

    vectors = InMemoryVectorStore.from_texts(texts, LlinkEmbeddings(model))
    vectors.similarity_search("How do I insert a chart?")
    ```

    Args:
        model: With Stage A.
        batch_size: Texts in one forward pass.
    """

    def __init__(self, model: LlinkForCausalLM, batch_size: int = 32) -> None:
        self.model, self.batch_size = model, batch_size

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Foreign texts → N vectors of length one."""
        texts = plain(texts)
        nothing = isinstance(texts, (list, tuple)) and not texts
        return [] if nothing else self.model.encode(texts, "foreign", self.batch_size).tolist()

    def embed_query(self, text: str) -> list[float]:
        """An English question → its vector."""
        return self.model.encode(text, "english").tolist()
