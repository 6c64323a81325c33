/* The writer and the reader of everyday objects, a unit of their own. In order: arena <- plain <- plain_format <-
   plain_put <- plain_late <- plain_write; plain_format <- plain_get <- plain_get_late <-
   plain_read. */

#include "plain_read.h"
#include "plain_write.h"
