"""What the services share: errors, logs, server frames, orderly stopping."""
