"""A small hostile world around the model: what a host and two guests may try, and the laws that must hold throughout.

Every operation takes small numbers, so that a random driver and hypothesis can both choose them. After each step the
laws are checked; a violated one raises AssertionError.
"""

import contextlib
import hashlib
from collections.abc import Callable
from random import Random

from sevkit.model.cipher import PAGE
from sevkit.model.faults import Fault
from sevkit.model.launch import launch
from sevkit.model.machine import PlatformConfig
from sevkit.model.measure import PageType
from sevkit.model.memory import SparseDram
from sevkit.model.platform import Platform
from sevkit.model.psp import Refused
from sevkit.model.rmp_entry import TRANSITIONS, PageState
from sevkit.model.snp_commands import SnpGuestState, SnpPlatformState
from sevkit.model.vm import GuestAbortError
from sevkit.vocabulary import Mode

MIB = 1 << 20
LARGE = 2 * MIB
# Two 2 MiB regions of system memory, and pages in them; guest addresses likewise.
SPAS = (4 * MIB, 4 * MIB + PAGE, 4 * MIB + 2 * PAGE, 6 * MIB, 6 * MIB + PAGE, 6 * MIB + 5 * PAGE)
GPAS = tuple(base + offset * PAGE for base in (LARGE, 2 * LARGE) for offset in range(6))
REFUSALS = (Fault, GuestAbortError, Refused)


