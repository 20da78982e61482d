"""Tests of guests: the pytest plugin, and the backend of testinfra. Importing this registers the backend."""

from sevkit.extras import extra

with extra("testing"):
    import testinfra.backend

testinfra.backend.BACKENDS["sevkit"] = "sevkit.testing.backend.SevkitBackend"
