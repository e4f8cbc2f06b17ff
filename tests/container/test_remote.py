"""Files behind HTTP, on a server of this machine: what is fetched, and what is refused."""

from __future__ import annotations

import errno
import io
import json
import socket
import struct
import threading

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import picture
from http_samples import serving

import sccodec
from sccodec.cli import cli
from sccodec.codecs import image, verify
from sccodec.container import extract, from_bytes, from_file, open_url, remote
from sccodec.errors import BadRequest, Damaged, LimitExceeded, NotOurFile


@pytest.fixture(autouse=True)
def _small_requests(monkeypatch):
    """Requests as cheap as the files of these tests are small."""
    monkeypatch.setattr(remote, "REQUEST_COST", 1024)
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture(scope="module")
def tiled(tiny_model):
    """24 tiles in two layers: 1 KB of directory, 8 KB of base, 15 KB above it."""
    noise = np.random.default_rng(0).integers(0, 256, (256, 384, 3), np.uint8)
    return sccodec.encode(noise, profile=tiny_model.id, step=0, tile=64)


@pytest.fixture
def server(tiled):
    with serving(tiled) as server:
        yield server


def payload_bytes(data: bytes, layer: int) -> int:
    return from_bytes(data).header.layer(layer).bytes


# -- what is fetched -----------------------------------------------------------------------


def test_the_picture_is_that_of_the_file(server, tiled):
    np.testing.assert_array_equal(sccodec.decode(server.url), sccodec.decode(tiled))


def test_opening_is_one_request_and_tells_everything_but_the_pixels(server, tiled):
    facts = sccodec.info(server.url)
    assert facts == sccodec.info(tiled) | {"name": server.url}
    assert server.asked == [f"bytes=0-{remote.REQUEST_COST - 1}"]


def test_all_tiles_of_all_layers_are_one_more_request(server, tiled):
    with sccodec.open(server.url) as file:
        file.decode(jobs=2)
        assert file.reader.requests == len(server.asked) == 2
        assert file.report.bytes_read == server.sent <= len(tiled)


def test_the_base_alone_leaves_the_rest_on_the_server(server, tiled):
    with sccodec.open(server.url) as file:
        base = file.decode("base")
        np.testing.assert_array_equal(base, sccodec.decode(tiled, "base"))
        read = file.report.bytes_read
    assert read == server.sent
    assert read <= remote.REQUEST_COST + payload_bytes(tiled, 0) < len(tiled) - read


def test_a_region_fetches_its_tiles_and_small_gaps_only(server, tiled):
    region = (300, 200, 20, 20)
    with sccodec.open(server.url) as file:
        near = file.decode(region=region)
        used, read = file.report.bytes_read, file.reader.bytes_read
    np.testing.assert_allclose(near, sccodec.decode(tiled, region=region), atol=1)
    assert used == read == server.sent < len(tiled) // 3
    assert len(server.asked) <= 5  # the front, and runs of tiles of two layers


def test_a_second_look_asks_for_what_is_missing_only(server, tiled):
    with sccodec.open(server.url) as file:
        for name, pixels in file.progressive():
            np.testing.assert_array_equal(pixels, sccodec.decode(tiled, name))
            file.decode(name)
        assert len(server.asked) == 3  # front, base, what is above it
        assert file.reader.bytes_read <= len(tiled)


def test_long_metadata_is_read_once(tiny_model):
    noise = np.random.default_rng(1)
    icc = noise.bytes(100_000)
    pixels = image.Picture(picture(64, 64), metadata={"icc": icc, "xmp": b"<x/>", "exif": b"II*\0"})
    data = sccodec.encode(pixels, profile=tiny_model.id)
    with serving(data) as server, sccodec.open(server.url) as file:
        assert file.reader.metadata["ICCP"] == icc
        np.testing.assert_array_equal(file.decode(), sccodec.decode(data))
        assert len(server.asked) <= 4
        assert file.reader.bytes_read == server.sent <= len(data)


