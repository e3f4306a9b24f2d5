"""Files that somebody made to break a reader: one line for each, never a crash, in little memory.

Some of each kind through every command that reads; `python -m bench.hostile` reads all of them.
"""

from __future__ import annotations

import gc
import os
import shutil
import stat
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import dgrec
from dgrec import sample
from dgrec.alerts import alerts_of, parse_rules
from dgrec.cli import gather
from dgrec.errors import DamagedSessionError, NotASessionError
from dgrec.format import DecodeError, json_values
from dgrec.format.masks import pack_array, unpack_array
from dgrec.format.pages import _header, check_page_counts
from dgrec.format.parquet_input import ParquetInput
from dgrec.format.schema import METADATA_KEY
from dgrec.format.untrusted import Allowance, inflate
from dgrec.replay.output import QueryResult, open_output, write_rows
from dgrec.session import each_row
from tests.factory import make_detection, make_rows, write_session
from tests.hostile_files import edited, write_cases
from tests.hostile_runner import COMMANDS, run_apart
from tests.reports import ReportPage

#: Of each kind, those that took a process down, or all of the memory, and some that other tools
#: may write.
_NAMES = (
    "m_all_deepest",
    "m_all_huge",
    "m_below_lists",
    "m_clip_ranges",
    "m_format_huge",
    *(
        "c_stamp_us_naive",
        "c_null_captured_at",
        "c_no_rows",
        "c_no_width",
        "c_widths",
        "c_twice",
        "c_both_cases",
    ),
    "v_all",
    "v_size_large",
    "d_keys_garbage",
    "d_mask_large",
    "d_mask_bomb",
    "d_map_object",
    "x_rebuilt_set_same_hash",
    "x_rebuilt_enum_long",
    "x_odd_bbox_decimal",
    "x_odd_box_int",
    "x_scalar_object",
    "x_array_zero_text",
    "x_attributes_names",
    "x_set_unhashable",
    "p_long_row_nulls",
    "p_long_row_points",
    "p_long_row_timing",
    "x_numbers",
    "p_footer_3",
    "p_list_bomb",
    "p_fifo",
    "p_device",
    "p_encrypted",
    "j_forged_2",
    "j_forged_8",
    "j_zstd",
    "j_views",
    "j_note_end_3",
    "n_\udcff\udcfe",
)
#: What every file goes through here; the bench runs all commands on all files.
_COMMANDS = ("list", "verify", "query", "replay", "publish", "export csv", "recover", "open")
#: These read what the others read, with code that they share.
_SHARING = ("info", "whatif", "alerts", "export coco", "connect", "export cvat", "export mcap")


