"""The demonstration: a knowledge base of open icon art, and the whole system that draws from it."""
