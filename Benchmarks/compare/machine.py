"""What the machine is, and what else it does meanwhile."""

import datetime
import json
import os
import pathlib
import platform
import subprocess

_FLAGS = ["avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16"]


def description(lathe: pathlib.Path) -> dict:
    """Processor, its instruction sets, memory, system, Lathe's commit, date."""
    fields = {}
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    flags = set(fields.get("flags", "").split())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return {
        "processor": fields.get("model name", platform.processor()),
        "family": f"family {fields.get('cpu family')}, model {fields.get('model')}, stepping {fields.get('stepping')}",
        "cores": len(os.sched_getaffinity(0)),
        "has": [flag for flag in _FLAGS if flag in flags],
        "lacks": [flag for flag in _FLAGS if flag not in flags],
        "virtual": "hypervisor" in flags,
        "memory_bytes": memory,
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "date": datetime.date.today().isoformat(),
        "lathe": {"version": _version(lathe), "commit": commit.stdout.strip()},
    }


def _version(lathe: pathlib.Path) -> str:
    return subprocess.run([lathe, "--version"], capture_output=True, text=True, check=True).stdout.strip()


def busy_seconds() -> float:
    """Processor seconds that this machine has worked, or was kept from working by its host, since it started."""
    fields = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _, _, interrupt, soft, steal = map(int, fields[:8])
    return (user + nice + system + interrupt + soft + steal) / os.sysconf("SC_CLK_TCK")


def drop_cached(path: pathlib.Path) -> None:
    """Writes the files at `path` back and drops them from the page cache, as after a start of the machine."""
    for file in [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def probe(lathe: pathlib.Path, model: pathlib.Path, threads: int) -> float:
    """Bytes a second that so many threads read now, from this model's weights."""
    arguments = ["--threads", str(threads), "--prompt-tokens", "1", "--new-tokens", "2", "--runs", "1", "--no-verify"]
    output = subprocess.run(
        [lathe, "bench", "--model", model, *arguments, "--json"], capture_output=True, text=True, check=True
    ).stdout
    return max(result["probe_bytes_per_second"] for result in json.loads(output)["results"])
