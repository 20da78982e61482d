"""A key distribution service on loopback, for sevkit's own chips, with the paths of AMD's (57230, chapter 4)."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from sevkit.attestation.report import products
from sevkit.attestation.vectors.bench import Bench

_PARAMETERS = {"blSPL": "bootloader", "teeSPL": "tee", "snpSPL": "snp", "ucodeSPL": "microcode", "fmcSPL": "fmc"}
PEM, DER = "application/x-pem-file", "application/octet-stream"


class Service:
    """The service: certificates of the chips that it knows, each with one TCB version."""

    def __init__(self, benches: Iterable[Bench]) -> None:
        self.benches = {bench.product: bench for bench in benches}
        self.asked: list[str] = []

    def answer(self, target: str) -> tuple[int, str, bytes]:
        """Status, type and body of the answer to a request."""
        self.asked.append(target)
        parts = urlsplit(target)
        pieces = parts.path.strip("/").split("/")
        bench = next((b for product, b in self.benches.items() if len(pieces) == 4 and pieces[2] == product), None)
        if bench is None or pieces[0] not in {"vcek", "vlek"} or pieces[1] != "v1":
            return 404, "text/plain", b"no such address"
        if pieces[3] == "cert_chain":
            return 200, PEM, bench.chain if pieces[0] == "vcek" else bench.vlek_chain
        if pieces[3] == "crl":
            return 200, DER, bench.crl
        return self._vcek(bench, pieces[3], parse_qs(parts.query))

    def _vcek(self, bench: Bench, hwid: str, query: dict[str, list[str]]) -> tuple[int, str, bytes]:
        size = products.CHIP_ID_SIZES[bench.product]
        if hwid != bench.chip.chip_id[:size].hex():
            return 404, "text/plain", b"no such chip"
        try:
            asked = {_PARAMETERS[name]: int(values[0]) for name, values in query.items()}
        except (KeyError, ValueError):
            return 400, "text/plain", b"malformed parameters"
        if asked != bench.chip.tcb.components():
            return 404, "text/plain", b"no certificate of this TCB"
        return 200, DER, bench.vcek


@contextmanager
def serving(service: Service, port: int = 0) -> Iterator[str]:
    """Serve on loopback while the block runs; yields the address of the service."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, kind, body = service.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
