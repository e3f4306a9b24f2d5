"""``dgrec run --replay``: recordings in the place of an unchanged program's models and cameras."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dgrec
from dgrec import sample
from dgrec.errors import ConfigError, ModelError, SourceError
from dgrec.replay.verify import verify
from dgrec.stand_in import Replay, Replayed
from tests.clips import FRAMES, short_clip
from tests.dgrec.stand_in.numbered import clip, number_in, record
from tests.dgrec.stand_in.scripted import ScriptedModel, picture
from tests.recorder.command import Command, names
from tests.waiting import PATIENCE_S

pytestmark = pytest.mark.slow

APP = """
import json, sys
from degirum_tools import LineCounter, ModelSpec, ObjectTracker, ZoneCounter, predict_stream

spec = ModelSpec(model_name=sys.argv[1], zoo_url=sys.argv[2], inference_host_address=sys.argv[3])
analyzers = [
    ObjectTracker(class_list=["face"], track_thresh=0.3, trail_depth=5),
    ZoneCounter([[[0, 0], [300, 0], [300, 360], [0, 360]]], use_tracking=True),
    LineCounter([(0, 100, 640, 260)]),
]
for result in predict_stream(spec.load_model(), sys.argv[4], fps=15, analyzers=analyzers):
    for item in result.results:
        item.pop("time_in_zone", None)  # by the wall clock
    counts = [each.to_dict() for each in result.line_counts]
    print(json.dumps([result.results, result.trails, result.zone_counts, counts], sort_keys=True))
