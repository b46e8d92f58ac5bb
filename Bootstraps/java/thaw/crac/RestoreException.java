package thaw.crac;

/** Resources failed after a restore; they are the suppressed exceptions. */
public class RestoreException extends Exception {
  private static final long serialVersionUID = 1;
}
