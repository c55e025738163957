"""The documents say what is: every command in them runs, or says in a comment what it needs that is not here.

Blocks of ``bash`` and ``python`` run in the order of the page, in one copy of the project for each page, like a reader
would type them. ``<!-- background -->`` before a block keeps it running beside the ones after it, and
``<!-- needs: ... -->`` names what this place lacks. A block without either that is not run is a failure.
"""

from __future__ import annotations

import contextlib
import doctest
import os
import re
import shlex
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
import yaml

from hk_tick_collector.app.config import OWN_PREFIXES
from hk_tick_collector.cli.all_settings import all_settings_table
from hk_tick_collector.core.unused import THREADS
from hk_tick_collector.opend_sim.handlers_subscription import SERVED_SUB_TYPES
from hk_tick_collector.records.columns import TICKS
from hk_tick_collector.sources.futu.mapping import DIRECTIONS, PUSH_DATA_TYPES, TICK_TYPES
from hk_tick_collector.store import layout
from hk_tick_collector.store.connect import SCHEMA_SQL
from tests import forked
from tests.harness import Process, Recorder, Simulator, clean_env, ended, wait_until
from tests.scratch_tree import ROOT, copy_tree, make_venv
from tests.tickctl import record_day, tickctl

NEEDS = {
    "opend", "Sierra Chart", "systemd", "package index", "docker", "another machine", "maintainer", "whole suite",
    "HKEX's page", "books", "Schwab", "TastyTrade", "bucket", "gexbot", "SinoPac",
}  # fmt: skip
# What every program reads that speaks S3.
S3_VARIABLES = {
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_EC2_METADATA_DISABLED", "AWS_REGION", "AWS_ENDPOINT_URL_S3",
}  # fmt: skip
RUNNABLE = ("bash", "python")
# Whose commands are the console scripts themselves; those of the other pages are forked (``tests.forked``), but for
# what a page leaves running in the background.
FIRST_PAGES = ("README.md", "docs/getting-started.md")
DEADLINE_SEC = 60.0
CHINESE = ".zh-Hant.md"
# A page's example data root and its ports, which may be in use here.
DATA_ROOT, OPEND_PORT, CONTROL_PORT = "/data/sqlite/HK", "11111", "11112"
OTHER_PORT = re.compile(r"\b18[789]\d\d\b")  # of the simulators of other sources

# Blocks that are typed otherwise here: the demo for a shorter time, and this suite must not call itself.
INSTEAD = {
    "bash scripts/demo.sh": "bash scripts/demo.sh --seconds 2",
    "bash scripts/test.sh": "bash scripts/test.sh --help",
}
# Tools of Debian's that a page may use and that need not be here: a block that needs one is then left out, and said.
OPTIONAL_TOOLS = ("lsof", "fuser", "lslocks", "curl", "promtool")
# The sqlite3 command line is a package of its own; without it the same SQL runs through Python's module.
SQLITE3_STAND_IN = """\
#!/usr/bin/env python3
import sqlite3, sys
from pathlib import Path
given = [word for word in sys.argv[1:] if not word.startswith("-")]
conn = sqlite3.connect(given[0], uri=True, isolation_level=None)
sql = ""
for line in (given[1] if len(given) > 1 else sys.stdin.read()).splitlines(keepends=True):
    sql += line
    if sqlite3.complete_statement(sql) or len(given) > 1 and sql == given[1]:
        for row in conn.execute(sql):
            print(*row, sep="|")
        sql = ""
"""


@dataclass(frozen=True)
class Block:
    """A fenced block: language, text, what the comment before it says, and where it stands."""

    language: str
    text: str
    comment: str
    where: str = field(compare=False)


def read_blocks(page: Path) -> list[Block]:
    pattern = r"(?:^<!-- (?P<comment>.*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$"
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            match["language"],
            match["text"],
            match["comment"] or "",
            f"{page.relative_to(ROOT)}:{text[: match.start('text')].count(chr(10)) + 1}",
        )
        for match in re.finditer(pattern, text, re.MULTILINE | re.DOTALL)
    ]


