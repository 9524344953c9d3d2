"""One spelling for what a reader sees as the same text, so that a rule has to know one form of each phrase."""

import html
import re
import unicodedata
from functools import lru_cache

_APOSTROPHES = "‘’‚‛ʹʻʼʽˈˊˋ´΄՚׳′‵＇＇ꞌ\x91\x92"
_QUOTES = "“”„‟«»‹›〝〞〟「」『』＂″\x93\x94"
_LETTERS = str.maketrans(
    "АВЕЅІЈКМНОРСТУХаеіјѕорсухһԁԛԝΑΒΕΖΗΙΚΜΝΟΡΤΥΧαιορνυχѵɑℓ",
    "ABESIJKMHOPCTYXaeijsopcyxhdqwABEZHIKMNOPTYXaiopvuxval",
)
_FOLDED = (
    {ord(character): "'" for character in _APOSTROPHES}
    | {ord(character): '"' for character in _QUOTES}
    | str.maketrans("ıđĐłŁ", "idDlL")
)
_BLOCK = re.compile(r"</?(?:p|br|hr|div|ul|ol|li|h[1-6]|blockquote|pre|td|tr|table|body|html)\b[^<>]{0,80}>", re.I)
_INLINE = re.compile(r"</?(?:span|b|i|u|em|s|del|strong|code|font|small|mark|a)\b[^<>]{0,80}>", re.I)
_BACKTICK = re.compile(r"(?<=[A-Za-z])`(?=[A-Za-z]{1,2}\b)")
_MIXED = re.compile(r"[^\W\d_]+")
_STUTTER = re.compile(r"\b((?:i|we|sorry|cannot)(?: \w{1,9}){0,2})(?:(?:[.…,]+ ?| )\1\b)+")

_CONTRACTIONS = re.compile(
    r"\b(?:(?P<cannot>can not|cant|can ?' ?t|ca n't|can t|can'(?= ?[a-z]))"
    r"|(?P<will_not>wont|won ?' ?t|wo n't|won t|won'(?= ?[a-z]))"
    r"|(?P<verb>are|could|did|do|does|has|have|had|is|must|need|should|was|were|wo|would|ca)(?:n ?' ?t| n't|nt|n t)"
    r"|(?P<i>i)(?: ?' ?m|m| m)|(?P<subject>i|we|you|they|he|she|it|that|this|there|here|what|who|one|let)"
    r" ?' ?(?P<tail>m|re|ll|d|ve|s))(?!\w)"
)
_TAILS = {"m": "am", "re": "are", "ll": "will", "d": "would", "ve": "have", "s": "is"}


def readable(text: str) -> str:
    """The text as it is seen: entities and tags resolved, letters and quotation marks of other alphabets and styles as
    their ordinary forms, without marks above Latin letters, invisible characters or pictures. Case and lines stay."""
    if "&" in text:
        text = html.unescape(text)
    if "<" in text:
        text = _BLOCK.sub("\n", _INLINE.sub("", text))
    if not text.isascii():
        text = text.translate(_FOLDED)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
        text = "".join(_character(character) for character in unicodedata.normalize("NFKD", text))
        text = unicodedata.normalize("NFC", text)
        if 2 * sum(character.isascii() for character in text) > len(text):
            text = _MIXED.sub(_one_alphabet, text)
    return _BACKTICK.sub("'", text).replace("\r\n", "\n")


def spoken(text: str) -> str:
    """One line of `readable` text in lower case with its contractions written out: "can't" is "cannot", "I'm" is "i
    am". Apostrophes may be lost or set apart, words stammered."""
    return _STUTTER.sub(r"\1", _CONTRACTIONS.sub(_in_full, " ".join(text.casefold().split())))


@lru_cache(maxsize=4096)
def _character(character: str) -> str:
    code, kind = ord(character), unicodedata.category(character)
    if (
        0x300 <= code < 0x370 or 0x64B <= code <= 0x65F or kind in ("Cf", "Cs", "Co")
    ):  # marks on Latin or Arabic letters
        return ""
    if kind == "So" or 0xFE00 <= code <= 0xFE0F or 0x1F3FB <= code <= 0x1F3FF:
        return " "
    return " " if kind == "Zs" else character


def _one_alphabet(match: re.Match) -> str:
    word = match.group()
    if word.isascii() or not (len(word) == 1 or any(character.isascii() for character in word)):
        return word
    return word.translate(_LETTERS) if word.translate(_LETTERS).isascii() else word


def _in_full(match: re.Match) -> str:
    if match["cannot"]:
        return "cannot"
    if match["will_not"]:
        return "will not"
    if match["verb"]:
        return {"ca": "cannot", "wo": "will not"}.get(match["verb"], f"{match['verb']} not")
    if match["i"]:
        return "i am"
    tail = "us" if match["subject"] == "let" else _TAILS[match["tail"]]
    return f"{match['subject']} {tail}"
