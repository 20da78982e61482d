"""Run a program without one system call: `without.py ptrace|process_vm_readv PROGRAM…`. Root or not.

A seccomp filter (seccomp(2), "Filter mode") answers EPERM to that call, as a container's profile does.
"""

import ctypes
import os
import struct
import sys

_NUMBERS = {"ptrace": 101, "process_vm_readv": 310}  # x86_64
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
_ALLOW, _EPERM = 0x7FFF0000, 0x00050001


def main(name: str, argv: list[str]) -> None:
    """Install the filter and become the program."""
    code = [(_LOAD, 0, 0, 0), (_EQUAL, 0, 1, _NUMBERS[name]), (_RETURN, 0, 0, _EPERM), (_RETURN, 0, 0, _ALLOW)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *each) for each in code))
    filter_ = struct.pack("<HxxxxxxQ", len(code), ctypes.addressof(program))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    if libc.prctl(22, 2, ctypes.c_char_p(filter_), 0, 0) != 0:  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        sys.exit(os.strerror(ctypes.get_errno()))
    os.execvp(argv[0], argv)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
