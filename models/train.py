#!/usr/bin/env python3
"""Trains a small GPT-2 on a folder of plain-text books and writes it as a Hugging Face checkpoint in float16.

    python models/train.py CORPUS_FOLDER -o OUTPUT_FOLDER

The defaults are the recipe of models/novelist. The work folder (OUTPUT_FOLDER/work) keeps the tokenizer, the packed
tokens and the latest training state; started again with the same arguments, training goes on where it stopped. The
order of the data is a function of the seed and the step alone, so an interrupted run sees the same batches.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel

END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class Split:
    """The books of the corpus, divided by file."""

    train: list[Path]
    valid: list[Path]
    test: list[Path]


def arguments() -> argparse.Namespace:
    """Parses the command line; the defaults are the recipe of models/novelist."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="folder of UTF-8 .txt files, one book each")
    parser.add_argument("-o", "--output", type=Path, required=True, help="checkpoint folder to write")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves PyTorch's own choice")
    parser.add_argument("--seed", type=int, default=0, help="weights and data order")
    data = parser.add_argument_group("data")
    data.add_argument("--test-books", type=int, default=4)
    data.add_argument("--valid-books", type=int, default=4)
    data.add_argument("--split-seed", type=int, default=0, help="shuffles the sorted books before they are divided")
    data.add_argument("--vocabulary", type=int, default=8192)
    data.add_argument("--limit-bytes", type=int, default=0, help="reads only so much of each book (for trials)")
    shape = parser.add_argument_group("model")
    shape.add_argument("--layers", type=int, default=6)
    shape.add_argument("--width", type=int, default=384)
    shape.add_argument("--heads", type=int, default=6)
    shape.add_argument("--context", type=int, default=512)
    training = parser.add_argument_group("training")
    training.add_argument("--steps", type=int, default=3647)
    training.add_argument("--batch-tokens", type=int, default=4096, help="tokens of one step")
    training.add_argument("--short-context", type=int, default=256, help="window length of the first part")
    training.add_argument("--long-share", type=float, default=0.18, help="last share of steps, at the full context")
    training.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    training.add_argument("--final-rate", type=float, default=0.02, help="share of the peak at the end of the cosine")
    training.add_argument("--warmup", type=int, default=100, help="steps of linear warm-up")
    training.add_argument("--weight-decay", type=float, default=0.1, help="on matrices only")
    training.add_argument("--clip", type=float, default=1.0, help="bound of the gradient's norm")
    training.add_argument("--no-bf16", action="store_true", help="float32 in place of bfloat16 autocast")
    training.add_argument("--save-every", type=int, default=200, help="steps between two saved states")
    training.add_argument("--log-every", type=int, default=20, help="steps between two lines of progress")
    training.add_argument("--evaluation-windows", type=int, default=60)
    args = parser.parse_args()
    if args.vocabulary > 65536:
        parser.error("--vocabulary: tokens are packed in 16 bits; give at most 65536")
    if args.width % args.heads:
        parser.error(f"--heads: {args.heads} does not divide --width {args.width}")
    if args.batch_tokens % args.context or args.batch_tokens % args.short_context:
        parser.error("--batch-tokens: must be a multiple of --context and of --short-context")
    if args.short_context > args.context:
        parser.error("--short-context: longer than --context")
    return args


def keep_recipe(args: argparse.Namespace, work: Path) -> None:
    """Records the arguments in the work folder, and refuses to go on from the work of other ones."""
    free = {"corpus", "output", "device", "threads", "save_every", "log_every", "evaluation_windows"}
    recipe = {key: value for key, value in vars(args).items() if key not in free}
    path = work / "recipe.json"
    if path.exists() and json.loads(path.read_text()) != recipe:
        sys.exit(f"{work} holds the work of a run with other arguments; remove it or choose another output folder.")
    path.write_text(json.dumps(recipe, indent=2) + "\n")


def split_books(args: argparse.Namespace) -> Split:
    """Shuffles the sorted list of books and takes the test books, then the validation books, then the rest."""
    books = sorted(args.corpus.glob("*.txt"))
    held_out = args.test_books + args.valid_books
    if len(books) <= held_out:
        sys.exit(f"{args.corpus}: {len(books)} .txt files, but {held_out} are held out; at least one must remain.")
    random.Random(args.split_seed).shuffle(books)
    test, valid = books[: args.test_books], books[args.test_books : held_out]
    return Split(train=books[held_out:], valid=valid, test=test)


def read_book(path: Path, limit: int) -> str:
    """A book's text with bare line feeds and without a byte-order mark."""
    raw = path.read_bytes()
    text = (raw[:limit] if limit else raw).decode("utf-8-sig", errors="ignore" if limit else "strict")
    return text.replace("\r\n", "\n")


