"""Calling somebody: what is wrong with a recorder, told once, to whoever shall know, also when the network is away."""
