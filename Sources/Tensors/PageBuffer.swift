// SPDX-License-Identifier: Apache-2.0
internal import CPlatform
internal import Glibc

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

    /// Memory whose contents may live on a disk.
    /// - Parameter directory: where an unnamed file takes the room at once.
    /// - Throws: ``MemoryError`` when the disk has no room.
    package init(byteCount: Int, onDisk directory: String) throws(MemoryError) {
        guard byteCount >= 0, let base = cp_pages_on_disk(directory, byteCount) else {
            throw MemoryError(byteCount: byteCount, directory: directory, reason: String(cString: strerror(errno)))
        }
        self.base = base
        self.byteCount = byteCount
    }

    /// Lets go of resident pages of memory on a disk; contents stay.
    package func release() { cp_pages_release(base, byteCount) }

    deinit { cp_pages_free(base, byteCount) }

    package func floats(at byteOffset: Int = 0) -> UnsafeMutablePointer<Float> {
        (base + byteOffset).assumingMemoryBound(to: Float.self)
    }
}

/// Memory that could not be had.
package struct MemoryError: Error, CustomStringConvertible {
    package let byteCount: Int
    /// Of memory on a disk: where, and what the kernel said.
    private let place: String?

    package init(byteCount: Int) {
        self.byteCount = byteCount
        place = nil
    }

    init(byteCount: Int, directory: String, reason: String) {
        self.byteCount = byteCount
        place = "\(directory): \(reason)"
    }

    package var description: String {
        if let place { return "cannot take \(byteCount) bytes of \(place)" }
        return "cannot allocate \(byteCount) bytes; free memory, use fewer layers or more workers"
    }
}
