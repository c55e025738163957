"""The SDK as this process has it: its import, its settings and logs, and its one network thread."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from hk_tick_collector.core.errors import ConfigError
from hk_tick_collector.sources.futu.later import import_ciphers, imported_later
from hk_tick_collector.sources.futu.no_home import lent_home

with lent_home() as home_is_lent, imported_later():
    import futu
    import futu.quote.quote_query
    from futu.common.constant import DEFAULT_INIT_PRI_KEY_FILE
    from futu.common.ft_logger import logger as sdk_logger
    from futu.common.network_manager import NetManager

    if home_is_lent:  # left open, the file's rotation after a day would look for a directory that is gone
        sdk_logger.file_logger.removeHandler(sdk_logger.fileHandler)
        sdk_logger.fileHandler.close()
        sdk_logger.file_logger.addHandler(logging.NullHandler())  # with no handler at all warnings would go to stderr


def configure(rsa_key_file: Path | None = None) -> None:
    """Process-wide settings of the SDK: quiet logs, daemon threads, encryption when a private key is given."""
    time.strptime("2026", "%Y")  # the SDK's first request for days would load what this needs, on the loop
    sdk_logger.file_level = logging.WARNING
    sdk_logger.console_level = logging.CRITICAL
    futu.SysConfig.enable_console_log(False)
    futu.SysConfig.set_all_thread_daemon(True)
    futu.SysConfig.set_client_info("hk-tick-collector", 1)
    if rsa_key_file is not None:
        _refuse_public_key(rsa_key_file)
        import_ciphers()
        futu.SysConfig.set_init_rsa_file(str(rsa_key_file))
        futu.SysConfig.enable_proto_encrypt(True)


def file_log() -> tuple[Path | None, int]:
    """Where the SDK's log files lie, None when it writes none for want of a HOME, and the least severe level (a number
    of ``logging``) that it writes there."""
    is_open = sdk_logger.fileHandler in sdk_logger.file_logger.handlers
    return Path(sdk_logger.log_path) if is_open else None, sdk_logger.file_level


def _refuse_public_key(rsa_key_file: Path) -> None:
    """The SDK ships a private key that everybody has: encrypting with it protects nothing."""
    shipped = Path(futu.__file__).parent / "common" / DEFAULT_INIT_PRI_KEY_FILE
    if shipped.exists() and rsa_key_file.read_bytes().split() == shipped.read_bytes().split():
        raise ConfigError(
            f"FUTU_RSA_KEY_FILE: {rsa_key_file} is the key that futu-api ships to everybody; make one of your own: "
            "openssl genrsa -traditional -out KEY 1024, and give OpenD the same file as rsa_private_key"
        )


def network_thread_alive() -> bool:
    """Is the SDK's one network thread running? When it is not, no connection of this process can work (point 4)."""
    manager = NetManager._default_inst
    return manager is None or manager._thread.is_alive()


def replace_dead_network_thread() -> bool:
    """Give the next connection a new network manager if the thread of the present one has died. True if replaced."""
    if network_thread_alive():
        return False
    with NetManager._default_inst_lock:
        NetManager._default_inst = None
    return True
