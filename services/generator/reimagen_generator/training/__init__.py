"""Training; serving does not need it."""
