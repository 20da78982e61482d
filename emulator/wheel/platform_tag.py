"""Tag the wheel for this platform: it holds a program, and no code of a particular Python (GPL-2.0-or-later)."""

import sysconfig
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PlatformTag(BuildHookInterface[Any]):
    """Tag the wheel py3-none-PLATFORM."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Set the tag."""
        del version
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
