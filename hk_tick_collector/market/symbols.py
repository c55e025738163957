"""The list of symbols to record: from a setting's text or a file, checked and brought into one form.

What a symbol looks like is said by the market's ``SymbolGrammar`` (``Market.symbols``). What is not in its form is
refused by name, with the reason. Nothing is skipped silently, and all problems come back at once, of a file the first
few. What stands in a file and looks like no code is not repeated: a file of keys that is named by mistake stays unread
in the journal.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hk_tick_collector.core.errors import ConfigError
from hk_tick_collector.core.text import cut, printable

_EXACT = re.compile(r"HK\.[0-9]{5}\Z|(?!HK\.)[A-Z]{2,4}(\.[A-Z0-9]{1,12}){1,2}\Z")  # US..DJI has two dots together: no
_SEPARATORS = re.compile(r"[\s,;]+")
_FILE_LIMIT_BYTES = 1_000_000
_FILE_NAME_CHARS = 100
_SHOWN_CHARS = 60
_FILE_PROBLEMS_SHOWN = 10
_LOOKS_LIKE_A_CODE = re.compile(
    r"([0-9]{1,8}|[A-Za-z]{2}\.[A-Za-z0-9_.-]{1,12}|[0-9]{1,6}\.[A-Za-z]{2}|@[\w./-]{1,60})\Z", re.ASCII
)


class SymbolGrammar(Protocol):
    """How a market writes its symbols: the word before the first dot is the market's, all behind it the code, which may
    have dots of its own (``US.BRK.B``). A market whose codes are one pattern takes ``CodeGrammar``::

        CodeGrammar("US", r"[A-Z][A-Z0-9]{0,9}([.][A-Z]{1,3})?", example="US.AAPL", noun="US stock")
    """

    @property
    def example(self) -> str:
        """A symbol to show."""

    @property
    def noun(self) -> str:
        """What is meant, in the singular, for "name at least one ..."."""

    def symbol(self, word: str) -> str | None:
        """The symbol that a word means; None when it means none."""

    def why_not(self, word: str) -> str:
        """Why a word that means none is refused, and what to write instead where that is clear."""


@dataclass(frozen=True)
class CodeGrammar:
    """``PREFIX.CODE``, capital letters; ``prefix.code`` and ``CODE.PREFIX`` are taken for it.

    ``prefixes``: separated by ``|``; ``code``: a regular expression."""

    prefixes: str
    code: str
    example: str
    noun: str

    def symbol(self, word: str) -> str | None:
        """The word in the form, when it names the market."""
        code, dot, suffix = word.upper().rpartition(".")
        turned = f"{suffix}.{code}" if dot else ""
        form = rf"({self.prefixes})\.({self.code})"
        spellings = (word, word.upper(), turned)
        return next((spelling for spelling in spellings if re.fullmatch(form, spelling, re.ASCII)), None)

    def why_not(self, word: str) -> str:
        """With the form that was meant, where only the prefix is missing."""
        meant = f"{self.prefixes.split('|')[0]}.{word.upper()}"
        if self.symbol(meant):
            return f"not in the form {self.example}; write {meant}"
        if word.startswith("@"):
            return "a symbols file cannot name another file"
        prefix, dot, _ = word.partition(".")
        ours = self.prefixes.split("|")
        if dot and prefix.isalpha() and prefix.upper() not in ours:
            return (
                f"market {prefix.upper()} is not recorded here, only {' and '.join(ours)}; {self.example} is the form"
            )
        return f"no symbol of a {self.noun}; {self.example} is the form"


def file_name(symbol: str) -> str:
    """``symbol`` as a part of a file's name. ``HK.00700`` and ``US.BRK.B`` stand as they are; in one of another form,
    ``US..DJI`` or from a file of an earlier version, every other sign than letters and digits is escaped as in a URL,
    and a very long one ends in a checksum: no two symbols share a name, and none leaves its directory."""
    if _EXACT.match(symbol):
        return symbol
    escaped = "".join(sign if sign.isascii() and sign.isalnum() else _percent(sign) for sign in symbol)
    if len(escaped) <= _FILE_NAME_CHARS:
        return escaped or "%"
    checksum = hashlib.sha256(symbol.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{escaped[:_FILE_NAME_CHARS]}%{checksum}"


def _percent(sign: str) -> str:
    return "".join(f"%{byte:02X}" for byte in sign.encode("utf-8", "surrogatepass"))


def parse_symbols(text: str, grammar: SymbolGrammar, base_dir: Path | None = None) -> list[str]:
    """``"HK.00700, 5 @more.txt"`` -> ``["HK.00700", "HK.00005", ...]``, in order, without repeats.

    Codes are separated by commas or white space. A word that begins with ``@`` names a file (relative to
    ``base_dir``, else to the working directory) with one code a line and comments after ``#``; its path holds no
    blank and no comma. Raises ``ConfigError`` with every problem, one a line; an empty list is a problem too.
    """
    symbols, problems = check_symbols(text, grammar, base_dir)
    if problems:
        raise ConfigError("\n".join(problems))
    return symbols


def check_symbols(text: str, grammar: SymbolGrammar, base_dir: Path | None = None) -> tuple[list[str], list[str]]:
    """As ``parse_symbols``, but gives back (symbols that are right, problems as sentences) and never raises."""
    symbols: dict[str, None] = {}
    problems: list[str] = []
    words = [word for word in _SEPARATORS.split(text.strip()) if word]
    for word in words:
        if word.startswith("@"):
            _read_file(word[1:], grammar, base_dir, symbols, problems)
        else:
            _take(word, "", grammar, symbols, problems)
    if not symbols and not problems:
        problems.append(f"no symbol given: name at least one {grammar.noun}, for example {grammar.example}")
    return list(symbols), problems


def _read_file(
    name: str, grammar: SymbolGrammar, base_dir: Path | None, symbols: dict[str, None], problems: list[str]
) -> None:
    if not name:
        problems.append("@ without a file name: write @path, for example @symbols.txt")
        return
    path = Path(name).expanduser()
    if not path.is_absolute() and base_dir is not None:
        path = base_dir / path
    try:
        content = _text_of(path)
    except _WrongFile as error:
        problems.append(f"symbols file {path} {error}")
        return
    except OSError as error:
        problems.append(f"symbols file {path} cannot be read: {error.strerror or error}")
        return
    has_code = False
    wrong: list[str] = []
    for number, line in enumerate(content.splitlines(), start=1):
        for word in _SEPARATORS.split(line.partition("#")[0].strip()):
            if word:
                has_code = True
                where, is_secret = f" ({path} line {number})", _LOOKS_LIKE_A_CODE.match(word) is None
                _take(word, where, grammar, symbols, wrong, is_secret=is_secret)
    problems += wrong[:_FILE_PROBLEMS_SHOWN]
    if len(wrong) > _FILE_PROBLEMS_SHOWN:
        problems.append(
            f"symbols file {path}: {len(wrong) - _FILE_PROBLEMS_SHOWN} more words are not codes: is it the right file?"
        )
    if not has_code:
        problems.append(f"symbols file {path} holds no code")


class _WrongFile(Exception):
    """A file that holds no list, whatever is in it."""


def _text_of(path: Path) -> str:
    """A regular file's text; a device or a pipe, which may have no end, is not read. OSError as the disk says."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123 - a FIFO would hang in open()
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise _WrongFile("is not a regular file")
        content = file.read(_FILE_LIMIT_BYTES + 1)
    if len(content) > _FILE_LIMIT_BYTES:
        raise _WrongFile(f"is larger than {_FILE_LIMIT_BYTES} bytes: is it the right file?")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _WrongFile("is not UTF-8 text") from None


def _take(
    word: str,
    where: str,
    grammar: SymbolGrammar,
    symbols: dict[str, None],
    problems: list[str],
    *,
    is_secret: bool = False,
) -> None:
    """``is_secret``: a word of a file that may be the wrong one, a key or passwords; it is not told."""
    symbol = grammar.symbol(word)
    if symbol is not None:
        symbols[symbol] = None
        return
    shown = f"a word of {len(word)} characters" if is_secret else printable(cut(word, _SHOWN_CHARS))
    problems.append(f"{shown}{where}: {grammar.why_not(word)}")
