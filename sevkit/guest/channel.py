"""Ways into a guest: the agent on a virtio serial port for control, ssh for what the VMM must not see in clear.

In every mode, data that goes through the agent is plaintext in the I/O buffers of the VMM and the guest: never send a
secret that way.
"""

import base64
import os
import re
import secrets
import shlex
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sevkit import processes
from sevkit.errors import DeadlineError, GuestError, HypervisorError
from sevkit.guest.result import CommandResult

_CHUNK = 1 << 20
# What ssh itself says when it ends with status 255, which a command in the guest can have too.
_SSH_FAILED = (b"onnect", b"Permission denied (", b"verification failed", b"kex_exchange", b"Broken pipe", b"timed out")
_LOOK_EVERY = 60.0  # seconds: often enough for a command of hours, too seldom to disturb a measurement
_MOST = 1 << 30  # bytes; a guest that answers with more is broken or hostile


def shell_line(command: str | Sequence[str]) -> str:
    """A command as a line for the guest's shell: a string as it is, words quoted."""
    return command if isinstance(command, str) else shlex.join(command)


class AgentChannel:
    """Requests to the agent in the guest (guest/rootfs/sevkit-agent has the protocol).

    ``look`` is called now and then while a long command runs; an error that it raises ends the wait.
    """

    def __init__(self, path: Path, alive: Callable[[], bool], look: Callable[[], None] = lambda: None) -> None:
        self._path = path
        self._alive = alive
        self._look = look

    def wait_ready(self, deadline: float, *, check: Callable[[], None] | None = None) -> None:
        """Wait until the agent answers; ``deadline`` is on the monotonic clock. ``check`` is called while waiting."""
        while True:
            if check is not None:
                check()
            if time.monotonic() > deadline:
                raise DeadlineError("the guest's agent did not answer in time")
            if not self._path.exists():  # QEMU has not created its sockets yet
                time.sleep(0.01)
                continue
            try:
                self.run("true", timeout=min(5.0, max(0.2, deadline - time.monotonic())))
            except DeadlineError:
                continue
            except HypervisorError as error:
                if not isinstance(error.__cause__, ConnectionRefusedError):
                    raise
                time.sleep(0.01)  # the socket is bound, but QEMU does not listen yet
                continue
            except GuestError:
                if check is not None:
                    check()  # it raises an error with the cause
                raise
            return

    def run(self, command: str | Sequence[str], *, stdin: bytes = b"", timeout: float) -> CommandResult:
        """Run a command in the guest. Raises DeadlineError, or GuestError if the guest ends."""
        line = shell_line(command)
        ident = secrets.token_hex(8)
        encoded = base64.b64encode(line.encode()).decode()
        deadline = time.monotonic() + timeout
        request = f"\nRUN {ident} {max(1, int(timeout))} {len(stdin)} {encoded}\n".encode() + stdin
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
                stream.settimeout(timeout)
                stream.connect(str(self._path))
                stream.sendall(request)
                return _Answer(stream, deadline, self._look).read(ident)
        except (TimeoutError, BlockingIOError) as error:  # EAGAIN: another command has the port, and one waits already
            what = " ".join(line.split())
            what = what if len(what) < 60 else what[:57] + "..."
            raise DeadlineError(f"the guest did not finish `{what}` within {timeout:g} s") from error
        except OSError as error:
            if not self._alive():
                raise GuestError("the guest is gone", hint="`sevkit guest log NAME` shows its last words") from error
            raise HypervisorError(f"the agent's socket {self._path} failed: {error.strerror}") from error

    def put(self, source: Path, target: str, *, timeout: float = 600.0) -> None:
        """Copy a file into the guest, in pieces."""
        quoted = shlex.quote(target)
        self._ok(f": >{quoted}", b"", timeout)
        with source.open("rb") as stream:
            while piece := stream.read(_CHUNK):
                self._ok(f"cat >>{quoted}", piece, timeout)
        status = source.stat()
        there = self._ok(f"chmod {status.st_mode & 0o777:o} {quoted}; stat -L -c %s {quoted}", b"", timeout).strip()
        if there != str(status.st_size).encode():
            raise GuestError(f"{target} has {there[:20].decode(errors='replace')} bytes, {source} {status.st_size}")

    def get(self, source: str, target: Path, *, timeout: float = 600.0) -> None:
        """Copy a file out of the guest, in pieces."""
        quoted = shlex.quote(source)
        answer = self._ok(f"stat -L -c %s {quoted}", b"", timeout).strip()
        if not answer.isdigit() or len(answer) > 18:
            raise GuestError(f"the guest gave no size of {source}", detail=answer[:200].decode(errors="replace"))
        with target.open("wb") as stream:
            for offset in range(0, int(answer), _CHUNK):
                words = f"dd if={quoted} bs=65536 iflag=skip_bytes,count_bytes,fullblock status=none"
                piece = self._ok(f"{words} skip={offset} count={_CHUNK}", b"", timeout)
                if len(piece) > _CHUNK:
                    raise GuestError(f"the guest answered with more of {source} than was asked for")
                stream.write(piece)
            if stream.tell() != int(answer):
                raise GuestError(f"the guest sent {stream.tell()} of {int(answer)} bytes of {source}")

    def _ok(self, line: str, stdin: bytes, timeout: float) -> bytes:
        done = self.run(line, stdin=stdin, timeout=timeout)
        if done.status != 0:
            raise GuestError(f"`{line}` failed in the guest", detail=done.stderr.decode(errors="replace"))
        return done.stdout


