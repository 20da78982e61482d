"""Build the memory search (sevkit/memory/search/*.c). Without a C compiler sevkit works too, but searches slower."""

import hashlib
import os
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("sevkit/memory/search")
LIBRARY = FOLDER / "find.so"
FLAGS = ("-O3", "-std=gnu11", "-Wall", "-Wextra", "-fPIC", "-shared")


def identity(folder: Path) -> str:
    """Tells versions of the C sources in a folder; the library says it, and native.py knows the one that it fits."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.[ch]")):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:32]


class FindHook(BuildHookInterface[Any]):
    """A shared library beside the source. It knows nothing of Python, so that any version can load it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and mark the wheel as one of this platform."""
        if self.target_name != "wheel":
            return
        library = Path(self.root) / LIBRARY
        sources = sorted(map(str, (Path(self.root) / FOLDER).glob("*.c")))
        library.unlink(missing_ok=True)
        compiler = shlex.split(os.environ.get("CC", "cc"))
        if shutil.which(compiler[0]) is None:
            self.app.display_warning(f"no C compiler ({compiler[0]}): the memory search will be slower")
            return
        named = f'-DSEVKIT_SOURCES="{identity(Path(self.root) / FOLDER)}"'
        done = subprocess.run([*compiler, *FLAGS, named, "-o", str(library), *sources], check=False)
        if done.returncode:
            self.app.display_warning(f"{FOLDER}/*.c did not compile (libc6-dev?): the memory search will be slower")
            library.unlink(missing_ok=True)
            return
        if version != "editable":
            build_data["artifacts"].append(f"/{LIBRARY}")
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{platform}"
