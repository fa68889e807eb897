// SPDX-License-Identifier: Apache-2.0
internal import CZeroMQ
internal import Glibc

/// Immutable bytes that travel without being copied: out, libzmq borrows the memory and releases the owner
/// when the bytes have left; in, the payload owns the libzmq message. Slices share the owner. Usable and
/// releasable on any thread.
///
/// A payload received on a channel with credits holds its sender's credit until the last reference is
/// dropped: copy what is kept for long.
package struct Payload: Sendable {
    let storage: PayloadStorage
    private let offset: Int

    /// Bytes in this payload.
    package let byteCount: Int

    init(storage: PayloadStorage) {
        self.storage = storage
        offset = 0
        byteCount = storage.byteCount
    }

    private init(storage: PayloadStorage, offset: Int, byteCount: Int) {
        self.storage = storage
        self.offset = offset
        self.byteCount = byteCount
    }

    /// Copies `bytes`.
    package init(_ bytes: some Collection<UInt8>) {
        self.init(byteCount: bytes.count) { buffer in buffer.copyBytes(from: bytes) }
    }

    /// Allocates `byteCount` bytes and lets `fill` write all of them; they are never copied again.
    package init<E: Error>(byteCount: Int, fill: (UnsafeMutableRawBufferPointer) throws(E) -> Void) throws(E) {
        let base = UnsafeMutableRawPointer.allocate(byteCount: max(byteCount, 1), alignment: 64)
        do {
            try fill(UnsafeMutableRawBufferPointer(start: base, count: byteCount))
        } catch {
            base.deallocate()
            throw error
        }
        self.init(storage: PayloadStorage(base: base, byteCount: byteCount, owner: .allocation(base)))
    }

    /// Lends memory that `owner` keeps alive and unchanged until it is released, which may happen on a libzmq
    /// thread.
    package init(lending bytes: UnsafeRawBufferPointer, owner: any AnyObject & Sendable) {
        self.init(
            storage: PayloadStorage(base: bytes.baseAddress, byteCount: bytes.count, owner: .object(owner)))
    }

    /// The bytes of `range` (offsets into this payload), sharing memory.
    package func slice(_ range: Range<Int>) -> Payload {
        precondition(
            range.lowerBound >= 0 && range.upperBound <= byteCount, "slice \(range) of \(byteCount) bytes")
        return Payload(storage: storage, offset: offset + range.lowerBound, byteCount: range.count)
    }

    /// Gives access to the bytes; the pointer is valid inside `body` only.
    package func withUnsafeBytes<R, E: Error>(
        _ body: (UnsafeRawBufferPointer) throws(E) -> R
    ) throws(E) -> R {
        let result = try body(UnsafeRawBufferPointer(start: base, count: byteCount))
        withExtendedLifetime(storage) {}
        return result
    }

    /// A copy of the bytes.
    package var bytes: [UInt8] { withUnsafeBytes { Array($0) } }

    /// Start of the bytes; valid while `storage` lives.
    var base: UnsafeRawPointer? { storage.base.map { $0 + offset } }
}

/// The memory behind one or more payloads, released in the way it was obtained.
final class PayloadStorage: @unchecked Sendable {
    // @unchecked: immutable; zmq_msg_close on a received message is allowed on any thread that is its only
    // user (content and metadata are reference counted with atomics inside libzmq).

    enum Owner {
        case allocation(UnsafeMutableRawPointer)
        case object(any AnyObject & Sendable)
        case received(UnsafeMutablePointer<zmq_msg_t>, CreditToken?)
    }

    let base: UnsafeRawPointer?
    let byteCount: Int
    private let owner: Owner

    init(base: UnsafeRawPointer?, byteCount: Int, owner: Owner) {
        self.base = base
        self.byteCount = byteCount
        self.owner = owner
    }

    /// Takes over the content of `message`, which is left empty.
    init(taking message: UnsafeMutablePointer<zmq_msg_t>, token: CreditToken?) {
        let kept = UnsafeMutablePointer<zmq_msg_t>.allocate(capacity: 1)
        zmq_msg_init(kept)
        zmq_msg_move(kept, message)
        base = UnsafeRawPointer(zmq_msg_data(kept))
        byteCount = zmq_msg_size(kept)
        owner = .received(kept, token)
    }

    deinit {
        switch owner {
        case .allocation(let base): base.deallocate()
        case .object: break
        case .received(let message, _):
            zmq_msg_close(message)
            message.deallocate()
        }
    }
}
