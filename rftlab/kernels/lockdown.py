"""Give up, for good, everything that a numeric Python program does not need. Linux only; the standard library alone.

Four layers, each used where the machine has it:

- limits    rlimits: memory, CPU time, no files written, no processes (root ignores that last one)
- uid       from root to nobody, which also closes /proc/<other process>/mem
- landlock  no file, and from ABI 4 and 6 on no TCP and no signals or sockets to the outside
- seccomp   a list of about 40 system calls; every other fails, among them open, socket, fork, exec, kill and ptrace

Everything that a kernel needs is loaded before, so nothing has to be opened afterwards. One of seccomp and Landlock is
required (see `enough`). A wall against a reward-seeking model, not against an attacker with a kernel exploit at hand.
"""

import ctypes
import errno
import os
import platform
import resource
import struct
import subprocess
import sys

LAYERS = ("limits", "uid", "landlock", "seccomp")
NOBODY = 65534
GIGABYTE = 2**30

# System call numbers and the architecture's number in the audit record. aarch64 is from the kernel's table, not tried.
SYSCALLS = {
    "x86_64": (0xC000003E, dict(
        read=0, write=1, close=3, fstat=5, lseek=8, mmap=9, mprotect=10, munmap=11, brk=12, rt_sigaction=13, rt_sigprocmask=14,
        rt_sigreturn=15, sched_yield=24, mremap=25, madvise=28, nanosleep=35, getpid=39, exit=60, uname=63, getcwd=79,
        gettimeofday=96, getrusage=98, sysinfo=99, getuid=102, getgid=104, geteuid=107, getegid=108, sigaltstack=131, gettid=186,
        futex=202, sched_getaffinity=204, restart_syscall=219, clock_gettime=228, clock_getres=229, clock_nanosleep=230,
        exit_group=231, newfstatat=262, getcpu=309, getrandom=318, rseq=334)),
    "aarch64": (0xC00000B7, dict(
        read=63, write=64, close=57, fstat=80, lseek=62, mmap=222, mprotect=226, munmap=215, brk=214, rt_sigaction=134,
        rt_sigprocmask=135, rt_sigreturn=139, sched_yield=124, mremap=216, madvise=233, nanosleep=101, getpid=172, exit=93,
        uname=160, getcwd=17, gettimeofday=169, getrusage=165, sysinfo=179, getuid=174, getgid=176, geteuid=175, getegid=177,
        sigaltstack=132, gettid=178, futex=98, sched_getaffinity=123, restart_syscall=128, clock_gettime=113, clock_getres=114,
        clock_nanosleep=115, exit_group=94, newfstatat=79, getcpu=168, getrandom=278, rseq=293)),
}
CLONE3 = 435  # the same everywhere; libc falls back to clone when it is told that clone3 does not exist
LANDLOCK_CREATE, LANDLOCK_RESTRICT = 444, 446
ZERO_LIMITS = tuple(getattr(resource, f"RLIMIT_{name}") for name in ("CORE", "FSIZE", "NPROC", "NOFILE", "MEMLOCK", "MSGQUEUE"))
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38

_libc = ctypes.CDLL(None, use_errno=True)


class LockdownError(RuntimeError):
    """Too few defences work on this machine to run code that a model wrote; the message says which, and what to do."""


def seccomp_program() -> bytes:
    """The filter as BPF instructions; raises LockdownError for an architecture without a table."""
    if platform.machine() not in SYSCALLS:
        raise LockdownError(f"no system call table for {platform.machine()}")
    architecture, calls = SYSCALLS[platform.machine()]
    load, equal, at_least, answer = 0x20, 0x15, 0x35, 0x06
    kill, allow, fail = 0x80000000, 0x7FFF0000, 0x50000
    lines = [(load, 0, 0, 4), (equal, 1, 0, architecture), (answer, 0, 0, kill), (load, 0, 0, 0)]
    if architecture == 0xC000003E:  # the x32 twins of the same calls
        lines += [(at_least, 0, 1, 0x40000000), (answer, 0, 0, kill)]
    for number in calls.values():
        lines += [(equal, 0, 1, number), (answer, 0, 0, allow)]
    lines += [(equal, 0, 1, CLONE3), (answer, 0, 0, fail | errno.ENOSYS), (answer, 0, 0, fail | errno.EPERM)]
    return b"".join(struct.pack("HBBI", *line) for line in lines)


def seccomp_header(program: bytes):
    """A filter as the kernel takes it; the second object must live as long as the first."""
    code = ctypes.create_string_buffer(program, len(program))
    return ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))), code


def landlock_abi() -> int:
    """The kernel's Landlock version, 0 where there is none."""
    return max(0, _libc.syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1))


