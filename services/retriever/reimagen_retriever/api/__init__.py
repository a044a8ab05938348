"""The gRPC and REST APIs of the retriever."""
