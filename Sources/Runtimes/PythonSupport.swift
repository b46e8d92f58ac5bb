/// What Thaw adds to a Python runtime: a `sitecustomize` module, which CPython imports at its start
/// (docs.python.org, `site`).
enum PythonSupport {
  /// Changes with the module: an installed bundle of another version is not used.
  static let version = "support-1"

  /// Under snap-start it registers the first before-snapshot and the first after-restore hook. Before-snapshot
  /// hooks run in reverse order of registration and
  /// after-restore hooks in order: this one is the last before the snapshot and the first after it, around all of
  /// the user's.
  static let sitecustomize = """
    import os

    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
        import gc
        import sys

        from snapshot_restore_py import register_after_restore, register_before_snapshot

        def _before_snapshot():
            # Objects that outlive init are never looked at by the collector again: their pages stay shared between environments.
            gc.collect()
            gc.freeze()

        def _after_restore():
            # Generators in user space would go on alike in every environment.
            modules = sys.modules
            if "random" in modules:
                modules["random"].seed()
            if "numpy" in modules and "numpy.random" in modules:
                modules["numpy.random"].seed()
            if "tempfile" in modules:
                modules["tempfile"]._name_sequence = None
            if "ssl" in modules:
                modules["ssl"].RAND_add(os.urandom(32), 32.0)

        register_before_snapshot(_before_snapshot)
        register_after_restore(_after_restore)

    """
}