def test_layers_are_extracted_in_one_request_each(server, tiled):
    out = io.BytesIO()
    with open_url(server.url) as reader:
        extract(reader, [0, 1], out)
    assert out.getvalue() == tiled
    assert len(server.asked) <= 3


def test_every_payload_is_checked(server, tiled):
    place = from_bytes(tiled).ranges([1])[5]
    at = place.offset + 3
    server.data = tiled[:at] + bytes([tiled[at] ^ 1]) + tiled[at + 1 :]
    with pytest.raises(Damaged, match=r"layer 1 .*, tile 5 .*checksum"):
        sccodec.decode(server.url)
    with sccodec.open(server.url, allow_partial=True) as file:
        file.decode()
        assert [(found.layer, found.tile) for found in file.report.damaged] == [("enhancement", 5)]


def test_redirects_are_followed_once(server, tiled):
    np.testing.assert_array_equal(
        sccodec.decode(f"{server.address}/moved.scc"), sccodec.decode(tiled)
    )
    assert len(server.asked) == 2


def test_names_that_an_address_cannot_hold_are_quoted(server):
    assert sccodec.info(f"{server.address}/größer als gedacht.scc?q=a%20b#part")["width"] == 384


def test_a_server_that_hides_the_length_costs_requests_only(server, tiled):
    server.length_known = False
    np.testing.assert_array_equal(sccodec.decode(server.url), sccodec.decode(tiled))


def test_a_server_without_ranges_sends_all_and_that_is_said(server, tiled):
    server.ranges = False
    with open_url(server.url) as reader:
        picture, report = image.decode(reader, box=(0, 0, 9, 9))
        assert picture.width == 9
        assert reader.notes == (
            "the server does not send parts of files, so all of it was fetched",
        )
        assert (report.bytes_read, reader.requests, len(server.asked)) == (len(tiled), 1, 1)


# -- what is refused -----------------------------------------------------------------------


def test_a_long_file_from_a_server_without_ranges_is_refused(server, tiled):
    server.ranges = False
    for headers in ({}, {"Content-Length": None}):
        server.headers = headers
        with pytest.raises(LimitExceeded, match="whole file is longer than the limit of 5000"):
            open_url(server.url, whole_limit=5000)


def test_a_length_without_end_is_none(server, tiled):
    server.ranges, server.headers = False, {"Content-Length": "9" * 5000}
    with open_url(server.url) as reader:
        assert reader.size == len(tiled)


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (404, FileNotFoundError, "not found"),
        (410, FileNotFoundError, "410 Gone"),
        (403, PermissionError, "403 Forbidden"),
        (500, OSError, "500 Internal Server Error"),
        (204, OSError, "204 No Content"),
    ],
)
def test_a_refusal_names_the_address_and_the_reason(server, status, kind, words):
    url = f"{server.address}/status/{status}"
    with pytest.raises(kind, match=words) as caught:
        sccodec.open(url)
    assert caught.value.filename == url


@pytest.mark.parametrize("path", ["elsewhere.scc", "loop.scc"])
def test_redirects_that_lead_nowhere_are_refused(server, path):
    with pytest.raises(OSError, match=path):
        sccodec.open(f"{server.address}/{path}")


@pytest.mark.parametrize("new_etag", ['"two"', 'W/"two"', None])
@pytest.mark.parametrize("if_range", [True, False])
def test_a_file_that_changes_is_noticed(server, tiled, if_range, new_etag):
    server.if_range = if_range
    with sccodec.open(server.url) as file:
        server.etag = new_etag
        if new_etag is None:
            server.data = tiled + b"more"
        with pytest.raises(OSError, match="changed while it was read") as caught:
            file.decode()
    assert caught.value.errno == errno.ESTALE


