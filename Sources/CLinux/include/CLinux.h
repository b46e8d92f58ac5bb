#pragma once

#include "engine_shims.h"
