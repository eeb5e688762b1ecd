#!/usr/bin/env python3
"""Makes the tasks' data from Tests/Golden/novelist/heldout.txt, parts of novels that the model was not trained on.

    python3 Benchmarks/lm_eval/make_tasks.py      writes tasks/endings.jsonl and tasks/passages.jsonl
"""

import json
import pathlib
import random
import re

HERE = pathlib.Path(__file__).resolve().parent
TEXT = HERE.parents[1] / "Tests/Golden/novelist/heldout.txt"
ENDINGS = 120
PASSAGES = 40
CHOICES = 4


def main() -> None:
    random_source = random.Random(20261121)
    text = TEXT.read_text(encoding="utf-8")
    paragraphs = [re.sub(r"\s+", " ", part).strip() for part in re.split(r"\n\s*\n", text)]
    sentences = [
        sentence
        for paragraph in paragraphs
        for sentence in re.findall(r"[A-Z][^.!?]{50,160}[.!?]", paragraph)
        if len(sentence.split()) >= 12
    ]
    sentences = random_source.sample(sentences, min(ENDINGS, len(sentences)))
    # The last four words of a sentence, among those of others.
    halves = [(" ".join(words[:-4]), " ".join(words[-4:])) for words in (sentence.split() for sentence in sentences)]
    with (HERE / "tasks/endings.jsonl").open("w", encoding="utf-8") as file:
        for index, (beginning, ending) in enumerate(halves):
            others = [half[1] for place, half in enumerate(halves) if place != index]
            choices = [*random_source.sample(others, CHOICES - 1), ending]
            random_source.shuffle(choices)
            record = {"beginning": beginning, "choices": choices, "answer": choices.index(ending)}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    long = [paragraph for paragraph in paragraphs if 300 <= len(paragraph) <= 4000]
    with (HERE / "tasks/passages.jsonl").open("w", encoding="utf-8") as file:
        for passage in random_source.sample(long, min(PASSAGES, len(long))):
            file.write(json.dumps({"text": passage}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
