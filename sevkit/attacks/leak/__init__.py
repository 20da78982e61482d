"""The published experiment: whether the host can find a guest's secret in its memory."""

from sevkit.attacks.leak.attack import ATTACK

__all__ = ["ATTACK"]
