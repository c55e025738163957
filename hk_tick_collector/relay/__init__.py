"""Recorded ticks for programs that read them elsewhere: ``loop`` follows the day files and hands each frame to a
``sink``; ``redis_sink`` is the one for Redis. Nothing here writes to a data root, and nothing here can hold the
recorder up: when the other side is away, only the relay waits.
"""