class _Cases(dict[str, Path]):
    """The hostile files by name; those of a kind are written when the first one is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __missing__(self, name: str) -> Path:
        kind = name[0]
        self.update({path.stem: path for path in write_cases(self.folder, kind)})
        return self.get(name) or pytest.fail(f"{name} is not among the files of kind {kind}")


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Cases]:
    folder = tmp_path_factory.mktemp("hostile")
    yield _Cases(folder)
    shutil.rmtree(folder)


@pytest.mark.slow
def test_numbers_that_are_not_finite_although_the_file_says_so(cases: _Cases) -> None:
    names = ("v_latency_ms", "v_same_latency_ms")
    commands = ("stats", "stats --why", "report", "replay")
    assert run_apart([cases[name] for name in names], commands) == []


@pytest.mark.slow
def test_no_file_ends_a_command_in_another_way(cases: _Cases) -> None:
    """No traceback, no crash, no silence, no hang, no gigabytes."""
    paths = [cases[name] for name in _NAMES]
    assert len(cases) > 800
    # What is shared runs on every second file, which is enough.
    for half in (0, 1):
        assert run_apart(paths[half::2], _COMMANDS + _SHARING[half::2]) == []


def test_every_command_that_reads_is_swept() -> None:
    names = {name.split()[0] for name in COMMANDS}
    commands = {"list", "info", "verify", "stats", "query", "compare", "report", "replay", "clip"}
    commands |= {"whatif", "alerts", "publish", "export"}
    assert commands | {"recover", "open"} <= names


# --- what is rebuilt of JSON and masks ---------------------------------------------------------


@pytest.mark.parametrize(
    "dtype",
    ["|O", ">O", "O,O", "(1,)O", "|V99999999", "<U1000000000", "f4,O", "(9,9)f8", "", 5, None],
)
def test_only_plain_types_are_rebuilt(dtype: Any) -> None:
    for spec in ({"$scalar": [dtype, "QUFBQUFBQUE="]}, {"$ndarray": [dtype, [0], "eJwDAAAAAAE="]}):
        with pytest.raises(DecodeError):
            json_values.decode(spec, Allowance())


@pytest.mark.parametrize("value", [True, 2**200, float("nan"), "\ud800", b"\0", {1, (2, "x")}])
def test_values_that_dgrec_writes_come_back(value: Any) -> None:
    assert repr(json_values.loads(json_values.dumps(value))) == repr(value)


SAME_HASH = [{"$int": hex(number * (2**61 - 1))} for number in range(1001)]
OBJECTS = [{"$tuple": [{"$object": ["a", number]}]} for number in range(1001)]


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"$decimal": "1e999999999"}, "too many digits"),
        ({"$decimal": "-1e-999999999"}, "too many digits"),
        ({"$decimal": "9" * 100_000}, "too many digits"),
        ({"$decimal": "NaN" + "9" * 100_000}, "too many digits"),
        ({"$set": SAME_HASH}, "too many objects"),
        ({"$frozenset": OBJECTS}, "too many objects"),
        ({"$dict": [[key, 1] for key in SAME_HASH]}, "too many objects"),
        ({"$scalar": ["<M8[0s]", "AAAAAAAAAAA="]}, "does not rebuild"),
    ],
)
def test_few_bytes_stand_for_no_long_work(spec: Any, problem: str) -> None:
    with pytest.raises(DecodeError, match=problem):
        json_values.decode(spec, Allowance())


def test_deflated_data_is_not_unpacked_beyond_its_size() -> None:
    import zlib

    assert inflate(zlib.compress(b"abc"), 3) == b"abc"
    for data, most in (
        (zlib.compress(bytes(100)), 99),
        (zlib.compress(b"abc")[:-2], 3),
        (b"garbage", 9),
    ):
        with pytest.raises(DecodeError):
            inflate(data, most)


@pytest.mark.slow
def test_masks_take_no_more_than_a_frame_can_hold() -> None:
    """Those of a large picture come back; what claims more is refused before it is made."""
    frame = Allowance.for_frame(3840, 2160)
    mask = np.arange(3840 * 2160, dtype=np.float32).reshape(2160, 3840) % 250
    packed = pack_array(mask, "exact")
    for _ in range(15):
        assert np.array_equal(unpack_array(packed, frame), mask)
    claim = {**packed, "width": 40_000, "height": 40_000}
    with pytest.raises(DecodeError, match="more than such a frame can hold"):
        unpack_array(claim, Allowance.for_frame(40_000, 40_000))
    # A class map has the size of the model's output, however small the frame.
    small = np.ones((2048, 2048), np.int64)
    assert unpack_array(pack_array(small, "exact"), Allowance.for_frame(64, 48)).sum() == 2048**2


@pytest.mark.parametrize(("text", "what"), [("[],", "lists and objects"), ("1,", "values")])
def test_json_stands_for_no_more_than_a_frame_can_hold(text: str, what: str) -> None:
    allowance = Allowance(containers_left=1000, values_left=1000)
    within, beyond = ("[" + text * count + "0]" for count in (900, 101))
    assert len(json_values.loads(within, allowance)) == 901
    with pytest.raises(DecodeError, match=what):
        json_values.loads(beyond, allowance)


def test_alerts_parse_no_more_than_a_frame_can_hold(tmp_path: Path) -> None:
    """They look into a detection's further values alone, without the rest of its frame."""
    (row,) = make_rows(1)
    row.results = [make_detection(1, label=7, more=[[]] * 1_000_001)]
    with dgrec.open(write_session(tmp_path / "s.parquet", [row])) as session:
        rules = parse_rules(["a=count() > 0"])
        with pytest.raises(DamagedSessionError, match="more than 1,000,000 lists and objects"):
            alerts_of(session, rules)


