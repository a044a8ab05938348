"""Looking after a knowledge base: compact, verify, snapshot and restore."""
