"""The keys of an emulated platform: what they sign verifies, what they derive depends on what was asked for."""

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from sevkit import processes
from sevkit.hypervisor.qemu import firmware_model
from sevkit.model import endorsement, report
from sevkit.model.endorsement import IDENTITY, KEY_REQUEST, Endorser, KeyField
from sevkit.model.psp import Status
from tests.support.waiting import until

CHIP = Endorser("one")


def body(keys: Endorser = CHIP, **fields: bytes) -> bytes:
    data = bytearray(report.SIGNED)
    own = {"chip_id": keys.keys.chip_id, "reported_tcb": keys.info.tcb.to_bytes(8, "little")}
    for name, value in {**own, **fields}.items():
        at, size = report.FIELDS[name]
        data[at : at + size] = value.ljust(size, b"\0")
    return bytes(data)


def test_a_signed_body_verifies_under_the_delivered_chain() -> None:
    made = body(report_data=b"nonce" * 12, measurement=b"m" * 48)
    signed = made + CHIP.sign(made)
    chain = [x509.load_der_x509_certificate(der) for der in CHIP.certificates().values()]
    assert report.verify(signed, chain)
    assert not report.verify(
        signed, [x509.load_der_x509_certificate(d) for d in Endorser("two").certificates().values()]
    )
    for at in (0, 0x90, 0x2A0, 0x2A0 + 72):
        assert not report.verify(signed[:at] + bytes([signed[at] ^ 1]) + signed[at + 1 :], chain)


def test_another_chips_report_is_not_signed() -> None:
    for wrong in (body(Endorser("two")), body(reported_tcb=b"\x01"), body()[:-1]):
        with pytest.raises(ValueError, match="report"):
            CHIP.sign(wrong)
    for name in ("chip_id", "reported_tcb"):
        at, size = report.FIELDS[name]
        for byte in range(at, at + size):
            changed = bytearray(body())
            changed[byte] ^= 1
            with pytest.raises(ValueError, match=name):
                CHIP.sign(bytes(changed))


def test_the_seed_decides_all() -> None:
    again = Endorser("one")
    assert again.certificate_table() == CHIP.certificate_table()
    assert again.sign(body()) == CHIP.sign(body())
    assert Endorser("two").info.chip_id != CHIP.info.chip_id


def test_the_certificate_table_leads_to_the_certificates() -> None:
    table = CHIP.certificate_table()
    found = {}
    for number in range(3):
        guid, at, size = struct.unpack_from("<16sII", table, 24 * number)
        found[guid] = x509.load_der_x509_certificate(table[at : at + size])
    assert table[72:96] == bytes(24)
    vcek, ask, ark = (found[endorsement.GUIDS[name].bytes] for name in ("vcek", "ask", "ark"))
    assert report.chain_fits([vcek, ask, ark])
    values = {
        e.oid.dotted_string: e.value.value for e in vcek.extensions if e.oid.dotted_string.startswith(report.AMD_OID)
    }
    assert values[f"{report.AMD_OID}.4"] == CHIP.info.chip_id
    assert values[f"{report.AMD_OID}.3.8"] == b"\x02\x02\x00\xdb"
    assert values[f"{report.AMD_OID}.3.1"] == b"\x02\x01\x04"


def identity(**changes: object) -> bytes:
    values: dict[str, object] = {
        "measurement": b"m" * 48, "host_data": b"h" * 32, "id_key": b"i" * 48, "author": b"a" * 48,
        "family": b"f" * 16, "image": b"g" * 16, "svn": 5, "policy": 0x30000,
    }  # fmt: skip
    return IDENTITY.pack(*{**values, **changes}.values())


def derive(
    select: int, *, root: int = 0, vmpl: int = 0, svn: int = 0, tcb: int = 0, **changes: object
) -> tuple[Status, bytes]:
    return CHIP.derive(KEY_REQUEST.pack(root, 0, select, vmpl, svn, tcb) + identity(**changes))


