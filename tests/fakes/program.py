"""A program that ends in an HTTP server, as people write them: ``python program.py PORT [NAME=VALUE ...]``.

Names: ``busy`` (so many checks are answered with 503 first), ``status`` (of every answer), ``bind`` (0: it never
listens), ``hang`` (1: it answers nothing), ``stubborn`` (1: deaf to SIGTERM), ``child`` (1: with a child that is as
deaf, whose process id it writes), ``exit`` (it ends at once with that status), ``say`` (a line of its log).
"""

import http.server
import os
import signal
import subprocess
import sys
import time

DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
SETTINGS = dict(word.split("=", 1) for word in sys.argv[2:])


class Answers(http.server.BaseHTTPRequestHandler):
    checks = 0

    def do_GET(self) -> None:
        if SETTINGS.get("hang"):
            time.sleep(600)
        Answers.checks += 1
        busy = Answers.checks <= int(SETTINGS.get("busy", 0))
        self.send_response(503 if busy else int(SETTINGS.get("status", 200)))
        self.end_headers()
        told = (os.environ.get("WORD", ""), self.path, self.headers.get("authorization", ""), self.headers["host"])
        self.wfile.write("|".join(told).encode())

    def log_message(self, *words: object) -> None:
        pass


def main() -> None:
    sys.stdout.write(f"{SETTINGS.get('say', 'up')}\n")
    sys.stdout.flush()
    sys.stderr.write(f"pid {os.getpid()} interrupts {signal.getsignal(signal.SIGINT) is signal.default_int_handler}\n")
    if "exit" in SETTINGS:
        sys.exit(int(SETTINGS["exit"]))
    if SETTINGS.get("stubborn"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if SETTINGS.get("child"):
        child = subprocess.Popen([sys.executable, "-c", DEAF], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        sys.stderr.write(f"child {child.pid}\n")
    if SETTINGS.get("bind") == "0":
        signal.pause()
    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Answers).serve_forever()


main()
