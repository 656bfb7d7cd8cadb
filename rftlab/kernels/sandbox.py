"""The trusted side of a zygote: starts it, hands it jobs and shared memory, and reads what a child left behind."""

import json
import mmap
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field

from rftlab.kernels import zygote
from rftlab.kernels.lockdown import GIGABYTE

SIZE = 256 * 2**20  # address space of the shared memory; only what is written takes memory
START_SECONDS = 120  # importing torch and Triton on a slow disk
PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "OPENBLAS_CORETYPE", "SYSTEMROOT")  # all else, tokens among it, stays here


class SandboxError(RuntimeError):
    """The grader's own machinery failed: nothing is known about the program."""


@dataclass
class Outcome:
    """How a child ended. `notes` are its own words: with rules off a program may write there what it likes.

    So the methods return only notes of the form that `child` and `compile` write, and nothing is made of the others.
    """

    status: int  # exit code, or minus the signal that ended it
    in_time: bool  # False when it used more processor time than it was given
    layers: tuple[str, ...]
    seconds: float
    lock_seconds: float
    notes: list[dict] = field(default_factory=list)

    def numbers(self, key: str) -> set[int]:
        """The cases or launches of which a note says `key`."""
        return {note[key] for note in self.notes if _count(note.get(key))}

    def launches(self) -> list[dict]:
        """What was launched, as `compile` takes it."""
        found = [(note["launch"], note.get("trial") is True) for note in self.notes if isinstance(note.get("launch"), dict)]
        kinds = {"kernel": str, "signature": dict, "options": dict}
        return [{**one, "trial": trial} for one, trial in found if one.keys() == kinds.keys() and all(isinstance(one[k], kind) for k, kind in kinds.items())]

    def cases(self) -> list[tuple[int, list[int], dict[str, int]]]:
        """(case, programs of each launch, findings of the sanitizer)."""
        found = [(note.get("case"), note.get("programs"), note.get("findings")) for note in self.notes]
        kinds = [(case, programs, findings) for case, programs, findings in found if isinstance(programs, list) and isinstance(findings, dict)]
        return [one for one in kinds if _count(one[0]) and all(map(_count, one[1])) and all(map(_count, one[2].values()))]

    def torch_operations(self) -> list[tuple[str, int, str]]:
        """(operation, line, why it is not allowed)."""
        found = [note["torch"] for note in self.notes if isinstance(note.get("torch"), list) and len(note["torch"]) == 3]
        return [tuple(one) for one in found if isinstance(one[0], str) and _count(one[1]) and isinstance(one[2], str)]

    def failures(self) -> list[tuple[int, str]]:
        """(case, or -1 for the whole program; "line|what was raised")."""
        found = [(note.get("case"), note.get("failed")) for note in self.notes]
        return [(case, said) for case, said in found if (_count(case) or case == -1) and isinstance(said, str)]

    def refusals(self) -> list[tuple[int, str]]:
        """(launch, "line|what the compiler says")."""
        found = [(note.get("launch"), note.get("refused")) for note in self.notes]
        return [(launch, said) for launch, said in found if _count(launch) and isinstance(said, str)]

    def facts(self) -> str:
        """What the program's global values were in the run; see `child.facts`."""
        return next((note["facts"] for note in self.notes if isinstance(note.get("facts"), str)), "")

    def full(self) -> bool:
        """Whether there were more notes than room."""
        return any("full" in note for note in self.notes)


def _count(value) -> bool:
    return type(value) is int and 0 <= value < 2**40


def oom_kills() -> int | None:
    """How many processes this machine's kernel has killed for want of memory; None where it does not say."""
    try:
        with open("/proc/vmstat") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("oom_kill ")), None)
    except OSError:
        return None


