"""One truth: the emulator's reverse map table and the software model's give the same outcomes, step by step."""

import random
import subprocess
from pathlib import Path

import pytest

from sevkit import processes
from sevkit.model.cipher import PAGE
from sevkit.model.faults import Fault
from sevkit.model.memory import SparseDram
from sevkit.model.rmp import Rmp

EMULATOR = Path(__file__).parents[2] / "emulator"
STEPS = 100_000
LARGE = 512
# The walk moves on to untouched pages at times: what it has made immutable stays so.
EPISODES = 100
PAGES = EPISODES * 2 * LARGE
# The end of a check's name in the model -> the engine's name.
CHECKS = {
    **{name: f"RMP_{name.upper()}" for name in ("assigned", "asid", "size", "gpa", "immutable", "validated", "vmpl")},
    "smash": "RMP_SIZE",
    "write": "RMP_VMSA",
}


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not processes.have_tool("gcc"):
        pytest.skip("gcc is not installed")
    built = tmp_path_factory.mktemp("rmp") / "rmp"
    engine = EMULATOR / "engine/target/i386/sev-tcg"
    flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-fsanitize=undefined", f"-I{engine}"]
    sources = [str(engine / "rmp-table.c"), str(EMULATOR / "tests/rmp.c")]
    done = processes.run(["gcc", *flags, *sources, "-o", str(built)], timeout=120)
    assert done.status == 0, done.error_text
    return built


def name_of(fault: Fault) -> str:
    return CHECKS[fault.check.rsplit("-", 1)[-1]]


class Model:
    """The same operations on the software model."""

    def __init__(self) -> None:
        self.rmp = Rmp(SparseDram(1 << 30), 512 << 20, PAGES * PAGE)

    def step(self, op: str, n: list[int]) -> str:
        """The line that the driver prints for this operation."""
        try:
            return str(getattr(self, op)(n[0] * PAGE, *n[1:]))
        except Fault as fault:
            return name_of(fault)

    def u(self, spa: int, assigned: int, asid: int, gfn: int, large: int, immutable: int) -> int:
        return self.rmp.rmpupdate(
            spa, assigned=bool(assigned), asid=asid, gpa=gfn * PAGE, large=bool(large), immutable=bool(immutable)
        )

    def s(self, spa: int) -> int:
        return self.rmp.psmash(spa)

    def v(self, spa: int, asid: int, gfn: int, vmpl: int, large: int, validate: int) -> str:
        eax, unchanged = self.rmp.pvalidate(
            spa, asid, gfn * PAGE, validate=bool(validate), large=bool(large), vmpl=vmpl
        )
        return f"{eax} {int(unchanged)}"

    def j(self, spa: int, asid: int, gfn: int, vmpl: int, large: int, target: int, perms: int, vmsa: int) -> int:
        return self.rmp.rmpadjust(
            spa, asid, gfn * PAGE, target=target, perms=perms, vmpl=vmpl, vmsa=bool(vmsa), large=bool(large)
        )

    def a(self, spa: int, asid: int, gfn: int, vmpl: int, wants: int, large: int) -> str:
        access = self.rmp.access(
            spa, asid, gfn * PAGE, write=wants == 2, execute=wants == 8, vmpl=vmpl, mapping_large=bool(large)
        )
        self.rmp.check_guest(access)
        return "none"

    def w(self, spa: int, large: int) -> str:
        self.rmp.check_host_write(spa, mapping_large=bool(large))
        return "none"

    def g(self, spa: int) -> str:
        self.rmp.check_guest_shared_write(spa, 1, spa)
        return "none"

    def d(self, spa: int) -> str:
        return self.rmp.raw(spa).pack().hex()


def operations(seed: int, count: int) -> list[tuple[str, list[int]]]:
    """Operations that mostly hit what others have changed: few pages at a time, owners that mostly fit."""
    rng = random.Random(seed)
    pages = [*range(6), LARGE - 1, *range(LARGE, LARGE + 4), 2 * LARGE - 1]
    heads = [0, LARGE]

    def bit(chance: float) -> int:
        return int(rng.random() < chance)

    def owner(page: int) -> tuple[int, int]:
        return (2 if bit(0.05) else 1), (page + 1 if bit(0.05) else page)

    chosen: list[tuple[str, list[int]]] = []
    for number in range(count):
        page = rng.choice(heads if bit(0.3) else pages) + number * EPISODES // count * 2 * LARGE
        asid, gfn = owner(page)
        vmpl = rng.choice((0, 0, 0, 1, 3))
        op = rng.choice("uuvvvjjjaaaaawgsd")
        if op == "u":
            arguments = [bit(0.7), rng.choice((0, 1, 1, 1, 2)), rng.choice((0, gfn, gfn, gfn)), bit(0.25), bit(0.05)]
            if bit(0.4):
                arguments = [0, 0, 0, 0, 0]  # make room
        elif op == "v":
            arguments = [asid, gfn, vmpl, bit(0.3), bit(0.8)]
        elif op == "j":
            arguments = [asid, gfn, vmpl, bit(0.3), rng.choice((0, 1, 2, 3, 7)), rng.randrange(17), bit(0.5)]
        elif op == "a":
            arguments = [asid, gfn, vmpl, rng.choice((1, 2, 8)), bit(0.2)]
        else:
            arguments = [bit(0.3)] if op == "w" else []
        chosen.append((op, [page, *arguments]))
    return chosen


@pytest.mark.parametrize("seed", [1, 2])
def test_engine_and_model_agree(driver: Path, seed: int) -> None:
    steps = operations(seed, STEPS // 2)
    text = "".join(f"{op} {' '.join(map(str, numbers))}\n" for op, numbers in steps)
    done = subprocess.run([str(driver), str(PAGES)], input=text, capture_output=True, text=True, timeout=60, check=True)
    model = Model()
    seen: set[str] = set()
    for number, ((op, numbers), answer) in enumerate(zip(steps, done.stdout.splitlines(), strict=True)):
        expected = model.step(op, numbers)
        assert answer == expected, f"step {number}: {op} {numbers}"
        seen.add(f"{op} {answer}" if op != "d" else op)
    # The walk must reach every check and result, or agreement would mean little.
    assert {f"a {name}" for name in set(CHECKS.values()) | {"none"}} <= seen
    assert {"u 0", "u 1", "u 2", "u 4", "v 0 0", "v 0 1", "v 2 0", "v 6 0", "v RMP_SIZE"} <= seen
    assert {"j 0", "j 1", "j 2", "j 6", "s 0", "s 1", "w RMP_SIZE", "g RMP_ASSIGNED"} <= seen
