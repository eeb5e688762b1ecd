#!/usr/bin/env python3
"""Golden values of the tokenizer, made by Hugging Face `tokenizers` (0.23.3).

    python3 scripts/golden/tokenizer.py write --gpt2 FOLDER --novelist FOLDER --wikitext wiki.test.raw
        writes Tests/Golden/tokenizer/{texts,synthetic,wikitext}.json
    python3 scripts/golden/tokenizer.py differential --gpt2 FOLDER --novelist FOLDER --count 20000 --seed 1 FILE
        writes random cases to FILE; then
        LATHE_TOKENIZER_CASES=FILE swift test -c release -Xswiftc -enable-testing --filter TokenizerDifferential
"""
import argparse
import json
import pathlib
import random

import tokenizers

GOLDEN = pathlib.Path(__file__).parents[2] / "Tests/Golden/tokenizer"

NASTY = [
    "", " ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", "\r\n\r\n ", " \n", "\n ", "a", " a", "a ", "  a", "a  ", "a   b",
    "Hello, world!", "Hello world \n", "I'm you're he'll she'd we've it's can't", "I'M YOU'RE HE'LL SHE'D WE'VE IT'S CAN'T",
    "'s 't 're 've 'm 'll 'd", "''s'''t 'lx 'vx 'rx 'l 'v 'r '", "don\u2019t it\u2019s \u2019ll", "x's's", "1's ½'s", "\u00a0's",
    "tabs\tand\t\ttabs \t mixed", "end in spaces   ", "   begin in spaces", " " * 100, "a" + " " * 100 + "b", "\n" * 50 + "x",
    "non\u00a0breaking\u00a0\u00a0space \u00a0 x", "next\u0085line \u0085 x", "line\u2028sep \u2028\u2029 x", "mongol\u180evowel \u180e x",
    "zero\u200bwidth\u200c\u200d \u200b x", "\u3000ideographic\u3000\u3000space", "\u2000\u2001\u2002 \u2003x\u202f\u205f\u1680y",
    "NUL\0in\0\0the middle \0", "\x01\x02\x1b[0m\x7f", "1234567890 12 345.678 9", "½ Ⅷ ٣ ²³ ①②  ½½ ٣٤٥ Ⅷx x½", "１２３ 一二三 〇",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 family", "\U0001f44d\U0001f3fd \U0001f1e9\U0001f1ea flags \U0001f600!",
    "e\u0301 o\u0308 n\u0303 combining a\u0300\u0301\u0302", "\u0301alone \u0301 x\u0301y", "Führer 北京大学 日本語のテキスト 한국어 텍스트",
    "مرحبا بالعالم ١٢٣", "שלום עולם \u200fRTL\u200e", "Ελληνικά Русский язык ქართული", "ไทย ภาษาไทย हिन्दी தமிழ்",
    "<|endoftext|>", "a<|endoftext|>b", " <|endoftext|> ", "<|endoftext|><|endoftext|>", "<|endoftext", "|endoftext|>",
    "<|<|endoftext|>|>", "<|endoftext|>'s", "  <|endoftext|>\n\n<|endoftext|>  x", "<|ENDOFTEXT|>", "< |endoftext|>",
    "def f(x):\n    return x**2  # comment\n\n\n\tif a != b:\n", "https://example.com/a?b=c&d=e#f", "a_b_c __init__ --- *** ///",
    "MiXeD CaSe camelCase snake_case", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "the the the the the the", "supercalifragilisticexpialidocious antidisestablishmentarianism " * 2, "\ufeffBOM \ufffd replacement",
    "\U000e0041\U0010ffff\U000f0000 private \ue000", "\U00020000\U0002a6d6 ext B \U000323af", "\u0378 unassigned \U0001fbff",
    "ﬁ ligature ǆ Ǆ ß ẞ İ ı", "a\u00adb soft", "x\u2060y", "_'s", "$5.00 £5 €5 ¥5 5%", "“quotes” ‘single’ «guillemets» …",
]


def byte_alphabet():
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {**{byte: chr(byte) for byte in shown}, **{byte: chr(256 + n) for n, byte in enumerate(hidden)}}


def added(content, **options):
    token = dict(content=content, single_word=False, lstrip=False, rstrip=False, normalized=False, special=False)
    return {**token, **options}


def numbered(added_tokens, tokens):
    """Ids as `tokenizers` gives them: that of the vocabulary if it has the token, else the next one behind it."""
    new = iter(range(len(tokens), len(tokens) + len(added_tokens)))
    return [
        {"id": tokens.index(token["content"]) if token["content"] in tokens else next(new), **token} for token in added_tokens
    ]


