// SPDX-License-Identifier: Apache-2.0
internal import CPlatform
internal import Glibc

/// The sandbox of a process that reads what models write: its program and libraries, and the files that a job names, all
/// read-only.
struct VerifierSandbox {
    private let executable: String
    private let binds: [String]
    private let diskByteCount: UInt64
    /// Folders of the libraries that lie outside of /usr.
    let libraryPath: String

    init(_ configuration: VerifierConfiguration, readable: [String]) {
        executable = Self.resolved(configuration.executable)
        diskByteCount = configuration.fileByteCount
        // This process and its children are of one build: they load the same libraries.
        let libraries = Self.libraries.filter { !Self.isOfTheSystem($0) }
        var folders: [String] = []
        for library in libraries {
            let folder = String(library[..<(library.lastIndex(of: "/") ?? library.startIndex)])
            if !folders.contains(folder) { folders.append(folder) }
        }
        libraryPath = folders.joined(separator: ":")
        let mounted =
            libraries.map { ($0, $0) } + [(executable, executable)].filter { !Self.isOfTheSystem($0.0) }
            + readable.map { ($0, $0) }
        binds = mounted.flatMap { ["--ro-bind", Self.resolved($0.0), $0.1] }
    }

    /// Bubblewrap with its arguments.
    func command(_ environment: [String: String], _ arguments: [String]) -> [String] {
        let variables = environment.sorted { $0.key < $1.key }.flatMap { ["--setenv", $0.key, $0.value] }
        return [Sandbox.program] + Sandbox.isolation + variables + Sandbox.sealing(diskByteCount, binds: binds)
            + [executable] + arguments
    }

    private static func isOfTheSystem(_ path: String) -> Bool {
        ["/usr/", "/lib/", "/lib64/", "/bin/"].contains { path.hasPrefix($0) }
    }

    /// Where a path leads; itself where it leads nowhere.
    private static func resolved(_ path: String) -> String {
        guard let real = realpath(path, nil) else { return path }
        defer { free(real) }
        return String(cString: real)
    }

    private static var libraries: [String] {
        var paths: [String] = []
        withUnsafeMutablePointer(to: &paths) { paths in
            cp_loaded_libraries(
                { path, context in
                    guard let path, let paths = context?.assumingMemoryBound(to: [String].self) else { return }
                    paths.pointee.append(String(cString: path))
                }, paths)
        }
        return paths
    }
}
