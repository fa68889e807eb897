// SPDX-License-Identifier: Apache-2.0
import Foundation
import TestSupport
import Testing

/// The files that an operator takes, checked by the programs that will read them.
@Suite("Files for launch engines")
struct LaunchFilesTests {
    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    private static func files(_ directory: String, _ suffix: String) throws -> [URL] {
        let folder = root.appendingPathComponent("Cluster/\(directory)")
        let found = try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
            .filter { $0.lastPathComponent.hasSuffix(suffix) }
        try #require(!found.isEmpty, "no \(suffix) in \(folder.path)")
        return found.sorted { $0.path < $1.path }
    }

    private static func run(_ program: String, _ arguments: [String]) throws -> CommandResult {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = arguments
        process.standardInput = FileHandle.nullDevice
        let output = Pipe()
        (process.standardOutput, process.standardError) = (output, output)
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return CommandResult(status: process.terminationStatus, output: text, errors: "")
    }

    @Test("manifests are valid in three releases of Kubernetes, and a typo is found")
    func manifests() throws {
        let result = try Self.run(Self.root.appendingPathComponent("Scripts/validate-kubernetes").path, [])
        if result.status == 77 { return print(result.output) }
        #expect(result.status == 0, "\(result.output)")
        #expect(result.output.split(separator: "\n").count { $0.contains("valid; planted typo found") } == 3)
    }

    @Test("systemd takes the units")
    func units() throws {
        let analyze = "/usr/bin/systemd-analyze"
        guard FileManager.default.isExecutableFile(atPath: analyze) else {
            return print("skipped: units are checked with systemd-analyze: apt-get install systemd")
        }
        let bench = try Workbench("units")
        var units: [String] = []
        for file in try Self.files("systemd", ".service") {
            let text = try String(contentsOf: file, encoding: .utf8)
            // systemd looks whether the program is there, and for an instance of a template.
            let name = file.lastPathComponent.replacing("@.", with: "@1.")
            try bench.write(name, text.replacing("/usr/local/bin/apus", with: "/bin/true"))
            units.append(bench.url(name).path)
        }
        let result = try Self.run(analyze, ["verify", "--man=no"] + units)
        #expect(result.status == 0 && result.output.isEmpty, "\(result.output)")
        let text = bench.text("apus-coordinator.service")
        try bench.write("apus-coordinator.service", text.replacing("Restart=always", with: "Restrat=always"))
        let planted = try Self.run(analyze, ["verify", "--man=no"] + units)
        #expect(planted.output.contains("Restrat"), "a planted typo was not found")
    }

    @Test("batch files are scripts that bash can read")
    func batchFiles() throws {
        for file in try Self.files("slurm", ".sbatch") {
            let result = try Self.run("/usr/bin/env", ["bash", "-n", file.path])
            #expect(result.status == 0, "\(result.output)")
            // sbatch reads options up to the first command only.
            let lines = try String(contentsOf: file, encoding: .utf8).split(separator: "\n")
            let command = try #require(lines.firstIndex { !$0.hasPrefix("#") })
            #expect(lines[..<command].contains { $0.hasPrefix("#SBATCH") && $0.contains("--requeue") })
            #expect(!lines[command...].contains { $0.hasPrefix("#SBATCH") })
        }
    }
}
