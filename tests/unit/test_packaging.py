"""What an installed sevkit consists of."""

import os
import sys
from pathlib import Path

import pytest

import sevkit


def test_the_command_runs_main_and_nothing_before_it() -> None:
    """An installer's own script would import re; ours must be executable to be installed as such."""
    source = Path(sevkit.__file__).with_name("__main__.py")
    assert os.access(source, os.X_OK)
    installed = Path(sys.executable).with_name("sevkit")
    if not installed.exists():
        pytest.skip("sevkit is not installed beside this Python")
    assert installed.read_text().partition("\n")[2] == source.read_text().partition("\n")[2]
