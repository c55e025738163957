"""Runs the recorder with a sampler inside that tells where the CPU of each thread goes. Started by the benchmarks.

    python benchmarks/thread_profile.py REPORT

Every two milliseconds each thread's new CPU time (the kernel's count, so waiting costs nothing) is booked on the
function it is in and on those that called it. REPORT is written at the end: CPU of each thread, then its functions by
their own time and with what they call. The sampler takes the interpreter lock to look, so samples lie where Python
lets go of it: a short C call is booked on the Python function around it, and the recorder runs some 5 % slower.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType

from hk_tick_collector.app import daemon  # noqa: F401 (loaded before the first sample)
from hk_tick_collector.main import main as run_recorder

SAMPLE_SEC = 0.002
FUNCTIONS_SHOWN = 20


class Sampler(threading.Thread):
    """Books CPU time on functions until ``stop``."""

    def __init__(self) -> None:
        super().__init__(name="sampler", daemon=True)
        self._ended = threading.Event()
        self._seen_ns: dict[int, int] = {}
        self.cpu_ns: Counter[str] = Counter()
        self.own_ns: dict[str, Counter[str]] = {}
        self.with_called_ns: dict[str, Counter[str]] = {}

    def run(self) -> None:
        while not self._ended.wait(SAMPLE_SEC):
            frames = sys._current_frames()
            for thread in threading.enumerate():
                frame = frames.get(thread.ident or 0)
                if frame is not None and thread is not self and thread.native_id is not None:
                    self._book(thread.name, self._new_ns(thread.native_id), frame)

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def report(self) -> str:
        """The tables as text."""
        total_ns = sum(self.cpu_ns.values()) or 1
        lines = [f"CPU {total_ns / 1e9:.2f} s"]
        for name, cpu_ns in self.cpu_ns.most_common():
            lines.append(f"\n{name}: {cpu_ns / 1e9:.2f} s, {cpu_ns / total_ns:.0%}")
            for title, counts in (("own", self.own_ns[name]), ("with what it calls", self.with_called_ns[name])):
                lines.append(f"  {title}:")
                lines += [
                    f"    {ns / total_ns:6.1%}  {function}" for function, ns in counts.most_common(FUNCTIONS_SHOWN)
                ]
        return "\n".join(lines) + "\n"

    def _new_ns(self, native_id: int) -> int:
        try:
            run_ns = int(Path(f"/proc/self/task/{native_id}/schedstat").read_text().split()[0])
        except OSError:  # it has ended
            return 0
        before_ns = self._seen_ns.get(native_id, run_ns)  # what a thread did before it was first seen is not booked
        self._seen_ns[native_id] = run_ns
        return run_ns - before_ns

    def _book(self, thread: str, new_ns: int, frame: FrameType) -> None:
        if not new_ns:
            return
        self.cpu_ns[thread] += new_ns
        self.own_ns.setdefault(thread, Counter())[_name(frame)] += new_ns
        names = set()
        caller: FrameType | None = frame
        while caller is not None:
            names.add(_name(caller))
            caller = caller.f_back
        for name in names:
            self.with_called_ns.setdefault(thread, Counter())[name] += new_ns


def _name(frame: FrameType) -> str:
    path = Path(frame.f_code.co_filename)
    return f"{path.parent.name}/{path.name} {frame.f_code.co_name}"


def main() -> int:
    """Run the recorder; its exit code. Imports are not in the report."""
    sampler = Sampler()
    sampler.start()
    code = run_recorder([])
    sampler.stop()
    Path(sys.argv[1]).write_text(sampler.report())
    return code


if __name__ == "__main__":
    sys.exit(main())
