"""The Chinese pages use one word for one thing, the one that Hong Kong uses, and lead to each other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hk_tick_collector.quality.report_file import CHINESE_FILE
from hk_tick_collector.serve.web.files import STATIC
from tests.docs.test_readme import CHINESE, ROOT, markdown_files

ONE_PAGER = ROOT / "docs/runbook/production-onepager.md"
PAGES = [page for page in markdown_files() if page.name.endswith((CHINESE, ".zh-CN.md"))] + [ONE_PAGER]
TEXTS = [*PAGES, ROOT / "mkdocs.yml", STATIC / "text.js", STATIC / "complaints.js", CHINESE_FILE]

# The word that is used: others for the same thing. A lookbehind keeps two words that only meet out of it.
WORDS = {
    "帳戶": "戶口|賬戶|賬號|帳號",
    "資料": "數據",  # 資料目錄, 資料庫, 資料來源
    "質素": "品質|質量",
    "錄製程式": "記錄程式|錄制",
    "即時通道": "即時頻道|實時",
    "執行緒": "線程",
    "程序": "進程",
    "訊號": "信號",
    "訊息": "信息|消息",
    "評級": "等級",
    "監察": "監看",
    "函數": "函式",
    "儲存桶": "(?<!needs: )(?<![a-z_])bucket(?![a-z_])",
    "經紀排隊": "經紀佇列|經紀隊列",
    "完整性證明": "證明書",
    "truth 檔案": "真相檔",
    "一筆成交": "宗成交|[一兩多]宗",
    "納秒": "奈秒",
    "裏": "裡",
    "着": "著",
    "檔案": "文檔|文件夾",
    "目錄": "資料夾",
    "用戶": "使用者",
    "網絡": "網路",
    "軟件": "軟體",
    "伺服器": "服務器",
    "介面": "接口|界面",
    "欄位": "字段",
    "快取": "緩存",
    "記憶體": "(?<!之)內存",
    "預設": "默認|缺省",
    "設定": "配置|設置",
    "登入": "登錄",
    "連結": "鏈接",
    "畫面": "屏幕",
    "佇列": "隊列",
    "匯出": "導出",
    "支援": "支持",
    "日誌": "日志",
    "儲存庫": "倉庫",
    "運作": "運維|維運",
    "香港": "本港",
    "附加套件": "(?:需要|任何) extra",
    "退出碼": "結束碼",
    "印出": "打印|列印",
    "憑證": "證書",
    "試訂閱": "試行訂閱",
    "持續交易時段": "連續交易|持續時段",  # as the exchange calls it
}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_one_thing_has_one_word(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    misused = {other[0]: word for word, others in WORDS.items() for other in re.finditer(others, text)}
    assert not misused, f"{path}: write the second for the first: {misused}"


def test_no_character_is_simplified() -> None:
    simplified = set("们这说时为会对开关们实现数据库录制档设错误发过还让给读写应该网络务将从进问题启动运试单双条")
    traditional = set("們這說時為會對開關實現數據庫錄制檔設錯誤發過還讓給讀寫應該網絡務將從進問題啟動運試單雙條")
    for path in TEXTS:
        assert not (simplified - traditional) & set(path.read_text(encoding="utf-8")), path


def test_a_chinese_page_leads_to_the_chinese_page_where_there_is_one() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+\.md)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if target.startswith("http") or target.endswith((CHINESE, ".zh-CN.md")):
                continue
            chinese = (page.parent / target).with_name(Path(target).name.removesuffix(".md") + CHINESE)
            is_other_language = page.name == "README.zh-CN.md" and target == "README.md"
            assert is_other_language or not chinese.exists(), f"{page}: {target} is there in Chinese"


def test_every_page_for_users_is_there_in_chinese() -> None:
    """CONTRIBUTING says which pages are in English alone: those that only contributors read."""
    pages = {page for page in (ROOT / "docs").rglob("*.md") if page != ONE_PAGER and not page.name.endswith(CHINESE)}
    english_only = {page.name for page in pages if not page.with_name(page.name.removesuffix(".md") + CHINESE).exists()}
    assert english_only == {"architecture.md", "performance.md", "releasing.md", "testing.md"}


def test_the_dashboards_page_names_its_pages_as_the_dashboard_does() -> None:
    text = (STATIC / "text.js").read_text(encoding="utf-8")
    app = (STATIC / "app.js").read_text(encoding="utf-8")
    titles = re.findall(r'\["\w*", "(\w+)", \w+\]', app)
    assert len(titles) == 10
    for language, named in (("zh-Hant.md", {title: re.findall(rf'"{title}": "(.+?)"', text)[0] for title in titles}),
                            ("md", {title: title for title in titles})):  # fmt: skip
        page = (ROOT / f"docs/dashboard.{language}").read_text(encoding="utf-8")
        table = re.findall(r"^\| (\S[^|]*?) \|", page, re.MULTILINE)[1:11]
        assert table == list(named.values())