class _Answer:
    """The bytes received on one connection; they may begin with the rest of an earlier answer that was not read.

    The guest may be hostile: bytes that are not an answer raise GuestError.
    """

    def __init__(self, stream: socket.socket, deadline: float, look: Callable[[], None]) -> None:
        self._stream = stream
        self._deadline = deadline
        self._look = look
        self._buffer = b""

    def read(self, ident: str) -> CommandResult:
        marker = f"@{ident} ".encode()
        while (at := self._buffer.find(marker)) < 0 or b"\n" not in self._buffer[at:]:
            self._buffer = self._buffer[max(at, 0) :] if at >= 0 else self._buffer[-len(marker) :]
            if at >= 0 and len(self._buffer) > 200:
                raise GuestError("the guest's agent sent a header without an end")
            self._more()
        header, _, self._buffer = self._buffer[at:].partition(b"\n")
        words = header.split()
        if len(words) != 4 or not all(word.isdigit() and len(word) < 12 for word in words[1:]):
            raise GuestError("the guest's agent sent a header that makes no sense", detail=repr(header[:200]))
        status, out, err = (int(word) for word in words[1:])
        if out + err > _MOST:
            raise GuestError(f"the guest wants to send {out + err} bytes; more than {_MOST} are not taken")
        body = self._take(out + err)
        return CommandResult(status, body[:out], body[out:])

    def _take(self, size: int) -> bytes:
        parts = [self._buffer]
        have = len(self._buffer)
        while have < size:
            self._buffer = b""
            self._more()
            parts.append(self._buffer)
            have += len(self._buffer)
        return b"".join(parts)[:size]

    def _more(self) -> None:
        piece = self._received()
        while piece is None:
            self._look()
            piece = self._received()
        if not piece:
            raise ConnectionResetError(0, "closed by the VMM")
        self._buffer += piece

    def _received(self) -> bytes | None:
        """What came; None if nothing came for a while, but still may. Raises TimeoutError at the deadline."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._stream.settimeout(min(left, _LOOK_EVERY))
        try:
            return self._stream.recv(1 << 16)
        except TimeoutError:
            if left <= _LOOK_EVERY:
                raise
            return None


class SshChannel:
    """ssh into the guest over user networking, with keys generated for this guest only.

    The host key is read through the agent, so that not even the first connection trusts an unknown key.
    """

    def __init__(self, folder: Path, port: Callable[[], int], agent: AgentChannel) -> None:
        self._folder = folder
        self._port = port
        self._agent = agent

    def options(self) -> list[str]:
        """Options for ssh and scp; sets the guest's ssh server up on the first call."""
        if not (self._folder / "known_hosts").exists():
            self._set_up()
        return [
            *("-F", "none", "-i", str(self._folder / "id"), "-p", str(self._port())),
            *("-o", f"UserKnownHostsFile={self._folder / 'known_hosts'}", "-o", "StrictHostKeyChecking=yes"),
            *("-o", "HostKeyAlias=guest", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR"),
            *("-o", "ConnectTimeout=30"),
        ]

    def run(self, command: str | Sequence[str], *, stdin: bytes = b"", timeout: float) -> CommandResult:
        """Run a command in the guest; the exit status is the command's."""
        ssh = processes.find_tool("ssh", package="openssh-client")
        argv = [ssh, *self.options(), "root@127.0.0.1", shell_line(command)]
        done = processes.run(argv, stdin=stdin, timeout=timeout)
        if done.status == 255 and any(word in done.stderr for word in _SSH_FAILED):
            raise GuestError("ssh into the guest failed", detail=done.error_text)
        return CommandResult(done.status, done.stdout, done.stderr)

    def allow(self, keys: str) -> None:
        """Permit login with other public keys, one per line."""
        self.options()
        done = self._agent.run("cat >>/root/.ssh/authorized_keys", stdin=keys.encode() + b"\n", timeout=60)
        if done.status != 0:
            raise GuestError("the guest did not take the ssh keys", detail=done.stderr.decode(errors="replace"))

    def _set_up(self) -> None:
        keygen = processes.find_tool("ssh-keygen", package="openssh-client")
        key = self._folder / "id"
        key.unlink(missing_ok=True)
        processes.run(
            [keygen, "-q", "-t", "ed25519", "-N", "", "-C", "sevkit", "-f", str(key)], timeout=30, check=GuestError
        )
        if not key.exists() or not key.with_suffix(".pub").exists():
            raise GuestError("ssh-keygen ended with status 0, but made no key")
        script = (
            "mkdir -p -m 700 /root/.ssh /etc/dropbear && cat >/root/.ssh/authorized_keys && "
            "if command -v dropbear >/dev/null; then "
            "{ [ -e /etc/dropbear/key ] || dropbearkey -t ed25519 -f /etc/dropbear/key >/dev/null 2>&1; } && "
            "dropbearkey -y -f /etc/dropbear/key | grep ^ssh- && "
            "{ pidof dropbear >/dev/null || dropbear -s -r /etc/dropbear/key -p 22; }; "
            "else ssh-keygen -A >/dev/null; cat /etc/ssh/ssh_host_ed25519_key.pub; "
            "systemctl restart ssh 2>/dev/null || systemctl restart sshd; fi"
        )
        done = self._agent.run(script, stdin=key.with_suffix(".pub").read_bytes(), timeout=60)
        if done.status != 0 or not re.match(rb"ssh-ed25519 [A-Za-z0-9+/=]{20,200}(\s|$)", done.stdout):
            raise GuestError("the guest's ssh server did not start", detail=done.stderr.decode(errors="replace"))
        kind, public = done.text.split()[:2]
        temporary = self._folder / f"known_hosts.{os.getpid()}"
        temporary.write_text(f"guest {kind} {public}\n")
        temporary.rename(self._folder / "known_hosts")
