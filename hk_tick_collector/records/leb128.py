"""LEB128: whole numbers of up to 64 bits as few bytes, as payloads of books and of broker queues have them."""

from __future__ import annotations


def put_numbers(out: bytearray, *numbers: int) -> None:
    """Add numbers that are not negative."""
    for number in numbers:
        rest = number
        while rest > 0x7F:
            out.append(rest & 0x7F | 0x80)
            rest >>= 7
        out.append(rest)


def numbers_of(payload: bytes) -> list[int]:
    """All numbers of a payload. ValueError when it ends within one, or one has more than 64 bits."""
    numbers, number, shift = [], 0, 0
    for byte in payload:
        number |= (byte & 0x7F) << shift
        if byte & 0x80:
            shift += 7
            if shift > 63:
                raise ValueError("a number of more than 64 bits")
        else:
            numbers.append(number)
            number = shift = 0
    if shift:
        raise ValueError("a payload that is cut off")
    return numbers


def zigzag(number: int) -> int:
    """Small numbers of either sign as small ones without."""
    return number * 2 if number >= 0 else -number * 2 - 1


def unzigzag(number: int) -> int:
    """Back again."""
    half, is_negative = divmod(number, 2)
    return -half - 1 if is_negative else half
