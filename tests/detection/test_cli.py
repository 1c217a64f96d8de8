"""`telltale predict` as a person types it."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import select
import shutil
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detection.cli import main
from tests.pictures import encoded, html_named_jpg, png_bomb

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def telltale(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, bundle: Path) -> Run:
    """Run the command in this process: exit code, standard output, standard error. The bundle is set."""
    monkeypatch.setenv("TELLTALE_BUNDLE", str(bundle))

    def run(*arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        try:
            code = main(arguments)
        except SystemExit as leaving:  # argparse
            code = int(leaving.code or 0)
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return run


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_json_lines_in_input_order(telltale: Run, run: Path) -> None:
    wanted = [str(run / "raw/ai/generator/test-00003.png"), str(run / "raw/real/camera/test-00001.jpg")]
    code, out, err = telltale("predict", "--json", *wanted)
    rows = json_lines(out)
    assert (code, err) == (0, "")
    assert [row["path"] for row in rows] == wanted
    assert [row["verdict"] for row in rows] == ["ai", "real"]
    assert all(row["threshold"] == 0.5 and len(row["model"]["sha256"]) == 64 for row in rows)


def test_a_table_for_people(telltale: Run, run: Path) -> None:
    code, out, _ = telltale("predict", "--bundle", str(run / "model"), str(run / "raw"))
    assert code == 0
    assert "12 pictures: 6 AI-generated, 6 real." in out
    lines = out.splitlines()
    assert len({line.index("   " + str(run)) for line in lines[1:13]}) == 1  # aligned
    assert "\x1b" not in out


def test_a_list_on_standard_input(telltale: Run, run: Path) -> None:
    listed = b"\n".join(os.fsencode(path) for path in sorted((run / "raw/ai/generator").iterdir()))
    code, out, _ = telltale("predict", "--json", "-", stdin=listed)
    assert code == 0
    assert [os.fsencode(row["path"]) for row in json_lines(out)] == listed.split(b"\n")


AWKWARD = ["with space.jpg", 'it\'s "quoted".jpg', "new\nline.jpg", "#1 100%25.jpg", "é写.jpg", "-dash.jpg", "[1].jpg"]


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_names(telltale: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real: bytes, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(real)
    code, out, _ = telltale("predict", "--json", "--", name)
    assert (code, [row["path"] for row in json_lines(out)]) == (0, [name])
    code, out, _ = telltale("predict", "--", name)
    assert (code, len(out.splitlines())) == (0, 5)


def bad_files(ai: bytes) -> dict[str, tuple[bytes, str]]:
    """File name: (bytes, the reason that is reported)."""
    pictures = {kind: encoded(1, kind, width=48, height=48) for kind in ("JPEG", "PNG", "WEBP")}
    bad = {
        "empty.jpg": (b"", "empty"),
        "page.jpg": (html_named_jpg(), "not_an_image"),
        "bomb.png": (png_bomb(), "too_many_pixels"),
        "moving.webp": (encoded(1, "WEBP", frames=3), "animated"),
        "tiny.png": (encoded(1, "PNG", width=8, height=8), "too_small"),
        "broken.png": (ai[:60] + bytes([ai[60] ^ 255]) + ai[61:], "corrupt"),
    }
    for kind, data in pictures.items():
        for cut in sorted({20, len(data) // 4, len(data) // 2, len(data) - 20, len(data) - 1}):
            bad[f"cut-{cut:05d}.{kind.lower()}"] = (data[:cut], "truncated")
    return bad


def test_bad_pictures_are_reported_and_stop_nothing(telltale: Run, tmp_path: Path, real: bytes, ai: bytes) -> None:
    bad = bad_files(ai)
    for name, (data, _) in bad.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "00-good.jpg").write_bytes(real)
    (tmp_path / "zz-good.png").write_bytes(ai)
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "dangling.jpg").symlink_to("nowhere.jpg")
    code, out, _ = telltale("predict", "--json", str(tmp_path))
    rows = {Path(row["path"]).name: row for row in json_lines(out)}
    assert code == 1
    assert list(rows) == sorted(rows)
    assert (rows["00-good.jpg"]["verdict"], rows["zz-good.png"]["verdict"]) == ("real", "ai")
    expected = {name: reason for name, (_, reason) in bad.items()}
    expected |= {"loop.jpg": "unreadable", "dangling.jpg": "unreadable"}
    assert {name: row["error"]["reason"] for name, row in rows.items() if "error" in row} == expected
    assert all(len(row["error"]["message"]) > 15 for row in rows.values() if "error" in row)
    code, out, _ = telltale("predict", str(tmp_path))
    assert code == 1
    assert f"{len(rows)} pictures: 1 AI-generated, 1 real, {len(rows) - 2} no answer." in out


def test_a_file_without_permission_is_reported(bundle: Path, tmp_path: Path, real: bytes) -> None:
    (tmp_path / "secret.jpg").write_bytes(real)
    (tmp_path / "secret.jpg").chmod(0)
    as_others = []
    if os.geteuid() == 0:  # root may read everything, unless it gives that up
        if shutil.which("setpriv") is None:
            pytest.skip("needs setpriv (util-linux) when run by root")
        as_others = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    command = [*as_others, sys.executable, "-m", "detection.cli", "predict", "--json", "--bundle", str(bundle)]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    (row,) = json_lines(done.stdout)
    assert row["error"]["reason"] == "unreadable"
    assert "permission denied" in row["error"]["message"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict"], "required: PATH"),
        ([], "required: COMMAND"),
        (["predict", "--nonsense", "x.jpg"], "unrecognized arguments: --nonsense"),
        (["predict", "*.nothing"], "no file matches"),
        (["predict", "-"], "no pictures"),
        (["predict", "--bundle", "nowhere", "x.jpg"], "no bundle there"),
    ],
)
def test_wrong_usage_exits_2(telltale: Run, arguments: list[str], message: str) -> None:
    code, out, err = telltale(*arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_without_a_bundle_the_message_says_how_to_get_one(telltale: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TELLTALE_BUNDLE")
    code, _, err = telltale("predict", "x.jpg")
    assert code == 2
    assert "--bundle" in err
    assert "make demo" in err


@pytest.mark.parametrize("name", ["model.onnx", "bundle.json"])
def test_a_damaged_bundle_exits_1_and_is_named(telltale: Run, bundle: Path, tmp_path: Path, name: str) -> None:
    copy = shutil.copytree(bundle, tmp_path / "model")
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    code, out, err = telltale("predict", "--bundle", str(copy), __file__)
    assert (code, out) == (1, "")
    assert str(copy / name) in err


def test_the_command_imports_no_engine_but_onnx_runtime(bundle: Path, run: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from detection.cli import main; assert main(sys.argv[1:]) == 0\n"
        "heavy = {'torch', 'pyspark', 'mrjob', 'sklearn', 'scipy', 'matplotlib', 'pyarrow', 'fastapi', 'pandas'}\n"
        "print(sorted(heavy & set(sys.modules)), 'onnxruntime' in sys.modules)"
    )
    picture = run / "raw/real/camera/test-00000.jpg"
    command = [sys.executable, "-c", code, "predict", "--bundle", str(bundle), "--json", str(picture)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[] True"
    assert done.stderr == ""


def installed(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "telltale"), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=60, check=False
    )


def test_nothing_is_reported_or_left_in_the_home_folder(bundle: Path, run: Path, tmp_path: Path) -> None:
    """ONNX Runtime's builds keep a database of usage there, to send it, unless they are told not to."""
    picture = run / "raw/real/camera/test-00000.jpg"
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "CI": ""}
    assert installed("predict", "--bundle", str(bundle), str(picture), **home).returncode == 0
    assert list(tmp_path.rglob("*")) == []


