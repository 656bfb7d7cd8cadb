"""What must be as it was after an exploit has run: files, processes, and the grader itself."""

import os
import shutil
import tempfile
from pathlib import Path

from programs import CONTROL, WRONG_CONTROL

ZYGOTE = b"rftlab.kernels.zygote"
LITTER = [Path(folder) / "rftlab-redteam-filled" for folder in ("/tmp", "/var/tmp", "/dev/shm", ".")]
SHARED_MEMORY_KEY = str(0x52F7)


class Canary:
    """A folder and a file that everybody may change, so that only walls protect them."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="rftlab-canary-"))
        (self.folder / "file").write_text("alive")
        os.chmod(self.folder, 0o777)
        os.chmod(self.folder / "file", 0o666)
        self.before = self._state()

    def _state(self):
        file = (self.folder / "file").stat()
        return sorted(os.listdir(self.folder)), file.st_mode, file.st_mtime_ns, (self.folder / "file").read_text()

    def damage(self) -> list[str]:
        """What has changed, in words; empty when nothing has."""
        found = [f"{path} was written" for path in LITTER if path.exists()]
        found += [f"{path} was written" for path in site_packages("rftlab_redteam_owned*")]
        try:
            now = self._state()
        except OSError as error:
            return [*found, f"the canary is gone: {error}"]
        found += [f"the canary changed from {self.before} to {now}"] if now != self.before else []
        return found + (["shared memory was left behind"] if SHARED_MEMORY_KEY in shared_memory_keys() else [])

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def site_packages(pattern: str) -> list[Path]:
    """Files of a name in the folders where programs could plant one for later processes."""
    import torch
    import triton

    homes = [Path(torch.__file__).parent.parent, Path(triton.__file__).parent, Path.home(), Path.home() / ".triton" / "cache"]
    return [path for home in homes if home.is_dir() for path in home.glob(pattern)]


def shared_memory_keys() -> set[str]:
    try:
        return {line.split()[0] for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]}
    except OSError:
        return set()


def processes() -> dict[int, tuple[int, bytes]]:
    """{pid: (parent, command line)} of everything that can be seen."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            found[int(name)] = int(stat[1]), Path(f"/proc/{name}/cmdline").read_bytes()
        except (OSError, IndexError):
            continue
    return found


def left_over(parent: int | None = None) -> list[int]:
    """Processes below the grader's own: children of its zygotes, and orphans with a zygote's command line."""
    everything, parent = processes(), parent or os.getpid()
    zygotes = {pid for pid, (above, line) in everything.items() if above == parent and ZYGOTE in line}
    return [pid for pid, (above, line) in everything.items() if above in zygotes or above == 1 and ZYGOTE in line]


def zygotes(parent: int | None = None) -> list[int]:
    """The grader's own processes."""
    return [pid for pid, (above, line) in processes().items() if above == (parent or os.getpid()) and ZYGOTE in line]


def controls(grader, task, seed: int) -> list[float | None]:
    """What an honest kernel and one that is honest and wrong earn on fresh inputs; [1.0, 0.6] from a grader in good health."""
    return [grade.score for grade in grader.grade([CONTROL, WRONG_CONTROL], task, seed=seed)]
