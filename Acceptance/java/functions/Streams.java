package functions;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestStreamHandler;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;

/** Bytes in, bytes out. */
public class Streams implements RequestStreamHandler {
  @Override
  public void handleRequest(InputStream input, OutputStream output, Context context) throws IOException {
    byte[] bytes = input.readAllBytes();
    output.write(("{\"length\":" + bytes.length + ",\"event\":").getBytes("UTF-8"));
    output.write(bytes);
    output.write('}');
  }
}
