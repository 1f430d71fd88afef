"""The client's side of a Dask cluster: it gives batches of photos to the workers, and takes their answers.

Dask has the queues, and gives what a dead or a hung worker had to another one. What is here decides what Dask cannot know:
which workers can be used at all, what they must be sent first, which answers to trust, and when to give up.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import queue
import threading
import time
from concurrent.futures import CancelledError, Future

import numpy as np
import tensorflow.compat.v1 as tf

from lab import files
from lab.cluster import batches, examination, shards, task
from lab.data import photos
from lab.files import BadInput, counted, notice, shorten
from lab.network import answers, inference
from lab.network.inference import BATCH

PATIENCE = 60  # seconds to wait for a scheduler that is gone, and for the first worker
BUILDING = 300  # seconds for a worker to receive and build the network; one that is gone is not waited for
IN_FLIGHT = 2  # batches a worker: one that it computes, and the next
AHEAD = 16  # batches a worker, at most, between one that is missing and the latest one, if they must come in order
MEMORY = 2_300_000_000  # bytes that a worker's limit must leave it, of which Dask lets it use 80%: docs/cluster.md
_LOOK = 1.0  # seconds between looks at which workers are there
_CONNECTED = 10  # seconds for a connection to the scheduler
_ANSWERS = 20  # seconds for the scheduler to answer, and for a result to travel
_LISTED = 8  # workers at the end, at most
_LOST = 10  # times


@contextlib.contextmanager
def connected(cluster):
    """A context manager that yields the Workers of `cluster`, as schedulers.find returns it; None if that is None."""
    if cluster is None:
        yield None
        return
    import logging
    import warnings

    import dask
    import distributed  # noqa: F401

    # Dask keeps the last messages, photos and all: a thousand, if nobody says otherwise.
    dask.config.set({"distributed.admin.low-level-log-length": 10})
    # The import has set how much its loggers say, which the user gets as a sentence, or need not know.
    for name in ("distributed", "distributed.client", "distributed.gc", "tornado", "tornado.application", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", module="distributed|tornado")  # such as of versions, which examination.py compares
    with contextlib.ExitStack() as stack:
        security = None
        if cluster == "local":
            from lab.cluster import local

            cluster, security = stack.enter_context(local.cluster())
        workers = Workers(cluster, security)
        stack.callback(workers.close)
        yield workers


class Workers:
    """The workers of the scheduler at `address` (str), "tcp://..." or "tls://...".

    security: a distributed.Security; None for the one in Dask's configuration. Raises BadInput if no scheduler answers there,
    or does not accept this client.
    """

    def __init__(self, address, security=None):
        import cloudpickle

        cloudpickle.register_pickle_by_value(examination)
        self.address, self._security, self._client = address, security, None
        self._needed = examination.versions(files.HERE)
        self._refused = set()  # addresses
        self._told = set()  # devices.summary of each kind of worker
        self.kinds = {}  # what each worker computes with, by its address: devices.kind
        self.done = {}  # how many photos each worker has done, since when and until when, by its address
        self._connect(time.monotonic())

    def _connect(self, until):
        """Connect to the scheduler, trying again `until` then (time.monotonic)."""
        from distributed import Client

        if self._security is None:
            _check_configuration(self.address)
        while True:
            client = Client.__new__(Client)  # so that there is something to close if it cannot connect
            try:
                # In a thread, because Dask waits for ever for what accepts the connection and says nothing.
                _in_background(client.__init__, self.address, security=self._security, direct_to_workers=True,
                               set_as_default=False, timeout=_CONNECTED).result(timeout=_CONNECTED + 2)
                self._client = client
                return
            except Exception as error:  # of many kinds, from whatever listens there
                with contextlib.suppress(Exception):
                    client.close(timeout=2)  # otherwise it waits for itself for 20 seconds, and prints a traceback
                if time.monotonic() > until:
                    raise BadInput(_no_connection(self.address, error)) from error
            time.sleep(1)

    def close(self):
        """Leave the cluster, and tell how fast each worker was."""
        with contextlib.suppress(Exception):
            self._client.close(timeout=5)
        speeds = sorted(((count / max(until - since, 1e-3), worker, count)
                         for worker, (count, since, until) in self.done.items()), reverse=True)
        shown = speeds if len(speeds) <= _LISTED else [speeds[0], speeds[-1]]
        if len(shown) < len(speeds):
            photos_in_all = counted(sum(count for *_, count in speeds), "photo")
            notice(f"{len(speeds)} workers, {photos_in_all}; the fastest and the slowest:")
        for speed, worker, count in shown:
            notice(f"{worker}: {counted(count, 'photo')}, {speed:,.1f} a second.")


class Network:
    """The network that computes the tensor `output` from the placeholder `images`, on `workers`, Workers.

    session: holds the values of the variables. identity, alexnet_weights: AlexNet's, from weights.identity and weights.load.

    It waits for the first worker: raises BadInput if there is none in time.
    """

    def __init__(self, workers, session, output, images, identity, alexnet_weights):
        graph, needed = output.graph.as_graph_def(), {operation.name for operation in inference.operations(output)}
        graph = tf.GraphDef(node=[node for node in graph.node if node.name in needed], versions=graph.versions,
                            library=graph.library)
        names = {node.name for node in graph.node if node.op == "VarHandleOp"}
        alexnet, self._alexnet, self._others = task.of_variables(alexnet_weights), {}, {}
        for variable in tf.global_variables():
            if (name := variable.op.name) in names:
                value = session.run(variable)
                if name in alexnet and np.array_equal(value, alexnet[name].astype(value.dtype)):
                    self._alexnet[name] = alexnet[name]
                else:  # the new layer's, or what finetuning has made of AlexNet's
                    self._others[name] = value
        self._network = task.Network(graph.SerializeToString(deterministic=True), images.name, output.name, identity,
                                     list(self._alexnet))
        self._key = self._digest(json.dumps([identity["fingerprint"], hashlib.sha256(self._network.graph).hexdigest()]))
        self._output, self._identity = output, identity
        self._shape = tuple(output.shape.as_list()[1:])
        self._workers = workers
        self._with_content = False
        self._begin()
        self._wait_for_workers()

    @property
    def kind(self):
        """What the workers compute with, as devices.kind; a list of such lists if they differ."""
        kinds = sorted(map(list, {tuple(self._workers.kinds[address]) for address in self._ready}))
        return kinds[0] if len(kinds) == 1 else kinds

    @property
    def kinds(self):
        """The kinds of all workers that have been ready, as devices.kind, a list of lists."""
        return sorted(map(list, set(map(tuple, self._workers.kinds.values()))))

    @property
    def fingerprint(self):
        """A fingerprint of the network and of what its variables hold: 64 hexadecimal digits."""
        return self._digest(inference.fingerprint(self._output, self._identity["fingerprint"], self.kind))

    def _digest(self, text):
        """A digest of `text` and of the variables that AlexNet's weights do not decide: 64 hexadecimal digits."""
        digest = hashlib.sha256(text.encode())
        for name, array in sorted(self._others.items()):
            digest.update(name.encode() + np.ascontiguousarray(array, "<f4").tobytes())
        return digest.hexdigest()

    def each(self, some, in_order=False):
        """Yield the number and the output of each of the batches `some`, in the order in which they are done.

        some: an iterator over what batches.to_send takes. For photos in files that may be refused (batches.in_files), and for a
        batches.Shard, the output is a task.Answer. in_order: whether to yield them in their order.

        Raises BadInput if no worker is left for PATIENCE seconds, for a photo that cannot be read, and for a batch that fails
        on two workers.
        """
        waiting, following = {}, 0
        for number, answer in self._as_done(iter(some), AHEAD if in_order else None):
            if not in_order:
                yield number, answer
                continue
            waiting[number] = answer
            while following in waiting:
                yield following, waiting.pop(following)
                following += 1

    def give(self, paths, read_one, class_names, args):
        """Give the answers for the photos `paths` as lab.network.answers.give does, or write them to shards in args.shards.

        read_one: a function of lab.data.photos. Returns how many photos have answers, and the first batch, None of shards.
        """
        if args.shards:
            return shards.write_answers(self, args.shards, paths, read_one, class_names, args), None
        some = (batches.in_files(paths[start:start + BATCH], read_one) for start in range(0, len(paths), BATCH))
        outcomes = ((answer.output, [BATCH * number + position for position in answer.positions],
                     {BATCH * number + position: error for position, error in answer.refused.items()})
                    for number, answer in self.each(some, in_order=True))
        return answers.give(photos.usable(outcomes), class_names, paths, args)

    def _begin(self):
        """Forget what was on the way, as for a scheduler that has started again."""
        self._ready, self._preparing = set(), {}  # addresses of workers; with what prepares them
        self._died = 0  # how many workers have gone while they were prepared, since one was ready
        self._events = queue.SimpleQueue()  # numbers of batches and futures; or None: something has happened
        self._looked, self._waiting_since = 0.0, time.monotonic()

    def _wait_for_workers(self):
        """Wait until one worker is ready, and the others that are there have been looked at."""
        told = False
        while not self._ready or self._preparing:
            try:
                self._look(force=True)
            except _Lost:
                self._reconnect()
            if not told and not self._preparing and not self._ready and time.monotonic() - self._waiting_since > 3:
                notice(f"{self._workers.address} has no worker that can be used yet: waiting for one.")
                told = True
            with contextlib.suppress(queue.Empty):
                self._events.get(timeout=0.2)
        notice(f"On the cluster {self._workers.address}: {counted(len(self._ready), 'worker')}.")

    # What follows runs in one thread, but for `_prepare` and what `_submit` leaves for later.

    def _look(self, force=False):
        """See which workers have come and gone, once a second; prepare those that have come."""
        for address, preparing in list(self._preparing.items()):
            if preparing.done():
                del self._preparing[address]
                self._prepared(address, preparing)
        if time.monotonic() - self._looked < _LOOK and not (force and not self._looked):
            return
        self._looked = time.monotonic()
        there = self._there()
        self._ready &= there
        self._workers._refused &= there
        for address in self._preparing.keys() - there:
            del self._preparing[address]
            self._died += 1
        if not self._ready and self._died > _LOST:
            raise BadInput(f"{self._died} workers of {self._workers.address} have ended while they built the network, one "
                           "after the other: they may have too little memory; their logs say more")
        for address in there - self._ready - self._workers._refused - self._preparing.keys():
            self._preparing[address] = _in_background(self._prepare, address)
            self._preparing[address].add_done_callback(lambda _, events=self._events: events.put(None))
        if self._ready or self._preparing:
            self._waiting_since = time.monotonic()
        elif time.monotonic() - self._waiting_since > PATIENCE:
            raise BadInput(f"{self._workers.address} has had no worker that can be used for {PATIENCE} seconds: start some "
                           "with `dask worker --nthreads 1`, in a clone of this version of the lab, and run this again")

    def _there(self):
        """The addresses of the workers, a set. Raises _Lost if the scheduler is gone, or does not answer."""
        client = self._workers._client
        if client.status == "running":
            with contextlib.suppress(Exception):
                return set(client.sync(client.scheduler.ncores, callback_timeout=_ANSWERS))
        raise _Lost

    def _reconnect(self):
        """Connect again, and forget what was on the way. Raises BadInput if the scheduler stays away for PATIENCE seconds."""
        notice(f"The connection to {self._workers.address} is lost: trying for {PATIENCE} seconds to connect again.")
        self._preparing.clear()  # which ends what prepares them
        with contextlib.suppress(Exception):
            self._workers._client.close(timeout=1)
        self._workers._connect(self._looked + PATIENCE)  # a hung one has been waited for since then
        self._begin()

    def _prepare(self, address):
        """Look at the worker at `address`, and send it what it lacks of the network.

        Returns what it lacks that nobody can send it, a list of str, and what it computes with, as task.prepare does. Raises
        _Unfit if the worker hangs or fails, and other errors if it goes.
        """
        client, preparing = self._workers._client, self._preparing

        def on_worker(function, *arguments, parts=()):
            future, end = _submit(client, [address], function, arguments, parts), time.monotonic() + BUILDING
            done = threading.Event()
            future.add_done_callback(lambda _: done.set())
            while not done.wait(_LOOK):
                if address not in preparing:  # Dask would wait for it
                    raise CancelledError
                if time.monotonic() > end:
                    raise _Unfit(f"it has not answered for {BUILDING} seconds")
            try:
                return _result(future, PATIENCE)
            except Exception as error:
                if future.status == "error":
                    raise _Unfit(f"{type(error).__name__}: {shorten(error)}") from error
                raise

        if lacks := on_worker(examination.examine, self._workers._needed, MEMORY):
            return lacks, None
        others = _send(client, address, self._others)
        built = on_worker(task.prepare, self._key, self._network, parts=others)
        if built is None:
            built = on_worker(task.prepare, self._key, self._network, parts=others + _send(client, address, self._alexnet))
        return [], built

    def _prepared(self, address, preparing):
        """Take what `_prepare` has found out: a worker that can be used gets batches from now on."""
        try:
            lacks, built = preparing.result()
        except _Unfit as error:
            self._refuse(address, str(error))
            return
        except Exception:  # it has gone, or the scheduler: if it is there again, it is looked at again
            self._died += 1
            return
        if lacks:
            self._refuse(address, f"it lacks {'; '.join(lacks)}")
            return
        kind, summary = built
        self._workers.kinds[address] = kind
        self._ready.add(address)
        self._died = 0
        if self._workers._told and summary not in self._workers._told:
            notice(f"The workers differ, and with them the last bits of what they compute: {address} is {summary}.")
        self._workers._told.add(summary)

    def _refuse(self, address, why):
        self._ready.discard(address)
        if address not in self._workers._refused:  # told once, of however many batches
            notice(f"The worker {address} is not used: {why}.")
        self._workers._refused.add(address)

    def _as_done(self, some, ahead):
        """Yield the number and the answer of each batch when it is done."""
        running, number, exhausted = {}, 0, False
        while running or not exhausted:
            try:
                self._look()
                for sent in running.values():
                    if sent.future and not self._ready.intersection(sent.to):  # Dask would wait for one of these workers
                        self._again(sent, "with all workers that might have it")
                        sent.guarded = True  # it may be what they have died of
                free = IN_FLIGHT * len(self._ready) - sum(sent.future is not None for sent in running.values())
                for waiting, sent in running.items():
                    if sent.future is None and free > 0:
                        self._submit(waiting, sent)
                        free -= 1
                window = ahead * len(self._ready) if ahead else math.inf
                while free > 0 and not exhausted and number - min(running, default=number) < window:
                    batch = next(some, None)
                    exhausted = batch is None
                    if not exhausted:
                        running[number] = _Sent(batch, self._with_content)
                        self._submit(number, running[number])
                        number, free = number + 1, free - 1
                event = None
                with contextlib.suppress(queue.Empty):
                    event = self._events.get(timeout=_LOOK)
                if event:
                    done, future, answer, error = event
                    sent = running.get(done)
                    if sent and sent.future is future:  # not given up meanwhile
                        sent.future = None
                        if error:
                            self._failed(sent, error)
                        elif self._is_right(sent, answer):
                            del running[done]
                            before, since, _ = self._workers.done.get(answer.worker, (0, sent.since, None))
                            count = before + len(answer.positions or ())
                            self._workers.done[answer.worker] = count, since, time.monotonic()
                            yield done, answer if isinstance(sent.batch, (batches.Files, batches.Shard)) else answer.output
            except _Lost:
                self._reconnect()
                for sent in running.values():
                    sent.future = None

    def _submit(self, number, sent):
        """Give the batch `sent` to the workers that are ready: Dask chooses one of them, and another one if that dies."""
        client, events = self._workers._client, self._events
        some, file = sent.batch if isinstance(sent.batch, batches.Shard) else ([sent.batch], None)
        sending = [batches.to_send(batch, sent.with_content) for batch in some]
        forms = [(form, len(pieces)) for form, pieces in sending]
        pieces = [piece for _, pieces in sending for piece in pieces]
        sent.to, sent.since = sorted(self._ready - {sent.avoid}) or sorted(self._ready), time.monotonic()

        def fetch(future):
            try:
                events.put((number, future, _result(future, _ANSWERS * 2 ** sent.lost), None))  # longer on a slow line
            except BaseException as error:  # CancelledError is one of these
                events.put((number, future, None, error))

        try:
            if len(pieces) > 1:  # each in a message of its own
                pieces = [client.submit(bytes, piece, workers=sent.to, pure=False) for piece in pieces]
            sent.future = _submit(client, sent.to, task.answer, (self._key, forms, sent.guarded, file), pieces)
            sent.future.add_done_callback(lambda future: _in_background(fetch, future))
        except Exception as error:  # the client closes itself when the scheduler is gone
            if client.status == "running":
                raise
            raise _Lost from error

    def _failed(self, sent, error):
        """Prepare the batch `sent` to be given to a worker again after `error`. Raises BadInput if that would not help."""
        from distributed.scheduler import KilledWorker

        if isinstance(error, BadInput):
            raise error
        if isinstance(error, batches.NotHere):
            self._with_content = sent.with_content = True
        elif isinstance(error, task.Unprepared):
            self._ready.discard(error.args[0])
        elif isinstance(error, task.NoFolder):
            self._refuse(error.args[0], "it does not reach the folder for the shards under the same name")
        elif isinstance(error, KilledWorker) and not sent.guarded:
            sent.guarded = True
        elif isinstance(error, KilledWorker):
            raise BadInput("a batch of photos has taken down several workers one after another, although each of its photos "
                           "can be read: they may have too little memory; the workers' logs say more") from error
        elif isinstance(error, task.Failed):
            worker, why = error.args
            if sent.avoid:
                raise BadInput(f"a batch of photos has failed twice, the last time on the worker {worker}: {why}") from error
            sent.avoid = worker
        elif self._workers._client.status != "running":
            raise _Lost
        else:  # Dask has lost the result, or could not send the batch
            self._again(sent, f"with {type(error).__name__}: {shorten(error)}")

    def _again(self, sent, how):
        """Note that the batch `sent` is lost, `how` in a few words. Raises BadInput if that has happened too often."""
        sent.future = None
        sent.lost += 1
        if sent.lost > _LOST:
            raise BadInput(f"{self._workers.address} has lost a batch of photos {sent.lost} times, the last time {how}")

    def _is_right(self, sent, answer):
        """Whether to take `answer`. One of the wrong shape, or not finite, is taken only if two workers give it."""
        output = answer.output
        wrong = output is not None and (output.shape[1:] != self._shape or not np.isfinite(output).all())
        if wrong and not sent.wrong:
            sent.wrong = sent.avoid = answer.worker
            return False
        if wrong and output.shape[1:] != self._shape:
            raise BadInput(f"the workers {sent.wrong} and {answer.worker} give answers of another shape than the network's: "
                           "start them again")
        if wrong and isinstance(sent.batch, batches.Shard):
            raise BadInput("AlexNet's output contains NaN or infinite values: the weights are far too large or not AlexNet's; "
                           "choose others with --weights")
        if sent.wrong and not wrong and answer.worker != sent.wrong:
            self._refuse(sent.wrong, f"it gives wrong answers, where {answer.worker} gives right ones")
        return True


