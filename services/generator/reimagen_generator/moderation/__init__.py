"""What the operator does not allow: a list of words and phrases, and a hook that is asked about prompts and pairs."""
