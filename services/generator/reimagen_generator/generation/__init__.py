"""One request, from its body to its images: retrieval, drawing, provenance."""