def _check_configuration(address):
    """Raises BadInput if Dask's configuration does not let a client connect to `address`."""
    from distributed import Security

    tls = address.startswith("tls://")
    try:
        security = Security()
        named = [security.tls_ca_file, security.tls_client_cert, security.tls_client_key]
        missing = [path for path in named if path and "\n" not in path and not os.path.isfile(path)]
        if tls and not (named[0] and named[1]):
            raise BadInput(f"{address} needs certificates, and Dask's configuration names none: see docs/cluster.md")
        if tls and missing:
            raise BadInput(f"{address} needs certificates, and {missing[0]}, which Dask's configuration names, does not exist: "
                           "see docs/cluster.md")
        if tls:
            security.get_connection_args("client")
        elif security.require_encryption:
            raise BadInput(f"{address} is not encrypted, which Dask's configuration forbids (require-encryption): give tls://")
    except BadInput:
        raise
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(f"{address}: the certificates that Dask's configuration names cannot be used ({shorten(error)}): see "
                       "docs/cluster.md") from error


def _no_connection(address, error):
    """A sentence for the `error` that ended an attempt to connect to `address`."""
    while error.__cause__:
        error = error.__cause__
    encrypted = "SSL" in type(error).__name__  # an SSLCertVerificationError is a ValueError
    if "WRONG_VERSION" in str(error) or isinstance(error, ValueError) and not encrypted:
        return f"what answers at {address} does not encrypt: start the scheduler with --protocol tls (docs/cluster.md)"
    if encrypted:
        why = f" ({error.verify_message})" if hasattr(error, "verify_message") else ""
        return (f"this machine and {address} do not accept each other's certificates{why}: both need ones that the same "
                "authority has signed (docs/cluster.md)")
    if isinstance(error, (ConnectionResetError, MemoryError)):  # MemoryError: for what is taken for the length of a message
        return f"what answers at {address} is no Dask scheduler, or one that encrypts: try tls:// (docs/cluster.md)"
    return f"no Dask scheduler answers at {address}: start it, with its workers, and run this again"


