"""SASL over TLS as the settings give it, on a real broker with a certificate of the test's own."""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from eventlog import EventLog, LogUnavailableError, Record, TopicPartition
from eventlog.schema import FACTS
from sidetone.broker import Broker
from sidetone.roles import log_opener
from sidetone.settings import Settings

PASSWORD = "correct-horse-battery"
WRONG = "staple-wrong-password"
WHERE = TopicPartition(FACTS["turn"].topic, 0)


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 that signs itself; return it and, in one file, its key with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kafka of a test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    authority, both = folder / "ca.pem", folder / "broker.pem"
    authority.write_bytes(pem)
    both.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + pem
    )
    return authority, both


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings for a broker that takes SCRAM-SHA-512 and PLAIN over TLS."""
    folder = tmp_path_factory.mktemp("secured")
    authority, both = certificate(folder)
    jaas = "listener.name.sasl_ssl"
    login = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_alice="{PASSWORD}";'
    properties = {
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        f"{jaas}.plain.sasl.jaas.config": login,
        f"{jaas}.scram-sha-512.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(both),
    }
    users = {"alice": PASSWORD}
    with Broker(folder / "broker", properties=properties, secured=True, scram_users=users) as broker:
        yield Settings.model_validate(
            {
                "data_dir": folder / "data",
                "log": "kafka",
                "kafka_bootstrap": broker.secured_bootstrap,
                "kafka_security_protocol": "SASL_SSL",
                "kafka_ca_file": authority,
                "kafka_username": "alice",
                "kafka_password": PASSWORD,
                "kafka_partitions": 2,
            }
        )


def opened(settings: Settings, **changes: object) -> EventLog:
    return log_opener(Settings.model_validate({**settings.model_dump(), **changes}))()


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN"])
async def test_every_client_logs_in(secured: Settings, mechanism: str) -> None:
    log = opened(secured, kafka_sasl_mechanism=mechanism)
    assert await log.partitions(WHERE.topic) == 2
    _, end = await log.bounds(WHERE)
    assert await log.append([Record(WHERE, b"fact")]) == [end]
    assert [message.value for message in await log.read(WHERE, end, max_bytes=100)] == [b"fact"]
    async with log.subscribe(f"group-{mechanism}", [WHERE.topic]) as member:
        assert await member.fetch(max_bytes=1_000, timeout_s=30)
    await log.aclose()


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN"])
async def test_a_wrong_password_is_said_and_not_shown(
    secured: Settings, mechanism: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    log = opened(secured, kafka_sasl_mechanism=mechanism, kafka_password=WRONG)
    for call in (log.partitions(WHERE.topic), log.append([Record(WHERE, b"fact")])):
        with pytest.raises(LogUnavailableError, match=r"(?i)authentication") as caught:
            await call
        assert str(secured.kafka_bootstrap) in str(caught.value)
        assert WRONG not in str(caught.value) + repr(caught.value)
    with pytest.raises(LogUnavailableError, match=r"(?i)authentication") as caught:
        async with log.subscribe("group", [WHERE.topic]):
            pass
    assert WRONG not in str(caught.value) + caplog.text + repr(log) + repr(getattr(log, "connection", None))
    await log.aclose()


async def test_a_certificate_of_an_unknown_authority_is_refused(secured: Settings) -> None:
    log = opened(secured, kafka_ca_file=None)
    with pytest.raises(LogUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
        await log.partitions(WHERE.topic)
    await log.aclose()
