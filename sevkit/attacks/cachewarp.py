"""CacheWarp: INVD discards writes of the guest that the cache has not yet written back to DRAM."""

import time
from collections import Counter
from contextlib import suppress

from sevkit.attacks.experiment import Aim, Attack, Expectation, Mitigation, Notebook, Observation, Outcome, Source
from sevkit.attacks.labs import model_lab, program
from sevkit.attacks.labs.guest_lab import GuestLab
from sevkit.errors import GuestError, HypervisorError, InconclusiveError
from sevkit.model.vcpu import Vcpu
from sevkit.vocabulary import ENCRYPTED, Level, Mode

_PROGRAM = """
    movi rbx, 0x2000
    movi rax, 1
    store [rbx], rax        ; authenticated = 1, until proven
    vmmcall
    movi rax, 0
    store [rbx], rax        ; the password was wrong: authenticated = 0
    vmmcall
    load rcx, [rbx]
    hlt
"""


def model(note: Notebook) -> Observation:
    """Drop the cache line that holds a guest's last word."""
    note.setup("A machine with write-back caches; a guest that sets a flag, and clears it when the password is wrong.")
    platform = model_lab.machine(note, cache=True)
    guest = model_lab.guest(note, platform, program=_PROGRAM)
    cpu = Vcpu(guest)
    cpu.run()
    platform.host_wbinvd()
    note.guest("It sets the flag; the line reaches the DRAM.")
    note.predict("If the cleared flag is still in the cache when the host invalidates it, the old one comes back.")

    cpu.run()
    assert platform.cache is not None
    note.guest(f"It clears the flag; {platform.cache.dirty} lines are dirty in the cache.")
    platform.cache.write_back(guest.vmsa_spa or 0, 4096)
    platform.host_invd()
    note.host("The host saves the lines of its own, then runs INVD: the rest is dropped. The RMP is not asked.")
    ending = cpu.run()
    flag = cpu.registers.get("rcx")
    note.guest("It looks at the flag.", f"{ending.reason} flag={flag}")
    if flag == 1:
        return note.works("invd-drops-dirty-lines", "The write never happened: the guest believes it is authenticated.")
    return note.stopped("invd-microcode", "INVD wrote back what was dirty: the guest reads what it wrote.")


# Counts in RDX, writes each count n into cell n modulo 16, and checks the cell that it wrote 8 counts ago:
#   mov ebx, DATA; xor edx, edx; again: cmp rdx, 32; jb next; lea rcx, [rdx-8]; mov esi, ecx; and esi, 15;
#   cmp [rbx+rsi*8], rcx; jne lost; next: inc rdx; mov esi, edx; and esi, 15; mov [rbx+rsi*8], rdx; jmp again;
#   lost: mov edi, 42; mov eax, 60; syscall (exit)
_COUNTER = bytes.fromhex(
    f"bb{program.DATA.to_bytes(4, 'little').hex()} 31d2 4883fa20 720f 488d4af8 89ce 83e60f 48390cf3 750e"
    "48ffc2 89d6 83e60f 488914f3 ebdd bf2a000000 b83c000000 0f05"
)
_LOST = 42
_DROPS = 5  # the cache may have written back by itself what INVD should drop
_ATTEMPTS = 600
_PATIENCE = 5.0  # seconds for the program to end; it checks each value within microseconds
_LOOKS = 32
# Seconds that the guest runs between write-back and INVD, in turn: after a pause the kernel first makes up for timer
# interrupts, and a busy host gives it less of each.
_MOMENTS = (0.016, 0.032, 0.064)
# Blocks of the save area (APM volume 2, table B-4): CPL, CR3; and RDX, in which the program counts.
_PARTS, _COUNT = (slice(0xC0, 0xD0), slice(0x150, 0x160)), slice(0x310, 0x320)