class _Lost(Exception):
    """The connection to the scheduler is lost."""


class _Unfit(Exception):
    """A worker that cannot be used. The message says why, in a few words."""


@dataclasses.dataclass
class _Sent:
    """A batch that has no answer yet."""

    batch: object
    with_content: bool  # as in batches.to_send
    guarded: bool = False  # as in batches.read
    future: object = None  # None if it is to be given to the workers again
    to: list = ()  # the addresses of the workers that may take it
    since: float = 0.0  # when they were given it: time.monotonic
    avoid: str = None  # a worker on which it has failed
    wrong: str = None  # a worker that gave a wrong answer
    lost: int = 0  # how often Dask has lost it


def _in_background(function, *arguments, **named):
    """Call the function in a thread of its own: its Future. Unlike a ThreadPoolExecutor's, it does not keep the process."""
    future = Future()

    def call():
        try:
            future.set_result(function(*arguments, **named))
        except BaseException as error:  # CancelledError is one of these
            future.set_exception(error)

    threading.Thread(target=call, daemon=True).start()
    return future


def _submit(client, addresses, function, arguments, parts):
    """Let one of the workers at `addresses` call function(*arguments, *parts): its future. parts: a list of bytes or futures.

    The scheduler unpickles whatever it is given, without the lab: so all it sees is the function below, by value, and bytes.
    """
    import cloudpickle

    return client.submit(_call, cloudpickle.dumps((function, arguments)), *parts, workers=addresses, pure=False)


def _result(future, seconds):
    """What a future that is done has brought, if it arrives in so many seconds."""
    if future.cancelled():  # with its client, whose event loop may have ended: Python would warn of what that does not do
        raise CancelledError
    return future.result(timeout=seconds)


def _call(pickled, *parts):
    import pickle

    function, arguments = pickle.loads(pickled)
    return function(*arguments, *parts)


_call.__module__ = "__main__"  # which is how cloudpickle knows that a function travels by value


def _send(client, address, values):
    """Send `values`, {name: array}, to the worker at `address`, batches.PIECE bytes at a time: futures for task.prepare."""
    parts = []
    for name, array in values.items():
        flat, step = np.ascontiguousarray(array, np.float32).reshape(-1), batches.PIECE // 4
        for start in range(0, len(flat), step):
            parts += client.scatter([(name, array.shape, start, flat[start:start + step])], workers=[address], direct=True,
                                    hash=False)
    return parts
