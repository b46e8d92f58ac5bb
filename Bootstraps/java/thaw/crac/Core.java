package thaw.crac;

import java.lang.ref.WeakReference;
import java.util.ArrayList;
import java.util.List;

/**
 * The provider behind `org.crac`: that library looks for a package named by the property `org.crac.Core.Compat` with these five classes, and passes
 * its resources on to it.
 */
public final class Core {
  private static final Global GLOBAL = new Global();

  private Core() {}

  public static Context<Resource> getGlobalContext() {
    return GLOBAL;
  }

  /** The platform decides when a snapshot is taken, not the function. */
  public static void checkpointRestore() throws CheckpointException, RestoreException {
    throw new UnsupportedOperationException("a snapshot is taken when a version is published");
  }

  private static final class Global extends Context<Resource> {
    private final List<WeakReference<Resource>> resources = new ArrayList<>();

    @Override
    public synchronized void register(Resource resource) {
      resources.removeIf(reference -> reference.get() == null);
      resources.add(new WeakReference<>(resource));
    }

    private synchronized List<Resource> all() {
      List<Resource> all = new ArrayList<>();
      for (WeakReference<Resource> reference : resources) {
        Resource resource = reference.get();
        if (resource != null) all.add(resource);
      }
      return all;
    }

    /** In the reverse order of registration; all are told, whatever fails. */
    @Override
    public void beforeCheckpoint(Context<? extends Resource> context) throws CheckpointException {
      List<Resource> all = all();
      CheckpointException failure = null;
      for (int i = all.size() - 1; i >= 0; i--) {
        try {
          all.get(i).beforeCheckpoint(this);
        } catch (Exception error) {
          if (failure == null) failure = new CheckpointException();
          failure.addSuppressed(error);
        }
      }
      if (failure != null) throw failure;
    }

    /** In the order of registration. */
    @Override
    public void afterRestore(Context<? extends Resource> context) throws RestoreException {
      RestoreException failure = null;
      for (Resource resource : all()) {
        try {
          resource.afterRestore(this);
        } catch (Exception error) {
          if (failure == null) failure = new RestoreException();
          failure.addSuppressed(error);
        }
      }
      if (failure != null) throw failure;
    }
  }
}
