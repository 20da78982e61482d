"""The emulator's page cipher against an independent AES-XTS, on each path."""

import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from sevkit import processes

EMULATOR = Path(__file__).parents[2] / "emulator"
LACKS_PATH = 4


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not processes.have_tool("gcc"):
        pytest.skip("gcc is not installed")
    built = tmp_path_factory.mktemp("xex") / "xex"
    sources = [str(EMULATOR / "engine/accel/tcg/soc-xex.c"), str(EMULATOR / "tests/xex.c")]
    flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-DSOC_XEX_STANDALONE", f"-I{EMULATOR / 'engine/include'}"]
    done = processes.run(["gcc", *flags, *sources, "-o", str(built)], timeout=120)
    assert done.status == 0, done.error_text
    return built


def run(driver: Path, path: str, operation: str, key: bytes, page: int, data: bytes) -> bytes:
    done = subprocess.run(
        [str(driver), path, operation, key.hex(), str(page)], input=data, capture_output=True, timeout=30, check=False
    )
    if done.returncode == LACKS_PATH:
        pytest.skip(f"this processor cannot run {path}")
    assert done.returncode == 0
    return done.stdout


@pytest.mark.parametrize("path", ["vaes", "aesni", "portable"])
@settings(max_examples=25, deadline=None)
@given(
    key=st.binary(min_size=32, max_size=32).filter(lambda k: k[:16] != k[16:]),
    page=st.integers(0, 2**64 - 1),
    seed=st.binary(min_size=16, max_size=16),
)
def test_the_bytes_are_those_of_aes_xts(driver: Path, path: str, key: bytes, page: int, seed: bytes) -> None:
    data = bytes(seed[i % 16] ^ (i * 7 & 255) for i in range(4096))
    encryptor = Cipher(algorithms.AES(key), modes.XTS(page.to_bytes(16, "little"))).encryptor()
    encrypted = run(driver, path, "encrypt", key, page, data)
    assert encrypted == encryptor.update(data)
    assert run(driver, path, "decrypt", key, page, encrypted) == data


def test_wrong_usage_is_told(driver: Path) -> None:
    for arguments in ([], ["aesni"], ["portable", "encrypt", "zz", "0"]):
        assert subprocess.run([str(driver), *arguments], input=b"", capture_output=True, check=False).returncode == 2
