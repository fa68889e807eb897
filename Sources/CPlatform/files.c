// SPDX-License-Identifier: Apache-2.0
#include "cplatform_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

int cp_file_reserve(int fd, int64_t byte_count) {
    int result;
    do { result = fallocate(fd, 0, 0, byte_count); } while (result != 0 && errno == EINTR);
    return result;
}

int cp_rename_exclusively(const char *from, const char *to) {
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE);
}