def landlock_rules() -> int | None:
    """A file descriptor of rules that allow nothing, to be made before the fork; None without Landlock."""
    abi = landlock_abi()
    if abi < 1:
        return None
    files = 13 if abi < 2 else 14 if abi < 3 else 15 if abi < 5 else 16
    rules = struct.pack("QQQ", (1 << files) - 1, 3 if abi >= 4 else 0, 3 if abi >= 6 else 0)
    fd = _libc.syscall(LANDLOCK_CREATE, rules, ctypes.c_size_t(8 if abi < 4 else 16 if abi < 6 else 24), 0)
    return fd if fd >= 0 else None


def drop_uid() -> bool:
    """From root to nobody; False for an ordinary user, or where only one user exists."""
    if os.geteuid() != 0:
        return False
    try:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError:
        return False
    return True


def size_now() -> int:
    """Bytes of this process's address space."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def limit(cpu_seconds: int, address_space: int) -> bool:
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, 2 * cpu_seconds + 2))  # the second, SIGKILL, only if SIGXCPU fails
    resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
    for name in ZERO_LIMITS:
        resource.setrlimit(name, (0, 0))
    return True


class Lockdown:
    """The defences of this machine, prepared once and applied in each forked child."""

    def __init__(self, without=()):
        self.without = frozenset(without)
        self.rules = None if "landlock" in self.without else landlock_rules()
        self.size = size_now()
        try:
            self.seccomp = None if "seccomp" in self.without else seccomp_header(seccomp_program())
        except LockdownError:
            self.seccomp = None

    def apply(self, cpu_seconds: int = 10, memory: int = GIGABYTE) -> tuple[str, ...]:
        """Lock this process down for ever; returns the layers that took hold. Nothing can be opened afterwards.

        memory: bytes beyond what this process had when the defences were prepared. The order matters: dropping the uid clears
        the death signal.
        """
        active = ["limits"] if limit(cpu_seconds, self.size + memory) else []
        if "uid" not in self.without and drop_uid():
            active.append("uid")
        _libc.prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0)
        _libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if self.rules is not None and _libc.syscall(LANDLOCK_RESTRICT, self.rules, 0) == 0:
            active.append("landlock")
        if self.rules is not None:
            os.close(self.rules)
        if self.seccomp is not None and _libc.prctl(PR_SET_SECCOMP, 2, self.seccomp[0], 0, 0) == 0:
            active.append("seccomp")
        return tuple(active)


def enough(layers, root: bool, abi: int) -> str:
    """Return "" when these layers suffice to run untrusted code, otherwise why not and what to do."""
    if "seccomp" in layers:
        return ""
    if "landlock" in layers and (abi >= 6 or "uid" in layers) and ("uid" in layers or not root):
        return ""
    return (
        f"only these defences work here: {', '.join(layers) or 'none'}. Code that a model wrote is not run without seccomp, or "
        "Landlock (ABI 6 for an ordinary user; together with a change of user for root). Use Linux 5.13 or later on x86_64 or "
        "aarch64, in a container that allows seccomp (Docker's and Podman's default profiles do; Colab and Kaggle too)"
    )


def active_layers(without=()) -> tuple[str, ...]:
    """The layers that take hold on this machine, found by locking down a process that ends at once."""
    if not sys.platform.startswith("linux"):
        return ()
    code = "import sys; from rftlab.kernels import lockdown; print(*lockdown.Lockdown(sys.argv[1:]).apply())"
    environment = {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "PATH": os.environ.get("PATH", "")}
    done = subprocess.run([sys.executable, "-P", "-c", code, *without], env=environment, capture_output=True, text=True, cwd="/")
    return tuple(done.stdout.split())


def require(without=()) -> tuple[str, ...]:
    """The active layers; raises LockdownError when they are too few."""
    layers = active_layers(without)
    lacking = enough(layers, os.geteuid() == 0, landlock_abi()) if layers else f"this is {sys.platform}, and the grader needs Linux"
    if lacking:
        raise LockdownError(lacking)
    return layers


MEANING = {
    "limits": "bounded memory and time, no files written",
    "uid": "another user, without rights",
    "landlock": "no files, no network, no signals",
    "seccomp": "no system calls but those of arithmetic",
}


def doctor() -> tuple[str, str, str]:
    """(what, which layers are active, what that means and what to do), for `python -m rftlab doctor`."""
    name = "Kernel grader defences"
    if not sys.platform.startswith("linux"):
        return name, "none", "the grader needs Linux: read the recorded results of notebooks 09 and 10, or open them on Colab"
    layers = active_layers()
    lacking = enough(layers, os.geteuid() == 0, landlock_abi())
    if lacking:
        return name, ", ".join(layers) or "none", f"too few, the grader refuses to run: {lacking}"
    missing = [layer for layer in LAYERS if layer not in layers and not (layer == "uid" and os.geteuid() != 0)]
    means = "; ".join(f"{layer}: {MEANING[layer]}" for layer in layers)
    return name, ", ".join(layers), means + (f". Not here: {', '.join(missing)}; what is there suffices" if missing else "")