def markdown_files() -> list[Path]:
    inside = (ROOT / "docs", ROOT / "benchmarks", ROOT / "deploy", ROOT / ".github")
    return sorted([*ROOT.glob("*.md"), *(path for directory in inside for path in directory.rglob("*.md"))])


class Reader:
    """Types the blocks of one page in a copy of the project, with a recording going on at the example data root."""

    def __init__(self, tree: Path, opend_port: int) -> None:
        self.tree = tree
        self.data_root = tree.parent / "HK"
        self.run_blocks: list[Block] = []
        self.printed = ""
        self._opend_port = opend_port
        self._control_port = free_port()
        self._other_ports: dict[str, str] = {}
        self._background: list[Process] = []
        home = tree.parent / "reader-home"
        self._env = clean_env(home, PATH=f"{self._bin()}:{os.environ['PATH']}", TMPDIR=self._tmp())
        for name in ("DATA_ROOT", "PYTHON", "TZ"):
            self._env.pop(name, None)
        self._quick_path = self._env["PATH"]

    def be_quick(self) -> None:
        """From now on ``hk-tickctl`` and ``hk-opend-sim`` are forked where the shell looks for them."""
        directory = self.tree.parent / "quick"
        for program in (forked.TICKCTL, forked.OPEND_SIM):
            forked.stand_in(program, self.tree / ".venv" / "bin" / forked.SCRIPTS[program], directory)
        self._quick_path = f"{directory}:{self._env['PATH']}"

    def type(self, block: Block) -> None:
        """Run one block; what it says on failure goes into the assertion."""
        script = self._here(block)
        if block.comment == "background":
            self._start(script)
        elif re.search("hk-(opend|dxlink|gexbot|schwab|shioaji)-sim check", script):
            self._until_it_succeeds(block, script)
        else:
            done = self._run(block, script)
            assert done.returncode == 0, f"{block.where} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            assert "Traceback" not in done.stderr, f"{block.where}:\n{done.stderr}"
            self.printed += done.stdout
        self.run_blocks.append(block)

    def end(self) -> list[int]:
        """Stop what runs in the background, last one first; the exit codes."""
        codes = []
        for process in reversed(self._background):
            os.killpg(process.proc.pid, signal.SIGTERM)
            codes.append(process.wait(60))
        return codes

    def kill(self) -> None:
        for process in self._background:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.proc.pid, signal.SIGKILL)
            process.end()

    def _here(self, block: Block) -> str:
        text = block.text
        for typed, instead in INSTEAD.items():
            text = re.sub(rf"^{re.escape(typed)}$", instead, text, flags=re.MULTILINE)
        # Judgements: this recording began in mid-session, maybe just now, and 1 is a right answer.
        judging = r"^(hk-tickctl (?:status|sources|day|gaps|eod)\b.*)$"
        text = re.sub(judging, r"\1 || [ $? -eq 1 ]", text, flags=re.MULTILINE)
        text = text.replace(DATA_ROOT, str(self.data_root)).replace(CONTROL_PORT, str(self._control_port))
        text = text.replace(OPEND_PORT, str(self._opend_port))
        text = OTHER_PORT.sub(lambda port: self._other_ports.setdefault(port[0], str(free_port())), text)
        # The simulator that a page starts takes the port that the page's programs connect to.
        return re.sub(
            r"^hk-opend-sim run (?!.*--port)", f"hk-opend-sim run --port {self._opend_port} ", text, flags=re.M
        )

    def _command(self, language: str, script: str) -> list[str]:
        shell = ["bash", "-euo", "pipefail", "-c", script]
        return shell if language == "bash" else [str(self.tree / ".venv" / "bin" / "python"), "-c", script]

    def _run(self, block: Block, script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command(block.language, script), cwd=self.tree, env={**self._env, "PATH": self._quick_path},
            capture_output=True, text=True, timeout=DEADLINE_SEC, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def _start(self, script: str) -> None:
        environment = {**self._env, "FUTU_PORT": str(self._opend_port)}
        process = Process(["env", "-C", str(self.tree), "bash", "-euc", script], environment)
        self._background.append(process)
        others = "dxlink|gexbot|schwab|shioaji"
        process.wait_for(f"(opend|{others})_sim_ready |backfill_done |({others})_subscribed ")

    def _until_it_succeeds(self, block: Block, script: str) -> None:
        """A check beside a running market: "some seconds later" is not a time."""
        deadline = time.monotonic() + DEADLINE_SEC
        while (done := self._run(block, script)).returncode != 0:
            assert time.monotonic() < deadline, f"{block.where}:\n{done.stdout}{done.stderr}"
            time.sleep(0.5)

    def _bin(self) -> str:
        stand_ins = self.tree.parent / "bin"
        stand_ins.mkdir()
        if not any((Path(place) / "sqlite3").exists() for place in os.environ["PATH"].split(":")):
            (stand_ins / "sqlite3").write_text(SQLITE3_STAND_IN)
            (stand_ins / "sqlite3").chmod(0o755)
        return f"{self.tree / '.venv' / 'bin'}:{stand_ins}"

    def _tmp(self) -> Path:
        (self.tree.parent / "tmp").mkdir()
        return self.tree.parent / "tmp"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    tree = copy_tree(tmp_path / "tree")
    make_venv(tree)
    reader = Reader(tree, free_port())
    try:
        yield reader
    finally:
        reader.kill()


@pytest.fixture
def recorder(tmp_path: Path, reader: Reader) -> Iterator[Recorder]:
    """What the commands about a running recorder and its files work on."""
    symbols = "HK.00700,HK.00005"
    simulator = Simulator(tmp_path / "sim", "--symbols", symbols, "--always-open", "--rate", "50")
    with ended(simulator):
        recorder = Recorder(reader.data_root, simulator.port, symbols)
        with ended(recorder):
            wait_until(lambda: recorder.rows() > 100, "rows")
            yield recorder


def pages_with_commands() -> list[str]:
    """All pages, but those whose commands other tests run."""
    elsewhere = {
        "README.zh-CN.md",  # the same commands as README.md: test_both_readmes_have_the_same_commands
        "CONTRIBUTING.md",  # .ci/run and the tools it runs
        "docs/python.md",  # tests/docs/test_python_doc.py
        "docs/api.md",  # tests/docs/test_api_doc.py
        "docs/monitoring.md",  # tests/integration/test_metrics.py
        "docs/deployment/systemd.md",  # tests/systemd, on a machine of their own
        "benchmarks/README.md",  # tests/integration/test_benchmarks_smoke.py
    }
    pages = {str(page.relative_to(ROOT)): page for page in markdown_files()}
    with_commands = {
        name for name, page in pages.items() if any(block.language in RUNNABLE for block in read_blocks(page))
    }
    translated = {name for name in with_commands if name.endswith(CHINESE)}  # tests/docs/test_site.py
    return sorted(with_commands - elsewhere - translated)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", pages_with_commands())
def test_every_command_runs_or_says_what_it_needs(request: pytest.FixtureRequest, name: str) -> None:
    blocks = [block for block in read_blocks(ROOT / name) if block.language in RUNNABLE]
    assert blocks, name
    blocks = [block for block in blocks if not missing_tools(block)]
    needing = [block for block in blocks if block.comment.startswith("needs: ")]
    assert all(block.comment.removeprefix("needs: ") in NEEDS for block in needing), needing
    if needing == blocks:  # nothing to type here, so no copy of the project and no recorder
        return
    reader: Reader = request.getfixturevalue("reader")
    recorder: Recorder = request.getfixturevalue("recorder")
    if name not in FIRST_PAGES:
        reader.be_quick()
    if name == "docs/configuration.md":  # for somebody who has a file already
        (reader.tree / ".env").write_text((ROOT / ".env.example").read_text(encoding="utf-8"))
    if name in ("docs/tickctl.md", "docs/backtest.md"):  # it is run where the recorder's settings are
        (reader.tree / ".env").write_text(f"DATA_ROOT={reader.data_root}\nFUTU_SYMBOLS=HK.00700,HK.00005\n")
    for block in blocks:
        if block not in needing:
            reader.type(block)
    assert [block for block in blocks if block not in reader.run_blocks] == needing
    assert set(reader.end()) <= {0}
    if name == "README.md":
        assert labels(sample_of("recorder ")) <= labels(reader.printed), reader.printed
    if name == "docs/runbook/operations.md":
        recorder.wait_for("Current thread 0x")  # it was asked for its stacks
        recorder.wait_for("recorder_stopped exit_code=0")  # and told to stop
        with contextlib.closing(sqlite3.connect(reader.tree / "salvaged.db")) as conn:
            assert conn.execute("SELECT COUNT(*) FROM ticks").fetchone()[0] > 100


def sample_of(beginning: str) -> str:
    """A sample of output in the README, by its first word."""
    (sample,) = [
        block.text
        for block in read_blocks(ROOT / "README.md")
        if block.comment == "sample" and block.text.startswith(beginning)
    ]
    return sample


def labels(text: str) -> set[str]:
    """What begins its lines."""
    return {re.split(r"\s{2,}", line.strip())[0] for line in text.splitlines() if re.search(r"\S\s{2,}\S", line)}


def missing_tools(block: Block) -> list[str]:
    return [
        tool for tool in OPTIONAL_TOOLS if re.search(rf"^{tool} ", block.text, re.MULTILINE) and not shutil.which(tool)
    ]


@pytest.mark.parametrize("page", markdown_files(), ids=lambda page: str(page.relative_to(ROOT)))
def test_comments_before_blocks_are_known_ones(page: Path) -> None:
    for block in read_blocks(page):
        kind, _, value = block.comment.partition(": ")
        known = block.comment in ("", "background", "sample") or (kind == "needs" and value in NEEDS)
        known = known or (kind == "sample" and block.language == "text")
        assert known, f"{block.where}: {block.comment}"
        assert block.language, f"{block.where}: name the language, so that no command hides from these tests"


def test_a_block_that_fails_is_noticed(reader: Reader) -> None:
    with pytest.raises(AssertionError, match=r"page:1 ended with 3"):
        reader.type(Block("bash", "exit 3", "", "page:1"))
    with pytest.raises(AssertionError, match="no such table"):
        reader.type(Block("python", "import sqlite3; sqlite3.connect(':memory:').execute('SELECT * FROM x')", "", "x"))
    assert reader.run_blocks == []


def test_a_forked_command_is_the_one_that_a_reader_types(reader: Reader) -> None:
    """What it prints and how it ends; one that another command is piped into ends by the same signal."""
    asked = ("hk-tickctl --version", "hk-opend-sim --version", "hk-tickctl day --no-such", "hk-tickctl config --json")
    asked = (
        *asked,
        "hk-tickctl config | head -n 1",
        "hk-tickctl doctor --help",
        "echo no | hk-tickctl schwab import -",
    )
    told = []
    for _ in ("the scripts", "forked"):
        done = [reader._run(Block("bash", text, "", "page"), text) for text in asked]
        told.append([(ended_as.returncode, ended_as.stdout, ended_as.stderr) for ended_as in done])
        reader.be_quick()
    assert told[0] == told[1]
    assert [code for code, _, _ in told[0]][:3] == [0, 0, 2]
    where = reader._run(Block("bash", "", "", "page"), "command -v hk-tickctl")
    assert where.stdout.strip() == str(reader.tree.parent / "quick" / "hk-tickctl")


def test_both_readmes_have_the_same_commands() -> None:
    english, chinese = (
        [
            (block.language, block.text, block.comment)
            for block in read_blocks(ROOT / name)
            if block.language in RUNNABLE
        ]
        for name in ("README.md", "README.zh-CN.md")
    )
    assert english == chinese
    assert [text for _, text, _ in english[:2]] == ["bash scripts/demo.sh\n", "bash scripts/test.sh\n"]


def test_both_readmes_show_the_same_samples() -> None:
    english, chinese = (
        [(block.comment, block.text) for block in read_blocks(ROOT / name) if block.comment.startswith("sample")]
        for name in ("README.md", "README.zh-CN.md")
    )
    assert english == chinese
    assert len(english) == 3


def test_both_readmes_lead_to_every_page() -> None:
    english, chinese = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))
    pages = [page for page in (ROOT / "docs").rglob("*.md") if not page.name.endswith(CHINESE)]
    assert len(pages) > 30
    for page in pages:
        translated = page.with_name(f"{page.stem}{CHINESE}")
        here, there = (str(path.relative_to(ROOT)) for path in (page, translated if translated.exists() else page))
        assert f"]({here})" in english
        assert f"]({there})" in chinese


