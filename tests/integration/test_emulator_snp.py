"""SEV-ES and SEV-SNP in the emulator: stock kernels see what they would see on hardware, and can prove it."""

import hashlib
import json
import os
import struct
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from sevkit.attestation.ask import fetch_evidence
from sevkit.attestation.measure.idblock import IdBlock, sign
from sevkit.attestation.relying_party import Guest, NotTrustedError, Offer, RelyingParty
from sevkit.attestation.report import certtable
from sevkit.attestation.report.certificates import Store, load
from sevkit.attestation.report.policy import Policy
from sevkit.attestation.report.verify import setting
from sevkit.cli import main
from sevkit.errors import SevkitError
from sevkit.guest import apt, debian, firmware, image, verify
from sevkit.guest.spec import GuestSpec, Storage, StorageKind
from sevkit.hypervisor import registry
from sevkit.hypervisor.qemu import firmware_model
from sevkit.hypervisor.qemu.emulated import emulated
from sevkit.hypervisor.qemu.guest import QemuGuest
from sevkit.hypervisor.qemu.hypervisor import QemuHypervisor
from sevkit.model import endorsement, report
from sevkit.model.digest import LaunchInputs, launch_digest
from sevkit.model.endorsement import GUIDS
from sevkit.vocabulary import Mode

from .emulator_guest import SOURCES, compile_static

pytestmark = [pytest.mark.guest, pytest.mark.timeout(600)]

SEED = "a platform for tests"
WORK = ("faith memory 60", "faith code", "faith switch 2000", "faith atomic 50000")


@pytest.fixture(scope="module")
def hypervisor() -> QemuHypervisor:
    """The emulator, where its present build is there."""
    able = emulated()
    for mode in (Mode.SEV_ES, Mode.SEV_SNP):
        if not (offer := able.availability(mode)).available:
            pytest.skip(offer.reason)
    try:
        firmware.find(Mode.SEV_SNP, emulated=True)
        image.get("mini")
        image.get("mini-6.12")
    except SevkitError as error:
        pytest.skip(f"{error.message}: {error.detail}")
    return able


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The programs that run in the guests."""
    folder = tmp_path_factory.mktemp("programs")
    made = {name: folder / name for name in ("attest", "faith")}
    for name, path in made.items():
        compile_static(SOURCES / f"{name}.c", path)
    return made


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """State of its own for the guests that several tests share; short, since sockets' paths are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEVKIT_STATE_DIR", str(tmp_path_factory.mktemp("s")))
        yield


@pytest.fixture(scope="module")
def shared(hypervisor: QemuHypervisor, programs: dict[str, Path], state: None) -> Iterator[QemuGuest]:
    """An SEV-SNP guest with a 6.12 kernel and two vCPUs."""
    spec = GuestSpec(name="snp", mode=Mode.SEV_SNP, image="mini-6.12", vcpus=2, platform_seed=SEED)
    running = hypervisor.launch(spec, timeout=300)
    try:
        for name, path in programs.items():
            running.put(path, f"/bin/{name}")
            running.run(f"chmod 755 /bin/{name}")
        yield running
    finally:
        running.stop()


@pytest.fixture
def snp(shared: QemuGuest, monkeypatch: pytest.MonkeyPatch) -> QemuGuest:
    """The same, for one test: found again in the state it was launched in."""
    monkeypatch.setenv("SEVKIT_STATE_DIR", str(shared.folder.parents[1]))
    return shared


def run(guest: QemuGuest, command: str) -> str:
    """Standard output of a command that must succeed."""
    done = guest.run(command, timeout=200)
    assert done.status == 0, f"{command}: {done.status}\n{done.stdout!r}\n{done.stderr!r}"
    return done.text


def check_sources(guest: QemuGuest, mode: Mode) -> verify.GuestFacts:
    facts = verify.collect(guest)
    assert [finding for finding in verify.judge(facts, mode) if finding.agrees is not True] == [], facts.log_lines
    return facts


# --- attestation


