"""All authentication methods, against a broker that requires them; and its rejections."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from streamer.config.types import Duration
from streamer.core.types import Message
from streamer.log import PermanentError, TopicConfig, Unavailable
from streamer.log.kafka.client import KafkaClient
from streamer.log.kafka.log import KafkaLog
from streamer.log.kafka.settings import KafkaSettings
from tests.broker.broker import Broker, free_ports
from tests.log.contract import Member, next_offsets

PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"
OAUTH = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule"
VALIDATOR = (
    "org.apache.kafka.common.security.oauthbearer.internals.unsecured."
    "OAuthBearerUnsecuredValidatorCallbackHandler"
)
GUARDED = """
listeners=PLAINTEXT://127.0.0.1:{{port}},SASL_SSL://127.0.0.1:{sasl},SSL://127.0.0.1:{ssl}
advertised.listeners=PLAINTEXT://127.0.0.1:{{port}},\\
  SASL_SSL://127.0.0.1:{sasl},SSL://127.0.0.1:{ssl}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL
ssl.keystore.type=PEM
ssl.keystore.location={folder}/both.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/cert.pem
listener.name.ssl.ssl.client.auth=required
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
listener.name.sasl_ssl.plain.sasl.jaas.config={plain} required \\
  user_admin="right" user_nobody="right";
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config={scram} required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={scram} required;
listener.name.sasl_ssl.oauthbearer.sasl.jaas.config={oauth} required \\
  unsecuredLoginStringClaim_sub="b";
listener.name.sasl_ssl.oauthbearer.sasl.server.callback.handler.class={validator}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:admin;User:CN=streamer
"""


class Guard:
    """A broker with a plain listener for its administration and two that are guarded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.make_certificates()
        (folder / "password").write_text("right\n")
        (folder / "wrong").write_text("wrong\n")
        (folder / "token").write_text(unsecured_token("admin"))
        for secret in ("password", "wrong", "token"):
            (folder / secret).chmod(0o600)
        sasl, ssl = free_ports(2)
        self.sasl, self.ssl = f"127.0.0.1:{sasl}", f"127.0.0.1:{ssl}"
        modules = {"plain": PLAIN, "scram": SCRAM, "oauth": OAUTH, "validator": VALIDATOR}
        self.broker = Broker(extra=GUARDED.format(sasl=sasl, ssl=ssl, folder=folder, **modules))
        self.broker.start()
        admin = AdminClient({"bootstrap.servers": self.broker.bootstrap})
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            how = ScramCredentialInfo(mechanism, 4096)
            wanted = UserScramCredentialUpsertion("admin", how, b"right")
            admin.alter_user_scram_credentials([wanted])["admin"].result(timeout=10)

    def make_certificates(self) -> None:
        """One certificate for both sides, which both trust; our key a second time, locked."""
        openssl = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        subject = ["-subj", "/CN=streamer", "-addext", "subjectAltName=IP:127.0.0.1"]
        self.run(*openssl, *subject, "-keyout", "key.pem", "-out", "cert.pem")
        self.run(*openssl, "-subj", "/CN=other", "-keyout", "other.key", "-out", "other.pem")
        lock = ["openssl", "pkcs8", "-topk8", "-v2", "aes256", "-passout", "pass:right"]
        self.run(*lock, "-in", "key.pem", "-out", "locked.pem")
        both = (self.folder / "key.pem").read_text() + (self.folder / "cert.pem").read_text()
        (self.folder / "both.pem").write_text(both)

    def run(self, *command: str) -> None:
        subprocess.run(command, cwd=self.folder, check=True, capture_output=True)

    def settings(self, **given: object) -> KafkaSettings:
        """Files are named by their bare names."""
        files = {
            key: str(self.folder / str(value))
            for key, value in given.items()
            if key.endswith("file")
        }
        return KafkaSettings(**(given | files), connect_timeout=Duration(3))  # type: ignore[arg-type]


def unsecured_token(subject: str) -> str:
    """A token that only a broker under test takes for one."""
    now_s = int(time.time())
    parts = ({"alg": "none"}, {"sub": subject, "iat": now_s, "exp": now_s + 3600})
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts]
    return b".".join([*encoded, b""]).decode()


@pytest.fixture(scope="module")
def guard(request, tmp_path_factory) -> Iterator[Guard]:
    if request.config.getoption("--no-broker"):
        pytest.skip("--no-broker: there is no real Kafka to hold this to")
    made = Guard(tmp_path_factory.mktemp("guard"))
    yield made
    made.broker.discard()


