r"""The original bAbI data, read from a folder that you have: word by word, scored on the answers alone.

Files are named qa1_..._train.txt, qa1_..._test.txt (and qa1_..._valid.txt where there is one), and hold lines such as

    1 Mary moved to the bathroom.
    2 John went to the hallway.
    3 Where is Mary? \tbathroom\t1

A story begins where the number is 1. A question has, after tabs, its answer and the numbers of the facts that support
it. With `think_steps=3` the story above is the sequence

    inputs     mary moved to the bathroom . john went to the hallway .
    inputs     where is mary ? - - -       -      <pad> <pad> ...
    targets      .   .   .  . . . .    bathroom     .     .                  (. = IGNORE)

Words are in lower case; full stops and question marks are words. An answer of several words ("milk,football") takes
as many places "-" as it has words. The model never reads an answer. The vocabulary is that of the files that are used,
in alphabetical order after <pad> and "-".

Without a valid.txt, the training stories that a hash allots to validation or test are the validation split, a tenth.
Training and validation stories that recur in a later split are left out there; `manifest` counts them.

Why: to compare with figures published on the original data.

Known limits: a few thousand stories of one generator; some questions can be answered from their form.

Source: Weston et al., "Towards AI-Complete Question Answering" (2015); thinking steps and the loss as in Csordás and
Schmidhuber (2019), arXiv 1904.10278, who train on en-10k. Nothing is downloaded.
"""

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from mnemoscope.contracts.batch import ABOUT, IGNORE, Batch
from mnemoscope.tasks.streams import SPLITS, Split, owners, split_index

_NAME = re.compile(r"qa(\d+)_.*_(train|valid|test)\.txt")
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*|[.?!,]")
_SPLIT_OF = {"train": "train", "valid": "validation", "test": "test"}


@dataclass(frozen=True)
class Line:
    """One line of a story.

    Args:
        words: of the fact or question, in lower case.
        answer: words of the answer; none for a fact.
        support: positions in the story, counted from 0, of the facts that the answer needs.
    """

    words: tuple[str, ...]
    answer: tuple[str, ...] = ()
    support: tuple[int, ...] = ()


@dataclass(frozen=True)
class Story:
    """One story of a task.

    Args:
        task: 1 to 20 in the original data.
        lines: facts and questions as they come.
    """

    task: int
    lines: tuple[Line, ...]


