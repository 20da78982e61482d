"""The linter for benchmark results."""
