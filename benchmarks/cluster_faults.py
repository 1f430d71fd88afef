"""Break a Dask cluster at random moments while a training uses it, and see that nothing is lost.

    .venv/bin/python benchmarks/cluster_faults.py --data ../shared/gtsrb/train.p

starts a scheduler and workers on this machine, lets train_feature_extraction.py --cluster take some signs through AlexNet, and
does one of these while it is at work:

    worker      kill -9 of a worker's process; its nanny starts another one
    nanny       kill -9 of a worker and of its nanny
    scheduler   kill -9 of the scheduler; a loop starts it and the workers again
    gone        kill -9 of the scheduler, which stays away; then it is started, and the training run again
    hung        SIGSTOP of the scheduler, for ever; then it is started again, and the training run again
    pause       SIGSTOP of the scheduler for some seconds
    client      kill -9 of the training, which is run again
    interrupt   Ctrl-C of the training, which is run again
    stop        SIGSTOP of a worker for longer than worker-ttl
    stops       SIGSTOP of all workers for longer than worker-ttl
    cut         all connections cut, and none accepted for some seconds
    down        all connections silent for some seconds: a cable that is pulled, and put in again
    slow        200 ms each way and 5% of all packets lost, from the beginning to the end
    weights     a worker whose weights file has another fingerprint
    nan         a worker that answers NaN
    nans        all workers answer NaN
    raises      a worker that raises an error for each batch
    late        a worker that comes late
    no-lab      a worker without the lab
    other-lab   a worker with another version of the lab
    memory      a worker whose memory limit is too small
    jpeg        imagenet_inference.py with 1,000 photos, one of which kills the process that decodes it
    nobody      an address where nothing listens
    not-dask    an address where something else listens
    silent      an address where something listens that never answers

Each time it compares the kept features with those of one machine, counts the batches that were computed more than once, and
reads the exit status and all that was printed. The loss is a model: TCP would deliver the lost packet a round trip later, and
so does the relay in between.
"""

import argparse
import asyncio
import atexit
import collections
import contextlib
import hashlib
import json
import os
import pickle
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(HERE))

BATCH = 128  # signs
IN_FLIGHT = 2  # batches a worker
TTL = 20  # seconds: worker-ttl
MOST = TTL + 60  # seconds that a fault may cost

# What a training may say when all is well. Anything else is shown, and counts as a failure where it looks like a log.
_LOG = re.compile(r"Traceback|distributed\.|Task exception|never retrieved|Exception (in|ignored)|Error in|WARNING|ERROR|"
                  r"tornado|asyncio|  File ")


def dask_setup(worker):
    """Called by Dask in each worker, which loads this file with --preload: counts what it computes, and spoils it if asked to.

    FAULTS in the environment is the folder for notes, FAULT what to do wrong.
    """
    folder, fault = Path(os.environ["FAULTS"]), os.environ.get("FAULT")
    (folder / f"{worker.name}.pid").write_text(str(os.getpid()))
    try:
        sys.path.insert(0, os.getcwd())
        from lab.cluster import batches, task
    except ImportError:  # a worker without the lab
        return
    answer = task.answer

    def counted(*arguments):
        found = answer(*arguments)
        digest = hashlib.sha256(b"".join(part for part in arguments if isinstance(part, bytes))).hexdigest()
        with open(folder / "computed", "a") as file:
            file.write(f"{worker.name} {digest}\n")
        return found._replace(output=found.output * float("nan")) if fault == "nan" else found

    def broken(*arguments):
        raise RuntimeError("this worker is broken")

    task.answer = counted
    if fault == "raises":
        batches.read = broken


