"""Request handling without HTTP or gRPC: validation, retrieval, drawing and provenance."""
