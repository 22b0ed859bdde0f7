"""A process on a file system without links: the kernel itself refuses them, to this process and its children."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

# The numbers of symlink, symlinkat, link and linkat.
_CALLS = {"x86_64": (88, 266, 86, 265), "aarch64": (36, 37)}
_LOAD_NUMBER = (0x20, 0, 0, 0)
_ALLOW = (0x06, 0, 0, 0x7FFF0000)
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2


def refuse_links() -> bool:
    """Let the kernel answer EPERM to every attempt to make a link, as it does on FAT; whether that is possible here."""
    calls = _CALLS.get(platform.machine())
    if calls is None:
        return False
    refuse = (0x06, 0, 0, 0x00050000 | errno.EPERM)
    # Each comparison jumps to the last statement if it is this call.
    program = [_LOAD_NUMBER]
    program += [(0x15, len(calls) - index, 0, number) for index, number in enumerate(calls)]
    program += [_ALLOW, refuse]
    code = b"".join(struct.pack("HBBI", *statement) for statement in program)
    buffer = ctypes.create_string_buffer(code)
    header = struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(_PR_SET_SECCOMP, _FILTER, header, 0, 0):
        return False
    try:
        os.symlink("nowhere", f"/tmp/perdure-no-links-{os.getpid()}")
    except PermissionError:
        return True
    return False
