"""The whole domain of dosebook. Knows nothing of HTTP."""
