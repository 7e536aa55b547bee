"""The proxies that are compared, each with a configuration that a friend of it would write.

All of them keep connections to client and origin alive, write no access log and cache nothing.
nginx touches no disk, and has the buffers with which it does best over all loads (large ones miss the
processor's cache: 8 of 256 KiB nearly double its cost at 1 MiB); HAProxy comes as it is and with splicing;
Envoy and Yatagarasu also sign each request for S3 and, on /private, check a JWT (HS256). The others do neither,
so that they have less to do.

With TLS, nginx, HAProxy and Yatagarasu speak version 1.3 with one cipher suite, and check the certificate of
the origin. HAProxy cannot splice what it encrypts.
"""

import base64
import hashlib
import hmac
import json
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from transport import CIPHER_SUITE, HOST, Transport

JWT_SECRET = "compare-secret-compare-secret-compare-secret"
ACCESS_KEY, SECRET_KEY, REGION = "AKIACOMPARE", "compare-secret-key", "us-east-1"


def _base64url(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def bearer():
    """An Authorization value that is good for a day."""
    head = _base64url(b'{"alg":"HS256","typ":"JWT"}')
    claims = {"sub": "compare", "role": "user", "exp": int(time.time()) + 86_400}
    body = _base64url(json.dumps(claims).encode())
    signature = hmac.new(JWT_SECRET.encode(), f"{head}.{body}".encode(), hashlib.sha256).digest()
    return f"Bearer {head}.{body}.{_base64url(signature)}"


@dataclass(frozen=True)
class Site:
    """What the proxies of a comparison have in common."""

    directory: str
    origin_port: int
    transport: Transport


@dataclass
class Launch:
    """How to start a proxy."""

    argv: list
    environment: dict = field(default_factory=dict)


@dataclass
class Kind:
    """A proxy that can be compared."""

    name: str
    program: str
    # (kind, site, port, workers, buckets) -> Launch; writes its configuration.
    launch: object
    version: tuple
    jwt: bool = False
    # Whether it can be started with many buckets, for the start-up figures.
    many_buckets: bool = False
    # Whether there is a configuration of it below for TLS on both sides and HTTP/2 from clients.
    tls: bool = False

    def path(self):
        """The program, or None where it is not installed."""
        return shutil.which(self.program)


def origin(site):
    """nginx with the objects in memory, in front of nothing."""
    return _nginx(site, "origin", 1, f"""
    sendfile on; tcp_nopush on;
    open_file_cache max=1000 inactive=1h; open_file_cache_valid 1h;
    server {{ listen 127.0.0.1:{site.origin_port} {'ssl ' if site.transport.to_origin else ''}backlog=4096;
    root {site.directory}/objects;
    location /bench/1k-each- {{ rewrite ^ /bench/1k break; }} }}""")


def _nginx(site, name, workers, http):
    own = Path(site.directory, name)
    own.mkdir()
    temporary = "".join(f"{kind}_temp_path {own}/{kind};\n" for kind in
                        ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    config = own / "nginx.conf"
    config.write_text(f"""daemon off; user root; worker_processes {workers};
pid {own}/pid; error_log stderr crit;
events {{ worker_connections 8192; }}
http {{
    {temporary}
    access_log off; tcp_nodelay on; default_type application/octet-stream;
    keepalive_timeout 300s; keepalive_requests 100000000;
    {_nginx_tls(site.transport) if site.transport.tls else ''}
    {http}
}}
""", encoding="utf-8")
    return Launch(["nginx", "-e", "stderr", "-c", config])


def _nginx_tls(transport):
    return f"""ssl_certificate {transport.certificate}; ssl_certificate_key {transport.key};
    ssl_protocols TLSv1.3; ssl_conf_command Ciphersuites {CIPHER_SUITE};
    proxy_ssl_verify on; proxy_ssl_trusted_certificate {transport.authority};
    proxy_ssl_server_name on; proxy_ssl_name {HOST};
    proxy_ssl_protocols TLSv1.3; proxy_ssl_conf_command Ciphersuites {CIPHER_SUITE};"""


def nginx(kind, site, port, workers, buckets):
    transport = site.transport
    listen = f"{port}{' ssl' if transport.from_clients else ''}{' http2' if transport.http2 else ''}"
    places = ["/"] if buckets == 1 else [f"^~ /bucket-{number:05}/" for number in range(buckets)]
    passing = f"""{{
        proxy_pass {'https' if transport.to_origin else 'http'}://origin{'' if buckets == 1 else '/bench/'};
        proxy_http_version 1.1; proxy_set_header Connection "";
        proxy_buffer_size 64k; proxy_buffers 16 16k; proxy_busy_buffers_size 128k; proxy_max_temp_file_size 0; }}"""
    # Frames of HTTP/2 are as long as clients take them without having said so: fewer cost less.
    return _nginx(site, f"{kind.name}-{port}", workers, f"""
    upstream origin {{ server 127.0.0.1:{site.origin_port}; keepalive 512; keepalive_requests 100000000; }}
    {'http2_chunk_size 16k;' if transport.http2 else ''}
    server {{ listen 127.0.0.1:{listen} backlog=4096;
    {' '.join(f'location {place} {passing}' for place in places)} }}""")


def haproxy(kind, site, port, workers, _buckets):
    splice, transport = kind.name == "haproxy-splice", site.transport
    protocols = "h2,http/1.1" if transport.http2 else "http/1.1"
    from_clients = to_origin = ""
    if transport.from_clients:
        from_clients = f"ssl crt {transport.certificate} alpn {protocols}"
    if transport.to_origin:
        to_origin = f"ssl verify required ca-file {transport.authority} verifyhost {HOST} sni str({HOST})"
    config = Path(site.directory, f"{kind.name}-{port}.cfg")
    config.write_text(f"""global
    nbthread {workers}
    maxconn 4096
    ssl-default-bind-options ssl-min-ver TLSv1.3
    ssl-default-bind-ciphersuites {CIPHER_SUITE}
    ssl-default-server-options ssl-min-ver TLSv1.3
    ssl-default-server-ciphersuites {CIPHER_SUITE}
    {"tune.pipesize 1048576" if splice else ""}
defaults
    mode http
    timeout connect 5s
    timeout client 300s
    timeout server 300s
    http-reuse always
frontend clients
    bind 127.0.0.1:{port} {from_clients}
    default_backend origin
backend origin
    {"option splice-response" if splice else ""}
    server one 127.0.0.1:{site.origin_port} pool-max-conn -1 {to_origin}
""", encoding="utf-8")
    return Launch(["haproxy", "-db", "-f", config])


def envoy(kind, site, port, workers, _buckets):
    extensions = "type.googleapis.com/envoy.extensions"
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    to_origin = {"cluster": "origin", "timeout": "0s"}
    keys = {"keys": [{"kty": "oct", "alg": "HS256", "k": _base64url(JWT_SECRET.encode())}]}
    manager = {
        "@type": f"{extensions}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "compare",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/private/"}, "route": {**to_origin, "prefix_rewrite": "/bench/"}},
            {"match": {"prefix": "/"}, "route": to_origin},
        ]}]},
        "http_filters": [
            {"name": "envoy.filters.http.jwt_authn", "typed_config": {
                "@type": f"{extensions}.filters.http.jwt_authn.v3.JwtAuthentication",
                "providers": {"compare": {
                    "local_jwks": {"inline_string": json.dumps(keys)},
                    "jwt_cache_config": {"jwt_cache_size": 1000},
                }},
                "rules": [{"match": {"prefix": "/private/"}, "requires": {"provider_name": "compare"}}],
            }},
            {"name": "envoy.filters.http.aws_request_signing", "typed_config": {
                "@type": f"{extensions}.filters.http.aws_request_signing.v3.AwsRequestSigning",
                "service_name": "s3", "region": REGION, "use_unsigned_payload": True,
            }},
            {"name": "envoy.filters.http.router", "typed_config": {
                "@type": f"{extensions}.filters.http.router.v3.Router"}},
        ],
    }
    endpoint = {"socket_address": {"address": "127.0.0.1", "port_value": site.origin_port}}
    config = Path(site.directory, f"envoy-{port}.json")
    config.write_text(json.dumps({"static_resources": {
        "listeners": [{"address": address, "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}]}],
        "clusters": [{"name": "origin", "connect_timeout": "5s", "load_assignment": {
            "cluster_name": "origin",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": endpoint}}]}],
        }}],
    }}), encoding="utf-8")
    argv = [kind.program, "--concurrency", workers, "--disable-hot-restart", "--log-level", "error", "-c", config]
    return Launch(argv, {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY})


def varnish(kind, site, port, _workers, _buckets):
    config = Path(site.directory, f"varnish-{port}.vcl")
    config.write_text(f"""vcl 4.1;
backend default {{ .host = "127.0.0.1"; .port = "{site.origin_port}"; }}
sub vcl_recv {{ return (pass); }}
""", encoding="utf-8")
    return Launch([kind.program, "-F", "-j", "none", "-n", Path(site.directory, f"varnish-{port}"),
                   "-a", f"127.0.0.1:{port}", "-f", config, "-s", "malloc,256m"])


def yatagarasu(kind, site, port, workers, buckets):
    transport = site.transport
    endpoint = {"endpoint": f"http://127.0.0.1:{site.origin_port}"}
    if transport.to_origin:
        endpoint = {"endpoint": f"https://127.0.0.1:{site.origin_port}", "ca_file": str(transport.authority)}
    server = {"address": "127.0.0.1", "port": port, "threads": workers}
    if transport.from_clients:
        pair = {"cert_file": str(transport.certificate), "key_file": str(transport.key)}
        server |= {"port": 0, "tls": {"port": port, "certificates": [pair], "min_version": "1.3"}}
    if transport.http2:
        server["http2"] = {"enabled": True}

    def bucket(name, enabled):
        return {
            "name": name,
            "path_prefix": f"/{name}",
            "s3": {
                "bucket": "bench",
                "region": REGION,
                **endpoint,
                "access_key": ACCESS_KEY,
                "secret_key": SECRET_KEY,
                "max_idle_connections": 1024,
            },
            "auth": {"enabled": enabled},
        }

    many = [bucket(f"bucket-{number:05}", False) for number in range(buckets)] if buckets > 1 else []
    config = Path(site.directory, f"{kind.name}-{port}.yaml")
    # JSON is YAML.
    config.write_text(json.dumps({
        "server": server,
        "buckets": many or [bucket("bench", False), bucket("private", True)],
        "jwt": {"enabled": True, "algorithm": "HS256", "secret": JWT_SECRET},
        "logging": {"level": "warn", "access_log": {"enabled": False}},
    }), encoding="utf-8")
    return Launch([kind.program, "--config", config])


PEERS = [
    Kind("nginx", "nginx", nginx, ("-v",), many_buckets=True, tls=True),
    Kind("haproxy", "haproxy", haproxy, ("-v",), tls=True),
    Kind("haproxy-splice", "haproxy", haproxy, ("-v",)),
    Kind("envoy", "envoy", envoy, ("--version",), jwt=True),
    Kind("varnish", "varnishd", varnish, ("-V",)),
]


def build(name, program):
    """A build of this project."""
    return Kind(name, str(Path(program).resolve()), yatagarasu, ("--version",), jwt=True, many_buckets=True, tls=True)
