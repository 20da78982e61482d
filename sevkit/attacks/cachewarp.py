"""CacheWarp: INVD discards writes of the guest that the cache has not yet written back to DRAM."""

from sevkit.attacks.experiment import Aim, Attack, Expectation, Mitigation, Notebook, Observation, Outcome, Source
from sevkit.attacks.labs import model_lab
from sevkit.model.vcpu import Vcpu
from sevkit.vocabulary import Mode

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
    breaks_claim=Source("CVE-2023-20592, AMD-SB-3005"),
)
