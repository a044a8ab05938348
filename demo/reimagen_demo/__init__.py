"""The demonstration: open icon art as a knowledge base, and the whole system drawing from it."""
