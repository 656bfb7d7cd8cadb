"""A warm process that forks one locked-down child per program: `python -m rftlab.kernels.zygote`, started by `sandbox`.

Importing torch and Triton takes seconds, a fork a few milliseconds. The zygote imports and warms up once, and never runs a
program itself. Each child closes every file, gives up every right (`lockdown`), tells so through a pipe, and only then
reads the program. What it leaves behind is bytes in shared memory, which nobody reads before it is gone.
"""

import ctypes
import gc
import importlib
import json
import math
import mmap
import os
import select
import signal
import socket
import struct
import sys
import time

from rftlab.kernels.lockdown import Lockdown

NOTES = 64 * 1024  # bytes at the start of the shared memory for the child's notes, one JSON object a line
FULL = b'\n{"full": true}\n'
PATIENCE = 60  # times its seconds that a child may take while it waits for a processor
HUGE = 2 * 2**20  # bytes of a huge page
MADV_COLLAPSE = 25  # Linux 6.1

_libc = ctypes.PyDLL(None)  # keeps the interpreter's lock


def send(control: socket.socket, message: dict) -> None:
    body = json.dumps(message).encode()
    control.sendall(struct.pack("I", len(body)) + body)


def receive(control: socket.socket) -> dict | None:
    """The next message, or None when the other end is gone."""
    length = struct.unpack("I", head)[0] if len(head := _read(control, 4)) == 4 else 0
    body = _read(control, length) if length else b""
    return json.loads(body) if length and len(body) == length else None


def _read(control: socket.socket, length: int) -> bytes:
    parts = bytearray()
    while len(parts) < length:
        try:
            part = control.recv(length - len(parts))
        except ConnectionError:
            break
        if not part:
            break
        parts += part
    return bytes(parts)


class Notes:
    """The child's side of the notes: appends one JSON object a line; when there is no more room, says so."""

    def __init__(self, memory):
        self.memory, self.at = memory, 0

    def __call__(self, **note) -> None:
        line = json.dumps(note).encode() + b"\n"
        if self.at + len(line) > NOTES - len(FULL):
            line, self.at = FULL, NOTES - len(FULL)  # the last word: what did not fit is missed
        self.memory[self.at : self.at + len(line)] = line
        self.at += len(line) if line is not FULL else 0


def child(job: dict, work, memory, lockdown: Lockdown, report: int) -> None:
    """What happens in the fork. Never returns."""
    try:
        start = time.perf_counter()
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null if job["input"] is None else job["input"], 0)
        os.dup2(null, 1)
        os.dup2(null, 2)
        kept = sorted({2, report, *([] if lockdown.rules is None else [lockdown.rules])})
        for low, high in zip(kept, [*kept[1:], os.sysconf("SC_OPEN_MAX")]):
            os.closerange(low + 1, high)
        layers = lockdown.apply(job["cpu_seconds"], job["memory"])
        os.write(report, json.dumps({"layers": layers, "locked_after": time.perf_counter() - start}).encode())
        os.close(report)
        signal.signal(signal.SIGXCPU, signal.SIG_DFL)  # LLVM has a handler of its own for it
        gc.disable()
        work(job, memory, Notes(memory))
    finally:
        os._exit(0)


def wait(pid: int, seconds: float) -> str:
    """Wait for a child's end. Returns "" when it ended by itself, otherwise why it was killed.

    What counts is processor time, so that a busy machine does not decide: "overtime" when it used more than `seconds`, or was
    found asleep as often as that takes (a virtual machine that was halted shows up as one look); "starved" when it was ready to
    run but got too little of the processor for a very long time.
    """
    fd, start, before, idle, pause = os.pidfd_open(pid), time.perf_counter(), -1.0, 0, min(1.0, seconds)
    try:
        while not select.select([fd], [], [], pause)[0]:
            with open(f"/proc/{pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
            used = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            idle, before = idle + 1 if fields[0] == "S" and used <= before else 0, used
            if used >= seconds or idle * pause >= seconds:
                os.kill(pid, signal.SIGKILL)
                return "overtime"
            if time.perf_counter() - start >= PATIENCE * seconds:
                os.kill(pid, signal.SIGKILL)
                return "starved"
        return ""
    finally:
        os.close(fd)


def run_one(job: dict, work, memory, lockdown: Lockdown) -> dict:
    """Fork a child for one job; returns how it ended."""
    start = time.perf_counter()
    read_end, report = os.pipe()
    job["cpu_seconds"] = math.ceil(job["seconds"])
    pid = _libc.fork()  # not os.fork, whose hooks for threads and logging touch 250 pages: there is one thread
    if pid < 0:
        raise OSError("fork failed: the machine is short of memory, or of processes")
    if pid == 0:
        child(job, work, memory, lockdown, report)
    os.close(report)
    killed = wait(pid, job["seconds"])
    _, code, usage = os.wait4(pid, 0)
    told = os.read(read_end, 4096)
    os.close(read_end)
    ended = {"status": os.waitstatus_to_exitcode(code), "killed": killed, "seconds": time.perf_counter() - start, "cpu": usage.ru_utime + usage.ru_stime}
    return {**ended, **(json.loads(told) if told else {})}


def use_huge_pages() -> None:
    """Gather this process's memory in huge pages, where Linux can: forks and exits then copy far fewer page table entries."""
    with open("/proc/self/maps") as file:
        regions = [line.split() for line in file]
    for span, rights, *_, name in [(*region, "") if len(region) == 5 else region for region in regions]:
        if rights == "rw-p" and name in ("", "[heap]"):
            first, end = (int(address, 16) for address in span.split("-"))
            for address in range(-(-first // HUGE) * HUGE, end // HUGE * HUGE, HUGE):
                _libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(HUGE), MADV_COLLAPSE)


def main(control_fd: str, memory_fd: str, module: str, *without: str) -> None:
    control = socket.socket(fileno=int(control_fd))
    memory = mmap.mmap(int(memory_fd), 0)
    os.close(int(memory_fd))
    stage = importlib.import_module(module)
    file_0 = stage.prepare()
    lockdown = Lockdown(without)
    gc.collect()
    gc.freeze()
    use_huge_pages()
    send(control, {"ready": True})
    while (job := receive(control)) is not None:
        try:
            answer = run_one({**job, "input": file_0}, stage.work, memory, lockdown)
        except OSError as error:  # no fork: the machine is out of memory or processes
            answer = {"failed": str(error)}
        send(control, answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
