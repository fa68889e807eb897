// SPDX-License-Identifier: Apache-2.0
internal import CPlatform

/// Anonymous zeroed memory on huge pages, freed with its last reference.
///
/// Weights live here and not in mapped files: mapped files get 4 KiB pages, which cost a third of the bandwidth
/// of one stream.
package final class PageBuffer: @unchecked Sendable {
    // @unchecked: the address never changes; who may write the bytes is the owner's business.
    package let base: UnsafeMutableRawPointer
    package let byteCount: Int

    /// - Throws: ``MemoryError`` when the kernel refuses.
    package init(byteCount: Int) throws(MemoryError) {
        guard byteCount >= 0, let base = cp_pages_allocate(byteCount) else {
            throw MemoryError(byteCount: byteCount)
        }
        self.base = base
        self.byteCount = byteCount
    }

    deinit { cp_pages_free(base, byteCount) }

    package func floats(at byteOffset: Int = 0) -> UnsafeMutablePointer<Float> {
        (base + byteOffset).assumingMemoryBound(to: Float.self)
    }
}

/// Memory that could not be had.
package struct MemoryError: Error, CustomStringConvertible {
    package let byteCount: Int
    package var description: String {
        "cannot allocate \(byteCount) bytes; free memory, use fewer layers or more workers"
    }
}
