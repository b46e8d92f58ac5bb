// Signals that come while the process stands still for its snapshot: none is lost to the original, which goes on.
#include "harness.h"

static volatile sig_atomic_t sent, last;
static void note(int signal, siginfo_t *information, void *context) {
  (void)signal, (void)context;
  sent++;
  last = information->si_value.sival_int;
}

int main(void) {
  struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_RESTART | SA_SIGINFO};
  CHECK(sigaction(SIGRTMIN, &action, NULL) == 0);
  wait_for_snapshot();
  // They are queued in order: the last one carries how many there were.
  for (int i = 0; i < 5000 && last != -1; i++) usleep(1000);
  char text[32];
  snprintf(text, sizeof text, "%d ", (int)sent);
  harness_send(text);
  succeeded();
}
