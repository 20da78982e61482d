"""What an installed sevkit consists of."""

from importlib.metadata import entry_points

from sevkit.cli import main


def test_the_command_is_a_conventional_entry_point() -> None:
    """Installers (pipx, uv) and readers of metadata find the command there."""
    (found,) = entry_points(group="console_scripts", name="sevkit")
    assert found.load() is main
