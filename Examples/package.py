"""Packs an example for Lambda in a zip that CreateFunction takes: Python with its requirements, or what is compiled from C, Java or C#.

    python3 Examples/package.py langchain-agent --python ~/.pyenv/versions/3.12.1/bin/python3 --output agent.zip
    python3 Examples/package.py java-api --output api.zip
"""

import argparse
import hashlib
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
CACHE = HERE.parent / ".build" / "examples"
# Not needed to run, and in the way of the 50 MB that may be uploaded. (numpy.testing, which scipy imports, takes _natype from numpy's tests.)
LEFT_OUT = re.compile(r"(^|/)(tests?|testing/tests|__pycache__|bin)/(?!_natype\.py$)|\.pyi$|\.(c|h|pyx|pxd|hpp|cpp)$|dist-info/RECORD$")
LIMIT = 50 * 1024 * 1024


def requirements(name, python):
    """A directory with the example's requirements installed by `python`; made once for each list of requirements."""
    file = HERE / name / "requirements.txt"
    if not file.exists():
        return None
    version = subprocess.run([python, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    key = hashlib.sha256((file.read_text() + version).encode()).hexdigest()[:16]
    target = CACHE / f"{name}-{version}-{key}"
    if not target.exists():
        print(f"installing the requirements of {name} for Python {version}", file=sys.stderr)
        staging = target.with_suffix(".new")
        shutil.rmtree(staging, ignore_errors=True)
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"]
        subprocess.run([*command, "--target", str(staging), "-r", str(file)], check=True)
        staging.rename(target)
    return target


def also_left_out(name):
    """What an example's left-out.txt says of its requirements: paths to leave out (a regular expression, or none), and whether sources are, too."""
    file = HERE / name / "left-out.txt"
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")] if file.exists() else []
    patterns = [line for line in lines if line != "sources"]
    return re.compile("|".join(patterns)) if patterns else None, "sources" in lines


def compile_python(name, python, tree):
    """Copies code and requirements, with byte-code: /var/task is read-only, it is compiled now or never."""
    library = requirements(name, python)
    unneeded, sourceless = also_left_out(name)
    sources = []
    for source in [library, HERE / "shared", HERE / name]:
        if source is None:
            continue
        for file in sorted(path for path in source.rglob("*") if path.is_file()):
            relative = file.relative_to(source).as_posix()
            if LEFT_OUT.search(relative) or relative in ["requirements.txt", "left-out.txt"]:
                continue
            if source == library and unneeded and unneeded.search(relative):
                continue
            copy(file, tree / relative)
            if source == library and sourceless and file.suffix == ".py":
                sources.append(tree / relative)
    # It is found valid by hash, whatever times the files get.
    command = [python, "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash", str(tree)]
    subprocess.run(command, check=True)
    for file in sources:
        [code] = (file.parent / "__pycache__").glob(f"{file.stem}.cpython-*.pyc")
        code.rename(file.with_suffix(".pyc"))
        file.unlink()


def copy(file, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)
    target.chmod(file.stat().st_mode & 0o755 | 0o644)


def compile_c(sources, tree):
    """One static program, `bootstrap`."""
    command = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-o", str(tree / "bootstrap")]
    subprocess.run([*command, *map(str, sources)], check=True)


def compile_java(sources, tree, release="11", classpath=None):
    """Classes at the top of the archive."""
    command = ["javac", "--release", release, "-Xlint:all", "-Werror", "-parameters", "-d", str(tree)]
    subprocess.run([*command, *(["-cp", str(classpath)] if classpath else []), *map(str, sources)], check=True)


def jars(name):
    """What an example's jars.txt names, as Debian's packages have it."""
    file = HERE / name / "jars.txt"
    if not file.exists():
        return []
    comment, *names = file.read_text().split("\n")
    found = [pathlib.Path("/usr/share/java") / line for line in names if line]
    missing = [str(path) for path in found if not path.exists()]
    if missing:
        raise SystemExit(f"{', '.join(missing)} not found; {comment.removeprefix('# ')}")
    return found


def build_java(name, tree, others=()):
    """An example's classes (and those of `others`, sources) and resources at the top of a directory; answers the libraries that they need."""
    libraries = jars(name)
    compile_java([*sorted((HERE / name).rglob("*.java")), *others], tree, classpath=":".join(map(str, libraries)))
    for file in sorted((HERE / name).rglob("*.json")):
        copy(file, tree / file.relative_to(HERE / name))
    return libraries


def compile_csharp(sources, target, library=True, references=()):
    """One assembly, by Mono's compiler against Mono's facades."""
    command = ["mcs", "-langversion:7", "-warnaserror", "-optimize+", f"-target:{'library' if library else 'exe'}", f"-out:{target}"]
    subprocess.run([*command, *[f"-r:{reference}" for reference in references], *map(str, sources)], check=True)


def package(name, python, output):
    """Writes the zip of example `name` (`python`: for an example in Python, its interpreter); answers its path."""
    tree = CACHE / f"tree-{name}"
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    sources = {kind: sorted((HERE / name).rglob(f"*.{kind}")) for kind in ["py", "c", "java", "cs"]}
    if sources["c"]:
        compile_c(sources["c"], tree)
    elif sources["java"]:
        for library in build_java(name, tree):
            copy(library, tree / "lib" / library.name)
    elif sources["cs"]:
        compile_csharp(sources["cs"], tree / "Function.dll")
    elif sources["py"]:
        compile_python(name, python or interpreter("3.12"), tree)
    else:
        for file in (path for path in (HERE / name).iterdir() if path.is_file()):
            copy(file, tree / file.name)
    output = archive(tree, output)
    shutil.rmtree(tree)
    if output.stat().st_size > LIMIT:
        raise SystemExit(f"{output} has {output.stat().st_size} bytes; CreateFunction takes at most {LIMIT}")
    return output


def archive(tree, output):
    """A zip of a directory, with run bits and without the times of this build."""
    output = pathlib.Path(output)
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as target:
        for file in sorted(path for path in tree.rglob("*") if path.is_file()):
            information = zipfile.ZipInfo(file.relative_to(tree).as_posix(), (2020, 1, 1, 0, 0, 0))
            information.external_attr = (file.stat().st_mode & 0xFFFF) << 16
            information.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(information, file.read_bytes())
    return output


def interpreter(version):
    """The host's Python of a version such as 3.12, as Thaw finds it."""
    places = [pathlib.Path(f"/usr/local/bin/python{version}"), pathlib.Path(f"/usr/bin/python{version}")]
    places += sorted(pathlib.Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"), reverse=True)
    for place in places:
        if place.exists():
            return str(place)
    raise SystemExit(f"no Python {version} was found; install it, for example with pyenv install {version}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("--python", default=None, help="for Python, the interpreter (default: the host's Python 3.12)")
    parser.add_argument("--output", required=True)
    arguments = parser.parse_args()
    print(package(arguments.name, arguments.python, arguments.output))
