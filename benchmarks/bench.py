"""Measure the lab's speed and memory against the lab of 2016 and against other inference engines.

    .venv/bin/python -m pip install -r benchmarks/requirements.txt
    .venv/bin/python benchmarks/bench.py --json bench.json

One run measures everything several times, in turn: where a machine's speed drifts, only ratios within a run are meaningful.
The parts, which can be chosen:

    engines  images per second through the network, by engine, precision and batch, after a check that all engines agree
    onednn   the lab's images per second with TensorFlow's oneDNN kernels on and off
    train    milliseconds of a finetuning step, by engine and precision, after a check that all compute the same losses
    start    seconds and memory of a whole process that names one photo
    lab      training on 39,209 photos: extraction and ten epochs, against ten epochs that send every photo through AlexNet
    growth   extraction for 5,000, 20,000 and 80,000 photos: seconds and memory
"""

import argparse
import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["LAB_OFFLINE"] = "1"
HERE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(HERE))

PARTS = "engines", "onednn", "train", "start", "lab", "growth"
QUICK = "engines", "onednn", "train"
ENGINES = {"the lab's graph": "lab", "ours": "ours", "OpenVINO, latency": "openvino_latency",
           "OpenVINO, throughput": "openvino_throughput", "ONNX Runtime": "onnx_runtime", "PyTorch": "pytorch",
           "LiteRT, XNNPACK": "litert"}
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.03}  # relative L2 distance from the lab's graph
FORWARD = 1.49e9  # floating-point operations of AlexNet from a resized sign to fc7: two for each product
GTSRB = 39_209  # photos in train.p
TRAINING = 26_270  # photos that the lab trains on; it validates on the rest


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"what to measure: {', '.join(PARTS)} (default: all)")
    parser.add_argument("--repetitions", type=int, default=5, metavar="N", help="repetitions of each measurement (default: 5)")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32, 128, 256], metavar="N",
                        help="batch sizes of the engines part (default: 1 32 128 256)")
    parser.add_argument("--quick", action="store_true",
                        help=f"only {', '.join(QUICK)}, with two repetitions, batches of 1 and 128, and without the slowest "
                             "engines: under 6 minutes")
    parser.add_argument("--json", default="bench.json", metavar="FILE", help="where to write the figures (default: bench.json)")
    args = parser.parse_args()
    if args.quick:
        args.parts, args.repetitions, args.batches = args.parts or QUICK, 2, [1, 128]
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")

    from lab import command_line, files

    with command_line.quiet_import():
        import engines  # noqa: F401

    results = {"machine": machine(), "command": " ".join(["benchmarks/bench.py", *sys.argv[1:]])}
    print("{cpu} with {cores} cores ({kind}), load {load:.1f}".format(**results["machine"]), flush=True)
    args.precisions = ["float32", "bfloat16"] if results["machine"]["bfloat16"] else ["float32"]
    if not results["machine"]["bfloat16"]:
        print("This CPU has no bfloat16 instructions and would only emulate them: only float32 is measured.", flush=True)
    for part in args.parts or PARTS:
        print(f"\n== {part}", flush=True)
        results[part] = globals()[f"{part}_part"](args)
        files.write_json(args.json, results)


def machine():
    """The machine that the figures are measured on."""
    import importlib.metadata

    from lab import cpu

    described = cpu.description()
    bfloat16 = {"avx512_bf16", "amx_bf16"} & cpu.flags()
    features = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16") if flag in cpu.flags()]
    packages = {}
    for name in ("tensorflow", "onnxruntime", "openvino", "torch", "ai-edge-litert"):
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    return {"cpu": described["model name"], "cores": cpu.cores(), "kind": ", ".join(features),
            "load": os.getloadavg()[0], "date": time.strftime("%Y-%m-%d"), "bfloat16": sorted(bfloat16), "packages": packages}


