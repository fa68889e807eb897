// SPDX-License-Identifier: Apache-2.0
import ClusterTransport
import CoordinatorRuntime
import Foundation

/// The files of a cluster on one machine: keys, allow-list, the coordinator's state.
struct ClusterFiles {
    let directory: URL

    var state: URL { directory.appendingPathComponent("coordinator", isDirectory: true) }
    var address: URL { state.appendingPathComponent(CoordinatorAddress.fileName) }
    var allowList: URL { directory.appendingPathComponent("allow-list") }
    var coordinatorKey: URL { directory.appendingPathComponent("coordinator.key") }
    var clientKey: URL { directory.appendingPathComponent("client.key") }
    func workerKey(_ index: Int) -> URL { directory.appendingPathComponent("worker-\(index).key") }
    func log(_ name: String) -> URL { directory.appendingPathComponent("\(name).log") }

    /// Where `apus up` keeps things unless told otherwise.
    static var standard: URL {
        if let home = ProcessInfo.processInfo.environment["APUS_HOME"] {
            return URL(fileURLWithPath: home, isDirectory: true)
        }
        return FileManager.default.homeDirectoryForCurrentUser.appendingPathComponent(".apus", isDirectory: true)
    }

    /// Makes the directory, fresh keys and the allow-list. Keys live as long as one `up`.
    func makeKeys(workerCount: Int) throws {
        try FileManager.default.createDirectory(
            at: state, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        let allowed = AllowList()
        func make(_ url: URL, _ role: Role) throws {
            let keys = try CurveKeyPair.generate()
            try? FileManager.default.removeItem(at: url)
            try KeyFile.write(keys, to: url.path)
            allowed.add(keys.publicKey, role: role)
        }
        let coordinator = try CurveKeyPair.generate()
        try? FileManager.default.removeItem(at: coordinatorKey)
        try KeyFile.write(coordinator, to: coordinatorKey.path)
        try make(clientKey, .admin)
        for index in 1...workerCount { try make(workerKey(index), .worker) }
        try? FileManager.default.removeItem(at: allowList)
        try allowed.write(to: allowList.path)
        try? FileManager.default.removeItem(at: address)
    }
}

/// Which cluster the verbs talk to: what the last `apus up` saved, or `--context`.
struct ClusterContext: Codable {
    /// The coordinator's address file.
    var address: String
    /// Secret key of this client.
    var key: String

    static var file: URL {
        if let path = ProcessInfo.processInfo.environment["APUS_CONTEXT"] { return URL(fileURLWithPath: path) }
        return ClusterFiles.standard.appendingPathComponent("context.json")
    }

    func save(to url: URL = Self.file) throws {
        try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        try encoder.encode(self).write(to: url, options: .atomic)
    }

    /// Forgets the cluster, unless another one has been started since.
    func remove() {
        guard let known = try? Self.load(nil), known.address == address, known.key == key else { return }
        try? FileManager.default.removeItem(at: Self.file)
    }

    static func load(_ path: String?) throws -> ClusterContext {
        let url = path.map { URL(fileURLWithPath: $0) } ?? file
        guard let data = try? Data(contentsOf: url) else {
            throw ClientError(
                "\(url.path): no cluster is known here; start one with apus up, or name its context with --context")
        }
        do { return try JSONDecoder().decode(Self.self, from: data) } catch {
            throw ClientError("\(url.path): is no context file: \(error.localizedDescription)", exitCode: 3)
        }
    }

    func client() throws -> ClusterClient {
        let file = URL(fileURLWithPath: address)
        return try ClusterClient(keys: KeyFile.read(key)) { (try? CoordinatorAddress(file: file))?.peer }
    }
}
