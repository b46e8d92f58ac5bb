package thaw.crac;

/** Resources failed before a snapshot; they are the suppressed exceptions. */
public class CheckpointException extends Exception {
  private static final long serialVersionUID = 1;
}
