"""Commands, one file each. They may import every box; nobody imports them."""
