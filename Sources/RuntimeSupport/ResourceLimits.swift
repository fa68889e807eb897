// SPDX-License-Identifier: Apache-2.0
internal import CPlatform
internal import Glibc

/// The limits that this process and its children run under (setrlimit(2), cgroups(7)): what is too low is told before
/// anything starts, by its name, instead of by a crash on the way.
package struct ResourceLimits: Sendable, Equatable {
    /// RLIMIT_NOFILE, `ulimit -n`; nil where there is no limit, here and below.
    package var openFileCount: UInt64?
    /// RLIMIT_AS, `ulimit -v`, in bytes.
    package var addressSpaceByteCount: UInt64?
    /// RLIMIT_FSIZE, `ulimit -f`, in bytes.
    package var fileSizeByteCount: UInt64?

    package init(openFileCount: UInt64?, addressSpaceByteCount: UInt64?, fileSizeByteCount: UInt64?) {
        self.openFileCount = openFileCount
        self.addressSpaceByteCount = addressSpaceByteCount
        self.fileSizeByteCount = fileSizeByteCount
    }

    /// Raises each soft limit to the hard one (open files to a million: some programs walk through all of them), makes a
    /// write beyond the largest file an error instead of a signal, and returns what holds from now on.
    @discardableResult
    package static func raise() -> ResourceLimits {
        signal(SIGXFSZ, SIG_IGN)
        func raised(_ limit: cp_limit, _ ceiling: UInt64) -> UInt64? {
            let value = cp_raise_limit(limit, ceiling)
            return value == .max ? nil : value
        }
        return ResourceLimits(
            openFileCount: raised(CP_LIMIT_OPEN_FILES, 1 << 20),
            addressSpaceByteCount: raised(CP_LIMIT_ADDRESS_SPACE, .max),
            fileSizeByteCount: raised(CP_LIMIT_FILE_SIZE, .max))
    }

    /// What processes of a cluster need.
    package struct Need: Sendable {
        /// Descriptors of one process.
        package var openFileCount: UInt64 = 0
        /// Threads of all processes.
        package var threadCount = 0
        /// Address space of one process beside the memory of a worker.
        package var addressSpaceByteCount: UInt64 = 0
        /// Weights and caches of one worker.
        package var memoryByteCount: UInt64 = 0

        package init(
            openFileCount: UInt64 = 0, threadCount: Int = 0, addressSpaceByteCount: UInt64 = 0,
            memoryByteCount: UInt64 = 0
        ) {
            self.openFileCount = openFileCount
            self.threadCount = threadCount
            self.addressSpaceByteCount = addressSpaceByteCount
            self.memoryByteCount = memoryByteCount
        }

        /// The process that starts the others and waits for them.
        package static let launcher = Need(openFileCount: 256, threadCount: 8, addressSpaceByteCount: 1 << 30)

        /// The coordinator of so many workers: three channels to each, and some connections on their way.
        package static func coordinator(workerCount: Int) -> Need {
            Need(
                openFileCount: 256 + 8 * UInt64(workerCount), threadCount: 32, addressSpaceByteCount: 2 << 30)
        }

        /// One worker. Its address space also holds what malloc reserves for each thread.
        package static func worker(threadCount: Int, memoryByteCount: UInt64) -> Need {
            Need(
                openFileCount: 512, threadCount: threadCount + 48,
                addressSpaceByteCount: (2 << 30) + UInt64(threadCount) * (72 << 20), memoryByteCount: memoryByteCount)
        }

        /// A coordinator and `workerCount` workers of one user.
        package static func cluster(workerCount: Int, threadCount: Int, memoryByteCount: UInt64) -> Need {
            let (coordinator, worker) = (
                coordinator(workerCount: workerCount),
                worker(threadCount: threadCount, memoryByteCount: memoryByteCount)
            )
            return Need(
                openFileCount: max(coordinator.openFileCount, worker.openFileCount),
                threadCount: coordinator.threadCount + workerCount * worker.threadCount,
                addressSpaceByteCount: worker.addressSpaceByteCount, memoryByteCount: memoryByteCount)
        }
    }

    /// A journal or a checkpoint's shard must fit below the limit of file sizes.
    static let fileSizeByteCountMin: UInt64 = 1 << 30

    /// Bytes that a worker with so many threads can use for weights and caches; nil where there is no limit.
    package func memoryByteCountMax(threadCount: Int) -> UInt64? {
        addressSpaceByteCount.map { limit in
            let other = Need.worker(threadCount: threadCount, memoryByteCount: 0).addressSpaceByteCount
            return limit > other ? limit - other : 0
        }
    }

    /// The limit that is too low and what to do about it, in one line; nil when all suffice.
    /// - Parameter startableThreadCount: how many of so many threads can be started.
    package func problem(
        _ need: Need, startableThreadCount: (Int) -> Int = { Int(cp_startable_threads(Int32($0))) }
    ) -> String? {
        if let limit = openFileCount, limit < need.openFileCount {
            return "a process may open \(limit) files, \(need.openFileCount) are needed: raise the limit with "
                + "ulimit -Hn \(need.openFileCount) (systemd: LimitNOFILE, containers: --ulimit nofile)"
        }
        if let limit = fileSizeByteCount, limit < Self.fileSizeByteCountMin {
            return "a file may have \(limit) bytes, too few for a journal or a checkpoint: raise the limit with "
                + "ulimit -f unlimited (systemd: LimitFSIZE=infinity)"
        }
        if let limit = addressSpaceByteCount, limit < need.addressSpaceByteCount + need.memoryByteCount {
            return "a process may have \(limit >> 20) MiB of address space, "
                + "\((need.addressSpaceByteCount + need.memoryByteCount) >> 20) MiB are needed: raise the limit with "
                + "ulimit -v unlimited (systemd: LimitAS=infinity), or give workers less --memory or --threads"
        }
        let wanted = min(need.threadCount, 8192)
        let started = startableThreadCount(wanted)
        if started < wanted {
            return "only \(started) more threads can be started, \(wanted) are needed: raise the limit of processes "
                + "(ulimit -u, systemd: TasksMax, containers: --pids-limit), or use fewer workers or threads"
        }
        return nil
    }
}

