"""What happens to a source's entries between the source and the knowledge base: filters, checks, a journal."""
