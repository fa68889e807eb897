// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <zlib.h>

// inflateInit2 is a macro: 15 bits of window, and 16 for gzip's own header and checksum.
static inline int apus_gzip_begin(z_stream *stream) { return inflateInit2(stream, 15 + 16); }