class World:
    """The machine, two SEV-SNP guests, and what each guest has last written where."""

    def __init__(self, seed: int = 1, disabled: frozenset[str] = frozenset()) -> None:
        config = PlatformConfig(seed=seed, memory=32 * MIB, disabled_checks=disabled)
        self.platform = Platform(config)
        assert self.platform.rmp is not None
        self.rmp = self.platform.rmp
        self.guests = [launch(self.platform, Mode.SEV_SNP, contents={0: b"x"}, pages=1) for _ in range(2)]
        self.vms = [guest.vm for guest in self.guests]
        self.written: dict[tuple[int, int], bytes] = {}
        self.history: list[str] = []
        self.equal_bytes = self.seen_bytes = 0
        self.rmp.log = self._transition

    # --- laws

    def _transition(self, spa: int, old: PageState | None, new: PageState | None, by: str) -> None:
        assert new is not None, f"{by} left page {spa:#x} in a state that does not exist (it was {old})"
        if old is not None and old is not new:
            allowed = TRANSITIONS.get((old, new), ())
            assert by in allowed, f"{by} moved page {spa:#x} from {old} to {new}"

    def check(self) -> None:
        """The laws that hold between any two steps."""
        for spa in SPAS:
            assert self.rmp.raw(spa).state is not None, f"page {spa:#x} is in no state of the table"
        assert self.platform.snp.state in SnpPlatformState
        for context in self.platform.snp.contexts.values():
            assert context.state in SnpGuestState
        for (number, gpa), data in self.written.items():
            vm = self.vms[number]
            with contextlib.suppress(*REFUSALS):
                assert vm.read(gpa, 16) == data, f"guest {number} reads at {gpa:#x} what it did not write"

    def secrecy(self, number: int, gpa: int, data: bytes) -> None:
        """What the host sees of a private page is not what the guest wrote."""
        seen = self.platform.host_read(self.vms[number].npt.spa(gpa), len(data))
        assert seen != data
        self.equal_bytes += sum(a == b for a, b in zip(seen, data, strict=True))
        self.seen_bytes += len(data)

    # --- what may be tried

    def rmpupdate(self, page: int, kind: int, owner: int, gpa: int) -> object:
        """RMPUPDATE to one of seven requests, legal and not."""
        asid, address = self.vms[owner % 2].asid, GPAS[gpa % len(GPAS)]
        requests: list[dict[str, int | bool]] = [
            {"assigned": False},
            {"assigned": True, "asid": asid, "gpa": address},
            {"assigned": True, "asid": asid, "gpa": address, "immutable": True},
            {"assigned": True, "immutable": True},
            {"assigned": True, "asid": asid, "gpa": address // LARGE * LARGE, "large": True},
            {"assigned": True},
            {"assigned": False, "asid": asid, "immutable": True},
        ]
        return self.rmp.rmpupdate(SPAS[page % len(SPAS)], **requests[kind % len(requests)])  # type: ignore[arg-type]

    def remap(self, page: int, kind: int, owner: int, gpa: int) -> object:
        """Change a guest's nested tables."""
        self.vms[owner % 2].remap(GPAS[gpa % len(GPAS)], SPAS[page % len(SPAS)], large=kind % 5 == 0)
        return None

    def give(self, page: int, kind: int, owner: int, gpa: int) -> object:
        """What an honest host does: assign a page to a guest and map it there; now and then a large one."""
        vm, spa, address = self.vms[owner % 2], SPAS[page % len(SPAS)], GPAS[gpa % len(GPAS)]
        large = kind % 4 == 0
        if large:
            spa, address = spa // LARGE * LARGE, address // LARGE * LARGE
            for offset in range(0, 8 * PAGE, PAGE):
                vm.remap(address + offset, spa + offset, large=kind % 8 == 0)
        else:
            vm.remap(address, spa)
        return self.rmp.rmpupdate(spa, assigned=True, asid=vm.asid, gpa=address, large=large)

    def grow(self, page: int, kind: int, owner: int, gpa: int) -> object:
        """A page comes into use: given, accepted, written."""
        self.give(page, kind | 1, owner, gpa)
        self.accept(page, 1, owner, gpa)
        return self.guest_write(page, kind, owner, gpa)

    def migrate(self, page: int, kind: int, owner: int, gpa: int) -> object:
        """The host moves a guest's page to another one with the firmware's help, perhaps as a swap."""
        number = owner % 2
        vm, address = self.vms[number], GPAS[gpa % len(GPAS)]
        source, target = vm.npt.spa(address) if vm.npt.pages.get(address // PAGE) else SPAS[0], SPAS[page % len(SPAS)]
        if kind % 2:
            self.rmp.rmpupdate(source, assigned=True, asid=vm.asid, gpa=address, immutable=True)
        self.rmp.rmpupdate(target, assigned=True, asid=vm.asid, gpa=address, immutable=True)
        self.platform.snp.page_move(self.guests[number].handle, source, target)
        vm.remap(address, target)
        return None

    def host_write(self, page: int, kind: int, owner: int, gpa: int) -> object:
        """Write as the host."""
        self.platform.host_write(SPAS[page % len(SPAS)], bytes([kind % 256, owner, gpa % 256]) * 8)
        return None

    def guest_write(self, page: int, kind: int, owner: int, gpa: int) -> object:
        """Write as a guest, privately."""
        number, address = owner % 2, GPAS[gpa % len(GPAS)]
        data = bytes([kind % 256, page, number, 0xA5]) * 4
        self.vms[number].write(address, data)
        self.written[number, address] = data
        self.secrecy(number, address, data)
        return None

    def guest_shared(self, page: int, kind: int, owner: int, gpa: int) -> object:
        """Write as a guest with the C-bit clear."""
        self.vms[owner % 2].write(GPAS[gpa % len(GPAS)], bytes([kind % 256, page]) * 8, private=False)
        return None

    def accept(self, page: int, kind: int, owner: int, gpa: int) -> object:
        """Validate as a careful guest."""
        del page
        self.vms[owner % 2].accept(GPAS[gpa % len(GPAS)], large=kind % 3 == 0)
        return None

    def rescind(self, page: int, kind: int, owner: int, gpa: int) -> object:
        """Take a validation back."""
        del page
        return self.vms[owner % 2].pvalidate(GPAS[gpa % len(GPAS)], validate=False, large=kind % 3 == 0)

    def adjust(self, page: int, kind: int, owner: int, gpa: int) -> object:
        """RMPADJUST by some VMPL for some VMPL."""
        address = GPAS[gpa % len(GPAS)]
        return self.vms[owner % 2].rmpadjust(address, target=kind % 4, perms=page % 16, vmpl=kind // 4 % 3)

    def smash(self, page: int, kind: int, owner: int, gpa: int) -> object:
        """PSMASH."""
        del kind, owner, gpa
        return self.rmp.psmash(SPAS[page % len(SPAS)])

    def firmware_page(self, page: int, kind: int, owner: int, gpa: int) -> object:
        """A page command of the firmware."""
        firmware, spa = self.platform.snp, SPAS[page % len(SPAS)]
        handle = self.guests[owner % 2].handle
        commands: list[Callable[[], object]] = [
            lambda: firmware.page_reclaim(spa),
            lambda: firmware.page_md_init(spa),
            lambda: firmware.page_set_state(spa),
            lambda: firmware.gctx_create(spa),
            lambda: firmware.decommission(spa),
            lambda: firmware.page_move(handle, spa, SPAS[gpa % len(SPAS)]),
            lambda: firmware.launch_update(spa, SPAS[gpa % len(SPAS)], PageType.NORMAL),
            lambda: firmware.launch_start(spa),
            lambda: firmware.activate(spa, 3 + kind % 2),
            lambda: firmware.launch_finish(spa),
            self.platform.host_wbinvd,
            firmware.df_flush,
        ]
        return commands[kind % len(commands)]()

    def digest(self) -> str:
        """A fingerprint of everything in memory."""
        dram = self.platform.dram
        assert isinstance(dram, SparseDram)
        return hashlib.sha256(repr(sorted((n, bytes(page)) for n, page in dram.pages.items())).encode()).hexdigest()

    OPERATIONS = (
        rmpupdate,
        give,
        grow,
        grow,
        grow,
        migrate,
        remap,
        host_write,
        guest_write,
        guest_write,
        guest_shared,
        accept,
        accept,
        rescind,
        adjust,
        smash,
        firmware_page,
    )

    def step(self, operation: int, page: int, kind: int, owner: int, gpa: int) -> None:
        """One step: whatever is refused is refused; then the laws."""
        action = self.OPERATIONS[operation % len(self.OPERATIONS)]
        try:
            outcome = repr(action(self, page, kind, owner, gpa))
        except REFUSALS as refusal:
            outcome = str(refusal)
        self.history.append(f"{action.__name__} {page} {kind} {owner} {gpa}: {outcome}")
        self.check()


def drive(world: World, seed: int, steps: int) -> World:
    """Drive a world at random; on a violation the history says how it came about."""
    random = Random(seed)
    for _ in range(steps):
        numbers = (
            random.randrange(len(World.OPERATIONS)),
            random.randrange(6),
            random.randrange(44),
            random.randrange(2),
            random.randrange(30),
        )
        world.step(*numbers)
    return world
