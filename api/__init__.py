"""The engine over HTTP: routes, problems, and the one process that serves them. See README.md."""