def guest(lab: GuestLab, note: Notebook) -> Observation:
    """Drop the last writes of a program in a real guest that counts in memory and checks what it has written."""
    note.setup(f"A program in a real guest ({lab.guest.spec.mode}) counts in memory, and checks each value it wrote.")
    note.predict("INVD drops what is only in the cache: the program finds an older value than the one it wrote.")
    ((kernel, _),) = Counter(_state(lab)[0] for _ in range(_LOOKS)).most_common(1)  # an idle guest halts in its kernel
    program.start(lab, "count", _COUNTER)
    try:
        running = Counter(_state(lab) for _ in range(_LOOKS))
        in_program = next((state for state, _ in running.most_common() if state[0] != kernel), None)
        if in_program is None:
            raise InconclusiveError("the host did not see the program run: it cannot choose the moment")
        note.host(
            "The host sees in the save area whether the program runs: even encrypted, equal text is equal ciphertext.",
            in_program[1],
        )
        for _ in range(_DROPS):
            _drop_writes(lab, note, in_program)
            if _has_lost(lab, note):
                return note.works(
                    "invd-drops-dirty-lines", "The program's last writes never happened: memory is in the past."
                )
        raise InconclusiveError("the program reads what it wrote: INVD dropped nothing of it")
    finally:
        with suppress(GuestError, HypervisorError):
            program.stop(lab, "count")


def _state(lab: GuestLab) -> tuple[bytes, bytes]:
    """Two blocks of the save area of the guest as it is now: they tell who runs, the kernel or which process."""
    lab.qemu.pause()
    try:
        return _blocks(lab.host.save_area())
    finally:
        lab.qemu.resume()


def _blocks(area: bytes) -> tuple[bytes, bytes]:
    return area[_PARTS[0]], area[_PARTS[1]]


def _drop_writes(lab: GuestLab, note: Notebook, in_program: tuple[bytes, bytes]) -> None:
    """Write the caches back, let the guest run for a moment, and drop what it wrote; the program runs at both times.

    If the kernel ran at one of the two, it would lose half of its own work, and the guest would crash.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        lab.qemu.pause()
        try:
            before = lab.host.save_area()
            if _blocks(before) != in_program:
                continue
            lab.qemu.write_back()
            lab.qemu.resume()
            time.sleep(_MOMENTS[attempt % len(_MOMENTS)])
            lab.qemu.pause()
            now = lab.host.save_area()
            if _blocks(now) != in_program or now[_COUNT] == before[_COUNT]:
                continue
            lab.host.invalidate_caches()
            note.host(f"At attempt {attempt} it writes the caches back, lets the program run, stops it, runs INVD.")
            return
        finally:
            lab.qemu.resume()
    raise InconclusiveError(f"in {_ATTEMPTS} attempts the program was never running at both moments")


def _has_lost(lab: GuestLab, note: Notebook) -> bool:
    """Whether the program has found an old value; raises InconclusiveError if it or the guest has ended otherwise."""
    try:
        ended = program.ended(lab, "count", within=_PATIENCE)
    except (GuestError, HypervisorError) as error:
        raise InconclusiveError("the guest's kernel has lost writes of its own and does not answer") from error
    note.guest("The program:", "still counts" if ended is None else f"exit status {ended}")
    if ended not in (None, _LOST):
        raise InconclusiveError("the program has lost more than what it checks")
    return ended == _LOST


_WORKS = Expectation(Outcome.WORKS, "INVD drops dirty lines")
ATTACK = Attack(
    name="cachewarp",
    title="CacheWarp: dropped writes",
    aim=Aim.INTEGRITY,
    summary="The host executes INVD and so takes back the guest's last writes.",
    preconditions=("the host clears bit 4 of MSR C001_0015 and executes INVD",),
    generations="EPYC 7001 to 7003; microcode for 7003 only",
    sources=(
        Source(
            "Zhang et al., CacheWarp: Software-based Fault Injection using Selective State Reset, USENIX Security 2024",
            "https://cachewarpattack.com",
        ),
        Source("AMD-SB-3005, CVE-2023-20592"),
    ),
    expected=dict.fromkeys(Mode, _WORKS)
    | {Mode.SEV_SNP: Expectation(Outcome.WORKS, "invd-drops-dirty-lines: the RMP is not asked")},
    mitigations=(Mitigation.INVD_MICROCODE,),
    mitigated=Expectation(Outcome.STOPPED, "invd-microcode: INVD writes back"),
    claim="replay",
    model=model,
    guest=guest,
    ends_guest="INVD also drops what the guest's kernel has written",
    guest_levels=frozenset({Level.EMULATOR}),
    guest_modes=ENCRYPTED,
    breaks_claim=Source("CVE-2023-20592, AMD-SB-3005"),
)
