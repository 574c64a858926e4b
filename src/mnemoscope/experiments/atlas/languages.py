"""Which language a text is in, by the share of its words that are among the commonest of a language; and whether code.

    "... the king and the queen of ..."      english .4, french .0: english
    "... le roi et la reine de ..."          english .0, french .4: french
    "def f(x): return x[0] + 1"              many marks of code, few common words: code

Half of running prose is made of a few dozen short words (articles, pronouns, prepositions), which two languages hardly
share. The lists are of such words, without those that are common in two of the languages. A language is named where at
least `LEAST` of the words are in its list, and twice as many as in any other's; otherwise none is.

Source: own. The study of two languages was published of corpora one of which mixed English translations into French
ones (D8 of the atlas specification).
"""

import itertools
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from mnemoscope.tasks.corpus import corpus_bytes
from mnemoscope.tasks.masked_text import story_text

LEAST, TIMES = 0.08, 2.0
"""Share of the words, and how many times that of the next list."""

CODE = "code"
MARKS = frozenset("(){}[]<>=_+*/\\|&%$#@~^;")
LEAST_MARKS, MARKS_BY_WORDS = 0.03, 0.5
"""More marks among the visible characters than that, and than that times the share of common words, are code's.

Chosen on the two embedded texts: the prose, which explains Python and quotes it, has 6 % and 22 %, the code 9 and 11.
"""

READ = 2**20
"""Bytes that are looked at, from the start."""

COMMON: Mapping[str, frozenset[str]] = {
    name: frozenset(words.split())
    for name, words in {
        "english": "the and of to that it with his her you for not this have but they from she which are were be "
        "my what will shall your our by would there their been had has",
        "french": "le les et des une que qui dans pas vous il elle je nous avec pour sur ce cette son est lui mais "
        "plus était avait ses au aux leur comme où ils être fait",
        "german": "der und das ist nicht ich sie ein eine zu mit den dem von auf sich des auch er wie aber dass "
        "wird sind hat war bei nach im wenn oder über",
        "spanish": "el los y las por con una su para es lo como más pero sus muy cuando sobre hay también fue "
        "había entre todo esta ser son dos desde yo",
        "italian": "il di che è per gli nel della sono una più anche ma ho alla dei con questo come delle mi "
        "suo sua lui era aveva dal quando degli io",
        "portuguese": "o os que não uma com em um para mais como mas ao ele das seu sua ou quando muito nos já "
        "eu também pelo pela até isso ela entre",
        "dutch": "het een en van ik niet dat zijn met voor maar hij ze op te aan er ook als naar dan nog zij "
        "wordt deze uit bij werd hebben",
    }.items()
}
"""Words of each language, in lower case; what stands in several lists counts for none."""

_REPEATED = frozenset(word for word, n in Counter(itertools.chain(*COMMON.values())).items() if n > 1)


@dataclass(frozen=True, kw_only=True)
class Language:
    """What a text is written in.

    Args:
        name: one of `COMMON`, "code", or None where none is told.
        shares: of its words in each list.
        marks: share of its visible characters that are marks of code.
    """

    name: str | None
    shares: Mapping[str, float]
    marks: float

    def __str__(self) -> str:
        first, second = sorted(self.shares, key=lambda name: -self.shares[name])[:2]
        shares = ", ".join(f"{name} {self.shares[name]:.0%}" for name in (first, second))
        return f"{self.name or 'unknown'} (common words: {shares}; marks of code: {self.marks:.0%})"


def language_of(corpus: str) -> Language:
    """The language of a corpus, by its first megabyte.

    Raises:
        ValueError: a corpus that cannot be read.
    """
    data = story_text() if corpus == "stories" else corpus_bytes(corpus).tobytes()
    return language_of_text(data[:READ].decode(errors="ignore"))


def language_of_text(text: str) -> Language:
    """The language of a text."""
    words = Counter(re.findall(r"[^\W\d_]+", text.lower()))
    n = max(words.total(), 1)
    shares = {name: sum(words[word] for word in listed - _REPEATED) / n for name, listed in COMMON.items()}
    characters = Counter(text)
    visible = sum(times for character, times in characters.items() if not character.isspace())
    marks = sum(characters[character] for character in MARKS) / max(visible, 1)
    first, second = sorted(shares.values(), reverse=True)[:2]
    told = first >= LEAST and first >= TIMES * second
    name = max(shares, key=lambda each: shares[each]) if told else None
    code = marks > max(LEAST_MARKS, first * MARKS_BY_WORDS)
    return Language(name=CODE if code else name, shares=shares, marks=marks)


def require_two_languages(corpora: tuple[str, ...]) -> list[Language]:
    """The languages of two corpora.

    Raises:
        ValueError: one is code, or both are in one language.
    """
    found = [language_of(corpus) for corpus in corpora]
    names = [each.name for each in found]
    alike = names[0] is not None and len(set(names)) < len(names)
    if CODE in names or alike:
        said = "; ".join(f"{corpus}: {language}" for corpus, language in zip(corpora, found, strict=True))
        raise ValueError(
            f"atlas-languages: needs texts in two languages, got {said}; give two, as --text english.txt --text "
            "french.txt"
        )
    return found
