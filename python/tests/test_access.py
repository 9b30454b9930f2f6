"""Who connects, and how: users, tokens, nkeys, credentials and TLS, of submitters and of nodes."""

import asyncio
import os
import subprocess
import sys
import threading

import aiopool
import cluster_jobs as jobs
import nats
import pytest

# The pair that the server's documentation shows.
SEED = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
PUBLIC = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority, and what it has signed for a server and for a client, by openssl."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*words):
        done = subprocess.run(["openssl", *words], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl(*new, "-x509", "-days", "2", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem")
    for name, extension in (("server", "subjectAltName=IP:127.0.0.1"), ("client", "extendedKeyUsage=clientAuth")):
        openssl(*new, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        (folder / "extensions").write_text(f"basicConstraints=critical,CA:FALSE\n{extension}\n")
        signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "extensions"]
        openssl("x509", "-req", "-days", "2", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")
    return folder


def works(url, node_words=None, environment=None, **access):
    """Has a node and a submitter with this access do a task, a map and a job; the node is this process's,
    or a command's with `node_words`."""
    access |= {"pool": "access", "lease": 30}

    async def main():
        async with aiopool.Cluster(url, **access) as cluster:
            await cluster.ready()
            assert await cluster.apply(jobs.square, (7,)) == 49
            assert await cluster.map(jobs.square, range(100)) == [n * n for n in range(100)]
            assert await cluster.apply(jobs.backwards, (bytes(300_000),)) == bytes(300_000)
            assert any(node["alive"] for node in await cluster.nodes())
            async with cluster.job("j") as job:
                assert await job.apply(jobs.square, (3,)) == 9
                await job.finish()
            assert not await cluster.end_job("j")

    def serve():
        reports.append(node.run())

    if node_words is not None:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in (environment or {}).items():
                patch.setenv(name, value)
            with nats.Node(url, "access", *node_words):
                asyncio.run(asyncio.wait_for(main(), nats.WATCHDOG))
        return
    node, reports = aiopool.Node(url, processes=1, **access), []
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        asyncio.run(asyncio.wait_for(main(), nats.WATCHDOG))
    finally:
        node.stop()
        thread.join(nats.WATCHDOG)
    assert reports and reports[0].done > 0


def refused(url, text, **access):
    """A submitter and a node with this access are refused with a message that has `text`, and no secret."""

    async def main():
        async with aiopool.Cluster(url, **access):
            pass

    for connect in (lambda: asyncio.run(main()), lambda: aiopool.Node(url, processes=1, **access).run()):
        with pytest.raises(aiopool.ServerError, match=text) as caught:
            connect()
        assert "secret" not in str(caught.value)


def test_users_with_passwords():
    users = 'authorization { users: [ { user: "me", password: "secret" } ] }'
    with nats.Server(config=users) as server:
        works(server.url, user="me", password="secret")
        words = ["--user", "me"]
        works(server.url, words, {"NATS_PASSWORD": "secret"}, user="me", password="secret")
        # In the URL, too.
        works(server.url.replace("nats://", "nats://me:secret@"))
        refused(server.url, "authorization", user="me", password="wrong-secret")
        refused(server.url, "authorization")


def test_tokens():
    with nats.Server(config='authorization { token: "secret" }') as server:
        works(server.url, token="secret")
        refused(server.url, "authorization", token="wrong-secret")
        refused(server.url, "authorization")


def test_nkeys(tmp_path):
    with nats.Server(config=f"authorization {{ users: [ {{ nkey: {PUBLIC} }} ] }}") as server:
        works(server.url, nkey_seed=SEED)
        seed = tmp_path / "seed"
        seed.write_text(f"{SEED}\n")
        works(server.url, ["--nkey", str(seed)], nkey_seed=SEED)
        refused(server.url, "authorization")


def test_tls_with_certificates_of_both_sides(certificates):
    def path(name):
        return str(certificates / name)

    tls = f'cert_file: "{path("server.pem")}", key_file: "{path("server.key")}"'
    both = f'tls {{ {tls}, ca_file: "{path("ca.pem")}", verify: true }}'
    with nats.Server(config=f"tls {{ {tls} }}") as server:
        works(server.url, root_certificates=path("ca.pem"))
        works(server.url, tls=True, root_certificates=path("ca.pem"))
        works(server.url, ["--tls", "--tls-ca", path("ca.pem")], tls=True, root_certificates=path("ca.pem"))
        # Of an authority that nobody trusts here.
        refused(server.url, "(?i)certificate")
        refused(server.url, "(?i)certificate", tls=True)
    with nats.Server(config=both) as server:
        mine = path("client.pem"), path("client.key")
        works(server.url, root_certificates=path("ca.pem"), client_certificate=mine)
        words = ["--tls-ca", path("ca.pem"), "--tls-cert", mine[0], "--tls-key", mine[1]]
        works(server.url, words, root_certificates=path("ca.pem"), client_certificate=mine)
        refused(server.url, "cannot connect", root_certificates=path("ca.pem"))
    with nats.Server() as server:
        # A server without it is none for who asks for it.
        refused(server.url, "cannot connect", tls=True)


def test_files_that_cannot_be_had_are_said_at_the_connect(certificates, tmp_path):
    nowhere = str(tmp_path / "nowhere")
    no_certificate = tmp_path / "text"
    no_certificate.write_text("no certificate\n")
    with nats.Server() as server:
        for option, value in (
            ("credentials_file", nowhere),
            ("root_certificates", nowhere),
            ("client_certificate", (nowhere, str(certificates / "client.key"))),
            ("client_certificate", (str(certificates / "client.pem"), nowhere)),
            ("root_certificates", str(no_certificate)),
            ("nkey_seed", "no-secret-seed"),
        ):
            access = {option: value}

            async def main(access=access):
                async with aiopool.Cluster(server.url, **access):
                    pass

            for connect in (lambda: asyncio.run(main()), lambda: aiopool.Node(server.url, **access).run()):
                with pytest.raises((ValueError, aiopool.ServerError)) as caught:
                    connect()
                said = str(caught.value)
                assert option in said or nowhere in said or str(no_certificate) in said, (option, said)
                assert "no-secret-seed" not in said


def test_the_command_says_which_options_go_together():
    def said(*words):
        command = [sys.executable, "-m", "aiopool", "node", *words]
        environment = {name: value for name, value in os.environ.items() if name != "NATS_PASSWORD"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=nats.WATCHDOG, env=environment)
        assert done.returncode == 2
        return done.stderr

    assert "--tls-cert and --tls-key go together" in said("--tls-cert", "x")
    assert "--user needs the password in NATS_PASSWORD" in said("--user", "me")
    assert "--nkey /nowhere" in said("--nkey", "/nowhere")