class Sandbox:
    """One zygote of a kind ("rftlab.kernels.child" runs, "rftlab.kernels.compile" compiles) and its shared memory.

    `memory[zygote.NOTES:]` is the caller's to lay out. Raises SandboxError when the zygote does not start or has died.
    """

    def __init__(self, module: str, environment: dict | None = None, without=(), memory: int = GIGABYTE):
        self.limit, self.oom_kills = memory, oom_kills()
        fd = os.memfd_create("rftlab")
        os.ftruncate(fd, SIZE)
        self.memory = mmap.mmap(fd, SIZE)
        ours, theirs = socket.socketpair()
        ours.settimeout(START_SECONDS)
        variables = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        variables |= {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/nonexistent",
                      "TRITON_CACHE_DIR": "/nonexistent", "CUDA_VISIBLE_DEVICES": "", "LANG": "C.UTF-8", "TRITON_DEFAULT_FP_FUSION": "1",
                      "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **(environment or {})}
        command = [sys.executable, "-P", "-m", "rftlab.kernels.zygote", str(theirs.fileno()), str(fd), module, *without]
        self.process = subprocess.Popen(command, env=variables, cwd="/", pass_fds=(fd, theirs.fileno()), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        os.close(fd)
        theirs.close()
        self.control = ours

    def wait_ready(self) -> "Sandbox":
        """Wait until the zygote has imported everything; zygotes start side by side when this is called late."""
        try:
            ready = zygote.receive(self.control)
        except OSError:
            ready = None
        if ready is None:
            self.process.kill()
            said = self.process.stderr.read().decode(errors="replace").strip().splitlines()
            raise SandboxError(f"the grader's process did not start: {said[-1] if said else 'it said nothing'}")
        return self

    def run(self, job: dict, seconds: float) -> Outcome:
        """Run one job in a child of the zygote; raises SandboxError when the zygote, not the program, failed.

        What the child leaves in the memory stays until `forget`, which has to come before the next run.
        """
        self.control.settimeout(zygote.PATIENCE * seconds + 600)
        try:
            zygote.send(self.control, {**job, "seconds": seconds, "memory": self.limit})
            answer = zygote.receive(self.control)
        except OSError as error:
            raise SandboxError(f"the grader's process is gone: {error}") from None
        if answer is None or "failed" in answer:
            raise SandboxError(f"no child could be started: {(answer or {}).get('failed', 'the process is gone')}")
        lost = answer["status"] == -signal.SIGKILL and not answer["killed"] and answer["cpu"] < seconds
        if answer["killed"] == "starved" or lost and not self._killed_itself(answer.get("layers", ("seccomp",))):
            raise SandboxError("the child was killed, or got no processor: is the machine short of memory, or very busy?")
        if "layers" not in answer:
            raise SandboxError(f"the child ended with status {answer['status']} before it was locked down")
        return Outcome(answer["status"], not answer["killed"], tuple(answer["layers"]), answer["seconds"], answer["locked_after"], self._notes())

    def _killed_itself(self, layers) -> bool:
        """Whether a child that got SIGKILL sent it itself: seccomp forbids that, and without, the kernel counts those that it kills."""
        before, self.oom_kills = self.oom_kills, oom_kills()
        return "seccomp" not in layers and before is not None and before == self.oom_kills

    def forget(self) -> None:
        """Empty the shared memory and give its pages back, whatever the child has touched."""
        self.memory.madvise(mmap.MADV_REMOVE)

    def _notes(self) -> list[dict]:
        """The notes that can be read; a child may have left anything there."""
        last = zygote.NOTES - len(zygote.FULL)  # where the word stands that there was no more room
        end = self.memory.find(b"\0", 0, last)
        raw, notes = self.memory[: end if end >= 0 else last] + self.memory[last : zygote.NOTES], []
        for line in raw[: raw.rfind(b"\n") + 1].split(b"\n"):
            try:
                note = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(note, dict):
                notes.append(note)
        return notes

    def close(self) -> None:
        """End the zygote; closing twice does nothing."""
        self.control.close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stderr.close()
        self.memory.close()