@pytest.mark.slow
def test_what_a_file_holds_is_known_before_it_is_read(cases: _Cases) -> None:
    """A file of 20 KB, one row of which stands for gigabytes; reading the others is no use."""
    for name in ("few", "same", "points", "timing"):
        with (
            dgrec.open(cases[f"p_long_row_{name}"]) as session,
            pytest.raises(DamagedSessionError, match="a frame with more than 1,000,000 values"),
        ):
            list(session.batches())
    # Nor is a footer believed that says less than the pages hold.
    with dgrec.open(cases["p_lying_footer"]) as session:
        assert not session.is_plain
        with pytest.raises(DamagedSessionError, match="more or fewer values than its footer says"):
            list(session.batches())


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "gzip", "data_page_size": 1, "write_page_index": True},
        {"compression": "zstd", "data_page_version": "2.0", "use_dictionary": False},
        {"write_page_checksum": True, "write_statistics": False},
        None,
    ],
)
def test_pages_of_any_writer_are_counted(options: dict[str, Any] | None, tmp_path: Path) -> None:
    table = pq.read_table(sample.SESSION)
    path = tmp_path / "s.parquet"
    if options is None:  # DuckDB
        statement = f"COPY (FROM '{sample.SESSION}') TO '{path}' (ROW_GROUP_SIZE 2048)"
        duckdb.connect().execute(statement)
    else:
        pq.write_table(table, path, **options)
    file = ParquetInput(path)
    check_page_counts(file, 0, list(range(len(file.columns))))
    assert file.metadata.row_group(0).num_rows == len(table)
    file.close()


@pytest.mark.slow
def test_long_rows_are_read_a_few_at_a_time(tmp_path: Path) -> None:
    """Many frames of 1,000 detections, as another tool writes them: in one row group."""
    rows = make_rows(150)
    for row in rows[10:]:
        row.results = [make_detection(number) for number in range(1000)]
    path = write_session(tmp_path / "s.parquet", rows)
    with dgrec.open(path) as session:
        sizes = [batch.num_rows for batch in session.batches()]
        assert sum(sizes) == 150
        assert max(sizes) < 150
        assert len(session[149].results) == 1000
        assert max(batch.num_rows for batch in session.batches(["frame"])) == 150
        assert session.is_plain


def test_rows_with_long_texts_become_python_values_a_few_at_a_time() -> None:
    text = "a" * (4 << 20)
    batch = pa.RecordBatch.from_pydict({"frame": [*range(12)], "attributes": [text] * 12})
    tracemalloc.start()
    try:
        assert [row["frame"] for row in each_row(batch)] == [*range(12)]
        assert tracemalloc.get_traced_memory()[1] < 6 * len(text)
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_reading_a_row_leaves_the_garbage_collector_as_it_was(cases: _Cases) -> None:
    with dgrec.open(cases["p_plain"]) as session:
        for is_collecting in (False, True):
            (gc.enable if is_collecting else gc.disable)()
            try:
                assert len(session[0].results) == 2
                assert gc.isenabled() is is_collecting
            finally:
                gc.enable()


@pytest.mark.slow
def test_rows_that_hold_something_else_are_named(cases: _Cases) -> None:
    with (
        dgrec.open(cases["d_keys_garbage"]) as session,
        pytest.raises(DamagedSessionError, match=r"d_keys_garbage\.parquet: damaged: frame 0: "),
    ):
        list(session)


@pytest.mark.slow
def test_metadata_of_wrong_types_is_left_out(cases: _Cases) -> None:
    with dgrec.open(cases["m_below_lists"]) as session:
        assert session.metadata["source"].get("width") is None
        assert "source" in session.metadata
        assert len(session) == 12


# --- what two readers would understand differently ---------------------------------------------


def _thrift(number: int) -> bytes:
    """Return a number, not below zero, as Thrift's compact protocol writes it."""
    number *= 2
    found = [number & 127]
    while number := number >> 7:
        found[-1] |= 128
        found.append(number & 127)
    return bytes(found)


_MANY, _FEW = _thrift(50_000_000), _thrift(30)
#: A page header's type, and its two sizes.
_BEGINNING = b"\x15\x00\x15\x20\x15\x20"
#: The rest of what a data page's header has, after the number of values; the end of both.
_ENCODINGS = b"\x15\x00\x15\x06\x15\x06\x00"