def test_a_change_shows_in_the_date_too(server):
    server.etag = None
    server.headers = {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
    with sccodec.open(server.url) as file:
        server.headers = {"Last-Modified": "Mon, 01 Jan 2024 00:00:01 GMT"}
        with pytest.raises(OSError, match="changed"):
            file.decode()


def test_a_server_that_stops_early_is_noticed(server):
    server.cut = 100
    with sccodec.open(server.url) as file, pytest.raises(OSError, match=r"ended after \d+ of"):
        file.decode()


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"Content-Range": "bytes 5-1028/90000"}, "other bytes than those asked for"),
        ({"Content-Range": "bytes 0-99999/100000"}, "other bytes than those asked for"),
        ({"Content-Range": "bytes 0-99/100000", "Content-Length": "100"}, "fewer bytes"),
        ({"Content-Range": "lines 0-99/100000"}, "other bytes than those asked for"),
        ({"Content-Range": None}, "other bytes than those asked for"),
        ({"Content-Range": f"bytes 0-{'9' * 5000}/*"}, "other bytes than those asked for"),
        ({"Content-Encoding": "gzip"}, "compresses"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused(server, headers, words):
    server.headers = headers
    with pytest.raises(OSError, match=words):
        sccodec.open(server.url)


def test_a_silent_server_is_not_waited_for(server):
    server.delay = 3
    with pytest.raises(TimeoutError, match=r"no answer within 0\.1 seconds"):
        open_url(server.url, timeout=0.1)


def test_no_server_at_all():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConnectionRefusedError, match="refused"):
        sccodec.open(f"http://127.0.0.1:{port}/x.scc")


@pytest.mark.parametrize("url", ["http://", "http://[::1/x", "http://127.0.0.1:port/x"])
def test_addresses_that_make_no_sense(url):
    with pytest.raises(OSError, match=r"."):
        sccodec.open(url)


@pytest.mark.parametrize("secret", ["user:secret@", "user:secret@host:80@", "secret@"])
def test_a_password_in_an_address_is_refused_and_not_printed(secret):
    for command in (["info"], ["verify", "--json"], ["decode", "--json"], ["encode"]):
        done = run(*command, f"http://{secret}127.0.0.1/photo.scc")
        assert done.exit_code == 1
        assert "password" in done.stderr
        assert "secret" not in done.output
    with pytest.raises(BadRequest, match="password") as caught:
        sccodec.open(f"http://{secret}127.0.0.1/photo.scc")
    assert "secret" not in str(caught.value)


def test_other_schemes_are_no_addresses():
    with pytest.raises(BadRequest, match="not an http or https address"):
        open_url("file:///etc/hostname")


@pytest.mark.parametrize("data", [b"", b"<html>not found, but with status 200</html>"])
@pytest.mark.parametrize("ranges", [True, False])
def test_what_is_no_scc_file(data, ranges):
    with serving(data) as server:
        server.ranges = ranges
        with pytest.raises(NotOurFile, match=r"photo\.scc: not an \.scc file"):
            sccodec.open(server.url)


def test_a_file_that_is_too_short_or_too_long(server, tiled):
    server.data = tiled[:-700]
    with pytest.raises(Damaged, match="file ends at byte"):
        sccodec.open(server.url)
    with sccodec.open(server.url, allow_partial=True) as file:
        file.decode()
        assert file.report.damaged
    server.data = tiled + b"x"
    with pytest.raises(Damaged, match="bytes follow the end chunk"):
        sccodec.open(server.url)


# -- open files that can seek --------------------------------------------------------------


def test_an_open_file_is_read_in_part_and_stays_open(tiled):
    file = io.BytesIO(b"before" + tiled)
    file.seek(6)
    reader = from_file(file)
    _, report = image.decode(reader, "base")
    assert report.bytes_read < len(tiled) // 2
    assert not file.closed


# -- the command line ----------------------------------------------------------------------


