"""Configuration of a cascade, as immutable values that are stored with its weights."""
