"""Sierra Chart as a source: its intraday files, read and never written."""
