"""Measure a cluster of three hosts, each a network namespace of this machine (Linux, as root; needs ip and openssl).

    sudo .venv/bin/python benchmarks/cluster_network.py --json network.json

A bridge joins them. One has the Dask scheduler and the client, each of the others a worker with one core, and they speak TLS
with certificates made as in docs/cluster.md. The same photos go through AlexNet to fc7 in four ways, in turn:

    plain, 1    in one process with one core, without Dask
    plain, 2    half of them in each of two processes with a core each
    cluster, 1  on the cluster, with one worker
    cluster, 2  with two

All four must give the same bytes. The first batches, for which TensorFlow compiles, are not timed.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(HERE))
os.environ["LAB_OFFLINE"] = "1"

HUB, *HOSTS = (f"lab-{os.getpid()}-{number}" for number in range(3))
ADDRESS = "10.87.0.1"
SCHEDULER = f"tls://{ADDRESS}:8786"
WARM = 2  # batches for each worker that are not timed
BATCH = 128
CERTIFICATES = """
openssl req -x509 -newkey rsa:3072 -nodes -days 365 -subj /CN=authority -keyout tls/authority.key -out tls/authority.pem
openssl req -newkey rsa:3072 -nodes -subj /CN=lab -keyout tls/lab.key -out tls/lab.csr
openssl x509 -req -days 365 -in tls/lab.csr -CA tls/authority.pem -CAkey tls/authority.key -CAcreateserial -out tls/lab.pem
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=2560, metavar="N", help="how many photos (default: 2560)")
    parser.add_argument("--data", metavar="PATH", help="photos, as the training page takes them (default: drawn signs)")
    parser.add_argument("--repetitions", type=int, default=3, metavar="N", help="turns (default: 3)")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--json", default="network.json", metavar="FILE", help="where to write the figures")
    parser.add_argument("--through", metavar="HOW", help=argparse.SUPPRESS)  # what the processes are started with
    parser.add_argument("--rows", nargs=2, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.through:
        return through(args)
    if os.geteuid() or not (shutil.which("ip") and shutil.which("openssl")):
        parser.error("this needs root, and the commands ip and openssl")

    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    turns = {f"{how}, {count}": [] for how in ("plain", "cluster") for count in (1, 2)}
    with tempfile.TemporaryDirectory() as folder, hosts():
        certificates(Path(folder))
        for _ in range(args.repetitions):
            for name in turns:
                how, count = name.split(", ")
                turns[name].append((plain if how == "plain" else cluster)(args, int(count), Path(folder)))
                print(f"{name}: " + ", ".join(f"{key} {value:.4g}" for key, value in turns[name][-1].items()), flush=True)
    rate, cpu = ({name: statistics.median(turn[figure] for turn in turns[name]) for name in turns}
                 for figure in ("photos_per_second", "cpu_ms_per_batch"))
    print()
    for name in turns:
        print(f"{name:10}  {rate[name]:6.1f} photos a second, {cpu[name]:6.0f} ms of the workers' CPU time for a batch")
    for how in ("plain", "cluster"):
        print(f"{how}: two are {rate[f'{how}, 2'] / rate[f'{how}, 1']:.2f} times as fast as one")
    Path(args.json).write_text(json.dumps(turns, indent=1))


@contextlib.contextmanager
def hosts():
    """A context manager that makes the namespaces, with a bridge in the hub that joins them."""
    def ip(*words):
        subprocess.run(["ip", *words], check=True)

    try:
        for host in (HUB, *HOSTS):
            ip("netns", "add", host)
            ip("-n", host, "link", "set", "lo", "up")
        ip("-n", HUB, "link", "add", "bridge", "type", "bridge")
        ip("-n", HUB, "addr", "add", f"{ADDRESS}/24", "dev", "bridge")
        ip("-n", HUB, "link", "set", "bridge", "up")
        for number, host in enumerate(HOSTS, 1):
            ip("-n", HUB, "link", "add", f"to-{number}", "type", "veth", "peer", "name", "eth0", "netns", host)
            ip("-n", HUB, "link", "set", f"to-{number}", "master", "bridge", "up")
            ip("-n", host, "addr", "add", f"10.87.0.{number + 1}/24", "dev", "eth0")
            ip("-n", host, "link", "set", "eth0", "up")
        yield
    finally:
        for host in (HUB, *HOSTS):
            subprocess.run(["ip", "netns", "del", host], stderr=subprocess.DEVNULL)


def certificates(folder):
    """An authority's certificate, and one for all hosts, in `folder`/tls, with Dask's configuration for them."""
    (folder / "tls").mkdir(mode=0o700)
    for line in CERTIFICATES.strip().splitlines():
        subprocess.run(line.split(), cwd=folder, check=True, stderr=subprocess.DEVNULL)
    paths = {"cert": f"{folder}/tls/lab.pem", "key": f"{folder}/tls/lab.key"}
    tls = {"ca-file": f"{folder}/tls/authority.pem", "scheduler": paths, "worker": paths, "client": paths}
    configuration = {"comm": {"require-encryption": True, "tls": tls}, "scheduler": {"worker-ttl": "20s"},
                     "admin": {"low-level-log-length": 10}}
    (folder / "dask.yaml").write_text(json.dumps({"distributed": configuration}))  # which is YAML too


def plain(args, count, folder):
    """The figures of `count` processes without Dask, each with one core and its part of the photos."""
    bounds = [BATCH * (-(-args.photos // BATCH) * part // count) for part in range(count)] + [args.photos]
    processes = [subprocess.Popen(["taskset", "-c", str(core), *command(args, "plain", folder / f"{core}.npy", start, stop)],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                 for core, (start, stop) in enumerate(zip(bounds, bounds[1:]))]
    for process in processes:
        process.stdout.readline()  # it is ready
    start = time.monotonic()
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    cpu = sum(json.loads(process.stdout.readline())[1] for process in processes)
    seconds = time.monotonic() - start
    for process in processes:
        process.communicate()
    check(args, folder, [folder / f"{core}.npy" for core in range(count)])
    return {"photos_per_second": args.photos / seconds, "cpu_ms_per_batch": 1000 * cpu * BATCH / args.photos,
            "load": os.getloadavg()[0]}


def cluster(args, count, folder):
    """The figures of the cluster with `count` workers."""
    environment = os.environ | {"DASK_CONFIG": str(folder / "dask.yaml")}
    dask, log, started = str(Path(sys.executable).with_name("dask")), open(folder / "log", "w"), []

    def start(host, *words):
        words = ["ip", "netns", "exec", host, *words]
        started.append(subprocess.Popen(words, env=environment, cwd=HERE, stdout=log, stderr=log))

    try:
        start(HUB, dask, "scheduler", "--protocol", "tls", "--host", ADDRESS, "--port", "8786",
              "--dashboard-address", "127.0.0.1:0")
        for core, host in enumerate(HOSTS[:count]):
            start(host, "taskset", "-c", str(core), dask, "worker", SCHEDULER, "--nthreads", "1",
                  "--dashboard-address", "127.0.0.1:0")
        client = subprocess.Popen(["ip", "netns", "exec", HUB, *command(args, str(count), folder / "0.npy", 0, args.photos)],
                                  env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        client.stdout.readline()
        before = bytes_sent(), [cpu_seconds(process.pid) for process in started]
        client.stdin.write("go\n")
        client.stdin.flush()
        seconds, client_cpu = json.loads(client.stdout.readline())
        after = bytes_sent(), [cpu_seconds(process.pid) for process in started]
        client.communicate()
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(30)
    check(args, folder, [folder / "0.npy"])
    to_workers, from_workers = ((now - then) / args.photos for then, now in zip(before[0], after[0]))
    scheduler, *workers = ((now - then) * BATCH / args.photos for then, now in zip(before[1], after[1]))
    return {"photos_per_second": args.photos / seconds, "cpu_ms_per_batch": 1000 * sum(workers),
            "client_cpu_ms_per_batch": 1000 * client_cpu * BATCH / args.photos, "scheduler_cpu_ms_per_batch": 1000 * scheduler,
            "bytes_to_workers_per_photo": to_workers, "bytes_from_workers_per_photo": from_workers, "load": os.getloadavg()[0]}


def command(args, how, out, start, stop):
    words = [sys.executable, __file__, "--photos", str(args.photos), "--precision", args.precision, "--through", how,
             "--rows", str(start), str(stop), "--out", str(out)]
    return words + (["--data", args.data] if args.data else [])


def bytes_sent():
    """The bytes that have gone to the workers and come from them."""
    shown = json.loads(subprocess.check_output(["ip", "-n", HUB, "-s", "-j", "link", "show"]))
    links = [link["stats64"] for link in shown if link["ifname"].startswith("to-")]
    return sum(link["tx"]["bytes"] for link in links), sum(link["rx"]["bytes"] for link in links)


def cpu_seconds(process):
    """The CPU time of a process and of its children that are running."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    threads = Path(f"/proc/{process}/task").iterdir()
    children = [child for thread in threads for child in (thread / "children").read_text().split()]
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") + sum(map(cpu_seconds, children))


def check(args, folder, paths):
    """Ends the program if the features in `paths` are not the bytes of the first time."""
    import numpy as np

    features = np.concatenate([np.load(path) for path in paths])
    reference = folder / "reference.npy"
    if not reference.exists():
        np.save(reference, features)
    if len(features) != args.photos or features.tobytes() != np.load(reference).tobytes():
        sys.exit("the features are not the same bytes as in one process")


def through(args):
    """Take the rows `args.rows` of the photos through AlexNet: "plain" in this process, or on so many workers."""
    from lab import command_line

    with command_line.quiet_import():
        import numpy as np
        import tensorflow.compat.v1 as tf

        from alexnet import AlexNet
        from lab.cluster import workers
        from lab.data import dataset
        from lab.network import inference, weights
        from lab.network.fast_layers import resized_conv, strided_conv
        from lab.network.normalisation import compiled_lrn
        from lab.network.preprocessing import subtract_mean

    features = dataset.load(args.data).features
    features = features[np.arange(args.photos) % len(features)][slice(*args.rows)]
    starts = range(0, len(features), BATCH)
    alexnet_weights, size = weights.load("builtin"), features.shape[1]
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.uint8, [None, size, size, 3])
        fc7 = AlexNet(tf.cast(subtract_mean(images), args.precision), feature_extract=True, weights=alexnet_weights,
                      conv1=resized_conv if size < 227 else strided_conv, norm=compiled_lrn)
        fc7 = tf.cast(fc7, tf.float32)
        session.run(tf.global_variables_initializer())

        def compute(run, starts):
            return dict(inference.each(run, (features[start:start + BATCH] for start in starts)))

        def timed(run, warm):
            compute(run, starts[:warm])
            print("ready", flush=True)
            if not sys.stdin.readline():
                sys.exit("interrupted")
            start, cpu_start = time.monotonic(), time.process_time()
            outputs = compute(run, starts)
            print(json.dumps([time.monotonic() - start, time.process_time() - cpu_start]), flush=True)
            np.save(args.out, np.concatenate([outputs[number] for number in range(len(starts))]))

        if args.through == "plain":
            return timed(session.make_callable(fc7, [images]), 1)
        count = int(args.through)
        time.sleep(5)  # for the scheduler to be there
        with workers.connected(SCHEDULER) as connected:
            identity = weights.identity(weights.BUILTIN, alexnet_weights)
            network = workers.Network(connected, session, fc7, images, identity, alexnet_weights)
            while len(network._ready) < count:
                network._look()
                time.sleep(0.2)
            timed(network, WARM * count)


if __name__ == "__main__":
    main()