@pytest.mark.parametrize(
    "data",
    [
        # The number of a field has 16 bits: for Thrift's own readers 65537 is 1.
        b"\x2c\x15" + _FEW + b"\x05" + _thrift(65537) + _MANY + b"\x05\x04\x00" + _ENCODINGS[2:],
        # A number of values has 32 bits: one of 64 is passed over.
        b"\x2c\x15" + _MANY + b"\x06\x02" + _FEW + _ENCODINGS,
        # The type says which of the two kinds of headers counts.
        b"\x2c\x15" + _MANY + _ENCODINGS + b"\x3c\x15" + _FEW + _ENCODINGS,
        b"\x2c\x15" + _FEW + _ENCODINGS + b"\x05\x06" + _FEW,  # a second size
        b"\x05\x06" + _thrift(2**32 + 16) + b"\x05\x0a",  # whose upper bits are dropped
    ],
    ids=["field", "width", "kinds", "twice", "bits"],
)
def test_page_headers_mean_the_same_to_all_readers(data: bytes) -> None:
    usual = _BEGINNING + b"\x2c\x15" + _FEW + _ENCODINGS + b"\x00"
    assert _header(usual, 0) == (16, 30, len(usual))
    beginning = _BEGINNING[:4] if data.startswith(b"\x05\x06\x80") else _BEGINNING
    with pytest.raises(ValueError, match="page header"):
        _header(beginning + data + b"\x00", 0)


def _with_footer(path: Path, footer: bytes) -> None:
    data = path.read_bytes()
    end = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    path.write_bytes(data[:end] + footer + len(footer).to_bytes(4, "little") + b"PAR1")


def _footer(path: Path) -> bytes:
    data = path.read_bytes()
    return data[-8 - int.from_bytes(data[-8:-4], "little") : -8]


def _other_tools(path: Path, table: pa.Table, **options: Any) -> Path:
    """Write a session without checksums."""
    text = pq.ParquetFile(sample.SESSION).metadata.metadata[METADATA_KEY]
    return edited(path, table, text, compression="zstd", **options)


def test_a_dictionary_that_follows_its_pages_is_refused(tmp_path: Path) -> None:
    """DuckDB begins to read there, Arrow at the pages: of these alone, the values were counted."""
    path = _other_tools(tmp_path / "s.parquet", pq.read_table(sample.SESSION))
    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = map(group.column, range(group.num_columns))
    column = next(column for column in columns if column.path_in_schema.endswith("element.label"))
    data, dictionary = map(_thrift, (column.data_page_offset, column.dictionary_page_offset))
    footer = _footer(path)
    usual = b"\x26" + data + b"\x26" + dictionary
    assert footer.count(usual) == 1
    with dgrec.open(path) as session:
        assert session.is_plain
    _with_footer(path, footer.replace(usual, b"\x26" + dictionary + b"\x26" + data))
    with dgrec.open(path) as session:
        assert not session.is_plain


def test_a_row_group_without_some_of_the_columns_is_damage(tmp_path: Path) -> None:
    table = pq.read_table(sample.SESSION)
    path = _other_tools(tmp_path / "s.parquet", table)
    more = _other_tools(tmp_path / "t.parquet", table.append_column("more", table["signals"]))
    rows = b"\x16" + _thrift(len(table)) + b"\x19\x1c"
    texts = b"\x19\x2c\x18"  # the list of metadata: it has two, and what Arrow says of the columns
    (schema, groups), (_, own_groups) = (_footer(file).split(rows) for file in (more, path))
    groups = own_groups.split(texts)[0] + texts + groups.split(texts)[1]
    _with_footer(path, schema + rows + groups)
    with pytest.raises(DamagedSessionError, match="its footer contradicts itself"):
        dgrec.open(path)


