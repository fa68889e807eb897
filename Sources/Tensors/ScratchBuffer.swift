// SPDX-License-Identifier: Apache-2.0

/// Working memory that grows to the largest size asked for and is then reused: no allocation in a steady state.
package struct ScratchBuffer {
    private var buffer: PageBuffer?

    package init() {}

    /// At least `byteCount` bytes, 64-byte aligned, with unspecified contents. Invalidates earlier pointers when it
    /// grows.
    package mutating func reserve(_ byteCount: Int) throws(MemoryError) -> UnsafeMutableRawPointer {
        if let buffer, buffer.byteCount >= byteCount { return buffer.base }
        buffer = nil
        let fresh = try PageBuffer(byteCount: max(byteCount + byteCount / 4, 4096))
        buffer = fresh
        return fresh.base
    }
}
