"""The walls: each layer does what it says, alone and together, and too few are refused."""
import os
import subprocess
import sys

import pytest

from rftlab.kernels import lockdown

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")
ATTACKS = {
    "open": "open('/etc/hostname')",
    "write": "open('/tmp/rftlab-canary', 'w')",
    "connect": "__import__('socket').socket().connect(('127.0.0.1', 9))",
    "fork": "os.fork()",
    "exec": "os.execv('/bin/true', ['true'])",
    "kill": "os.kill(os.getppid(), 0)",
    "memory": "bytearray(3 * 2**30)",
    "parent": "open(f'/proc/{os.getppid()}/mem', 'rb')",
}


def locked(code, without=()):
    """Run code after the lock-down in a process of its own; "OK" or the name of what it raised."""
    program = ("import os, sys, socket\nfrom rftlab.kernels.lockdown import Lockdown\nlayers = Lockdown(sys.argv[2:]).apply(5)\n"
               "try:\n    exec(sys.argv[1])\n    print('OK')\nexcept BaseException as error:\n    print(type(error).__name__)")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", program, code, *without], capture_output=True, text=True, env=environment, timeout=60)
    return done.stdout.strip() or f"died {done.returncode}"


@pytest.mark.parametrize("without", [(), ("landlock",), ("uid",), ("uid", "landlock")])
@pytest.mark.parametrize("attack", sorted(ATTACKS))
def test_an_attack_fails_behind_seccomp(attack, without):
    assert locked(ATTACKS[attack], without) in ("PermissionError", "MemoryError", "OSError", "ImportError")


@pytest.mark.skipif(lockdown.landlock_abi() < 6, reason="needs Landlock ABI 6")
@pytest.mark.parametrize("attack", sorted(ATTACKS))
def test_an_attack_fails_behind_landlock_alone(attack):
    assert locked(ATTACKS[attack], ("seccomp",)) in ("PermissionError", "MemoryError", "OSError", "BlockingIOError", "ImportError")


def test_without_walls_the_attacks_would_work():
    nothing = ("seccomp", "landlock", "uid")
    assert locked("os.kill(os.getppid(), 0)", nothing) == "OK"  # so the tests above can fail


def test_arithmetic_goes_on():
    assert locked("sum(i * i for i in range(100_000)); print(end='')") == "OK"


def test_active_layers_are_found_by_trying():
    layers = lockdown.active_layers()
    assert "limits" in layers and ("uid" in layers) == (os.geteuid() == 0)
    assert "seccomp" not in lockdown.active_layers(("seccomp",))


def test_too_few_layers_are_refused_with_advice():
    with pytest.raises(lockdown.LockdownError, match="seccomp.*Landlock"):
        lockdown.require(("seccomp", "landlock"))


@pytest.mark.parametrize("layers, root, abi, fine", [
    (("limits", "seccomp"), True, 0, True),
    (("limits", "uid", "landlock"), True, 4, True),
    (("limits", "landlock"), False, 6, True),
    (("limits", "landlock"), False, 4, False),  # signals and sockets to the outside
    (("limits", "landlock"), True, 7, False),  # root forks without limit
    (("limits", "uid"), True, 0, False),
    ((), False, 0, False),
])  # fmt: skip
def test_which_layers_suffice(layers, root, abi, fine):
    assert (lockdown.enough(layers, root, abi) == "") == fine


def test_the_doctor_says_what_is_active():
    name, measured, meaning = lockdown.doctor()
    assert "defences" in name and "limits" in measured and meaning
