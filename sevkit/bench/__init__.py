"""Benchmarks whose numbers can be believed."""
