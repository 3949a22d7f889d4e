"""Speaks the protocol of regsuite.worker without torch, and misbehaves as told: python fake_worker.py BEHAVIOUR.

good      reports for `steps` x 20 ms, then answers       slow     reports for ever, stops when cancelled
deaf      reports for ever, does not hear cancel           exit, segv, kill, garbage, cut, quiet, memory, internal, input
no-torch  fails to start, as without torch                 chatty   writes much to stderr, then answers
"""
import json
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path


def send(**message):
    print(json.dumps(message), flush=True)


def read(requests, cancelled):
    for line in sys.stdin:
        request = json.loads(line)
        if request["command"] == "cancel":
            cancelled.set()
        else:
            cancelled.clear()
            requests.put(request)
    os._exit(0)


def die(behaviour):
    if behaviour == "exit":
        print("Traceback: something broke", file=sys.stderr, flush=True)
        os._exit(3)
    if behaviour == "segv":
        os.kill(os.getpid(), signal.SIGSEGV)
    if behaviour == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "quiet":
        os._exit(0)
    if behaviour == "cut":
        sys.stdout.write('{"type": "result", "jo')
        sys.stdout.flush()
        os._exit(0)


def work(request, behaviour, cancelled):
    job, began = request["job"], time.monotonic()
    leftovers = Path(request["out"] + ".partial") if "out" in request else None
    if leftovers is not None:
        leftovers.mkdir(parents=True, exist_ok=True)
        (leftovers / "half.bin").write_bytes(b"0" * 1000)
    endless = behaviour in ("slow", "deaf")
    for step in range(1000000 if endless else request.get("steps", 5)):
        if behaviour != "deaf" and cancelled.is_set():
            send(type="error", job=job, kind="cancelled", message="Cancelled by the user.")
            return
        fraction = min(time.monotonic() - began, 9.0) / 10
        send(type="progress", job=job, fraction=fraction, stage="working", detail=f"step {step}", seconds_left=9.9)
        time.sleep(0.02)
    die(behaviour)
    if behaviour == "garbage":
        print("]]] this is no JSON", flush=True)
        time.sleep(30)
    if behaviour in ("memory", "internal", "input"):
        send(type="error", job=job, kind=behaviour, message=f"An error of kind {behaviour}.")
        return
    if behaviour == "chatty":
        for line in range(3000):
            print(f"line {line}", file=sys.stderr)
        sys.stderr.flush()
        time.sleep(0.3)
    send(type="result", job=job, command="register", out=request.get("out", ""), pid=os.getpid())


def main():
    behaviour = sys.argv[1]
    send(type="hello", pid=os.getpid())
    if behaviour == "no-torch":
        print("ModuleNotFoundError: No module named 'torch'", file=sys.stderr, flush=True)
        sys.exit(1)
    send(type="ready", versions={})
    requests, cancelled = queue.Queue(), threading.Event()
    threading.Thread(target=read, args=(requests, cancelled), daemon=True).start()
    while True:
        work(requests.get(), behaviour, cancelled)


if __name__ == "__main__":
    main()
