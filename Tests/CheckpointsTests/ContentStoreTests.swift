// SPDX-License-Identifier: Apache-2.0
import Checkpoints
import Foundation
import Testing

@Suite("Content store")
struct ContentStoreTests {
    @Test("what is put is got, once, and survives reopening")
    func roundTrip() throws {
        try withTemporaryDirectory { directory in
            let root = directory.appendingPathComponent("store")
            let store = try ContentStore(root)
            let hash = try store.put(Array("abc".utf8))
            #expect(hash == ContentHash(of: Array("abc".utf8)) && store.contains(hash))
            #expect(try store.put(Array("abc".utf8)) == hash && store.byteCount == 3)
            let empty = try store.put([])
            let file = try MappedFile(root.appendingPathComponent(hash.hexadecimal))
            #expect(try store.put(file) == hash)
            #expect(try store.get(empty).byteCount == 0)
            // Unfinished and foreign files are none of the store's.
            try Data([1]).write(to: root.appendingPathComponent(".x.partial"))
            let again = try ContentStore(root)
            #expect(try again.get(hash).withBytes { Array($0) } == Array("abc".utf8))
            #expect(try again.list().map(\.hash) == [hash, empty].sorted() && again.byteCount == 3)
            try again.remove(hash)
            try again.remove(hash)
            #expect(again.byteCount == 0 && checkpointError { _ = try again.get(hash) }?.code == .notFound)
        }
    }

    @Test("a damaged blob is noticed when it is read")
    func corruption() throws {
        try withTemporaryDirectory { directory in
            let store = try ContentStore(directory.appendingPathComponent("store"))
            let hash = try store.put([1, 2, 3])
            try Data([1, 2, 4]).write(to: store.directory.appendingPathComponent(hash.hexadecimal))
            let error = checkpointError { _ = try store.get(hash) }
            #expect(error?.code == .corrupted && error?.file?.hasSuffix(hash.hexadecimal) == true)
        }
    }

    @Test("the limits hold, also across reopening")
    func limits() throws {
        try withTemporaryDirectory { directory in
            let root = directory.appendingPathComponent("store")
            let store = try ContentStore(root, byteCountMax: 10, blobCountMax: 2)
            try store.put([UInt8](repeating: 1, count: 6))
            #expect(
                checkpointError { try store.put([UInt8](repeating: 2, count: 5)) }?.code == .limitExceeded)
            try store.put([3])
            #expect(checkpointError { try store.put([4]) }?.code == .limitExceeded)
            let again = try ContentStore(root, byteCountMax: 7)
            #expect(checkpointError { try again.put([5]) }?.code == .limitExceeded)
            #expect(try listing(root).count == 2)
        }
    }
}
