"""Starts AWS's runtime interface client as `python -m awslambdaric HANDLER` does; with a snapshot, reseeds what repeats itself in every clone first.

A snapshot holds the state of every generator of random numbers in user space: unless it is reseeded, all clones draw the same numbers. The kernel's
generator (`os.urandom`, `secrets`, `uuid.uuid4`) is different in every clone by itself. Generators that a function has made for itself are its own to
reseed, in an after-restore hook.
"""

import gc
import os
import runpy
import sys


def reseed_random(random):
    # Also what takes from it: shuffle, sample, and the node of uuid.uuid1 where there is no network card.
    random.seed()


def reseed_uuid(uuid):
    # libuuid keeps a clock sequence that cannot be made anew; the generator in Python takes one from `random` each time.
    uuid._generate_time_safe = None
    uuid._node = uuid._last_timestamp = None


def reseed_tempfile(tempfile):
    # Candidate names are drawn from a generator of its own, made anew at the next use.
    tempfile._name_sequence = None


def reseed_numpy(numpy_random):
    # The global generator of numpy.random.rand and its kin; numpy.random.default_rng() takes from the kernel each time.
    numpy_random.seed()


def reseed_openssl(ssl):
    # OpenSSL reseeds itself after a fork, which it knows by the process id; that is the same in all clones.
    ssl.RAND_add(os.urandom(48), 48.0)


GENERATORS = {
    "random": reseed_random,
    "uuid": reseed_uuid,
    "tempfile": reseed_tempfile,
    "numpy.random": reseed_numpy,
    "ssl": reseed_openssl,
}


def reseed():
    """Reseeds the generators of the modules that are loaded. What fails is said, and keeps no invocation from running."""
    for name, action in GENERATORS.items():
        module = sys.modules.get(name)
        if module is None:
            continue
        try:
            action(module)
        except Exception as error:  # a module of another make than this knows
            print(f"thaw: {name} could not be reseeded after the restore: {error!r}", file=sys.stderr, flush=True)


def prepare():
    """Before the snapshot: what is set up at the first use is set up once, and not in every clone."""
    try:
        # The runtime interface client loads it (with http.client) when it calls restore/next, after this.
        import ssl

        ssl.RAND_bytes(1)
    except ImportError:
        pass
    # What is garbage is not in the image. And glibc joins small free pieces of its heap at some later large allocation, which would write to hundreds of
    # pages in each clone: now it does so once.
    gc.collect()
    try:
        import ctypes

        ctypes.CDLL(None).malloc_trim(0)
    except (ImportError, AttributeError, OSError):
        pass  # an interpreter without ctypes, or another C library


def main():
    # As with -m: the current directory, not this file's.
    sys.path[0] = os.getcwd()
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
        # Hooks run in the order of registration after the restore, and in the reverse order before the snapshot: this one before, and after, any of the
        # function's.
        from snapshot_restore_py import register_after_restore, register_before_snapshot

        register_before_snapshot(prepare)
        register_after_restore(reseed)
    runpy.run_module("awslambdaric", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
