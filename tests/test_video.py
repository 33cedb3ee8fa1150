"""Recordings: every frame is the one that was asked for, in any order, and what is broken says so in one line."""

import multiprocessing
import pickle
import random
import wave
import weakref
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import pairwise, product

import av
import cv2
import numpy as np
import pytest

from fleeting import video
from fleeting.errors import UserError
from fleeting.records import Clip, FlowFile
from fleeting.video import containers, movies, pictures

SIZE = (48, 96)
BITS = 10


def coded(index, size=SIZE):
    """A picture that says which it is: ten blocks of 16 px, one a bit; compression does not hide them."""
    picture = np.full((*size, 3), 90, np.uint8)
    for bit in range(BITS):
        row, column = divmod(bit, 5)
        picture[row * 16 : row * 16 + 16, column * 16 : column * 16 + 16] = 220 if index >> bit & 1 else 30
    return picture


def decoded(picture):
    """Which picture it is."""
    corners = [divmod(bit, 5) for bit in range(BITS)]
    blocks = [picture[row * 16 + 4 : row * 16 + 12, column * 16 + 4 : column * 16 + 12] for row, column in corners]
    return sum((block.mean() > 128) << bit for bit, block in enumerate(blocks))


def movie(path, count=60, codec="libx264", rate=30, pix="yuv420p", stamps=None, base=None, size=SIZE, **options):
    """A video of coded pictures; `stamps` are time stamps in `base`."""
    with av.open(str(path), "w", options=options.pop("container", {})) as container:
        stream = container.add_stream(
            codec, rate=rate, options={key.replace("_", "-"): v for key, v in options.items()}
        )
        stream.height, stream.width = size
        stream.pix_fmt = pix
        if base is not None:
            stream.time_base = stream.codec_context.time_base = base
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(coded(index, size), "rgb24").reformat(format=pix, threads=1)
            frame.pts, frame.time_base = (index, 1 / Fraction(rate)) if stamps is None else (stamps[index], base)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def clip(frames, **values):
    return Clip("own", "s1", "a", frames, **values)


# --- the right frame, in any order

KINDS = {
    "mp4, B-frames": ("a.mp4", {"codec": "libx264", "g": "12", "bf": "3"}),
    "mp4, one key frame": ("a.mp4", {"codec": "libx264", "g": "1000"}),
    "open groups": ("a.mkv", {"codec": "libx264", "x264_params": "open-gop=1:keyint=12:bframes=3:scenecut=0"}),
    "no key frames": ("a.mkv", {"codec": "libx264", "x264_params": "intra-refresh=1:keyint=20"}),
    "hevc, open groups": ("a.mp4", {"codec": "libx265", "x265_params": "keyint=12:log-level=none"}),
    "10 bits": ("a.mkv", {"codec": "libx264", "pix": "yuv420p10le", "g": "12"}),
    "transport stream": ("a.ts", {"codec": "libx264", "g": "12", "rate": Fraction(30000, 1001)}),
    "avi, mjpeg": ("a.avi", {"codec": "mjpeg", "pix": "yuvj420p"}),
    "avi, mpeg4": ("a.avi", {"codec": "mpeg4", "bf": "2", "b": "2000000"}),
    "avi, h264 with B-frames": ("a.avi", {"codec": "libx264", "g": "12", "bf": "3"}),
    "avi, raw": ("a.avi", {"codec": "rawvideo", "pix": "bgr24"}),
    "webm, vp8": ("a.webm", {"codec": "libvpx", "auto_alt_ref": "1", "lag_in_frames": "16", "b": "2000000"}),
    "webm, vp9": ("a.webm", {"codec": "libvpx-vp9", "b": "2000000", "g": "12", "cpu_used": "8"}),
    "grey": ("a.mkv", {"codec": "ffv1", "pix": "gray"}),
    "grey, 10 bits, odd": ("a.mkv", {"codec": "ffv1", "pix": "gray10le", "size": (51, 97)}),
    "odd": ("a.mkv", {"codec": "ffv1", "pix": "yuv420p", "size": (51, 97)}),
}


@pytest.fixture(scope="module", params=KINDS, ids=lambda name: name.replace(" ", "_"))
def kind(request, tmp_path_factory):
    name, options = KINDS[request.param]
    return movie(tmp_path_factory.mktemp("kind") / name, **options), options


