#include "jailer_protocol.h"
