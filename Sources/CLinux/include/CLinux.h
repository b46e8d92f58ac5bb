#pragma once

#include "engine_shims.h"
#include "socket_shims.h"
