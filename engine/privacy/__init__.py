"""What keeps people out of Redis, streams, logs and URLs: pseudonyms, opaque references, seals."""
