"""Signals from outside: what a strategy or a model sends is stored with the tick that was newest when it came.

``inbox`` receives and reads back, ``routes`` are its addresses. What is stored is ``store/signals.py``'s, and from
there the live channel and the relay take it.
"""