@pytest.mark.parametrize(
    "name",
    [
        "README.zh-CN.md",
        "docs/runbook/production-onepager.md",
        *(str(page.relative_to(ROOT)) for page in markdown_files() if page.name.endswith(CHINESE)),
    ],
)
def test_chinese_pages_have_one_word_for_one_thing(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for word, not_word in (
        ("日檔", "當日檔案"),
        ("歸檔", "封存"),
        ("甚麼", "什麼"),
        ("網絡", "網路"),
        ("日常運作", "維運"),
        ("完整性證明", "證書"),
        ("密鑰", "金鑰"),
    ):
        assert not_word not in text, f"write {word}"


def test_samples_are_what_the_commands_print(tmp_path: Path) -> None:
    """On two recorded days, of which the second lacks two ticks; ``...`` stands for anything."""
    record_day(tmp_path / "HK", "20261126")
    record_day(tmp_path / "HK", "20261127", lost=(7, 8))
    samples = [block for block in read_blocks(ROOT / "README.md") if block.comment.startswith("sample: ")]
    assert samples
    for block in samples:
        done = tickctl(*shlex.split(block.comment.removeprefix("sample: ")), data_root=tmp_path / "HK")
        same = doctest.OutputChecker().check_output(
            block.text, done.stdout, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        )
        assert same, f"{block.where} shows\n{block.text}\nand the command prints\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("name", ["docs/data.md", f"docs/data{CHINESE}"])
def test_the_schema_shown_is_the_schema(name: str) -> None:
    (shown,) = [block.text for block in read_blocks(ROOT / name) if block.language == "sql"]
    columns = []
    for script in (shown, SCHEMA_SQL):
        with contextlib.closing(sqlite3.connect(":memory:")) as conn:
            conn.executescript(script)
            columns.append(conn.execute("PRAGMA table_info(ticks)").fetchall())
    assert columns[0] == columns[1]


def test_the_schema_shown_says_what_each_column_means() -> None:
    (shown,) = [block.text for block in read_blocks(ROOT / "docs/data.md") if block.language == "sql"]
    meanings = dict(re.findall(r"^  (\w+) .*?-- (.*)$", shown, re.MULTILINE))
    assert meanings == {column.name: column.meaning for column in TICKS}


@pytest.mark.parametrize("name", ["docs/data.md", f"docs/data{CHINESE}"])
def test_what_lies_under_a_data_root_is_on_the_page(name: str) -> None:
    names = [value for key, value in vars(layout).items() if re.fullmatch(r"[A-Z]+_(DIR|FILE)", key)]
    assert len(names) > 8
    table = (ROOT / name).read_text(encoding="utf-8").rpartition("\n## ")[2]
    assert [entry for entry in names if f"`{entry}" not in table] == []


@pytest.mark.parametrize("page", markdown_files(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    prose = without_blocks(page)
    for target in re.findall(r"\]\((?!https?://|mailto:)([^)\s]+)\)", prose):
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), f"{page.name}: {target}"
        assert path.is_relative_to(ROOT), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(path), f"{page.name}: {target}"


@pytest.mark.parametrize("page", markdown_files(), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_heading_is_a_line_of_its_own(page: Path) -> None:
    """One had swallowed the sentence after it."""
    lines = without_blocks(page).splitlines()
    for before, line, after in zip(["", *lines], lines, [*lines[1:], ""], strict=False):
        if re.match("#+ ", line):
            assert not before.strip() or before.startswith("<!--"), f"{page.name}: {line}"
            assert not after.strip(), f"{page.name}: {line}"
            assert "](" not in line, f"{page.name}: {line}"
            assert not re.search(r"[:.\u3002\uff1a]$", line), f"{page.name}: {line}"


@pytest.mark.parametrize("page", markdown_files(), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_list_of_contents_has_every_section(page: Path) -> None:
    text = without_blocks(page)
    listed = re.findall(r"^- \[([^\]]+)\]\(#[^)]+\)$", text, re.MULTILINE)
    if len(listed) > 2:
        assert listed == re.findall(r"^## (.+)$", text, re.MULTILINE), page.name


@pytest.mark.parametrize("page", markdown_files(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_named_in_code_style_exists(page: Path) -> None:
    for name in re.findall(
        r"`((?:docs|scripts|tests|benchmarks|deploy|hk_tick_collector)/[\w./-]*)`", without_blocks(page)
    ):
        assert (ROOT / name).exists(), f"{page.name}: {name}"


@pytest.mark.parametrize("page", markdown_files(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_key_is_a_real_setting(page: Path) -> None:
    settings = setting_keys()
    other_names = {
        *TICK_TYPES.values(),
        *DIRECTIONS.values(),
        *PUSH_DATA_TYPES.values(),
        *SERVED_SUB_TYPES.values(),
        *source_constants(),
        *script_variables(),
        *S3_VARIABLES,
        THREADS,
        "HK_CLICKHOUSE_PASSWORD",  # of who reads, as those of S3
        "ES_SPX",  # a ticker
        *("NYSE_BOOK", "NASDAQ_BOOK", "OPTIONS_BOOK", "LEVELONE_OPTIONS"),  # services of Schwab's
        # Of Shioaji's own gateway.
        *("SJ_API_KEY", "SJ_SEC_KEY", "SJ_PRODUCTION", "SJ_HTTP_ADDR", "SJ_HOME_PATH"),
    }
    text = re.sub(r"<[A-Z_]+>", "", page.read_text(encoding="utf-8"))  # without placeholders
    for word in set(re.findall(r"\b[A-Z]+(?:_[A-Z0-9]+)+(?![\w*]|\.md)", text)):
        ours = word.startswith(OWN_PREFIXES) or word not in other_names
        if ours and not word.startswith(("PIP_", "OWN_")):
            assert word in settings, f"{page.name}: {word}"


@pytest.mark.parametrize("page", markdown_files(), ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_take_the_hong_kong_date_without_tzdata(page: Path) -> None:
    """A slim Debian has no zone files: there TZ=Asia/Hong_Kong means UTC, and the date is yesterday's until 8:00."""
    for block in read_blocks(page):
        assert "Asia/Hong_Kong" not in block.text, block.where


@pytest.mark.parametrize("form", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda f: f.name)
def test_issue_forms_are_forms(form: Path) -> None:
    """GitHub ignores a form with a mistake in it, without a word."""
    content = yaml.safe_load(form.read_text(encoding="utf-8"))
    if form.name == "config.yml":
        assert all(set(link) == {"name", "url", "about"} for link in content["contact_links"])
        return
    assert {"name", "description", "body"} <= set(content)
    inputs = [part for part in content["body"] if part["type"] != "markdown"]
    assert len({part["id"] for part in inputs}) == len(inputs) > 0
    for part in inputs:
        assert part["type"] in {"input", "textarea", "dropdown", "checkboxes"}
        assert part["attributes"]["label"]


@cache
def setting_keys() -> set[str]:
    return {info.key for info in all_settings_table()}


@cache
def script_variables() -> set[str]:
    """Variables that the scripts read from the environment."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "scripts").glob("*.sh")]
    return {name for text in texts for name in re.findall(r"\$\{?([A-Z]+(?:_[A-Z]+)+)", text)}


def without_blocks(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@cache
def source_constants() -> set[str]:
    """Constants of the code that documents may name."""
    return {
        name
        for path in (ROOT / "hk_tick_collector").rglob("*.py")
        for name in re.findall(
            r"^_?([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)\b.*=", path.read_text(encoding="utf-8"), re.MULTILINE
        )
    }