def test_the_kernel_says_what_it_says_on_hardware(snp: QemuGuest) -> None:
    facts = check_sources(snp, Mode.SEV_SNP)
    assert facts.sev_status is not None
    assert facts.sev_status & 7 == 7
    assert facts.cpuid_entries is not None
    assert 20 <= facts.cpuid_entries <= 64
    assert "smp: Brought up 1 node, 2 CPUs" in facts.kernel_log


def chain(guest: QemuGuest) -> list[x509.Certificate]:
    keys = firmware_model.endorser(guest.folder)
    assert keys is not None
    return [x509.load_der_x509_certificate(der) for der in keys.certificates().values()]


def expected_measurement(guest: QemuGuest) -> bytes:
    """What the launch must have measured: the firmware, and save areas with the CPU's signature."""
    leaf = run(guest, "dd if=/dev/cpu/0/cpuid bs=16 count=1 skip=1 iflag=skip_bytes status=none | od -An -tx4")
    image_file = firmware.find(Mode.SEV_SNP, emulated=True).read_bytes()
    signature = int(leaf.split()[0], 16)
    return launch_digest(LaunchInputs(Mode.SEV_SNP, image_file, vcpus=guest.spec.vcpus, signature=signature))


def check_report(guest: QemuGuest, data: bytes, asked: bytes) -> None:
    assert report.verify(data, chain(guest))
    fields = report.parse(data)
    assert fields["version"] >= 2
    assert fields["report_data"] == asked
    assert fields["policy"] == 0x30000
    assert fields["measurement"] == expected_measurement(guest)
    keys = firmware_model.endorser(guest.folder)
    assert keys is not None
    assert fields["chip_id"] == keys.info.chip_id
    assert fields["reported_tcb"] == keys.info.tcb
    changed = data[:0x90] + bytes([data[0x90] ^ 1]) + data[0x91:]
    assert not report.verify(changed, chain(guest))


def test_a_report_by_the_guest_device(snp: QemuGuest) -> None:
    asked = os.urandom(64)
    check_report(snp, bytes.fromhex(run(snp, f"attest report 0 {asked.hex()}")), asked)
    lower = report.parse(bytes.fromhex(run(snp, f"attest report 2 {asked.hex()}")))
    assert lower["vmpl"] == 2
    assert snp.run("attest report 4 00").status == 1


def test_a_report_by_configfs(snp: QemuGuest, tmp_path: Path) -> None:
    asked = os.urandom(64)
    place = "/sys/kernel/config/tsm/report/one"
    run(snp, f"mkdir {place}")
    assert snp.run(f"cat >{place}/inblob", stdin=asked).status == 0
    assert run(snp, f"cat {place}/provider").strip() == "sev_guest"
    run(snp, f"cat {place}/outblob >/tmp/out; cat {place}/auxblob >/tmp/aux")
    for name in ("out", "aux"):
        snp.get(f"/tmp/{name}", tmp_path / name)
    check_report(snp, (tmp_path / "out").read_bytes(), asked)
    assert delivered((tmp_path / "aux").read_bytes()) == chain(snp)
    run(snp, f"rmdir {place}")


def delivered(table: bytes) -> list[x509.Certificate]:
    """The certificates of a GHCB certificate table: of the chip, of its signer, of the root."""
    found = {}
    for at in range(0, len(table) - 24, 24):
        guid, offset, size = struct.unpack_from("<16sII", table, at)
        if guid == bytes(16):
            break
        found[guid] = x509.load_der_x509_certificate(table[offset : offset + size])
    return [found[GUIDS[name].bytes] for name in ("vcek", "ask", "ark")]


def test_the_extended_report_brings_its_certificates(snp: QemuGuest) -> None:
    asked = os.urandom(64)
    first, second = run(snp, f"attest extended 0 {asked.hex()}").split()
    certificates = delivered(bytes.fromhex(second))
    assert certificates == chain(snp)
    assert report.verify(bytes.fromhex(first), certificates)


