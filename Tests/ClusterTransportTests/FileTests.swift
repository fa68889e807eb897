// SPDX-License-Identifier: Apache-2.0
import Foundation
import RuntimeSupport
import TestSupport
import Testing

@testable import ClusterTransport

@Suite("Key files, chunks, queues and the in-memory transport")
struct FileTests {
    private func temporaryPath() -> String {
        NSTemporaryDirectory() + "/transport-\(UUID().uuidString)"
    }

    private func code(_ body: () throws -> Void) -> TransportError.Code? {
        do {
            try body()
            return nil
        } catch { return (error as? TransportError)?.code }
    }

    @Test("a key file round-trips, is private, and is refused when others may read it")
    func keyFile() throws {
        let path = temporaryPath()
        defer { unlink(path) }
        let keys = try CurveKeyPair.generate()
        try KeyFile.write(keys, to: path)
        #expect(try KeyFile.read(path) == keys)
        #expect(!"\(keys)".contains(keys.secretKey))
        let attributes = try FileManager.default.attributesOfItem(atPath: path)
        #expect((attributes[.posixPermissions] as? Int) == 0o600)
        for mode: mode_t in [0o640, 0o604, 0o666] {
            chmod(path, mode)
            #expect(code { _ = try KeyFile.read(path) } == .filePermissions)
        }
        chmod(path, 0o600)
        let link = path + ".link"
        symlink(path, link)
        defer { unlink(link) }
        #expect(code { _ = try KeyFile.read(link) } == .fileAccess)
        #expect(code { _ = try KeyFile.read(path + ".absent") } == .fileAccess)
    }

    @Test("damaged key files and lists name the line")
    func damaged() throws {
        let path = temporaryPath()
        defer { unlink(path) }
        let (keys, other) = (try CurveKeyPair.generate(), try CurveKeyPair.generate())
        let bad = [
            "", "secret short", "secret \(keys.secretKey)\nsecret \(keys.secretKey)", "hello world",
            "public \(other.publicKey.rawValue)\nsecret \(keys.secretKey)",
        ]
        for text in bad {
            try PrivateFile.write(text, to: path)
            #expect(code { _ = try KeyFile.read(path) } == .badKey, "\(text)")
        }
        try PrivateFile.write(
            "# people\n\n\(keys.publicKey.rawValue) worker\n\(other.publicKey.rawValue) king\n", to: path)
        do {
            _ = try AllowList(file: path)
            Issue.record("a role that does not exist was accepted")
        } catch { #expect(error.message.contains(":4:")) }
        let list = AllowList([keys.publicKey: .admin, other.publicKey: .coordinator])
        try list.write(to: path)
        let read = try AllowList(file: path)
        #expect(read.role(of: keys.publicKey) == .admin)
        #expect(read.role(of: other.publicKey) == .coordinator)
        read.remove(other.publicKey)
        #expect(read.role(of: other.publicKey) == nil)
    }

    @Test("a damaged key file is refused or gives the same keys; a damaged list gives no key another role")
    func everyDamage() throws {
        let keys = try CurveKeyPair.generate()
        let file = Array("# CURVE key pair.\npublic \(keys.publicKey.rawValue)\nsecret \(keys.secretKey)\n".utf8)
        var refused = 0
        for bytes in Array(Damage.truncations(file)) + Array(Damage.flips(file)) {
            do throws(TransportError) {
                let read = try KeyFile.parse(String(decoding: bytes, as: UTF8.self), "keys")
                // Curve25519 ignores some bits of a secret: another text may be the same key.
                #expect(read.publicKey == keys.publicKey)
            } catch { refused += 1 }
        }
        #expect(refused > file.count * 200)
        let list = Array("\(keys.publicKey.rawValue) worker\n".utf8)
        for bytes in Array(Damage.truncations(list)) + Array(Damage.flips(list)) {
            guard let read = try? AllowList(text: String(decoding: bytes, as: UTF8.self), "list") else { continue }
            let role = read.role(of: keys.publicKey)
            #expect(role == nil || role == .worker)
        }
    }

    @Test("chunks put together again are the content, interleaved and for every size around a chunk")
    func chunks() throws {
        let (a, b) = (PeerIdentity("a"), PeerIdentity("b"))
        var reassembler = BulkReassembler(transferByteCountMax: 10_000, totalByteCountMax: 30_000)
        for size in [0, 1, 99, 100, 101, 250, 1000] {
            let content = pattern(size, seed: UInt64(size))
            let first = Array(
                BulkChunker.messages(transfer: 1, content: Payload(content), to: a, chunkByteCount: 100))
            let second = Array(
                BulkChunker.messages(transfer: 1, content: Payload(content), to: b, chunkByteCount: 100))
            var finished: [BulkReassembler.Transfer] = []
            for (x, y) in zip(first, second) {
                if let done = try reassembler.accept(x) { finished.append(done) }
                if let done = try reassembler.accept(y) { finished.append(done) }
            }
            #expect(finished.map(\.peer) == [a, b])
            #expect(finished.allSatisfy { $0.content == content })
            #expect(reassembler.openCount == 0)
        }
    }

    @Test("chunks out of order, repeated, too long or too many are refused and forgotten")
    func badChunks() throws {
        let peer = PeerIdentity("a")
        func make() -> BulkReassembler {
            BulkReassembler(transferByteCountMax: 1000, totalByteCountMax: 1500, openCountMax: 2)
        }
        let content = Payload(pattern(300, seed: 1))
        let chunks = Array(BulkChunker.messages(transfer: 7, content: content, to: peer, chunkByteCount: 100))
        var reassembler = make()
        #expect(code { _ = try reassembler.accept(chunks[1]) } == .malformed)
        _ = try reassembler.accept(chunks[0])
        #expect(code { _ = try reassembler.accept(chunks[0]) } == .malformed)
        #expect(reassembler.openCount == 0)
        let large = Array(
            BulkChunker.messages(transfer: 8, content: Payload(pattern(1001, seed: 2)), to: peer))
        #expect(code { _ = try reassembler.accept(large[0]) } == .overLimit)
        for transfer: UInt64 in 1...2 {
            let part = Array(
                BulkChunker.messages(
                    transfer: transfer, content: Payload(pattern(700, seed: 3)), to: peer, chunkByteCount: 100
                ))
            _ = try reassembler.accept(part[0])
        }
        #expect(code { _ = try reassembler.accept(chunks[0]) } == .overLimit)
        reassembler.forget(peer: peer)
        #expect(try reassembler.accept(chunks[0]) == nil)
        #expect(
            code { _ = try reassembler.accept(Message(peer: peer, channel: .bulk, parts: [content])) }
                == .malformed)
    }

