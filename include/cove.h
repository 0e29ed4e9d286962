/* cove.h - all of Cove's interface. Each header under cove/ can also be included alone.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef COVE_H
#define COVE_H

#include <cove/barrier.h>
#include <cove/base.h>
#include <cove/condition.h>
#include <cove/counter.h>
#include <cove/event.h>
#include <cove/heap.h>
#include <cove/mutex.h>
#include <cove/object.h>
#include <cove/once.h>
#include <cove/region.h>
#include <cove/revision.h>
#include <cove/rwlock.h>
#include <cove/segment.h>
#include <cove/semaphore.h>
#include <cove/stream.h>
#include <cove/sync.h>
#include <cove/transaction.h>

#endif
