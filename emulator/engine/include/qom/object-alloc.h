/*
 * A hook for where an object lies
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef QOM_OBJECT_ALLOC_H
#define QOM_OBJECT_ALLOC_H

#include "qom/object.h"

/*
 * Called for each new object, if set: memory for it that is never freed, or
 * NULL for ordinary memory.
 */
extern void *(*object_alloc_hook)(ObjectClass *klass, size_t size);

#endif /* QOM_OBJECT_ALLOC_H */
