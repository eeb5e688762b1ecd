#!/usr/bin/env python3
"""Writes Sources/Runtime/Execute/Tokenizer/UnicodeClasses+Generated.swift.

The classes are not taken from a Unicode data file but asked of Hugging Face `tokenizers`, code point by code point,
because agreeing with it is the point: which characters its GPT-2 pattern takes for \\p{L}, \\p{N} and \\s, which its
`single_word` takes for \\w, and which its `lstrip`/`rstrip` strip. With tokenizers 0.23.3 the answers are those of
Unicode 16.0 (141 028 letters, 1 911 numbers, 25 white spaces, 144 667 word characters); the script refuses to write
anything else unless told so by --any-version.

    python3 scripts/generate_unicode_classes.py [--any-version] [--check]
"""
import json
import pathlib
import sys

import tokenizers

OTHER, OTHER_WORD, LETTER, NUMBER, NUMBER_WORD, SPACE = range(6)
EXPECTED = {"letters": 141028, "numbers": 1911, "spaces": 25, "words": 144667}
BLOCK = 256
TARGET = pathlib.Path(__file__).parents[1] / "Sources/Runtime/Execute/Tokenizer/UnicodeClasses+Generated.swift"


def byte_alphabet():
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {**{byte: chr(byte) for byte in shown}, **{byte: chr(256 + n) for n, byte in enumerate(hidden)}}


def probe_tokenizer():
    """Bytes are tokens 0…255, @@ only matches a single word, ## strips white space on its right."""
    added = [
        {"id": 256, "content": "@@", "single_word": True, "lstrip": False, "rstrip": False},
        {"id": 257, "content": "##", "single_word": False, "lstrip": False, "rstrip": True},
    ]
    return tokenizers.Tokenizer.from_str(json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "post_processor": None,
        "added_tokens": [{**token, "normalized": False, "special": False} for token in added],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "decoder": None,
        "model": {"type": "BPE", "vocab": {char: byte for byte, char in byte_alphabet().items()}, "merges": []},
    }))


def classify():
    pattern = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    probe = probe_tokenizer()
    classes = bytearray(0x110000)
    for code in range(0x110000):
        if 0xD800 <= code < 0xE000:
            continue
        char = chr(code)
        # Which neighbour the character joins tells its class: a letter, a number or a symbol. The space is the one
        # character that joins all three, from their left.
        ends = {end for _, (_, end) in pattern.pre_tokenize_str(f"a{char}!{char}1{char}a")}
        starts = {
            "letter": 1 not in ends, "symbol": 2 not in ends and 3 not in ends, "number": 4 not in ends,
        }
        word = 256 not in probe.encode(f"{char}@@").ids
        space = probe.encode(f"##{char}").ids == [257]
        joins = [name for name, joined in starts.items() if joined]
        if char == " " or not joins:
            assert space and not word, hex(code)
            classes[code] = SPACE
            continue
        assert len(joins) == 1 and not space, (hex(code), joins)
        if joins == ["letter"]:
            assert word, hex(code)
            classes[code] = LETTER
        elif joins == ["number"]:
            classes[code] = NUMBER_WORD if word else NUMBER
        else:
            classes[code] = OTHER_WORD if word else OTHER
    return classes


def literal(text):
    """A raw multi-line string literal: every line but the last ends in a line continuation."""
    lines = [text[start:start + 110] for start in range(0, len(text), 110)]
    return "\\#\n".join(f"        {line}" for line in lines)


def swift(classes, version):
    blocks, index, order = {}, [], []
    for start in range(0, len(classes), BLOCK):
        block = bytes(classes[start:start + BLOCK])
        if block not in blocks:
            blocks[block] = len(blocks)
            order.append(block)
        index.append(blocks[block])
    assert len(blocks) <= 256
    # Six bits a character, from "0" (0x30) to "o" (0x6F): an index takes two characters, two classes take one.
    stage1 = "".join(chr(0x30 + number // 64) + chr(0x30 + number % 64) for number in index)
    stage2 = "".join(chr(0x30 + (block[at] | block[at + 1] << 3)) for block in order for at in range(0, BLOCK, 2))
    return f'''// Written by scripts/generate_unicode_classes.py; change that, not this.
// {version}, as tokenizers {tokenizers.__version__} has it.

extension UnicodeClasses {{
    /// For each block of {BLOCK} code points which pattern of `packedClasses` it has: two characters of six bits each,
    /// the upper bits first, counted from "0".
    static let packedBlocks = #"""
{literal(stage1)}
        """#

    /// The {len(order)} different patterns: one character, counted from "0", for two code points of three bits each, the lower
    /// bits first.
    static let packedClasses = #"""
{literal(stage2)}
        """#
}}
'''


def main():
    classes = classify()
    counts = {
        "letters": classes.count(LETTER), "numbers": classes.count(NUMBER) + classes.count(NUMBER_WORD),
        "spaces": classes.count(SPACE),
        "words": classes.count(LETTER) + classes.count(NUMBER_WORD) + classes.count(OTHER_WORD),
    }
    print(f"tokenizers {tokenizers.__version__}: {counts}", file=sys.stderr)
    if counts != EXPECTED and "--any-version" not in sys.argv:
        sys.exit(f"These are not the classes of Unicode 16.0 ({EXPECTED}); pass --any-version to write them anyway.")
    source = swift(classes, "Unicode 16.0" if counts == EXPECTED else "A version of Unicode that nobody looked up")
    if "--check" in sys.argv:
        sys.exit(0 if TARGET.read_text() == source else f"{TARGET} is not what this script would write.")
    TARGET.write_text(source)


if __name__ == "__main__":
    main()
