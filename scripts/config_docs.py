"""Writes ``docs/configuration.md``, its Chinese page and ``.env.example`` from the settings; ``--check`` only compares.

The Chinese of each text of the settings stands beside its English in ``config_docs.zh-Hant.toml``: a text that was
changed has none any more, so that both pages say the same.

Exit codes: 0 written, or the files are current; 1 a text has no Chinese, or with ``--check`` a file differs from the
settings class.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from hk_tick_collector.app.config import OWN_PREFIXES, SettingInfo, order_rule_texts
from hk_tick_collector.app.config_sources import READERS_PREFIXES
from hk_tick_collector.cli.all_settings import all_settings_table

ROOT = Path(__file__).resolve().parent.parent

CATALOGUE = Path(__file__).with_name("config_docs.zh-Hant.toml")

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
- An empty value counts as not given. Of a key on several lines the last one counts; `--check-config`, `doctor` and
  `hk-tickctl config` name such a key and its lines.
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


@dataclass(frozen=True)
class Words:
    """What a page says by itself, around the texts of the settings."""

    introduction: str
    columns: str
    rules: str
    names: str
    required: str
    empty: str
    list_mark: str = ", "
    name_mark: str = ": "
    stop: str = "."


ENGLISH = Words(
    INTRODUCTION, "| key | default | allowed | meaning |", "## Values that go together", NAMES, "required", "empty"
)


class Catalogue:
    """The Chinese of each English text; ``missing`` and ``unused`` are what does not fit any more."""

    _NUMBER = re.compile(r"a (?P<whole>whole )?number from (?P<low>\S+) to (?P<high>\S+?)(?: \((?P<unit>.+)\))?")

    def __init__(self, path: Path) -> None:
        sections = tomllib.loads(path.read_text(encoding="utf-8"))
        self.words = Words(**sections.pop("page"))
        self._forms = {name: sections["numbers"].pop(name) for name in ("number", "whole", "unit")}
        self._units: dict[str, str] = sections.pop("numbers")
        self._texts: dict[str, str] = {
            english: chinese for texts in sections.values() for english, chinese in texts.items()
        }
        self._used: set[str] = set()
        self.missing: list[str] = []

    def __call__(self, text: str) -> str:
        """``text`` in Chinese; as it is, and missing, where nobody translated it."""
        if number := self._NUMBER.fullmatch(text):
            unit = number["unit"] and self._look_up(self._units, number["unit"])
            bounds = self._forms["whole" if number["whole"] else "number"].format(
                low=number["low"], high=number["high"]
            )
            return bounds + (self._forms["unit"].format(unit=unit) if unit else "")
        return self._look_up(self._texts, text)

    def unused(self) -> list[str]:
        """Texts that no setting has any more."""
        return [text for text in (*self._units, *self._texts) if text not in self._used]

    def _look_up(self, texts: dict[str, str], text: str) -> str:
        self._used.add(text)
        if text not in texts and text not in self.missing:
            self.missing.append(text)
        return texts.get(text, text)


def configuration_md(words: Words = ENGLISH, translated: Callable[[str], str] = str) -> str:
    """The whole of a page: ``words`` of its own, and ``translated`` gives the texts of the settings in its language."""
    prefixes, serve_prefixes = (
        words.list_mark.join(f"`{name}`" for name in names) for names in (OWN_PREFIXES, READERS_PREFIXES)
    )
    parts = [words.introduction.format(prefixes=prefixes, serve_prefixes=serve_prefixes)]
    for group, infos in groupby(all_settings_table(), key=lambda info: info.group):
        rows = [f"### {translated(group)}\n", words.columns, "|---|---|---|---|"]
        rows += [
            f"| `{info.key}` | {_default(info, words)} | {translated(info.allowed)} | {translated(info.about)} |"
            for info in infos
        ]
        parts.append("\n".join(rows) + "\n")
    renamed = [info for info in all_settings_table() if info.attribute != info.key.lower()]
    names = "\n".join(f"- `{info.key}`{words.name_mark}`{info.attribute}`" for info in renamed) + "\n"
    rules = "\n".join(f"- {translated(text)}{words.stop}" for text in order_rule_texts())
    parts += [f"{words.rules}\n\n{rules}\n", words.names + names]
    return "\n".join(parts)


def _default(info: SettingInfo, words: Words) -> str:
    if info.default is None:
        return words.required
    return f"`{info.default}`" if info.default else words.empty


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
    """Write the files, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is out of date")
    check = parser.parse_args(argv).check
    in_chinese = Catalogue(CATALOGUE)
    chinese_page = configuration_md(in_chinese.words, in_chinese)
    complaints = [f"has no Chinese yet: {text}" for text in in_chinese.missing]
    complaints += [f"no setting says this any more: {text}" for text in in_chinese.unused()]
    for complaint in complaints:
        print(f"scripts/{CATALOGUE.name}: {complaint}")
    stale = False
    for path, text in (
        (ROOT / "docs" / "configuration.md", configuration_md()),
        (ROOT / "docs" / "configuration.zh-Hant.md", chinese_page),
        (ROOT / ".env.example", env_example()),
    ):
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale = True
            print(
                f"{path.relative_to(ROOT)}: {'out of date; run python scripts/config_docs.py' if check else 'written'}"
            )
            if not check:
                path.write_text(text, encoding="utf-8")
    return 1 if complaints or (check and stale) else 0


if __name__ == "__main__":
    sys.exit(main())
