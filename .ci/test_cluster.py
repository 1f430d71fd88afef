"""A Dask cluster breaks while photos go through it, and what comes out has the same bytes: the part of
benchmarks/cluster_faults.py that takes under three minutes. It needs extras/cluster.txt and ../shared."""

import contextlib
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from distributed import Security

HERE = Path(__file__).resolve().parents[1]
SHARED = HERE.parent / "shared"
sys.path[:0] = [str(HERE), str(HERE / "benchmarks")]
os.environ["LAB_OFFLINE"] = "1"

import cluster_faults as faults  # noqa: E402

from alexnet import AlexNet  # noqa: E402
from lab.cluster import workers  # noqa: E402
from lab.data import dataset  # noqa: E402
from lab.files import BadInput  # noqa: E402
from lab.network import weights  # noqa: E402
from lab.network.fast_layers import resized_conv  # noqa: E402
from lab.network.normalisation import compiled_lrn  # noqa: E402
from lab.network.preprocessing import subtract_mean  # noqa: E402
from lab.training import kept_features  # noqa: E402

SIGNS, TTL = 768, 10  # six batches; seconds


class Signs:
    """Signs, AlexNet up to their fc7, and that as one machine computes it."""

    def __init__(self):
        signs = dataset.load(SHARED / "gtsrb/train.p").features
        self.features = signs[np.random.default_rng(0).choice(len(signs), SIGNS, replace=False)]
        self.file = weights.find("builtin")
        self.weights = weights.load(self.file)
        with tf.Graph().as_default():
            self.session = tf.Session()
            self.images = tf.placeholder(tf.uint8, [None, 32, 32, 3], name="images")
            prepared = tf.cast(subtract_mean(self.images), tf.float32)
            self.fc7 = AlexNet(prepared, feature_extract=True, weights=self.weights, conv1=resized_conv, norm=compiled_lrn)
            self.session.run(tf.global_variables_initializer())
        run = self.session.make_callable(self.fc7, [self.images])
        self.expected = kept_features.outputs(run, self.features, None, "")

    def check(self, address):
        """Take the signs through AlexNet on the cluster at this address, and compare the bytes."""
        with self.session.graph.as_default(), workers.connected(address) as cluster:
            identity = weights.identity(self.file, self.weights)
            network = workers.Network(cluster, self.session, self.fc7, self.images, identity, self.weights)
            found = kept_features.outputs(network, self.features, None, "")
        assert found.tobytes() == self.expected.tobytes()


@pytest.fixture(scope="module")
def signs():
    return Signs()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with faults.Cluster(tmp_path_factory.mktemp("cluster"), ttl=TTL) as cluster:
        for _ in range(2):
            cluster.add()
        cluster.ready()
        yield cluster


def break_it(signs, cluster, fault, in_flight):
    """Call `fault` after the first batch, and check what comes out, and that no more than `in_flight` were computed twice."""
    cluster.forget()

    def later():
        faults.wait(cluster.computed, 120)
        fault()

    breaking = threading.Thread(target=later)
    breaking.start()
    signs.check(cluster.address)
    breaking.join()
    assert sum(cluster.computed().values()) <= SIGNS // faults.BATCH + in_flight


def test_local_workers_give_the_same_bytes(signs, capfd):
    signs.check("local")
    assert not faults.looks_like_a_log(capfd.readouterr().err)


def test_a_worker_that_dies_costs_its_batches_in_flight(signs, cluster, capfd):
    break_it(signs, cluster, lambda: cluster.kill("worker0"), in_flight=2)
    assert not faults.looks_like_a_log(capfd.readouterr().err)


def test_a_worker_that_hangs_costs_its_batches_in_flight(signs, cluster, capfd):
    stopped = cluster.pid("worker1")
    break_it(signs, cluster, lambda: os.kill(stopped, signal.SIGSTOP), in_flight=2)
    with contextlib.suppress(ProcessLookupError):  # its nanny may have ended it
        os.kill(stopped, signal.SIGKILL)
    assert not faults.looks_like_a_log(capfd.readouterr().err)


def test_a_worker_that_answers_nan_is_refused(signs, cluster, capfd):
    name = cluster.add("nan")
    cluster.ready()
    break_it(signs, cluster, lambda: None, in_flight=SIGNS // faults.BATCH)
    cluster.kill(name, nanny=True)
    said = capfd.readouterr().err
    assert said.count("is not used: it gives wrong answers") == 1 and not faults.looks_like_a_log(said)


def test_the_client_waits_for_a_scheduler_that_is_started_again(signs, cluster, capfd):
    break_it(signs, cluster, lambda: faults.scheduler(cluster, random.Random(0), None), in_flight=4)
    said = capfd.readouterr().err
    assert "is lost: trying for 60 seconds to connect again" in said and not faults.looks_like_a_log(said)


def test_a_photo_that_kills_its_decoder_is_named_and_all_others_are_answered(tmp_path):
    assert faults.jpeg(tmp_path, "killer", 200)["problems"] == []


def test_a_stranger_is_refused_over_tls(tmp_path):
    ours, foreign = Security.temporary(), Security.temporary()
    names = {name: tmp_path / f"{name}.pem" for name in ("ca_file", "scheduler_cert", "scheduler_key")}
    for name, path in names.items():
        path.write_text(getattr(ours, f"tls_{name}"))
    environment = {"DASK_DISTRIBUTED__COMM__TLS__CA_FILE": str(names["ca_file"]),
                   "DASK_DISTRIBUTED__COMM__TLS__SCHEDULER__CERT": str(names["scheduler_cert"]),
                   "DASK_DISTRIBUTED__COMM__TLS__SCHEDULER__KEY": str(names["scheduler_key"])}
    with faults.Cluster(tmp_path / "tls", protocol="tls", environment=environment) as cluster:
        workers.Workers(cluster.address, ours).close()
        start = time.monotonic()
        with pytest.raises(BadInput, match="do not accept each other's certificates"):
            workers.Workers(cluster.address, foreign)
        with pytest.raises(BadInput, match="needs certificates, and Dask's configuration names none"):
            workers.Workers(cluster.address)
        with pytest.raises(BadInput, match="is no Dask scheduler, or one that encrypts"):
            workers.Workers(cluster.address.replace("tls", "tcp"))
        assert time.monotonic() - start < 30  # a refusal is final