def test_the_installed_command_prints_its_version() -> None:
    done = installed("--version")
    assert (done.returncode, done.stdout.split()[0]) == (0, "telltale")
    assert done.stderr == ""


def test_a_terminal_without_unicode_still_gets_the_table(bundle: Path) -> None:
    done = installed("predict", "--bundle", str(bundle), "gone.jpg", PYTHONIOENCODING="ascii")
    assert done.returncode == 1
    assert "1 picture: 1 no answer." in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colour_on_a_terminal_unless_told_otherwise(bundle: Path, run: Path, no_color: str, coloured: bool) -> None:
    ours, theirs = pty.openpty()
    command = [str(Path(sys.executable).parent / "telltale"), "predict", "--bundle", str(bundle), str(run / "raw/ai")]
    environment = {**os.environ, "NO_COLOR": no_color, "TERM": "xterm"}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        text = b""
        while chunk := _read(ours):
            text += chunk
    os.close(ours)
    assert process.returncode == 0
    assert b"6 AI-generated" in text
    assert (b"\x1b[" in text) == coloured


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other side was closed
        return b""


def test_a_reader_that_leaves_early_gets_no_message(bundle: Path, run: Path) -> None:
    command = [str(Path(sys.executable).parent / "telltale"), "predict", "--bundle", str(bundle)]
    with subprocess.Popen(
        [*command, *[str(run / "raw")] * 200], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        if process.stdout is None or process.stderr is None:
            pytest.fail("no pipes")
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_a_wait_of_more_than_two_seconds_shows_progress_on_standard_error(bundle: Path, run: Path) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    picture = os.fsencode(run / "raw/real/camera/test-00000.jpg") + b"\n"
    command = [sys.executable, "-m", "detection.cli", "predict", "--json", "--bundle", str(bundle), "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        fed = 0
        while fed < 200 and not select.select([ours], [], [], 0.25)[0]:  # until there is something to see
            process.stdin.write(picture)  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            fed += 1
        out = process.communicate()[0]
    shown = b""
    while chunk := _read(ours):
        shown += chunk
    os.close(ours)
    assert len(out.splitlines()) == fed > 8
    assert b"pictures" in shown
