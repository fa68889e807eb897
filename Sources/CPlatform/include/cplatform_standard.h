// SPDX-License-Identifier: Apache-2.0
// What a process finds when it starts: standard descriptors and limits. Linux only.
#pragma once
#include <stddef.h>
#include <stdint.h>

/// Gives descriptors 0, 1 and 2 that are closed to /dev/null, so that no file of ours takes their place and is written
/// over by messages. What was closed for output stays unwritable.
void cp_open_standard_descriptors(void);

/// From now on a failed write to standard output is told once on standard error (by `prefix` and the reason) and makes
/// the exit status 1 where it would be 0; a reader that is gone ends the process by SIGPIPE, as it ends other tools.
void cp_watch_output(const char *prefix);
/// Writes to standard output, buffered.
void cp_output(const void *bytes, size_t byte_count);
/// Lets out what is buffered.
void cp_flush_output(void);

enum cp_limit { CP_LIMIT_OPEN_FILES, CP_LIMIT_ADDRESS_SPACE, CP_LIMIT_FILE_SIZE };

/// Raises the soft limit to the hard one, at most to `ceiling`; returns what then holds, UINT64_MAX for none.
uint64_t cp_raise_limit(enum cp_limit limit, uint64_t ceiling);
/// Starts up to `count` threads and lets them end again; returns how many could be started.
int cp_startable_threads(int count);
