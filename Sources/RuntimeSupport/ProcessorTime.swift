// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// Processor time, user and system.
package enum ProcessorTime {
    /// Seconds of all child processes of this process so far, and of theirs: of those that have ended and were waited for,
    /// and of those that live.
    package static func ofChildren() -> Double {
        var usage = rusage()
        getrusage(RUSAGE_CHILDREN.rawValue, &usage)
        var seconds = [usage.ru_utime, usage.ru_stime].reduce(0) { $0 + Double($1.tv_sec) + Double($1.tv_usec) * 1e-6 }
        let ticks = Double(sysconf(Int32(_SC_CLK_TCK)))
        for task in names(in: "/proc/self/task") {
            let children = text("/proc/self/task/\(task)/children").split(separator: " ")
            // After the name, which may hold anything: state is field 3, utime to cstime are 14 to 17 (proc(5)).
            for child in children {
                guard let end = text("/proc/\(child)/stat").split(separator: ")").last else { continue }
                let fields = end.split(separator: " ")
                guard fields.count > 14 else { continue }
                seconds += fields[11...14].reduce(0) { $0 + (Double($1) ?? 0) } / ticks
            }
        }
        return seconds
    }

    private static func names(in path: String) -> [String] {
        guard let directory = opendir(path) else { return [] }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if !name.hasPrefix(".") { names.append(name) }
        }
        return names
    }

    /// A small file of the kernel's.
    private static func text(_ path: String) -> String {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return "" }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 16_384)
        let count = read(descriptor, &bytes, bytes.count)
        return count > 0 ? String(decoding: bytes[..<count], as: UTF8.self) : ""
    }
}
