"""testinfra for guests: ``testinfra.get_host("sevkit://NAME")`` asserts on a running guest."""

from typing import Any

from testinfra.backend import base

_TIMEOUT = 120.0


class SevkitBackend(base.BaseBackend):  # type: ignore[misc]
    """Runs testinfra's commands in a guest that sevkit has launched, through its agent."""

    NAME = "sevkit"

    def __init__(self, name: str, *args: Any, **kwargs: Any) -> None:
        from sevkit.errors import UsageError
        from sevkit.hypervisor.select import attach

        try:
            self._guest = attach(name)
        except UsageError as error:  # testinfra's caller sees only the message, so the hint is added to it
            raise ValueError(f"sevkit://{name}: {error.message} ({error.hint})") from None
        super().__init__(name, *args, **kwargs)

    def run(self, command: str, *args: str, **kwargs: Any) -> base.CommandResult:
        """Run a command in the guest; the exit status and the streams are the command's."""
        del kwargs
        line = self.get_command(command, *args)
        done = self._guest.run(line, timeout=_TIMEOUT)
        return self.result(done.status, self.encode(line), done.stdout, done.stderr)
