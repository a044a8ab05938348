"""The REST API: OpenAI's image endpoint with additional fields for retrieval."""
