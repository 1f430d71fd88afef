"""A file arrives complete and checked, or not at all, whatever the server and the network do."""

import contextlib
import hashlib
import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from server import Server

from lab import command_line, fetch, files
from lab.files import BadInput
from lab.network import weights

CONTENT = np.random.default_rng(0).bytes(1_000_000)
SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


def check(path):
    if Path(path).read_bytes() != CONTENT:
        raise BadInput(f"{path} holds something else")


@pytest.fixture
def make_server():
    servers = []

    def make(content=CONTENT, **settings):
        servers.append(Server(content))
        for name, value in settings.items():
            setattr(servers[-1], name, value)
        return servers[-1]

    yield make
    for server in servers:
        server.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(fetch, "STALL", 1)
    monkeypatch.setattr(fetch, "SPARE", 0)


def get(*servers, digests=()):
    addresses = [server if isinstance(server, str) else server.address for server in servers]
    digests = [*digests, *[None] * len(addresses)]
    return fetch.fetch([fetch.Source("w.npy", dict(zip(addresses, digests)), check)], fetch.Patience())


def assert_whole():
    """The complete file is there, and nothing else."""
    assert os.listdir() == ["w.npy"] and Path("w.npy").read_bytes() == CONTENT


def assert_nothing(leftovers=False):
    assert not Path("w.npy").exists()
    assert leftovers or os.listdir() == []


def test_a_complete_download_is_checked_and_reported(make_server, capsys):
    assert get(make_server()) == Path("w.npy")
    assert_whole()
    assert f"w.npy: content checked, SHA-256 {SHA256[7:]}, from 127.0.0.1" in capsys.readouterr().err


@pytest.mark.parametrize("kind, name", [("sha256", "SHA-256"), ("sha1", "SHA-1"), ("md5", "MD5")])
def test_a_published_digest_is_verified_and_called_by_its_name(make_server, capsys, kind, name):
    digest = hashlib.new(kind, CONTENT).hexdigest()
    get(make_server(), digests=[f"{kind}:{digest}"])
    assert_whole()
    assert f"w.npy: verified by {name} {digest}, from 127.0.0.1" in capsys.readouterr().err


def test_a_file_whose_digest_is_not_the_published_one_is_refused(make_server):
    with pytest.raises(fetch.NotFetched, match="does not match its published digest"):
        get(make_server(), digests=["md5:" + 32 * "0"])
    assert_nothing()


@pytest.mark.parametrize("validator", [{}, {"etag": "", "modified": "Sat, 01 Oct 2016 10:00:00 GMT"}])
def test_a_connection_cut_at_ten_places_is_resumed_at_each(make_server, validator):
    server = make_server(cut=[1, 100_000, 7, 65_536, 1000, 262_144, 99_999, 12_345, 200_000, 3], **validator)
    get(server)
    assert_whole()
    places = np.cumsum([1, 100_000, 7, 65_536, 1000, 262_144, 99_999, 12_345, 200_000, 3])
    assert [request.get("Range") for request in server.requests] == [None, *(f"bytes={place}-" for place in places)]


def test_a_part_is_kept_for_the_next_run_and_belongs_to_its_address(make_server):
    broken, other = make_server(cut=[500_000, 0]), make_server(cut=[0])
    with pytest.raises(fetch.NotFetched, match="500000 of 1000000 bytes|connection"):
        get(broken, other)
    assert_nothing(leftovers=True)
    get(broken, other)
    assert broken.requests[-1]["Range"] == "bytes=500000-"
    assert len(other.requests) == 1
    assert_whole()


@pytest.mark.parametrize("settings", [{"ranges": False}, {"etag": ""}, {"etag": 'W/"weak"'}])
def test_without_ranges_or_a_validator_a_download_starts_over(make_server, settings):
    get(make_server(cut=[600_000], **settings))
    assert_whole()


@pytest.mark.parametrize("ignores_if_range", [False, True])
def test_parts_of_two_versions_of_a_file_are_never_joined(make_server, ignores_if_range):
    server = make_server(bytes(1_000_000), etag='"old"', cut=[400_000, 0], ignores_if_range=ignores_if_range)
    with pytest.raises(fetch.NotFetched):
        get(server)
    server.content, server.etag = CONTENT, '"new"'
    get(server)
    assert '"old"' in [request.get("If-Range") for request in server.requests]
    assert_whole()


