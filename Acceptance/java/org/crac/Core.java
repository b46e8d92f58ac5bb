package org.crac;

import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.util.Map;
import java.util.WeakHashMap;

/** A stand-in for the library of that name, with its way of finding a provider: the package named by a property, and a proxy for each resource. */
public final class Core {
  private static final Context<Resource> GLOBAL = new Global();

  private Core() {}

  public static Context<Resource> getGlobalContext() {
    return GLOBAL;
  }

  private static final class Global extends Context<Resource> {
    /** The provider holds the proxies weakly: they live as long as their resources. */
    private final Map<Resource, Object> proxies = new WeakHashMap<>();

    @Override
    public void register(Resource resource) {
      try {
        String provider = System.getProperty("org.crac.Core.Compat");
        Class<?> type = Class.forName(provider + ".Resource");
        Class.forName(provider + ".CheckpointException");
        Class.forName(provider + ".RestoreException");
        Object context = Class.forName(provider + ".Core").getMethod("getGlobalContext").invoke(null);
        Method register = Class.forName(provider + ".Context").getMethod("register", type);
        Object proxy =
            Proxy.newProxyInstance(
                Core.class.getClassLoader(),
                new Class<?>[] {type},
                (self, method, arguments) -> {
                  if (method.getName().equals("beforeCheckpoint")) resource.beforeCheckpoint(this);
                  else if (method.getName().equals("afterRestore")) resource.afterRestore(this);
                  else return method.getName().equals("hashCode") ? (Object) System.identityHashCode(self) : method.getName().equals("equals") ? (Object) (self == arguments[0]) : "proxy";
                  return null;
                });
        proxies.put(resource, proxy);
        register.invoke(context, proxy);
      } catch (ReflectiveOperationException error) {
        throw new IllegalStateException(error);
      }
    }

    @Override
    public void beforeCheckpoint(Context<? extends Resource> context) {
      throw new UnsupportedOperationException();
    }

    @Override
    public void afterRestore(Context<? extends Resource> context) {
      throw new UnsupportedOperationException();
    }
  }
}
