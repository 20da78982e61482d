"""The attacks: one a file, each readable top to bottom as the experiment it is."""

import importlib
import pkgutil
from functools import cache

from sevkit.attacks.experiment import Attack
from sevkit.errors import UsageError

__all__ = ["discover", "find"]


@cache
def discover() -> dict[str, Attack]:
    """All attacks by name, from the modules of this package that define ``ATTACK``.

    Where two modules define an attack of one name, the module of that name wins.
    """
    found: dict[str, Attack] = {}
    for info in sorted(pkgutil.iter_modules(__path__), key=lambda info: info.name):
        module = importlib.import_module(f"{__name__}.{info.name}")
        attack = getattr(module, "ATTACK", None)
        if isinstance(attack, Attack) and (attack.name not in found or info.name.replace("_", "-") == attack.name):
            found[attack.name] = attack
    return found


def find(name: str) -> Attack:
    """The attack of that name; raises UsageError with the names there are."""
    attacks = discover()
    if name not in attacks:
        raise UsageError(f"there is no attack named {name!r}", hint="known: " + ", ".join(sorted(attacks)))
    return attacks[name]
