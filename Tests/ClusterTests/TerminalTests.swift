// SPDX-License-Identifier: Apache-2.0
import Foundation
import Glibc
import TestSupport
import Testing

/// What a person meets at the terminal: full outputs, closed pipes, a second cluster, no home, low limits.
@Suite("At the terminal", .serialized)
struct TerminalTests {
    @Test(
        "what cannot be written to standard output is told, and the exit code is not 0",
        arguments: [
            "--help", "keys generate KEY", "data arithmetic --help", "model init MODEL --preset tiny-dense",
        ])
    func fullOutput(_ command: String) throws {
        let bench = try Workbench("full")
        let result = try bench.shell("exec $APUS \(command) > /dev/full")
        #expect(result.status == 1)
        #expect(
            result.errors.hasSuffix("apus: standard output cannot be written: No space left on device\n"),
            "\(result.errors)")
        let closed = try bench.shell("exec $APUS --help >&-")
        #expect(closed.status == 1)
        #expect(closed.errors == "apus: standard output cannot be written: Bad file descriptor\n")
    }

    @Test("a reader that is gone ends a command quietly, as it ends other tools")
    func closedPipe() throws {
        let bench = try Workbench("pipe")
        let result = try bench.shell("{ sleep 0.3; $APUS --help; echo $? > status; } | true; sleep 1; cat status")
        #expect(result.output == "141\n")
        #expect(result.errors == "")
        // Messages that nobody reads do not change how it ends.
        #expect(try bench.shell("exec $APUS plan missing.yaml 2>/dev/full").status == 3)
        #expect(try bench.shell("exec $APUS plan missing.yaml 2>&-").status == 3)
    }

    @Test("a second apus up says that one is running and leaves it alone; a dead one's context is taken over")
    func secondCluster() throws {
        let bench = try Workbench("second")
        var first = try bench.spawn(["up", "--workers", "1"], log: "first.log")
        defer { kill(first.processIdentifier, SIGKILL) }
        try #require(eventually(20) { bench.text("context.json") != "" }, "\(bench.text("first.log"))")
        let context = bench.text("context.json")
        for arguments in [["up"], ["up", "--state", "other"]] {
            let second = try bench.apus(arguments, seconds: 30)
            #expect(second.status == 4)
            #expect(second.errors.contains("a cluster is running already (process \(first.processIdentifier)"))
            #expect(second.errors.contains("--context"))
        }
        // One that has a place of its own runs beside it, and does not take its context away at the end.
        let other = try bench.spawn(
            ["up", "--workers", "1", "--state", "other", "--context", "c.json"], log: "other.log")
        try #require(eventually(20) { bench.text("c.json") != "" }, "\(bench.text("other.log"))")
        #expect(try bench.apus("workers", "--context", "c.json").status == 0)
        other.terminate()
        other.waitUntilExit()
        #expect(bench.text("c.json") == "")
        #expect(bench.text("context.json") == context)
        #expect(try bench.apus("workers").status == 0)
        kill(first.processIdentifier, SIGKILL)
        first.waitUntilExit()
        #expect(bench.text("context.json") == context)
        first = try bench.spawn(["up", "--workers", "1"], log: "third.log")
        try #require(
            eventually(30) { bench.text("third.log").contains("Ctrl-C ends it") }, "\(bench.text("third.log"))")
        #expect(try bench.apus("workers").status == 0)
        first.terminate()
        first.waitUntilExit()
        #expect(first.terminationStatus == 0)
    }

    @Test("the same apus run twice at once: the second says so and disturbs nothing")
    func secondRun() throws {
        let bench = try Workbench("twice")
        try bench.makeModel(layers: 2)
        try bench.makeJob(groups: 4, groupSize: 2, tokens: 32)
        let first = try bench.spawn(["run", "job.yaml", "--workers", "1"], log: "first.log")
        try #require(eventually(20) { bench.text(".out.cluster/coordinator/coordinator.json") != "" })
        let second = try bench.apus("run", "job.yaml", "--workers", "1", seconds: 30)
        if first.isRunning {
            #expect(second.status == 4)
            #expect(second.errors.contains("(process \(first.processIdentifier))"), "\(second.errors)")
        }
        first.waitUntilExit()
        #expect(first.terminationStatus == 0, "\(bench.text("first.log"))")
    }

    @Test("HOME is the home directory, whatever the user database says; without one there is one clear line")
    func home() throws {
        let bench = try Workbench("home")
        let ours = "unset APUS_HOME APUS_CONTEXT; "
        let jobs = try bench.shell(ours + "HOME=$PWD/somewhere exec $APUS jobs")
        #expect(jobs.status == 4)
        #expect(
            jobs.errors.hasPrefix("apus: \(bench.url("somewhere/.apus/context.json").path): no cluster is known here"))
        let none = try bench.shell(ours + "unset HOME XDG_STATE_HOME; exec $APUS jobs")
        #expect(none.status == 3)
        #expect(
            none.errors
                == "apus: neither HOME nor APUS_HOME is set; set APUS_HOME to a directory for the keys and the state of clusters\n"
        )
        let state = try bench.shell(ours + "unset HOME; XDG_STATE_HOME=$PWD/state exec $APUS jobs")
        #expect(state.errors.contains("/state/apus/context.json: no cluster"), "\(state.errors)")
        let unusable = try bench.shell(ours + "HOME=/dev/null/home exec $APUS up --workers 1")
        #expect(unusable.status == 3)
        #expect(unusable.errors.contains("/dev/null/home/.apus/local cannot be made: Not a directory; choose another"))
    }

    @Test(
        "a limit that is too low is named before anything starts",
        arguments: [
            ("-n 100", "a process may open 100 files", "ulimit -Hn"), ("-f 64", "a file may have", "ulimit -f"),
            ("-v 1500000", "a process may have 1464 MiB of address space", "ulimit -v"),
        ])
    func limits(_ limit: String, _ problem: String, _ remedy: String) throws {
        let bench = try Workbench("limits")
        for command in ["up --workers 1", "coordinator --state s --keys k --allow a", "worker --join j --keys k"] {
            let result = try bench.shell("ulimit \(limit); exec $APUS \(command)")
            #expect(result.status == 4)
            #expect(result.errors.contains(problem) && result.errors.contains(remedy), "\(command): \(result.errors)")
            #expect(result.errors.split(separator: "\n").count == 1)
        }
    }

    @Test("the system's reason is said in one line, and what cannot be used is exit code 3")
    func reasons() throws {
        let bench = try Workbench("reasons")
        try bench.write("file", "x")
        for (command, text) in [
            ("data arithmetic /nowhere/x.jsonl", "/nowhere/x.jsonl: cannot be written: No such file or directory"),
            ("model verify nowhere", "nowhere: cannot be listed: No such file or directory"),
            ("keys generate /nowhere/key", "cannot create /nowhere/key: No such file or directory"),
            ("coordinator --state s --keys nowhere --allow a", "cannot open nowhere: No such file or directory"),
            ("worker --join j --keys nowhere", "cannot open nowhere: No such file or directory"),
            ("up --state file", "file cannot be made: it is no directory; choose another place"),
            ("data arithmetic x.jsonl -n 0", "-n 0 is not in 1...10000000"),
        ] {
            let result = try bench.shell("exec $APUS \(command)")
            #expect(result.status == 3, "\(command)")
            #expect(result.errors.contains(text), "\(command): \(result.errors)")
            #expect(!result.errors.contains("operation could not be completed") && !result.errors.contains("Domain"))
            #expect(result.errors.split(separator: "\n").count == 1, "\(command): \(result.errors)")
        }
        #expect(
            try bench.shell("exec $APUS up --workers 1 --memory 10").errors
                == "apus: '10' is no size; write 8GiB or 512MiB\n")
    }

    @Test("a soft limit of open files is raised to the hard one")
    func softLimit() throws {
        let bench = try Workbench("soft")
        let script = "ulimit -Sn 64; $APUS up --workers 1 > up.log & sleep 0.1; echo $! > pid; wait"
        let shell = Process()
        shell.executableURL = URL(fileURLWithPath: "/bin/sh")
        shell.arguments = ["-c", script]
        shell.currentDirectoryURL = bench.directory
        shell.environment = bench.shellEnvironment
        try shell.run()
        let started = eventually(20) { bench.text("up.log").contains("Ctrl-C ends it") }
        if let process = Int32(bench.text("pid").trimmingCharacters(in: .whitespacesAndNewlines)) {
            let limits = try String(contentsOfFile: "/proc/\(process)/limits", encoding: .utf8)
            let line = limits.split(separator: "\n").first { $0.hasPrefix("Max open files") } ?? ""
            #expect(!line.split(separator: " ").contains("64"), "\(line)")
            kill(process, SIGTERM)
        }
        shell.waitUntilExit()
        #expect(started)
    }
}

extension Workbench {
    var shellEnvironment: [String: String] {
        ProcessInfo.processInfo.environment.merging([
            "APUS": Self.apus.path, "APUS_CONTEXT": url("context.json").path, "APUS_HOME": url("home").path,
        ]) { $1 }
    }

    /// Runs a line of the shell, in which $APUS is the program.
    func shell(_ script: String) throws -> CommandResult {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments = ["-c", script]
        process.currentDirectoryURL = directory
        process.environment = shellEnvironment
        process.standardInput = FileHandle.nullDevice
        let (out, err) = (url("stdout-shell"), url("stderr-shell"))
        for file in [out, err] { _ = FileManager.default.createFile(atPath: file.path, contents: nil) }
        process.standardOutput = try FileHandle(forWritingTo: out)
        process.standardError = try FileHandle(forWritingTo: err)
        try process.run()
        process.waitUntilExit()
        return CommandResult(
            status: process.terminationReason == .exit ? process.terminationStatus : 128 + process.terminationStatus,
            output: text("stdout-shell"), errors: text("stderr-shell"))
    }
}
