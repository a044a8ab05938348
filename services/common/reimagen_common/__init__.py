"""Code that the services share: errors, logs, command lines, gRPC and HTTP servers, and graceful shutdown."""