class Relay:
    """Passes on what comes to a port of its own, and can be slow, silent, or cut off. One event loop serves all of them."""

    loop = None

    def __init__(self, target):
        if Relay.loop is None:
            Relay.loop = asyncio.new_event_loop()
            threading.Thread(target=Relay.loop.run_forever, daemon=True).start()
        self.target, self.latency, self.loss = target, 0.0, 0.0
        self.writers, self.refusing = set(), False
        self.passing = asyncio.Event()
        self.passing.set()
        self.port = free_port()
        self.server = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._accept, "127.0.0.1", self.port), Relay.loop
                                                       ).result()

    async def _accept(self, reader, writer):
        if self.refusing:
            return writer.transport.abort()
        try:
            onward = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            return writer.transport.abort()
        self.writers |= {writer, onward[1]}
        await asyncio.gather(self._pass(reader, onward[1]), self._pass(onward[0], writer))
        self.writers -= {writer, onward[1]}

    async def _pass(self, reader, writer):
        waiting = asyncio.Queue(1000)

        async def deliver():
            while (entry := await waiting.get()) is not None:
                due, content = entry
                await asyncio.sleep(max(0, due - time.monotonic()))
                await self.passing.wait()
                writer.write(content)
                await writer.drain()

        delivering = asyncio.ensure_future(deliver())
        try:
            while content := await reader.read(14_600):  # ten packets
                late = 2 * self.latency if random.random() > (1 - self.loss) ** (len(content) / 1460) else 0
                await waiting.put((time.monotonic() + self.latency + late, content))
            await waiting.put(None)
            await delivering
        except OSError:
            delivering.cancel()
        with contextlib.suppress(OSError, RuntimeError):
            writer.close()

    def cut(self, refusing):
        """Cut all connections, and refuse new ones for as long as this is `refusing`."""
        def now():
            self.refusing = refusing
            for writer in self.writers if refusing else ():
                writer.transport.abort()
        Relay.loop.call_soon_threadsafe(now)

    def silence(self, silent):
        """Hold back all that comes, or let it pass again."""
        Relay.loop.call_soon_threadsafe(self.passing.clear if silent else self.passing.set)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Cluster:
    """A scheduler and workers that are processes of their own, on loopback. folder: for notes and logs.

    relayed: whether all connections pass through relays. ttl: seconds. environment: the scheduler's, a dict.
    """

    def __init__(self, folder, relayed=False, ttl=TTL, protocol="tcp", environment=()):
        self.folder, self.relayed, self.protocol = Path(folder), relayed, protocol
        self.environment = os.environ | {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": f"{ttl}s"} | dict(environment)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port, self.scheduler, self.workers, self.started = free_port(), None, {}, 0
        self.relays = [Relay(self.port)] if relayed else []
        self.address = f"{protocol}://127.0.0.1:{self.relays[0].port if relayed else self.port}"
        self.commands, self.tending, self.again = {}, threading.Lock(), 0
        self.start_scheduler()
        self.ended = threading.Event()
        threading.Thread(target=self._tend, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.ended.set()
        with self.tending:
            for process in [*self.workers.values(), self.scheduler]:
                _end(process)

    def _tend(self):
        """Start workers again that have ended, as whoever runs a cluster does: `while true; do dask worker ...; done`."""
        while not self.ended.wait(0.5):
            with self.tending:
                for name, process in self.workers.items():
                    if process.poll() is not None and not self.ended.is_set():
                        self.workers[name] = self._dask(*self.commands[name])
                        self.again += 1

    def start_scheduler(self):
        self.scheduler = self._dask("scheduler", self.environment, HERE, "scheduler", "--host", "127.0.0.1", "--port",
                                    str(self.port), "--protocol", self.protocol, "--no-dashboard")
        wait(lambda: _listens(self.port), 30)

    def add(self, fault="", cwd=HERE, memory="0", environment=()):
        """Start a worker; returns its name. Its process runs when its number is in the file NAME.pid."""
        name = f"worker{self.started}"
        self.started += 1
        options = ["--nthreads", "1", "--no-dashboard", "--name", name, "--memory-limit", memory,
                   "--local-directory", str(self.folder / "local"), "--preload", __file__]
        if self.relayed:
            port = free_port()
            self.relays.append(Relay(port))
            options += ["--listen-address", f"tcp://127.0.0.1:{port}",
                        "--contact-address", f"tcp://127.0.0.1:{self.relays[-1].port}"]
        else:
            options += ["--host", "127.0.0.1"]
        environment = os.environ | {"FAULTS": str(self.folder), "FAULT": fault, "LAB_OFFLINE": "1"} | dict(environment)
        with self.tending:
            self.commands[name] = "worker", environment, cwd, name, self.address, *options
            self.workers[name] = self._dask(*self.commands[name])
        return name

    def ready(self):
        """Wait until all workers run."""
        wait(lambda: all((self.folder / f"{name}.pid").exists() for name in self.workers), 120)

    def restart(self):
        """What a loop does that starts the scheduler and its workers again."""
        with self.tending:
            for process in self.workers.values():
                _end(process)
        self.start_scheduler()

    def pid(self, name):
        return int((self.folder / f"{name}.pid").read_text())

    def kill(self, name, nanny=False):
        if nanny:
            with self.tending:
                _end(self.workers.pop(name))
        else:
            os.kill(self.pid(name), signal.SIGKILL)

    def computed(self):
        """How often each batch was computed."""
        path = self.folder / "computed"
        return collections.Counter(line.split()[1] for line in path.read_text().splitlines()) if path.exists() else {}

    def by_worker(self):
        path = self.folder / "computed"
        return collections.Counter(line.split()[0] for line in path.read_text().splitlines()) if path.exists() else {}

    def forget(self):
        (self.folder / "computed").unlink(missing_ok=True)

    def _dask(self, what, environment, cwd, log, *arguments):
        with open(self.folder / f"{log}.log", "a") as file:
            return subprocess.Popen([Path(sys.executable).with_name("dask"), what, *arguments], cwd=cwd, env=environment,
                                    stdout=file, stderr=file, stdin=subprocess.DEVNULL, start_new_session=True)


def _end(process):
    """Kill a process that was started here, with those that it has started itself."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)


def _listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait(is_so, seconds):
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            raise TimeoutError("this takes too long")
        time.sleep(0.05)


class Run:
    """A run of a page, in `folder`. What it prints on stderr goes to the file NAME.err."""

    def __init__(self, folder, name, *command):
        self.error = open(Path(folder) / f"{name}.err", "w+")
        self.start = time.monotonic()
        self.process = subprocess.Popen([sys.executable, *map(str, command)], cwd=folder, stdout=subprocess.DEVNULL,
                                        stderr=self.error, stdin=subprocess.DEVNULL, start_new_session=True,
                                        env=os.environ | {"LAB_OFFLINE": "1"})
        atexit.register(lambda: self.process.poll() is None and _end(self.process))

    def signal(self, number):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def end(self, seconds):
        """Wait for it: its exit status, None if it took longer than `seconds` and was killed; all that it printed."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            _end(self.process)
            status = None
        self.seconds = time.monotonic() - self.start
        self.error.seek(0)
        return status, self.error.read()


def train(folder, cache, cluster=None):
    """A Run of train_feature_extraction.py on the signs in folder/signs.p, which keeps its features in `cache`."""
    return Run(folder, cache, HERE / "train_feature_extraction.py", "--data", "signs.p", "--weights", "builtin",
               "--epochs", "1", "--model", f"{cache}-model", "--overwrite", "--cache", cache,
               *(["--cluster", cluster] if cluster else []))


def features(folder, cache):
    """The digest of the kept features, whatever their file is called: the workers may be of another kind."""
    found = list(Path(folder, cache).glob("kept-*.npy"))
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in found]


def write_signs(data, folder, count):
    """Write `count` signs of the pickle `data`, or drawn ones if that is None, to folder/signs.p."""
    import numpy as np

    if data is None:
        rng = np.random.default_rng(0)
        signs = {"features": rng.integers(0, 256, (count, 32, 32, 3), np.uint8), "labels": np.arange(count) % 43}
    else:
        with open(data, "rb") as file:
            everything = pickle.load(file)
        some = np.random.default_rng(0).choice(len(everything["features"]), count, replace=False)
        signs = {key: np.asarray(everything[key])[some] for key in ("features", "labels")}
    Path(folder, "signs.p").write_bytes(pickle.dumps(signs))


def at_random(training, cluster, batches, draw):
    """Wait for a moment of the training: one time in six before the first batch, otherwise after any number of them."""
    if draw.random() < 1 / 6:
        moment = draw.uniform(3, 12)
        wait(lambda: time.monotonic() > training.start + moment or training.process.poll() is not None, 60)
        return f"{moment:.0f} s"
    moment = draw.randrange(1, batches - 2)
    wait(lambda: sum(cluster.computed().values()) >= moment or training.process.poll() is not None, 300)
    time.sleep(draw.uniform(0, 0.5))
    return f"batch {moment}"


# Each fault: a function of (cluster, training, draw) that does it at the chosen moment. It returns a sentence for the table.

def worker(cluster, draw, training):
    cluster.kill(draw.choice(list(cluster.workers)))


def nanny(cluster, draw, training):
    cluster.kill(draw.choice(list(cluster.workers)), nanny=True)


def scheduler(cluster, draw, training):
    _end(cluster.scheduler)
    time.sleep(draw.uniform(0, 8))
    cluster.restart()


def stop(cluster, draw, training):
    _stop(cluster, [draw.choice(list(cluster.workers))], draw, training)


def stops(cluster, draw, training):
    _stop(cluster, list(cluster.workers), draw, training)


def _stop(cluster, names, draw, training):
    pids = [cluster.pid(name) for name in names]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    end = time.monotonic() + TTL + draw.uniform(5, 15)
    wait(lambda: time.monotonic() > end or training.process.poll() is not None, 60)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def pause(cluster, draw, training):
    os.kill(cluster.scheduler.pid, signal.SIGSTOP)
    time.sleep(draw.uniform(5, 40))
    os.kill(cluster.scheduler.pid, signal.SIGCONT)


def cut(cluster, draw, training):
    _links(cluster, draw, Relay.cut)


def down(cluster, draw, training):
    _links(cluster, draw, Relay.silence)


def _links(cluster, draw, change):
    relays = draw.choice([cluster.relays, cluster.relays[:1], cluster.relays[1:2]])  # all, the scheduler's, a worker's
    for relay in relays:
        change(relay, True)
    time.sleep(draw.uniform(1, 30))
    for relay in relays:
        change(relay, False)


def late(cluster, draw, training):
    cluster.add()


AT_WORK = {"worker": worker, "nanny": nanny, "scheduler": scheduler, "stop": stop, "stops": stops, "pause": pause,
           "cut": cut, "down": down, "late": late}
AGAIN = "client", "interrupt", "gone", "hung"
FROM_THE_START = "slow", "weights", "nan", "nans", "raises", "no-lab", "other-lab", "memory"
NO_CLUSTER = "nobody", "not-dask", "silent"
FAULTS = [*AT_WORK, *AGAIN, *FROM_THE_START, *NO_CLUSTER, "jpeg"]

# A decoder that ends its process at a photo with this comment, as one that is broken may. Python loads a module of this name.
MARK = b"ends whoever decodes it"
SITECUSTOMIZE = f"""
import os
import PIL.Image
opened = PIL.Image.open
def decode(file, *arguments, **named):
    content = file.read()
    file.seek(0)
    if {MARK!r} in content:
        os.kill(os.getpid(), 9)
    return opened(file, *arguments, **named)
PIL.Image.open = decode
"""


def jpeg(folder, name, count=1000):
    """Let two workers name `count` small photos, one of which kills its decoder: a dict for the table."""
    import numpy as np
    from PIL import Image

    photos, stub, rng = folder / f"{name}-photos", folder / "stub", np.random.default_rng(0)
    for path in photos, stub:
        path.mkdir(exist_ok=True)
    (stub / "sitecustomize.py").write_text(SITECUSTOMIZE)
    killer = int(rng.integers(count))
    for number in range(count):
        image = Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).resize((64, 64))
        image.save(photos / f"{number:04}.jpg", comment=MARK if number == killer else b"")
    row = {"fault": "jpeg", "photos": count, "problems": []}
    with Cluster(folder / f"{name}-cluster") as cluster:
        for _ in range(2):
            cluster.add(environment={"PYTHONPATH": str(stub)})
        cluster.ready()
        run = Run(folder, name, HERE / "imagenet_inference.py", photos, "--weights", "builtin", "--csv", f"{name}.csv",
                  "--cluster", cluster.address)
        status, said = run.end(MOST + 300)
        row |= {"seconds": round(run.seconds, 1), "said": said.splitlines(), "workers": 2}
        _check(row, status == 1, f"status {status}")  # as for any photo that cannot be read
        _check(row, any(f"{killer:04}.jpg kills the process that reads it" in line for line in row["said"]), "not named")
        answered = (folder / f"{name}.csv").read_text().splitlines()[1:] if (folder / f"{name}.csv").exists() else []
        names = [Path(line.split(",")[0]).name for line in answered]
        _check(row, names == [f"{number:04}.jpg" for number in range(count) if number != killer], f"{len(answered)} answers")
        _check_printed(row, said)
    return row


