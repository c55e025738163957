"""What a reading process and the server say to each other, over a pair of pipes.

To the process: one line of JSON a question. From it: frames of a letter, a length (4 bytes, big-endian) and a payload:
``H`` the head (JSON: status, headers), ``D`` a piece of the body, ``E`` the end (JSON: rows), ``P`` a problem (JSON),
which before ``H`` is the answer and behind it means that the body is broken.
"""

from __future__ import annotations

import struct

HEAD, DATA, END, PROBLEM = b"H", b"D", b"E", b"P"
FRAME = struct.Struct(">cI")
MAX_FRAME_BYTES = 1 << 20
MAX_QUESTION_BYTES = 1 << 20
