"""Files of every schema version, as their programs left them, under the program of today."""