def described(pairs, added_tokens=(), alphabet=None, extra=(), pre=None, post=None, decoder=True, prefix=False, **model):
    """A tokenizer over the byte alphabet (or a part of it): bytes first, then what the merges make, then `extra`."""
    tokens = list(alphabet or byte_alphabet().values())
    for left, right in pairs:
        if left + right not in tokens:
            tokens.append(left + right)
    tokens += extra
    level = {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": numbered(added_tokens, tokens), "normalizer": None,
        "pre_tokenizer": pre or level, "post_processor": post, "decoder": level if decoder else None,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": {token: number for number, token in enumerate(tokens)}, "merges": [list(pair) for pair in pairs], **model,
        },
    }


MERGES = [
    ("t", "h"), ("th", "e"), ("Ġ", "the"), ("a", "a"), ("aa", "aa"), ("i", "n"), ("Ġ", "a"), ("e", "r"), ("in", "g"), ("Ġ", "Ġ"),
    ("ĠĠ", "ĠĠ"), ("Ã", "©"), ("a", "b"), ("b", "c"), ("ab", "c"), ("c", "ab"), ("a", "bc"), ("Ċ", "Ċ"), ("'", "s"), ("e", "a"),
]
PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def template(*pieces, **specials):
    single = [{"Sequence": {"id": "A", "type_id": 0}} if piece == "A" else {"SpecialToken": {"id": piece, "type_id": 0}}
              for piece in pieces]
    return {
        "type": "TemplateProcessing", "single": single, "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {name: {"id": name, "ids": ids, "tokens": [name] * len(ids)} for name, ids in specials.items()},
    }


def synthetic():
    size = 256 + len({left + right for left, right in MERGES})
    few = [*"abcdeĠĊ'"]
    few_merges = [("a", "b"), ("ab", "c"), ("Ġ", "a")]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    level_post = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    return {
        "plain": described(MERGES),
        "prefix space": described(MERGES, [added("<s>", special=True), added("ab")], prefix=True),
        "strip and single word": described(MERGES, [
            added("<l>", lstrip=True), added("<r>", rstrip=True), added("<b>", lstrip=True, rstrip=True),
            added("the", single_word=True), added("@@", single_word=True, lstrip=True),
            added("  "), added(" x"), added("<n>", normalized=True, lstrip=True, rstrip=True),
            added("ing", normalized=True, single_word=True), added("l><", normalized=True),
        ]),
        "overlap": described(MERGES, [
            added("aa"), added("aab"), added("ab"), added("aabcab"), added("bca"),
            added("caf\u00e9"), added("na\u00efve text"), added("\u0301x"), added("'"),
        ]),
        "added in vocabulary": described(MERGES, [added("th", normalized=True), added("<e>", special=True)]),
        "template": described(MERGES, [added("<s>", special=True), added("</s>", special=True)], post={
            "type": "Sequence", "processors": [level_post, template("<s>", "A", "</s>", "</s>", **{"<s>": [size], "</s>": [size + 1]})],
        }),
        "split then bytes": described(MERGES, pre={"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": False}, byte_level]}),
        "no pattern": described(MERGES, [added("<s>")], pre=byte_level),
        "no decoder": described(MERGES, [added("ca f\u00e9"), added("<s>", special=True)], decoder=False),
        "ignore merges": described(MERGES, extra=["Ġab", "hello", "Ġbc", "cc", "Ċa"], ignore_merges=True),
        "missing bytes": described(few_merges, alphabet=few),
        "unknown": described(few_merges, alphabet=few, extra=["<unk>"], unk_token="<unk>"),
        "unknown fused": described([*few_merges, ("<unk>", "a")], alphabet=[*few, "<unk>"], unk_token="<unk>", fuse_unk=True),
        "repeated merge": described([("a", "b"), ("b", "c"), ("ab", "c"), ("a", "bc"), ("a", "b")]),
        "merges as text": described(MERGES, merges=["#version: 0.2", *(" ".join(pair) for pair in MERGES)]),
        "holes": described([], vocab={"a": 0, "b": 1, "c": 7, "ab": 5, "Ġ": 300}, merges=["a b"]),
    }


PARTS = [
    "the", "th", "a", "aa", "aab", "aabcab", "abcabc", "bca", "cab", "ing", "x", "ab", "hello", "cc", "<s>", "</s>", "<l>", "<r>", "<b>",
    "<n>", "@@", "l><", "<e>", "<unk>", " ", "  ", " x", "   ", "\n", "\n\n", "\t", "\u00a0", "\u3000", "\u2028", "é", "caf\u00e9", "ca f\u00e9",
    "na\u00efve text", "\u0301x", "e\u0301", "'s", "'S", "'", "½", "5", "٣", "_", "!", "Ġ", "\U0001f600", "漢", "<|endoftext|>", "<|end",
]