@pytest.mark.parametrize("damage", ["wrong bytes", "too long", "damaged .json"])
def test_a_damaged_part_is_downloaded_again(make_server, damage):
    server = make_server(cut=[400_000, 0])
    with pytest.raises(fetch.NotFetched):
        get(server)
    part, = Path().glob("*.part")
    if damage == "wrong bytes":
        part.write_bytes(part.read_bytes()[:-1] + b"??")
    elif damage == "too long":
        part.write_bytes(bytes(2_000_000))
    else:
        Path(f"{part}.json").write_text("{")
    if damage == "wrong bytes":  # found, and removed, when the complete file is checked
        with pytest.raises(fetch.NotFetched, match="holds something else"):
            get(server)
        assert_nothing()
    get(server)
    assert "Range" not in server.requests[-1]
    assert_whole()


@pytest.mark.parametrize("settings, reason", [
    ({"content": bytes(1_000_000)}, "the downloaded file holds something else"),
    ({"content": CONTENT[:-1]}, "the downloaded file holds something else"),
    ({"headers": {"Content-Length": 1_000_001}}, "ended after 1000000 of 1000001 bytes"),
    ({"headers": {"Content-Length": 999_999}}, "the downloaded file holds something else"),
    ({"content": b"<html>Sorry</html>", "headers": {"Content-Type": "text/html; charset=utf-8"}}, "a web page"),
    ({"content": b""}, "holds something else"),
    ({"status": 404}, "404 Not Found"),
    ({"status": 500}, "500 Internal Server Error"),
    ({"status": 302, "headers": {"Location": "/again"}}, "302 .*redirect"),
    ({"status": 206}, "a range response to a request for the whole file"),
    ({"headers": {"Content-Length": "9" * 400}}, "invalid Content-Length"),
    ({"headers": {"Content-Length": "-1"}}, "invalid Content-Length"),
    ({"silent": True}, "no answer"),
    ({"pace": 0.05}, r"only \d+ bytes arrived"),
    ({"cut": [0, 0], "etag": ""}, "ended after 0 of 1000000 bytes"),
])
def test_a_bad_answer_is_refused_with_a_reason_and_the_next_address_tried(make_server, monkeypatch, settings, reason):
    monkeypatch.setattr(fetch, "PATIENCE", 2)
    bad = make_server(**settings)
    with pytest.raises(fetch.NotFetched, match=f"w.npy could not be fetched .127.0.0.1:.*{reason}") as refusal:
        get(bad)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 300
    assert_nothing(leftovers=True)
    bad.cut = settings.get("cut", [])
    get(bad, make_server())
    assert_whole()


@pytest.mark.slow
def test_a_server_that_stops_in_the_middle_is_abandoned(make_server):
    start = time.monotonic()
    get(make_server(stop_after=1000), make_server())
    assert time.monotonic() - start < 4
    assert_whole()


def test_a_file_of_unknown_length_is_fetched(make_server):
    get(make_server(headers={"Content-Length": ""}))
    assert_whole()