SASL_SSL = {"security_protocol": "SASL_SSL", "ssl_cafile": "cert.pem"}
ADMIN = SASL_SSL | {"sasl_username": "admin", "sasl_password_file": "password"}
MTLS = {"security_protocol": "SSL", "ssl_cafile": "cert.pem", "ssl_certfile": "cert.pem"}


@pytest.mark.parametrize(
    ("listener", "given"),
    [
        ("sasl", ADMIN | {"sasl_mechanism": "PLAIN"}),
        ("sasl", ADMIN | {"sasl_mechanism": "SCRAM-SHA-256"}),
        ("sasl", ADMIN | {"sasl_mechanism": "SCRAM-SHA-512"}),
        ("sasl", SASL_SSL | {"sasl_mechanism": "OAUTHBEARER", "sasl_token_file": "token"}),
        ("ssl", MTLS | {"ssl_keyfile": "key.pem"}),
        ("ssl", MTLS | {"ssl_keyfile": "locked.pem", "ssl_keyfile_password_file": "password"}),
    ],
)
def test_a_complete_turn_goes_through(guard, listener, given):
    """Topics, feeding, a membership and a publish: all four clients get in."""
    bootstrap, settings = getattr(guard, listener), guard.settings(**given)
    topic = f"input-{time.monotonic_ns()}"
    client = KafkaClient(bootstrap, settings)
    client.create(topic, TopicConfig(1, compact=False))
    client.send([Message(topic, 0, b"k", b"v")])
    client.flush()
    member = Member(KafkaLog(bootstrap, settings, group=topic, instance="a", topics=[topic]))
    member.publish([], next_offsets(member.read(1)))
    member.close()
    client.close()


@pytest.mark.parametrize(
    "given",
    [
        ADMIN | {"sasl_mechanism": "PLAIN", "sasl_password_file": "wrong"},
        ADMIN | {"sasl_mechanism": "SCRAM-SHA-512", "sasl_password_file": "wrong"},
        ADMIN | {"sasl_mechanism": "PLAIN", "sasl_username": "stranger"},
    ],
)
def test_wrong_credentials_are_refused(guard, given):
    """At once: to try again would change nothing."""
    with pytest.raises(PermanentError, match=r"[Aa]uthentication"):
        KafkaClient(guard.sasl, guard.settings(**given)).topics()


def test_one_without_rights_is_refused(guard):
    """A user that authenticates but has no permissions; the topic exists, but not for it."""
    settings = guard.settings(**ADMIN | {"sasl_mechanism": "PLAIN", "sasl_username": "nobody"})
    topic = f"input-{time.monotonic_ns()}"
    client = KafkaClient(guard.broker.bootstrap, KafkaSettings())
    client.create(topic, TopicConfig(1, compact=False))
    client.close()
    with pytest.raises(PermanentError):
        KafkaLog(guard.sasl, settings, group="g", instance="a", topics=[topic])


def test_a_broker_that_cannot_prove_itself_is_not_spoken_to(guard):
    """And the reason is logged, though to the client it is one failed connection of many."""
    settings = guard.settings(**ADMIN | {"sasl_mechanism": "PLAIN", "ssl_cafile": "other.pem"})
    with pytest.raises(Unavailable, match=r"(?i)certificate"):
        KafkaClient(guard.sasl, settings).topics()


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"security_protocol": "SASL_SSL"}, "sasl_mechanism: is needed"),
        ({"sasl_mechanism": "PLAIN"}, "sasl_mechanism: is of no use"),
        (
            {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN"},
            "sasl_username: is needed",
        ),
        ({"ssl_keyfile": "key.pem"}, "ssl_certfile: is needed"),
        ({"session_timeout": 0}, "session_timeout: must be at least 1s"),
        ({"sasl_password": "x"}, "unknown field"),
    ],
)
def test_settings_that_contradict_each_other_are_complained_of(given, complaint):
    """When they are read, and not when the broker rejects them."""
    with pytest.raises(msgspec.ValidationError, match=complaint):
        msgspec.convert(given, KafkaSettings, dec_hook=lambda kind, value: kind(value))


def test_a_password_that_is_not_given_is_asked_for_by_the_name_of_its_key(monkeypatch):
    """The environment is the other place for it."""
    monkeypatch.delenv("STREAMER_KAFKA_PASSWORD", raising=False)
    settings = KafkaSettings(
        security_protocol="SASL_SSL", sasl_mechanism="PLAIN", sasl_username="me"
    )
    with pytest.raises(PermanentError, match=r"sasl_password_file.*STREAMER_KAFKA_PASSWORD"):
        KafkaClient("nowhere:1", settings).topics()
