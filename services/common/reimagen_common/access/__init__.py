"""Who may do what: API keys, their rights and limits, and the caller of the current request."""
