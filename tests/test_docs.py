"""The documents say what is true: their examples run, their references are up to date."""

from __future__ import annotations

import contextlib
import copy
import doctest
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

import dgrec
from dgrec import sample
from dgrec.format import Signal, utc_text
from dgrec.replay.exports import FORMATS
from dgrec.replay.exports import format as export_format
from tests.analyzed import everything, record_analyzed
from tests.factory import (
    edited,
    later,
    make_rows,
    new_metadata,
    write_published,
    write_session,
)
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
EXAMPLES = sorted((ROOT / "examples").glob("**/*.py"))
#: What only analyzers give.
ADDED = re.compile(r"\b(zones|lines|line_crossings|zone_events|detected_events|in_zone)\b")


def _blocks(page: Path, language: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def _recorded_together(folder: Path) -> list[Path]:
    """Write two sessions of a group, one of which has signals and a mark."""
    group = {"id": "01a2249d-4ca9-7eac-a06f-9eedb810f4d7", "name": "walk"}
    paths = []
    for name in ("walk-door", "walk-yard"):
        rows = make_rows(20)
        if name == "walk-door":
            rows = [row._replace(signals=[Signal("rpm", row.completed_ns, 1200.0)]) for row in rows]
        mark = {"kind": "mark", "at": utc_text(rows[9].completed_ns), "text": "lamp on"}
        metadata = {**new_metadata(name, group=group), "events": [mark]}
        paths.append(write_session(folder / f"{name}.parquet", rows, metadata))
    return paths


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_sql_examples_run_and_find_something(page: Path, tmp_path: Path) -> None:
    rows = make_rows(60)
    rows[40:] = [later(row, 5_000_000_000) for row in rows[40:]]  # a stall; the sample has none
    stalled = write_session(tmp_path / "stalled.parquet", rows)
    analyzed = tmp_path / "analyzed.parquet"  # nor what analyzers add
    record_analyzed(analyzed, everything())
    together = _recorded_together(tmp_path)
    published = write_published(tmp_path / "published.parquet")
    for query in _blocks(page, "sql"):
        if "read_parquet" in query:  # the example that does without dgrec
            plain = duckdb.connect()
            rows = plain.execute(query.replace("session.parquet", str(sample.SESSION))).fetchall()
            plain.close()
        elif not ADDED.search(query) and re.search("signals|events|group_id|ASOF", query):
            with dgrec.connect(*together) as connection:
                rows = connection.execute(query).fetchall()
        else:
            path = stalled if "stalls(" in query else sample.SESSION
            path = analyzed if ADDED.search(query) else path
            path = published if re.search("targets|published_ms", query) else path
            with dgrec.open(path) as session:
                rows = session.sql(query).to_arrow_table().to_pylist()
        assert rows, query


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_examples_run(page: Path, tmp_path: Path) -> None:
    code = "\n".join(_blocks(page, "python"))
    if not code:
        pytest.skip("no Python on this page")
    (tmp_path / "session.parquet").write_bytes(sample.SESSION.read_bytes())
    (tmp_path / "faces.mp4").write_bytes(sample.CLIP.read_bytes())
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", [*PAGES, *EXAMPLES], ids=lambda page: page.name)
def test_pages_and_examples_need_no_other_import_than_dgrec(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".md":
        text = "\n".join(_blocks(page, "py(?:thon)?"))
    inner = re.findall(r"^\s*(?:from dgrec\.|import dgrec\.).*", text, flags=re.MULTILINE)
    assert inner == []


@pytest.mark.slow
@pytest.mark.parametrize("program", ["make_commands.py", "make_architecture.py"])
def test_pages_that_are_made_are_up_to_date(program: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / program), "--check"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_command_has_help_and_a_runnable_example() -> None:
    from dgrec.cli import gather

    for name, command in gather().commands.items():
        assert command.help, name
        assert command.short_help, name
        assert command.epilog, name
        assert command.epilog.startswith(f"Example: dgrec {name} "), name
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert getattr(parameter, "help", None), f"{name} {parameter.name}"


def _commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each dgrec command in a page."""
    text = text.replace("\\\n", " ")
    lines = re.findall(r"`(dgrec [^`\n]+)`", text)
    for block in re.findall(r"^```(?:bash|sh|console)\n(.*?)^```", text, flags=re.M | re.S):
        lines += [line.strip().removeprefix("$ ") for line in block.splitlines()]
    for line in lines:
        if line.startswith("dgrec "):
            with contextlib.suppress(ValueError):  # SQL that goes on in the next line
                yield list(itertools.takewhile(_is_argument, shlex.split(line, comments=True)[1:]))


def _is_argument(word: str) -> bool:
    return word not in ("|", ">", ">>", "&&", "--", "&", ";")


def test_every_command_and_option_in_the_pages_exists() -> None:
    """Those of systemd, a camera or a broker that is not there are not run."""
    from dgrec.cli import gather

    known = gather().commands
    count = 0
    for page in (*PAGES, ROOT / "examples/README.md", ROOT / "CHANGELOG.md"):
        for name, *words in filter(None, _commands(page.read_text(encoding="utf-8"))):
            if name.startswith("-"):
                continue
            options = {
                o for param in known[name].params for o in (*param.opts, *param.secondary_opts)
            }
            used = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
            assert used <= options | {"--help"}, f"{page.name}: dgrec {name} {words}"
            count += 1
    assert count > 250


def test_the_format_page_names_every_column() -> None:
    from dgrec.format import DETECTION, SCHEMA

    text = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
    for column in [*SCHEMA.names, *(field.name for field in DETECTION)]:
        assert f"`{column}`" in text, column


def test_nothing_that_ships_names_a_path_of_the_machine_it_was_made_on() -> None:
    data = sample.SESSION.read_bytes()
    for root in (str(ROOT.parent), str(Path.home())):
        assert len(root) < 4 or root.encode() not in data
    with dgrec.open(sample.SESSION) as session:
        source = session.metadata["source"]
        assert "path" not in source
        assert source["relative"] == "faces.mp4"
        assert "name" not in session.metadata["host"]


@pytest.mark.parametrize(
    "name", [name for name in dgrec.__all__ if callable(getattr(dgrec, name, None))]
)
def test_public_names_have_examples_that_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = getattr(dgrec, name)
    if isinstance(public, type) and issubclass(public, dgrec.DgrecError):
        pytest.skip("an error")
    monkeypatch.chdir(tmp_path)
    # A format that an example defines is gone with it.
    monkeypatch.setattr(export_format, "FORMATS", copy.copy(FORMATS.load()))
    shutil.copy(sample.SESSION, "session.parquet")
    shutil.copy(sample.CLIP, "faces.mp4")
    Path("recordings").mkdir()
    for day in ("monday", "tuesday"):
        path = shutil.copy(sample.SESSION, f"recordings/{day}.parquet")
        edited(Path(path), {}, session_id=day)
    tests = list(doctest.DocTestFinder().find(public, name, module=False))
    assert tests[0].examples, "no example"
    said: list[str] = []
    for test in tests:
        doctest.DocTestRunner().run(test, out=said.append)
    assert said == []
