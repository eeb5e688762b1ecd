#!/usr/bin/env python3
"""Runs lm-evaluation-harness on lathe-serve and on transformers, same model and tasks, and compares every log-likelihood.

    python3 Benchmarks/lm_eval/run.py --python VENV/bin/python      (pip install "lm_eval[api]" torch transformers)

The model is models/novelist in float32; transformers reads the checkpoint, the server its conversion. Exit status 1 where
a log-likelihood differs by more than 1e-3 per token, or an accuracy is not above chance.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "load"))
import servers  # noqa: E402

TOLERANCE = 1e-3


def evaluate(python: pathlib.Path, out: pathlib.Path, model: str, model_arguments: str) -> tuple[dict, dict[str, list[dict]]]:
    command = [
        python, "-m", "lm_eval", "--model", model, "--model_args", model_arguments, "--tasks", "lathe_endings,lathe_passages",
        "--include_path", HERE / "tasks", "--log_samples", "--output_path", out, "--batch_size", "1",
    ]  # fmt: skip
    subprocess.run(list(map(str, command)), check=True)
    [results] = out.rglob("results_*.json")
    samples = {}
    for task in ("lathe_endings", "lathe_passages"):
        [path] = out.rglob(f"samples_{task}_*.jsonl")
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        samples[task] = sorted(records, key=lambda record: record["doc_id"])
    return json.loads(results.read_text())["results"], samples


def likelihoods(record: dict) -> list[float]:
    """Of each choice, or of the passage."""
    found = []
    for response in record["resps"]:
        while isinstance(response, list) and len(response) == 1:
            response = response[0]
        found.append(float(response[0] if isinstance(response, list) else response))
    return found


def texts(record: dict) -> list[str]:
    return record["doc"]["choices"] if "choices" in record["doc"] else [record["doc"]["text"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", type=pathlib.Path, default=pathlib.Path(sys.executable))
    parser.add_argument("--bin", type=pathlib.Path, default=pathlib.Path(".build/release"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        model = folder / "novelist.lathe"
        command = [arguments.bin / "lathe", "quantize", "models/novelist", "--weights", "f32", "-o", model]
        subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
        server = servers.lathe(arguments.bin / "lathe-serve", model, folder / "log.txt")
        try:
            url = f"http://127.0.0.1:{server.port}/v1/completions"
            ours, our_samples = evaluate(
                arguments.python, folder / "lathe", "local-completions",
                f"model=novelist,base_url={url},tokenizer_backend=huggingface,tokenizer=models/novelist,"
                "tokenized_requests=True,num_concurrent=8,max_length=512,max_retries=1",
            )  # fmt: skip
        finally:
            server.stop()
        theirs, their_samples = evaluate(
            arguments.python, folder / "hf", "hf", "pretrained=models/novelist,dtype=float32,max_length=512"
        )
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("models/novelist")
    worst, count = 0.0, 0
    for task, records in our_samples.items():
        for ours_record, theirs_record in zip(records, their_samples[task], strict=True):
            pairs = zip(likelihoods(ours_record), likelihoods(theirs_record), texts(ours_record), strict=True)
            for a, b, text in pairs:
                worst = max(worst, abs(a - b) / len(tokenizer(text)["input_ids"]))
                count += 1
    accuracy = {name: results["lathe_endings"]["acc,none"] for name, results in (("Lathe", ours), ("transformers", theirs))}
    bits = {name: results["lathe_passages"]["bits_per_byte,none"] for name, results in (("Lathe", ours), ("transformers", theirs))}
    print(f"{count} log-likelihoods, worst difference per token {worst:.2e}; accuracy {accuracy}; bits per byte {bits}")
    if worst > TOLERANCE or accuracy["Lathe"] <= 0.25:
        sys.exit(1)


if __name__ == "__main__":
    main()
