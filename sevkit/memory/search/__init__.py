"""Search memory for secrets: patterns, threads, the compiled search, and what the search can conclude."""
