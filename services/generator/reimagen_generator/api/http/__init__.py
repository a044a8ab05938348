"""The REST face: OpenAI's image endpoint, and what grounding adds to it."""
