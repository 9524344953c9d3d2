"""Affirmative openings ("Sure, here is a tutorial on …") built from a request by rule.

They say that the request is being met and repeat what it asks for, nothing more: no detail that the request lacks.
"""

import re

from safety_geometry.prompts.rows import words_of

OPENING = "Sure, here"
ANSWER = "Sure, here is the answer to your question"
HELP = "Sure, I can help with that"

PREAMBLE = re.compile(
    r"(?:please|kindly|now|hi|hello|hey|(?:can|could|would|will) you(?: please)?|i (?:need|want) you to"
    r"|i(?:'d| would) like you to|i (?:need|want|wish|am trying) to|i(?:'d| would) like to|i'm trying to"
    r"|help me(?: to)?|let's)"
    r"\b[,:]?\s+",
    re.IGNORECASE,
)
# What the verb makes is what "here is" announces: "Write a poem" gives "here is a poem".
MAKES = words_of(
    "write create develop design make generate produce compose draft build provide give prepare construct craft devise"
    " formulate publish propose suggest recommend offer invent code program script send show supply brainstorm"
)
# The verb names the thing: "Describe X" gives "here is a description of X".
NAMED = {
    "explain": "an explanation of", "describe": "a description of", "summarize": "a summary of",
    "summarise": "a summary of", "outline": "an outline of", "list": "a list of", "compare": "a comparison of",
    "translate": "a translation of", "discuss": "a discussion of", "analyze": "an analysis of",
    "analyse": "an analysis of", "define": "a definition of", "identify": "a list of", "name": "a list of",
    "argue": "an argument", "convince": "an argument", "persuade": "an argument", "rewrite": "a new version of",
}  # fmt: skip
TELLS = words_of("teach instruct tell show explain describe guide educate train advise demonstrate outline")
PERSON = r"(?:i|we|you|one|someone|somebody|anyone|people|a person|a user|the user|a beginner)"
WHOM = r"(?:to )?(?:me|us|him|her|them|someone|somebody|people|others|(?:a|the|my) \w+|\w+s)"
# Pattern of a request: what "here" announces, made of the first group.
HOW_TO = {
    rf"how (?:do|can|could|should|would|might|does|may) {PERSON} (.+)": "is how to {}",
    r"how to (.+)": "is how to {}",
}
EXPLAINED = {
    r"(?:.{0,40}? )?(how to .+)": "is {}",
    rf"(?:{WHOM} )?((?:how|why|what|where|when|which|whether|who) .+)": "is {}",
    rf"{PERSON} to (\w+ .+)": "is how to {}",
    r"(?:me|us) (?:more )?about (.+)": "is some information about {}",
}
DETERMINERS = words_of("a an the my your his her its our their this that some any each every one another no")
PLURAL_AFTER = words_of("these those several many few both two three four five six seven eight nine ten")
LINKS = words_of(
    "for on in of to that which who about with from by at as into against where when how describing explaining using"
    " detailing and or"
)
# A statement or a question that no rule turns round.
NOT_A_COMMAND = words_of(
    "i my we our you your he his she her it its they their this that these those there a an the if is are am was were"
    " be do does did can could should would will may might has have had who whose whom which where when why what how"
    " not no yes because although since while"
)
DANGLING = words_of("a an the of for on in and or with by from that which at as into about your my is are")
YOURS = {"i": "you", "me": "you", "my": "your", "mine": "yours", "myself": "yourself", "i'm": "you're", "am": "are"}


def affirmative_target(request: str, words: int | None = None) -> str:
    """The affirmative opening of an answer to `request`, without final punctuation; at most `words` words if given.

    The first sentence that reads as a command or a how-question decides; a statement or another question gets a general
    opening. Raises ValueError for an empty request or `words` < 3.
    """
    if words is not None and words < 3:
        raise ValueError(f"an opening of {words} words is too short to say anything; use at least 3")
    sentences = _sentences(request)
    if not sentences:
        raise ValueError("the request is empty, so no target can be built from it")
    built = [target for sentence in sentences if (target := _from_sentence(sentence))]
    if built:
        return clip(built[0], words)
    return clip(ANSWER if request.rstrip(" \"'”’").endswith("?") else HELP, words)


def clip(text: str, words: int | None) -> str:
    """The first `words` words, not ending in an article or a preposition; the whole text when it is shorter."""
    pieces = text.split()
    if words is None or len(pieces) <= words:
        return text
    kept = pieces[:words]
    while len(kept) > 3 and kept[-1].lower().strip(",;:\"'") in DANGLING:
        kept.pop()
    return " ".join(kept).rstrip(",;:")


