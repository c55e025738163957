"""Recorded ticks for others, over HTTP: ``api`` answers questions, ``live`` sends ticks as they come.

What both share stands here: settings, keys, limits, who is let in (``auth``), and errors (``problems``). Nothing here
imports Arrow, and only ``api`` and ``live`` import a web framework.
"""