    @Test("lent memory is released exactly when the last payload is gone")
    func lending() {
        final class Owner: Sendable {}
        var owner: Owner? = Owner()
        weak let watched = owner
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: 100, alignment: 8)
        defer { bytes.deallocate() }
        bytes.initializeMemory(as: UInt8.self, repeating: 4)
        if let kept = owner {
            var slice: Payload? = Payload(lending: UnsafeRawBufferPointer(bytes), owner: kept).slice(10..<20)
            owner = nil
            #expect(slice?.bytes == Array(repeating: 4, count: 10))
            slice = nil
        }
        #expect(watched == nil)
    }

    @Test("the in-memory network delivers, loses, duplicates and delays as its rule says")
    func inMemory() throws {
        let network = InMemoryNetwork { _, message in
            switch message.parts[0].bytes[0] {
            case 1: .lose
            case 2: .duplicate
            case 3: .delay(milliseconds: 50)
            default: .deliver
            }
        }
        defer { network.close() }
        let queue = BoundedQueue<Message>(itemCountMax: 100, byteCountMax: 1 << 20)
        let (a, b) = (PeerIdentity("a"), PeerIdentity("b"))
        let log = EventLog()
        let sender = InMemoryTransport(identity: a, network: network, deliveries: .direct { _ in }) {
            log.record($0)
        }
        let receiver = InMemoryTransport(
            identity: b, network: network,
            deliveries: ChannelDeliveries(
                control: .queue(queue), exchange: .queue(queue), bulk: .queue(queue)))
        #expect(code { try sender.send(Message(peer: b, channel: .control, parts: [])) } == .unknownPeer)
        let address = PeerAddress(identity: b, endpoints: .anyPort(on: "127.0.0.1"))
        try sender.connect(to: address)
        #expect(log.waitConnected(b))
        for kind: UInt8 in [0, 3, 1, 2, 0] {
            try sender.send(Message(peer: b, channel: .exchange, parts: [Payload([kind])]))
        }
        let kinds = (0..<5).map { _ in queue.pop()?.parts[0].bytes[0] }
        #expect(kinds == [0, 2, 2, 0, 3])
        receiver.close()
        #expect(log.wait { $0 == .disconnected(b, .bulk, droppedCount: 0) } != nil)
    }
}
