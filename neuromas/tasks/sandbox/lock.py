"""Locks the calling process for good, with what Linux gives to any user.

Landlock (Linux 5.13) leaves it the standard library to read and no file to write; a filter of system calls leaves it no
other process, no thread and no network; limits bound memory and computing. Knows the standard library alone, because
the processes that it locks load nothing else.
"""

import ctypes
import os
import platform
import resource
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_X86_64: Final = """
    read=0 write=1 open=2 close=3 stat=4 fstat=5 lstat=6 lseek=8 mmap=9 mprotect=10 munmap=11 brk=12
    rt_sigaction=13 rt_sigprocmask=14 rt_sigreturn=15 pread64=17 readv=19 writev=20 access=21 sched_yield=24
    mremap=25 madvise=28 nanosleep=35 getpid=39 exit=60 uname=63 getcwd=79 readlink=89 gettimeofday=96
    getrusage=98 sysinfo=99 times=100 getuid=102 getgid=104 geteuid=107 getegid=108 sigaltstack=131 gettid=186
    time=201 futex=202 sched_getaffinity=204 getdents64=217 restart_syscall=219 fadvise64=221 clock_gettime=228
    clock_getres=229 clock_nanosleep=230 exit_group=231 openat=257 newfstatat=262 readlinkat=267 faccessat=269
    getrandom=318 statx=332 faccessat2=439
"""
_AARCH64: Final = """
    getcwd=17 faccessat=48 openat=56 close=57 getdents64=61 lseek=62 read=63 write=64 readv=65 writev=66
    pread64=67 readlinkat=78 newfstatat=79 fstat=80 exit=93 exit_group=94 futex=98 nanosleep=101
    clock_gettime=113 clock_getres=114 clock_nanosleep=115 sched_getaffinity=123 sched_yield=124
    restart_syscall=128 sigaltstack=132 rt_sigaction=134 rt_sigprocmask=135 rt_sigreturn=139 times=153 uname=160
    getrusage=165 gettimeofday=169 getpid=172 getuid=174 geteuid=175 getgid=176 getegid=177 gettid=178
    sysinfo=179 brk=214 munmap=215 mremap=216 mmap=222 fadvise64=223 mprotect=226 madvise=233 getrandom=278
    statx=291 faccessat2=439
"""
# By the machine: the number by which the kernel knows its calls, and the calls that a program may make. What is not
# named here fails with EPERM: processes and threads, sockets, signals, other processes' memory, owners and modes of
# files, and whatever later kernels add.
_MACHINES: Final = {"x86_64": (0xC000003E, _X86_64), "aarch64": (0xC00000B7, _AARCH64)}

_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_NO_NEW_PRIVS: Final = 38
_SET_SECCOMP: Final = 22
_READ: Final = 1 << 2 | 1 << 3  # files, and what is in a folder
# What Landlock of each version can forbid: 13 rights on files, then three more; TCP from 4; signals and sockets from 6.
_RIGHTS: Final = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_TCP_SINCE: Final = 4
_SCOPES_SINCE: Final = 6

_LOAD_NUMBER: Final = struct.pack("HBBI", 0x20, 0, 0, 0)
_LOAD_MACHINE: Final = struct.pack("HBBI", 0x20, 0, 0, 4)
_ALLOW: Final = struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)
_REFUSE: Final = struct.pack("HBBI", 0x06, 0, 0, 0x00050001)  # EPERM
_KILL: Final = struct.pack("HBBI", 0x06, 0, 0, 0x80000000)


def lacking() -> str:
    """Return what this machine lacks for locked processes, as the end of a sentence; "" when nothing."""
    if sys.platform != "linux":
        return f"needs Linux; this is {sys.platform}"
    if platform.machine() not in _MACHINES:
        return f"knows the system calls of {' and '.join(_MACHINES)}; this machine is {platform.machine()}"
    if _landlock_version() < 1:
        here = platform.release()
        return f"needs Landlock, which Linux has from 5.13 on where it is switched on (lsm=landlock); this is {here}"
    return ""


def lock(memory_bytes: int, cpu_seconds: int) -> None:
    """Lock this process. It must have one thread, and all that it needs must be loaded.

    Raises:
        OSError: the kernel refuses; the process is then not locked, and must run nothing.
    """
    for limit, value in {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_CPU: cpu_seconds,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 64,
    }.items():
        resource.setrlimit(limit, (value, value))
    if missing := lacking():
        raise OSError(missing)
    libc = ctypes.CDLL(None, use_errno=True)
    _checked(libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    _confine_files(libc, _standard_library())
    _filter_calls(libc)


def _standard_library() -> list[Path]:
    roots = {Path(sys.base_prefix), Path(sys.base_exec_prefix), Path("/"), Path("/usr")}
    return [folder for root in roots for name in ("lib", "lib64") if (folder := root / name).is_dir()]


def _landlock_version() -> int:
    version: int = ctypes.CDLL(None).syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    return version


def _confine_files(libc: ctypes.CDLL, readable: Sequence[Path]) -> None:
    version = _landlock_version()
    handled = (1 << _RIGHTS[min(version, max(_RIGHTS))]) - 1
    attributes = struct.pack("Q", handled)
    if version >= _TCP_SINCE:
        attributes += struct.pack("Q", 0b11)
    if version >= _SCOPES_SINCE:
        attributes += struct.pack("Q", 0b11)
    rules = libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    _checked(rules, "landlock_create_ruleset")
    for path in readable:
        folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
        _checked(libc.syscall(_ADD_RULE, rules, 1, struct.pack("=Qi", _READ, folder), 0), "landlock_add_rule")
        os.close(folder)
    _checked(libc.syscall(_RESTRICT_SELF, rules, 0), "landlock_restrict_self")
    os.close(rules)


def _filter_calls(libc: ctypes.CDLL) -> None:
    machine, calls = _MACHINES[platform.machine()]
    program = [_LOAD_MACHINE, _jump(machine, equal=1, other=0), _KILL, _LOAD_NUMBER]
    numbers = [int(call.partition("=")[2]) for call in calls.split()]
    for place, number in enumerate(numbers):
        program.append(_jump(number, equal=len(numbers) - place, other=0))
    program += [_REFUSE, _ALLOW]
    code = ctypes.create_string_buffer(b"".join(program))
    # struct sock_fprog, with the padding before its pointer.
    _checked(libc.prctl(_SET_SECCOMP, 2, struct.pack("H6xQ", len(program), ctypes.addressof(code)), 0, 0), "seccomp")


def _jump(value: int, equal: int, other: int) -> bytes:
    return struct.pack("HBBI", 0x15, equal, other, value)


def _checked(result: int, call: str) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{call}: {os.strerror(ctypes.get_errno())}")
