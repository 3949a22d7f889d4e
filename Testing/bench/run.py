"""The benchmark: our method and its peers on the same inputs, one evaluator, one table.

python Testing/bench/run.py -o FOLDER [--inputs a,b] [--methods x,y] [--preset Default] [--python INTERPRETER]

FOLDER/inputs holds the inputs (written once, all methods read the same bytes), FOLDER/results/METHOD/INPUT.json each
result. A result that is there is not run again: an interrupted run goes on where it stopped; --rerun x,y forgets.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from evaluate import evaluate
from inputs import DEFAULT_INPUTS, FIELD, PAIR, REAL, prepare
from measure import measure
from peers import PEERS, TAKES_MASK
from report import markdown, plain

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
BACKEND = REPOSITORY / "RegistrationSuite" / "RegSuiteBackend"
OURS = {
    "ours-preview": ("lung-convex", "Preview"),
    "ours": ("lung-convex", "Default"),
    "ours-best": ("lung-convex", "Best"),
    "brain-svf": ("brain-svf", "Default"),
}
METHODS = ["identity", "ours", "ours-preview", "brain-svf", *PEERS]


def last_line(log: Path) -> str:
    """Last line of a log that says anything."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


def run_ours(folder: Path, work: Path, args: argparse.Namespace, method: str, preset: str) -> tuple[dict[str, Any], Path]:
    """Our command line exactly as a user types it; the result is OUT/transform.h5."""
    out = work / "out"
    shutil.rmtree(out, ignore_errors=True)
    command = [args.python, "-m", "regsuite.cli", "register", method]
    command += [str(folder / "fixed.nrrd"), str(folder / "moving.nrrd"), "-o", str(out), "--preset", preset]
    command += ["--fixed-mask", str(folder / "mask.nrrd")] if args.masks else []
    used = measure(command, work / "log.txt", BACKEND)
    report = out / "report.json"
    if report.exists():
        used["timings_s"] = json.loads(report.read_text()).get("timings_s")
    return used, out / "transform.h5"


def run_peer(method: str, folder: Path, work: Path, args: argparse.Namespace) -> tuple[dict[str, Any], Path]:
    """A peer in its own process; the seconds of the call alone are kept beside those of the process."""
    out = work / "field.nrrd"
    out.unlink(missing_ok=True)
    command = [args.peers_python, str(HERE / "peers.py"), method]
    command += [str(folder / "fixed.nrrd"), str(folder / "moving.nrrd"), str(out)]
    command += ["--mask", str(folder / "mask.nrrd")] if args.masks and method in TAKES_MASK else []
    used = measure(command, work / "log.txt")
    if used["returncode"] == 0:
        used |= json.loads(last_line(work / "log.txt"))
    return used, out


def without_folders(text: str) -> str:
    """Absolute paths cut to their last name: a table tells nothing about the machine's folders."""
    return re.sub(r"(?<![\w.])/[^\s'\"]*/([^\s'\"/]+)", r"\1", text)


def fingerprint(folder: Path) -> str:
    """Hash of what the methods and the evaluator read, so that no result outlives its input."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.nrrd"), *folder.glob("*.csv")]):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def run_one(method: str, name: str, args: argparse.Namespace) -> dict[str, Any] | None:
    """Run, evaluate and remember one method on one input; a failure is a result with its reason.

    None where nothing is remembered and nothing may run.
    """
    cache = args.out / "results" / method / f"{name}.json"
    inputs = args.out / "inputs"
    key: dict[str, Any] = {"method": method, "input": name, "input_sha256": fingerprint(inputs / name)}
    if method == "ours":
        key["preset"] = args.preset
    key |= {"masks": True} if args.masks else {}
    if cache.exists():
        known = dict(json.loads(cache.read_text()))
        if "failed" not in known and all(known.get(k) == v for k, v in key.items()):
            return known
    if args.no_run:
        return None
    if method == "identity":
        result: dict[str, Any] = evaluate(name, inputs, None)
    else:
        work = args.out / "work" / method / name
        work.mkdir(parents=True, exist_ok=True)
        if method in OURS:
            key_of, preset = OURS[method]
            used, out = run_ours(inputs / name, work, args, key_of, args.preset if method == "ours" else preset)
        else:
            used, out = run_peer(method, inputs / name, work, args)
        ok = used["returncode"] == 0 and out.exists()
        result = used | (evaluate(name, inputs, out) if ok else {"failed": without_folders(last_line(work / "log.txt"))[:200]})
        if not args.keep:
            out.unlink(missing_ok=True)
    result |= key
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_text(json.dumps(result, indent=1))
    return result


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for inputs and results")
    parser.add_argument("--inputs", default=",".join(DEFAULT_INPUTS), help="names, comma separated")
    parser.add_argument("--methods", default=",".join(METHODS), help="names, comma separated")
    parser.add_argument("--rerun", default="", help="methods whose remembered results are dropped")
    parser.add_argument("--no-run", action="store_true", help="only write the table of what is remembered")
    parser.add_argument("--preset", default="Default", help="preset of the method `ours`")
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data", help="real data")
    parser.add_argument("--python", default=sys.executable, help="interpreter for our command line")
    parser.add_argument("--peers-python", default=sys.executable, help="interpreter that has the peers")
    parser.add_argument("--masks", action="store_true", help="give the mask to the methods that take one")
    parser.add_argument("--keep", action="store_true", help="keep the fields and transforms")
    parser.add_argument("--results", type=Path, default=HERE / "RESULTS.md", help="where the table is written")
    return parser.parse_args()


def main() -> int:
    """Run what is missing, print and write the table."""
    args = arguments()
    methods = args.methods.split(",")
    unknown = [m for m in methods if m not in PEERS and m not in OURS and m != "identity"]
    if unknown:
        print(f"unknown method: {', '.join(unknown)}; known: {', '.join(['identity', *OURS, *PEERS])}", file=sys.stderr)
        return 2
    made = re.compile(rf"thorax-\d+|{PAIR.pattern}|{FIELD.pattern}")
    strange = [n for n in args.inputs.split(",") if n not in REAL and not made.fullmatch(n)]
    if strange:
        print(f"unknown input: {', '.join(strange)}; known: thorax-SEED, syn-SEED, ixi-NNN-NNN, {', '.join(REAL)}", file=sys.stderr)
        return 2
    for method in filter(None, args.rerun.split(",")):
        shutil.rmtree(args.out / "results" / method, ignore_errors=True)
    names = prepare(args.inputs.split(","), args.data, args.out / "inputs")
    results = []
    for method in methods:
        for name in names:
            result = run_one(method, name, args)
            if result is not None:
                results.append(result)
                print(plain(result), flush=True)
    command = "python Testing/bench/run.py " + without_folders(shlex.join(a for a in sys.argv[1:] if a != "--no-run"))
    args.results.write_text(markdown(results, command))
    print(f"\n{args.results} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
