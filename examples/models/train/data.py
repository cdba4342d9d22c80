# SPDX-License-Identifier: Apache-2.0
"""Training data: public-domain books plus synthetic retrieval tasks, as bytes.

Every sequence starts with byte 0 (BOS), which appears nowhere else.
`Mixer.batch` returns tokens [B, T + 1] and a loss weight for each predicted token [B, T].
"""
import argparse
import hashlib
import os
import re
import unicodedata

import numpy as np

BOOKS = [  # (file name, Project Gutenberg number, title)
    ("gutenberg_adventures_sherlock_holmes.txt", 1661, "The Adventures of Sherlock Holmes"),
    ("gutenberg_memoirs_sherlock_holmes.txt", 834, "The Memoirs of Sherlock Holmes"),
    ("gutenberg_robinson_crusoe.txt", 521, "Robinson Crusoe"),
    ("gutenberg_sense_and_sensibility.txt", 161, "Sense and Sensibility"),
    ("gutenberg_swiss_family_robinson.txt", 11703, "The Swiss Family Robinson"),
    ("gutenberg_pride_and_prejudice.txt", 1342, "Pride and Prejudice"),
    ("gutenberg_count_of_monte_cristo.txt", 1184, "The Count of Monte Cristo"),
    ("gutenberg_war_and_peace.txt", 2600, "War and Peace"),
]
HELD_OUT = ("gutenberg_treasure_island.txt", 120, "Treasure Island")
EXCERPT_BYTES = 128 * 1024

WORDS = ("river apple stone cloud tiger piano lemon castle wagon candle forest silver bridge monkey "
         "garden rocket pepper window button island anchor basket camera desert eagle feather guitar "
         "hammer insect jacket kettle ladder magnet needle orange pencil rabbit saddle temple turtle "
         "velvet walnut yellow zebra butter copper dragon engine falcon ginger harbor ivory jungle "
         "knight marble nickel ocean parrot ribbon shadow").split()

PUNCTUATION = str.maketrans({
    "\u2018": "'", "\u2019": "'", "\u2032": "'", "\u201c": '"', "\u201d": '"', "\u2033": '"',
    "\u2013": "-", "\u2014": "--", "\u2026": "...", "\u00e6": "ae", "\u00c6": "AE",
    "\u0153": "oe", "\u0152": "OE", "\u00bd": " 1/2", "\u00a0": " ", "_": None,
})


