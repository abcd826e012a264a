import os
import socket
import stat
from pathlib import Path

import pytest

from agentgym.sandbox.guest import frames, workspace
from agentgym.sandbox.guest.workspace import PathError


@pytest.mark.parametrize("path", ["", "/etc/passwd", "..", "a/../../b", "a\0b", "x" * 2000, "./.", "/".join("a" * 100)])
def test_bad_path_is_refused(path: str) -> None:
    with pytest.raises(PathError):
        workspace.parts(path)


def test_nothing_is_followed_or_waited_for(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(secret)
    (root / "folder").symlink_to(tmp_path)
    os.mkfifo(root / "pipe")
    for path in ("link", "folder/secret", "pipe", "missing"):
        with pytest.raises(PathError):
            workspace.open_file(str(root), path, write=False)
    os.link(secret, root / "hard")
    os.close(workspace.open_file(str(root), "hard", write=True))
    os.close(workspace.open_file(str(root), "link", write=True))
    assert secret.read_text() == "secret", "a write goes to a new file, never through what is there"
    with pytest.raises(PathError):
        workspace.open_file(str(root), "folder/new", write=True)
    assert not (tmp_path / "new").exists()


def test_clear_takes_everything(tmp_path: Path) -> None:
    here = tmp_path
    for _ in range(300):  # deeper than descriptors and paths reach
        (here / "d").mkdir()
        here = here / "d"
        if len(str(here)) > 3000:
            break
    here.joinpath("f").write_text("x")
    (tmp_path / "d" / "locked").mkdir()
    (tmp_path / "d" / "locked" / "f").write_text("x")
    (tmp_path / "d" / "locked").chmod(0)
    (tmp_path / "out").symlink_to("/")
    os.mkfifo(tmp_path / "pipe")
    assert workspace.clear(str(tmp_path)) == 0
    assert list(tmp_path.iterdir()) == []


def test_copy_keeps_files_and_links_as_links(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    (source / "x").mkdir(parents=True)
    target.mkdir()
    (source / "x" / "f").write_bytes(b"\0" * 3_000_000)
    (source / "l").symlink_to("/nowhere")
    os.mkfifo(source / "pipe")
    workspace.copy(str(source), str(target), 100)
    assert workspace.listing(str(target), 100) == {"x/f": 3_000_000}
    assert (target / "l").readlink() == Path("/nowhere")
    assert not (target / "pipe").exists()
    assert workspace.usage(str(target), 100)[1] == 3


def test_listing_is_bounded(tmp_path: Path) -> None:
    for i in range(50):
        (tmp_path / f"{i:02}").touch()
    assert len(workspace.listing(str(tmp_path), 10)) == 10
    assert not stat.S_ISREG(tmp_path.stat().st_mode)


def test_frames_carry_descriptors_and_refuse_nonsense() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        reading, writing = os.pipe()
        frames.send(ours, {"a": "\udc80"}, (writing,))
        os.close(writing)
        message, fds = frames.receive(theirs, max_fds=4)
        assert message == {"a": "\udc80"}
        os.write(fds[0], b"x")
        assert os.read(reading, 1) == b"x"
        for fd in (reading, *fds):
            os.close(fd)
        for body in (b"[1]", b"{", b"[" * 200_000):
            ours.sendall(len(body).to_bytes(4, "big") + body)
            with pytest.raises(frames.FrameError):
                frames.receive(theirs)
        ours.sendall((1 << 31).to_bytes(4, "big"))
        with pytest.raises(frames.FrameError, match="longer than"):
            frames.receive(theirs)