def train_tokenizer(books: list[Path], args: argparse.Namespace) -> Tokenizer:
    """Byte-level BPE with GPT-2's pre-tokenizer; the end-of-text token has id 0."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=args.vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((read_book(book, args.limit_bytes) for book in books), trainer)
    return tokenizer


def pack(books: list[Path], tokenizer: Tokenizer, limit: int) -> np.ndarray:
    """All books as one u16 array, each opened by the end-of-text token."""
    opening = np.array([tokenizer.token_to_id(END_OF_TEXT)], np.uint16)
    parts: list[np.ndarray] = []
    for book in books:
        parts += [opening, np.array(tokenizer.encode(read_book(book, limit)).ids, np.uint16)]
    return np.concatenate(parts)


def prepare(split: Split, args: argparse.Namespace, work: Path) -> tuple[Tokenizer, dict[str, np.ndarray]]:
    """The tokenizer and the packed tokens of each part, from the work folder where they are already there."""
    path = work / "tokenizer.json"
    if path.exists():
        tokenizer = Tokenizer.from_file(str(path))
    else:
        tokenizer = train_tokenizer(split.train, args)
        tokenizer.save(str(path))
    packed: dict[str, np.ndarray] = {}
    for name in ("train", "valid", "test"):
        path = work / f"{name}.npy"
        if not path.exists():
            partial = work / f"{name}.partial.npy"
            np.save(partial, pack(getattr(split, name), tokenizer, args.limit_bytes))
            os.replace(partial, path)
        packed[name] = np.load(path, mmap_mode="r")
    sizes = ", ".join(f"{name} {len(tokens):,}" for name, tokens in packed.items())
    print(f"vocabulary {tokenizer.get_vocab_size()}; tokens: {sizes}", flush=True)
    return tokenizer, packed


def configuration(tokenizer: Tokenizer, args: argparse.Namespace) -> dict[str, object]:
    """The checkpoint's config.json."""
    end = tokenizer.token_to_id(END_OF_TEXT)
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "activation_function": "gelu_new",
        "vocab_size": tokenizer.get_vocab_size(),
        "n_positions": args.context,
        "n_ctx": args.context,
        "n_embd": args.width,
        "n_layer": args.layers,
        "n_head": args.heads,
        "n_inner": None,
        "layer_norm_epsilon": 1e-05,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "initializer_range": 0.02,
        "scale_attn_weights": True,
        "use_cache": True,
        "tie_word_embeddings": True,
        "bos_token_id": end,
        "eos_token_id": end,
        "torch_dtype": "float16",
    }


class Batches:
    """Windows of the training tokens, every window once per pass, in an order that the seed and the step determine."""

    def __init__(self, tokens: np.ndarray, window: int, rows: int, seed: int) -> None:
        self.tokens, self.window, self.rows, self.seed = tokens, window, rows, seed
        self.windows = (len(tokens) - 1) // window
        if self.windows < 1:
            sys.exit(f"The training text has {len(tokens)} tokens; a window needs {window + 1}. Give more text.")
        self.order: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))

    def row(self, index: int) -> np.ndarray:
        """The index-th window of the whole run: window + 1 tokens, inputs and targets together."""
        epoch, position = divmod(index, self.windows)
        if self.order[0] != epoch:
            self.order = (epoch, np.random.default_rng([self.seed, self.window, epoch]).permutation(self.windows))
        start = int(self.order[1][position]) * self.window
        return np.asarray(self.tokens[start : start + self.window + 1], np.int64)

    def batch(self, index: int, device: torch.device) -> torch.Tensor:
        """The index-th batch: [rows, window + 1] token ids."""
        rows = [self.row(index * self.rows + r) for r in range(self.rows)]
        return torch.from_numpy(np.stack(rows)).to(device)


def rate(step: int, args: argparse.Namespace) -> float:
    """The learning rate of a step: linear warm-up, then a cosine down to its final share."""
    if step < args.warmup:
        return args.rate * (step + 1) / args.warmup
    progress = (step - args.warmup) / max(1, args.steps - args.warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return args.rate * (args.final_rate + (1 - args.final_rate) * cosine)


def optimizer_for(model: GPT2LMHeadModel, args: argparse.Namespace) -> torch.optim.AdamW:
    """AdamW; matrices decay, biases and normalization parameters do not."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": args.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=args.rate, betas=(0.9, 0.95))


def loss_of(model: GPT2LMHeadModel, batch: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over [rows, window + 1] ids, every window predicting its own next tokens."""
    logits = model(batch[:, :-1], use_cache=False).logits.float()
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())


