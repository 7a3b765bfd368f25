"""What the servers for tests share: a real HTTP server in a thread of this process, on a port of its own."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class LocalServer:
    """Hands every request to [`handle`], which a subclass writes; `url` is its address."""

    def __init__(self):
        self.lock = threading.RLock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self):
                outer.handle(self)

            do_GET = do_HEAD = do_POST = do_PUT = handle_any  # noqa: N815

            def log_message(self, *arguments):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def handle(self, request):
        """Reads a request and answers it."""
        raise NotImplementedError

    @staticmethod
    def send(request, status, content, headers=()):
        """Answers with bytes, or with anything else as JSON."""
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        request.send_response(status)
        for name, value in (
            {"Content-Type": "application/json", "Content-Length": str(len(data))} | dict(headers)
        ).items():
            request.send_header(name, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(data)

    def stop(self):
        """Nobody can connect any more."""
        self.http.shutdown()
        self.http.server_close()

    @contextmanager
    def running(self):
        """Answers while the block runs."""
        self.thread.start()
        try:
            yield self
        finally:
            self.stop()
            self.thread.join()
