// SPDX-License-Identifier: Apache-2.0
import CoordinatorRuntime
import Foundation
import RuntimeSupport

/// One line of a hosts file: where workers are started through ssh.
struct RemoteHost {
    /// As ssh knows it: `node1`, `user@10.0.0.2`, or a name of ssh's configuration.
    let destination: String
    var workers = 1
    /// Compute threads of each worker; nil shares the cores out.
    var threads: Int?
    /// Bytes of each worker; nil shares out 80 % of what is free.
    var memory: UInt64?
    /// Address on which its workers listen; nil is the one that ssh came in by.
    var listen: String?
    /// The program there; nil is the path of this one.
    var program: String?

    /// - Throws: ``InputError`` with the line and what is wrong with it.
    static func read(_ path: String) throws -> [RemoteHost] {
        guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
            throw InputError("\(path): cannot be read")
        }
        var hosts: [RemoteHost] = []
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            let words = line.prefix { $0 != "#" }.split(whereSeparator: \.isWhitespace).map(String.init)
            guard let destination = words.first else { continue }
            do { hosts.append(try RemoteHost(destination, options: words.dropFirst())) } catch let error as InputError {
                throw InputError("\(path), line \(index + 1): \(error.description)")
            }
        }
        guard !hosts.isEmpty else { throw InputError("\(path): names no host; write one per line") }
        return hosts
    }

    private init(_ destination: String, options: ArraySlice<String>) throws {
        guard !destination.hasPrefix("-"), !destination.contains("=") else {
            throw InputError("'\(destination)' is no host; a line begins with one, such as node1 workers=2")
        }
        self.destination = destination
        for option in options {
            let parts = option.split(separator: "=", maxSplits: 1).map(String.init)
            let value = parts.count == 2 ? parts[1] : ""
            switch parts[0] {
            case "workers": workers = try number(option, value, 1...256)
            case "threads": threads = try number(option, value, 1...4096)
            case "memory":
                guard let bytes = try? byteCount(value) else { throw InputError("'\(option)': write memory=8GiB") }
                memory = bytes
            case "listen" where !value.isEmpty: listen = value
            case "apus" where value.hasPrefix("/"): program = value
            default: throw InputError("'\(option)': expected workers=, threads=, memory=, listen= or apus=/PATH")
            }
        }
    }

    private func number(_ option: String, _ value: String, _ range: ClosedRange<Int>) throws -> Int {
        guard let number = Int(value), range.contains(number) else {
            throw InputError("'\(option)': expected a number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    // MARK: - ssh

    /// A host that is gone is noticed within 15 s; nothing ever asks for a password.
    static let sshOptions = [
        "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3",
        "-T",
    ]

    /// Arguments of ssh before the remote command.
    var sshArguments: [String] { Self.sshOptions + [destination, "--"] }

    /// Makes `process` run ssh below a shell. ssh closes what it inherits, and with it the descriptor by which Foundation
    /// notices an end: it would then wait for this one process and miss the ends of all others.
    static func prepare(_ process: Process, _ arguments: [String]) {
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments = ["-c", "ssh \"$@\"; exit $?", "ssh"] + arguments
    }

    /// Runs a shell command there, with `input` as its input.
    /// - Returns: what it printed.
    /// - Throws: ``ClientError`` with ssh's last line.
    @discardableResult
    func run(_ command: String, input: Data = Data(), seconds: Double = 60) throws -> String {
        let process = Process()
        Self.prepare(process, sshArguments + [command])
        let (source, output, errors) = (Pipe(), Pipe(), Pipe())
        (process.standardInput, process.standardOutput, process.standardError) = (source, output, errors)
        // What is sent and what comes back are a few kilobytes: no pipe fills up.
        do { try process.run() } catch { throw ClientError("ssh cannot be started: \(failureReason(error))") }
        try? source.fileHandleForWriting.write(contentsOf: input)
        try? source.fileHandleForWriting.close()
        let deadline = MonotonicInstant.now.advanced(byMilliseconds: UInt64(seconds * 1000))
        while process.isRunning, MonotonicInstant.now < deadline { Thread.sleep(forTimeInterval: 0.01) }
        if process.isRunning {
            kill(process.processIdentifier, SIGKILL)
            throw ClientError("\(destination): no answer through ssh for \(Int(seconds)) s")
        }
        guard process.terminationStatus == 0 else {
            let said = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
            let last = said.split(separator: "\n").last.map(String.init) ?? "exit code \(process.terminationStatus)"
            throw ClientError("\(destination), through ssh: \(last)")
        }
        return String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    }

    /// `text` as one word of a shell.
    static func quoted(_ text: String) -> String { "'" + text.replacing("'", with: "'\\''") + "'" }

    /// What a host says of itself.
    struct Facts {
        /// Addresses of this machine and of the host, as ssh's connection has them.
        let client: String
        let server: String
        let coreCount: Int
        let availableByteCount: UInt64
    }

    /// Looks whether ssh gets in and the program there is of this version.
    func facts() throws -> Facts {
        let program = Self.quoted(program ?? Supervisor.executable.path)
        let text = try run("echo $SSH_CONNECTION && nproc && grep MemAvailable: /proc/meminfo && \(program) --version")
        let lines = text.split(separator: "\n").map { $0.split(separator: " ").map(String.init) }
        guard lines.count == 4, lines[0].count == 4, let cores = lines[1].first.flatMap({ Int($0) }),
            lines[2].count > 1, let kibibytes = UInt64(lines[2][1])
        else { throw ClientError("\(destination): unexpected answer through ssh: \(text)") }
        guard lines[3] == [Version.current] else {
            throw ClientError(
                "\(destination): \(program) is version \(lines[3].joined(separator: " ")), this is \(Version.current): "
                    + "use the same one")
        }
        return Facts(
            client: lines[0][0], server: lines[0][2], coreCount: cores, availableByteCount: kibibytes << 10)
    }
}
