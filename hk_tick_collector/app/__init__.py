"""Configuration, composition, ordered start and stop. Nobody imports it."""