def raw_server(*parts):
    """The address of a server that answers every request with `parts`: bytes to send, or seconds to wait."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            connection, _ = listener.accept()
            with contextlib.suppress(OSError), connection:
                connection.recv(10_000)
                for part in parts:
                    connection.sendall(part) if isinstance(part, bytes) else time.sleep(part)

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}/file"


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("parts, reason", [
    ([CHUNKED, b"F4240\r\n" + CONTENT[:5000]], "connection broke"),
    ([CHUNKED, b"1;", *[b"x", 0.2] * 30], "nothing arrived for 1 seconds"),
    ([b"SSH-2.0-OpenSSH\r\n\x1b[31m" + b"x" * 5000 + b"\r\n"], "127.0.0.1"),
    ([b"HTTP/1.1 200 OK\r\n", *[b"X-Drip: 1\r\n", 0.2] * 30], "no answer"),
    ([], "127.0.0.1"),
])
def test_broken_http_is_abandoned_in_time_and_reported_in_one_line(make_server, monkeypatch, parts, reason):
    monkeypatch.setattr(fetch, "PATIENCE", 2)
    start = time.monotonic()
    with pytest.raises(fetch.NotFetched, match=reason) as refusal:
        get(raw_server(*parts))
    assert time.monotonic() - start < 4
    assert str(refusal.value).isprintable() and len(str(refusal.value)) < 200
    assert_nothing()


def test_a_server_that_sends_one_byte_per_connection_is_abandoned_too(make_server, monkeypatch):
    monkeypatch.setattr(fetch, "STALL", 0.2)
    server = make_server(cut=[1] * 1000, spread=2.5)  # 0.05 seconds for the one byte
    with pytest.raises(fetch.NotFetched, match="bytes arrived in"):
        get(server)
    assert 1 < len(server.requests) < 10


def test_an_unusable_folder_is_reported(make_server, monkeypatch):
    server = make_server()
    Path("gone").mkdir()
    monkeypatch.chdir("gone")
    os.rmdir(Path.cwd())
    with pytest.raises(fetch.NotFetched, match="w.npy could not be fetched"):
        get(server)
    assert server.requests == []


@pytest.mark.parametrize("make", [lambda: os.symlink("nowhere", "w.npy"), lambda: os.mkdir("w.npy")])
def test_anything_that_already_has_the_final_name_is_left_alone(make_server, make):
    make()
    server = make_server()
    with pytest.raises(fetch.NotFetched, match="w.npy"):
        get(server)
    assert server.requests == [] and os.path.lexists("w.npy")


def test_other_files_in_the_folder_are_left_alone(make_server):
    Path("w.npy.mine.part").write_text("mine")
    get(make_server())
    assert sorted(os.listdir()) == ["w.npy", "w.npy.mine.part"]


def test_an_address_not_tried_for_lack_of_time_is_reported(make_server, monkeypatch):
    monkeypatch.setattr(fetch, "PATIENCE", 0.5)
    silent = make_server(silent=True)
    patience = fetch.Patience()
    for reason in ("no answer", "not tried"):
        with pytest.raises(fetch.NotFetched, match=reason):
            fetch.fetch([fetch.Source("w.npy", {silent.address: None}, check)], patience)


def test_a_redirect_is_followed(make_server):
    get(make_server(status=302, headers={"Location": make_server().address}))
    assert_whole()


def test_waiting_for_answers_takes_no_longer_than_the_patience(make_server, monkeypatch):
    monkeypatch.setattr(fetch, "PATIENCE", 1.5)
    servers = [make_server(silent=True) for source in fetch.WEIGHTS for _ in source.addresses]
    patience, start = fetch.Patience(), time.monotonic()
    for _ in range(2):  # weights and photos
        with pytest.raises(fetch.NotFetched):
            fetch.fetch([fetch.Source("w.npy", {server.address: None for server in servers}, check)], patience)
    assert time.monotonic() - start < 2.5


def test_a_host_name_that_does_not_resolve_takes_no_longer_than_the_patience(make_server, monkeypatch):
    monkeypatch.setattr(fetch, "PATIENCE", 1)
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **options: (
        time.sleep(5) if host == "slow.invalid" else real(host, *rest, **options)))
    start = time.monotonic()
    get("http://slow.invalid/file", make_server())
    assert time.monotonic() - start < 3
    assert_whole()


def test_a_dead_first_address_does_not_matter(make_server):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}/file"
    get(dead, make_server())
    assert_whole()


def test_a_proxy_from_the_environment_is_used(make_server, monkeypatch):
    proxy = make_server()
    monkeypatch.setenv("http_proxy", proxy.address.removesuffix("/file"))
    monkeypatch.delenv("no_proxy", raising=False)
    get("http://somewhere.invalid/file")
    assert proxy.requests[0]["Host"] == "somewhere.invalid"
    assert_whole()


def test_too_little_disk_space_is_noticed_before_the_download(make_server, monkeypatch):
    monkeypatch.setattr(fetch, "SPARE", 10**18)
    with pytest.raises(fetch.NotFetched, match="MB of disk space is needed"):
        get(make_server())
    assert_nothing()


def test_a_file_that_appears_during_the_download_is_not_replaced(make_server, monkeypatch):
    server = make_server()
    source = fetch.Source("w.npy", {server.address: None}, lambda path: Path("w.npy").write_text("the user's"))
    with pytest.raises(fetch.NotFetched, match="another w.npy appeared during the download and is kept"):
        fetch.fetch([source], fetch.Patience())
    assert Path("w.npy").read_text() == "the user's"


FETCH = """
import sys
from pathlib import Path
from lab import command_line, fetch, files
def check(path):
    if Path(path).stat().st_size != 1_000_000:
        raise files.BadInput("wrong")
