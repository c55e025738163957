"""A simulated gexbot for developers and tests: its REST interface and its files of whole days, with faults."""