def test_a_caller_without_a_buffer_learns_the_size_of_the_table(snp: QemuGuest) -> None:
    size, error = run(snp, "attest size").split()
    keys = firmware_model.endorser(snp.folder)
    assert keys is not None
    assert int(size) == -(-len(keys.certificate_table()) // 4096) * 4096
    assert int(error, 16) == 1 << 32  # SNP_GUEST_VMM_ERR_INVALID_LEN
    check_report(snp, bytes.fromhex(run(snp, f"attest report 0 {'ab' * 64}")), b"\xab" * 64)


def test_configfs_has_privilege_levels_and_generations(snp: QemuGuest) -> None:
    place = "/sys/kernel/config/tsm/report/levels"
    run(snp, f"mkdir {place}")
    try:
        assert snp.run(f"cat {place}/outblob").status != 0  # nothing asked yet
        first = int(run(snp, f"cat {place}/generation"))
        assert run(snp, f"cat {place}/privlevel_floor").strip() == "0"
        run(snp, f"head -c 64 /dev/zero >{place}/inblob && echo 3 >{place}/privlevel")
        assert int(run(snp, f"cat {place}/generation")) == first + 2
        data = snp.run(f"cat {place}/outblob").stdout
        assert report.verify(data, chain(snp))
        assert report.parse(data)["vmpl"] == 3
        assert snp.run(f"echo 4 >{place}/privlevel").status != 0
    finally:
        run(snp, f"rmdir {place}")


def test_an_identity_block_reaches_reports_and_keys(
    snp: QemuGuest, hypervisor: QemuHypervisor, programs: dict[str, Path]
) -> None:
    """The firmware model checks both signatures; the report and each derived key then depend on the owner's keys."""
    owner, author = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    wanted = IdBlock(expected_measurement(snp), family_id=b"f" * 16, image_id=b"i" * 16, guest_svn=3)
    signed = sign(wanted, owner, author)
    options = f"id-block={base64(signed.block)},id-auth={base64(signed.auth)},author-key-enabled=on"
    spec = GuestSpec(
        name="own", mode=Mode.SEV_SNP, image="mini-6.12", vcpus=2, platform_seed=SEED,
        sev_options=f"{options},host-data={base64(b'h' * 32)}",
    )  # fmt: skip
    guest = hypervisor.launch(spec, timeout=300)
    try:
        guest.put(programs["attest"], "/bin/attest")
        run(guest, "chmod 755 /bin/attest")
        fields = report.parse(bytes.fromhex(run(guest, "attest report 0 00")))
        keys = firmware_model.endorser(guest.folder)
        assert keys is not None
        select = (1 << len(endorsement.KeyField)) - 1
        key = run(guest, f"attest key 0 {select:#x} 2 3 {keys.info.tcb:#x}")
        refused = guest.run("attest key 0 0x10 0 4 0")  # an SVN above the block's
    finally:
        guest.stop()
    assert fields["family_id"] == wanted.family_id
    assert fields["image_id"] == wanted.image_id
    assert fields["guest_svn"] == 3
    assert fields["host_data"] == b"h" * 32
    assert fields["id_key_digest"] == signed.id_key_digest
    assert fields["author_key_digest"] == signed.author_key_digest
    names = ("measurement", "host_data", "id_key_digest", "author_key_digest", "family_id", "image_id")
    identity = endorsement.IDENTITY.pack(*(fields[name] for name in names), 3, 0x30000)
    question = endorsement.KEY_REQUEST.pack(0, 0, select, 2, 3, keys.info.tcb) + identity
    assert key.strip() == keys.derive(question)[1].hex()
    assert refused.status == 1
    assert "0x16" in refused.text


def base64(data: bytes) -> str:
    return b64encode(data).decode()


def test_derived_keys(snp: QemuGuest) -> None:
    keys = {name: run(snp, f"attest key {words}").strip() for name, words in {
        "plain": "0 0 0 0 0", "again": "0 0 0 0 0", "measurement": "0 8 0 0 0", "policy": "0 1 0 0 0", "vmpl": "0 0 1 0 0",
    }.items()}  # fmt: skip
    assert keys.pop("again") == keys["plain"]
    assert len(set(keys.values())) == 4
    assert all(len(bytes.fromhex(key)) == 32 for key in keys.values())
    refused = snp.run("attest key 1 0 0 0 0")  # VMRK: no migration agent has given one
    assert refused.status == 1
    assert "0x27" in refused.text


def test_many_reports_at_once_and_in_order(snp: QemuGuest) -> None:
    loop = "for i in $(seq 40); do attest report 0 $i$i >/tmp/r$1.$i || exit 1; done"
    run(snp, f"f() {{ {loop}; }}; f 1 & f 2 & wait; ls /tmp/r1.40 /tmp/r2.40")
    # The driver gives up a key whose sequence was disturbed; it is still in use.
    assert len(bytes.fromhex(run(snp, "attest report 0 01"))) == report.SIZE


def test_the_chain_is_written_for_verifiers(snp: QemuGuest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["guest", "certificates", snp.name, str(tmp_path / "certs"), "--json"])
    assert ended.value.code == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert data["provenance"] == "emulated"
    written = [
        x509.load_pem_x509_certificate((tmp_path / f"certs/{n}.pem").read_bytes()) for n in ("vcek", "ask", "ark")
    ]
    assert written == chain(snp)


# --- work, devices, memory


@pytest.mark.parametrize("how", ["", "--interface configfs", "--interface device", "--interface device --vmpl 2"])
def test_a_guest_is_attested_and_measures_what_its_launch_should(
    how: str, snp: QemuGuest, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["guest", "attest", snp.name, *how.split(), "--json"])
    assert ended.value.code == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert data["verdict"] == "accepted", data["reasons"]
    assert data["equal"]
    assert data["measurement"] == expected_measurement(snp).hex()
    assert data["report"]["vmpl"] == (2 if "2" in how else 0)
    assert len(data["chain"]) == 3  # the host's certificate table came with the report


def test_a_secret_reaches_the_guest_that_is_attested_and_no_relay(snp: QemuGuest) -> None:
    """The channel is bound to the report: a host that relays a genuine report with a key of its own gets nothing."""
    keys = firmware_model.endorser(snp.folder)
    assert keys is not None
    chip_roots = load(keys.certificates()["ark"])[0]
    policy = Policy(measurements=frozenset({expected_measurement(snp)}), policy_forbidden=frozenset({"debug"}))
    owner = RelyingParty(setting(Store(), policy=policy, extra_roots=chip_roots), b"the disk key")

    def ask(report_data: bytes) -> bytes:
        found = fetch_evidence(snp, report_data)
        return found.report + certtable.write(dict(found.certificates))

    guest, host = Guest(ask), Guest(ask)
    nonce = owner.challenge()
    assert guest.open(owner.release(nonce, guest.offer(nonce))) == b"the disk key"
    nonce = owner.challenge()
    relayed = Offer(Guest(lambda _: b"").offer(nonce).public_key, host.offer(nonce).evidence)
    with pytest.raises(NotTrustedError, match="rejected"):
        owner.release(nonce, relayed)


def test_the_same_work_gives_the_same_results(
    snp: QemuGuest, hypervisor: QemuHypervisor, programs: dict[str, Path]
) -> None:
    plain = hypervisor.launch(GuestSpec(name="plain", mode=Mode.NOSEV), timeout=300)
    try:
        plain.put(programs["faith"], "/bin/faith")
        run(plain, "chmod 755 /bin/faith")
        expected = [run(plain, line) for line in WORK]
    finally:
        plain.stop()
    assert [run(snp, line) for line in WORK] == expected


def test_ssh_into_an_snp_guest(snp: QemuGuest) -> None:
    data = os.urandom(500_000)
    done = snp.run("sha256sum", stdin=data, private=True, timeout=120)
    assert done.text.split()[0] == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        (Mode.SEV_ES, {"vcpus": 2, "storage": Storage(StorageKind.VIRTIO_BLK, size_mib=32)}),
        (Mode.SEV_ES, {"image": "mini-6.12", "memory_mib": 256, "storage": Storage(StorageKind.NVME, size_mib=32)}),
        (Mode.SEV_SNP, {"vcpus": 4, "storage": Storage(StorageKind.NVME, size_mib=32)}),
        (
            Mode.SEV_SNP,
            {"image": "mini-6.12", "memory_mib": 256, "storage": Storage(StorageKind.VIRTIO_SCSI, size_mib=32)},
        ),
        (Mode.SEV_SNP, {"image": "mini-6.12", "memory_mib": 4608, "vcpus": 8}),
    ],
    ids=lambda value: str(value) if isinstance(value, Mode) else "-".join(map(str, value.values()))[:40],
)
def test_guests_of_many_shapes(hypervisor: QemuHypervisor, mode: Mode, options: dict[str, object]) -> None:
    guest = hypervisor.launch(GuestSpec(name="shape", mode=mode, **options), timeout=400)  # type: ignore[arg-type]
    try:
        facts = check_sources(guest, mode)
        assert facts.sev_status is not None
        assert int(run(guest, "nproc")) == guest.spec.vcpus
        assert int(run(guest, "sed -n 's/MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo")) > guest.spec.memory_mib * 500
        if guest.spec.storage.kind is not StorageKind.NONE:
            disk = {StorageKind.VIRTIO_BLK: "vda", StorageKind.VIRTIO_SCSI: "sda", StorageKind.NVME: "nvme0n1"}
            device = f"/dev/{disk[guest.spec.storage.kind]}"
            wrote = run(
                guest,
                f"dd if=/dev/urandom of=/tmp/x bs=1M count=16 2>/dev/null; cp /tmp/x {device}; sync; sha256sum </tmp/x",
            )
            assert run(guest, f"echo 3 >/proc/sys/vm/drop_caches; head -c 16777216 {device} | sha256sum") == wrote
            data = (guest.folder / "data.img").read_bytes()[: 16 << 20]
            assert hashlib.sha256(data).hexdigest() == wrote.split()[0]
    finally:
        guest.stop()