def engines_part(args):
    """[{kind, precision, batch, engine, images_per_second (median), ratio (of our speed to it, median), cpu_ratio}, ...]

    cpu_ratio: that of CPU time, for machines that are shared with other work. An engine whose threads wait actively for each
    other looks slower in it.
    """
    import engines
    import numpy as np

    from lab.network import weights

    parameters, random, rows = weights.load("builtin"), np.random.default_rng(0), []
    for kind in engines.EDGE:
        for precision in args.precisions:
            limit, operations = engines.matrix_product(precision)
            for batch in args.batches:
                if args.quick and (precision, batch) == ("bfloat16", 1):
                    continue
                images = smooth(random, batch, engines.EDGE[kind])
                reference = engines.lab(kind, parameters, "float32", batch)(images)
                functions = {}
                for name, function in ENGINES.items():
                    if args.quick and name in ("the lab's graph", "ONNX Runtime", "PyTorch"):  # the slowest
                        continue
                    if args.quick and name.startswith("LiteRT") and batch == 1:  # converting takes longer than all else
                        continue
                    try:
                        run = getattr(engines, function)(kind, parameters, precision, batch)
                        answers = run(images)
                    except (ImportError, NotImplementedError):
                        continue
                    distance = np.linalg.norm(answers - reference) / np.linalg.norm(reference)
                    if not distance < TOLERANCE[precision]:
                        sys.exit(f"{name} disagrees with the lab on {kind} in {precision}: relative distance {distance:.1e}")
                    functions[name] = run
                calls = max(1, (16 if args.quick else 64) // batch)
                seconds = {name: [] for name in [*functions, "limit"]}
                for _ in range(args.repetitions):
                    for name, run in functions.items():
                        cpu_start = time.process_time()
                        wall = timed(lambda: [run(images) for _ in range(calls)])
                        seconds[name].append((wall / calls / batch, time.process_time() - cpu_start))
                    seconds["limit"].append(timed(limit) / operations)
                print(f"\n{kind}, {precision}, batch {batch}; the machine's limit: "
                      f"{1e-9 / statistics.median(seconds.pop('limit')):.0f} GFLOP/s in matrix products")
                for name in functions:
                    ratio, cpu_ratio = (statistics.median(theirs / our for theirs, our in zip(*columns)) for columns in
                                        zip(zip(*seconds[name]), zip(*seconds["ours"])))
                    row = {"kind": kind, "precision": precision, "batch": batch, "engine": name, "ratio": ratio,
                           "cpu_ratio": cpu_ratio,
                           "images_per_second": 1 / statistics.median(wall for wall, _ in seconds[name])}
                    rows.append(row)
                    print(f"  {name:22} {row['images_per_second']:7.1f} images/s"
                          + (f"   ours is {ratio:.2f} times as fast, {cpu_ratio:.2f} in CPU time" if name != "ours" else ""),
                          flush=True)
    return rows


def onednn_part(args):
    """{kind: {"on", "off": images per second (median), "ratio": on to off (median)}} at batch 128, in processes in turn."""
    code = ("import sys; sys.path[:0] = sys.argv[1:3]; import bench, engines, json, numpy\nfrom lab.network import weights\n"
            "rates = {}\nfor kind, edge in engines.EDGE.items():\n"
            "    images = bench.smooth(numpy.random.default_rng(0), 128, edge)\n"
            "    run = engines.ours(kind, weights.load('builtin'), 'float32', 128)\n    run(images)\n"
            "    rates[kind] = 128 / min(bench.timed(lambda: run(images)) for _ in range(3))\nprint(json.dumps(rates))")
    turns = {"on": [], "off": []}
    for _ in range(args.repetitions):
        for switch in turns:
            environment = os.environ | {"TF_ENABLE_ONEDNN_OPTS": str(int(switch == "on"))}
            output = subprocess.check_output([sys.executable, "-c", code, str(HERE), str(HERE / "benchmarks")],
                                             env=environment, stderr=subprocess.DEVNULL, text=True)
            turns[switch].append(json.loads(output))
    results = {}
    for kind in turns["on"][0]:
        on, off = ([turn[kind] for turn in turns[switch]] for switch in ("on", "off"))
        results[kind] = {"on": statistics.median(on), "off": statistics.median(off),
                         "ratio": statistics.median(a / b for a, b in zip(on, off))}
        print("  {kind}: {on:.0f} images/s with oneDNN, {off:.0f} without: {ratio:.2f} times as fast".format(kind=kind,
              **results[kind]), flush=True)
    return results


def train_part(args):
    """[{precision, engine, milliseconds, cpu_milliseconds, ratio (of its time to ours)}, ...] for a step of 32 signs.

    All three must have the losses of the plain layers in float32 in the first two steps, the second after Adam has changed
    all weights. The limit: three times the forward arithmetic at the rate of a product of two matrices.
    """
    import engines
    import numpy as np

    from lab.network import weights

    parameters, rows = weights.load("builtin"), []
    features, labels = photos(32)
    start = engines.train_plain(parameters, "float32", 32)
    reference = [start(features, labels) for _ in range(2)]
    del start
    for precision in args.precisions:
        trainers = {}
        for name, function in engines.TRAINERS.items():
            try:
                trainers[name] = function(parameters, precision, 32)
            except ImportError:
                continue
            for step, tolerance in enumerate((1e-4, 1e-3) if precision == "float32" else (0.05, 0.2)):
                distance = np.abs(trainers[name](features, labels) - reference[step]).mean()
                if not distance < tolerance:
                    sys.exit(f"{name} has other losses in step {step} in {precision}: {distance:.1e}")
        limit, operations = engines.matrix_product(precision)
        seconds = {name: [] for name in [*trainers, "limit"]}
        for _ in range(2 * args.repetitions + 1):
            for name, run in trainers.items():
                cpu_start = time.process_time()
                seconds[name].append((timed(lambda: run(features, labels)), time.process_time() - cpu_start))
            seconds["limit"].append((timed(limit) / operations * 3 * 32 * FORWARD, 0))
        best = 1000 * statistics.median(wall for wall, _ in seconds.pop("limit"))
        print(f"\na step of 32 signs in {precision}; the limit: {best:.0f} ms")
        for name in trainers:
            wall, cpu_seconds = (1000 * statistics.median(column) for column in zip(*seconds[name]))
            ratio = statistics.median(theirs / our for (theirs, _), (our, _) in zip(seconds[name], seconds["ours"]))
            rows.append({"precision": precision, "engine": name, "milliseconds": wall, "cpu_milliseconds": cpu_seconds,
                         "ratio": ratio, "limit_milliseconds": best})
            print(f"  {name:14} {wall:6.0f} ms, {cpu_seconds:6.0f} of CPU time"
                  + (f"   ours is {ratio:.2f} times as fast" if name != "ours" else ""), flush=True)
    return rows


def start_part(args):
    """{command: {seconds, peak_mb, ratio (of its seconds to the first command's)}, ...}: medians over processes."""
    import numpy as np

    from lab.network import weights

    with tempfile.TemporaryDirectory() as folder:
        published = Path(folder) / "bvlc-alexnet.npy"  # as large as the published file, and as slow to read
        random = np.random.default_rng(0)
        np.save(published, np.array({layer: [random.standard_normal(shape, np.float32) * np.float32(0.01),
                                             np.zeros(shape[-1], np.float32)] for layer, shape in weights.SHAPES.items()}))
        photo = str(HERE / "images/cat.png")
        commands = {"import tensorflow": ["-c", "import tensorflow"],
                    "one photo, built-in weights": [str(HERE / "imagenet_inference.py"), "--weights", "builtin", photo],
                    "one photo, 233 MB of weights": [str(HERE / "imagenet_inference.py"), "--weights", str(published), photo]}
        runs = {name: [] for name in commands}
        for repetition in range(args.repetitions + 1):  # the first one only warms the disk cache
            for name, command in commands.items():
                figures = whole_process(command)
                if repetition:
                    runs[name].append(figures)
    results = {}
    for name, figures in runs.items():
        seconds, memory = (statistics.median(column) for column in zip(*figures))
        ratio = statistics.median(ours[0] / alone[0] for ours, alone in zip(figures, runs["import tensorflow"]))
        results[name] = {"seconds": seconds, "peak_mb": memory, "ratio": ratio}
        print(f"  {name:30} {seconds:5.2f} s ({ratio:.2f})   {memory:5.0f} MB", flush=True)
    return results


def lab_part(args):
    """Our whole training on 39,209 photos, and the loop of the lab of 2016, extrapolated from a few steps."""
    import numpy as np

    from lab.network import weights

    features, labels = photos(GTSRB)
    with tempfile.TemporaryDirectory() as folder:
        write_photos(Path(folder) / "train.p", features, labels)
        ours = {precision: watched([str(HERE / "train_feature_extraction.py"), "--data", "train.p", "--weights", "builtin",
                                    "--overwrite", "--precision", precision], folder) for precision in args.precisions}
    train, validate = lab_loop(weights.load("builtin"))
    batch = np.arange(128)
    step = statistics.median(timed(lambda: train(features[batch], labels[batch])) for _ in range(3 * args.repetitions))
    check = statistics.median(timed(lambda: validate(features[batch], labels[batch])) for _ in range(3 * args.repetitions))
    lab = 10 * (step * TRAINING + check * (GTSRB - TRAINING)) / 128
    print(f"  the lab's loop, extrapolated from {3 * args.repetitions} steps of each kind: {lab:.0f} s")
    results = {"lab_seconds_extrapolated": lab}
    for precision, (seconds, memory) in ours.items():
        print(f"  ours in {precision}, measured: {seconds:.0f} s, {lab / seconds:.1f} times as fast, with {memory:.0f} MB of "
              "anonymous memory", flush=True)
        results[precision] = {"seconds": seconds, "anonymous_mb": memory, "ratio": lab / seconds}
    return results


def lab_loop(parameters):
    """The training of 2016: functions that send a batch through the network to train the layer, or only to validate it."""
    import engines
    import tensorflow.compat.v1 as tf

    from lab.network import new_layer

    with tf.Graph().as_default():
        images = tf.placeholder(tf.uint8, [None, 32, 32, 3])
        labels = tf.placeholder(tf.int64, [None])
        logits = new_layer.build(tf.stop_gradient(engines.lab_graph("signs", parameters)(images)), 43)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
        accuracy = tf.reduce_mean(tf.cast(tf.equal(tf.argmax(logits, 1), labels), tf.float32))
        step = tf.train.AdamOptimizer().minimize(loss, var_list=new_layer.variables())
        session = tf.Session()
        session.run(tf.global_variables_initializer())
    functions = session.make_callable(step, [images, labels]), session.make_callable([loss, accuracy], [images, labels])
    for function in functions:  # the first call is slower
        function(*photos(128))
    return functions


def growth_part(args):
    """[{photos, seconds, anonymous_mb}, ...] for a training of one epoch, most of which is extraction."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for count in (5_000, 20_000, 80_000):
            write_photos(Path(folder) / "train.p", *photos(count))
            seconds, memory = watched([str(HERE / "train_feature_extraction.py"), "--data", "train.p", "--weights", "builtin",
                                       "--epochs", "1", "--overwrite"], folder)
            rows.append({"photos": count, "seconds": seconds, "anonymous_mb": memory})
            print(f"  {count:6} photos: {seconds:6.1f} s, {1000 * seconds / count:.2f} ms each; anonymous memory "
                  f"{memory:.0f} MB", flush=True)
    return rows


def photos(count):
    """`count` drawn signs: features, uint8 [count, 32, 32, 3], no two alike, and labels, int64 [count]."""
    import numpy as np

    from lab.data import drawn_signs

    features, labels = drawn_signs.render(20, seed=0)
    rows = np.arange(count) % len(labels)
    noise = np.random.default_rng(0).integers(0, 16, (count, 32, 32, 3), np.uint8)  # so that no cache can profit
    return features[rows] // 16 * 16 + noise, labels[rows]


def smooth(random, count, edge):
    """Images, uint8 [count, edge, edge, 3], whose colours change gradually, as in photos.

    They are aligned: then neither TensorFlow nor OpenVINO copies what it is given.
    """
    import scipy.ndimage

    from lab.network import weights

    coarse = random.uniform(0, 255, (count, 5, 5, 3)).astype("float32")
    images = scipy.ndimage.zoom(coarse, (1, edge / 5, edge / 5, 1), order=1).clip(0, 255).astype("uint8")
    aligned = weights.aligned_empty(images.shape, images.dtype)
    aligned[...] = images
    return aligned


def write_photos(path, features, labels):
    with path.open("wb") as file:
        pickle.dump({"features": features, "labels": labels}, file, 4)


def timed(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def whole_process(command):
    """Seconds and peak memory in MB of a Python command, started by a small process: a child inherits its parent's peak."""
    measure = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run([sys.executable, *sys.argv[1:]], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(json.dumps([time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000]))
"""
    return json.loads(subprocess.check_output([sys.executable, "-c", measure, *command]))


def watched(command, folder):
    """Seconds and peak anonymous memory in MB of a Python command in `folder`."""
    start, most = time.perf_counter(), 0
    process = subprocess.Popen([sys.executable, *command], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                               text=True)
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        lines = [line for line in status.read_text().splitlines() if line.startswith("RssAnon")]
        most = max([most, *(int(line.split()[1]) / 1000 for line in lines)])
        time.sleep(0.02)
    if process.returncode:
        sys.exit(process.stderr.read())
    return time.perf_counter() - start, most


if __name__ == "__main__":
    main()