fetch.SPARE = 0
source = fetch.Source("w.npy", {sys.argv[1]: None}, check)
command_line.run(lambda: fetch.fetch([source], fetch.Patience()) and None)
"""


def start(server, **options):
    return subprocess.Popen([sys.executable, "-c", FETCH, server.address], env=os.environ | {"PYTHONPATH": str(files.HERE)},
                            stderr=subprocess.PIPE, text=True, **options)


@pytest.mark.slow
def test_a_download_is_resumed_after_its_process_was_killed(make_server):
    server = make_server(pace=0.0001)
    process = start(server)
    while not [part for part in Path().glob("*.part") if part.stat().st_size > 1000]:
        time.sleep(0.01)
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert_nothing(leftovers=True)
    server.pace = 0
    assert start(server).wait() == 0
    assert int(server.requests[-1]["Range"].removeprefix("bytes=").removesuffix("-")) > 1000
    assert_whole()


@pytest.mark.slow
def test_processes_that_fetch_a_file_at_once_download_it_once(make_server):
    server = make_server(spread=1.5)  # long enough for them to overlap
    processes = [start(server) for _ in range(3)]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors
    assert len(server.requests) == 1
    assert_whole()


def test_a_waiting_process_resumes_the_download_of_a_killed_one(make_server):
    server = make_server(spread=3)
    first = start(server)
    while not [part for part in Path().glob("*.part") if part.stat().st_size > 1000]:
        time.sleep(0.01)
    second = start(server)
    time.sleep(0.7)
    first.kill()
    server.spread = 0
    assert second.wait() == 0
    assert [bool(request.get("Range")) for request in server.requests] == [False, True]
    first.communicate()
    assert_whole()


def test_a_download_is_resumed_after_ctrl_c(make_server):
    server = make_server(spread=20)
    process = start(server, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    while not [part for part in Path().glob("*.part") if part.stat().st_size > 1000]:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert (process.wait(timeout=5), process.communicate()[1].splitlines()[-1]) == (130, "Interrupted.")
    server.spread = 0
    assert start(server).wait() == 0
    assert "Range" in server.requests[-1]
    assert_whole()


@pytest.fixture
def sources(make_server, monkeypatch):
    """Serves every file of lab/fetch.py from a local server."""
    made = {name: [(names, [fetch.Source(source.name, {make_server().address: None}, check) for source in sources])
                   for names, sources in entries] for name, entries in fetch.FILES.items()}
    monkeypatch.setattr(fetch, "FILES", made)
    monkeypatch.setenv("LAB_OFFLINE", "0")


def test_the_fetch_command_prints_where_the_files_are(sources, capsys):
    for _ in range(2):
        assert command_line.exit_status(lambda: fetch.main(["weights", "train", "test"])) == 0
        assert capsys.readouterr().out.splitlines() == [str(Path(name).resolve()) for name in (
            "bvlc_alexnet.npy", "train.p", "GTSRB_Final_Test_GT.zip", "GTSRB_Final_Test_Images.zip")]


@pytest.mark.parametrize("spoil, sentence", [
    (lambda monkeypatch: Path("train.p").write_text("mine"), "train.p holds something else"),
    (lambda monkeypatch: monkeypatch.setenv("LAB_OFFLINE", "1"), "LAB_OFFLINE is set"),
    (lambda monkeypatch: monkeypatch.setattr(fetch, "PATIENCE", 0), "train.p could not be fetched .* try again later"),
])
def test_the_fetch_command_fails_in_one_sentence(sources, capsys, monkeypatch, spoil, sentence):
    spoil(monkeypatch)
    assert command_line.exit_status(lambda: fetch.main(["train"])) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1 and re.search(sentence, output.err)


def test_the_scripts_fall_back_on_the_builtin_files_and_say_why(make_server, monkeypatch, capsys):
    monkeypatch.setenv("LAB_OFFLINE", "0")
    monkeypatch.setattr(fetch, "WEIGHTS", [fetch.Source("bvlc-alexnet.npy", {make_server(status=404).address: None}, check)])
    assert fetch.weights_file("auto") == weights.BUILTIN
    notice = capsys.readouterr().err
    assert notice.count("\n") == 1 and "the built-in ones, since bvlc-alexnet.npy could not be fetched" in notice
    monkeypatch.setattr(fetch, "TRAIN", fetch.Source("train.p", {make_server(status=404).address: None}, check))
    monkeypatch.setattr(fetch, "TRAIN_ZIP", fetch.Source("train.zip", {make_server(status=500).address: None}, check))
    assert fetch.data_path("auto", fetch.Patience()) is None
    notice = capsys.readouterr().err
    assert notice.count("\n") == 1
    assert re.search("Traffic signs: drawn by the lab, since .*404 Not Found; .*500 Internal", notice)


def test_the_network_is_not_used_when_it_is_not_needed(make_server, monkeypatch):
    server = make_server()
    monkeypatch.setattr(fetch, "WEIGHTS", [fetch.Source("bvlc-alexnet.npy", {server.address: None}, check)])
    monkeypatch.setattr(fetch, "TRAIN", fetch.Source("train.p", {server.address: None}, check))
    assert fetch.weights_file("auto") == weights.BUILTIN  # LAB_OFFLINE=1
    assert fetch.data_path("auto", fetch.Patience()) is None
    monkeypatch.delenv("LAB_OFFLINE")
    assert fetch.weights_file("builtin") == weights.BUILTIN and fetch.data_path("builtin", fetch.Patience()) is None
    for name in ("bvlc-alexnet.npy", "train.p"):  # present, though damaged: never replaced
        Path(name).write_text("mine")
    assert fetch.weights_file("auto") == Path("bvlc-alexnet.npy")
    assert fetch.data_path("auto", fetch.Patience()) == Path("train.p")
    weights.load("builtin")
    with pytest.raises(BadInput):
        weights.load("auto")
    assert server.requests == [] and Path("train.p").read_text() == "mine"


def test_the_scripts_fetch_what_is_missing(make_server, monkeypatch):
    monkeypatch.delenv("LAB_OFFLINE")
    server = make_server()
    monkeypatch.setattr(fetch, "WEIGHTS", [fetch.Source("bvlc-alexnet.npy", {server.address: None}, check)])
    monkeypatch.setattr(fetch, "TRAIN", fetch.Source("train.p", {make_server(status=404).address: None}, check))
    monkeypatch.setattr(fetch, "TRAIN_ZIP", fetch.Source("train.zip", {server.address: None}, check))
    assert fetch.weights_file("auto") == Path("bvlc-alexnet.npy")
    assert fetch.data_path("auto", fetch.Patience()) == Path("train.zip")
    assert sorted(os.listdir()) == ["bvlc-alexnet.npy", "train.zip"]


POINTER = (b"version https://git-lfs.github.com/spec/v1\n"
           b"oid sha256:6b0da9510f27f234ee96a85dc3809dd210150fdefad87f6850f9788513216945\nsize 243863787\n")


@pytest.fixture
def published(monkeypatch, make_server):
    """Makes the addresses of fetch.WEIGHTS local ones: {name: server}. They hold small weights, each in its own bytes."""
    shapes = {"fc7": (8, 8), "fc8": (8, 1000)}
    monkeypatch.setattr(weights, "SHAPES", shapes)
    arrays = {f"{layer}_{kind}": np.ones(shape if kind == "W" else shape[-1], np.float32)
              for layer, shape in shapes.items() for kind in "Wb"}
    servers, sources = {}, []
    for source in fetch.WEIGHTS:
        content = io.BytesIO()
        np.savez(content, **arrays, **{source.name: np.zeros(10_000)})  # the last array makes the bytes differ
        servers[source.name] = make_server(content.getvalue())
        kind = next(iter(source.addresses.values()))
        digest = kind and f"{kind.split(':')[0]}:{hashlib.new(kind.split(':')[0], content.getvalue()).hexdigest()}"
        sources.append(source._replace(addresses={servers[source.name].address: digest}))
    monkeypatch.setattr(fetch, "WEIGHTS", sources)
    monkeypatch.setitem(fetch.FILES, "weights", [(weights.PUBLISHED, sources)])
    monkeypatch.setenv("LAB_OFFLINE", "0")
    return servers


def test_weights_with_a_published_digest_are_asked_for_first_and_auto_finds_each_under_its_name():
    digests = [digest for source in fetch.WEIGHTS for digest in source.addresses.values()]
    assert digests == sorted(digests, key=lambda digest: digest is None) and len(digests) == 6
    assert {source.name for source in fetch.WEIGHTS} < set(weights.PUBLISHED)


@pytest.mark.parametrize("bad, reason", [
    ({"status": 404}, "404 Not Found"),
    ({"status": 200, "content": POINTER}, "Git LFS pointer"),
    ({"content": CONTENT}, "does not match its published digest"),
])
def test_weights_come_from_the_first_address_that_has_them_whole(published, capsys, bad, reason):
    for name in ("bvlc_alexnet.npy", "bvlcalexnet-12.onnx"):
        for setting, value in bad.items():
            setattr(published[name], setting, value)
    assert fetch.weights_file("auto") == Path("bvlc_alexnet.caffemodel")
    assert sorted(os.listdir()) == ["bvlc_alexnet.caffemodel", "bvlc_alexnet.caffemodel.json"]
    assert published["bvlc-alexnet.npy"].requests == []
    published["bvlc_alexnet.caffemodel"].status = 404
    os.remove("bvlc_alexnet.caffemodel")
    published["bvlc-alexnet.npy"].status = 404
    assert fetch.weights_file("auto") == weights.BUILTIN
    assert reason in capsys.readouterr().err.splitlines()[-1]


def test_the_fetch_command_says_which_weights_it_took_from_whom_and_under_what_licence(published, capsys):
    published["bvlc_alexnet.npy"].status = 404
    assert command_line.exit_status(lambda: fetch.main(["weights"])) == 0
    digest = hashlib.sha256(published["bvlcalexnet-12.onnx"].content).hexdigest()
    assert re.search(f"bvlcalexnet-12.onnx: verified by SHA-256 {digest}, from ONNX model zoo .127.0.0.1.*, licence: BSD-3-",
                     capsys.readouterr().err)
    assert fetch.weights_file("auto") == Path("bvlcalexnet-12.onnx")
    assert capsys.readouterr().err == "AlexNet weights: bvlcalexnet-12.onnx (ONNX model zoo, verified by SHA-256)\n"


def test_an_unverified_file_gets_no_publisher_and_the_same_bytes_as_a_verified_one_are_verified(published, capsys):
    for name in ("bvlc_alexnet.npy", "bvlcalexnet-12.onnx", "bvlc_alexnet.caffemodel"):
        published[name].status = 404
    fetch.weights_file("auto")
    assert os.listdir() == ["bvlc-alexnet.npy"] and "content checked" in capsys.readouterr().err
    os.remove("bvlc-alexnet.npy")
    published["bvlc-alexnet.npy"].content = published["bvlc_alexnet.npy"].content
    fetch.weights_file("auto")
    assert "bvlc-alexnet.npy: verified by SHA-256" in capsys.readouterr().err
    fetch.weights_file("auto")
    assert capsys.readouterr().err == "AlexNet weights: bvlc-alexnet.npy (Udacity, verified by SHA-256)\n"


def test_an_interrupted_onnx_download_is_resumed_and_unfinished_files_of_other_addresses_are_deleted(published):
    published["bvlc_alexnet.npy"].cut = [5, 0]
    published["bvlcalexnet-12.onnx"].cut = [50_000, 0]
    for name in ("bvlc_alexnet.caffemodel", "bvlc-alexnet.npy"):
        published[name].status = 500
    with pytest.raises(fetch.NotFetched):
        fetch.fetch(fetch.WEIGHTS, fetch.Patience())
    assert len(list(Path().glob("*.part"))) == 2
    published["bvlc_alexnet.npy"].cut = [0]
    assert fetch.fetch(fetch.WEIGHTS, fetch.Patience()) == Path("bvlcalexnet-12.onnx")
    assert published["bvlcalexnet-12.onnx"].requests[-1]["Range"] == "bytes=50000-"
    assert Path("bvlcalexnet-12.onnx").read_bytes() == published["bvlcalexnet-12.onnx"].content
    assert sorted(os.listdir()) == ["bvlcalexnet-12.onnx", "bvlcalexnet-12.onnx.json"]


def test_hosts_that_fail_for_the_same_reason_are_named_together(published):
    for server in published.values():
        server.status = 404
    with pytest.raises(fetch.NotFetched) as refusal:
        fetch.fetch(fetch.WEIGHTS, fetch.Patience())
    assert str(refusal.value).count("404 Not Found") == 1
    assert all(server.address.split("/")[2] in str(refusal.value) for server in published.values())


def test_a_file_is_fetched_even_if_the_note_of_its_publisher_cannot_be_written(published, monkeypatch):
    def full(path, value):
        raise BadInput("the disk is full")

    monkeypatch.setattr(files, "write_json", full)
    published["bvlc_alexnet.npy"].etag = ""  # no state to write
    assert fetch.weights_file("auto") == Path("bvlc_alexnet.npy") and os.listdir() == ["bvlc_alexnet.npy"]