def normalise(text):
    """Printable ASCII and newline only; accents stripped, lines trimmed, at most one blank line."""
    text = text.replace("\r\n", "\n").translate(PUNCTUATION)
    text = re.sub(r"\[Illustration[^\]]*\]", "", text)
    text = re.sub(r"(?m)^\s*\d{4,5}m\s*$", "", text)  # picture numbers of one edition
    text = unicodedata.normalize("NFKD", text)
    text = "".join(c for c in text if c == "\n" or " " <= c <= "~")
    text = "\n".join(line.strip() for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def load_book(folder, name):
    with open(os.path.join(folder, name), encoding="utf-8") as f:
        return normalise(f.read())


def load_training_text(folder):
    return np.frombuffer("".join(load_book(folder, b[0]) for b in BOOKS).encode("ascii"), np.uint8)


def make_excerpt(folder):
    """128 KiB of the held-out book from its first chapter on, cut at a line end."""
    text = load_book(folder, HELD_OUT[0])
    text = text[text.index("PART ONE--"):]
    return text[:text.rindex("\n", 0, EXCERPT_BYTES) + 1].encode("ascii")


def code_line(word, digits, end=b".\n"):
    return b"\nThe code of " + word + b" is " + digits + end


def random_digits(rng):
    return bytes(rng.integers(48, 58, 5).astype(np.uint8))


def insert_at(text, cuts, pieces):
    """text with pieces[i] inserted at offset cuts[i] (sorted); also the offset of each piece."""
    out, last, starts, size = [], 0, [], 0
    for cut, piece in zip(cuts, pieces):
        out += [text[last:cut], piece]
        starts.append(size + cut - last)
        size += cut - last + len(piece)
        last = cut
    return b"".join(out + [text[last:]]), starts


def passkey_prompt(rng, text, total, depth, word=None):
    """The evaluated task: BOS, text with one code line at `depth` (0..1), then the question.

    Returns the prompt (with the question, without the answer) and the answer; together they
    have `total` bytes.
    """
    word = (word or WORDS[rng.integers(len(WORDS))]).encode()
    digits = random_digits(rng)
    needle, question = code_line(word, digits), b"\nThe code of " + word + b" is "
    n = total - 1 - len(needle) - len(question) - 5
    start = rng.integers(len(text) - n)
    filler = bytes(text[start:start + n])
    cut = int(round(depth * n))
    return b"\0" + filler[:cut] + needle + filler[cut:] + question, digits


class Mixer:
    def __init__(self, text, seed, digit_weight=6.0):
        self.text, self.rng, self.digit_weight = text, np.random.default_rng(seed), digit_weight
        self.some_words = sorted({w.encode() for w in re.findall(
            r"\b[a-z]{4,9}\b", bytes(text[:2_000_000]).decode())})

    def passage(self, n):
        start = self.rng.integers(len(self.text) - n)
        return bytes(self.text[start:start + n])

    def words(self, n):
        """Mostly the listed words; sometimes any words of the books, so that matching is general."""
        if self.rng.random() < 0.3:
            return [self.some_words[i] for i in self.rng.choice(len(self.some_words), n, False)]
        return [WORDS[i].encode() for i in self.rng.choice(len(WORDS), n, n > len(WORDS))]

    def plain(self, T):
        return self.passage(T), np.ones(T, np.float32)

    def repeat(self, T):
        """A random string, repeated until the sequence is full; only the repeats count."""
        rng = self.rng
        n = int(rng.integers(6, max(8, min(T // 2, 256)) + 1))
        low, high = [(97, 123), (48, 58), (32, 127)][rng.choice(3, p=[0.5, 0.25, 0.25])]
        unit = rng.integers(low, high, n).astype(np.uint8)
        if rng.random() < 0.3:  # shuffled words instead of shuffled letters
            words = b" ".join(self.words(1 + n // 7))
            unit = np.frombuffer(words, np.uint8)[:n]
        weight = np.ones(T, np.float32)
        weight[:len(unit)] = 0
        return bytes(np.tile(unit, T // len(unit) + 1)[:T]), weight

    def copy(self, T):
        """A passage that returns word for word, between other text."""
        n = int(self.rng.integers(T // 8, T // 3))
        gap = int(self.rng.integers(0, T - 2 * n))
        part = self.passage(n)
        head = self.passage(T - 2 * n - gap)
        tail_gap = self.passage(gap)
        out = head + part + tail_gap + part
        weight = np.ones(T, np.float32)
        weight[T - n + 8:] = 2
        return out, weight

    def single(self, T):
        """Exactly the evaluated prompt, the question at the end."""
        prompt, digits = passkey_prompt(self.rng, self.text, T + 1, self.rng.random())
        weight = np.ones(T, np.float32)
        at = prompt.index(b"\nThe code of ")
        weight[prompt.index(b" is ", at) + 3:][:5] = 0
        weight[-5:] = self.digit_weight
        return (prompt + digits)[1:], weight

    def needles(self, T):
        """Several code lines and, later, a question for each of them; the last ends the sequence."""
        rng = self.rng
        most = max(1, min(32, T // 64))
        count = int(rng.integers(1, most + 1))
        words, digits = self.words(count), [random_digits(rng) for _ in range(count)]
        order = rng.permutation(count)
        # A random sequence of "say" and "ask" events, each word said before it is asked.
        if rng.random() < 0.5:  # all said first, then asked
            events = [(0, i) for i in range(count)] + [(1, i) for i in order]
        else:
            keys = rng.random((count, 2))
            keys.sort(axis=1)
            events = sorted((keys[i, k], k, i) for i in range(count) for k in (0, 1))
            events = [(k, i) for _, k, i in events]
        pieces = [code_line(words[i], digits[i]) for _, i in events]
        last = events[-1][1]
        pieces[-1] = code_line(words[last], digits[last], b"")
        n = T - sum(map(len, pieces))
        if n < 0:  # too many for this length
            return self.single(T)
        cuts = sorted(int(c) for c in rng.integers(0, n + 1, len(pieces) - 1)) + [n]
        out, starts = insert_at(self.passage(n), cuts, pieces)
        weight = np.ones(T, np.float32)
        for (ask, i), start in zip(events, starts):
            at = start + len(b"\nThe code of ") + len(words[i]) + 4
            weight[at:at + 5] = self.digit_weight if ask else 0
        return out, weight

    def batch(self, T, rows, mix):
        """mix: {task name: share}."""
        names = list(mix)
        tokens, weights = np.zeros((rows, T + 1), np.int64), np.empty((rows, T), np.float32)
        for r, k in enumerate(self.rng.choice(len(names), rows, p=[mix[m] for m in names])):
            out, weights[r] = getattr(self, names[k])(T)
            tokens[r, 1:] = np.frombuffer(out, np.uint8)
        return tokens, weights


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the held-out excerpt.")
    parser.add_argument("--texts", required=True)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    data = make_excerpt(args.texts)
    with open(args.out, "wb") as f:
        f.write(data)
    print(len(data), hashlib.sha256(data).hexdigest())
