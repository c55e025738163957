"""The live channel: ticks as they are recorded, over WebSocket and server-sent events, from the day files alone.

``hub`` follows each data root once and keeps the newest rows in a ``ring``; a ``session`` is a reader: a position in
that ring, or, behind it, in the files. ``app`` is what the network sees. Nothing here imports Arrow.
"""
