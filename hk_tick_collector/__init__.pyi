from hk_tick_collector.client.api import Recordings as Recordings
from hk_tick_collector.client.coverage import Coverage as Coverage
from hk_tick_collector.client.coverage import DayInfo as DayInfo
from hk_tick_collector.client.coverage import SymbolCoverage as SymbolCoverage
from hk_tick_collector.client.default import bars as bars
from hk_tick_collector.client.default import certificate as certificate
from hk_tick_collector.client.default import connect as connect
from hk_tick_collector.client.default import coverage as coverage
from hk_tick_collector.client.default import days as days
from hk_tick_collector.client.default import iter_batches as iter_batches
from hk_tick_collector.client.default import live as live
from hk_tick_collector.client.default import load as load
from hk_tick_collector.client.default import local as local
from hk_tick_collector.client.errors import BadQuestion as BadQuestion
from hk_tick_collector.client.errors import Busy as Busy
from hk_tick_collector.client.errors import Damaged as Damaged
from hk_tick_collector.client.errors import DayPacked as DayPacked
from hk_tick_collector.client.errors import IncompleteData as IncompleteData
from hk_tick_collector.client.errors import NoData as NoData
from hk_tick_collector.client.errors import NotProven as NotProven
from hk_tick_collector.client.errors import RecordingsError as RecordingsError
from hk_tick_collector.client.errors import ServerError as ServerError
from hk_tick_collector.client.errors import UnknownSymbol as UnknownSymbol
from hk_tick_collector.client.errors import Unreadable as Unreadable

__version__: str