def random_text(rng):
    """Mostly pieces that meet the tokenizers' corners, at times any code points at all."""
    pieces = []
    for _ in range(rng.randrange(1, 24)):
        choice = rng.random()
        if choice < 0.6:
            pieces.append(rng.choice(PARTS))
        elif choice < 0.75:
            pieces.append(rng.choice(NASTY)[: rng.randrange(1, 12)])
        elif choice < 0.9:
            pieces.append(chr(rng.randrange(0x20, 0x250)))
        else:
            code = rng.randrange(0x110000)
            pieces.append(chr(code) if not 0xD800 <= code < 0xE000 else " ")
    return "".join(pieces)


def case(tokenizer, text):
    ids = tokenizer.encode(text).ids
    return {"text": text, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False)}


def decoding(tokenizer, rng, size):
    """Ids drawn at random: their bytes are seldom well-formed UTF-8."""
    ids = [rng.randrange(size) for _ in range(rng.randrange(1, 12))]
    return {"ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False)}


def fnv(ids):
    """FNV-1a in 64 bits over the ids as little-endian 32-bit words."""
    value = 0xCBF29CE484222325
    for byte in b"".join(number.to_bytes(4, "little") for number in ids):
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def load(folder):
    return tokenizers.Tokenizer.from_file(str(pathlib.Path(folder) / "tokenizer.json"))


def save(path, value):
    text = json.dumps({"made_by": f"scripts/golden/tokenizer.py, tokenizers {tokenizers.__version__}", **value}, separators=(",", ":"))
    # A line for each case: readable differences.
    path.write_text(text.replace('},{"', '},\n{"') + "\n")


def write(arguments):
    GOLDEN.mkdir(parents=True, exist_ok=True)
    rng = random.Random(20)
    real = {"gpt2": load(arguments.gpt2), "novelist": load(arguments.novelist)}
    texts = {}
    for name, tokenizer in real.items():
        rng_decode = random.Random(3)
        # The last 256 single bytes are among the first ids of both vocabularies, so half of the draws stay there.
        draws = [decoding(tokenizer, rng_decode, size) for size in [257, tokenizer.get_vocab_size()] for _ in range(40)]
        texts[name] = {"cases": [case(tokenizer, text) for text in NASTY], "decodings": draws}
    save(GOLDEN / "texts.json", texts)
    cases = []
    for name, description in synthetic().items():
        tokenizer = tokenizers.Tokenizer.from_str(json.dumps(description))
        chosen = NASTY[:24:2] + [random_text(rng) for _ in range(30)]
        cases.append({"name": name, "tokenizer": description, "cases": [case(tokenizer, text) for text in chosen]})
    save(GOLDEN / "synthetic.json", {"tokenizers": cases})
    text = pathlib.Path(arguments.wikitext).read_bytes().decode()
    hashes = {}
    for name, tokenizer in real.items():
        ids = tokenizer.encode(text).ids
        hashes[name] = {"bytes": len(text.encode()), "tokens": len(ids), "fnv1a64": fnv(ids)}
    save(GOLDEN / "wikitext.json", hashes)


def differential(arguments):
    rng = random.Random(arguments.seed)
    descriptions = {name: json.dumps(description) for name, description in synthetic().items()}
    for name, folder in {"gpt2": arguments.gpt2, "novelist": arguments.novelist}.items():
        descriptions[name] = (pathlib.Path(folder) / "tokenizer.json").read_text()
    groups = []
    each = -(-arguments.count // len(descriptions))
    for name, text in descriptions.items():
        tokenizer = tokenizers.Tokenizer.from_str(text)
        cases = [case(tokenizer, random_text(rng)) for _ in range(each)]
        cases += [{"text": "", **decoding(tokenizer, rng, tokenizer.get_vocab_size()), "decode_only": True} for _ in range(each // 4)]
        groups.append({"name": name, "tokenizer": json.loads(text), "cases": cases})
    save(pathlib.Path(arguments.file), {"tokenizers": groups})


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    for name, function in {"write": write, "differential": differential}.items():
        command = commands.add_parser(name)
        command.set_defaults(function=function)
        command.add_argument("--gpt2", required=True)
        command.add_argument("--novelist", required=True)
        if name == "write":
            command.add_argument("--wikitext", required=True)
        else:
            command.add_argument("--count", type=int, default=20000)
            command.add_argument("--seed", type=int, default=1)
            command.add_argument("file")
    arguments = parser.parse_args()
    arguments.function(arguments)


if __name__ == "__main__":
    main()
