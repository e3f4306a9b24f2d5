"""A recording in place of the model or the camera, through PySDK's and OpenCV's calls.

=================  =====================================================================
zoo                sessions as a model zoo of PySDK, ``inference_host_address="@dgrec"``
session_model      the model object: PySDK's, with recorded results
run                one run over a model's results, with a state of its own
frames             the recorded frames, by position
matching           which recorded frame a picture is
given_pictures     the pictures that recorded cameras gave out, and their rows
settings           thresholds and limits, applied to recorded results
recorded_trackers  trackers that ran while a session was recorded
results            PySDK's result objects from recorded results
session_camera     the camera object: OpenCV's, with recorded pictures
video_sources      sessions as video sources of degirum_tools
replayed_program   an unchanged program, whose models and cameras are recordings
replayed_zoo       the zoo of such a program
door               `model`, `camera`, and the zoo that PySDK finds
=================  =====================================================================

PySDK is imported with the models and zoos, and not before.
"""

from dgrec.stand_in import settings
from dgrec.stand_in.door import camera, model, register_zoo
from dgrec.stand_in.replayed_program import REPLAY, Replay, Replayed, model_name, replay_recordings
from dgrec.stand_in.video_sources import register_video_sources

__all__ = [
    "REPLAY",
    "Replay",
    "Replayed",
    "camera",
    "model",
    "model_name",
    "register_video_sources",
    "register_zoo",
    "replay_recordings",
    "settings",
]
