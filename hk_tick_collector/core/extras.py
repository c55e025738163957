"""Libraries that this project can do without: which extra brings one that is not installed, in one sentence for every
program and for the Python API."""

from __future__ import annotations

# What an extra brings that no other one does; everything else that may be absent is of ``tools``.
_BROUGHT_BY = {
    "serve": ("fastapi", "httpx", "orjson", "starlette", "uvicorn", "websockets"),
    "redis": ("redis",),
    "metrics": ("prometheus_client",),
    "alert": ("apprise",),
    "s3": ("minio", "urllib3"),
    "screen": ("textual",),
}


def how_to_install(extra: str) -> str:
    """The command, from an index and in a checkout."""
    return f"pip install 'hk-tick-collector[{extra}]' or, in a checkout, pip install '.[{extra}]'"


def extra_with(library: str) -> str:
    """The extra that brings a library."""
    return next((extra for extra, libraries in _BROUGHT_BY.items() if library in libraries), "tools")


def missing_library(exc: ModuleNotFoundError) -> str:
    """The library that an import did not find. Raises ``exc`` when it is a module of this project: that is a fault."""
    library = (exc.name or "").partition(".")[0]
    if library in ("", "hk_tick_collector"):
        raise exc
    return library