@given(st.integers(0, 63))
def test_a_key_depends_on_the_fields_that_were_selected_and_no_others(select: int) -> None:
    key = derive(select)
    assert key[0] is Status.SUCCESS
    changes = {
        KeyField.POLICY: {"policy": 0x20000}, KeyField.IMAGE_ID: {"image": b"x" * 16},
        KeyField.FAMILY_ID: {"family": b"x" * 16}, KeyField.MEASUREMENT: {"measurement": b"x" * 48},
        KeyField.GUEST_SVN: {"svn_asked": 3}, KeyField.TCB_VERSION: {"tcb": 1},
    }  # fmt: skip
    for field, change in changes.items():
        asked = {"svn": 0}
        arguments = dict(change)
        if "svn_asked" in arguments:
            asked["svn"] = arguments.pop("svn_asked")  # type: ignore[assignment]
        if "tcb" in arguments:
            asked["tcb"] = arguments.pop("tcb")  # type: ignore[assignment]
        question = KEY_REQUEST.pack(0, 0, select, 0, asked["svn"], asked.get("tcb", 0)) + identity(**arguments)
        assert (CHIP.derive(question) != key) == bool(select & field), field
    for always in ({"host_data": b"x" * 32}, {"id_key": b"x" * 48}, {"author": b"x" * 48}):
        assert derive(select, **always) != key
    assert derive(select, vmpl=1) != key
    assert derive(select ^ 1) != key


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"root": 1}, Status.INVALID_KEY),
        ({"root": 8}, Status.INVALID_PARAM),
        ({"select": 64}, Status.INVALID_PARAM),
        ({"vmpl": 4}, Status.INVALID_PARAM),
        ({"svn": 6}, Status.INVALID_PARAM),
        ({"tcb": 5}, Status.INVALID_PARAM),  # boot loader 5; the platform has 4
    ],
)
def test_keys_that_are_refused(asked: dict[str, int], status: Status) -> None:
    assert derive(**{"select": 0, **asked}) == (status, bytes(32))


def public_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    numbers = key.public_key().public_numbers()
    point = numbers.x.to_bytes(72, "little") + numbers.y.to_bytes(72, "little")
    return (struct.pack("<I", 2) + point).ljust(0x404, b"\0")


def id_page(block: bytes, key: ec.EllipticCurvePrivateKey, author: ec.EllipticCurvePrivateKey) -> bytes:
    page = bytearray(4096)
    owner = public_key(key)
    for at, value in (
        (0x40, report.sign(key, block)), (0x240, owner), (0x680, report.sign(author, owner)), (0x880, public_key(author)),
    ):  # fmt: skip
        page[at : at + len(value)] = value
    return bytes(page)


def test_an_id_block_must_be_signed_by_the_keys_it_names() -> None:
    key, author = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    block = bytes(range(96))
    page = id_page(block, key, author)
    assert endorsement.id_block_fits(block, page, author_key=True)
    assert not endorsement.id_block_fits(block[:-1] + b"\0", page, author_key=False)
    torn = page[:0x680] + bytes([page[0x680] ^ 1]) + page[0x681:]
    assert endorsement.id_block_fits(block, torn, author_key=False)
    assert not endorsement.id_block_fits(block, torn, author_key=True)
    assert not endorsement.id_block_fits(block, bytes(4096), author_key=False)


# --- the process


@pytest.fixture
def model(tmp_path: Path) -> Iterator[socket.socket]:
    process = firmware_model.start(tmp_path, "one", detach=False)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(tmp_path / firmware_model.SOCKET))
        yield connection
    assert process.wait(60) == 0  # it ends with its connection
    assert (tmp_path / "psp.log").read_text() == ""


def ask(connection: socket.socket, kind: int, payload: bytes = b"") -> tuple[int, bytes]:
    connection.sendall(struct.pack("<IB", len(payload) + 1, kind) + payload)
    stream = connection.makefile("rb")
    size, answered = struct.unpack("<IB", stream.read(5))
    return answered, stream.read(size - 1)


def test_the_process_answers_each_question(model: socket.socket) -> None:
    assert ask(model, 4) == (4, CHIP.info.pack())
    assert ask(model, 2) == (2, CHIP.certificate_table())
    assert ask(model, 1, body()) == (1, CHIP.sign(body()))
    question = KEY_REQUEST.pack(0, 0, 9, 0, 0, 0) + identity()
    assert ask(model, 3, question) == (3, bytes(4) + CHIP.derive(question)[1])
    assert ask(model, 5, bytes(96 + 4096 + 1)) == (5, struct.pack("<I", 1))


def test_the_process_says_what_it_cannot_answer_and_goes_on(model: socket.socket) -> None:
    for kind, payload in ((0, b""), (9, b"x"), (1, b""), (3, b"short"), (5, b"")):
        answered, text = ask(model, kind, payload)
        assert answered == 0xFF
        assert text.decode()
    assert ask(model, 4)[0] == 4
    model.sendall(struct.pack("<IB", 0xFFFFFFFF, 1))  # no frame: the connection ends


def test_the_process_ends_when_the_guest_never_came(tmp_path: Path) -> None:
    folder = tmp_path / "guest"
    folder.mkdir()
    process = firmware_model.start(folder, "one", detach=True)
    try:
        processes.run(["rm", "-r", str(folder)], timeout=60)
        until(lambda: process.poll() is not None, "the process does not end")
    finally:
        processes.stop(process)


def test_one_platform_per_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEVKIT_STATE_DIR", str(tmp_path / "state"))
    first = firmware_model.platform_seed()
    assert firmware_model.platform_seed() == first
    assert len(first) == 64
    seed = tmp_path / "state/platform/seed"
    assert seed.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in seed.parent.iterdir()] == ["seed"]
