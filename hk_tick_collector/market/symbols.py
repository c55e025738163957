"""The list of symbols to record: from a setting's text or a file, checked and brought into one form.

The one form is OpenD's own, ``HK.NNNNN``: market, dot, five digits. A bare number of at most five digits can only
mean a Hong Kong code here and is filled up with zeros; everything else that is not in the form is refused by name,
with the reason. Nothing is skipped silently, and all problems come back at once, of a file the first few. What stands
in a file and looks like no code is not repeated: a file of keys that is named by mistake stays unread in the journal.

Limits: a five-digit code says nothing about whether it is listed or a warrant, which only OpenD can tell.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path

from hk_tick_collector.core.errors import ConfigError
from hk_tick_collector.core.text import cut, printable

_CODE = re.compile(r"[0-9]{5}\Z")
_EXACT = re.compile(r"HK\.[0-9]{5}\Z")
_BARE = re.compile(r"[0-9]{1,5}\Z")
_SHORT_HK = re.compile(r"HK\.([0-9]{1,4})\Z", re.IGNORECASE)
_ANY_CASE = re.compile(r"HK\.([0-9]{5})\Z", re.IGNORECASE)
_SUFFIX_HK = re.compile(r"([0-9]{1,5})\.HK\Z", re.IGNORECASE)
_INDEX = re.compile(r"(?:HK\.)?(800[0-9]{3})\Z", re.IGNORECASE)
_HK_DERIVATIVE = re.compile(r"HK\.\S*[A-Za-z]", re.IGNORECASE)
_OTHER_MARKET = re.compile(r"([A-Za-z]{2,10})\.\S+\Z")
_SEPARATORS = re.compile(r"[\s,;]+")
_FILE_LIMIT_BYTES = 1_000_000
_FILE_NAME_CHARS = 100
_SHOWN_CHARS = 60
_FILE_PROBLEMS_SHOWN = 10
_LOOKS_LIKE_A_CODE = re.compile(
    r"([0-9]{1,8}|[A-Za-z]{2}\.[A-Za-z0-9_.-]{1,12}|[0-9]{1,6}\.[A-Za-z]{2}|@[\w./-]{1,60})\Z", re.ASCII
)


def is_hk_code(code: object) -> bool:
    """Is it the part of a symbol behind ``HK.``, as OpenD sends it? A code that is one may stand in a file's name."""
    return isinstance(code, str) and _CODE.match(code) is not None and code != "00000"


def file_name(symbol: str) -> str:
    """``symbol`` as a part of a file's name. Those that a recorder stores stand as they are; of one that is none of
    them, in a file of an earlier version perhaps, every other sign than letters and digits is escaped as in a URL, and
    a very long one ends in a checksum: no two symbols share a name, and none leaves its directory."""
    if _EXACT.match(symbol):
        return symbol
    escaped = "".join(sign if sign.isascii() and sign.isalnum() else _percent(sign) for sign in symbol)
    if len(escaped) <= _FILE_NAME_CHARS:
        return escaped or "%"
    checksum = hashlib.sha256(symbol.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{escaped[:_FILE_NAME_CHARS]}%{checksum}"


def _percent(sign: str) -> str:
    return "".join(f"%{byte:02X}" for byte in sign.encode("utf-8", "surrogatepass"))


def parse_symbols(text: str, base_dir: Path | None = None) -> list[str]:
    """``"HK.00700, 5 @more.txt"`` -> ``["HK.00700", "HK.00005", ...]``, in order, without repeats.

    Codes are separated by commas or white space. A word that begins with ``@`` names a file (relative to
    ``base_dir``, else to the working directory) with one code a line and comments after ``#``; its path holds no
    blank and no comma. Raises ``ConfigError`` with every problem, one a line; an empty list is a problem too.
    """
    symbols, problems = check_symbols(text, base_dir)
    if problems:
        raise ConfigError("\n".join(problems))
    return symbols


def check_symbols(text: str, base_dir: Path | None = None) -> tuple[list[str], list[str]]:
    """As ``parse_symbols``, but gives back (symbols that are right, problems as sentences) and never raises."""
    symbols: dict[str, None] = {}
    problems: list[str] = []
    words = [word for word in _SEPARATORS.split(text.strip()) if word]
    for word in words:
        if word.startswith("@"):
            _read_file(word[1:], base_dir, symbols, problems)
        else:
            _take(word, "", symbols, problems)
    if not symbols and not problems:
        problems.append("no symbol given: name at least one HK stock, for example HK.00700")
    return list(symbols), problems


def _read_file(name: str, base_dir: Path | None, symbols: dict[str, None], problems: list[str]) -> None:
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
    found = False
    wrong: list[str] = []
    for number, line in enumerate(content.splitlines(), start=1):
        for word in _SEPARATORS.split(line.partition("#")[0].strip()):
            if word:
                found = True
                _take(
                    word, f" ({path} line {number})", symbols, wrong, is_secret=_LOOKS_LIKE_A_CODE.match(word) is None
                )
    problems += wrong[:_FILE_PROBLEMS_SHOWN]
    if len(wrong) > _FILE_PROBLEMS_SHOWN:
        problems.append(
            f"symbols file {path}: {len(wrong) - _FILE_PROBLEMS_SHOWN} more words are no codes: is it the right file?"
        )
    if not found:
        problems.append(f"symbols file {path} holds no code")


class _WrongFile(Exception):
    """A file that holds no list, whatever is in it."""


def _text_of(path: Path) -> str:
    """A regular file's text; a device or a pipe, which may have no end, is not read. OSError as the disk says."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123 - a FIFO would hang in open()
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise _WrongFile("is no regular file")
        content = file.read(_FILE_LIMIT_BYTES + 1)
    if len(content) > _FILE_LIMIT_BYTES:
        raise _WrongFile(f"is larger than {_FILE_LIMIT_BYTES} bytes: is it the right file?")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _WrongFile("is not UTF-8 text") from None


def _take(word: str, where: str, symbols: dict[str, None], problems: list[str], *, is_secret: bool = False) -> None:
    """``is_secret``: a word of a file that may be the wrong one, a key or passwords; it is not told."""
    if _BARE.match(word) and int(word) > 0:
        symbols[f"HK.{int(word):05d}"] = None
    elif _EXACT.match(word) and word != "HK.00000":
        symbols[word] = None
    else:
        shown = f"a word of {len(word)} characters" if is_secret else printable(cut(word, _SHOWN_CHARS))
        problems.append(f"{shown}{where}: {_why_not(word)}")


def _why_not(word: str) -> str:
    """The reason a word is refused, and what to write instead where that is clear."""
    near = _SHORT_HK.match(word) or _ANY_CASE.match(word) or _SUFFIX_HK.match(word)
    other = _OTHER_MARKET.match(word)
    reason = "not an HK stock code; HK. and five digits are expected, for example HK.00700"
    if near is not None and int(near.group(1)) > 0:
        reason = f"not in the form HK.NNNNN (five digits); write HK.{int(near.group(1)):05d}"
    elif _INDEX.match(word):
        reason = "an index has no trades of its own; only HK stocks are recorded"
    elif _HK_DERIVATIVE.match(word):
        reason = "futures, options and index codes are not recorded; only HK stocks (HK. and five digits)"
    elif other is not None and other.group(1).upper() != "HK":
        reason = f"market {other.group(1).upper()} is not recorded; only HK stocks (HK. and five digits)"
    elif word.startswith("@"):
        reason = "a symbols file cannot name another file"
    return reason