def test_types_that_were_added_to_arrow_hide_no_lists(tmp_path: Path) -> None:
    """Such a column looks like one leaf, but has many: those after it are others."""
    table = pq.read_table(sample.SESSION).slice(0, 4)
    many = pa.nulls(1_200_000, table["detections"].type.value_type)
    offsets = pa.array([0, *[len(many)] * len(table)], pa.int32())
    detections = pa.ListArray.from_arrays(offsets, many)
    at = table.schema.get_field_index("detections")
    table = table.set_column(at, "detections", detections.cast(table["detections"].type))
    fields = pa.struct([(f"f{number}", pa.int32()) for number in range(60)])
    type_ = pa.opaque(fields, "fields", "somebody")
    added = pa.ExtensionArray.from_storage(type_, pa.nulls(len(table), fields))
    path = _other_tools(tmp_path / "s.parquet", table.add_column(0, "added", added))
    with (
        dgrec.open(path) as session,
        pytest.raises(DamagedSessionError, match="a frame with more than 1,000,000 values"),
    ):
        list(session.batches())


def test_texts_of_types_that_were_added_to_arrow_are_read_as_others(tmp_path: Path) -> None:
    """As dictionaries: one long text that every row names is one text. They came as null."""
    table = pq.read_table(sample.SESSION).slice(0, 4)
    texts = pa.array(['{"a": 1}'] * len(table))
    opaque = pa.opaque(pa.string(), "text", "somebody")
    for name, type_ in (("json", pa.json_()), ("opaque", opaque)):
        table = table.append_column(name, pa.ExtensionArray.from_storage(type_, texts))
    path = _other_tools(tmp_path / "s.parquet", table)
    file = ParquetInput(path)
    for name in ("json", "opaque"):
        assert pa.types.is_dictionary(file.rows.schema_arrow.field(name).type)
    file.close()
    with dgrec.open(path) as session:
        (batch,) = session.batches()
        for name in ("json", "opaque"):
            assert batch.column(name).to_pylist() == texts.to_pylist()


@pytest.mark.parametrize("store_schema", [False, True])
def test_json_may_be_parquets_own_type(tmp_path: Path, store_schema: bool) -> None:
    """As DuckDB writes it, and Arrow."""
    table = pq.read_table(sample.SESSION).slice(0, 4)
    texts = pa.array(['{"a": 1}'] * len(table))
    json = pa.ExtensionArray.from_storage(pa.json_(), texts)
    at = table.schema.get_field_index("attributes")
    table = table.set_column(at, "attributes", json)
    path = _other_tools(tmp_path / "s.parquet", table, store_schema=store_schema)
    with dgrec.open(path) as session:
        assert session.schema.field("attributes").type == pa.string()
        assert session.row(3)["attributes"] == texts[3].as_py()
        assert not session.is_plain
        ((type_, count),) = session.sql(
            "SELECT any_value(typeof(attributes)), count(attributes) FROM frames"
        ).fetchall()
        assert (type_, count) == ("VARCHAR", 4)


# --- what other tools write --------------------------------------------------------------------


def _count(session: dgrec.Session) -> Any:
    return session.sql("SELECT count(*), sum(width), max(epoch_us(captured_at)) FROM frames")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "c_widths",
        "c_large_list",
        "c_struct_order",
        "c_timing_pairs",
        "c_order",
        "c_dictionary_restore",
        "c_view_attributes",
        "c_stamp_us_EuropeBerlin",
        "c_stamp_ns_naive",
        "c_stamp_ns_UTC",
        "c_both_cases",
        "c_more",
    ],
)
def test_other_types_give_the_same_rows(cases: _Cases, name: str) -> None:
    with dgrec.open(cases["p_plain"]) as plain, dgrec.open(cases[name]) as other:
        assert _count(other).fetchall() == _count(plain).fetchall()
        names = list(plain[0].row)
        for one, two in zip(plain, other, strict=True):
            if name != "c_widths":  # float32 holds less
                assert {key: two.row[key] for key in names} == one.row
            assert [d["label"] for d in two.results] == [d["label"] for d in one.results]


@pytest.mark.slow
def test_detections_that_are_null_are_empty(cases: _Cases, tmp_path: Path) -> None:
    path = cases["c_null_structs"]
    with dgrec.open(path) as session:
        assert [result.results[:1] for result in session][1] == [{}]
        assert None not in session[1].row["detections"]
    video = tmp_path / "v.mp4"
    arguments = ["replay", "-q", "--trails", "3", "--hud", "-o", str(video), str(path)]
    assert CliRunner().invoke(gather(), arguments).exit_code == 0


