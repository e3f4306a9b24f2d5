"""No part of a password or a token is left in what is printed, recorded or used as a name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dgrec import credentials
from dgrec.credentials import percent_encoded, redact, redact_text, remember
from dgrec.errors import SourceError
from dgrec.format import metadata
from dgrec.recorder.sources import parse_source
from dgrec.terminal import line
from tests.factory import write_session


def forget() -> None:
    credentials._addresses.clear()
    credentials._secrets.clear()


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("rtsp://192.168.1.5:554/stream1", "rtsp://192.168.1.5:554/stream1"),
        ("rtsp://admin:SECRET@192.168.1.5:554/s", "rtsp://***@192.168.1.5:554/s"),
        ("rtsp://admin@host/s", "rtsp://***@host/s"),
        ("rtsp://:SECRET@host/s", "rtsp://***@host/s"),
        ("rtsp://admin:SEC@RET@host/s", "rtsp://***@host/s"),
        ("rtsp://admin:SECRET%40%2F@host/s", "rtsp://***@host/s"),
        ("rtsp://u:SECRET@[fe80::1]:8554/s", "rtsp://***@[fe80::1]:8554/s"),
        ("rtsp://[2001:db8::1]/s", "rtsp://[2001:db8::1]/s"),
        ("rtsps://u:SECRET@Host/s", "rtsps://***@host/s"),
        ("https://h/live.m3u8?token=SECRET&q=hd", "https://h/live.m3u8?token=***&q=***"),
        ("https://u:SECRET@h/?a=SECRET#SECRET", "https://***@h/?a=***"),
        ("https://h/x#access_token=SECRET", "https://h/x"),
        (
            "rtsp://h/user=a_password=SECRET_channel=1_stream=0.sdp",
            "rtsp://h/user=a_password=***_channel=1_stream=0.sdp",
        ),
        ("srt://h:9000?passphrase=SECRET", "srt://h:9000?passphrase=***"),
        ("clips/street.mp4", "clips/street.mp4"),
        ("/data/a@b.mp4", "/data/a@b.mp4"),
        ("C:\\clips\\a.mp4", "C:\\clips\\a.mp4"),
        ("0", "0"),
        ("/dev/video0", "/dev/video0"),
        ("file:///clips/a.mp4", "file:///clips/a.mp4"),
        ("walk.parquet?pace=fast&loop=1", "walk.parquet?pace=fast&loop=1"),
        ("walk.parquet?token=SECRET", "walk.parquet?token=***"),
        ("u:SECRET@host/walk.parquet?pace=fast", "***@host/walk.parquet?pace=***"),
        ("", ""),
    ],
)
def test_redact(url: str, kept: str) -> None:
    assert redact(url) == kept
    assert redact(kept) == kept


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://u:SECRET/x@host/s",
        "rtsp://u:SECRET#x@host/s",
        "rtsp://u:SECRET?x@host/s",
        "rtsp://u:[SECRET@host/s",
        "rtsp://u:SEC RET@host/s",
        "rtsp://host:SECRET/s",
        "https://h/?a=1;b=SECRET",
        "https://h/?u=rtsp://x:SECRET@y",
        "rtsp://u:12/34SECRET@host/s",
        "rtsp://u:12?34SECRET@host/s",
        "rtsp://u:12#34SECRET@host/s",
        "http://proxy/rtsp://u:SECRET@h/s",
        "admin:SECRET@192.168.1.5/s",
        "admin:SEC@RET@192.168.1.5/s",
        "//u:SECRET@h/x",
        "rtsp:/u:SECRET@h/x",
        "http://h/?SECRET",
        "http://h/?a=1&SECRET",
        "h/x?token=SECRET",
        "rtsp://h/user=admin_password=SECRET_channel=1_stream=0.sdp",
        "http://h/live;token=SECRET/x",
    ],
)
def test_redact_of_urls_that_cannot_be_taken_apart(url: str) -> None:
    assert "SECRET" not in redact(url)
    assert "RET" not in redact(url)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("cannot open rtsp://u:SECRET@h/s", "cannot open rtsp://***@h/s"),
        ('failed: "rtsp://u:SECRET@h/s" (404)', 'failed: "rtsp://***@h/s" (404)'),
        ("<http://h/?k=SECRET> and http://u:SECRET@i", "<http://h/?k=***> and http://***@i"),
        ("cannot open 'rtsp://u:SE'CRET@h/x'.", "cannot open 'rtsp://***@h/x'."),
        ('x "rtsp://u:SE"CRET@h/x"', 'x "rtsp://***@h/x"'),
        ("see (rtsp://u:SE<CRET@h/x)", "see (rtsp://***@h/x)"),
        ("rtspsrc user-id=a user-pw=SECRET ! x", "rtspsrc user-id=a user-pw=*** ! x"),
        ("no url, 5 : 3 @ noon", "no url, 5 : 3 @ noon"),
        ("ratio 16://9", "ratio 16://9"),
        ("", ""),
    ],
)
def test_redact_text(text: str, kept: str) -> None:
    assert redact_text(text) == kept


# --- passwords that are not percent-encoded ----------------------------------------------------

#: Characters that a URL may not hold there, and others; the letters in no word of the messages.
_CHARACTERS = "@/:?#[]\\%&=;+!' \"<>{}|^`~*$,.-_QXZJ0789\u00e9\u8eca"
_PASSWORDS = st.text(_CHARACTERS, min_size=4, max_size=16)


def parts_of(password: str) -> Iterator[str]:
    """Yield every substring of four characters that has at least one letter or digit in it."""
    for start in range(len(password) - 3):
        part = password[start : start + 4]
        if re.search(r"[QXZJ0789\u00e9\u8eca]", part):
            yield part


def assert_nothing_of(password: str, *texts: str) -> None:
    for text in texts:
        for part in parts_of(password):
            assert part not in text, (part, text)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    _PASSWORDS,
    st.sampled_from(["rtsp", "http", "rtmp", "srt"]),
    st.sampled_from(["10.2.3.4:554", "camera", "camera.local", "[fe80::1]:5544"]),
    st.sampled_from(["", "/", "/live/main", "/live?channel=1", "/axis@main"]),
)
@example("p@ss/1QXZJ", "rtsp", "camera", "/")
def test_no_part_of_any_password_is_shown(password: str, scheme: str, host: str, path: str) -> None:
    forget()
    url = f"{scheme}://admin:{password}@{host}{path}"
    source = parse_source(url)
    # What FFmpeg, Python and others make of it when they cut it where a URL should be cut.
    rest = url.partition("://")[2]
    pieces = [url, rest, *re.split(r"[/?#]", rest), *rest.split("@"), rest.split("@")[0]]
    errors = [f"[Errno 5] cannot open: {piece!s}" for piece in pieces]
    stored = metadata.dumps({"events": [{"reason": text} for text in errors]})
    assert_nothing_of(
        password,
        source.given,
        source.name,
        str(source.describe(Path("/nowhere"))),
        stored,
        *map(redact_text, errors),
        *map(line, errors),
    )


@settings(max_examples=100, deadline=None)
@given(_PASSWORDS, st.sampled_from(["?token={}", "?a=1&key={}", "/password={}_channel=1", "#{}"]))
def test_no_part_of_a_token_is_shown(token: str, form: str) -> None:
    forget()
    source = parse_source(f"https://camera.local/live{form.format(token)}")
    texts = source.given, source.name, redact_text(f"404: {source.target}")
    if "_channel" in form and re.search(r"[&?#;/_ ]", token):
        return  # where such a token ends nobody can say
    if re.search(r"&[\w.-]+=", token):
        return  # to everybody that is the next item, whose key is not secret
    assert_nothing_of(token, *texts)


@settings(max_examples=200, deadline=None)
@given(_PASSWORDS, st.sampled_from(["10.2.3.4:554", "camera.local", "[fe80::1]:5544"]))
def test_what_is_opened_has_the_whole_password(password: str, host: str) -> None:
    encoded = percent_encoded(f"rtsp://admin:{password}@{host}/live")
    parts = urlsplit(encoded)
    assert unquote(parts.password or "") == unquote(password)
    assert encoded.endswith(f"@{host}/live")
    assert percent_encoded(encoded) == encoded


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://camera/live",
        "rtsp://admin:secret@10.0.0.5/live?x=1#y",
        "rtsp://admin:p%40ss%2F1@camera/live",
        "rtsp://admin:pw@10.0.0.1/axis@2",
        "http://camera:8080/picture@2x",
        "rtsp://camera/user=a_password=b@c_channel=1",
        "clips/a@b.mp4",
    ],
)
def test_an_address_that_is_right_is_opened_as_it_is(url: str) -> None:
    assert percent_encoded(url) == url


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Authorization: Basic YWRtaW46cGFzcw==", "Authorization: ***"),
        ("sent Bearer QXZJ0789", "sent Bearer ***"),
        ("headers=authorization: Digest x", "headers=authorization: ***"),
        ("a basic understanding", "a basic understanding"),
    ],
)
def test_headers(text: str, kept: str) -> None:
    assert redact_text(text) == kept


def test_options_of_a_recorded_session_are_no_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget()
    monkeypatch.chdir(tmp_path)
    write_session(Path("walk-0001.parquet"), [])
    for name in ("walk.parquet", "walk-0001.parquet", "walk", "other.parquet"):
        with pytest.raises(SourceError):
            parse_source(f"{name}?pace=fast&video=annotated")
    assert redact_text("the annotated video is fast") == "the annotated video is fast"


def test_an_address_that_is_forgotten_is_shown_and_others_are_not() -> None:
    shown, other = "http://host/?token=t0ken-1&key=both", "http://other/?key=both&k=t0ken-2"
    for address in (shown, other):
        remember(address)
    credentials.forget(shown)
    assert line(shown.replace("both", "x")) == "http://host/?token=t0ken-1&key=x"
    assert line(f"both t0ken-2 {other}") == "*** *** http://other/?key=***&k=***"


def test_a_word_of_the_address_that_is_shown_anyway_stays() -> None:
    remember("rtsp://admin:live@camera/live")
    assert redact_text("live: 404") == "live: 404"
