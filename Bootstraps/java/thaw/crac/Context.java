package thaw.crac;

/** Where resources are registered. */
public abstract class Context<R extends Resource> implements Resource {
  /** Adds a resource, which is held weakly: whoever registers it keeps it. */
  public abstract void register(R resource);
}