@pytest.fixture
def detect_virt(tmp_path: Path) -> dict[str, Path]:
    """systemd's own judge of virtual machines, of a version that knows confidential ones (254 and later)."""
    try:
        done = apt.with_backports(lambda _: None).run(
            *("apt-get", "download", "-q", "systemd/bookworm-backports", "libsystemd-shared/bookworm-backports"),
            timeout=300,
            cwd=tmp_path,
        )
    except SevkitError as error:
        pytest.skip(error.message)
    if done.status != 0:
        pytest.skip(f"no systemd in the backports: {done.error_text[-200:]}")
    for package in tmp_path.glob("*.deb"):
        debian.unpack(package, tmp_path / "root")
    wanted = ("usr/bin/systemd-detect-virt", "usr/lib/*/systemd/libsystemd-shared-*.so")
    return {path.name: path for pattern in wanted for path in (tmp_path / "root").glob(pattern)}


@pytest.mark.skipif(not os.environ.get("SEVKIT_TEST_CLOUD"), reason="builds an image: set SEVKIT_TEST_CLOUD=1")
@pytest.mark.timeout(1800)
def test_systemd_recognises_the_guest(hypervisor: QemuHypervisor, detect_virt: dict[str, Path]) -> None:
    image.get("bench-6.12")
    guest = hypervisor.launch(GuestSpec(name="cvm", mode=Mode.SEV_SNP, image="bench-6.12", memory_mib=768), timeout=400)
    try:
        check_sources(guest, Mode.SEV_SNP)
        for name, path in detect_virt.items():
            guest.put(path, f"/tmp/{name}")
        command = "chmod 755 /tmp/systemd-detect-virt; LD_LIBRARY_PATH=/tmp /tmp/systemd-detect-virt --cvm"
        assert run(guest, command) == "sev-snp\n"
    finally:
        guest.stop()


def test_the_firmware_model_ends_with_its_guest(hypervisor: QemuHypervisor) -> None:
    guest = hypervisor.launch(GuestSpec(name="short", mode=Mode.SEV_SNP, memory_mib=256), timeout=300)
    try:
        children = list(guest._children)
        assert len(children) == 2
    finally:
        guest.stop()
    assert all(child.poll() is not None for child in children)
    assert registry.running() == []
