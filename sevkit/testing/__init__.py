"""Tests of guests: the pytest plugin (plugin.py), and the backend of testinfra (backend.py)."""
