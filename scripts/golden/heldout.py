#!/usr/bin/env python3
"""Cuts the held-out texts of Tests/Golden/novelist out of the novels, and measures the model's perplexity on one.

    python scripts/golden/heldout.py cut CORPUS_FOLDER -o Tests/Golden/novelist
    python scripts/golden/heldout.py measure CHECKPOINT TEXT [-o heldout.json] [--windows N] [--chained]

`measure` tokenizes the whole file, cuts the ids into windows of the context length without overlap (the last one may
be shorter), scores each by itself, and sums the negative log-likelihood of every token but each window's first.
`--chained` lets each window's last token predict the next one's first as well, and opens the text with the bos token.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from pathlib import Path

# Novels that novelist was not trained on, and where each cut begins, as a share of the book.
HELD_OUT = {
    "Conrad_Nostromo_1904": 0.3,
    "Blackmore_Lorna_1869": 0.4,
    "Braddon_Phantom_1883": 0.5,
    "Blackmore_Erema_1877": 0.6,
}
HELD_OUT_CHARACTERS = 15_000  # of each novel
PASSAGE = ("Blackmore_Lorna_1869", 0.7, 880)


def cut_from(corpus: Path, book: str, share: float, size: int) -> str:
    """About `size` characters: whole sentences, from the first that opens a line after that share of the book."""
    text = (corpus / f"{book}.txt").read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    start = text.index(".\n", int(share * len(text))) + 2
    sentences = re.finditer(r'[.!?]["\']?(?=\s)', text[start : start + size])
    end = start + [sentence.end() for sentence in sentences][-1]
    return text[start:end].lstrip("\n") + "\n"


def cut(args: argparse.Namespace) -> None:
    """Writes heldout.txt and passage.txt."""
    args.output.mkdir(parents=True, exist_ok=True)
    parts = [cut_from(args.corpus, book, share, HELD_OUT_CHARACTERS) for book, share in HELD_OUT.items()]
    (args.output / "heldout.txt").write_text("\n".join(parts), encoding="utf-8", newline="\n")
    book, share, size = PASSAGE
    (args.output / "passage.txt").write_text(cut_from(args.corpus, book, share, size), encoding="utf-8", newline="\n")


def measure(args: argparse.Namespace) -> None:
    """Prints perplexity, tokens and negative log-likelihood, and writes them with every window's share."""
    import reference
    import torch
    from tokenizers import Tokenizer

    model = reference.load(args.checkpoint)
    context = model.config.n_positions
    raw = args.text.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    ids = Tokenizer.from_file(str(args.checkpoint / "tokenizer.json")).encode(raw).ids
    if args.chained:
        ids = [model.config.bos_token_id] + ids
    windows = []
    for start in range(0, len(ids), context):
        if args.windows is not None and len(windows) == args.windows:
            break
        window = ids[start : start + context]
        scores = reference.logits(model, window).double()
        targets = ids[start + 1 : start + context + 1] if args.chained else window[1:]
        chosen = torch.log_softmax(scores[: len(targets)], -1).gather(1, torch.tensor(targets)[:, None])
        windows.append({"tokens": len(window), "predictions": len(targets), "nll": -chosen.sum().item()})
    predictions = sum(window["predictions"] for window in windows)
    nll = sum(window["nll"] for window in windows)
    summary = {
        "tokens": sum(window["tokens"] for window in windows),
        "predictions": predictions,
        "nll": nll,
        "perplexity": math.exp(nll / predictions),
        "bytes": len(raw.encode()),
        "window": context,
    }
    print(json.dumps(summary))
    if args.output:
        args.output.write_text(json.dumps(summary | {"windows": windows}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("cut", help="write heldout.txt and passage.txt")
    command.add_argument("corpus", type=Path)
    command.add_argument("-o", "--output", type=Path, required=True)
    command.set_defaults(run=cut)
    command = commands.add_parser("measure", help="perplexity by transformers in float32")
    command.add_argument("checkpoint", type=Path)
    command.add_argument("text", type=Path)
    command.add_argument("-o", "--output", type=Path, help="JSON file to write")
    command.add_argument("--windows", type=int, help="only the first so many windows")
    command.add_argument("--chained", action="store_true", help="predict each window's first token too")
    command.set_defaults(run=measure)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
