"""The Python API: recorded ticks as tables, from local files or from a server, by the same calls.

``import hk_tick_collector as hk`` loads nothing of this; the first call of a function does.
"""
