"""The engine on gevent's loop inside the test process, which is never patched."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import gevent
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

sys.path.insert(0, str(Path(__file__).parent))

import loopback

from tuner.load.drive import Driver
from tuner.load.rows import ROW_DTYPE, Rows
from tuner.load.target import InvokeTarget
from tuner.stats.requests import Outcome
from tuner.workload.payloads import PayloadSet


@dataclass
class Heard:
    """What came out of a driver."""

    driver: Driver
    batches: list[Rows] = field(default_factory=list)
    answers: list[tuple[int, dict[bytes, bytes], bytes]] = field(default_factory=list)

    @property
    def rows(self) -> Rows:
        return np.concatenate([np.empty(0, ROW_DTYPE), *self.batches])

    @property
    def outcomes(self) -> list[Outcome]:
        rows = self.rows
        return [Outcome(o) for o in rows["outcome"][np.argsort(rows["scheduled_s"])]]

    @property
    def took_s(self) -> Any:
        rows = self.rows
        return (rows["done_s"] - rows["scheduled_s"])[np.argsort(rows["scheduled_s"])]

    @property
    def texts(self) -> str:
        return " | ".join(text for text, _ in self.driver.engine.errors.items())

    def send(self, offsets_s: list[float], *, wait_s: float = 5.0) -> None:
        """Offer arrivals at these offsets from now and wait until each has a row."""
        want = len(self.rows) + len(offsets_s)
        rng = np.random.default_rng(0)
        chunks = iter([np.asarray(offsets_s)])
        self.driver.start(chunks, origin_s=time.monotonic(), rng=rng)
        limit = time.monotonic() + wait_s
        while True:
            self.driver.flush()
            if len(self.rows) >= want:
                return
            assert time.monotonic() < limit, f"only {len(self.rows)} of {want} rows"
            gevent.sleep(0.005)


@pytest.fixture
def heard() -> Iterator[Any]:
    """Makes drivers, and closes them."""
    made: list[Heard] = []

    def make(target: InvokeTarget, payloads: PayloadSet | None = None) -> Heard:
        batches: list[Rows] = []
        driver = Driver(target, payloads or PayloadSet.inline("{}"), batches.append)
        result = Heard(driver, batches)
        driver.engine.observe = lambda *got: result.answers.append(got)
        if hasattr(driver.engine, "keep_bodies"):
            driver.engine.keep_bodies = True
        made.append(result)
        return result

    yield make
    for one in made:
        one.driver.close()


@pytest.fixture(scope="session")
def null_port() -> Iterator[int]:
    """A server that answers everything at once."""
    with loopback.running() as port:
        yield port


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert_file, key_file
