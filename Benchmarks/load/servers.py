"""The servers that are compared, each a process of its own on the loopback interface."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    def __init__(self, command: list, port: int, ready_path: str, log: pathlib.Path, environment: dict | None = None) -> None:
        self.port = port
        self._log = log.open("ab")
        self.process = subprocess.Popen(
            list(map(str, command)), stdout=self._log, stderr=self._log, env=os.environ | (environment or {})
        )
        deadline = time.monotonic() + 120
        while not self._answers(ready_path):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise SystemExit(f"{command[0]} did not become ready; {log} says more")
            time.sleep(0.1)

    def _answers(self, path: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as reply:
                return reply.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def text(self, path: str) -> str:
        # It may be overloaded.
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as reply:
            return reply.read().decode()

    def ask(self, path: str) -> dict:
        return json.loads(self.text(path))

    def memory(self, field: str) -> int:
        """Bytes of a field of /proc/PID/status: VmRSS, VmHWM."""
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024
        raise RuntimeError(f"no {field}")

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def stop(self) -> int:
        """Ends it politely; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self._log.close()
        return self.process.wait()


def lathe(program: pathlib.Path, model: pathlib.Path, log: pathlib.Path, *options: str) -> Server:
    port = free_port()
    return Server([program, "--model", model, "--port", port, *options], port, "/health/ready", log)


def llama_cpp(python: pathlib.Path, gguf: pathlib.Path, log: pathlib.Path, threads: int, paths: list[pathlib.Path]) -> Server:
    """llama-cpp-python's own server; it runs one request at a time."""
    port = free_port()
    options = ["--n_ctx", "512", "--n_batch", "512", "--n_threads", threads, "--n_threads_batch", threads]
    environment = {"PYTHONPATH": os.pathsep.join(map(str, paths))} if paths else {}
    command = [python, "-m", "llama_cpp.server", "--model", gguf, "--port", port, "--host", "127.0.0.1", *options]
    return Server([*command, "--interrupt_requests", "false"], port, "/v1/models", log, environment)


if __name__ == "__main__":
    sys.exit("servers.py is a part of load.py")