def test_every_frame_in_order_and_in_disorder(kind):
    path, options = kind
    with video.open(path) as frames:
        assert (len(frames), frames.size) == (60, options.get("size", SIZE))
        first_time = [frame.tobytes() for frame in frames]
        assert [decoded(frames[index]) for index in range(60)] == list(range(60))
    orders = [
        list(range(59, -1, -1)),
        list(range(0, 60, 7)),
        *(random.Random(seed).choices(range(60), k=60) for seed in (1, 2)),
    ]
    for order in orders:
        with video.open(path) as frames:
            for index in order:
                assert frames[index].tobytes() == first_time[index], index


def test_time_stamps_rise_by_a_frame(kind):
    path, options = kind
    with video.open(path) as frames:
        rate = float(options.get("rate", 30))
        assert frames.fps == pytest.approx(rate, rel=1e-9)
        assert np.allclose(np.diff(frames.times_s), 1 / rate, atol=1.1e-3 if path.suffix in (".mkv", ".webm") else 1e-9)
        assert not frames.notices
        assert frames.gaps == ()


def test_a_frame_is_the_readers_own_array(tmp_path):
    with video.open(movie(tmp_path / "a.mp4", 5)) as frames:
        before = frames[2].copy()
        frames[2][:] = 0
        assert np.array_equal(frames[2], before)
        assert (before.dtype, before.shape, before.flags.c_contiguous) == (np.uint8, (*SIZE, 3), True)


def test_frames_are_a_sequence(tmp_path):
    frames = video.open(str(movie(tmp_path / "a.mp4", 12)))
    assert decoded(frames[-1]) == 11
    assert decoded(frames[np.int64(3)]) == 3
    assert [decoded(frame) for frame in frames[2:9:3]] == [2, 5, 8]
    assert [decoded(frame) for frame in reversed(frames)] == list(range(11, -1, -1))
    for outside in (12, -13):
        with pytest.raises(IndexError, match="want a frame below 12"):
            frames[outside]
    frames.close()
    assert decoded(frames[4]) == 4  # opens again


def test_little_is_kept_and_looking_back_still_works(tmp_path, monkeypatch):
    monkeypatch.setattr(movies, "_KEPT_BYTES", 0)
    path = movie(tmp_path / "a.mp4", g="15")
    reader = movies.Movie(path)
    for index in [*range(60), *range(59, -1, -1), 7, 50, 8]:
        assert decoded(reader.read(index)) == index
        assert len(reader._kept) <= 8


def test_reading_on_decodes_every_frame_once(tmp_path, monkeypatch):
    path = movie(tmp_path / "a.mp4", g="6")
    reader = movies.Movie(path)
    restarts = []
    monkeypatch.setattr(
        reader, "_restart", lambda start: restarts.append(start) or movies.Movie._restart(reader, start)
    )
    for index in range(60):
        reader.read(index)
    assert restarts == []
    for index in (40, 39, 38, 41):  # still kept
        reader.read(index)
    assert restarts == []


# --- time


def test_variable_frame_rate_keeps_the_stamps_of_the_file(tmp_path):
    ticks = np.cumsum([0, 3000, 3000, 1500, 9000, 3000, 200, 3000, 45000, 3000, 3000])
    path = movie(tmp_path / "a.mp4", 11, stamps=ticks.tolist(), base=Fraction(1, 90000))
    frames = video.open(path)
    assert np.array_equal(frames.times_s, ticks / 90000)
    assert [decoded(frame) for frame in frames] == list(range(11))
    assert frames.fps == pytest.approx(10 / (ticks[-1] / 90000))
    assert "variable frame rate: 2.2 to 500.0 ms from frame to frame, 33.3 ms as a rule" in frames.notices[0]


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(24000, 1001), Fraction(25), Fraction(200)])
def test_rational_rates_are_exact(tmp_path, rate):
    frames = video.open(movie(tmp_path / "a.mp4", 30, rate=rate))
    assert frames.fps == float(rate)
    assert frames.times_s.dtype == np.float64
    assert [Fraction(time).limit_denominator(10**6) for time in frames.times_s] == [index / rate for index in range(30)]


def test_a_late_start_stays_late(tmp_path):
    path = movie(tmp_path / "a.mkv", 10, stamps=[500 + 40 * index for index in range(10)], base=Fraction(1, 1000))
    assert np.allclose(video.open(path).times_s, 0.5 + 0.04 * np.arange(10), atol=1e-9)


