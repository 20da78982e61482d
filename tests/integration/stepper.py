"""Runs the leak experiment, stopping before each phase until a line arrives on standard input.

Prints a JSON document a line: {"phase": …, "pid": of the VMM} before each phase, {"words": …} at the end.
"""

import json
import sys

from sevkit import attacks
from sevkit.attacks import runner
from sevkit.attacks.plan import Target
from sevkit.errors import SevkitError
from sevkit.guest.spec import GuestSpec
from sevkit.hypervisor import registry
from sevkit.vocabulary import Mode


def main(setup: dict[str, object]) -> int:
    """Run one mode and say how it ended."""
    spec = GuestSpec(memory_mib=int(str(setup.pop("memory_mib", 64))))
    modes = (Mode(str(setup.pop("mode", "nosev"))),)

    def say(phase: str) -> None:
        running = [record.pid for record in registry.running()]
        print(json.dumps({"phase": phase, "pid": running[0] if running else 0}), flush=True)
        sys.stdin.readline()

    try:
        target = Target(spec=spec, **setup)  # type: ignore[arg-type]
        (found,) = runner.run(attacks.find("leak"), modes, target, progress=say)
        words = found.observation.detail["verdict"]
    except SevkitError as error:
        words = f"exit {int(error.exit_code)}, `{error.kind}`"
    print(json.dumps({"words": words}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
