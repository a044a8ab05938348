"""Knowledge bases of (image, text) pairs: built, found by BM25, served over gRPC."""