@dataclass(frozen=True, kw_only=True)
class BabiFilesConfig:
    """Which of the original data, and with how many thinking steps.

    Args:
        kind: names the task in a stored config.
        folder: that holds the files, such as tasks_1-20_v1-2/en-10k.
        task: one of the tasks; None: all that the folder holds.
        length: tokens of a sequence, at least those of the longest story; None: those of the longest story.
        think_steps: tokens between a question and its answer, at least 0.

    Raises:
        ValueError: a value out of its range. The files themselves are read by `BabiFiles`.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["babi_files"] = "babi_files"
    folder: str = "."
    task: int | None = None
    length: int | None = None
    think_steps: int = 3

    def __post_init__(self) -> None:
        if not self.folder:
            raise ValueError("BabiFilesConfig.folder: must be the path of a folder, got an empty string")
        for name, low in (("task", 1), ("length", 1), ("think_steps", 0)):
            got = getattr(self, name)
            if got is not None and got < low:
                raise ValueError(f"BabiFilesConfig.{name}: must be at least {low}, got {got}; nearest valid: {low}")


@final
class BabiFiles:
    """Batches of the original stories; the attributes are those of `mnemoscope.tasks.Task`.

    Raises:
        ValueError: files that are missing or ill-formed, or stories longer than the config's length.
    """

    unit: str = "accuracy"
    floor_loss: float = 0.0
    """Every answer follows from its story; no loss is negative."""

    def __init__(self, config: BabiFilesConfig) -> None:
        self.config = config
        stories, self._n_left_out = _disjoint(load_babi(config.folder, config.task))
        everything = [story for split in SPLITS for story in stories[split]]
        words = {word for story in everything for line in story.lines for word in (*line.words, *line.answer)}
        self._vocabulary = ("<pad>", "-", *sorted(words))
        self.vocab_size: int = len(self._vocabulary)
        longest = max(tokens_of(story, config.think_steps) for story in everything)
        self.length: int = config.length or longest
        if self.length < longest:
            raise ValueError(
                f"BabiFiles: length must be at least {longest}, the tokens of the longest story in {config.folder!r}, "
                f"got {self.length}; nearest valid: {longest}, or read a single task"
            )
        self._splits = {split: self._encoded(stories[split]) for split in SPLITS}
        counts = np.bincount(np.concatenate([part["targets"][part["targets"] >= 0] for part in self._splits.values()]))
        self.chance_loss: float = math.log(np.count_nonzero(counts))
        """Nats per word of an answer of guessing uniformly among all words of answers."""
        shares = counts[counts > 0] / counts.sum()
        self.memoryless_loss: float = max(0.0, -math.fsum(shares * np.log(shares)))
        """Entropy of the words of all answers, in nats: the present token, "-", says nothing of them."""

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        """Draw `size` stories of a split, those of validation and test without repetition.

        Raises:
            ValueError: size below 1 or above the number of held-out stories, or an unknown split.
        """
        split_index(split)
        part, most = self._splits[split], self.n_sequences(split)
        if size < 1:
            raise ValueError(f"BabiFiles.batch: size must be at least 1, got {size}; nearest valid: 1")
        if most is not None and size > most:
            raise ValueError(
                f"BabiFiles.batch: size must be at most {most}, the stories of the {split} split, got {size}; "
                f"nearest valid: {most}"
            )
        rows = rng.choice(len(part["inputs"]), size=size, replace=split == "train")
        about = {name: part[name][rows].astype(np.int64) for name in ABOUT}
        inputs, targets = part["inputs"][rows].astype(np.int64), part["targets"][rows].astype(np.int64)
        return Batch(inputs=inputs, targets=targets, about=about)

    def n_sequences(self, split: Split) -> int | None:
        """The stories of a held-out split; training stories are drawn anew, so there is no end to them."""
        split_index(split)
        return None if split == "train" else len(self._splits[split]["inputs"])

    def words(self, tokens: Sequence[int]) -> list[str]:
        """The words of the files."""
        return [self._vocabulary[token] for token in tokens]

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step: the stories."""
        digest = hashlib.sha256()
        for part in self._splits.values():
            for name in ("inputs", "targets"):
                digest.update(part[name].tobytes())
        counts = {f"{split}_stories": len(part["inputs"]) for split, part in self._splits.items()}
        known = {"left_out": self._n_left_out, "sha256": digest.hexdigest(), "numpy": np.__version__}
        return {"name": "babi_files", **counts, **known}

    def _encoded(self, stories: list[Story]) -> dict[str, NDArray[np.int32]]:
        token = {word: index for index, word in enumerate(self._vocabulary)}
        fills = {"inputs": token["<pad>"], "targets": IGNORE, **dict.fromkeys(ABOUT, -1)}
        arrays = {name: np.full((len(stories), self.length), fill, dtype=np.int32) for name, fill in fills.items()}
        for row, story in enumerate(stories):
            words, scored = told(story, self.config.think_steps)
            arrays["inputs"][row, : len(words)] = [token[word] for word in words]
            for position, answer, about in scored:
                arrays["targets"][row, position] = token[answer]
                for name, value in about.items():
                    arrays[name][row, position] = value
        return arrays


def told(story: Story, think_steps: int) -> tuple[list[str], list[tuple[int, str, dict[str, int]]]]:
    """The words of a story, and the position, word and `about` of every scored one.

    The distance is that to the last word, before its full stop, of the newest supporting fact.
    """
    words, scored, ends, n_facts, n_questions = [], [], [], 0, 0
    for line in story.lines:
        words += line.words
        ends.append(len(words) - 1 - (line.words[-1] == "." and len(line.words) > 1))
        n_facts += not line.answer
        if not line.answer:
            continue
        words += ["-"] * think_steps
        for answer in line.answer:
            needed = max(ends[fact] for fact in line.support)
            about = {"distance": len(words) - needed, "item": story.task, "load": n_facts, "query": n_questions}
            scored.append((len(words), answer, about))
            words.append("-")
        n_questions += 1
    return words, scored


def tokens_of(story: Story, think_steps: int) -> int:
    """Tokens of a story in a sequence."""
    return sum(len(line.words) + (think_steps + len(line.answer) if line.answer else 0) for line in story.lines)


