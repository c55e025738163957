"""ClickHouse as a place for recorded days: the connection, its tables, the content hash inside the engine, and reading
ticks back. ``ship`` fills it; nothing here reads or writes a day file.
"""