/// Memory that a process can still take.
package enum AvailableMemory {
    /// Bytes that new processes can use without swapping: what the host has left, and what the control group of this
    /// process may still take.
    package static var byteCount: UInt64 { min(hostByteCount, controlGroupByteCount ?? .max) }

    private static var hostByteCount: UInt64 {
        let line = read("/proc/meminfo").split(separator: "\n").first { $0.hasPrefix("MemAvailable:") }
        let kibibytes = line?.split(separator: " ").dropFirst().first.flatMap { UInt64($0) }
        return (kibibytes ?? 4 << 20) << 10
    }

    /// Of the group (cgroup v2) and those around it, the one with the least left.
    private static var controlGroupByteCount: UInt64? {
        guard let line = read("/proc/self/cgroup").split(separator: "\n").first(where: { $0.hasPrefix("0::") }) else {
            return nil
        }
        var path = line.dropFirst(3).split(separator: "/")
        var least: UInt64?
        while true {
            let directory = "/sys/fs/cgroup/" + path.map { $0 + "/" }.joined()
            if let room = room(in: directory) { least = min(least ?? .max, room) }
            if path.isEmpty { return least }
            path.removeLast()
        }
    }

    private static func room(in directory: String) -> UInt64? {
        func number(_ name: String) -> UInt64? { UInt64(read(directory + name).prefix { $0.isNumber }) }
        guard let limit = number("memory.max") else { return nil }
        // Clean file pages are counted but can be had back.
        let files = read(directory + "memory.stat").split(separator: "\n").first { $0.hasPrefix("inactive_file ") }
        let reclaimable = files.flatMap { UInt64($0.dropFirst("inactive_file ".count)) } ?? 0
        let used = number("memory.current") ?? 0
        let held = used > reclaimable ? used - reclaimable : 0
        return limit > held ? limit - held : 0
    }

    private static func read(_ path: String) -> String {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return "" }
        defer { close(file) }
        var bytes = [UInt8](repeating: 0, count: 1 << 16)
        let count = Glibc.read(file, &bytes, bytes.count)
        return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
    }
}
