// lock_qt.cpp - QSystemSemaphore as a way to keep others out.
// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// It puts a file into the directory for temporary files, and a System V semaphore by its key beside it. main.c set that
// directory for this run, and removes both.
#include "lock.h"

#include <QSystemSemaphore>

namespace
{

void enter(struct lock_site *site)
{
    site->handle = new QSystemSemaphore(QString::fromUtf8(site->name), 1);
}

void leave(struct lock_site *site)
{
    delete static_cast<QSystemSemaphore *>(site->handle);
}

LOCK_LOOPS(qt, QSystemSemaphore, !handle->acquire(), !handle->release())

} // namespace

const lock_way way_qt = {"Qt semaphore", nullptr, 0, nullptr, enter, qt_alone, qt_work, nullptr, leave};