def test_frames_before_an_edit_list_are_not_shown(tmp_path):
    stamps = [512 * (index - 7) for index in range(40)]
    path = movie(
        tmp_path / "a.mp4", 40, stamps=stamps, base=Fraction(1, 15360), g="10", bf="2", container={"use_editlist": "1"}
    )
    frames = video.open(path)
    order = random.Random(0).sample(range(33), 33)
    assert {index: decoded(frames[index]) for index in order} == {index: index + 7 for index in order}
    assert len(frames) == 33
    assert np.allclose(frames.times_s, np.arange(33) / 30, atol=1e-9)


def test_a_corpus_that_knows_better_than_a_slow_motion_file(tmp_path):
    path = movie(tmp_path / "a.mp4", 20, rate=25)
    slow = video.open(clip(path, fps=200.0))
    assert slow.fps == 200
    assert np.allclose(slow.times_s, np.arange(20) / 200)
    assert "the file says 25 frames a second, the corpus 200" in slow.notices[0]
    same = video.open(clip(path, fps=25.0))
    assert np.array_equal(same.times_s, video.open(path).times_s)
    assert same.notices == ()


def test_a_single_frame(tmp_path):
    frames = video.open(movie(tmp_path / "a.mp4", 1))
    assert (len(frames), frames.fps, frames.times_s.tolist()) == (1, 30, [0])


# --- upright, in true colours