def one(fault, seed, folder, signs, expected):
    """Do the `fault` once: a dict for the table. expected: the digests of the features on one machine."""
    draw, batches = random.Random(f"{fault} {seed}"), -(-signs // BATCH)
    name = f"{fault}-{seed}"
    if fault in NO_CLUSTER:
        return _no_cluster(fault, name, folder)
    if fault == "jpeg":
        return jpeg(folder, name)
    count = draw.choice([2, 3])
    row = {"fault": fault, "seed": seed, "workers": count, "problems": []}
    with Cluster(folder / f"{name}-cluster", relayed=fault in ("cut", "down", "slow")) as cluster:
        for number in range(count):
            cluster.add(**(_worker(fault, folder) if number == 0 or fault == "nans" else {}))
        if fault == "slow":
            for relay in cluster.relays:
                relay.latency, relay.loss = 0.2, 0.05
        cluster.ready()
        training = train(folder, name, cluster.address)
        if fault in AT_WORK or fault in AGAIN:
            row["moment"] = at_random(training, cluster, batches, draw)
        begun = time.monotonic()
        faults = 1
        if fault in AT_WORK:
            AT_WORK[fault](cluster, draw, training)
        elif fault == "client":
            training.signal(signal.SIGKILL)
            training.end(10)
            training = train(folder, name, cluster.address)
        elif fault == "interrupt":
            training.signal(signal.SIGINT)
            status, said = training.end(30)
            row["ending"] = round(time.monotonic() - begun, 1)
            _check(row, status in (130, 0), f"status {status} after Ctrl-C")
            _check_printed(row, said)
            training = train(folder, name, cluster.address)
        elif fault in ("gone", "hung"):
            if fault == "gone":
                _end(cluster.scheduler)
            else:
                os.kill(cluster.scheduler.pid, signal.SIGSTOP)
            status, said = training.end(MOST)
            row["ending"] = round(time.monotonic() - begun, 1)
            _check(row, status in (2, 0), f"status {status} without a scheduler")
            _check_printed(row, said)
            row["sentence"] = said.strip().splitlines()[-1] if said.strip() else ""
            _end(cluster.scheduler)
            cluster.restart()
            training = train(folder, name, cluster.address)
        status, said = training.end(MOST + 240)  # the batches themselves take time, too
        row["seconds"] = round(training.seconds, 1)
        twice = sum(cluster.computed().values()) - len(cluster.computed())
        row["computed twice"] = twice
        row["by worker"] = dict(sorted(cluster.by_worker().items()))
        row["workers started again"] = cluster.again
        if fault == "nans":
            _check(row, status == 2, f"status {status}")
            row["sentence"] = said.strip().splitlines()[-1]
        else:
            _check(row, status == 0, f"status {status}")
            _check(row, features(folder, name) == expected, "other features")
            allowed = IN_FLIGHT * (count if fault not in ("worker", "nanny", "stop", "late") else 1) * faults
            if fault == "nan":
                allowed = batches  # those of a worker that is wrong are computed once more, until it is known
            _check(row, twice <= allowed, f"{twice} batches computed twice, {allowed} were in flight")
        _check_printed(row, said)
        row["said"] = [line for line in said.splitlines() if "worker" in line or "127.0.0.1" in line]
        if fault in ("no-lab", "other-lab", "memory"):
            _check(row, any("is not used" in line for line in row["said"]), "no worker was refused")
            _check(row, not row["by worker"].get("worker0"), "the refused worker has computed")
        if fault == "late":
            row["late worker computed"] = row["by worker"].get(f"worker{count}", 0)
    return row


def _worker(fault, folder):
    """The options of the worker with this fault, for Cluster.add."""
    if fault in ("nan", "nans", "raises"):
        return {"fault": fault.replace("nans", "nan")}
    if fault == "memory":
        return {"memory": "600MB"}
    if fault == "no-lab":
        (folder / "empty").mkdir(exist_ok=True)
        return {"cwd": folder / "empty"}
    if fault in ("other-lab", "weights"):
        copy = folder / fault
        if not copy.exists():
            copy.mkdir()
            for part in ("lab", "builtin_weights"):
                shutil.copytree(HERE / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
            for page in HERE.glob("*.py"):
                shutil.copy(page, copy)
            if fault == "other-lab":
                with open(copy / "lab/network/preprocessing.py", "a") as file:
                    file.write("# another version\n")
            else:
                _change_weights(copy / "builtin_weights/compact-alexnet.npz")
        return {"cwd": copy}
    return {}


def _change_weights(path):
    """Change one bias in the compact weights file `path`, so that it is whole and another one."""
    import numpy as np

    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    name = next(name for name in arrays if name.endswith("_b"))
    arrays[name] = arrays[name] + np.asarray(1, arrays[name].dtype)
    np.savez(path, **arrays)


def _no_cluster(fault, name, folder):
    row = {"fault": fault, "problems": []}
    with contextlib.ExitStack() as stack:
        port = free_port()
        if fault != "nobody":
            listener = stack.enter_context(socket.create_server(("127.0.0.1", port)))

            def serve():
                with contextlib.suppress(OSError):
                    kept = []
                    while True:
                        kept.append(listener.accept()[0])
                        if fault == "not-dask":
                            kept[-1].sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

            threading.Thread(target=serve, daemon=True).start()
        training = train(folder, name, f"tcp://127.0.0.1:{port}")
        status, said = training.end(MOST)
        row["seconds"] = round(training.seconds, 1)
        row["sentence"] = said.strip().splitlines()[-1] if said.strip() else ""
        _check(row, status == 2, f"status {status}")
        _check(row, "scheduler" in row["sentence"], "no sentence")
        _check_printed(row, said)
    return row


def _check(row, is_so, problem):
    if not is_so:
        row["problems"].append(problem)


def looks_like_a_log(said):
    return bool(_LOG.search(said))


def _check_printed(row, said):
    if looks_like_a_log(said):
        row["problems"].append("printed a log")
        row["printed"] = said[-3000:]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help="which of these (default: all)")
    parser.add_argument("--data", metavar="train.p", help="GTSRB's signs (default: random pixels)")
    parser.add_argument("--signs", type=int, default=2560, metavar="N", help="how many signs (default: 2560, 20 batches)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N", help="which moments (default: 0)")
    parser.add_argument("--folder", metavar="DIR", help="keep logs here (default: a temporary folder)")
    parser.add_argument("--json", metavar="FILE", help="add the results to this file, a line each")
    args = parser.parse_args()
    if unknown := set(args.faults) - set(FAULTS):
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    os.environ["LAB_OFFLINE"] = "1"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # which ends what was started
    failed = 0
    with contextlib.ExitStack() as stack:
        folder = Path(args.folder or stack.enter_context(tempfile.TemporaryDirectory())).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder / "expected", ignore_errors=True)  # of an earlier version of the lab, perhaps
        write_signs(args.data, folder, args.signs)
        status, said = train(folder, "expected").end(1000)
        if status != 0:
            sys.exit(said)
        expected = features(folder, "expected")
        for seed in args.seeds:
            for fault in args.faults or FAULTS:
                shutil.rmtree(folder / f"{fault}-{seed}", ignore_errors=True)
                shutil.rmtree(folder / f"{fault}-{seed}-cluster", ignore_errors=True)
                row = one(fault, seed, folder, args.signs, expected) | {"load": os.getloadavg()[0]}
                failed += bool(row["problems"])
                print(f"{'FAILED' if row['problems'] else 'ok    '} {json.dumps(row)}", flush=True)
                if args.json:
                    with open(args.json, "a") as file:
                        file.write(json.dumps(row) + "\n")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
