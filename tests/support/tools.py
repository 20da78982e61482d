"""Programs that some tests need and not every machine has."""

import shutil

import pytest

needs_gdb = pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")
