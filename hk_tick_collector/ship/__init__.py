"""Recorded days to ClickHouse, each row once, and proof that the copy is one: ``live`` sends rows as they are stored,
``keeper`` brings whole days and checks them by their content hash. Both read day files and archives and write to
neither; when ClickHouse is away, only they wait.
"""
