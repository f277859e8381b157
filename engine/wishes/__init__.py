"""Books what somebody would like: searches, takes, and on a refusal tries the next in the same request."""
