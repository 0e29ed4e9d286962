/* cove.h - all of Cove's interface. Each header under cove/ can also be included alone.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef COVE_H
#define COVE_H

#include <cove/base.h>
#include <cove/heap.h>
#include <cove/mutex.h>
#include <cove/object.h>
#include <cove/region.h>
#include <cove/segment.h>
#include <cove/stream.h>
#include <cove/transaction.h>

#endif
