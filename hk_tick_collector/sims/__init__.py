"""What simulators of sources have in common: their command, their truth files, their pace, and their servers."""