def run(*arguments: object):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_decode_says_what_was_fetched(server, tiled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run("decode", server.url, "--region", "0,0,64,64", "--layers", "base")
    assert done.exit_code == 0, done.stderr
    assert f"photo.png: 64x64, {server.sent} of {len(tiled)} bytes read in " in done.stderr
    assert (tmp_path / "photo.png").exists()
    done = run("decode", "--json", "-f", server.url, "-o", "again.png")
    row = json.loads(done.stdout)
    assert row["requests"] == 2
    assert row["bytes_read"] <= row["bytes"] == len(tiled)


def test_decode_from_a_server_that_hides_the_length(server, tmp_path):
    server.length_known = False
    done = run("decode", server.url, "--layers", "base", "-o", tmp_path / "a.png")
    assert done.exit_code == 0, done.stderr
    assert "None" not in done.stderr


def test_a_name_that_no_file_can_have_is_refused(server):
    done = run("decode", f"{server.address}/a%00b.scc")
    assert (done.exit_code, done.exception.__class__) == (1, SystemExit)
    assert "holds no name for a file" in done.stderr


def test_info_says_what_was_fetched(server, tiled):
    row = json.loads(run("info", "--json", server.url).stdout)
    assert (row["bytes"], row["bytes_read"], row["requests"]) == (
        len(tiled),
        remote.REQUEST_COST,
        1,
    )
    assert run("info", server.url).stdout.endswith(
        f"{remote.REQUEST_COST} bytes fetched in 1 request\n"
    )


def test_a_note_and_an_error_on_the_command_line(server):
    server.ranges = False
    assert "does not send parts of files" in run("info", server.url).stderr
    url = f"{server.address}/status/404"
    done = run("info", url)
    assert (done.exit_code, done.stderr) == (1, f"sccodec: error: {url}: not found\n")
    done = run("decode", f"{server.address}/")
    assert (done.exit_code, "holds no name" in done.stderr) == (1, True)


@pytest.mark.parametrize("short", [*range(1, 30), 500])
def test_wherever_the_first_answer_ends_a_sound_file_is_sound(tiled, monkeypatch, short):
    end = from_bytes(tiled).ranges([1])[0].offset  # also between the layers
    for cost in (len(tiled) - short, end + 10 - short):
        monkeypatch.setattr(remote, "REQUEST_COST", cost)
        with serving(tiled) as server, open_url(server.url, allow_partial=True) as reader:
            assert reader.check() == []
            assert server.sent == reader.bytes_read <= len(tiled)


def test_a_layer_that_begins_in_the_first_answer_is_one_request(tiled, monkeypatch):
    ends = from_bytes(tiled).ranges([1])[2].offset + 5  # inside a tile of the enhancement
    monkeypatch.setattr(remote, "REQUEST_COST", ends)
    with serving(tiled) as server, sccodec.open(server.url) as file:
        for name, pixels in file.progressive():
            np.testing.assert_array_equal(pixels, sccodec.decode(tiled, name))
        assert len(server.asked) == 2
        assert file.report.bytes_read == server.sent <= len(tiled)
        file.decode("base")
        assert len(file.reader.payload(1, 2)) == file.reader.tiles[1][2].length
    with serving(tiled) as server, open_url(server.url) as reader:
        extract(reader, [0], io.BytesIO())
        extract(reader, [1], io.BytesIO())
        assert len(server.asked) == 2


def test_verify_fetches_every_byte_once(server, tiled):
    with open_url(server.url, allow_partial=True) as reader:
        assert verify.verify(reader).verdict == "ok"
    assert server.sent == len(tiled)


def test_a_connection_that_breaks_while_asking_is_said(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def hang_up():
            for _ in range(20):
                taken, _ = listening.accept()
                taken.shutdown(socket.SHUT_WR)
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                taken.close()

        threading.Thread(target=hang_up, daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/x.scc"
        for _ in range(20):
            done = run("info", url)
            assert done.exit_code == 1
            assert done.stderr.startswith(f"sccodec: error: {url}: ")
