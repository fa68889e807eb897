// SPDX-License-Identifier: Apache-2.0
// File calls that Glibc's Swift module does not export. Linux only.
#pragma once
#include <stdint.h>

/// Reserves the first `byte_count` bytes of a file; 0, or -1 and errno (EOPNOTSUPP where the file system has no
/// such call; unlike posix_fallocate nothing is emulated by writing).
int cp_file_reserve(int fd, int64_t byte_count);
/// Renames without ever replacing: -1 and EEXIST when `to` exists.
int cp_rename_exclusively(const char *from, const char *to);
