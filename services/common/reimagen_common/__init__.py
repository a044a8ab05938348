"""What the services share: errors, logs, command lines, server frames, orderly stopping."""
