"""A real run on this machine's GPU, for programs that passed everything else: `KernelGrader(gpu=True)`.

CUDA needs device files, threads and Triton's own compiler with its files and `ptxas`, so none of the walls of `lockdown` fit around
it. That is why only a program that keeps the rules and is right on the CPU comes here, into a process that knows no expected
output and is started anew after any failure. What the GPU adds: the order in which threads really run, real fast-math instructions,
and limits such as registers. It can take a score back (to 0.5 or 0.6), never give one.
"""

import mmap
import os
import socket
import subprocess
import sys
import tempfile

from rftlab.kernels import zygote

SECONDS = 60.0  # for compiling with ptxas and running all cases
SLACK = 30.0  # times the CPU's tolerance: a GPU multiplies fp32 blocks in TF32, and its exp and sin are approximate


class GpuWorker:
    """The trusted side: a process with CUDA, and shared memory laid out as for the interpreter."""

    def __init__(self, size: int, device: str = "cuda"):
        self.size, self.device, self.process = size, device, None  # device "cpu" is for tests: Triton's plain interpreter

    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="rftlab-gpu-")
        fd = os.memfd_create("rftlab-gpu")
        os.ftruncate(fd, self.size)
        self.memory = mmap.mmap(fd, self.size)
        self.control, theirs = socket.socketpair()
        passed = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "CUDA_HOME", "CUDA_VISIBLE_DEVICES") if name in os.environ}
        environment = {**passed, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "HOME": self.folder.name,
                       "TRITON_CACHE_DIR": self.folder.name, "PYTHONDONTWRITEBYTECODE": "1"}
        if self.device == "cpu":
            environment["TRITON_INTERPRET"] = "1"
        command = [sys.executable, "-P", "-m", "rftlab.kernels.gpu", str(theirs.fileno()), str(fd), self.device]
        self.process = subprocess.Popen(command, env=environment, cwd="/", pass_fds=(fd, theirs.fileno()), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(fd)
        theirs.close()

    def run(self, job: dict, blob: bytes, at: int) -> dict | None:
        """Run a job; returns {"ran": cases} or {"failed": why}, None when the process died or took too long."""
        if self.process is None:
            self.start()
        self.memory[at : at + len(blob)] = blob
        self.control.settimeout(SECONDS)
        try:
            zygote.send(self.control, job)
            answer = zygote.receive(self.control)
        except OSError:
            answer = None
        if answer is None:
            self.close()
        return answer

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.control.close()
            self.memory.close()
            self.folder.cleanup()
            self.process = None


def main(control_fd: str, memory_fd: str, device: str) -> None:
    """The other side: take jobs until the socket closes."""
    import torch

    from rftlab.kernels import child

    control, memory = socket.socket(fileno=int(control_fd)), mmap.mmap(int(memory_fd), 0)
    torch.zeros(1, device=device)
    while (job := zygote.receive(control)) is not None:
        try:
            function = getattr(child.load_text(job["text"]), job["entry"])
            for case in job["cases"]:
                inputs = [child.read_input(memory, one) for one in case["inputs"]]
                result = function(*(value.to(device) if torch.is_tensor(value) else value for value in inputs))
                results = tuple(one.cpu() for one in result) if case["is_tuple"] else result.cpu()
                child.write(memory, child.check_result(results, case["outputs"], case["is_tuple"]), case["outputs"], "at")
            answer = {"ran": len(job["cases"])}
        except Exception as error:
            answer = {"failed": child.describe(error)}
        zygote.send(control, answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
