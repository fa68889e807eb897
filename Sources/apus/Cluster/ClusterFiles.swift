// SPDX-License-Identifier: Apache-2.0
import ClusterProtocol
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

    /// Where `apus up` keeps things unless told otherwise: $APUS_HOME, or .apus in the home directory that $HOME names
    /// (not that of the user database: it need not be this user's to write, or need not exist).
    /// - Throws: ``ClientError`` when the environment names none.
    static func standard() throws -> URL {
        let environment = ProcessInfo.processInfo.environment
        func directory(_ name: String, _ part: String) -> URL? {
            guard let path = environment[name], !path.isEmpty else { return nil }
            let url = URL(fileURLWithPath: path, isDirectory: true)
            return part.isEmpty ? url : url.appendingPathComponent(part, isDirectory: true)
        }
        if let found = directory("APUS_HOME", "") ?? directory("HOME", ".apus") ?? directory("XDG_STATE_HOME", "apus") {
            return found
        }
        throw ClientError(
            "neither HOME nor APUS_HOME is set; set APUS_HOME to a directory for the keys and the state of clusters",
            exitCode: 3)
    }

    /// Makes the directory, fresh keys and the allow-list. Keys live as long as one `up`.
    func makeKeys(workerCount: Int) throws {
        try makeDirectory(state)
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

    static func file() throws -> URL {
        if let path = ProcessInfo.processInfo.environment["APUS_CONTEXT"], !path.isEmpty {
            return URL(fileURLWithPath: path)
        }
        return try ClusterFiles.standard().appendingPathComponent("context.json")
    }

    func save(to url: URL) throws {
        try makeDirectory(url.deletingLastPathComponent())
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        try encoder.encode(self).write(to: url, options: .atomic)
    }

    /// Forgets the cluster, unless another one has been started since.
    func remove(from url: URL) {
        guard let known = try? Self.load(url.path), known.address == address, known.key == key else { return }
        try? FileManager.default.removeItem(at: url)
    }

    static func load(_ path: String?) throws -> ClusterContext {
        let url = try path.map { URL(fileURLWithPath: $0) } ?? file()
        guard let data = try? Data(contentsOf: url) else {
            throw ClientError(
                "\(url.path): no cluster is known here; start one with apus up, or name its context with --context")
        }
        do { return try JSONDecoder().decode(Self.self, from: data) } catch {
            throw ClientError(
                "\(url.path): is no context file; remove it, or name another one with --context", exitCode: 3)
        }
    }

    /// Refuses to take the place of a cluster that lives: nobody would find that one any more. What a dead one left
    /// behind is no hindrance.
    /// - Throws: ``ClientError`` that names it.
    static func requireFree(_ url: URL) throws {
        guard let known = try? load(url.path), let owner = known.owner() else { return }
        throw ClientError(
            "a cluster is running already (\(owner)), and other commands find it by \(url.path); stop it first, "
                + "or give this one its own place: apus up --state DIRECTORY --context FILE")
    }

    /// Who keeps the cluster of this context alive; nil when it is dead.
    private func owner() -> String? {
        let state = URL(fileURLWithPath: address).deletingLastPathComponent()
        let directory = state.deletingLastPathComponent()
        if let process = DirectoryLock.holder(of: directory) { return "process \(process), state in \(directory.path)" }
        if DirectoryLock.isKnown(in: directory) { return nil }
        // No apus up has made it: a coordinator started by hand, perhaps on another host.
        guard let client = try? client() else { return nil }
        defer { client.close() }
        guard (try? client.request(seconds: 2) { $0.listWorkers = WireListWorkers() }) != nil else { return nil }
        return "its address file is \(address)"
    }

    func client() throws -> ClusterClient {
        let file = URL(fileURLWithPath: address)
        let keys: CurveKeyPair
        do { keys = try KeyFile.read(key) } catch { throw ClientError(error.description, exitCode: 3) }
        return try ClusterClient(keys: keys) { (try? CoordinatorAddress(file: file))?.peer }
    }
}

/// Makes a directory that only this user can enter, and those above it.
func makeDirectory(_ url: URL) throws {
    do {
        try FileManager.default.createDirectory(
            at: url, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    } catch {
        // Foundation names no reason.
        let reason =
            mkdir(url.path, 0o700) == 0 || errno == EEXIST ? "it is no directory" : String(cString: strerror(errno))
        throw ClientError(
            "\(url.path) cannot be made: \(reason); choose another place with --state, APUS_HOME or HOME",
            exitCode: 3)
    }
}