def load_babi(folder: str | Path, task: int | None = None) -> dict[Split, list[Story]]:
    """Read the original files.

    Args:
        folder: that holds them.
        task: one of the tasks; None: all that the folder holds.

    Returns:
        the stories of every split; those of validation are none where there is no file of them.

    Raises:
        ValueError: no such folder, no file of the task, or a line that is not in the format, with its number.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise ValueError(f"load_babi: folder must be that of the bAbI files, got {str(folder)!r}, which is none")
    named = [(match, file) for file in path.iterdir() if (match := _NAME.fullmatch(file.name))]
    files = sorted((int(match[1]), match[2], file) for match, file in named if task in (None, int(match[1])))
    stories: dict[Split, list[Story]] = {split: [] for split in SPLITS}
    wanted = "qa*_*" if task is None else f"qa{task}_*"
    for part in ("train", "test"):
        if not any(kind == part for _, kind, _ in files):
            known = sorted({int(match[1]) for match, _ in named})
            raise ValueError(
                f"load_babi: folder {str(folder)!r} must hold a file named {wanted}_{part}.txt, got files of the tasks "
                f"{known}; name the folder that holds them, such as en-10k"
            )
    for number, kind, file in files:
        split: Split = SPLITS[SPLITS.index(_SPLIT_OF[kind])]
        stories[split] += [Story(number, lines) for lines in parse_babi(file)]
    return stories


def parse_babi(file: Path) -> list[tuple[Line, ...]]:
    """The stories of one file.

    Raises:
        ValueError: a line that is not in the format, with its number.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: must be UTF-8 text, got an undecodable byte at offset {error.start}") from error
    stories: list[list[Line]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        identity, _, rest = line.strip().partition(" ")
        where = f"{file}, line {number}"
        expected = len(stories[-1]) + 1 if stories else 1
        if not (identity.isdecimal() and int(identity) in (1, expected)):
            raise ValueError(
                f"{where}: must begin with {expected} or, for a new story, 1 and a space, got {line[:40]!r}"
            )
        if int(identity) == 1:
            stories.append([])
        stories[-1].append(_line(rest, stories[-1], where))
    if not stories:
        raise ValueError(f"{file}: must hold stories, got an empty file")
    if not any(line.answer for story in stories for line in story):
        raise ValueError(f"{file}: must hold questions (question, tab, answer, tab, numbers), got none")
    return [tuple(story) for story in stories]


def _line(text: str, before: list[Line], where: str) -> Line:
    fields = [field.strip() for field in text.split("\t")]
    words = tuple(_WORD.findall(fields[0].lower()))
    if not words:
        raise ValueError(f"{where}: must have words after its number, got {text[:40]!r}")
    if len(fields) == 1 and "?" not in words:
        return Line(words)
    answer = tuple(word for part in fields[1:2] for word in part.lower().split(",") if word)
    if len(fields) != 3 or not answer:
        raise ValueError(
            f"{where}: a question must be followed by a tab, its answer, a tab and numbers, got {text[:60]!r}"
        )
    support = fields[2].split()
    facts = {str(index + 1) for index, line in enumerate(before) if not line.answer}
    if not support or not facts.issuperset(support):
        raise ValueError(
            f"{where}: the supporting numbers must be those of earlier facts of the story, "
            f"{', '.join(sorted(facts, key=int)) or 'of which there are none'}, got {fields[2]!r}"
        )
    return Line(words, answer, tuple(int(number) - 1 for number in support))


def _disjoint(stories: dict[Split, list[Story]]) -> tuple[dict[Split, list[Story]], int]:
    """Splits, each with stories of its own, and how many stories were left out for that."""
    parts: dict[Split, list[Story]] = {split: list(stories[split]) for split in SPLITS}
    if not parts["validation"]:
        held_out = owners(np.array([_digest(story) for story in parts["train"]])) > 0
        parts["validation"] = [story for story, held in zip(parts["train"], held_out, strict=True) if held]
        parts["train"] = [story for story, held in zip(parts["train"], held_out, strict=True) if not held]
    seen, n_left_out = set(parts["test"]), 0
    for split in (SPLITS[1], SPLITS[0]):
        kept = [story for story in parts[split] if story not in seen]
        n_left_out += len(parts[split]) - len(kept)
        seen |= set(kept)
        parts[split] = kept
        if not kept:
            raise ValueError(f"BabiFiles: the {split} split must hold a story that no later split holds, got none")
    return parts, n_left_out


def _digest(story: Story) -> list[int]:
    text = "\n".join(" ".join((*line.words, "", *line.answer)) for line in story.lines)
    return [int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "little")]
