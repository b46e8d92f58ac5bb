package thaw.crac;

/** What wants to be told of a snapshot. `org.crac` passes its own resources on to this interface (see {@link Core}). */
public interface Resource {
  void beforeCheckpoint(Context<? extends Resource> context) throws Exception;

  void afterRestore(Context<? extends Resource> context) throws Exception;
}