@pytest.mark.slow
def test_missing_columns_are_null_in_rows(cases: _Cases) -> None:
    with dgrec.open(cases["c_no_width"]) as session:
        assert session[0].row["width"] is None
        assert session[0].size == (0, 96)
        (batch,) = session.batches(["width", "frame"])
        assert batch.column("width").null_count == len(session)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["c_one_row", "v_backwards"])
def test_a_report_shows_the_rows_that_are_there(cases: _Cases, tmp_path: Path, name: str) -> None:
    """Whatever their numbers: another tool may have taken some out, or sorted them."""
    page = tmp_path / "page.html"
    arguments = ["report", "-q", "-o", str(page), str(cases[name])]
    done = CliRunner().invoke(gather(), arguments)
    assert done.exit_code == 0, done.output
    shown = [picture["frame"] for picture in ReportPage(page).pictures()]
    with dgrec.open(cases[name]) as session:
        assert shown
        assert {*shown} <= {result.frame for result in session}


@pytest.mark.slow
@pytest.mark.parametrize("column", ["video_frame", "video_state"])
def test_clips_need_not_say_anything_of_a_video(cases: _Cases, tmp_path: Path, column: str) -> None:
    clip = tmp_path / "clip.parquet"
    arguments = ["clip", "-q", "--end", "5", "-o", str(clip), str(cases[f"c_no_{column}"])]
    done = CliRunner().invoke(gather(), arguments)
    assert done.exit_code == 0, done.output
    with dgrec.open(clip) as session:
        assert session[0].row[column] is None


@pytest.mark.slow
def test_a_file_that_cannot_be_read_is_left_out_of_its_folder(
    cases: _Cases, tmp_path: Path
) -> None:
    shutil.copy(sample.SESSION, tmp_path / "good.parquet")
    for name in ("p_footer_ones", "p_encrypted", "c_twice", "j_garbage", "p_page_1"):
        shutil.copy(cases[name], tmp_path)
    os.mkfifo(tmp_path / "pipe.parquet")
    said: list[str] = []
    sessions = dgrec.open_sessions([tmp_path], said.append)
    assert {session.path.name for session in sessions} >= {"good.parquet"}
    assert len(said) >= 4
    assert all("left out" in line for line in said)


