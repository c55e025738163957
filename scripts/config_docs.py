"""Writes ``docs/configuration.md`` and ``.env.example`` from the settings class; ``--check`` only compares.

Exit codes: 0 written, or the files are current; 1 with ``--check``, a file differs from the settings class.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from itertools import groupby
from pathlib import Path

from hk_tick_collector.app.config import OWN_PREFIXES, SettingInfo, order_rule_texts
from hk_tick_collector.app.config_sources import READERS_PREFIXES
from hk_tick_collector.cli.all_settings import all_settings_table

ROOT = Path(__file__).resolve().parent.parent

INTRODUCTION = """\
<!-- Written by scripts/config_docs.py from hk_tick_collector/app/config.py, serve/settings.py, relay/settings.py,
ship/settings.py and alert/settings.py: change those. -->

# Configuration

Check a configuration without starting anything:

```bash
hk-tick-collector --env-file .env --check-config
```

Begin with a copy of the example, which holds every setting with its default. Only `FUTU_SYMBOLS` has to be given:

```bash
cp .env.example .env
```

## How values are found

- Settings come from the environment and from a file of `KEY=value` lines. The file is the one given with `--env-file`,
  else `.env` in the working directory if there is one. The environment wins over the file, the file over the default.
- An empty value counts as not given.
- In the file, quotes around a value are optional, `#` begins a comment, and `$` stands for itself. systemd reads the
  same file with `EnvironmentFile=`, but takes a `#` behind a value as a part of it: keep comments on their own lines.
- A relative path in the file starts at the file's directory, one in the environment at the working directory.
- Everything is checked before anything starts. All problems are printed at once, each with key, value and what is
  allowed, and the exit code is 78, on which the systemd unit does not restart.
- A misspelt key is an error, too. In the file that is any unknown key that begins with one of
  {prefixes},
  {serve_prefixes},
  or that nearly is one of the keys below; in the environment, which belongs to other programs as well, only a near
  miss with such a beginning. Other keys are left alone. The recorder leaves keys of serving to the programs that serve,
  and they leave the recorder's to it.

## Settings
"""

NAMES = """\
## Names in the code

An attribute of `Settings`, `ServeSettings`, `RelaySettings`, `ShipSettings` or `AlertSettings` is the key in
lower case; these end in their unit instead:

"""

EXAMPLE_HEAD = """\
# Settings of hk-tick-collector and of the programs that serve its ticks, each with its default. Copy to .env and
# set FUTU_SYMBOLS.
# docs/configuration.md explains them. Written by scripts/config_docs.py from the settings class.
"""
EXAMPLE_SYMBOLS = "HK.00700,HK.09988,HK.03690"


def configuration_md() -> str:
    """The whole of ``docs/configuration.md``."""
    prefixes, serve_prefixes = (", ".join(f"`{name}`" for name in names) for names in (OWN_PREFIXES, READERS_PREFIXES))
    parts = [INTRODUCTION.format(prefixes=prefixes, serve_prefixes=serve_prefixes)]
    for group, infos in groupby(all_settings_table(), key=lambda info: info.group):
        rows = [f"### {group}\n", "| key | default | allowed | meaning |", "|---|---|---|---|"]
        rows += [f"| `{info.key}` | {_default(info)} | {info.allowed} | {info.about} |" for info in infos]
        parts.append("\n".join(rows) + "\n")
    renamed = [info for info in all_settings_table() if info.attribute != info.key.lower()]
    names = "\n".join(f"- `{info.key}`: `{info.attribute}`" for info in renamed) + "\n"
    rules = "\n".join(f"- {text}." for text in order_rule_texts())
    parts += [f"## Values that go together\n\n{rules}\n", NAMES + names]
    return "\n".join(parts)


def _default(info: SettingInfo) -> str:
    if info.default is None:
        return "required"
    return f"`{info.default}`" if info.default else "empty"


def env_example() -> str:
    """The whole of ``.env.example``: a file that works as it is."""
    parts = [EXAMPLE_HEAD]
    for group, infos in groupby(all_settings_table(), key=lambda info: info.group):
        lines = [f"# --- {group} ---"]
        for info in infos:
            comment = f"{info.about} Allowed: {info.allowed}."
            lines += textwrap.wrap(comment, 110, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
            lines.append(f"{info.key}={EXAMPLE_SYMBOLS if info.default is None else info.default}")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def main(argv: list[str] | None = None) -> int:
    """Write both files, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is out of date")
    check = parser.parse_args(argv).check
    stale = False
    for path, text in (
        (ROOT / "docs" / "configuration.md", configuration_md()),
        (ROOT / ".env.example", env_example()),
    ):
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale = True
            print(
                f"{path.relative_to(ROOT)}: {'out of date; run python scripts/config_docs.py' if check else 'written'}"
            )
            if not check:
                path.write_text(text, encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
