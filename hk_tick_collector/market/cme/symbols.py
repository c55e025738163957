"""``CME.ESZ26``: root, month letter and year of a contract, whichever of the group's exchanges it trades on."""

from hk_tick_collector.market.symbols import CodeGrammar

SYMBOLS = CodeGrammar("CME", r"[A-Z0-9]{1,12}", example="CME.ESZ26", noun="CME Group future")