def turned(path, matrix):
    """The file with another display matrix in its track header."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    a, b, c, d = (int(value * 65536) for value in matrix)
    for number, value in enumerate((a, b, 0, c, d, 0, 0, 0, 1 << 30)):
        data[at + 4 * number : at + 4 * number + 4] = value.to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    return path


def displayed(picture, matrix):
    """Each pixel where the matrix puts it."""
    a, b, c, d = matrix
    y, x = np.indices(picture.shape[:2])
    right, down = a * x + c * y, b * x + d * y
    right, down = right - right.min(), down - down.min()
    out = np.zeros((down.max() + 1, right.max() + 1, 3), np.uint8)
    out[down, right] = picture
    return out


@pytest.mark.parametrize(
    "matrix",
    [(a, 0, 0, d) for a, d in product((1, -1), repeat=2)] + [(0, b, c, 0) for b, c in product((1, -1), repeat=2)],
)
def test_turned_and_mirrored_videos_are_upright(tmp_path, matrix):
    plain = video.open(movie(tmp_path / "a.mp4", 3))[2]
    frames = video.open(turned(movie(tmp_path / "b.mp4", 3), matrix))
    assert frames.size == ((96, 48) if matrix[0] == 0 else (48, 96))
    assert np.array_equal(frames[2], displayed(plain, matrix))


def test_a_phone_held_upright(tmp_path):
    plain = video.open(movie(tmp_path / "a.mp4", 2))[1]
    # a quarter turn clockwise
    assert np.array_equal(video.open(turned(movie(tmp_path / "b.mp4", 2), (0, 1, -1, 0)))[1], np.rot90(plain, -1))


@pytest.mark.parametrize("tag", [1, 6])
def test_colours_follow_the_tag(tmp_path, tag):
    path = tmp_path / "a.mp4"
    wanted = np.zeros((64, 64, 3), np.uint8) + np.array([200, 60, 40], np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "1"})
        stream.height = stream.width = 64
        stream.pix_fmt = "yuv444p"
        stream.codec_context.colorspace = tag
        frame = av.VideoFrame.from_ndarray(wanted, "rgb24").reformat(format="yuv444p", dst_colorspace=tag, threads=1)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert np.abs(video.open(path)[0].astype(int) - wanted).max() <= 2


def test_grey_is_three_equal_channels(tmp_path):
    picture = video.open(movie(tmp_path / "a.mkv", 3, "ffv1", pix="gray"))[1]
    assert np.array_equal(picture, coded(1))


def test_what_a_user_should_know_of_a_file(tmp_path):
    fields = video.open(movie(tmp_path / "a.mp4", 5, x264_params="tff=1"))
    assert "interlaced: a frame holds two instants" in fields.notices[0]
    with av.open(str(tmp_path / "b.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(16, 15)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(coded(0), "rgb24")))
        container.mux(stream.encode(None))
    assert "pixels are 16:15, not square" in video.open(tmp_path / "b.mp4").notices[0]


# --- broken files


def packets(path):
    """Where the frames lie in a file: (position, size), in the order in which they are stored."""
    with av.open(str(path)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]


def refused(path, words):
    with pytest.raises(UserError, match=words) as caught:
        video.open(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.avi"])
def test_a_file_that_was_cut_off_says_where_it_ends(tmp_path, name):
    options = {"container": {"movflags": "+faststart"}} if name != "a.avi" else {"codec": "mjpeg", "pix": "yuvj420p"}
    path = movie(tmp_path / name, 60, **options)
    data = path.read_bytes()
    assert not containers.is_cut(path)
    path.write_bytes(data[: sum(packets(path)[40]) - 2])
    refused(path, r"want 60 frames, the file ends at 40; copy it again")
    path.write_bytes(data[:-1])
    if name == "a.avi":
        # the index at the end is torn, no frame is
        assert [decoded(frame) for frame in video.open(path)] == list(range(60))
    else:
        refused(path, "want 60 frames, the file ends at 59; copy it again")


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "libx264"), ("a.webm", "libvpx")])
def test_a_matroska_file_that_was_cut_off(tmp_path, name, codec):
    path = movie(tmp_path / name, 60, codec)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    refused(path, r"want more frames, the file ends at \d+; copy it again")


def test_sizes_that_containers_do_not_say(tmp_path):
    path = tmp_path / "a"
    unknown = b"\x1aE\xdf\xa3\x80\x18S\x80g\x01\xff\xff\xff\xff\xff\xff\xff"
    for data in (
        b"",
        b"\x00\x00\x00\x00mdat" + bytes(9),
        b"RIFF\x00\x00\x00\x00AVI ",
        unknown,
        b"\x1aE\xdf\xa3",
        b"G" * 400,
    ):
        path.write_bytes(data)
        assert not containers.is_cut(path)
    long = (1).to_bytes(4, "big") + b"mdat" + (2**33).to_bytes(8, "big")
    for data in (long + bytes(100), b"\x1aE\xdf\xa3\x80\x18S\x80g\x40\x90" + bytes(100)):
        path.write_bytes(data)
        assert containers.is_cut(path)


def test_an_mp4_without_its_index(tmp_path):
    path = movie(tmp_path / "a.mp4", 60)
    path.write_bytes(path.read_bytes()[:3000])
    refused(path, "want a video, got a file that ends before its index")


def test_files_that_are_no_video(tmp_path):
    refused(tmp_path / "absent.mp4", "want a video file or a folder of pictures, found neither")
    for name, data, words in [
        ("empty.mp4", b"", "got an empty file"),
        ("junk.mp4", b"hello" * 1000, "got something else"),
        ("notes.txt", b"hello world\n" * 50, "got a file of text only"),
    ]:
        (tmp_path / name).write_bytes(data)
        refused(tmp_path / name, words)
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(8000))
    refused(tmp_path / "sound.wav", "got a file of audio only")


def test_a_bare_stream_has_no_time(tmp_path):
    refused(movie(tmp_path / "a.h264", 10), "want time stamps, got a bare stream")


def test_frames_before_the_damage_are_read_and_the_damaged_one_is_named(tmp_path):
    path = movie(tmp_path / "a.mp4", 60, g="12", bf="0")
    at, size = packets(path)[30]
    data = bytearray(path.read_bytes())
    data[at + 5 : at + size] = bytes(byte ^ 0x5A for byte in data[at + 5 : at + size])
    path.write_bytes(data)
    frames = video.open(path)
    assert [decoded(frames[index]) for index in range(29)] == list(range(29))
    for _ in range(2):
        with pytest.raises(UserError, match=r"a\.mp4: want 60 frames, but frame 30 cannot be decoded"):
            frames[30]
    assert [decoded(frames[index]) for index in (36, 59, 3)] == [36, 59, 3]


def test_a_video_that_changes_its_size(tmp_path):
    parts = [movie(tmp_path / f"{number}.ts", 5, size=(48, 96 + 32 * number)) for number in range(2)]
    (tmp_path / "a.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    frames = video.open(tmp_path / "a.ts")
    assert decoded(frames[4]) == 4
    with pytest.raises(UserError, match="want 96 x 48 px like the first frame, got 128 x 48; cut the video"):
        list(frames)


def test_a_video_too_small_to_see_anything(tmp_path):
    refused(movie(tmp_path / "a.mp4", 2, size=(8, 96)), "want at least 16 px a side, got 96 x 8")


# --- folders and lists of pictures


def folder(path, names, size=SIZE):
    path.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        assert cv2.imwrite(str(path / name), coded(index, size)[..., ::-1])
    return path


@pytest.mark.parametrize(
    "names",
    [
        ["img9.jpg", "img10.jpg", "img46.jpg", "img110.jpg"],
        ["reg_img46.jpg", "reg_img47.jpg", "reg_img100.jpg"],
        ["006_05562.jpg", "006_05563.jpg", "006_05564.JPG"],
        ["00000.png", "00001.png", "00002.png"],
        ["image559740.bmp", "image559741.bmp"],
        ["s01_frame_2_0009.png", "s01_frame_1_0010.png"],
    ],
)
def test_pictures_come_in_the_order_of_their_last_number(tmp_path, names):
    frames = video.open(folder(tmp_path / "clip", names))
    assert [decoded(frame) for frame in frames] == list(range(len(names)))
    assert frames.size == SIZE
    assert frames.fps is None


def test_what_is_no_picture_is_passed_over(tmp_path):
    path = folder(tmp_path / "clip", ["img2.png", "img3.png"])
    for name in ("img1.lnk", "Thumbs.db", "._img2.png", ".DS_Store", "desktop.ini", "notes7.txt"):
        (path / name).write_bytes(b"x")
    (path / "sub1").mkdir()
    assert len(video.open(path)) == 2


def test_missing_numbers_are_gaps_and_holes_in_time(tmp_path):
    path = folder(tmp_path / "clip", ["img46.png", "img47.png", "img50.png"])
    frames = video.open(clip(path, fps=200.0))
    assert frames.gaps == (48, 49)
    assert np.allclose(frames.times_s, np.array([46, 47, 50]) / 200)
    unknown = video.open(path)
    assert unknown.times_s.tolist() == [46, 47, 50]
    assert unknown.fps is None


def test_listed_pictures_come_as_listed(tmp_path):
    path = folder(tmp_path / "clip", ["img1.png", "img2.png", "img3.png"])
    listed = [path / f"img{number}.png" for number in (1, 3)]
    frames = video.open(listed)
    assert ([decoded(frame) for frame in frames], frames.gaps) == ([0, 2], (2,))
    backwards = video.open(tuple(reversed(listed)))
    assert [decoded(frame) for frame in backwards] == [2, 0]
    assert backwards.times_s.tolist() == [0, 1]
    assert "not in the order of their numbers" in backwards.notices[0]
    assert len(video.open(listed[0])) == 1


def test_grey_coloured_and_transparent_pictures(tmp_path):
    colour = np.zeros((32, 32, 3), np.uint8)
    colour[...] = (10, 100, 200)
    cv2.imwrite(str(tmp_path / "1.png"), colour[..., ::-1])
    cv2.imwrite(str(tmp_path / "2.png"), np.dstack([colour[..., ::-1], np.full((32, 32), 7, np.uint8)]))
    cv2.imwrite(str(tmp_path / "3.png"), np.full((32, 32), 77, np.uint8))
    frames = video.open(tmp_path)
    assert np.array_equal(frames[0], colour)
    assert np.array_equal(frames[1], colour)
    assert np.array_equal(frames[2], np.full((32, 32, 3), 77, np.uint8))


def test_16_bits_become_8_in_the_open(tmp_path):
    values = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    cv2.imwrite(str(tmp_path / "img1.png"), values)
    frames = video.open(tmp_path)
    assert np.array_equal(frames[0][..., 1], np.round(values / 257).astype(np.uint8))
    assert "16-bit pictures, scaled to 8 bits" in frames.notices[0]
    cv2.imwrite(str(tmp_path / "img1.png"), values // 32)
    with pytest.raises(UserError, match=r"img1\.png: want a 16-bit picture that uses its range, got values up to 2046"):
        video.open(tmp_path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif", ".webp", ".pgm"])
@pytest.mark.parametrize("share", [0.97, 0.5, 0.02, 0])
def test_a_truncated_picture_is_named(tmp_path, suffix, share):
    noise = cv2.resize(np.random.default_rng(0).integers(0, 255, (20, 20), np.uint8), (200, 150))
    path = tmp_path / f"img1{suffix}"
    cv2.imwrite(str(path), noise)
    assert len(video.open([path])) == 1
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(UserError, match=rf"img1\{suffix}: want a whole picture, got a truncated or unreadable file"):
        video.open([path])


def test_cut_pictures_are_known_without_opencv(tmp_path):
    picture = cv2.resize(np.random.default_rng(0).integers(0, 255, (9, 9, 3), np.uint8), (61, 50))
    for suffix in (".jpg", ".png", ".bmp"):
        data = cv2.imencode(suffix, picture)[1].tobytes()
        assert not pictures._is_cut(data)
        assert pictures._is_cut(data[:-3])
    thumbnail, whole = (cv2.imencode(".jpg", picture[:side, :side])[1].tobytes() for side in (20, 50))
    header = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    nested = whole[:2] + header + whole[2:]
    assert not pictures._is_cut(nested)
    assert not pictures._is_cut(nested + b"maker's trailer")
    assert pictures._is_cut(nested[: len(nested) - 100])


def test_pictures_that_cannot_be_used(tmp_path):
    with pytest.raises(UserError, match=r"gone1\.png: want a picture, found no file"):
        video.open([tmp_path / "gone1.png"])
    refused(folder(tmp_path / "tiny", ["1.png"], (3, 3)) / "1.png", "want at least 16 x 16 px, got 3 x 3")
    cv2.imwrite(str(tmp_path / "1.tiff"), np.zeros((32, 32, 3), np.float32))
    refused(tmp_path / "1.tiff", "want a picture of 8 or 16 bits, got float32")
    with pytest.raises(UserError, match="want at least one picture, got an empty list"):
        video.open([])


def test_a_picture_of_another_size_is_named_when_it_is_read(tmp_path):
    path = folder(tmp_path / "clip", ["img1.png", "img2.png"])
    folder(path, ["img2.png"], (50, 96))
    frames = video.open(path)
    assert decoded(frames[0]) == 0
    with pytest.raises(UserError, match=r"img2\.png: want 96 x 48 px like img1\.png, got 96 x 50"):
        frames[1]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["img1.png", "logo.png"], r"want a frame number in every picture's name, got logo\.png"),
        (["img46.png", "reg_img46.png"], r"want one picture a frame number, got img46\.png and reg_img46\.png"),
        (["t1.png", "t20140508123456.png"], r"want pictures numbered by frame, got t1\.png to t2014"),
        ([], "want a video file or a folder of pictures, got a folder of nothing"),
    ],
)
def test_folders_whose_order_is_not_known(tmp_path, names, words):
    refused(folder(tmp_path / "clip", names), words)


def test_a_folder_of_videos_or_folders(tmp_path):
    (tmp_path / "a" / "sub").mkdir(parents=True)
    refused(tmp_path / "a", r"got a folder of other files \(sub\); name the folder that holds the frames")
    movie(tmp_path / "b.mp4", 1)
    refused(tmp_path, r"got a folder of videos \(b\.mp4\); name the file")


# --- clips


def test_a_clip_of_published_flow_has_no_frames(tmp_path):
    flow = FlowFile(tmp_path / "a.png", (0, 1), ("strain", "v", "u"))
    with pytest.raises(UserError, match="own/s1/a: want frames, got published flow only"):
        video.open(clip(None, flow_files=(flow,)))


def test_a_clip_with_a_problem_does_not_open(tmp_path):
    with pytest.raises(UserError, match="own/s1/a: want an apex, got '/'; add it"):
        video.open(clip(movie(tmp_path / "a.mp4", 2), problem="want an apex, got '/'; add it"))


def test_a_span_is_a_view(tmp_path):
    path = movie(tmp_path / "a.mp4", 60)
    whole, part = video.open(path), video.open(clip(path, span=(20, 29), onset=0, offset=9))
    assert [decoded(frame) for frame in part] == list(range(20, 30))
    assert np.array_equal(part.times_s, whole.times_s[20:30])
    pictured = folder(tmp_path / "clip", [f"img{number}.png" for number in (1, 2, 5, 6, 9)])
    view = video.open(clip(pictured, span=(1, 3), fps=10.0))
    assert ([decoded(frame) for frame in view], view.gaps) == ([1, 2, 3], (3, 4))
    assert view.times_s.tolist() == [0.2, 0.5, 0.6]
    listed = tuple(sorted(pictured.iterdir()))
    assert [decoded(frame) for frame in video.open(clip(listed, span=(3, 4)))] == [3, 4]


@pytest.mark.parametrize("values", [{"span": (50, 60)}, {"onset": 3, "offset": 60}])
def test_indices_beyond_the_recording(tmp_path, values):
    path = movie(tmp_path / "a.mp4", 60)
    with pytest.raises(UserError, match=r"own/s1/a: want frames up to 60, got a recording of 60; correct"):
        video.open(clip(path, **values))
    with pytest.raises(UserError, match=r"want (frames up to|pictures)"):
        video.open(clip(folder(tmp_path / "clip", ["1.png", "2.png"]), **values))


def test_pickled_frames_open_again(tmp_path):
    path = movie(tmp_path / "a.mp4", 30)
    for source in (path, clip(path, span=(10, 19)), folder(tmp_path / "clip", ["1.png", "2.png"])):
        frames = video.open(source)
        again = pickle.loads(pickle.dumps(frames))
        assert np.array_equal(again.times_s, frames.times_s)
        assert np.array_equal(again[1], frames[1])


def test_a_forked_process_does_not_hang_on_the_decoder(tmp_path):
    frames = video.open(movie(tmp_path / "a.mp4", 30))
    assert decoded(frames[3]) == 3
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=lambda: results.put([decoded(frames[index]) for index in (25, 2, 3)]))
    child.start()
    assert results.get(timeout=60) == [25, 2, 3]
    child.join()
    assert decoded(frames[4]) == 4


def test_forgotten_frames_close_their_file(tmp_path):
    path = movie(tmp_path / "a.mp4", 30)
    kept = weakref.ref(video.open(path)._reader)
    assert kept() is None


def test_threads_share_frames(tmp_path):
    frames = video.open(movie(tmp_path / "a.mp4", 60, g="12"))
    order = random.Random(3).choices(range(60), k=200)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda index: decoded(frames[index]), order)) == order


# --- windows


class Long:
    """Stands for the opened frames of a long recording."""

    def __init__(self, times_s, fps):
        self.times_s, self.fps = np.asarray(times_s, np.float64), fps


def test_a_short_recording_is_its_own_window():
    one = clip("a.mp4")
    assert video.windows(one, Long(np.arange(1800) / 30, 30)) == [one]


def test_windows_overlap_and_leave_nothing_out(tmp_path):
    made = video.windows(clip(tmp_path / "a.mp4"), Long(0.5 + np.arange(5000) / 30, 30), length_s=60, overlap_s=2)
    assert [one.span for one in made] == [(0, 1799), (1740, 3539), (3480, 4999)]
    assert [one.name for one in made] == ["a@0", "a@1740", "a@3480"]
    assert len({one.key for one in made}) == 3


@pytest.mark.parametrize("count", [1801, 1859, 1860, 1861, 3540, 3541, 3600, 9000])
def test_every_stretch_as_long_as_the_overlap_lies_in_a_window(tmp_path, count):
    spans = [one.span for one in video.windows(clip(tmp_path / "a.mp4"), Long(np.arange(count) / 30, 30), 60, 2)]
    assert spans[0][0] == 0
    assert spans[-1][1] == count - 1
    assert max(last - first + 1 for first, last in spans) <= 1800
    for start in range(count - 59):
        assert any(first <= start and start + 59 <= last for first, last in spans), start
    assert all(second[1] > first[1] for first, second in pairwise(spans))


def test_windows_of_a_variable_rate_go_by_time(tmp_path):
    times = np.concatenate([np.arange(0, 30, 0.1), np.arange(30, 90, 0.01)])
    made = video.windows(clip(tmp_path / "a.mp4"), Long(times, 80.0), length_s=60, overlap_s=0)
    assert [times[index] for one in made for index in one.span] == pytest.approx([0, 59.99, 60, 89.99])


def test_windows_of_a_window_count_from_the_recording(tmp_path):
    part = clip(tmp_path / "a.mp4", span=(1000, 3999))
    made = video.windows(part, Long(np.arange(3000) / 30, 30), 60, 0)
    assert [one.span for one in made] == [(1000, 2799), (2800, 3999)]
    assert made[1].name == "a@2800"


def test_an_annotated_moment_stays_with_the_windows_that_hold_it(tmp_path):
    marked = clip(tmp_path / "a.mp4", onset=1750, apex=1755, offset=1790, emotion="fear", action_units=("4",))
    made = video.windows(marked, Long(np.arange(3600) / 30, 30), 60, 2)
    assert [(one.onset, one.apex, one.offset, one.emotion) for one in made] == [
        (1750, 1755, 1790, "fear"), (10, 15, 50, "fear"), (None, None, None, None),
    ]  # fmt: skip


def test_windows_that_make_no_sense(tmp_path):
    with pytest.raises(UserError, match="want windows longer than their overlap"):
        video.windows(clip(tmp_path / "a"), Long(np.arange(9), 1.0), 4, 4)
    with pytest.raises(UserError, match="own/s1/a: want a frame rate to cut windows"):
        video.windows(clip(tmp_path / "a"), Long(np.arange(9), None))


def test_a_window_opens(tmp_path):
    path = movie(tmp_path / "a.mp4", 100, rate=10)
    made = video.windows(clip(path), video.open(path), length_s=4, overlap_s=1)
    assert [decoded(video.open(one)[0]) for one in made] == [one.span[0] for one in made] == [0, 30, 60]
    assert [decoded(video.open(one)[-1]) for one in made] == [39, 69, 99]


# --- writing


@pytest.mark.parametrize("size", [(48, 96), (51, 97)])
def test_what_is_written_is_read_back(tmp_path, size):
    path = tmp_path / "new" / "a.mp4"
    wanted = [coded(index, size) for index in range(40)]
    video.write(path, iter(wanted), 29.97)
    frames = video.open(path)
    assert (len(frames), frames.fps) == (40, 30000 / 1001)
    assert frames.size == (size[0] + size[0] % 2, size[1] + size[1] % 2)
    assert [decoded(frame) for frame in frames] == list(range(40))
    last = frames[39].astype(int)
    assert np.abs(last[: size[0], : size[1]] - wanted[39]).mean() < 2
    assert np.abs(last[-1] - last[-2]).mean() < 2
    assert [one.name for one in path.parent.iterdir()] == ["a.mp4"]


def test_colours_survive_writing(tmp_path):
    wanted = np.zeros((64, 64, 3), np.uint8) + np.array([200, 60, 40], np.uint8)
    video.write(tmp_path / "a.mp4", [wanted] * 3, 25)
    assert np.abs(video.open(tmp_path / "a.mp4")[1].astype(int) - wanted).max() <= 3


@pytest.mark.parametrize("fps", [Fraction(24000, 1001), 59.94, 23.976, 25, 200, 12.5])
def test_rates_are_taken_for_what_they_are(tmp_path, fps):
    video.write(tmp_path / "a.mp4", [coded(index) for index in range(3)], fps)
    assert video.open(tmp_path / "a.mp4").fps == pytest.approx(float(fps), rel=2e-5)


def test_frames_that_cannot_be_written_leave_nothing(tmp_path):
    for frames, fps, words in [
        ([], 30, "want at least one frame to write, got none"),
        ([coded(0)], 0, "want frames a second above 0, got 0"),
        ([coded(0), coded(1, (64, 96))], 30, r"a\.mp4, frame 1: want \(48, 96, 3\) like the first frame"),
        ([coded(0).astype(np.float32)], 30, r"frame 0: want \(H, W, 3\) uint8 RGB, got \(48, 96, 3\) float32"),
    ]:
        with pytest.raises(UserError, match=words):
            video.write(tmp_path / "a.mp4", frames, fps)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        video.write(tmp_path / "file" / "a.mp4", [coded(0)], 30)


# --- real recordings

REAL = {
    "WolfgangLanger_Pexels.mp4": (472, (360, 640), 24000 / 1001),
    "face_noface.mov": (169, (540, 960), 168 / (97695 / 15360)),
    "no_face.mp4": (95, (540, 960), 24),
    "noface_face.mov": (169, (540, 960), 168 / (77971 / 12288)),
    "single_face.mp4": (72, (360, 640), 30),
}


@pytest.mark.data
@pytest.mark.parametrize("name", REAL)
def test_real_recordings(real, name):
    path = real / "face_videos" / name
    with av.open(str(path)) as container:
        wanted = [(frame.time, frame.to_ndarray(format="rgb24", threads=1)) for frame in container.decode(video=0)]
    frames = video.open(path)
    count, size, fps = REAL[name]
    assert (len(frames), frames.size) == (count, size)
    assert frames.fps == pytest.approx(fps, rel=1e-12)
    assert np.array_equal(frames.times_s, [time for time, _ in wanted])
    for index in [*random.Random(0).sample(range(count), 40), count - 1, 0]:
        assert np.array_equal(frames[index], wanted[index][1]), index


@pytest.mark.data
def test_a_real_recording_cut_in_the_middle(real, tmp_path):
    data = (real / "face_videos" / "single_face.mp4").read_bytes()
    path = tmp_path / "a.mp4"
    path.write_bytes(data[: len(data) // 2])
    refused(path, r"want (72 frames, the file ends at|a video, got a file that ends before its index)")
