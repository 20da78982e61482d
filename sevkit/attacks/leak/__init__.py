"""The published experiment: whether the host can find a guest's secret in its memory."""

from sevkit.attacks.leak.model import ATTACK

__all__ = ["ATTACK"]
