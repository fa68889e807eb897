// SPDX-License-Identifier: Apache-2.0
import ClusterTransport
import CoordinatorRuntime
import Foundation
import RuntimeSupport

/// A coordinator here and workers on other hosts, started through ssh. A worker lives as long as its ssh, and ssh as
/// long as this process: whatever ends this process ends them too.
struct HostCluster {
    let context: ClusterContext
    /// Workers and hosts, for people.
    let summary: String
    private let hosts: [RemoteHost]
    private let files: ClusterFiles
    /// The same layout below the home directory of each host.
    private let remote: ClusterFiles
    /// Numbers of each host's workers.
    private let numbers: [[Int]]
    private let coordinator: Supervisor
    private let workers: Supervisor
    private let lock: DirectoryLock

    /// Looks at every host, starts the coordinator, brings keys and address to the hosts, starts the workers.
    /// - Throws: ``ClientError`` with the host that cannot be used.
    init(_ hosts: [RemoteHost], listen: String?, directory: URL, isStopping: () -> Bool) throws {
        signal(SIGPIPE, SIG_IGN)  // an ssh that ends while it is written to is an error of that host, not our end
        let facts = try hosts.map { try $0.facts() }
        let files = ClusterFiles(directory: directory)
        lock = try DirectoryLock(directory, remedy: UpCommand.remedy)
        let count = hosts.reduce(0) { $0 + $1.workers }
        try requireLimits(.coordinator(workerCount: count))
        try files.makeKeys(workerCount: count)
        var next = 1
        let numbers = hosts.map { host -> [Int] in
            defer { next += host.workers }
            return Array(next..<next + host.workers)
        }
        // Not the place of another cluster of ours: two may run at once.
        let name = String(UInt32.random(in: 0 ... .max), radix: 16)
        // A relative path: where ssh puts us is home.
        let remote = ClusterFiles(directory: URL(string: ".apus/up-\(name)/")!)
        coordinator = Supervisor([
            Supervisor.Child(
                name: "the coordinator",
                arguments: [
                    "coordinator", "--state", files.state.path, "--keys", files.coordinatorKey.path, "--allow",
                    files.allowList.path, "--listen", listen ?? facts[0].client, "--workers", String(count),
                ], log: files.log("coordinator"))
        ])
        try LocalCluster.waitForCoordinator(files, coordinator, isStopping)
        do {
            for (host, numbers) in zip(hosts, numbers) { try Self.bringFiles(host, numbers, files, remote) }
        } catch {
            coordinator.stop()
            for host in hosts { _ = try? host.run("rm -rf -- \(remote.directory.relativePath)", seconds: 10) }
            throw error
        }
        var children: [Supervisor.Child] = []
        for ((host, facts), numbers) in zip(zip(hosts, facts), numbers) {
            let threads = host.threads ?? max(1, facts.coreCount / host.workers)
            let memory = host.memory ?? facts.availableByteCount * 8 / 10 / UInt64(host.workers)
            for number in numbers {
                let command = [
                    "exec", RemoteHost.quoted(host.program ?? Supervisor.executable.path), "worker", "--join",
                    remote.address.relativePath, "--keys", remote.workerKey(number).relativePath, "--listen",
                    RemoteHost.quoted(host.listen ?? facts.server), "--threads", String(threads), "--memory",
                    String(memory), "--drain-seconds", Supervisor.drainSeconds, "--until-input-ends",
                    "--judge-host", "'*'", "--judge-variable", "'*'",
                ]
                children.append(
                    Supervisor.Child(
                        name: "worker \(number) on \(host.destination)", ssh: host.sshArguments,
                        arguments: [command.joined(separator: " ")], log: files.log("worker-\(number)")))
            }
        }
        workers = Supervisor(children)
        context = ClusterContext(address: files.address.path, key: files.clientKey.path)
        summary = "\(count) workers on \(hosts.count) hosts"
        (self.hosts, self.files, self.remote, self.numbers) = (hosts, files, remote, numbers)
    }

    /// Until `isStopping` says so or a process cannot stay up; then ends all and removes what was brought.
    func run(until isStopping: () -> Bool) throws {
        defer {
            workers.stop()
            coordinator.stop()
            for host in hosts { _ = try? host.run("rm -rf -- \(remote.directory.relativePath)", seconds: 10) }
        }
        var address = try? Data(contentsOf: files.address)
        while !isStopping() {
            if let problem = workers.problem ?? coordinator.problem { throw ClientError(problem.description) }
            // A restarted coordinator whose port was taken listens elsewhere.
            if let found = try? Data(contentsOf: files.address), found != address {
                for (host, numbers) in zip(hosts, numbers) {
                    do { try Self.bringFiles(host, numbers, files, remote) } catch {
                        complain("\(error); its workers may not find the coordinator")
                    }
                }
                address = found
            }
            Thread.sleep(forTimeInterval: 0.1)
        }
    }

    /// Brings the address file and the keys of its workers to a host, through ssh's input: nothing secret is on a command
    /// line.
    private static func bringFiles(
        _ host: RemoteHost, _ numbers: [Int], _ files: ClusterFiles, _ remote: ClusterFiles
    ) throws {
        var command = "umask 077 && mkdir -p \(remote.state.relativePath)"
        var input = Data()
        for (from, to) in [(files.address, remote.address)]
            + numbers.map({ (files.workerKey($0), remote.workerKey($0)) })
        {
            let content = try Data(contentsOf: from)
            let path = to.relativePath
            command += " && head -c \(content.count) >\(path).new && mv \(path).new \(path)"
            input += content
        }
        try host.run(command, input: input)
    }
}