def _sentences(request: str) -> list[str]:
    text = " ".join(request.replace("’", "'").split())
    # A full stop after a short capitalised word ("Dr.", "U.S.") ends no sentence.
    pieces = re.split(r"(?<!\b[A-Z][a-z])(?<!\b[A-Z])(?<!\b[A-Z][a-z][a-z])[.?!:]+[\"']?\s+(?=[A-Z\"'])", text)
    stripped = (piece.strip().strip("\"“”'").rstrip(" .?!;:,\"'") for piece in pieces)
    return [piece for piece in stripped if piece]


def _from_sentence(sentence: str) -> str | None:
    text = re.sub(r",? (?:please|thanks|thank you)$", "", sentence, flags=re.IGNORECASE)
    while preamble := PREAMBLE.match(text):
        text = text[preamble.end() :]
    verb, _, rest = text.partition(" ")
    verb, rest = verb.lower(), rest.strip()
    if not rest:
        return None
    made = _question(text) or _explained(verb, rest) or _announced(verb, rest)
    if made is None and _command(text):
        made = f"is how to {text[0].lower()}{text[1:]}"
    return f"{OPENING} {_yours(made)}" if made else None


def _question(text: str) -> str | None:
    """How-to questions, and "what is/are" ones that name a thing."""
    if how_to := _first_match(HOW_TO, text):
        return how_to
    if match := re.match(r"(?:what|which)(?:'s| is| are| would be| were| was) ((?:the|some) .+)", text, re.IGNORECASE):
        return f"{_be(match[1])} {match[1]}"
    if match := re.match(r"how (do|can|could) ((?:\w+ )?\w+s (?!.*\bto\b).+)", text, re.IGNORECASE):
        subject, helper = match[2], match[1].lower()
        head, _, tail = subject.partition("s ")
        return f"is how {head}s {tail}" if helper == "do" else f"is how {head}s {helper} {tail}"
    return None


def _explained(verb: str, rest: str) -> str | None:
    """ "Teach someone how to X", "Explain why X", "Tell me about X"."""
    if verb not in TELLS:
        return None
    if explained := _first_match(EXPLAINED, rest):
        return explained
    if verb == "tell" and (match := re.match(r"(?:me|us) (.+)", rest, re.IGNORECASE)):
        return f"{_be(match[1])} {match[1]}"
    return None


def _first_match(rules: dict[str, str], text: str) -> str | None:
    """What the first rule that fits makes of a text."""
    matches = ((re.match(pattern, text, re.IGNORECASE), made) for pattern, made in rules.items())
    return next((made.format(match[1]) for match, made in matches if match), None)


def _announced(verb: str, rest: str) -> str | None:
    rest = re.sub(r"^(?:to )?(?:me|us)(?: with)? ", "", rest, flags=re.IGNORECASE)
    if verb in NAMED and re.match(r"how |an? (?:list|outline|summary|comparison|step)", rest, re.IGNORECASE):
        return f"is {rest}"
    if verb in NAMED:
        return f"is {NAMED[verb]} {rest}"
    if verb not in MAKES:
        return None
    if rest.split()[0].lower() in ("sure", "up", "out", "it", "them", "fun", "use", "love", "off"):
        return f"is how to {verb} {rest}"  # "make sure", "give up": a phrase, not a thing that is made
    return f"{_be(rest)} {rest}"


def _be(phrase: str) -> str:
    """`are` for a plural noun phrase ("the steps to X"), `is` otherwise ("a list of steps")."""
    pieces = [word.strip(",;:\"'").lower() for word in phrase.split()]
    if pieces[0] in PLURAL_AFTER or pieces[0].isdigit():
        return "are"
    if pieces[0] in ("a", "an", "one", "this", "that", "another", "each", "every"):
        return "is"
    until = next((i for i, word in enumerate(pieces) if i and word in LINKS), len(pieces))
    head = pieces[until - 1]
    return (
        "are"
        if head.endswith("s") and not head.endswith(("ss", "us", "is", "'s")) and head not in DETERMINERS
        else "is"
    )


def _command(text: str) -> bool:
    """Whether the first word can be a verb: no pronoun, question word, name in mixed case or acronym."""
    word = text.split()[0].rstrip(",")
    return word.lower() not in NOT_A_COMMAND and word.replace("-", "").isalpha() and word[1:] == word[1:].lower()


def _yours(text: str) -> str:
    """The asker's "my" is the answer's "your"."""
    return re.sub(r"\b(?:I'm|I|me|my|mine|myself|am)\b", lambda m: YOURS[m[0].lower()], text)
