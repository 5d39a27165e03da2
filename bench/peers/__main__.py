"""The command: `prepare`, or measure. See the package."""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from bench.peers import environments, lite0, report, works
from bench.peers.contenders import SETTINGS, Setting, absent
from bench.peers.measure import Field, machine, measure
from bench.peers.readings import Measured

RESULTS = Path(__file__).parents[1] / "results"


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench peers", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("names", nargs="*", help="[prepare|report] and peers; default: all")
    parser.add_argument("--environments", type=Path, default=environments.DEFAULT_FOLDER)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3, help="whole ones, as wrk wants them")
    parser.add_argument(
        "--works", default="", help="only works whose name has one of these in it, by |"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of peers.md and .svg")
    parser.add_argument("--lock", type=Path, help="hold this file's lock while measuring")
    return parser.parse_args()


def prepare(names: list[str], folder: Path) -> None:
    """Environments, weights, bodies; what cannot be installed is said, and the rest goes on."""
    failed = []
    for name in names or list(environments.PEERS):
        try:
            environments.install(folder, name, environments.PEERS[name])
        except subprocess.CalledProcessError as error:
            failed.append(f"{name}: {error}")
    work = folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "lite0.onnx").exists():
        environments.install(folder, "converter", environments.CONVERTER)
        lite0.convert(environments.python_of(folder, "converter"), work / "lite0.onnx")
    works.write_files(work)
    if failed:
        sys.exit("not installed: " + "; ".join(failed))


def run(names: list[str], asked: argparse.Namespace) -> Measured:
    """Measure the peers called `names` beside the floor and ours."""
    folder = asked.environments / "work"
    if not (folder / "lite0.onnx").exists():
        sys.exit("nothing is prepared: python -m bench peers prepare")
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing: apt-get install wrk")
    measured = Measured(machine())
    missing = absent(asked.environments)
    measured.said += [f"{name}: not installed" for name in missing if not names or name in names]
    wanted = [setting for setting in SETTINGS if _takes_part(setting, names, missing)]
    parts = asked.works.split("|")
    chosen = [work for work in works.WORKS if any(part in work.name for part in parts)]
    field = Field(asked.environments, folder, measured)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        field.start(wanted, chosen)
        measure(field, chosen, asked.rounds, asked.seconds, asked.lock)
    except KeyboardInterrupt:
        measured.said.append("stopped by hand before the last round was over")
    finally:
        field.end()
    return measured


def _takes_part(setting: Setting, names: list[str], missing: list[str]) -> bool:
    if setting.peer in missing:
        return False
    return not names or setting.peer is None or setting.server in ("floor", "floor-worker", *names)


def main() -> None:
    asked = options()
    command = asked.names[0] if asked.names[:1] in (["prepare"], ["report"]) else None
    names = asked.names[1:] if command else asked.names
    unknown = [name for name in names if name not in environments.PEERS]
    if unknown:
        sys.exit(f"no peer is called {unknown[0]}; there are {', '.join(environments.PEERS)}")
    if command == "prepare":
        prepare(names, asked.environments)
        return
    kept = asked.environments / "work" / "measured.json"
    if command is None:
        run(names, asked).save(kept)
    measured = Measured.load(kept)
    asked.out.mkdir(parents=True, exist_ok=True)
    text = report.markdown(measured)
    (asked.out / "peers.md").write_text(text)
    (asked.out / "peers.svg").write_text(report.plot(measured))
    print(text)


if __name__ == "__main__":
    main()
