"""Fuzzing: every reader of bytes that others wrote. ``python -m tests.fuzz`` runs atheris, test_fuzz.py seeded ones."""
