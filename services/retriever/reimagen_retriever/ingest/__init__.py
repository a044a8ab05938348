"""From a source to a knowledge base."""
