"""The demonstration's judge: a classifier of entities and scenes."""
