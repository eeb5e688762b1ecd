"""The virtual environment, the checkpoints, and every contender's conversion of them; each made once."""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

import lathe_engine
from matrix import ENGINES, Contender

HERE = pathlib.Path(__file__).resolve().parent
_CONVERT = "import importlib, pathlib, sys; p = importlib.import_module('peers.' + sys.argv[1]); \
p.convert(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]), sys.argv[4])"


class Workshop:
    """Where everything lies. `failures` says of each engine or contender that cannot be measured why."""

    def __init__(self, work: pathlib.Path, lathe: pathlib.Path) -> None:
        self.work = work.resolve()
        self.lathe = lathe.resolve()
        self.python = self.work / "venv/bin/python"
        self.log = self.work / "log.txt"
        self.failures: dict[str, str] = {}
        self.work.mkdir(parents=True, exist_ok=True)

    # MARK: Packages

    def install(self) -> None:
        """Installs the pinned packages, one by one where all at once fails, so that one failure costs one engine."""
        pins = HERE / "requirements.txt"
        stamp = self.work / "venv/requirements.json"
        digest = hashlib.sha256(pins.read_bytes()).hexdigest()
        done = json.loads(stamp.read_text()) if stamp.exists() else {}
        if done.get("sha256") == digest:
            self.failures |= done["failures"]
            return
        say("installing the engines; llama.cpp is compiled, which takes some ten minutes")
        if not self.python.exists():
            subprocess.run([sys.executable, "-m", "venv", self.work / "venv"], check=True)
        environment = dict(os.environ)
        options = ["-DGGML_NATIVE=ON", "-DGGML_OPENMP=OFF"]
        environment["CMAKE_ARGS"] = " ".join([*options, environment.get("CMAKE_ARGS", "")]).strip()
        environment.setdefault("CMAKE_BUILD_PARALLEL_LEVEL", str(os.cpu_count()))
        if shutil.which("clang") and shutil.which("clang++"):
            # GCC 12 makes a llama.cpp that dies of an illegal instruction on processors with AMX.
            environment.setdefault("CC", "clang")
            environment.setdefault("CXX", "clang++")
        pip = [self.python, "-m", "pip", "install", "--quiet", "--no-binary", "llama-cpp-python"]
        if self._run([*pip, "-r", pins], environment).returncode:
            for line in pins.read_text().splitlines():
                if line and not line.startswith("#"):
                    completed = self._run([*pip, line], environment)
                    if completed.returncode:
                        self.failures[line] = f"cannot be installed: {_last_line(completed)}"
                        say(f"{line} {self.failures[line]}")
        stamp.write_text(json.dumps({"sha256": digest, "failures": self.failures}))

    # MARK: Models

    def checkpoint(self, model: str) -> pathlib.Path:
        folder = self.work / "checkpoints" / model
        if not (folder / "model.safetensors").exists():
            say(f"synthesizing {model}")
            folder.parent.mkdir(exist_ok=True)
            arguments = ["synthesize", model, "--dtype", "f32", "-o", folder]
            subprocess.run([self.lathe, *arguments], check=True, stdout=subprocess.DEVNULL)
        return folder

    def converted(self, contender: Contender, model: str) -> pathlib.Path | None:
        """The contender's own form of the model, made from the one checkpoint; nil where it fails."""
        is_lathe = contender.engine == "lathe"
        suffix = ".lathe" if is_lathe else ""
        out = self.work / "converted" / contender.engine / f"{model}-{contender.precision}{suffix}"
        if out.exists():
            return out
        say(f"converting {model} for {contender.title} ({contender.precision})")
        checkpoint = self.checkpoint(model)
        part = out.with_name(f"part-{out.name}")
        part.parent.mkdir(parents=True, exist_ok=True)
        remove(part)
        if is_lathe:
            lathe_engine.convert(self.lathe, checkpoint, part, contender.precision)
        else:
            command = [self.python, "-c", _CONVERT, contender.engine, checkpoint, part, contender.precision]
            completed = self._run(command, os.environ | {"PYTHONPATH": str(HERE)})
            if completed.returncode:
                self.failures[contender.key] = f"conversion failed: {_last_line(completed)}"
                say(f"{ENGINES[contender.engine]}, {contender.precision}: {self.failures[contender.key]}")
                remove(part)
                return None
        part.rename(out)
        return out

    def _run(self, command: list, environment: dict) -> subprocess.CompletedProcess:
        completed = subprocess.run(
            list(map(str, command)), env=environment, capture_output=True, text=True, errors="replace", check=False
        )
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(map(str, command))}\n{completed.stdout}{completed.stderr}\n")
        return completed


def size(path: pathlib.Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def remove(path: pathlib.Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _last_line(completed: subprocess.CompletedProcess) -> str:
    lines = [line.strip() for line in completed.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"exit {completed.returncode}"
