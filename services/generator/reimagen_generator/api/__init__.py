"""The two faces of the generator, gRPC and REST: both thin over `generation`."""
