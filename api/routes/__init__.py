"""Routes, one file per noun. Thin: they read a request, ask the engine, and hand its answer to a writer."""
