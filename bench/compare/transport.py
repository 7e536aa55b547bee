"""How clients and proxies, and proxies and the origin, speak to each other; one certificate for everybody."""

import contextlib
import http.client
import os
import re
import socket
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

TLS_SIDES = ("none", "origin", "client", "both")
# One version and one cipher suite, so that nobody is compared by what it happens to negotiate.
CIPHER_SUITE = "TLS_AES_128_GCM_SHA256"
# The name in the certificate, beside 127.0.0.1.
HOST = "localhost"

OPENSSL_REQ = f"""[req]
distinguished_name = name
prompt = no
[name]
CN = compare
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[site]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:{HOST}, IP:127.0.0.1
"""
# For the programs that make the load: they have no options for version and cipher suite.
OPENSSL_CLIENT = f"""openssl_conf = openssl
[openssl]
ssl_conf = ssl
[ssl]
system_default = default
[default]
MinProtocol = TLSv1.3
Ciphersuites = {CIPHER_SUITE}
"""


@dataclass
class Transport:
    """TLS towards the origin, TLS and HTTP/2 from clients."""

    to_origin: bool
    from_clients: bool
    http2: bool
    # Of the certificates; set by `prepare`.
    directory: Path | None = None

    @classmethod
    def of(cls, tls, http2):
        return cls(tls in ("origin", "both"), tls in ("client", "both"), http2)

    def prepare(self, directory):
        """Makes the certificates, good for a day, where they are needed."""
        self.directory = Path(directory)
        if self.tls:
            self._make_certificates()

    @property
    def tls(self):
        return self.to_origin or self.from_clients

    @property
    def authority(self):
        return self.directory / "authority.pem"

    @property
    def certificate(self):
        return self.directory / "site.pem"

    @property
    def key(self):
        # Where HAProxy looks for the key of site.pem.
        return self.directory / "site.pem.key"

    def url(self, port, path):
        return f"{'https' if self.from_clients else 'http'}://127.0.0.1:{port}{path}"

    def environment(self):
        """For programs that speak TLS with OpenSSL."""
        return {**os.environ, "OPENSSL_CONF": str(self.directory / "openssl.cnf")} if self.tls else dict(os.environ)

    def _make_certificates(self):
        """An authority, and a certificate for localhost and 127.0.0.1 from it, both with P-256."""
        (self.directory / "req.cnf").write_text(OPENSSL_REQ, encoding="ascii")
        (self.directory / "openssl.cnf").write_text(OPENSSL_CLIENT, encoding="ascii")
        request = ["openssl", "req", "-x509", "-config", "req.cnf", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                   "-nodes", "-days", "1"]
        issuer = ["-CA", self.authority, "-CAkey", "authority.key"]
        for section, argv in (
            ("authority", ["-subj", "/CN=compare authority", "-out", self.authority, "-keyout", "authority.key"]),
            ("site", [*issuer, "-subj", f"/CN={HOST}", "-out", self.certificate, "-keyout", self.key]),
        ):
            done = subprocess.run([*request, "-extensions", section, *argv], cwd=self.directory, capture_output=True,
                                  text=True, check=False)
            if done.returncode:
                raise SystemExit(f"openssl (3.0 or later is needed) made no certificate:\n{done.stderr}")

    def _context(self):
        context = ssl.create_default_context(cafile=str(self.authority))
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        return context

    def connect(self, port, context=None, session=None):
        """A connection of a client that speaks HTTP/1.1."""
        connection = socket.create_connection(("127.0.0.1", port), timeout=60)
        if not self.from_clients:
            return connection
        return (context or self._context()).wrap_socket(connection, server_hostname=HOST, session=session)

    def get(self, port, path, headers):
        """Status and body of one GET on a connection of its own."""
        if self.http2:
            return self._get_http2(port, path, headers)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        if self.from_clients:
            connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=self._context())
        with contextlib.closing(connection):
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            return response.status, response.read()

    def _get_http2(self, port, path, headers):
        argv = ["curl", "--silent", "--show-error", "--max-time", "30", "--http2", "--cacert", str(self.authority),
                "--write-out", "%{stderr}status %{http_code} version %{http_version}"]
        for name, value in headers.items():
            argv += ["--header", f"{name}: {value}"]
        done = subprocess.run([*argv, self.url(port, path)], capture_output=True, check=False)
        said = done.stderr.decode(errors="replace")
        found = re.search(r"status (\d+) version (\S+)$", said)
        if done.returncode or not found:
            raise SystemExit(f"no response on port {port}: {said}")
        if found[2] != "2":
            raise SystemExit(f"the response on port {port} came over HTTP/{found[2]}")
        return int(found[1]), done.stdout

    def check_tls(self, name, port):
        """That a proxy negotiates with clients what everybody is to negotiate."""
        argv = ["openssl", "s_client", "-brief", "-connect", f"127.0.0.1:{port}", "-servername", HOST, "-CAfile", self.authority]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=self.environment())
        said = done.stdout + done.stderr
        for wanted in ("Protocol version: TLSv1.3", f"Ciphersuite: {CIPHER_SUITE}", "Verification: OK"):
            if wanted not in said:
                raise SystemExit(f"{name} does not say \"{wanted}\":\n{said}")

    def check_resumption(self, name, port, request):
        """That a session resumes on the next connection."""
        context = self._context()
        with self.connect(port, context) as first:
            first.sendall(request)
            # The tickets come before the response.
            first.recv(65_536)
            session = first.session
        with self.connect(port, context, session) as second:
            if not second.session_reused:
                raise SystemExit(f"{name} does not resume sessions")

    def described(self):
        """For headings and for the documentation."""
        sides = [side for side, spoken in (("from clients", self.from_clients), ("to the origin", self.to_origin)) if spoken]
        return [*([f"TLS {' and '.join(sides)}"] if sides else []), *(["HTTP/2"] if self.http2 else [])]
