"""A web server on 127.0.0.1 that misbehaves on request."""

import http.server
import threading
import time


class Server:
    """Serves `content` at every path. A test may set these attributes:

    etag, modified: the validators it sends, "" for none; ranges: whether it honours Range; cut: a list of how many bytes
    each connection sends before it breaks; stop_after: how many bytes it sends before it stalls; pace: seconds between
    bytes; spread: seconds over which it sends a body; status, headers: of the response; silent: accept and never answer;
    ignores_if_range: honour Range but ignore If-Range. `requests` collects the headers of the requests.
    """

    def __init__(self, content):
        self.content, self.etag, self.modified, self.ranges = content, '"1"', "", True
        self.cut, self.pace, self.status, self.headers, self.silent = [], 0, 200, {}, False
        self.stop_after, self.spread, self.ignores_if_range = None, 0, False
        self.requests = []
        handler = type("Handler", (_Handler,), {"server_state": self})
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self._http.block_on_close = False
        self.address = f"http://127.0.0.1:{self._http.server_address[1]}/file"
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        self._http.shutdown()
        self._http.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    server_state = None

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        state = self.server_state
        state.requests.append(dict(self.headers))
        if state.silent:
            time.sleep(60)
            return
        content, start, status = state.content, 0, state.status
        asked = self.headers.get("Range")
        same = self.headers.get("If-Range") in (state.etag or None, state.modified or None)
        if asked and state.ranges and (same or state.ignores_if_range):
            start, status = int(asked.removeprefix("bytes=").removesuffix("-")), 206
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        headers = {"Content-Length": len(content) - start, "ETag": state.etag, "Last-Modified": state.modified}
        for name, value in (headers | state.headers).items():
            if value not in ("", None):
                self.send_header(name, value)
        self.end_headers()
        body = content[start:]
        if state.cut:
            body = body[:state.cut.pop(0)]
        body = body[:state.stop_after]
        try:
            size = 1 if state.pace else len(body) // 50 + 1 if state.spread else len(body) or 1
            for i in range(0, len(body), size):
                self.wfile.write(body[i:i + size])
                time.sleep(state.pace or state.spread / 50)
            if state.stop_after is not None:
                self.wfile.flush()
                time.sleep(60)
        except OSError:
            pass  # the client has closed the connection
        self.close_connection = True
