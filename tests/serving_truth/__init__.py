"""Whatever is killed, cut or exchanged under them: what readers hold in the end is what the simulator made."""
