"""Benchmark suites as data, fio job files, published results, and the project's own performance benchmarks."""