def train(
    model: GPT2LMHeadModel, tokens: np.ndarray, device: torch.device, args: argparse.Namespace, work: Path
) -> None:
    """Runs the recipe to its end, from the saved state where there is one."""
    optimizer = optimizer_for(model, args)
    state_path = work / "state.pt"
    first = 0
    if state_path.exists():
        state = torch.load(state_path, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
        print(f"continuing at step {first} of {args.steps}", flush=True)

    long_from = args.steps - round(args.long_share * args.steps)
    short = Batches(tokens, args.short_context, args.batch_tokens // args.short_context, args.seed)
    long = Batches(tokens, args.context, args.batch_tokens // args.context, args.seed)
    autocast = nullcontext() if args.no_bf16 else torch.autocast(device.type, torch.bfloat16)
    model.train()
    started, recent = time.monotonic(), []
    for step in range(first, args.steps):
        batch = short.batch(step, device) if step < long_from else long.batch(step - long_from, device)
        for group in optimizer.param_groups:
            group["lr"] = rate(step, args)
        with autocast:
            loss = loss_of(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        recent.append(loss.detach())
        done = step + 1
        if done % args.log_every == 0 or done == args.steps:
            mean = torch.stack(recent).mean().item()
            if not math.isfinite(mean):
                sys.exit(f"The loss is {mean} at step {done}; lower --rate.")
            per_step = (time.monotonic() - started) / (done - first)
            left = timedelta(seconds=int(per_step * (args.steps - done)))
            print(
                f"step {done}/{args.steps}  loss {mean:.4f}  rate {rate(step, args):.2e}  "
                f"{args.batch_tokens / per_step:,.0f} tokens/s  left {left}",
                flush=True,
            )
            recent = []
        if done % args.save_every == 0 or done == args.steps:
            state = {"step": done, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
            partial = state_path.with_suffix(".partial")
            torch.save(state, partial)
            os.replace(partial, state_path)


def save(model: GPT2LMHeadModel, tokenizer: Tokenizer, config: dict[str, object], output: Path) -> None:
    """Writes config.json, tokenizer.json and float16 weights; the tied head is not stored twice."""
    weights = {
        name: tensor.detach().to("cpu", torch.float16).contiguous()
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight"
    }
    infinite = [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]
    if infinite:
        sys.exit(f"These tensors do not fit float16: {', '.join(infinite)}.")
    save_file(weights, output / "model.safetensors", metadata={"format": "pt"})
    (output / "model.safetensors").chmod(0o644)  # safetensors writes files that only their owner reads
    tokenizer.save(str(output / "tokenizer.json"))
    (output / "config.json").write_text(json.dumps(config, indent=2) + "\n")


@torch.no_grad()
def perplexity(model: GPT2LMHeadModel, tokens: np.ndarray, windows: int, context: int, device: torch.device) -> float:
    """Per token over the first windows without overlap; each window's last token predicts the next one's first."""
    windows = min(windows, (len(tokens) - 1) // context)
    if windows < 1:
        return math.nan
    total = 0.0
    for window in range(windows):
        ids = np.asarray(tokens[window * context : (window + 1) * context + 1], np.int64)
        total += loss_of(model, torch.from_numpy(ids)[None].to(device)).item()
    return math.exp(total / windows)


def main() -> None:
    args = arguments()
    if args.threads:
        torch.set_num_threads(args.threads)
    name = args.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.device(name)
    work = args.output / "work"
    work.mkdir(parents=True, exist_ok=True)
    keep_recipe(args, work)
    split = split_books(args)
    for part in ("test", "valid"):
        print(f"{part}: {', '.join(book.stem for book in getattr(split, part))}", flush=True)
    tokenizer, packed = prepare(split, args, work)

    torch.manual_seed(args.seed)
    config = configuration(tokenizer, args)
    model = GPT2LMHeadModel(GPT2Config(**{k: v for k, v in config.items() if k != "torch_dtype"})).to(device)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters on {device}", flush=True)
    train(model, packed["train"], device, args, work)
    save(model, tokenizer, config, args.output)

    # What is measured is what was written: the float16 weights, in float32 arithmetic.
    written = GPT2LMHeadModel.from_pretrained(args.output, dtype=torch.float32).to(device).eval()
    for part in ("valid", "test"):
        value = perplexity(written, packed[part], args.evaluation_windows, args.context, device)
        print(f"{part} perplexity {value:.2f} (first {args.evaluation_windows} windows of {args.context})", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("Interrupted; the same command goes on from the last saved state.")
