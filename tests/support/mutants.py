"""`make mutants MODULE=PATH TESTS=FOLDER [MUTANTS=PATTERN]`: the share of changes to a module that its tests notice.

mutmut changes a copy of the repository in build/mutants, one place at a time, and runs the tests for each mutant.
A mutant is killed if a test fails or hangs. One that survives needs a test, or has the same effect as the code.
MUTANTS='*7' runs those whose number ends with 7: a sample of a tenth.
"""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
COPY = ROOT / "build/mutants"
KILLED = {"killed", "timeout", "segfault"}


def copy_repository() -> list[str]:
    """Copy the files of the repository; return the top-level names."""
    shutil.rmtree(COPY, ignore_errors=True)
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    for name in files:
        target = COPY / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, target)
    return sorted({name.partition("/")[0] for name in files})


def configure(module: str, tests: str, names: list[str]) -> None:
    package = module.partition("/")[0]
    values = {
        "use_git_change_detection": False,
        # Many mutants of a queue hang. The limit is (seconds of the tests + constant) * multiplier.
        "timeout_multiplier": 3.0,
        "timeout_constant": 10.0,
        "source_paths": [package],
        "only_mutate": [module if module.endswith(".py") else f"{module}/*.py"],
        "do_not_mutate": ["*/testing.py", "*/testing/*"],
        "also_copy": [name for name in names if name not in (package, "tests")],
        "pytest_add_cli_args_test_selection": tests.split(),
        # Not the tests of a package's names, to which mutmut adds its own.
        "pytest_add_cli_args": ["-x", "-m", "not slow", "-p", "no:cacheprovider", "--ignore-glob=*/test_package.py"],
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    with (COPY / "pyproject.toml").open("a") as file:
        file.write("\n".join(["", "[tool.mutmut]", *lines, ""]))


def main(module: str, tests: str, mutants: str) -> None:
    configure(module.rstrip("/"), tests, copy_repository())
    mutmut = str(Path(sys.executable).with_name("mutmut"))
    subprocess.run([mutmut, "run", *mutants.split()], cwd=COPY, check=True)
    printed = subprocess.run([mutmut, "results", "--all", "true"], cwd=COPY, check=True, capture_output=True, text=True)
    all_results = dict(line.strip().rsplit(": ", 1) for line in printed.stdout.splitlines() if ": " in line)
    results = {name: result for name, result in all_results.items() if result != "not checked"}
    for name, result in results.items():
        if result not in KILLED:
            print(f"{result}: {name}")
    counts = Counter(result in KILLED for result in results.values())
    print(f"{module}: {counts[True]} of {len(results)} mutants are killed, {counts[True] / len(results):.1%}")
    print(f"`cd {COPY.relative_to(ROOT)} && mutmut show NAME` shows a mutant.")


if __name__ == "__main__":
    main(*sys.argv[1:])
