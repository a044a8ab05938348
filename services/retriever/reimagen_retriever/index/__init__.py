"""The search index: BM25 over captions, and dense search over vectors."""
