#include "restore_program.h"
