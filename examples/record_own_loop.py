"""Record an own loop: nothing in it changes but the line that watches the model.

python examples/record_own_loop.py [VIDEO] [SESSION]
"""

import sys

import cv2
from degirum_tools import ModelSpec

import dgrec
from dgrec import sample


def pictures(path):
    """Yield the pictures of a video, as a program reads them today."""
    video = cv2.VideoCapture(path)
    while True:
        is_there, picture = video.read()
        if not is_there:
            return
        yield picture


def main(video, output):
    spec = ModelSpec(
        model_name=sample.MODEL_NAME, zoo_url=str(sample.ZOO), inference_host_address="@local"
    )
    with (
        spec.load_model() as model,
        dgrec.Recorder(output, video="raw", overwrite=True) as recorder,
        recorder.watch(model),
    ):
        was_there = False
        for result in model.predict_batch(pictures(video)):
            # What the loop hangs on a result is recorded with it.
            result.is_watched = any(face["score"] > 0.9 for face in result.results)
            if result.is_watched != was_there:
                recorder.mark("somebody looks" if result.is_watched else "nobody looks")
            was_there = result.is_watched
    with dgrec.open(output) as session:
        watched = sum(frame.is_watched for frame in session)
        print(f"{len(session)} frames, somebody looked in {watched} of them")
        for event in session.metadata.get("events", []):
            print(event["at"], event["text"])


if __name__ == "__main__":
    main(*(sys.argv[1:] + [str(sample.CLIP), "own_loop.parquet"][len(sys.argv) - 1 :]))
