"""The attacks: one file per attack, each readable top to bottom as the experiment it is."""

import importlib
import importlib.util
import pkgutil
import sys
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from sevkit.attacks.experiment import Attack
from sevkit.errors import BadInputError, UsageError

__all__ = ["discover", "find"]


def discover(folder: Path | None = None) -> dict[str, Attack]:
    """All attacks by name: those of this package, and those that the Python files in ``folder`` define.

    Raises UsageError if the folder does not exist, BadInputError if one of its files defines no attack, or an attack
    with a name that exists already.
    """
    found = dict(_own())
    for module in _modules(folder) if folder is not None else ():
        attack = getattr(module, "ATTACK", None)
        if not isinstance(attack, Attack):
            raise BadInputError(f"{module.__file__} defines no ATTACK", hint="ATTACK = Attack(...): docs/attacks.md")
        if attack.name in found:
            raise BadInputError(f"{module.__file__}: there is an attack named {attack.name!r} already")
        found[attack.name] = attack
    return dict(sorted(found.items()))


def find(name: str, folder: Path | None = None) -> Attack:
    """The attack of that name; raises UsageError with the valid names."""
    attacks = discover(folder)
    if name not in attacks:
        raise UsageError(f"there is no attack named {name!r}", hint="known: " + ", ".join(attacks))
    return attacks[name]


@cache
def _own() -> dict[str, Attack]:
    """The attacks of this package: every module or subpackage of it that defines ``ATTACK``."""
    found: dict[str, Attack] = {}
    for info in pkgutil.iter_modules(__path__):
        attack = getattr(importlib.import_module(f"{__name__}.{info.name}"), "ATTACK", None)
        if isinstance(attack, Attack):
            found[attack.name] = attack
    return found


def _modules(folder: Path) -> list[ModuleType]:
    """Import the Python files of a folder; an error names the file in which it occurred."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder", hint="it should hold Python files, each with an ATTACK")
    return [_load(path) for path in sorted(folder.glob("*.py"))]


class _Uncached(SourceFileLoader):
    """Compiles the file as it is now: Python's cache takes two versions of the same second and size for one."""

    def get_code(self, fullname: str) -> CodeType:
        """The code of the file; nothing is written to the user's folder."""
        del fullname
        return self.source_to_code(self.get_data(self.path), self.path)


def _load(path: Path) -> ModuleType:
    name = f"sevkit_attacks_of_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_Uncached(name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses need their module to be registered there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise BadInputError(f"{path}: {type(error).__name__}: {error}") from error
    return module
