"""The services that `make demo` starts, and their knowledge base."""
