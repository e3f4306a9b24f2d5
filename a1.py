import sys
sys.path.insert(0,'/tmp/w/camera')
import cv2, degirum
w=[]
for i in range(3):
    m = degirum.load_model("a-model", "somewhere", "org/zoo", "no-token"); print("m",i, flush=True)
degirum.connect("@cloud").list_models(); print("ok1", flush=True)
c = cv2.VideoCapture(0); c.read(); print("ok2", flush=True)
degirum.connect("@cloud").list_models(); print("ok3", flush=True)
list(m.predict_batch(cv2.VideoCapture(0).read()[1] for _ in range(2)))
degirum.connect("@cloud").list_models(); print("ok4", flush=True)
writer = cv2.VideoWriter("own.avi", cv2.VideoWriter_fourcc(*"MJPG"), 10, (160, 96))
for number in (3, 7, 5):
    capture = cv2.VideoCapture("door.mp4")
    capture.set(cv2.CAP_PROP_POS_FRAMES, number)
    writer.write(capture.read()[1])
writer.release()
degirum.connect("@cloud").list_models(); print("ok5", flush=True)
own = cv2.VideoCapture("own.avi")
own.read()
degirum.connect("@cloud").list_models(); print("ok6", flush=True)
while own.read()[0]: pass
degirum.connect("@cloud").list_models(); print("ok7", flush=True)
import gc; gc.collect()
degirum.connect("@cloud").list_models(); print("ok8", flush=True)
from degirum_tools import create_video_stream
degirum.connect("@cloud").list_models(); print("ok9", flush=True)