def _beside_a_good_one(cases: _Cases, column: str, folder: Path) -> Path:
    """Put a good session into a folder, and one whose checksums hold over a page that is broken."""
    shutil.copy(sample.SESSION, folder / "good.parquet")
    return Path(shutil.copy(cases[f"p_damaged_{column}"], folder / "forged.parquet"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("column", "arguments"),
    [
        ("latency_ms", ("query", "SELECT count(frame), count(latency_ms) FROM frames")),
        ("detections_list_element_x_max", ("query", "SELECT count(x_max) FROM detections")),
        ("latency_ms", ("stats",)),
        ("detections_list_element_score", ("stats", "--by", "label")),
        ("latency_ms", ("stats", "--why")),
        ("latency_ms", ("stats", "--late", "3")),
    ],
)
def test_forged_checksums_do_not_end_an_answer_about_others(
    cases: _Cases, tmp_path: Path, column: str, arguments: tuple[str, ...]
) -> None:
    forged = _beside_a_good_one(cases, column, tmp_path)
    command, *more = arguments
    options, sql = (more, []) if command == "stats" else ([], more)
    done = CliRunner().invoke(gather(), [command, *options, str(tmp_path), *sql])
    alone = CliRunner().invoke(gather(), [command, *options, str(tmp_path / "good.parquet"), *sql])
    assert done.exit_code == alone.exit_code == 0, done.stderr
    assert f"Warning: {forged}: damaged: " in done.stderr
    assert "; left out" in done.stderr
    if sql:
        assert done.stdout == alone.stdout


@pytest.mark.slow
def test_a_connection_reads_all_rows_first_if_asked(cases: _Cases, tmp_path: Path) -> None:
    _beside_a_good_one(cases, "latency_ms", tmp_path)
    with pytest.warns(UserWarning, match=r"forged\.parquet: damaged: .*; left out"):
        connection = dgrec.connect(tmp_path, read_rows=True)
    with connection:
        count = connection.sql("SELECT count(frame), count(latency_ms) FROM frames").fetchall()
    assert count == [(420, 420)]


@pytest.mark.slow
def test_what_only_duckdb_cannot_read_is_named_and_left_out(
    cases: _Cases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some damage DuckDB minds, and Arrow does not."""
    forged = _beside_a_good_one(cases, "latency_ms", tmp_path)
    monkeypatch.setattr(dgrec.Session, "batches", lambda *_: iter(()))
    question = "SELECT count(*), sum(latency_ms) > 0 FROM frames"
    done = CliRunner().invoke(gather(), ["query", str(tmp_path), question])
    assert done.exit_code == 0, done.stderr
    assert "420" in done.stdout
    assert f"Warning: {forged}: damaged: " in done.stderr
    with dgrec.open(forged) as session, pytest.raises(DamagedSessionError, match="forged"):
        session.sql_rows("SELECT sum(latency_ms) FROM frames")


@pytest.mark.slow
def test_a_damaged_file_is_named_whatever_duckdb_says(cases: _Cases, tmp_path: Path) -> None:
    path = _beside_a_good_one(cases, "latency_ms", tmp_path)
    done = CliRunner().invoke(gather(), ["query", str(path), "SELECT sum(latency_ms) FROM frames"])
    assert done.exit_code == 1
    assert f"Error: {path}: damaged: " in done.stderr


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "s.parquet"
    make(path)
    assert not stat.S_ISREG(path.stat().st_mode)
    with pytest.raises(NotASessionError, match="cannot be read: it is a"):
        dgrec.open(path)


def test_rows_are_read_in_any_order(tmp_path: Path) -> None:
    rows = make_rows(300)
    with dgrec.open(write_session(tmp_path / "s.parquet", rows)) as session:
        for position in (299, 0, 257, 255, 256, 1, -1):
            assert session[position].frame == range(300)[position]


def test_links_in_a_circle_are_named(tmp_path: Path) -> None:
    (tmp_path / "loop.parquet").symlink_to("loop.parquet")
    with pytest.raises(NotASessionError, match=r"loop\.parquet"):
        dgrec.connect(tmp_path / "loop.parquet")


@pytest.mark.slow
def test_a_name_that_is_no_utf_8_stands_in_a_report(tmp_path: Path) -> None:
    session = write_session(tmp_path / "n_\udcff.parquet", make_rows(12))
    page = tmp_path / "page.html"
    done = CliRunner().invoke(gather(), ["report", "-q", "-o", str(page), str(session)])
    assert done.exit_code == 0, done.output
    assert "n_\\udcff" in ReportPage(page).report["path"]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["table", "csv", "jsonl"])
def test_long_cells_are_written_a_few_rows_at_a_time(form: str, tmp_path: Path) -> None:
    """A table cuts them in the middle, and says so; other formats write all of them."""
    cells = ["a" * 9_000_000 + end for end in "xyz"]
    batches = [pa.RecordBatch.from_pydict({"text": cells})]
    taken: list[int] = []
    with open_output(tmp_path / "out") as destination:
        write = destination.file.write

        class Counted:
            def write(self, data: bytes) -> int:
                taken.append(len(data))
                return write(data)

        destination.file = Counted()  # type: ignore[assignment]
        write_rows(QueryResult(batches[0].schema, iter(batches)), form, destination)
    text = (tmp_path / "out").read_text()
    if form == "table":
        assert len(text) < 100_000
        assert text.count("(8,980,001 characters left out)") == 3
    else:
        assert [text.count(end) for end in "yz"] == [1, 1]
        assert len(text) > 27_000_000
        assert max(taken) < 10_000_000


def test_a_frame_with_an_enormous_integer_can_be_shown(tmp_path: Path) -> None:
    rows = make_rows(1)
    rows[0].results = [make_detection(1, extra_value=1 << 100_000)]
    with dgrec.open(write_session(tmp_path / "s.parquet", rows)) as session:
        assert session[0].results[0]["extra_value"] == 1 << 100_000
        assert repr(session[0]) == "<frame 0: 1 results>"
