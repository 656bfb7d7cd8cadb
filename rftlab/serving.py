"""Serve a merged model with an OpenAI-compatible address: `python -m rftlab serve build/workflow/merged`.

The server is transformers' own (`transformers serve`), behind rftlab.serving_guard; on a GPU, `vllm serve FOLDER` takes the same folder
and answers the same requests. A GGUF file instead of a folder goes to llama-cpp-python's server, where that is installed. `Server` runs one for as long as a `with` block lasts:

    with Server("build/workflow/merged") as server:
        client = openai.OpenAI(base_url=server.address, api_key="none")
        client.chat.completions.create(model=server.model, messages=[...], stream=True)
"""
import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from rftlab import models

START_SECONDS = 300  # a busy machine needs many for what takes ten


def command(folder, port, host="localhost") -> list[str]:
    """What starts the server of a folder or a GGUF file. Raises ValueError for a folder that holds no whole model, and for a port that cannot
    be had; ModuleNotFoundError for a GGUF file without llama-cpp-python."""
    folder = Path(folder)
    if folder.suffix == ".gguf" and folder.is_file():
        if importlib.util.find_spec("llama_cpp") is None:
            raise ModuleNotFoundError(f"{folder} is served by llama-cpp-python, which is not installed: `pip install \"llama-cpp-python[server]\"` "
                                      "(it compiles for minutes), or serve the merged folder")
        check_port(port, host)
        name = str(folder.resolve())
        return [sys.executable, "-m", "llama_cpp.server", "--model", name, "--model_alias", name, "--host", host, "--port", str(port)]
    folder = models.whole(folder)
    check_port(port, host)
    return [sys.executable, "-m", "rftlab.serving_guard", "serve", str(folder.resolve()), "--host", host, "--port", str(port)]


class Server:
    """A server in a process of its own. address: for an OpenAI client; model: the name to ask for."""

    def __init__(self, folder, port=None):
        self.model, self.port = str(Path(folder).resolve()), port or free_port()
        self.address = f"http://localhost:{self.port}/v1"
        self.command = command(folder, self.port)

    def __enter__(self) -> "Server":
        self.log = tempfile.NamedTemporaryFile("w+", suffix=".log")
        self.process = subprocess.Popen(self.command, stdout=self.log, stderr=subprocess.STDOUT, env=environment())
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def _wait(self) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with code {self.process.returncode}:\n{Path(self.log.name).read_text()[-2000:]}")
            try:
                with urllib.request.urlopen(f"{self.address}/models", timeout=5):
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.3)
        raise RuntimeError(f"the server does not answer after {START_SECONDS} s; its last words:\n{Path(self.log.name).read_text()[-2000:]}")


def environment() -> dict:
    """Nothing is fetched, and this package is found whatever the working folder is."""
    here = str(Path(__file__).resolve().parents[1])
    paths = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": paths}


def check_port(port, host="localhost") -> None:
    """Raise ValueError unless a server can listen there: a client would talk to another one, that was there before."""
    if not 1 <= port <= 65535:
        raise ValueError(f"port {port}: expected a number from 1 to 65535")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, family=socket.AF_INET, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that ended a moment ago is not in the way
            one.bind(address)
    except OSError as error:
        raise ValueError(f"no server can listen at {host}:{port} ({error.strerror or error}); take another port (--port 8001), or end what "
                         "listens there") from error


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]


def serve(folder, port=8000, host="localhost") -> int:
    """Serve until Ctrl-C; returns the server's exit code."""
    words = command(folder, port, host)
    print(f"serving {folder} at http://{host}:{port}/v1, model name {Path(folder).resolve()} (Ctrl-C ends it)", flush=True)
    return subprocess.call(words, env=environment())
