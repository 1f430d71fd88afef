"""A web server on 127.0.0.1 that misbehaves as told."""

import http.server
import threading
import time


class Server:
    """Serves `content` at every path. What a test sets:

    etag, modified: the validators it sends, "" for none; ranges: whether it honours Range; cut: how many bytes each
    connection sends before it breaks, from the front of the list; stop_after: how many bytes come before no more does;
    pace: seconds between bytes; status, headers: of the answer; silent: accept and never answer. `requests` collects the
    headers that came.
    """

    def __init__(self, content):
        self.content, self.etag, self.modified, self.ranges = content, '"1"', "", True
        self.cut, self.pace, self.status, self.headers, self.silent = [], 0, 200, {}, False
        self.stop_after = None
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
        if asked and state.ranges and self.headers.get("If-Range") in (state.etag or None, state.modified or None):
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
            for i in range(0, len(body), 1 if state.pace else len(body)):
                self.wfile.write(body[i:i + 1] if state.pace else body)
                time.sleep(state.pace)
            if state.stop_after is not None:
                self.wfile.flush()
                time.sleep(60)
        except OSError:
            pass  # the client has had enough
        self.close_connection = True
