"""Helpers for experiments in the software model: machines, guests, and operations that may be refused."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from sevkit.attacks.mitigations import Mitigation
from sevkit.attacks.notebook import Notebook, Observation
from sevkit.model import vmsa
from sevkit.model.faults import Fault
from sevkit.model.isa import assemble
from sevkit.model.launch import Launched, default_policy, launch
from sevkit.model.machine import PlatformConfig
from sevkit.model.platform import Platform
from sevkit.model.vm import GuestAbortError
from sevkit.vocabulary import Mode

T = TypeVar("T")

SECRET = b"attack at dawn!!"  # one block of the cipher
CODE, DATA, OTHER, SHARED, STACK = 0x1000, 0x2000, 0x3000, 0x4000, 0x6000

# Sources: the whitepaper with the claims of SEV-SNP, and the tables of its checks.
WHITEPAPER = "AMD, SEV-SNP: Strengthening VM Isolation with Integrity Protection and More, January 2020"


def machine(note: Notebook, **changes: object) -> Platform:
    """A machine for this run: of the mode's generation, with the mitigations that are on."""
    config = PlatformConfig(
        seed=note.seed,
        snp=note.mode is Mode.SEV_SNP,
        ciphertext_hiding=note.has(Mitigation.CIPHERTEXT_HIDING),
        vmsa_reg_prot=note.has(Mitigation.VMSA_REG_PROT),
        alias_check=note.has(Mitigation.ALIAS_CHECK),
        invd_microcode=note.has(Mitigation.INVD_MICROCODE),
        rmp_init_lock=note.has(Mitigation.RMP_INIT_LOCK),
        fabric_lock=note.has(Mitigation.FABRIC_LOCK),
        disabled_checks=note.disabled_checks,
    )
    return Platform(replace(config, **changes))  # type: ignore[arg-type]


def guest(
    note: Notebook,
    platform: Platform,
    *,
    program: str = "hlt",
    contents: Mapping[int, bytes] | None = None,
    shared: Sequence[int] = (SHARED,),
    registers: Mapping[str, int] | Sequence[Mapping[str, int]] = (),
    policy: int | None = None,
    pages: int = 12,
) -> Launched:
    """Launch a guest of the run's mode with ``program`` at CODE, its stack below STACK + 4 KiB.

    ``registers`` changes the state of its one vCPU; a sequence gives it several.
    """
    features = vmsa.RESTRICTED_INJECTION if note.has(Mitigation.RESTRICTED_INJECTION) else 0
    common = {"rip": CODE, "rsp": STACK + 0x1000, "sev_features": features}
    changes = [registers] if isinstance(registers, Mapping) else registers
    first, *others = ({**common, **each} for each in changes or [{}])
    policy = default_policy(note.mode) if policy is None else policy
    image = {CODE: assemble(program, CODE), **(contents or {})}
    return launch(
        platform,
        note.mode,
        contents=image,
        pages=pages,
        shared=shared,
        registers=first,
        more_vcpus=others,
        policy=policy,
    )


def attempt(action: Callable[[], T]) -> tuple[T | None, str]:
    """Try an operation that may be refused: (value, "") if it works, else (None, name of the check that fired)."""
    try:
        return action(), ""
    except (Fault, GuestAbortError) as refusal:
        return None, refusal.check


def refused(note: Notebook, check: str, text: str) -> Observation:
    """The host's write was refused by the RMP: the usual end of an integrity attack under SEV-SNP."""
    note.host(text, f"#PF(RMP) by {check}")
    return note.stopped(check, "The host's write is refused: under SEV-SNP only the owner of a page writes to it.")


def encrypted(mode: Mode) -> bool:
    """Whether the mode encrypts memory."""
    return mode is not Mode.NOSEV
