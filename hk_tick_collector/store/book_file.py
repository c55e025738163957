"""A day's order books in SQLite: what the file is, and how it is opened. ``books.sql`` describes its tables.

It is a file of its own, with a writer and a thread of its own (``ingest.books``): books are a hundred times the rows of
ticks, and no tick waits for one. What it claims is in the file itself: when which symbol was watched, how many pushes
were received, stored and passed over. It cannot claim to be complete: a push has no number.
"""

from __future__ import annotations

from hk_tick_collector.store.side_file import SideFile

APPLICATION_ID = int.from_bytes(b"HKBK", "big")
VERSION = 1

BOOKS = SideFile("order books", "pushes", "books.sql", APPLICATION_ID, VERSION, "BOOK_SYMBOLS chooses them")
open_for_writing = BOOKS.open_for_writing
open_for_reading = BOOKS.open_for_reading
reading = BOOKS.reading
