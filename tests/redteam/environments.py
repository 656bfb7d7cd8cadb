"""Imitations of machines with fewer defences, and the attacks that test the walls there.

    python tests/redteam/environments.py docker

prepares the imitation, grades the attacks of `WALLS` with the rules switched off, and prints one JSON object: the active
layers, the score of each attack, the controls' scores and the damage. `test_environments.py` runs all of them.

- user            an ordinary user (made from root; it may read root's files, since Python may live there)
- no-landlock, no-seccomp, no-uid     one layer taken away
- docker          root with Docker's capabilities, under a profile that refuses namespaces, mounts and tracing
- gvisor          the same on a kernel without Landlock, as on Colab
- one-user        root of a user namespace with a single user, where dropping the uid fails
"""

import ctypes
import errno
import json
import os
import shutil
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ORDINARY = "65532"
DOCKER = "chown,dac_override,fowner,fsetid,kill,setgid,setuid,setpcap,net_bind_service,net_raw,sys_chroot,mknod,audit_write,setfcap"
NAMESPACES = (272, 165, 166, 308, 155, 161, 101, 310, 311, 321, 298)  # unshare mount umount2 setns pivot_root chroot ptrace vm_readv/writev bpf perf
LANDLOCK = (444, 445, 446)
SUBSET = "D7 D7b D8 E5 E6 E7 E7b E11 E12 E14 F8 F9 G1 G1b G3 G7 G7b H5b H6 H6b H7 H8 H9 H15 H16 H17 H18 H18b H18c H19 H20 H21 H22 H24 H28 H29"
WALLS = frozenset(SUBSET.split())
WITHOUT_SECCOMP = WALLS - {"H28"}  # System V shared memory needs no file and no process: seccomp alone stops it


@dataclass(frozen=True)
class Environment:
    command: tuple[str, ...] = ()  # what the script is started through
    denied: tuple[int, ...] = ()  # system calls that fail with EPERM
    missing: tuple[int, ...] = ()  # system calls that the kernel does not have
    without: tuple[str, ...] = ()  # layers that the grader is told not to use
    layers: frozenset[str] = frozenset({"limits", "uid", "landlock", "seccomp"})
    needs_root: bool = True


def _layers(*names: str) -> frozenset[str]:
    return frozenset(names)


AS_USER = ("setpriv", "--reuid", ORDINARY, "--regid", ORDINARY, "--clear-groups", "--bounding-set=-all,+dac_read_search",
           "--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search")
IN_DOCKER = ("setpriv", "--bounding-set", "-all," + ",".join(f"+{name}" for name in DOCKER.split(",")))
ENVIRONMENTS = {
    "user": Environment(AS_USER, layers=_layers("limits", "landlock", "seccomp")),
    "no-landlock": Environment(without=("landlock",), layers=_layers("limits", "uid", "seccomp")),
    "no-seccomp": Environment(without=("seccomp",), layers=_layers("limits", "uid", "landlock")),
    "no-uid": Environment(without=("uid",), layers=_layers("limits", "landlock", "seccomp")),
    "docker": Environment(IN_DOCKER, denied=NAMESPACES),
    "gvisor": Environment(IN_DOCKER, denied=NAMESPACES, missing=LANDLOCK, layers=_layers("limits", "uid", "seccomp")),
    "one-user": Environment(("unshare", "-Ur"), layers=_layers("limits", "landlock", "seccomp")),
}


def refuse(denied: tuple[int, ...], missing: tuple[int, ...]) -> None:
    """Install a filter under which these calls fail, for this process and all that it starts."""
    rules = [(0x20, 0, 0, 0)]
    for number, error in [*((n, errno.EPERM) for n in denied), *((n, errno.ENOSYS) for n in missing)]:
        rules += [(0x15, 0, 1, number), (0x06, 0, 0, 0x50000 | error)]
    rules.append((0x06, 0, 0, 0x7FFF0000))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(rules), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(22, 2, program, 0, 0) and (libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0)):
        raise OSError(ctypes.get_errno(), "seccomp")


def attack(environment: Environment) -> dict:
    """Grade the attacks in this process's environment."""
    from exploit_tasks import TASKS
    from programs import exploits
    from watch import Canary, controls, left_over

    from rftlab.kernels import KernelGrader

    names = WITHOUT_SECCOMP if "seccomp" in environment.without else WALLS
    batch, canary = [e for e in exploits() if e.family in names], Canary()
    try:
        with KernelGrader(workers=1, rules=False, seconds=1.0, _without=environment.without) as grader:
            grades = grader.grade([e.text(str(canary.folder)) for e in batch], [TASKS[e.task] for e in batch])
            return {
                "layers": sorted(grader.layers),
                "paid": {e.name: [grade.score, e.cap_without_rules] for e, grade in zip(batch, grades)},
                "controls": controls(grader, TASKS["add"], seed=1),
                "damage": canary.damage(),
                "left over": left_over(),
            }
    finally:
        canary.remove()


def possible(name: str) -> str:
    """Why an environment cannot be imitated here, "" when it can."""
    environment = ENVIRONMENTS[name]
    if environment.needs_root and os.geteuid() != 0:
        return "only root can take rights away"
    if environment.command and not shutil.which(environment.command[0]):
        return f"there is no {environment.command[0]} here"
    if environment.command and subprocess.run([*environment.command, sys.executable, "-c", ""], capture_output=True).returncode:
        return f"{environment.command[0]} is not allowed here"
    return ""


def run(name: str) -> dict:
    """The result of `attack` in an imitated environment, from a process of its own."""
    here = Path(__file__).resolve()
    path = os.pathsep.join([str(here.parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [*ENVIRONMENTS[name].command, sys.executable, "-B", str(here), name, "inside"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path, "HOME": "/nonexistent"}, capture_output=True, text=True, cwd="/")
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    if sys.argv[2:] == ["inside"]:
        refuse(ENVIRONMENTS[sys.argv[1]].denied, ENVIRONMENTS[sys.argv[1]].missing)
        print(json.dumps(attack(ENVIRONMENTS[sys.argv[1]])))
    else:
        print(json.dumps(possible(sys.argv[1]) or run(sys.argv[1]), indent=1))
