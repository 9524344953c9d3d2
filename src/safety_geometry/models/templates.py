"""Chat templates that others wrote are programs: tried here with a limit on time and memory, before any job renders
with them."""

import contextlib
import re
import signal
import threading
from collections.abc import Iterator, Sequence

from safety_geometry.models.chat import ChatFormat, TemplateError

SECONDS = 10
MEMORY = 2**30  # bytes beyond what the process has
COMMENT, OTHER_FILES = re.compile(r"\{#.*?#\}", re.S), re.compile(r"\{%[-+]?\s*(include|import|from|extends)\b")
LONGEST = 10**6  # characters around two short messages
TALKS = (
    ([{"role": "user", "content": "x"}], True),
    ([{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}], False),
)


def checked_format(tokenizer, system: str | None, ends: Sequence[int] = ()) -> ChatFormat:
    """`ChatFormat` of a model that comes in.

    Raises:
        TemplateError: as `ChatFormat`; or the template reads other files, does not end, fills the memory, or fails in
            another way.
    """
    every = tokenizer.chat_template
    for text in every.values() if isinstance(every, dict) else [every or ""]:
        refuse_other_files(text)
    if every:
        _try(tokenizer, [] if system is None else [{"role": "system", "content": system}])
    try:
        return ChatFormat(tokenizer, system, ends)
    except TemplateError:
        raise
    except Exception as error:  # a program can fail in any way
        raise TemplateError(f"the chat template cannot be rendered ({type(error).__name__}: {error})") from error


def _try(tokenizer, system: list[dict]) -> None:
    try:
        with limits(SECONDS, MEMORY):
            texts = [
                tokenizer.apply_chat_template([*system, *talk], tokenize=False, add_generation_prompt=generate)
                for talk, generate in TALKS
            ]
    except TimeoutError as error:
        raise TemplateError(f"the chat template does not end within {SECONDS} seconds") from error
    except MemoryError as error:
        raise TemplateError("the chat template needs more memory than any conversation") from error
    except Exception:  # ChatFormat meets it again, and says what it means
        return
    if (longest := max(map(len, texts))) > LONGEST:
        raise TemplateError(f"the chat template writes {longest} characters around two short messages")


def refuse_other_files(text: str) -> None:
    """Raise TemplateError when a template includes, imports or extends another: there are none."""
    for tag in OTHER_FILES.finditer(COMMENT.sub("", text)):
        raise TemplateError(f"the chat template has a tag {tag[1]!r} for another file, and it has to stand alone")


@contextlib.contextmanager
def limits(seconds: int, memory: int) -> Iterator[None]:
    """Raise TimeoutError or MemoryError beyond them; outside the main thread, or where the system has none, there are
    no limits."""
    try:
        import resource
    except ImportError:
        resource = None
    if threading.current_thread() is not threading.main_thread() or resource is None:
        yield
        return

    def ring(*_) -> None:
        raise TimeoutError

    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        if (now := _address_space()) is not None:
            most = now + memory
            resource.setrlimit(resource.RLIMIT_AS, (most if before[1] < 0 else min(most, before[1]), before[1]))
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


def _address_space() -> int | None:
    """Bytes of address space of this process; None where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="utf-8") as file:
            import resource

            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return None
