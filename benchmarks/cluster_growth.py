"""Find out what one client and one Dask scheduler can do, with workers that answer at once, without TensorFlow (Linux).

    .venv/bin/python benchmarks/cluster_growth.py --json growth.json

The messages are real and go over TLS on this machine; `lab.cluster.task` is replaced on the workers. The parts:

    names   batches of 128 photos by their names, answers of 1 kB
    signs   batches of 128 signs of 32x32 pixels, which travel (393 kB), answers of 1 kB
    fc7     batches of 128 photos by their names, answers of 2 MB
    shards  shards of 2,048 photos by their names, of which the client keeps the manifest (`--shards`)

For each it says how many batches a second there were, the CPU time that client and scheduler took for one, from which follows
which of the two gives out first and when, and the memory of both as the batches go by.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

HERE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(HERE))
PARTS = {"names": 100_000, "signs": 2_000, "fc7": 1_000, "shards": 1_000}
BATCH, SHARD = 128, 2048


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"what to measure: {', '.join(PARTS)} (default: all)")
    parser.add_argument("--workers", type=int, default=64, metavar="N", help="how many workers (default: 64)")
    parser.add_argument("--processes", type=int, default=4, metavar="N", help="how many processes they share (default: 4)")
    parser.add_argument("--batches", type=int, metavar="N",
                        help=f"how many (default: {', '.join(f'{count:,} of {part}' for part, count in PARTS.items())})")
    parser.add_argument("--json", default="growth.json", metavar="FILE", help="where to write the figures")
    parser.add_argument("--serve", nargs=2, metavar=("ADDRESS", "N"), help=argparse.SUPPRESS)  # N workers in this process
    args = parser.parse_args()
    if args.serve:
        return serve(args.serve[0], int(args.serve[1]))
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")

    from cluster_network import certificates, cpu_seconds

    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    results, started = {}, []
    with tempfile.TemporaryDirectory() as folder:
        certificates(Path(folder))
        os.environ["DASK_CONFIG"] = f"{folder}/dask.yaml"
        address = f"{folder}/scheduler.json"
        try:
            started.append(subprocess.Popen([str(Path(sys.executable).with_name("dask")), "scheduler", "--protocol", "tls",
                                             "--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0",
                                             "--scheduler-file", address], stderr=subprocess.DEVNULL))
            while not os.path.exists(address):
                time.sleep(0.1)
            address = json.loads(Path(address).read_text())["address"]
            for number in range(args.processes):
                count = args.workers // args.processes + (number < args.workers % args.processes)
                started.append(subprocess.Popen([sys.executable, __file__, "--serve", address, str(count)], cwd=HERE))

            def used():
                times = [cpu_seconds(process.pid) for process in started]
                return {"client": time.process_time(), "scheduler": times[0], "workers": sum(times[1:])}

            for part in args.parts or PARTS:
                results[part] = measure(part, address, args, started, used, folder)
                Path(args.json).write_text(json.dumps(results, indent=1))
        finally:
            for process in reversed(started):
                process.terminate()
            for process in started:
                process.wait(30)


def serve(address, count):
    """Be `count` workers, each with one thread, that answer at once."""
    import asyncio
    import logging

    import numpy as np
    from distributed import Worker, get_worker

    from lab.cluster import batches, task

    logging.getLogger("distributed").setLevel(logging.WARNING)
    widths = {}

    def prepare(key, network, *parts):
        widths[key] = network.weights["width"]
        return ["none"], "none"

    def answer(key, forms, guarded, file, *pieces):
        count = sum(form.shape[0] if isinstance(form, batches.Pixels) else len(form.names) for form, _ in forms)
        output = None if file else np.zeros((count, widths[key]), np.float32)
        return task.Answer(output, list(range(count)), {}, get_worker().address, "0" * 64 if file else None)

    task.prepare, task.answer = prepare, answer  # a function is sent as its module's and its own name

    async def run():
        workers = [await Worker(address, nthreads=1, name=f"{os.getpid()}-{number}", dashboard_address="127.0.0.1:0",
                                memory_limit=10**10) for number in range(count)]
        await asyncio.gather(*(worker.finished() for worker in workers))

    asyncio.run(run())


def measure(part, address, args, started, used, folder):
    """The figures of one part, which are printed too."""
    from lab import command_line

    with command_line.quiet_import():
        import numpy as np
        import tensorflow.compat.v1 as tf

        from lab.cluster import batches, shards, workers
        from lab.data import photos

    count = args.batches or PARTS[part]
    width = 4096 if part == "fc7" else 2
    signs = np.random.default_rng(0).integers(0, 256, (BATCH, 32, 32, 3), np.uint8)

    def named(number):
        names = [f"photos/{number:07}-{position:03}.jpg" for position in range(BATCH)]
        return batches.Files("/shared", names, "read_imagenet", [(100_000, number)] * BATCH, False)

    marks, marked = [], {max(1, count * percent // 100) for percent in (1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100)}
    with workers.connected(address) as connected, tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.uint8, [None, 32, 32, 3])
        output = tf.zeros([tf.shape(images)[0], width])
        network = workers.Network(connected, session, output, images, {"fingerprint": part, "width": width}, {})
        while len(network._ready) < args.workers:
            network._look()
            time.sleep(0.2)
        before, start = used(), time.monotonic()

        def mark(done):
            if done in marked:
                marks.append({"batches": done, "seconds": time.monotonic() - start, "client_mb": resident(),
                              "scheduler_mb": resident(started[0].pid),
                              **{who: seconds - before[who] for who, seconds in used().items()}})
                print("  after {batches:7,} batches, {seconds:6.1f} s: client {client_mb:.0f} MB, {client:.1f} s of CPU time; "
                      "scheduler {scheduler_mb:.0f} MB, {scheduler:.1f} s".format(**marks[-1]), flush=True)

        if part == "shards":
            batches._stat = lambda name: (100_000, 0)  # there are no such photos
            paths = [f"photos/{number:07}-{position:04}.jpg" for number in range(count) for position in range(SHARD)]
            before, start = used(), time.monotonic()
            base = resident()
            each = network.each
            network.each = lambda some: ((mark(done), item)[1] for done, item in enumerate(each(some), 1))
            shards.write_answers(network, f"{folder}/shards", paths, photos.read_imagenet, ["a", "b"],
                                 SimpleNamespace(top=1, threshold=0.0))
            size = os.path.getsize(f"{folder}/shards/manifest.jsonl")
            print(f"the manifest has {size / count / SHARD:.0f} bytes a photo, and the client takes "
                  f"{1e6 * (resident() - base) / count / SHARD:.0f} bytes of memory for one beside its name")
        else:
            some = (signs if part == "signs" else named(number) for number in range(count))
            for done, _ in enumerate(network.each(some), 1):
                mark(done)
    last = marks[-1]
    cpu = {who: 1000 * last[who] / last["batches"] for who in ("client", "scheduler", "workers")}
    first = max(("client", "scheduler"), key=cpu.get)
    print(f"{part}: {last['batches'] / last['seconds']:.0f} batches a second, of {args.workers} workers; CPU time of a batch: "
          + ", ".join(f"{who} {milliseconds:.2f} ms" for who, milliseconds in cpu.items())
          + f"; the {first} gives out first, at {1000 / cpu[first]:.0f} a second; load {os.getloadavg()[0]:.1f}", flush=True)
    return marks


def resident(process="self"):
    """The memory of a process in MB."""
    fields = Path(f"/proc/{process}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
