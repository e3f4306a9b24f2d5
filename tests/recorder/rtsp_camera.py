"""An RTSP camera on loopback: GStreamer's RTSP server, H.264 over RTP.

    /usr/bin/python3 rtsp_camera.py PORT FPS FIRST_FRAME

Run by Debian's own Python, which has GStreamer's bindings and nothing of ours: only the standard
library may be imported here. The pictures are those of `network_camera.picture`. SIGUSR1 makes the
camera lose five frames: their numbers and their time pass, and nothing is sent.
"""

import signal
import sys
import threading
import time

WIDTH, HEIGHT, BITS, BLOCK = 320, 240, 16, 16
LOST_AT_ONCE = 5


def gray_picture(number: int) -> bytes:
    """Return `network_camera.picture` as 8-bit gray, row by row."""
    blocks = b"".join((b"\xff" if number >> bit & 1 else b"\x00") * BLOCK for bit in range(BITS))
    gray = b"\x5a"
    row = blocks + gray * (WIDTH - len(blocks))
    return row * BLOCK + gray * (WIDTH * (HEIGHT - BLOCK))


def main(port: int, fps: float, first: int) -> None:
    import gi  # type: ignore[import-not-found]

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer  # type: ignore[import-not-found]

    Gst.init(None)
    state = {"next": first, "lose": 0}

    def film(source: Gst.Element) -> None:
        started = time.monotonic()
        base = state["next"]
        count = 0
        while True:
            delay = started + count / fps - time.monotonic()
            if delay > 0:
                time.sleep(delay)
            # A stopped process has missed what was due meanwhile, as a camera would.
            count = max(count, int((time.monotonic() - started) * fps))
            number = base + count
            count += 1
            state["next"] = base + count
            if state["lose"] > 0:
                state["lose"] -= 1
                continue
            buffer = Gst.Buffer.new_wrapped(gray_picture(number))
            buffer.pts = buffer.dts = int(count / fps * Gst.SECOND)
            buffer.duration = int(Gst.SECOND / fps)
            if source.emit("push-buffer", buffer) != Gst.FlowReturn.OK:
                return  # the last viewer has left

    def configure(factory: GstRtspServer.RTSPMediaFactory, media: GstRtspServer.RTSPMedia) -> None:
        source = media.get_element().get_by_name("pictures")
        threading.Thread(target=film, args=(source,), daemon=True).start()

    def lose() -> bool:
        state["lose"] = LOST_AT_ONCE
        return True

    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(port))
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(
        "( appsrc name=pictures is-live=true format=time caps="
        f"video/x-raw,format=GRAY8,width={WIDTH},height={HEIGHT},framerate={int(fps)}/1 "
        "! videoconvert ! video/x-raw,format=I420 "
        "! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 bitrate=1000 "
        "! rtph264pay name=pay0 config-interval=1 )"
    )
    factory.set_shared(True)
    factory.connect("media-configure", configure)
    server.get_mount_points().add_factory("/cam", factory)
    server.attach(None)
    GLib.unix_signal_add(GLib.PRIORITY_HIGH, signal.SIGUSR1, lose)
    print("ready", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