sys.exit(5)
"""


class Program:
    """Runs ``dgrec run`` with a program in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(
        self, options: list[str], text: str, *arguments: str
    ) -> subprocess.CompletedProcess[str]:
        app = self.folder / "app.py"
        app.write_text(textwrap.dedent(text))
        command = [sys.executable, "-m", "dgrec", "run", *options, "--", sys.executable]
        with subprocess.Popen(
            [*command, str(app), *arguments],
            cwd=self.folder,
            env=Command(self.folder).environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as running:
            try:
                out, errors = running.communicate(timeout=PATIENCE_S)
            except BaseException:
                os.killpg(running.pid, signal.SIGKILL)  # the program, too, and its workers
                raise
        return subprocess.CompletedProcess(running.args, running.returncode, out, errors)

    def printed(self, options: list[str], text: str, *arguments: str) -> Any:
        done = self.run(options, text, *arguments)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session with a video, of a camera that is gone."""
    folder = tmp_path_factory.mktemp("numbered")
    footage = clip(folder / "door.mp4")
    session = record(footage, folder / "s.parquet", every=2, video="raw", video_quality=1)
    footage.unlink()
    return session


def test_an_unchanged_program_prints_the_same(program: Program) -> None:
    source = str(short_clip(program.folder / "clip.mp4"))
    live = program.run(
        ["-o", "rec", "--video", "raw"], APP, sample.MODEL_NAME, str(sample.ZOO), "@local", source
    )
    assert live.returncode == 5, live.stderr
    assert len(live.stdout.splitlines()) == FRAMES / 2  # 15 of 30 frames a second
    assert '"track_id"' in live.stdout
    Path(source).unlink()
    (session,) = (program.folder / "rec").glob("*.parquet")
    replay = ["--replay", str(session), "--pace", "fast"]
    # Neither the zoo nor the host nor the camera is there.
    elsewhere = sample.MODEL_NAME, "degirum/public", "@cloud", "rtsp://camera.invalid/stream"
    again = program.run(replay, APP, *elsewhere)
    assert (again.returncode, again.stdout) == (5, live.stdout)
    assert again.stderr == ""
    recorded = program.run([*replay, "-o", "again"], APP, *elsewhere)
    assert recorded.stdout == live.stdout
    (copy,) = (program.folder / "again").glob("*.parquet")
    assert verify(copy) == []
    with dgrec.open(session) as before, dgrec.open(copy) as after:
        assert [frame.results for frame in after] == [frame.results for frame in before]
        assert after.metadata["model"]["name"] == sample.MODEL_NAME
    assert names(program.folder) == ["again", "app.py", "rec"]


COMPOUND = """
import json, sys
from degirum_tools import *

model, second = (
    ModelSpec(
        model_name=sys.argv[1], zoo_url=sys.argv[2], inference_host_address="@local"
    ).load_model()
    for _ in range(2)
)
compound = {compound}
zones = ZoneCounter([[[0, 0], [300, 0], [300, 360], [0, 360]]])
for result in predict_stream(compound, sys.argv[3], analyzers=zones):
    print(json.dumps([result.results, getattr(result, "zone_counts", None)]))
"""


@pytest.mark.parametrize(
    "compound",
    [
        "CombiningCompoundModel(model, second)",
        "TileModel(TileExtractorPseudoModel(2, 1, 0.1, model), model)",
    ],
)
def test_a_compound_model_is_given_back_as_one(program: Program, compound: str) -> None:
    source = str(short_clip(program.folder / "clip.mp4"))
    app = COMPOUND.format(compound=compound)
    arguments = sample.MODEL_NAME, str(sample.ZOO)
    live = program.run(["-o", "rec", "--video", "raw"], app, *arguments, source)
    assert live.returncode == 0, live.stderr
    assert len(live.stdout.splitlines()) == FRAMES
    (session,) = (program.folder / "rec").glob("*.parquet")
    replay = ["--replay", str(session), "--pace", "fast"]
    again = program.run(replay, app, *arguments, "gone.mp4")
    assert again.returncode == 0, again.stderr
    # degirum_tools runs no analyzer on the last result of models that crop.
    assert again.stdout.splitlines()[:-1] == live.stdout.splitlines()[:-1]
    assert again.stdout.splitlines()[-1:] != []
    alone = app.replace("predict_stream(compound", "predict_stream(second")
    refused = program.run(replay, alone, *arguments, "gone.mp4")
    assert refused.returncode == 1
    assert f"{sample.MODEL_NAME}: only the results of {compound[:12]}" in refused.stderr


FRAME_BY_FRAME = """
import json, sys
sys.path.insert(0, sys.argv[1])
from degirum_tools import CombiningCompoundModel
from degirum_tools.compound_models.compound_models import ModelLike
from tests.dgrec.stand_in.scripted import OUTPUTS, ScriptedModel, picture

class Own(ModelLike):
    def __init__(self, model1, model2):
        self.model1, self.model2 = model1, model2

    def predict_batch(self, data):
        yield from self.model1.predict_batch(data)

parts = [
    ScriptedModel("DetectionYolo", lambda number: OUTPUTS["yolo"][1](1 + number % 3), name=name)
    for name in ("detector", "parts")
]
still = picture(1)
for compound in (CombiningCompoundModel(*parts), Own(*parts)):
    for run in (compound, compound.predict):
        print(json.dumps([run(still).results for _ in range(4)]))
    (result,) = compound.predict_batch([(still, "info")])
    print(result.info)
"""


def test_a_compound_model_that_is_run_frame_by_frame(program: Program) -> None:
    """Frames with the same pixels are taken in order, and a class of the program's own is, too."""
    root = str(Path(__file__).parents[2])
    live = program.run(["-o", "rec"], FRAME_BY_FRAME, root)
    assert live.returncode == 0, live.stderr
    results = [json.loads(line) for line in live.stdout.splitlines() if line != "info"]
    assert [len({json.dumps(each) for each in run}) > 1 for run in results] == [True] * 4
    again = program.run(["--replay", "rec", "--pace", "fast"], FRAME_BY_FRAME, root)
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == live.stdout


OPENERS = """
    import importlib.util, json, sys
    sys.path.insert(0, {root!r})
    import degirum
    assert importlib.util.find_spec("cv2").has_location
    import cv2
    from tests.dgrec.stand_in.numbered import number_in
    from degirum_tools import create_video_stream, open_video_stream, streams

    def read(stream):
        found = []
        while True:
            ok, image = stream.read()
            if not ok:
                return found
            found.append(number_in(image))

    opened = cv2.VideoCapture(0)
    assert isinstance(opened, cv2.VideoCapture) and opened.isOpened()
    shown = {{"camera": read(opened)}}
    opened.release()
    assert not opened.isOpened()
    late = cv2.VideoCapture()
    assert not late.isOpened()
    assert late.open("rtsp://user:secret@host/door")
    shown["late"] = read(late)
    with open_video_stream("door.mp4") as stream:
        shown["tools"] = read(stream)
    shown["gstreamer"] = read(create_video_stream("door.mp4", use_gstreamer=True))

    class Sink(streams.Gizmo):
        def __init__(self):
            super().__init__([(0, False)])
            self.found = []

        def run(self):
            self.found += [number_in(data.data) for data in self.get_input(0)]

    sink = Sink()
    streams.Composition(streams.VideoSourceGizmo("http://host/mjpeg") >> sink).start(wait=True)
    shown["gizmo"] = sink.found
    model = degirum.load_model("a-model", "somewhere", "org/zoo", "no-token")
    assert degirum.connect("ai-server.invalid").load_model("other").device_type == model.device_type
    scores = [result.results[0]["score"] * 256 for result in model.predict_batch(
        cv2.VideoCapture(0).read()[1] for _ in range(2))]
    writer = cv2.VideoWriter("own.avi", cv2.VideoWriter_fourcc(*"MJPG"), 10, (160, 96))
    for number in (3, 7, 5):
        capture = cv2.VideoCapture("door.mp4")
        capture.set(cv2.CAP_PROP_POS_FRAMES, number)
        writer.write(capture.read()[1])
    writer.release()
    own = cv2.VideoCapture("own.avi")
    assert own.getBackendName() != "DGREC" and type(own) is cv2.VideoCapture
    shown["own"] = read(own)
    print(json.dumps([shown, scores, degirum.connect("@cloud").list_models() is not None]))
"""


def test_whatever_it_opens_is_the_recorded_camera(program: Program, numbered: Path) -> None:
    root = str(Path(__file__).parents[2])
    options = ["--replay", str(numbered), "--pace", "fast"]
    shown, scores, _ = program.printed(options, OPENERS.format(root=root))
    every_second = list(range(0, 24, 2))
    for way in ("camera", "late", "tools", "gstreamer", "gizmo"):
        assert shown[way] == every_second
    assert shown["own"] == [6, 14, 10]  # what the program has written is its own
    assert scores == [0, 0]


def test_a_session_that_cannot_be_replayed(program: Program) -> None:
    for session, why in (("none.parquet", "none.parquet: cannot be read: "), ("a=", "is empty")):
        done = program.run(["--replay", session], "print('ran')")
        assert done.returncode in (1, 2)
        assert "ran" not in done.stdout
        assert why in done.stderr
        assert "Traceback" not in done.stderr
    done = program.run(["--pace", "fast"], "print('ran')")
    assert done.returncode == 2
    assert "--pace goes with --replay" in done.stderr


def test_a_model_that_was_not_recorded(program: Program, tmp_path: Path) -> None:
    sessions = [tmp_path / f"{name}.parquet" for name in ("cat", "dog")]
    for path in sessions:
        with dgrec.Recorder(path, metadata={"model": {"name": path.stem}}) as recorder:
            recorder.add([])
    options = [each for path in sessions for each in ("--replay", str(path))]
    done = program.run(options, "import degirum; degirum.load_model('cow', '@local', '/zoo')")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("cow: was not recorded; recorded are cat, dog")
    listed = "import degirum, json; print(json.dumps(degirum.connect('@local').list_models()))"
    assert program.printed(options, listed) == ["cat", "dog"]


# --- which session -----------------------------------------------------------------------------


def replayed(*sessions: str | Path) -> Replayed:
    return Replayed(Replay.of(tuple(map(str, sessions)), "fast", began_ns=2**62))


@pytest.fixture
def two_cameras(tmp_path: Path) -> Iterator[list[Path]]:
    """Sessions of one model on two sources, the numbers from 0 and from 100 on."""
    sessions = []
    for name, frames in (("front", 6), ("back", 9)):
        footage = clip(tmp_path / f"{name}.mp4", frames, size=(160 + 16 * frames, 96))
        sessions.append(record(footage, tmp_path / f"s-{name}.parquet", video="raw"))
        footage.unlink()
    return sessions


def test_sources_are_found_by_what_was_recorded(two_cameras: list[Path], tmp_path: Path) -> None:
    found = replayed(*two_cameras)
    for source, count in (
        (str(tmp_path / "front.mp4"), 6),
        ("elsewhere/back.mp4", 9),
        (Path("front.mp4"), 6),
        (f"{two_cameras[1]}?pace=fast", 9),
    ):
        camera = found.camera(source)
        assert camera is not None
        with camera:
            assert camera.frame_count == count
    with pytest.raises(SourceError, match=r"0: is not one of the recorded sources \(") as error:
        found.camera(0)
    assert "--replay SOURCE=SESSION" in str(error.value)
    with pytest.raises(SourceError) as error:
        found.camera("rtsp://user:secret@host/x")
    assert "secret" not in str(error.value)


def test_a_folder_stands_for_its_sessions(
    two_cameras: list[Path], tmp_path: Path, program: Program
) -> None:
    assert Replay.of((str(tmp_path),), "fast", 0).sessions == tuple(map(str, sorted(two_cameras)))
    assert Replay.of((f"cam0={tmp_path}",), "fast", 0).sources == ("cam0", "cam0")
    found = replayed(tmp_path)
    for source, count in (("front.mp4", 6), ("back.mp4", 9)):
        camera = found.camera(source)
        assert camera is not None
        with camera:
            assert camera.frame_count == count
    empty = tmp_path / "empty"
    empty.mkdir()
    runs = tmp_path / "runs"
    runs.mkdir()
    for number in (1, 2):
        path = runs / f"app-{number}.parquet"
        with dgrec.Recorder(path, metadata={"model": {"name": "cat"}}) as recorder:
            recorder.add([])
    for folder, why in (
        (empty, f"{empty}: is a folder without sessions"),
        (
            runs,
            f"--replay {runs}: has several recordings of cat from one camera (app-1.parquet, "
            "app-2.parquet, ...); name those that are meant",
        ),
    ):
        done = program.run(["--replay", str(folder)], "print('ran')")
        assert (done.returncode, done.stdout) == (1, "")
        assert why in done.stderr
        assert "Traceback" not in done.stderr


def test_sources_that_are_named(two_cameras: list[Path]) -> None:
    address = "rtsp://user:secret@host/b"
    found = replayed(f"0={two_cameras[0]}", f"{address}={two_cameras[1]}")
    for source, count in ((0, 6), ("0", 6), (address, 9)):
        camera = found.camera(source)
        assert camera is not None
        with camera:
            assert camera.frame_count == count
    with pytest.raises(SourceError, match=r"recorded sources \(0; rtsp://\*\*\*@host/b\)") as error:
        found.camera(1)
    assert "secret" not in str(error.value)


def test_one_model_on_two_cameras(two_cameras: list[Path]) -> None:
    from dgrec.stand_in.replayed_zoo import ReplayedZoo

    found = replayed(*two_cameras)
    model = ReplayedZoo("", "", found).load_model("number-reader")
    cameras = [found.camera(name) for name in ("front.mp4", "back.mp4")]
    images = [image for camera in cameras for image in camera or ()]
    images = images[::2] + images[1::2]
    results = list(model.predict_batch(iter(images)))
    assert [result.results[0]["score"] * 256 for result in results] == [
        number_in(image) for image in images
    ]
    with pytest.raises(Exception, match="has the pixels of this picture"):
        model(images[0][8:])


def test_each_session_of_a_model_has_its_own_settings(tmp_path: Path) -> None:
    from degirum_tools import ObjectTracker, ZoneCounter, attach_analyzers

    from dgrec.analyzers import describe
    from dgrec.stand_in.replayed_zoo import ReplayedZoo

    zones = ZoneCounter([[[0, 0], [50, 0], [50, 60], [0, 60]]])

    def session(name: str, numbers: list[int], analyzers: Any = (), **settings: Any) -> Path:
        path = tmp_path / f"{name}.parquet"
        least = settings.get("output_confidence_threshold", 0)
        found = [
            {"bbox": [3, 3, 40, 40], "category_id": 0, "label": "person", "score": score}
            for score in (0.8, 0.5)
            if score >= least
        ]
        live = ScriptedModel("Detection", lambda _: [{**each, "track_id": 77} for each in found])
        attach_analyzers(live, [each for each in analyzers if each is zones])
        metadata: Any = {
            "model": {"name": "cat", "result_type": "Detection", "parameters": settings},
            "analyzers": describe(analyzers),
        }
        with dgrec.Recorder(path, metadata=metadata) as recorder:
            for result in live.predict_batch([picture(number) for number in numbers]):
                recorder.add(result)
        return path

    def load(*sessions: Path) -> Any:
        return ReplayedZoo("", "", replayed(*sessions)).load_model("cat")

    def scores_of(result: Any) -> list[float]:
        return [found["score"] for found in result.results]

    def scores(model: Any, number: int) -> list[float]:
        return scores_of(model(picture(number)))

    def exchanged(number: int) -> Any:
        return picture(number)[..., ::-1].copy()

    front = session("front", [0, 2], output_confidence_threshold=0.75)
    analyzers = [ObjectTracker(trail_depth=3), zones]
    back = session("back", [0, 1], analyzers, output_confidence_threshold=0.35)
    model = load(front, back)
    for number, path in ((0, front), (1, back), (2, front)):
        given, alone = model(picture(number)), dgrec.model(path)(picture(number))
        assert given.results == alone.results
        assert np.array_equal(given.image_overlay, alone.image_overlay)
    model.output_confidence_threshold = 0.35
    assert [scores(model, number) for number in (0, 1)] == [[0.8, 0.5]] * 2
    with pytest.raises(Exception, match=r"front\.parquet: .*=0\.35: .* was recorded at 0\.75"):
        model(picture(2))
    with pytest.raises(ModelError, match=r"^output_confidence_threshold=0\.1: the session was"):
        model.output_confidence_threshold = 0.1
    model.output_confidence_threshold = 0.75
    assert [scores(model, number) for number in (0, 1, 2)] == [[0.8]] * 3
    attach_analyzers(model, [ObjectTracker(trail_depth=3)])
    assert model(picture(1)).results[0]["track_id"] == 77  # as recorded: it does not run again
    assert model(picture(2)).results[0]["track_id"] != 77  # there it had not run
    model = load(front, back)
    model.image_backend = "pil"  # with red and blue exchanged
    model.output_confidence_threshold = 0.35
    assert [scores_of(model(exchanged(number))) for number in (0, 1)] == [[0.8, 0.5]] * 2
    with pytest.raises(Exception, match=r"front\.parquet: .*=0\.35: .* was recorded at 0\.75"):
        model(exchanged(2))

    others = [session(name, [3], output_class_set=[name]) for name in ("cat", "dog")]
    with pytest.raises(ModelError, match=r"output_class_set: .*cat\.parquet was .*dog\.parquet"):
        load(*others)


def test_settings_of_the_models_in_a_compound_model_are_those_of_the_recording(
    tmp_path: Path,
) -> None:
    from degirum_tools import CombiningCompoundModel

    from dgrec.stand_in.replayed_program import model_name
    from dgrec.stand_in.replayed_zoo import ReplayedZoo, compound_stand_in

    session = tmp_path / "s.parquet"
    names = ("detector", "parts")
    parts: list[Any] = [ScriptedModel("DetectionYolo", lambda _: [], name=name) for name in names]
    parts[0].output_confidence_threshold = 0.1
    live = CombiningCompoundModel(*parts)
    with dgrec.Recorder(session) as recorder, recorder.watch(live):
        assert len(list(live.predict_batch([picture(0)]))) == 1
    found = replayed(session)
    zoo = ReplayedZoo("", "", found)
    parts = [zoo.load_model(name) for name in names]
    compound = CombiningCompoundModel(*parts)
    compound.output_confidence_threshold = 0.1  # as the program did

    def whole() -> Any:
        return compound_stand_in(compound, model_name(compound), found)

    for part, name, other in (
        (0, "output_confidence_threshold", 0.75),
        (1, "output_max_detections", 1),
        (1, "output_class_set", ["person"]),
        (1, "output_pose_threshold", 0.5),
    ):
        before = getattr(parts[part], name)
        setattr(parts[part], name, other)
        with pytest.raises(ModelError, match=rf"^{names[part]}: {name}=.* was recorded with"):
            whole()
        setattr(parts[part], name, before)
    assert len(list(whole().predict_batch([picture(0)]))) == 1
    parts[0].output_confidence_threshold = 0.75  # as the program did meanwhile
    assert len(list(whole().predict_batch([picture(0)]))) == 1


def test_each_run_begins_at_the_first_frame_of_every_session(tmp_path: Path) -> None:
    from dgrec.stand_in.replayed_zoo import ReplayedZoo

    sessions = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for number, path in enumerate(sessions):
        with dgrec.Recorder(path, metadata={"model": {"name": "cat"}}) as recorder:
            for score in (0.1, 0.2, 0.3):
                recorder.add([{"score": score}], picture(number))
    model = ReplayedZoo("", "", replayed(*sessions)).load_model("cat")
    for number in (0, 1):
        for _ in range(2):
            runs = model.predict_batch([picture(number)] * 2)
            assert [result.results[0]["score"] for result in runs] == [0.1, 0.2]


def test_crops_are_not_the_camera(tmp_path: Path) -> None:
    """The second model has more frames: two crops of each picture, or all of it."""
    kinds: dict[str, list[Any]] = {"whole": [], "crops": []}
    for number in range(4):
        image = picture(number)
        kinds["whole"].append(image)
        kinds["crops"] += [image[:40, :50], image[20:, 30:]] if number else [image]
    for name, images in kinds.items():
        metadata = {
            "source": {"kind": "program", "given": "app"},
            "group": {"id": "1"},
            "model": {"name": name},
        }
        path = tmp_path / f"app-{name}.parquet"
        with dgrec.Recorder(path, video="lossless", metadata=metadata) as recorder:
            for image in images:
                recorder.add([], image)
    camera = replayed(tmp_path).camera("rtsp://host/door")
    assert camera is not None
    with camera:
        found = list(camera)
    assert len(found) == 4
    assert all(map(np.array_equal, found, kinds["whole"]))


def test_models_are_found_by_their_names(tmp_path: Path, numbered: Path) -> None:
    assert replayed(numbered).sessions_of("anything") == [numbered]
    for name in ("cat", "dog"):
        with dgrec.Recorder(
            tmp_path / f"{name}.parquet", metadata={"model": {"name": name}}
        ) as recorder:
            recorder.add([])
    found = replayed(tmp_path / "cat.parquet", tmp_path / "dog.parquet")
    assert found.sessions_of("org/zoo/dog") == [tmp_path / "dog.parquet"]
    with pytest.raises(ModelError, match="cow: was not recorded; recorded are cat, dog"):
        found.sessions_of("cow")


def test_what_is_no_source_is_left_alone(numbered: Path, tmp_path: Path) -> None:
    found = Replayed(Replay.of((str(numbered),), "fast", began_ns=0))
    for source in (None, 1.5, b"x", object(), True):
        assert found.camera(source) is None
    (tmp_path / "new.avi").write_bytes(b"written by the program")
    assert found.camera(str(tmp_path / "new.avi")) is None
    with pytest.raises(ConfigError, match="the name of a session is empty"):
        Replay.of(("cam0=",), "fast", began_ns=0)


@pytest.mark.parametrize(
    ("last", "ending"),
    [
        ("", ("finished", None)),
        ("sys.exit(3)", ("finished", None)),
        ("raise KeyboardInterrupt", ("interrupted", None)),
        ("open('no such file')", ("failed", "FileNotFoundError: [Errno 2] No such file")),
    ],
)
def test_what_a_program_died_of(program: Program, last: str, ending: tuple[str, str]) -> None:
    text = f"""
    import sys
    import numpy as np
    from degirum_tools import ModelSpec

    spec = ModelSpec(
        model_name="{sample.MODEL_NAME}", zoo_url="{sample.ZOO}", inference_host_address="@local"
    )
    spec.load_model()(np.zeros((360, 640, 3), np.uint8))
    {last}
    """
    program.run(["-o", "rec"], text)
    (path,) = (program.folder / "rec").glob("*.parquet")
    with dgrec.open(path) as session:
        assert len(session) == 1
        reason, detail = ending
        assert session.metadata["end_reason"] == reason
        assert str(session.metadata.get("end_detail")).startswith(str(detail))
